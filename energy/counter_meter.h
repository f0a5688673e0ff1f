// A meter over hardware counters: what rapl, rapl_perf, amd_energy and nvml share.
#ifndef FEDWATT_ENERGY_COUNTER_METER_H_
#define FEDWATT_ENERGY_COUNTER_METER_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fedwatt/energy/counter.h"
#include "fedwatt/energy/meter.h"

namespace fedwatt {

struct CounterSource {
  std::string label;  // identifies the domain: "package-0"
  // Counters of one group may be one piece of hardware under several names; of those that show one number at both ends of a window, and
  // in between the two halves of a repeated read, one is counted. "": never a mirror.
  std::string mirror_group;
  CounterSpec spec;
  std::function<absl::StatusOr<int64_t>()> read;  // microjoules since some start, >= 0
};

struct CounterMeterOptions {
  std::string name;
  EnergyTier tier = EnergyTier::kComponent;
  std::string covers;  // ends the description: what is and what is not counted
  std::vector<CounterSource> sources;  // at least one; they do not overlap, mirrors excepted
  std::vector<std::string> left_out;   // "psys: covers the packages again"; for the description
};
std::unique_ptr<Meter> MakeCounterMeter(CounterMeterOptions options, const MeterOptions& common);

}  // namespace fedwatt

#endif  // FEDWATT_ENERGY_COUNTER_METER_H_

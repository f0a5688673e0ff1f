// A meter over power sensors: what rails, battery and nvml share. Joules are the integral of what was sampled.
#ifndef FEDWATT_ENERGY_POWER_METER_H_
#define FEDWATT_ENERGY_POWER_METER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fedwatt/energy/meter.h"

namespace fedwatt {

struct PowerSample {
  double watts = 0;        // >= 0
  double error_watts = 0;  // the sensor's own: what is true lies within watts +- this
};

struct PowerSource {
  std::string label;  // identifies the domain: "VDD_IN"
  // Errors: FAILED_PRECONDITION  what it shows now is not the domain's power: the window is missing; others: spanned
  std::function<absl::StatusOr<PowerSample>()> read;
};

struct PowerMeterOptions {
  std::string name;
  EnergyTier tier = EnergyTier::kDevice;
  std::string covers;                 // ends the description: what is and what is not counted
  std::vector<PowerSource> sources;   // at least one; they do not overlap
  std::vector<std::string> left_out;  // for the description
  bool covers_machine = true;         // Meter::CoversMachine
};

// Integrates by trapezoids between samples. The interval takes power to lie between its two samples, each off by its error: it holds where the sensor
// averages between them, as rails' chips do, and widens where power swings. Two samples farther apart than kMostGap, with the machine asleep
// in between or with a failed sample at a window's edge leave the window missing; a failed sample inside one is spanned.
//
// SamplePeriod is 0.1 s, or as much longer as keeps reading the sensors below 0.4 % of a core; 2 s at most.
// Errors: PERMISSION_DENIED, UNAVAILABLE  a sensor cannot be read
absl::StatusOr<std::unique_ptr<Meter>> MakePowerMeter(PowerMeterOptions options, const MeterOptions& common);

constexpr absl::Duration kMostGap = absl::Seconds(10);

}  // namespace fedwatt

#endif  // FEDWATT_ENERGY_POWER_METER_H_

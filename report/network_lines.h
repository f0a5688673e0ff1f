// What a run's bytes cost where no meter looked, by models; private to the room. Never part of another sum.
#ifndef FEDWATT_REPORT_NETWORK_LINES_H_
#define FEDWATT_REPORT_NETWORK_LINES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fedwatt/energy/network.h"
#include "fedwatt/report/run_record.h"

namespace fedwatt::internal {

// How often a client that waits for work says a word (docs/protocol.md).
inline constexpr absl::Duration kKeepAlive = absl::Seconds(20);

struct NetworkReport {
  double bytes = 0;               // both ways, of all attempts that say them: wire bytes and headers where the kernel counted, else payload
  bool complete = true;           // every attempt says
  struct Radio {
    const RadioModel* model;
    ModelledJoules joules;                     // if all clients were on that link, and silent between attempts
    std::optional<ModelledJoules> kept_alive;  // if they were, with the pings of waiting clients; of real ones
  };
  std::vector<Radio> radios;
  struct Allocated {
    const AllocatedIntensity* intensity;
    double joules;
  };
  std::vector<Allocated> allocated;
  const NetworkPowerModel* power_model = nullptr;
  ModelledJoules by_power;
};
// nullopt where no attempt moved anything. `simulated`: clients do not ping. `now`: the year in which the bytes moved; without one, intensities are those of their own years.
std::optional<NetworkReport> MakeNetworkReport(const std::vector<AttemptRecord>& attempts, bool simulated, std::optional<absl::Time> now,
                                               const NetworkModels& models = BuiltInNetworkModels());

// Name and value, in order, for people.
std::vector<std::pair<std::string, std::string>> NetworkLines(const NetworkReport& report);

}  // namespace fedwatt::internal

#endif  // FEDWATT_REPORT_NETWORK_LINES_H_

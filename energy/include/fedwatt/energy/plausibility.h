// Which reports of joules cannot be true, and whose are not like those of others of their kind.
#ifndef FEDWATT_ENERGY_PLAUSIBILITY_H_
#define FEDWATT_ENERGY_PLAUSIBILITY_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "fedwatt/energy/quantities.h"

namespace fedwatt {

// What one report says beside what the coordinator knows.
struct ReportClaim {
  std::string client;        // pseudonym
  std::string energy_class;  // reports that may be compared: one kind of device, one meter
  absl::Duration wall;       // claimed: all phases
  std::optional<Energy> energy;        // claimed: all phases; unset: not metered
  std::optional<Energy> train_energy;  // claimed: the phase train
  absl::Duration between_wall;           // claimed: outside the attempt since the last report
  std::optional<Energy> between_energy;  // claimed for that
  int64_t uplink_payload_bytes = 0, downlink_payload_bytes = 0;  // claimed
  absl::Duration elapsed;              // seen: from the assignment to the report
  int64_t received_bytes = 0, sent_bytes = 0;  // seen: of the update, of the model
  Power max_power;                     // that the device can draw; 0 = not known
  double macs = 0;                     // multiply-adds of the training asked for, up to a factor that is the same for all; 0 = not known
};

// Two kinds of check. Physical bounds hold for every single report: no more wall time than has passed, no more joules than the device can draw in it, no
// other bytes than were seen. The statistical one compares clients: the logarithm of joules per multiply-add is averaged over each client's reports, and a
// client is conspicuous when its mean is farther from the median of its class than 99 of 100 honest ones, were they normal:
//   |m_i - median| > 2.75 * sqrt(b^2 + w^2 / n_i), b the spread between clients (1.4826 times the median absolute deviation of the means, less what w
//   explains), w the spread within clients (the median of their standard deviations), n_i its number of reports
// Medians, so that a minority of liars moves neither; b is taken thrice, each time without those whom the one before makes conspicuous. It needs at least 8 clients of a class with 5 reports each. What it can find depends on how alike
// honest devices of a class are: with a spread of 5 % between and 12 % within them, 30 % more or less is found after 20 reports in 96 of 100 cases
// (bench/round/misreport_bench.cc); a class that mixes devices finds nothing, and raises no alarm.
//
// Owned by one thread.
class PlausibilityChecker {
 public:
  // Why the report is not to be believed, or "": "wall_beyond_elapsed", "power_beyond_device", "bytes_differ". Learns nothing.
  static std::string Impossible(const ReportClaim& claim);
  // Notes a report that is not impossible.
  void Learn(const ReportClaim& claim);
  // "unlike_its_class" or "".
  std::string Conspicuous(const std::string& client) const;

 private:
  struct Figures {
    std::string energy_class;
    int64_t count = 0;
    double mean = 0, squares = 0;  // Welford's
  };
  struct ClassFigures {
    double median = 0, between = 0, within = 0;
    int64_t clients = 0;
  };
  const ClassFigures& Of(const std::string& energy_class) const;

  std::map<std::string, Figures> clients_;
  mutable std::map<std::string, ClassFigures> classes_;  // emptied when something new is learned
};

}  // namespace fedwatt

#endif  // FEDWATT_ENERGY_PLAUSIBILITY_H_

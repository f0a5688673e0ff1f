// Whether the device can afford to train just now.
#ifndef FEDWATT_CLIENT_CONDITIONS_H_
#define FEDWATT_CLIENT_CONDITIONS_H_

#include <limits>
#include <optional>
#include <string>

namespace fedwatt {

// Unknown is nullopt.
struct DeviceState {
  std::optional<double> battery_fraction;      // [0, 1]; of the emptiest battery
  std::optional<bool> charging;                // on an external supply
  std::optional<double> temperature_celsius;   // of the hottest thermal zone
  std::optional<bool> metered_link;            // whether bytes cost money; true where the default route leaves through a mobile modem. What else is metered the application may know
};

// Reads <root>/sys/class/power_supply, thermal and net, and the routes in <root>/proc/net; what is not there or not readable stays unknown. Thread-safe.
DeviceState ReadDeviceState(const std::string& root = "/");

// What must hold to train. The defaults allow everything.
struct ConditionRules {
  double min_battery_fraction = 0;  // below it no training, unless charging
  bool require_charger = false;
  double max_temperature_celsius = std::numeric_limits<double>::infinity();
  bool allow_metered_link = true;
};

// The first rule that `state` breaks, in words, or nullopt. An unknown state breaks no rule: a mains-powered machine has no battery.
std::optional<std::string> BrokenRule(const ConditionRules& rules, const DeviceState& state);

}  // namespace fedwatt

#endif  // FEDWATT_CLIENT_CONDITIONS_H_

// Batteries of a simulated fleet; private to the room.
#ifndef FEDWATT_SIMULATION_BATTERY_H_
#define FEDWATT_SIMULATION_BATTERY_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/time/time.h"
#include "fedwatt/base/random.h"
#include "fedwatt/energy/quantities.h"

namespace fedwatt::internal {

// What a device of this class can store; nullopt: it hangs on the mains. Orders of magnitude: 15 Wh and 50 Wh.
inline std::optional<Energy> BatteryOf(std::string_view device_class) {
  if (device_class == "phone") return Joules(15 * 3600);
  if (device_class == "laptop") return Joules(50 * 3600);
  return std::nullopt;
}

// A battery on a charger for eight hours of each day, which start at an hour of its own; full after three of them, drained by idling and by attempts
// otherwise. Time never goes back. Thread-compatible.
class Battery {
 public:
  // Starts with a charge in [0.2, 1), drawn.
  Battery(Energy capacity, Power idle, absl::Time start, Random& random)
      : capacity_joules_(capacity.joules()), idle_watts_(idle.watts()), at_(start), fraction_(0.2 + 0.8 * random.Uniform()), plugged_hour_(24 * random.Uniform()) {}

  double fraction() const { return fraction_; }
  bool charging() const { return charging_; }

  // What an attempt took beyond idling.
  void Drain(Energy energy) { fraction_ = std::max(0.0, fraction_ - energy.joules() / capacity_joules_); }

  void AdvanceTo(absl::Time now) {
    // From border to border of the hours on the charger.
    while (at_ < now) {
      const double hour = std::fmod(absl::ToDoubleHours(at_ - absl::UnixEpoch()) - plugged_hour_ + 48 * 365 * 200.0, 24);
      charging_ = hour < kPluggedHours;
      const absl::Time border = at_ + absl::Hours((charging_ ? kPluggedHours : 24) - hour) + absl::Nanoseconds(1);
      const absl::Time until = std::min(now, border);
      const double seconds = absl::ToDoubleSeconds(until - at_);
      fraction_ += charging_ ? seconds / (kHoursToFull * 3600) : -idle_watts_ * seconds / capacity_joules_;
      fraction_ = std::clamp(fraction_, 0.0, 1.0);
      at_ = until;
    }
  }

 private:
  static constexpr double kPluggedHours = 8, kHoursToFull = 3;
  double capacity_joules_, idle_watts_;
  absl::Time at_;
  double fraction_;
  double plugged_hour_;
  bool charging_ = false;
};

}  // namespace fedwatt::internal

#endif  // FEDWATT_SIMULATION_BATTERY_H_

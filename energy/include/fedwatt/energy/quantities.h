// Energy and power as types: integer microjoules, no implicit conversions.
#ifndef FEDWATT_ENERGY_QUANTITIES_H_
#define FEDWATT_ENERGY_QUANTITIES_H_

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace fedwatt {

class Energy {
 public:
  constexpr Energy() = default;
  constexpr int64_t microjoules() const { return microjoules_; }
  constexpr double joules() const { return static_cast<double>(microjoules_) / 1e6; }
  friend constexpr auto operator<=>(Energy, Energy) = default;
  friend constexpr Energy operator+(Energy a, Energy b) { return Energy(a.microjoules_ + b.microjoules_); }
  friend constexpr Energy operator-(Energy a, Energy b) { return Energy(a.microjoules_ - b.microjoules_); }
  Energy& operator+=(Energy other) { return *this = *this + other; }

 private:
  constexpr explicit Energy(int64_t microjoules) : microjoules_(microjoules) {}
  friend constexpr Energy Microjoules(int64_t value);
  int64_t microjoules_ = 0;
};
constexpr Energy Microjoules(int64_t value) { return Energy(value); }
// Rounds to the nearest microjoule, halves away from zero. `value` is finite and within (-9e12, 9e12): aborts otherwise.
Energy Joules(double value);

class Power {
 public:
  constexpr Power() = default;
  constexpr double watts() const { return watts_; }
  friend constexpr auto operator<=>(Power, Power) = default;

 private:
  constexpr explicit Power(double watts) : watts_(watts) {}
  friend constexpr Power Watts(double value);
  double watts_ = 0;
};
constexpr Power Watts(double value) { return Power(value); }
Energy operator*(Power power, absl::Duration span);
// `span` > 0: aborts otherwise.
Power operator/(Energy energy, absl::Duration span);

// How a number of joules came about, best first. The order is the ranking: "worst tier" is the greatest.
enum class EnergyTier : uint8_t { kWall, kDevice, kComponent, kCalibratedHere, kCalibratedClass, kGeneric, kMissing };

// "wall", "device", "component", "calibrated_here", "calibrated_class", "generic", "missing": the run record's spelling.
std::string_view EnergyTierName(EnergyTier tier);
// Errors: INVALID_ARGUMENT, with the known names
absl::StatusOr<EnergyTier> ParseEnergyTier(std::string_view name);
inline EnergyTier WorseTier(EnergyTier a, EnergyTier b) { return a > b ? a : b; }
// False for wall, device and component: those were metered.
inline bool IsEstimate(EnergyTier tier) { return tier >= EnergyTier::kCalibratedHere; }

// Joules over a window. Missing is never zero: `energy` is nullopt exactly when tier is kMissing.
struct EnergyReading {
  std::optional<Energy> energy;
  // The interval that holds the true value with the method's stated confidence; equal to `energy` where the method states none.
  std::optional<Energy> low;
  std::optional<Energy> high;
  EnergyTier tier = EnergyTier::kMissing;
  std::string source;  // meter's name, e.g. "rapl", "cpu_time"; "" when missing
  std::string domain;  // what it covers, e.g. "package-0", "process"
  absl::Duration window;
  // Where `energy` is a process's or thread's share: the joules of the whole domain. Unset where nothing was shared out.
  std::optional<Energy> gross;
  // The part of `energy` that is the machine's idle power, as measured there before; the rest is dynamic. Unset where idle was not measured.
  std::optional<Energy> idle;

  bool missing() const { return !energy.has_value(); }
};

// The sum over consecutive windows: energies, both ends of the interval and windows add, the tier is the worst; source and domain are
// each name once, joined by '+'. What only one has of `gross` and `idle` is unset. Missing plus anything is missing, over the whole window.
EnergyReading AddWindows(const EnergyReading& a, const EnergyReading& b);

}  // namespace fedwatt

#endif  // FEDWATT_ENERGY_QUANTITIES_H_

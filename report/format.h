// Numbers as text; private to the room.
#ifndef FEDWATT_REPORT_FORMAT_H_
#define FEDWATT_REPORT_FORMAT_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/strings/str_format.h"
#include "fedwatt/energy/quantities.h"

namespace fedwatt::internal {

inline std::string Fixed(double value, int digits) { return absl::StrFormat("%.*f", digits, value); }
inline std::string FixedOrDash(const std::optional<double>& value, int digits) { return value ? Fixed(*value, digits) : "-"; }

// Three significant digits or more, never an exponent: "0.0123", "1.23", "1234"; "-" for what is no number.
inline std::string Significant(double value) {
  if (!std::isfinite(value)) return "-";
  const double size = std::abs(value);
  if (size == 0) return "0";
  const int digits = size >= 100 ? 0 : static_cast<int>(2 - std::floor(std::log10(size)));
  return Fixed(value, std::min(digits, 6));
}

inline std::string Megabytes(int64_t bytes) { return Significant(static_cast<double>(bytes) / 1e6); }

// "measured at the wall plug" and so on, for legends.
inline std::string TierMeaning(EnergyTier tier) {
  switch (tier) {
    case EnergyTier::kWall:
      return "measured at the wall plug";
    case EnergyTier::kDevice:
      return "measured for the whole device";
    case EnergyTier::kComponent:
      return "measured for a component, such as the processor package";
    case EnergyTier::kCalibratedHere:
      return "estimated by a model calibrated on this device";
    case EnergyTier::kCalibratedClass:
      return "estimated by a model calibrated on devices of this class";
    case EnergyTier::kGeneric:
      return "estimated from processor time and generic figures";
    case EnergyTier::kMissing:
      return "not measured";
  }
  return "";
}

}  // namespace fedwatt::internal

#endif  // FEDWATT_REPORT_FORMAT_H_

#include "fedwatt/energy/quantities.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt {
namespace {

constexpr EnergyTier kTiers[] = {
    EnergyTier::kWall, EnergyTier::kDevice, EnergyTier::kComponent, EnergyTier::kCalibratedHere,
    EnergyTier::kCalibratedClass, EnergyTier::kGeneric, EnergyTier::kMissing};

// The '+'-separated names of both, each once, in order of first appearance: "a+b" and "b+c" give "a+b+c".
std::string Union(const std::string& a, const std::string& b) {
  if (a == b) return a;
  std::vector<std::string> names = absl::StrSplit(a, '+', absl::SkipEmpty());
  for (std::string& name : std::vector<std::string>(absl::StrSplit(b, '+', absl::SkipEmpty()))) {
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(std::move(name));
  }
  return absl::StrJoin(names, "+");
}

}  // namespace

Energy Joules(double value) {
  FEDWATT_CHECK(std::isfinite(value) && std::abs(value) < 9e12);
  return Microjoules(std::llround(value * 1e6));
}

Energy operator*(Power power, absl::Duration span) { return Joules(power.watts() * absl::ToDoubleSeconds(span)); }

Power operator/(Energy energy, absl::Duration span) {
  FEDWATT_CHECK(span > absl::ZeroDuration());
  return Watts(energy.joules() / absl::ToDoubleSeconds(span));
}

std::string_view EnergyTierName(EnergyTier tier) {
  switch (tier) {
    case EnergyTier::kWall: return "wall";
    case EnergyTier::kDevice: return "device";
    case EnergyTier::kComponent: return "component";
    case EnergyTier::kCalibratedHere: return "calibrated_here";
    case EnergyTier::kCalibratedClass: return "calibrated_class";
    case EnergyTier::kGeneric: return "generic";
    case EnergyTier::kMissing: break;
  }
  return "missing";
}

absl::StatusOr<EnergyTier> ParseEnergyTier(std::string_view name) {
  std::vector<std::string> names;
  for (EnergyTier tier : kTiers) {
    if (EnergyTierName(tier) == name) return tier;
    names.emplace_back(EnergyTierName(tier));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unknown energy tier '", std::string(name), "'; known: ", absl::StrJoin(names, ", ")));
}

EnergyReading AddWindows(const EnergyReading& a, const EnergyReading& b) {
  EnergyReading sum;
  sum.window = a.window + b.window;
  if (a.missing() || b.missing()) return sum;
  // The error of one method is mostly systematic, so intervals add end to end instead of in quadrature.
  sum.energy = *a.energy + *b.energy;
  sum.low = a.low.value_or(*a.energy) + b.low.value_or(*b.energy);
  sum.high = a.high.value_or(*a.energy) + b.high.value_or(*b.energy);
  if (a.gross && b.gross) sum.gross = *a.gross + *b.gross;
  if (a.idle && b.idle) sum.idle = *a.idle + *b.idle;
  sum.tier = WorseTier(a.tier, b.tier);
  sum.source = Union(a.source, b.source);
  sum.domain = Union(a.domain, b.domain);
  return sum;
}

}  // namespace fedwatt

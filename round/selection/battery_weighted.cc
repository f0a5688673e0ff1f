// A member is asked in proportion to its charge, and never less than a fifth as often as a full one: weight = max(battery, 0.2), 1 on a charger or
// where the battery is not known. A floor under which nobody is asked at all is budget.battery_floor. As the battery-aware examples for Flower do; EAFL
// (Arouj, Abdelmoniem 2022, arXiv 2208.04505) multiplies the charge with Oort's utility instead. Cost: O(members log members).
#include "fedwatt/base/status_macros.h"
#include "fedwatt/round/selection.h"
#include "selection_draws.h"

namespace fedwatt::internal {
namespace {

constexpr double kLeastWeight = 0.2;

Selection Select(const SelectionRequest& request, Random& random) {
  Selection selection;
  MemberRefs pool = AllOf(request);
  DrawWeighted(
      pool, WantedOf(request), [](const Member& member) { return member.charging ? 1.0 : std::clamp(member.battery_fraction.value_or(1), kLeastWeight, 1.0); },
      random, selection.partitions);
  return selection;
}

}  // namespace

void InstallSelectionPolicy_battery_weighted(SelectionPolicyRegistry& registry) { FEDWATT_CHECK(registry.Register("battery_weighted", Select).ok()); }

}  // namespace fedwatt::internal

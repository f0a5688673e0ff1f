// Those who were asked longest ago come first; ties are drawn. Every member trains before any trains twice.
#include "fedwatt/base/status_macros.h"
#include "fedwatt/round/selection.h"
#include "selection_draws.h"

namespace fedwatt::internal {
namespace {

Selection Select(const SelectionRequest& request, Random& random) {
  Selection selection;
  MemberRefs pool = AllOf(request);
  TakeBest(pool, WantedOf(request), [](const Member& member) { return -static_cast<double>(member.last_selected_round); }, random, selection.partitions);
  return selection;
}

}  // namespace

void InstallSelectionPolicy_round_robin(SelectionPolicyRegistry& registry) { FEDWATT_CHECK(registry.Register("round_robin", Select).ok()); }

}  // namespace fedwatt::internal

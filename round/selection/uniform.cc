// At random: uniform without replacement, every member is equally likely (McMahan et al. 2017, arXiv 1602.05629, algorithm 1).
#include "fedwatt/base/status_macros.h"
#include "fedwatt/round/selection.h"
#include "selection_draws.h"

namespace fedwatt::internal {
namespace {

Selection Select(const SelectionRequest& request, Random& random) {
  Selection selection;
  std::vector<int64_t>& chosen = selection.partitions;
  chosen.reserve(request.members.size());
  for (const Member& member : request.members) chosen.push_back(member.partition);
  // The first places of a Fisher-Yates shuffle.
  const size_t wanted = WantedOf(request);
  for (size_t i = 0; i < wanted; ++i) std::swap(chosen[i], chosen[i + random.Below(chosen.size() - i)]);
  chosen.resize(wanted);
  return selection;
}

}  // namespace

void InstallSelectionPolicy_uniform(SelectionPolicyRegistry& registry) { FEDWATT_CHECK(registry.Register("uniform", Select).ok()); }

}  // namespace fedwatt::internal

// Most learning per joule, and nobody forgotten: who has been asked less often than `fairness` times the mean comes first; then those whose utility or
// joules are not known, at most a fifth of the cohort; then the greatest utility / joules. Utility is Oort's statistical one (oort.cc); joules are what
// the member's attempts took on average.
// Guarantee: in the long run nobody is asked less than floor(fairness * mean) times, where it is there to be asked. Cost: O(members log members).
#include "fedwatt/base/status_macros.h"
#include "fedwatt/round/selection.h"
#include "selection_draws.h"

namespace fedwatt::internal {
namespace {

constexpr double kExplored = 0.2;

Selection Select(const SelectionRequest& request, Random& random) {
  Selection selection;
  std::vector<int64_t>& out = selection.partitions;
  const size_t wanted = WantedOf(request);
  MemberRefs pool = AllOf(request);
  TakeOwed(pool, wanted, std::floor(request.fairness * MeanSelectedAfter(request)), random, out);
  MemberRefs known, unknown;
  for (const Member* member : pool) (StatisticalUtility(*member) && member->joules ? known : unknown).push_back(member);
  const auto explore = [&](size_t count) {
    TakeBest(unknown, std::min(count, wanted - out.size()), [](const Member&) { return 0.0; }, random, out);
  };
  explore(known.empty() ? wanted : static_cast<size_t>(std::ceil(kExplored * static_cast<double>(wanted))));
  TakeBest(known, wanted - out.size(), [](const Member& member) { return *StatisticalUtility(member) / std::max(*member.joules, 1e-9); }, random, out);
  explore(wanted);
  return selection;
}

}  // namespace

void InstallSelectionPolicy_energy_aware(SelectionPolicyRegistry& registry) { FEDWATT_CHECK(registry.Register("energy_aware", Select).ok()); }

}  // namespace fedwatt::internal

// Power-of-choice (Cho, Wang, Joshi 2020, arXiv 2010.01243, algorithm 1, the variant "rpow-d" that costs no extra communication): draw d = 2 * count
// candidates in proportion to their examples, then ask those whose last known loss is the greatest. A loss that is not known counts as the greatest, an
// unknown number of examples as the mean. Biased towards members that the model serves badly. Cost: O(members log members).
#include <limits>

#include "fedwatt/base/status_macros.h"
#include "fedwatt/round/selection.h"
#include "selection_draws.h"

namespace fedwatt::internal {
namespace {

Selection Select(const SelectionRequest& request, Random& random) {
  Selection selection;
  const size_t wanted = WantedOf(request);
  double sum = 0, known = 0;
  for (const Member& member : request.members) {
    if (member.example_count < 1) continue;
    sum += static_cast<double>(member.example_count);
    ++known;
  }
  const double mean = known > 0 ? sum / known : 1;
  MemberRefs pool = AllOf(request), candidates;
  std::vector<int64_t> drawn;
  DrawWeighted(pool, 2 * wanted, [&](const Member& member) { return member.example_count > 0 ? static_cast<double>(member.example_count) : mean; }, random, drawn);
  std::sort(drawn.begin(), drawn.end());
  for (const Member& member : request.members) {
    if (std::binary_search(drawn.begin(), drawn.end(), member.partition)) candidates.push_back(&member);
  }
  TakeBest(candidates, wanted, [](const Member& member) { return member.train_loss.value_or(std::numeric_limits<double>::infinity()); }, random, selection.partitions);
  return selection;
}

}  // namespace

void InstallSelectionPolicy_power_of_choice(SelectionPolicyRegistry& registry) { FEDWATT_CHECK(registry.Register("power_of_choice", Select).ok()); }

}  // namespace fedwatt::internal

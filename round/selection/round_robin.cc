// Those who were asked longest ago come first; ties are drawn. Every member trains before any trains twice.
#include <algorithm>

#include "fedwatt/base/status_macros.h"
#include "fedwatt/round/selection.h"

namespace fedwatt::internal {

void InstallSelectionPolicy_round_robin(SelectionPolicyRegistry& registry) {
  absl::Status status = registry.Register("round_robin", [](absl::Span<const Member> members, int64_t count, Random& random) {
    std::vector<Member> order(members.begin(), members.end());
    random.Shuffle(order);
    std::stable_sort(order.begin(), order.end(),
                     [](const Member& a, const Member& b) { return a.last_selected_round < b.last_selected_round; });
    std::vector<int64_t> chosen;
    for (const Member& member : order) {
      if (static_cast<int64_t>(chosen.size()) >= count) break;
      chosen.push_back(member.partition);
    }
    return chosen;
  });
  FEDWATT_CHECK(status.ok());
}

}  // namespace fedwatt::internal

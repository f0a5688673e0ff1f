// Uniform without replacement: every member is equally likely (McMahan et al. 2017, arXiv 1602.05629, algorithm 1).
#include <algorithm>

#include "fedwatt/base/status_macros.h"
#include "fedwatt/round/selection.h"

namespace fedwatt::internal {

void InstallSelectionPolicy_uniform(SelectionPolicyRegistry& registry) {
  absl::Status status = registry.Register("uniform", [](absl::Span<const Member> members, int64_t count, Random& random) {
    std::vector<int64_t> chosen;
    chosen.reserve(members.size());
    for (const Member& member : members) chosen.push_back(member.partition);
    // The first `count` places of a Fisher-Yates shuffle.
    const size_t wanted = std::min(chosen.size(), static_cast<size_t>(std::max<int64_t>(count, 0)));
    for (size_t i = 0; i < wanted; ++i) std::swap(chosen[i], chosen[i + random.Below(chosen.size() - i)]);
    chosen.resize(wanted);
    return chosen;
  });
  FEDWATT_CHECK(status.ok());
}

}  // namespace fedwatt::internal

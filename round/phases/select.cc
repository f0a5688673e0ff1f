#include <algorithm>
#include <cmath>

#include "fedwatt/base/status_macros.h"
#include "phases/phases.h"

namespace fedwatt::internal {

std::vector<int64_t> SelectCohort(EngineState& state) {
  const int64_t member_count = static_cast<int64_t>(state.members.size());
  const int64_t wanted = state.options.clients_per_round > 0 ? state.options.clients_per_round : member_count;
  state.aim = std::min(wanted, member_count);
  state.quorum = state.QuorumCount();
  const int64_t asked = std::min(
      member_count, static_cast<int64_t>(std::ceil(static_cast<double>(wanted) * (1 + state.options.over_selection) - 1e-9)));

  std::vector<Member> members;
  members.reserve(state.members.size());
  for (const auto& [partition, member] : state.members) members.push_back(member);  // a map: sorted by partition
  Random random(DeriveSeed("select", {state.options.seed, static_cast<uint64_t>(state.round)}));
  absl::StatusOr<SelectionPolicy> policy = SelectionPolicies().Find(state.options.selection_policy);
  FEDWATT_CHECK(policy.ok());  // Create() has looked it up
  std::vector<int64_t> cohort = (*policy)(members, asked, random);
  std::sort(cohort.begin(), cohort.end());
  for (int64_t partition : cohort) state.members.at(partition).last_selected_round = state.round;
  return cohort;
}

}  // namespace fedwatt::internal

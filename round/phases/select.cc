#include <algorithm>
#include <cmath>

#include "fedwatt/base/status_macros.h"
#include "phases/phases.h"

namespace fedwatt::internal {
namespace {

// With what is remembered of it.
Member Complete(const Member& member, const ClientHistory& history) {
  Member complete = member;
  complete.last_selected_round = history.last_selected_round;
  complete.selected_count = history.selected_count;
  complete.accepted_count = history.accepted_count;
  complete.train_loss = history.train_loss;
  complete.example_count = history.example_count;
  // The mean: an upper quantile would make whoever was asked seldom look dear, for want of samples.
  if (history.cost_count > 0) complete.joules = history.cost_mean_uj / 1e6;
  if (history.seconds > 0) complete.seconds = history.seconds;
  return complete;
}

}  // namespace

Cohort SelectCohort(EngineState& state, absl::Time now) {
  Cohort cohort;
  const EngineOptions& options = state.options;
  std::vector<Member> members;
  members.reserve(state.members.size());
  for (const auto& [partition, member] : state.members) {  // a map: sorted by partition
    ClientHistory& history = state.histories[HistoryKey(member.client, partition)];
    if (const std::optional<std::string> reason = state.budget.Refuses(history, member.battery_fraction, member.charging, now)) {
      ++cohort.refusals[*reason];
    } else {
      members.push_back(Complete(member, history));
    }
  }
  const int64_t member_count = static_cast<int64_t>(members.size());
  const int64_t wanted = options.clients_per_round > 0 ? options.clients_per_round : static_cast<int64_t>(state.members.size());
  const int64_t asked = std::min(member_count, static_cast<int64_t>(std::ceil(static_cast<double>(wanted) * (1 + options.over_selection) - 1e-9)));

  SelectionRequest request;
  request.members = members;
  request.count = asked;
  request.round = state.round;
  request.rounds_left = std::max<int64_t>(options.rounds - state.round + 1, 1);
  request.now = now;
  request.round_length = state.round_seconds > 0 ? absl::Seconds(state.round_seconds) : options.deadline;
  request.slack_left = std::max(options.selection.slack - state.deferred - (state.waiting_since ? now - *state.waiting_since : absl::ZeroDuration()), absl::ZeroDuration());
  request.carbon = options.carbon.get();
  request.fairness = options.selection.fairness;
  Random random(DeriveSeed("select", {options.seed, static_cast<uint64_t>(state.round)}));
  absl::StatusOr<SelectionPolicy> policy = SelectionPolicies().Find(options.selection.policy);
  FEDWATT_CHECK(policy.ok());  // Create() has looked it up
  Selection selection = (*policy)(request, random);
  if (selection.not_before && *selection.not_before > now && request.slack_left > absl::ZeroDuration() && member_count > 0) {
    cohort.not_before = std::min(*selection.not_before, now + request.slack_left);
    return cohort;
  }

  // In an order of its own, so that what fits into a budget does not depend on a policy's habits.
  std::sort(selection.partitions.begin(), selection.partitions.end());
  random.Shuffle(selection.partitions);
  // An attempt that lasts to the deadline hears of its end within the watch that its client holds.
  const absl::Duration longest = options.deadline + absl::Seconds(30);
  for (int64_t partition : selection.partitions) {
    const Member& member = state.members.at(partition);
    ClientHistory& history = state.histories[HistoryKey(member.client, partition)];
    std::optional<double> g_per_kwh;
    if (member.site && options.carbon != nullptr) {
      if (const std::optional<Intensity> intensity = options.carbon->IntensityAt(*member.site, now, now)) g_per_kwh = intensity->g_per_kwh;
    }
    const Claim claim = state.budget.Price(history, member.max_power, longest, g_per_kwh);
    if (const std::optional<std::string> reason = state.budget.Reserve(history, claim)) {
      ++cohort.refusals[*reason];
    } else {
      cohort.claims.emplace(partition, claim);
    }
  }
  state.aim = std::min(wanted, static_cast<int64_t>(cohort.claims.size()));
  state.quorum = state.QuorumCount();
  return cohort;
}

}  // namespace fedwatt::internal

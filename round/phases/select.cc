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

// What the fit policy asks of the member; nullopt: none of its widths can be asked of it now. `share`: of the round's joules.
std::optional<AskedFit> FitOf(const EngineState& state, const FitPolicy& policy, const Member& member, ClientHistory& history, const std::optional<Energy>& share, absl::Time now) {
  const EngineOptions& options = state.options;
  FitRequest request{.seed = options.seed, .round = state.round, .partition = member.partition, .device = member.device, .history = nullptr, .costs = {}, .now = now, .time = options.deadline, .energy = share, .max_power = {}};
  if (policy.measures) {
    request.history = &history.work;
    request.costs = state.width_costs;
    request.max_power = member.max_power.value_or(options.budget.max_power);
    const std::optional<Energy> left = state.budget.LeftToday(history, now);
    if (left && (!share || *left < *share)) request.energy = left;
  }
  const std::optional<double> width = policy.width(options.fit, request);
  if (!width) return std::nullopt;
  AskedFit fit;
  fit.width = *width;
  const auto place = std::find(options.fit.widths.begin(), options.fit.widths.end(), *width);
  if (place != options.fit.widths.end() && state.width_costs.size() == options.fit.widths.size()) {
    fit.cost = state.width_costs[static_cast<size_t>(place - options.fit.widths.begin())];
    const std::optional<WorkForecast> forecast = policy.measures ? history.work.Forecast(fit.cost->macs_per_example, fit.cost->parameters) : std::nullopt;
    constexpr double kMost = 1e12;  // seconds or joules: far beyond any attempt, and the record holds it
    if (forecast) fit.expected_seconds = std::min(forecast->seconds(), kMost);
    if (forecast && forecast->joules) fit.expected_energy = Joules(std::min(*forecast->joules, kMost));
  }
  return fit;
}

std::optional<int64_t> ExpectedMicrojoules(const std::optional<AskedFit>& fit) {
  if (!fit || !fit->expected_energy) return std::nullopt;
  return Joules(kForecastMargin * fit->expected_energy->joules()).microjoules();
}

}  // namespace

Cohort SelectCohort(EngineState& state, absl::Time now) {
  Cohort cohort;
  const EngineOptions& options = state.options;
  const int64_t wanted = options.clients_per_round > 0 ? options.clients_per_round : static_cast<int64_t>(state.members.size());
  const double with_spares = std::ceil(static_cast<double>(wanted) * (1 + options.over_selection) - 1e-9);
  const absl::StatusOr<FitPolicy> fit_policy = FitPolicies().Find(options.fit.policy);
  FEDWATT_CHECK(fit_policy.ok());  // Create() has looked it up
  std::optional<Energy> share;  // of the round's joules
  if (const std::optional<int64_t> left = state.budget.round().left(); left && with_spares > 0) {
    share = Microjoules(static_cast<int64_t>(static_cast<double>(std::max<int64_t>(*left, 0)) / with_spares));
  }
  std::map<int64_t, AskedFit> fits;  // where all must be asked first
  std::vector<Member> members;
  members.reserve(state.members.size());
  for (const auto& [partition, member] : state.members) {  // a map: sorted by partition
    ClientHistory& history = state.histories[HistoryKey(member.client, partition)];
    std::optional<AskedFit> fit;
    if (fit_policy->measures) fit = FitOf(state, *fit_policy, member, history, share, now);
    if (const std::optional<std::string> reason = state.budget.Refuses(history, member.battery_fraction, member.charging, now, ExpectedMicrojoules(fit))) {
      ++cohort.refusals[*reason];
    } else if (fit_policy->measures && !fit) {
      ++cohort.refusals["no_width"];
    } else {
      if (fit) fits.emplace(partition, *fit);
      members.push_back(Complete(member, history));
    }
  }
  const int64_t member_count = static_cast<int64_t>(members.size());
  const int64_t asked = std::min(member_count, static_cast<int64_t>(with_spares));

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
    const auto known = fits.find(partition);
    const std::optional<AskedFit> fit = known != fits.end() ? known->second : FitOf(state, *fit_policy, member, history, share, now);
    if (!fit) {
      ++cohort.refusals["no_width"];
      continue;
    }
    const Claim claim = state.budget.Price(history, member.max_power, longest, g_per_kwh, ExpectedMicrojoules(fit));
    if (const std::optional<std::string> reason = state.budget.Reserve(history, claim)) {
      ++cohort.refusals[*reason];
    } else {
      cohort.asked.emplace(partition, Asked{claim, *fit});
    }
  }
  state.aim = std::min(wanted, static_cast<int64_t>(cohort.asked.size()));
  state.quorum = state.QuorumCount();
  return cohort;
}

}  // namespace fedwatt::internal

#include "fedwatt/round/engine.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"
#include "phases/phases.h"

namespace fedwatt {
namespace {

absl::Status OutOfRange(std::string_view option, std::string_view range, double got) {
  return absl::InvalidArgumentError(
      absl::StrCat("federation.", std::string(option), ": expected ", std::string(range), ", got ", got));
}

template <typename... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};
template <typename... Handlers>
Overloaded(Handlers...) -> Overloaded<Handlers...>;

}  // namespace

absl::Status ValidateEngineOptions(const EngineOptions& options) {
  if (options.run_id.empty()) return absl::InvalidArgumentError("engine: the run has no id");
  if (options.rounds < 1) return OutOfRange("rounds", "at least 1", static_cast<double>(options.rounds));
  if (options.next_round < 1) return OutOfRange("next_round", "at least 1", static_cast<double>(options.next_round));
  if (options.clients_per_round < 0) return OutOfRange("clients_per_round", "at least 0", static_cast<double>(options.clients_per_round));
  if (options.wait_for_clients < 1) return OutOfRange("wait_for_clients", "at least 1", static_cast<double>(options.wait_for_clients));
  if (!(options.quorum > 0 && options.quorum <= 1)) return OutOfRange("quorum", "(0, 1]", options.quorum);
  if (!(options.deadline > absl::ZeroDuration())) {
    return OutOfRange("deadline", "more than 0 seconds", absl::ToDoubleSeconds(options.deadline));
  }
  if (!(options.over_selection >= 0 && options.over_selection <= 100)) {
    return OutOfRange("over_selection", "[0, 100]", options.over_selection);
  }
  if (options.evaluate_every < 1) return OutOfRange("evaluate_every", "at least 1", static_cast<double>(options.evaluate_every));
  if (options.target_accuracy.has_value() && !(*options.target_accuracy > 0 && *options.target_accuracy <= 1)) {
    return OutOfRange("target_accuracy", "(0, 1]", *options.target_accuracy);
  }
  FEDWATT_RETURN_IF_ERROR(ValidateBudgetOptions(options.budget));
  FEDWATT_RETURN_IF_ERROR(CheckFit(options.fit));
  return ValidateSelectionOptions(options.selection);
}

std::string_view RoundPhaseName(RoundPhase phase) {
  switch (phase) {
    case RoundPhase::kIdle: return "idle";
    case RoundPhase::kCollect: return "collect";
    case RoundPhase::kAggregate: return "aggregate";
    case RoundPhase::kPublish: return "publish";
    case RoundPhase::kFinished: return "finished";
  }
  return "unknown";
}

int64_t EngineState::CountAttempts(Attempt::State wanted) const {
  int64_t count = 0;
  for (const auto& [id, attempt] : attempts) count += attempt.state == wanted;
  return count;
}

int64_t EngineState::QuorumCount() const {
  const int64_t wanted = options.clients_per_round > 0 ? options.clients_per_round : static_cast<int64_t>(members.size());
  return std::max<int64_t>(1, static_cast<int64_t>(std::ceil(options.quorum * static_cast<double>(wanted) - 1e-9)));
}

Engine::Engine(EngineOptions options) {
  state_.round = options.next_round;
  state_.budget = Budget(options.budget);
  state_.options = std::move(options);
}

absl::StatusOr<Engine> Engine::Create(EngineOptions options) {
  FEDWATT_RETURN_IF_ERROR(ValidateEngineOptions(options));
  Engine engine(std::move(options));
  FEDWATT_RETURN_IF_ERROR(internal::Recall(engine.state_));
  engine.resumes_ = engine.state_.phase == RoundPhase::kCollect;
  return engine;
}

Effects Engine::Resume(absl::Time now, bool closed) {
  FEDWATT_CHECK(std::exchange(resumes_, false));
  Effects effects;
  state_.now = now;
  internal::ResumeRound(state_, closed, effects);
  return effects;
}

Effects Engine::Handle(const Event& event, absl::Time now) {
  using namespace internal;  // NOLINT: the phases' entry points
  Effects effects;
  if (finished()) return effects;
  state_.now = now;
  std::visit(
      Overloaded{
          [&](const MemberJoined& joined) {
            Member& member = state_.members[joined.partition];
            member.partition = joined.partition;
            member.client = joined.client;
            member.site = joined.site;
            member.max_power = joined.max_power;
            member.battery_fraction = joined.battery_fraction;
            member.charging = joined.charging;
            member.device = joined.device;
            OnMembersChanged(state_, now, effects);
          },
          [&](const MemberLeft& left) {
            state_.members.erase(left.partition);
            if (state_.phase != RoundPhase::kCollect) return;
            for (const auto& [id, attempt] : state_.attempts) {
              if (attempt.partition == left.partition && attempt.state == Attempt::State::kTraining) {
                OnAttemptFailed(state_, AttemptFailed{std::string(id), Rejection::kDisconnected}, now, effects);
                return;
              }
            }
          },
          [&](const MemberSupply& supply) {
            auto member = state_.members.find(supply.partition);
            if (member == state_.members.end()) return;
            member->second.battery_fraction = supply.battery_fraction;
            member->second.charging = supply.charging;
            // It may be the one that a round has waited for.
            if (state_.waiting_since.has_value()) OnMembersChanged(state_, now, effects);
          },
          [&](const ModelShaped& shaped) { state_.width_costs = shaped.costs; },
          [&](const UpdateArrived& arrived) {
            if (state_.phase == RoundPhase::kCollect) OnUpdateArrived(state_, arrived, now, effects);
          },
          [&](const AttemptFailed& failed) {
            if (state_.phase == RoundPhase::kCollect) OnAttemptFailed(state_, failed, now, effects);
          },
          [&](const FoldFinished& folded) {
            if (state_.phase == RoundPhase::kCollect) OnFoldFinished(state_, folded, now, effects);
          },
          [&](const AggregateFinished& aggregated) {
            if (state_.phase == RoundPhase::kAggregate) OnAggregateFinished(state_, aggregated, now, effects);
          },
          [&](const EvaluateFinished& evaluated) {
            if (state_.phase == RoundPhase::kPublish) OnEvaluateFinished(state_, evaluated, now, effects);
          },
          [&](const PublishFinished& published) {
            if (state_.phase == RoundPhase::kPublish) OnPublishFinished(state_, published, now, effects);
          },
          [&](const Tick&) {
            if (state_.phase == RoundPhase::kCollect) OnDeadline(state_, now, effects);
            if (state_.phase == RoundPhase::kIdle) EnterIdle(state_, now, effects);
          },
          [&](const StopRequested& stop) {
            state_.stop_reason = stop.reason;
            if (state_.phase == RoundPhase::kIdle) EnterIdle(state_, now, effects);
            if (state_.phase == RoundPhase::kCollect) AbandonRound(state_, stop.reason, now, effects);
            // A round that is being committed is finished first.
          },
      },
      event);
  return effects;
}

RoundSnapshot Engine::Snapshot() const {
  RoundSnapshot snapshot;
  snapshot.phase = state_.phase;
  snapshot.round = state_.round;
  snapshot.rounds = state_.options.rounds;
  snapshot.member_count = static_cast<int64_t>(state_.members.size());
  snapshot.wait_for_clients = state_.options.wait_for_clients;
  snapshot.selected = static_cast<int64_t>(state_.attempts.size());
  snapshot.accepted = state_.CountAttempts(Attempt::State::kAccepted);
  snapshot.training = state_.CountAttempts(Attempt::State::kTraining);
  snapshot.aim = state_.aim;
  snapshot.deadline = state_.deadline;
  return snapshot;
}

}  // namespace fedwatt

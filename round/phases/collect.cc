#include "absl/strings/str_cat.h"
#include "phases/phases.h"

namespace fedwatt::internal {
namespace {

Attempt* Find(EngineState& state, const std::string& id) {
  auto it = state.attempts.find(id);
  return it == state.attempts.end() ? nullptr : &it->second;
}

// No more updates are folded than the round aims at; the others wait as spares, in case one of those is refused.
void FoldWaiting(EngineState& state, Effects& effects) {
  size_t taken = 0;
  int64_t counted = state.CountAttempts(Attempt::State::kAccepted) + state.CountAttempts(Attempt::State::kFolding);
  while (taken < state.arrival_order.size() && counted < state.aim) {
    Attempt* attempt = Find(state, state.arrival_order[taken++]);
    attempt->state = Attempt::State::kFolding;
    ++counted;
    effects.push_back(Fold{attempt->id});
  }
  state.arrival_order.erase(state.arrival_order.begin(), state.arrival_order.begin() + static_cast<int64_t>(taken));
}

void CloseIfComplete(EngineState& state, absl::Time now, Effects& effects) {
  // An update that is being added must be in the sum, or out of it, before the sum is used.
  if (state.CountAttempts(Attempt::State::kFolding) > 0) return;
  const int64_t accepted = state.CountAttempts(Attempt::State::kAccepted);
  const bool enough = accepted >= state.aim;
  const bool nobody_left = state.CountAttempts(Attempt::State::kTraining) == 0 && state.CountAttempts(Attempt::State::kArrived) == 0;
  const bool too_late = now >= state.deadline;
  if (!enough && !nobody_left && !too_late) return;
  if (enough) {
    EndOpenAttempts(state, "cancelled", Rejection::kNotNeeded, effects);
  } else {
    EndOpenAttempts(state, "late", Rejection::kLate, effects);
  }
  state.record.collect_seconds = absl::ToDoubleSeconds(now - state.phase_started);
  if (accepted >= state.quorum) {
    EnterAggregate(state, now, effects);
  } else {
    AbandonRound(state, absl::StrCat("quorum not reached: ", accepted, " accepted, ", state.quorum, " needed"), now, effects);
  }
}

}  // namespace

void End(EngineState& state, Attempt& attempt, std::string_view outcome, std::optional<Rejection> reason, Effects& effects) {
  SettleAttempt(state, attempt);
  if (outcome == "accepted") {
    attempt.state = Attempt::State::kAccepted;
    ++state.record.clients_completed;
    state.record.train_examples += attempt.example_count;
    ClientHistory& history = state.histories[HistoryKey(attempt.client, attempt.partition)];
    ++history.accepted_count;
    history.example_count = attempt.example_count;
    if (attempt.train_loss) history.train_loss = attempt.train_loss;
  } else {
    attempt.state = Attempt::State::kEnded;
    if (outcome == "rejected") ++state.record.clients_rejected;
    if (outcome == "late") ++state.record.clients_late;
    if (outcome == "dropped") ++state.record.clients_dropped;
    if (reason.has_value() && outcome != "cancelled") ++state.record.rejections[std::string(RejectionName(*reason))];
  }
  effects.push_back(EndAttempt{attempt.id, state.round, attempt.partition, attempt.client, std::string(outcome), reason});
}

void EndOpenAttempts(EngineState& state, std::string_view outcome, Rejection reason, Effects& effects) {
  for (auto& [id, attempt] : state.attempts) {
    if (attempt.state == Attempt::State::kTraining || attempt.state == Attempt::State::kArrived ||
        attempt.state == Attempt::State::kFolding) {
      if (reason == Rejection::kLate && attempt.state == Attempt::State::kTraining) NoteWork(state, attempt, state.now, std::nullopt, /*finished=*/false);
      End(state, attempt, outcome, reason, effects);
    }
  }
  state.arrival_order.clear();
}

void OnUpdateArrived(EngineState& state, const UpdateArrived& event, absl::Time now, Effects& effects) {
  Attempt* attempt = Find(state, event.attempt);
  if (attempt == nullptr || attempt->state != Attempt::State::kTraining) return;
  attempt->state = Attempt::State::kArrived;
  attempt->energy = event.energy;
  const absl::Time at = event.at.value_or(now);
  state.histories[HistoryKey(attempt->client, attempt->partition)].NoteSeconds(absl::ToDoubleSeconds(at - attempt->started));
  NoteWork(state, *attempt, at, event.training, event.finished);
  state.arrival_order.push_back(attempt->id);
  FoldWaiting(state, effects);
  CloseIfComplete(state, now, effects);
}

void OnAttemptFailed(EngineState& state, const AttemptFailed& event, absl::Time now, Effects& effects) {
  Attempt* attempt = Find(state, event.attempt);
  if (attempt == nullptr || attempt->state != Attempt::State::kTraining) return;
  attempt->energy = event.energy;
  if (event.too_much) NoteWork(state, *attempt, now, std::nullopt, /*finished=*/false);
  const bool gave_up = event.reason == Rejection::kDisconnected || event.reason == Rejection::kWithdrawn ||
                       event.reason == Rejection::kClientError;
  End(state, *attempt, gave_up ? "dropped" : "rejected", event.reason, effects);
  CloseIfComplete(state, now, effects);
}

void OnFoldFinished(EngineState& state, const FoldFinished& event, absl::Time now, Effects& effects) {
  Attempt* attempt = Find(state, event.attempt);
  if (attempt == nullptr || attempt->state != Attempt::State::kFolding) return;
  if (event.status.ok()) {
    attempt->example_count = event.example_count;
    attempt->train_loss = event.train_loss;
    End(state, *attempt, "accepted", std::nullopt, effects);
  } else {
    End(state, *attempt, "rejected", RejectionOf(event.status).value_or(Rejection::kGarbage), effects);
    FoldWaiting(state, effects);
  }
  CloseIfComplete(state, now, effects);
}

void OnDeadline(EngineState& state, absl::Time now, Effects& effects) {
  if (now < state.deadline) {
    effects.push_back(SetTimer{state.deadline});
    return;
  }
  CloseIfComplete(state, now, effects);
}

}  // namespace fedwatt::internal

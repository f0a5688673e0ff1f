#include "phases/phases.h"

namespace fedwatt::internal {
namespace {

void Commit(EngineState& state, absl::Time now, Effects& effects) {
  state.record.committed = true;
  state.record.finished_at = now;
  state.record.wall_seconds = absl::ToDoubleSeconds(now - state.record.started_at);
  constexpr double kWeight = 0.3;  // of the newest round
  state.round_seconds = state.round_seconds > 0 ? state.round_seconds + kWeight * (state.record.wall_seconds - state.round_seconds) : state.record.wall_seconds;
  DescribeBudget(state);
  effects.push_back(Publish{state.record, MemoryOf(state)});
}

bool TargetReached(const EngineState& state) {
  if (!state.options.target_accuracy.has_value()) return false;
  const std::optional<double>& accuracy =
      state.record.eval_accuracy.has_value() ? state.record.eval_accuracy : state.record.federated_eval_accuracy;
  return accuracy.has_value() && *accuracy >= *state.options.target_accuracy;
}

}  // namespace

void EnterPublish(EngineState& state, absl::Time now, Effects& effects) {
  state.phase = RoundPhase::kPublish;
  state.phase_started = now;
  const bool due = state.options.evaluates &&
                   (state.round % state.options.evaluate_every == 0 || state.round == state.options.rounds);
  if (!due) {
    Commit(state, now, effects);
    return;
  }
  Evaluate evaluate{state.round, {}, {}};
  for (const auto& [id, attempt] : state.attempts) {
    if (attempt.state == Attempt::State::kAccepted) evaluate.partitions.push_back(attempt.partition);
  }
  std::sort(evaluate.partitions.begin(), evaluate.partitions.end());
  const WidthEvaluation when = state.options.evaluate_widths;
  if (when == WidthEvaluation::kAlways || (when == WidthEvaluation::kLast && state.round == state.options.rounds)) {
    for (double width : state.options.fit.widths) {
      if (width < 1) evaluate.widths.push_back(width);
    }
  }
  effects.push_back(std::move(evaluate));
}

void OnEvaluateFinished(EngineState& state, const EvaluateFinished& event, absl::Time now, Effects& effects) {
  state.record.evaluate_seconds = absl::ToDoubleSeconds(now - state.phase_started);
  state.record.eval_accuracy = event.accuracy;
  state.record.eval_loss = event.loss;
  state.record.eval_examples = event.examples;
  state.record.eval_accuracy_by_width = event.accuracy_by_width;
  state.record.federated_eval_accuracy = event.federated_accuracy;
  state.record.federated_eval_loss = event.federated_loss;
  state.record.federated_eval_examples = event.federated_examples;
  Commit(state, now, effects);
}

void OnPublishFinished(EngineState& state, const PublishFinished& event, absl::Time now, Effects& effects) {
  if (!event.status.ok()) {
    // A model that could not be made durable must not be built upon.
    FinishRun(state, "the new model could not be stored", /*target_reached=*/false, event.status, effects);
    return;
  }
  const bool reached = TargetReached(state);
  ++state.round;
  if (reached) {
    FinishRun(state, "target accuracy reached", /*target_reached=*/true, absl::OkStatus(), effects);
    return;
  }
  EnterIdle(state, now, effects);
}

}  // namespace fedwatt::internal

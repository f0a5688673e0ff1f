#include "phases/phases.h"

namespace fedwatt::internal {

void AbandonRound(EngineState& state, std::string_view reason, absl::Time now, Effects& effects) {
  EndOpenAttempts(state, "cancelled", Rejection::kNotNeeded, effects);
  state.record.committed = false;
  state.record.reason = std::string(reason);
  state.record.finished_at = now;
  state.record.wall_seconds = absl::ToDoubleSeconds(now - state.record.started_at);
  DescribeBudget(state);
  effects.push_back(Abandon{state.record, MemoryOf(state)});
  ++state.round;
  EnterIdle(state, now, effects);
}

void FinishRun(EngineState& state, std::string_view reason, bool target_reached, absl::Status status, Effects& effects) {
  state.phase = RoundPhase::kFinished;
  effects.push_back(Finish{std::string(reason), target_reached, std::move(status)});
}

}  // namespace fedwatt::internal

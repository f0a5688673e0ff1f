#include "absl/strings/str_cat.h"
#include "phases/phases.h"

namespace fedwatt::internal {

void EnterAggregate(EngineState& state, absl::Time now, Effects& effects) {
  state.phase = RoundPhase::kAggregate;
  state.phase_started = now;
  effects.push_back(Aggregate{state.round});
}

void OnAggregateFinished(EngineState& state, const AggregateFinished& event, absl::Time now, Effects& effects) {
  state.record.aggregate_seconds = absl::ToDoubleSeconds(now - state.phase_started);
  if (!event.status.ok()) {
    AbandonRound(state, absl::StrCat("aggregation failed: ", event.status.message()), now, effects);
    return;
  }
  state.record.model_digest = event.model_digest;
  EnterPublish(state, now, effects);
}

}  // namespace fedwatt::internal

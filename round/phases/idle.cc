#include "phases/phases.h"

namespace fedwatt::internal {

void EnterIdle(EngineState& state, absl::Time now, Effects& effects) {
  state.phase = RoundPhase::kIdle;
  state.attempts.clear();
  state.arrival_order.clear();
  if (state.stop_reason.has_value()) {
    FinishRun(state, *state.stop_reason, /*target_reached=*/false, absl::OkStatus(), effects);
    return;
  }
  if (state.round > state.options.rounds) {
    FinishRun(state, "all rounds done", /*target_reached=*/false, absl::OkStatus(), effects);
    return;
  }
  OnMembersChanged(state, now, effects);
}

void OnMembersChanged(EngineState& state, absl::Time now, Effects& effects) {
  if (state.phase != RoundPhase::kIdle) return;
  if (state.not_before && now < *state.not_before) return;
  const int64_t member_count = static_cast<int64_t>(state.members.size());
  // The whole company is awaited once; after that a round needs no more than could commit it.
  const int64_t needed = state.waited_for_clients ? state.QuorumCount() : state.options.wait_for_clients;
  if (member_count < std::max<int64_t>(needed, 1)) return;
  state.waited_for_clients = true;
  EnterConfigure(state, now, effects);
}

}  // namespace fedwatt::internal

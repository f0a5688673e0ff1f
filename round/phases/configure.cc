#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "fedwatt/base/digest.h"
#include "phases/phases.h"

namespace fedwatt::internal {
namespace {

// Readable, and different for every start of the coordinator, so that an answer to a question of an earlier life is recognised.
std::string AttemptId(const EngineState& state, int64_t partition) {
  const Digest digest =
      Sha256(absl::StrCat(state.options.run_id, "/", state.options.incarnation, "/", state.round, "/", partition));
  return absl::StrCat("r", state.round, "-p", partition, "-", digest.Hex().substr(0, 12));
}

}  // namespace

void EnterConfigure(EngineState& state, absl::Time now, Effects& effects) {
  state.record = RoundRecord{};
  state.record.run_id = state.options.run_id;
  state.record.round = state.round;
  state.record.started_at = now;
  const std::vector<int64_t> cohort = SelectCohort(state);
  state.record.clients_selected = static_cast<int64_t>(cohort.size());
  state.deadline = now + state.options.deadline;
  state.phase = RoundPhase::kCollect;
  state.phase_started = now;
  for (int64_t partition : cohort) {
    Attempt attempt;
    attempt.id = AttemptId(state, partition);
    attempt.partition = partition;
    attempt.client = state.members.at(partition).client;
    effects.push_back(StartAttempt{attempt.id, state.round, partition, state.deadline});
    state.attempts.emplace(attempt.id, std::move(attempt));
  }
  effects.push_back(SetTimer{state.deadline});
}

}  // namespace fedwatt::internal

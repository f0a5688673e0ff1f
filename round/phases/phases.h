// The phases' entry points, private to the room. Each phase is one file; a function that enters a phase may enter the next one at once.
#ifndef FEDWATT_ROUND_PHASES_PHASES_H_
#define FEDWATT_ROUND_PHASES_PHASES_H_

#include "fedwatt/round/engine.h"

namespace fedwatt::internal {

// idle.cc: waits for enough members.
void EnterIdle(EngineState& state, absl::Time now, Effects& effects);
void OnMembersChanged(EngineState& state, absl::Time now, Effects& effects);

// select.cc: draws the cohort and reserves what its attempts may take.
struct AskedFit {
  double width = 1;
  std::optional<WidthCost> cost;         // of the width, where that is known
  std::optional<double> expected_seconds;  // as in StartAttempt
  std::optional<Energy> expected_energy;
};
struct Asked {
  Claim claim;
  AskedFit fit;
};
struct Cohort {
  std::map<int64_t, Asked> asked;           // by partition
  std::map<std::string, int64_t> refusals;  // members whom a budget, the battery floor or the fit policy kept out, by reason
  std::optional<absl::Time> not_before;     // the round had better open then; nothing is reserved
};
Cohort SelectCohort(EngineState& state, absl::Time now);

// memory.cc: what outlives a session and a coordinator.
absl::Status Recall(EngineState& state);
// Everything that this round's attempts changed, and what Recall() did.
Memory MemoryOf(EngineState& state);
// With what Recall() needs to go on with the round that has just been opened.
std::pair<std::string, std::string> MemoryOfOpenRound(const EngineState& state);
// Writes into the record what is left of the run's budgets.
void DescribeBudget(EngineState& state);
// Ends the attempt's reservation with what it took, or, where that is not known, with the most that it can have taken since it started.
void SettleAttempt(EngineState& state, const Attempt& attempt);

// Adds what the attempt, over since `at`, says of its client's speed, where the fit policy measures. `finished`: it did all its work in time.
void NoteWork(EngineState& state, const Attempt& attempt, absl::Time at, const std::optional<absl::Duration>& training, bool finished);

// resume.cc: the round as it was opened, and how it goes on after a restart. Restoring leaves the state alone where the text speaks of an earlier round.
std::string SaveRound(const EngineState& state);
// Errors: DATA_LOSS
absl::Status RestoreRound(EngineState& state, const std::string& text);
void ResumeRound(EngineState& state, bool closed, Effects& effects);

// configure.cc: opens the round: attempts, deadline, record; or waits, or ends the run, where budgets or the hour say so.
void EnterConfigure(EngineState& state, absl::Time now, Effects& effects);

// collect.cc: takes updates until the aim, the deadline, or nobody is left.
void OnUpdateArrived(EngineState& state, const UpdateArrived& event, absl::Time now, Effects& effects);
void OnAttemptFailed(EngineState& state, const AttemptFailed& event, absl::Time now, Effects& effects);
void OnFoldFinished(EngineState& state, const FoldFinished& event, absl::Time now, Effects& effects);
void OnDeadline(EngineState& state, absl::Time now, Effects& effects);
// Ends `attempt`, counting it in the record.
void End(EngineState& state, Attempt& attempt, std::string_view outcome, std::optional<Rejection> reason, Effects& effects);
// Ends every attempt that is still open.
void EndOpenAttempts(EngineState& state, std::string_view outcome, Rejection reason, Effects& effects);

// aggregate.cc
void EnterAggregate(EngineState& state, absl::Time now, Effects& effects);
void OnAggregateFinished(EngineState& state, const AggregateFinished& event, absl::Time now, Effects& effects);

// publish.cc: evaluates when due, then commits.
void EnterPublish(EngineState& state, absl::Time now, Effects& effects);
void OnEvaluateFinished(EngineState& state, const EvaluateFinished& event, absl::Time now, Effects& effects);
void OnPublishFinished(EngineState& state, const PublishFinished& event, absl::Time now, Effects& effects);

// failed.cc: gives up a round, or the run.
void AbandonRound(EngineState& state, std::string_view reason, absl::Time now, Effects& effects);
void FinishRun(EngineState& state, std::string_view reason, bool target_reached, absl::Status status, Effects& effects);

}  // namespace fedwatt::internal

#endif  // FEDWATT_ROUND_PHASES_PHASES_H_

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "fedwatt/base/digest.h"
#include "fedwatt/base/planted.h"
#include "phases/phases.h"

namespace fedwatt::internal {
namespace {

// Readable, and different for every start of the coordinator, so that an answer to a question of an earlier life is recognised.
std::string AttemptId(const EngineState& state, int64_t partition) {
  const Digest digest =
      Sha256(absl::StrCat(state.options.run_id, "/", state.options.incarnation, "/", state.round, "/", partition));
  return absl::StrCat("r", state.round, "-p", partition, "-", digest.Hex().substr(0, 12));
}

// "battery_floor 3, client_budget 2"
std::string Words(const std::map<std::string, int64_t>& refusals) {
  return absl::StrJoin(refusals, ", ", [](std::string* out, const auto& one) { absl::StrAppend(out, one.first, " ", one.second); });
}

void Wait(EngineState& state, absl::Time now, absl::Time until, std::string reason, Effects& effects) {
  if (!state.waiting_since) state.waiting_since = now;
  state.waiting_reason = std::move(reason);
  effects.push_back(SetTimer{until});
}

// What to do when too few may be asked for the round to commit.
void WaitForBudget(EngineState& state, const Cohort& cohort, absl::Time now, Effects& effects) {
  for (const auto& [partition, asked] : cohort.asked) state.budget.Settle(state.histories[HistoryKey(state.members.at(partition).client, partition)], asked.claim, 0, 0);
  const auto refused = [&](const char* reason) { return cohort.refusals.contains(reason); };
  if (refused("federation_budget") || refused("carbon_budget")) {
    const bool joules = refused("federation_budget");
    const Account& account = joules ? state.budget.federation() : state.budget.carbon();
    const double unit = 1e6;  // micro
    FinishRun(state,
              absl::StrCat(joules ? "the federation's joules are spent: " : "the federation's grams are spent: ", static_cast<double>(account.spent()) / unit, " of ",
                           static_cast<double>(*account.limit()) / unit, joules ? " J" : " g"),
              /*target_reached=*/false, absl::OkStatus(), effects);
    return;
  }
  if (refused("round_budget") && state.budget.round().spent() == 0) {
    FinishRun(state, "budget.round_joules allows too few clients", /*target_reached=*/false,
              absl::FailedPreconditionError(absl::StrCat("budget.round_joules: allows ", cohort.asked.size(), " clients a round, and the quorum is ", state.quorum)), effects);
    return;
  }
  // A battery or a debt may be better in a minute, and who met no width may be tried again; a day's allowance comes with the day.
  const absl::Time midnight = absl::UnixEpoch() + absl::Floor(now - absl::UnixEpoch(), absl::Hours(24)) + absl::Hours(24);
  const bool soon = refused("battery_floor") || refused("round_budget") || refused("no_width");
  Wait(state, now, soon ? std::min(now + absl::Minutes(1), midnight) : midnight, Words(cohort.refusals), effects);
}

}  // namespace

void EnterConfigure(EngineState& state, absl::Time now, Effects& effects) {
  state.budget.OpenRound();
  Cohort cohort = SelectCohort(state, now);
  if (cohort.not_before) {
    state.not_before = cohort.not_before;
    Wait(state, now, *cohort.not_before, "cleaner electricity", effects);
    return;
  }
  if (!cohort.refusals.empty() && static_cast<int64_t>(cohort.asked.size()) < state.quorum) {
    WaitForBudget(state, cohort, now, effects);
    return;
  }
  state.record = RoundRecord{};
  state.record.run_id = state.options.run_id;
  state.record.round = state.round;
  state.record.started_at = now;
  state.record.clients_selected = static_cast<int64_t>(cohort.asked.size());
  state.record.refusals = std::move(cohort.refusals);
  if (state.waiting_since) {
    state.record.deferred_seconds = absl::ToDoubleSeconds(now - *state.waiting_since);
    state.record.deferral_reason = std::move(state.waiting_reason);
    if (state.not_before) state.deferred += now - *state.waiting_since;
  }
  state.waiting_since.reset();
  state.waiting_reason.clear();
  state.not_before.reset();
  state.deadline = now + state.options.deadline;
  state.phase = RoundPhase::kCollect;
  state.phase_started = now;
  std::vector<StartAttempt> starts;
  for (const auto& [partition, asked] : cohort.asked) {
    Attempt attempt;
    attempt.id = AttemptId(state, partition);
    attempt.partition = partition;
    attempt.client = state.members.at(partition).client;
    attempt.started = now;
    attempt.site = state.members.at(partition).site;
    attempt.max_power = state.members.at(partition).max_power;
    attempt.claim = asked.claim;
    attempt.cost = asked.fit.cost;
    attempt.width = asked.fit.width;
    attempt.expected_seconds = asked.fit.expected_seconds;
    attempt.expected_energy = asked.fit.expected_energy;
    ClientHistory& history = state.histories[HistoryKey(attempt.client, partition)];
    history.last_selected_round = state.round;
    ++history.selected_count;
    starts.push_back(StartAttempt{attempt.id, state.round, partition, state.deadline, asked.fit.width, asked.fit.expected_seconds, asked.fit.expected_energy});
    state.attempts.emplace(attempt.id, std::move(attempt));
  }
  Memory memory = MemoryOf(state);
  if (state.options.remembers_rounds && !FEDWATT_PLANTED(round_not_remembered)) memory.push_back(MemoryOfOpenRound(state));
  effects.push_back(Remember{std::move(memory)});  // before anybody spends what was reserved
  for (StartAttempt& start : starts) effects.push_back(std::move(start));
  effects.push_back(SetTimer{state.deadline});
}

}  // namespace fedwatt::internal

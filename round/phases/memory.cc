#include <algorithm>
#include <cmath>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "fedwatt/base/planted.h"
#include "fedwatt/base/status_macros.h"
#include "phases/phases.h"

namespace fedwatt::internal {
namespace {

// Pseudonyms do not start like this.
constexpr char kAccounts[] = "#accounts", kRound[] = "#round", kSchedule[] = "#schedule";

}  // namespace

absl::Status Recall(EngineState& state) {
  for (const auto& [key, value] : state.options.memory) {
    if (key == kAccounts) {
      FEDWATT_RETURN_IF_ERROR(state.budget.Restore(value));
    } else if (key == kRound) {
      continue;  // once all histories are there
    } else if (key == kSchedule) {
      const std::vector<std::string> words = absl::StrSplit(value, ' ');
      double deferred = 0;
      if (words.size() != 2 || !absl::SimpleAtod(words[0], &deferred) || !absl::SimpleAtod(words[1], &state.round_seconds) || !(deferred >= 0) ||
          !std::isfinite(deferred) || !(state.round_seconds >= 0) || !std::isfinite(state.round_seconds)) {
        return absl::DataLossError(absl::StrCat("the schedule is damaged: '", value.substr(0, 80), "'"));
      }
      state.deferred = absl::Seconds(deferred);
    } else {
      FEDWATT_ASSIGN_OR_RETURN(ClientHistory history, ClientHistory::Parse(value));
      state.histories.emplace(key, std::move(history));
    }
  }
  // Its attempts go on, and so do their reservations.
  if (auto round = state.options.memory.find(kRound); round != state.options.memory.end()) FEDWATT_RETURN_IF_ERROR(RestoreRound(state, round->second));
  std::set<std::string> going_on;
  for (const auto& [id, attempt] : state.attempts) going_on.insert(HistoryKey(attempt.client, attempt.partition));
  // Other attempts that were under way when the coordinator died may have taken all that was reserved for them.
  for (auto& [key, history] : state.histories) {
    if ((history.open_uj == 0 && history.open_ug == 0) || going_on.contains(key)) continue;
    state.budget.Forfeit(history);
    state.forfeited.push_back(key);
  }
  return absl::OkStatus();
}

std::pair<std::string, std::string> MemoryOfOpenRound(const EngineState& state) { return {kRound, SaveRound(state)}; }

Memory MemoryOf(EngineState& state) {
  Memory memory;
  memory.emplace_back(kAccounts, state.budget.Save());
  memory.emplace_back(kSchedule, absl::StrFormat("%.17g %.17g", absl::ToDoubleSeconds(state.deferred), state.round_seconds));
  for (const auto& [id, attempt] : state.attempts) {
    const std::string key = HistoryKey(attempt.client, attempt.partition);
    if (auto history = state.histories.find(key); history != state.histories.end()) memory.emplace_back(key, history->second.Save());
  }
  // With the accounts that hold their forfeits; otherwise a second restart would charge them again.
  for (const std::string& key : std::exchange(state.forfeited, {})) memory.emplace_back(key, state.histories.at(key).Save());
  return memory;
}

void DescribeBudget(EngineState& state) {
  const Account &joules = state.budget.federation(), &grams = state.budget.carbon();
  if (joules.left()) state.record.budget_left = Microjoules(*joules.left());
  if (grams.left()) state.record.budget_carbon_left = Micrograms(*grams.left());
}

void NoteWork(EngineState& state, const Attempt& attempt, absl::Time at, const std::optional<absl::Duration>& training, bool finished) {
  if (!attempt.cost || !FitPolicies().Find(state.options.fit.policy)->measures) return;
  // The coordinator's own clock bounds what a client can claim.
  const absl::Duration elapsed = std::max(at - attempt.started, absl::ZeroDuration());
  const absl::Duration train = std::clamp(training.value_or(elapsed), absl::ZeroDuration(), elapsed);
  WorkSample sample{.at = at, .macs = attempt.cost->macs_per_example, .parameters = attempt.cost->parameters, .finished = finished};
  sample.train_seconds = absl::ToDoubleSeconds(train);
  sample.transfer_seconds = absl::ToDoubleSeconds(elapsed - train);
  if (attempt.energy) sample.joules = attempt.energy->joules();
  state.histories[HistoryKey(attempt.client, attempt.partition)].work.Note(sample);
}

void SettleAttempt(EngineState& state, const Attempt& attempt) {
  ClientHistory& history = state.histories[HistoryKey(attempt.client, attempt.partition)];
  const EngineOptions& options = state.options;
  // Where nothing was said: the longest that it can have run at the most that its device can draw.
  const absl::Duration elapsed = std::max(state.now - attempt.started, absl::ZeroDuration());
  int64_t microjoules = attempt.energy.value_or(attempt.max_power.value_or(options.budget.max_power) * elapsed).microjoules();
  // More than the device can draw is not credible, here or in what is learned of the client.
  if (options.budget.limited()) microjoules = std::min(microjoules, attempt.claim.most_uj);
  if (attempt.energy.has_value()) history.NoteCost(microjoules);
  int64_t micrograms = attempt.claim.most_ug;
  if (options.carbon != nullptr && attempt.site) {
    const CarbonReading reading = options.carbon->Account(*attempt.site, Microjoules(microjoules), attempt.started, state.now);
    if (reading.operational) micrograms = reading.operational->micrograms();
  }
  if (FEDWATT_PLANTED(joules_not_charged)) microjoules = 0;
  state.budget.Settle(history, attempt.claim, microjoules, micrograms);
}

}  // namespace fedwatt::internal

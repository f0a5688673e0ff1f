#include "fedwatt/round/budget.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt {
namespace {

constexpr double kWeight = 0.3;           // of the newest of several costs
constexpr double kNinetiethPercentile = 1.2816;  // of a standard normal
constexpr int64_t kMost = std::numeric_limits<int64_t>::max() / 4;  // "no bound is known", far from overflow

int64_t DayOf(absl::Time now) { return absl::ToInt64Hours(absl::Floor(now - absl::UnixEpoch(), absl::Hours(24))) / 24; }

int64_t Bounded(double value) { return value >= static_cast<double>(kMost) ? kMost : std::llround(std::max(value, 0.0)); }

absl::Status Bad(std::string_view name, std::string_view range, double got) {
  return absl::InvalidArgumentError(absl::StrCat("budget.", std::string(name), ": expected ", std::string(range), ", got ", got));
}

}  // namespace

absl::Status ValidateBudgetOptions(const BudgetOptions& options) {
  const auto positive = [](std::string_view name, bool set, double value) { return set && !(value > 0) ? Bad(name, "more than 0", value) : absl::OkStatus(); };
  FEDWATT_RETURN_IF_ERROR(positive("client_joules_per_day", options.client_per_day.has_value(), options.client_per_day.value_or(Energy()).joules()));
  FEDWATT_RETURN_IF_ERROR(positive("round_joules", options.per_round.has_value(), options.per_round.value_or(Energy()).joules()));
  FEDWATT_RETURN_IF_ERROR(positive("federation_joules", options.federation.has_value(), options.federation.value_or(Energy()).joules()));
  FEDWATT_RETURN_IF_ERROR(positive("federation_grams", options.federation_carbon.has_value(), options.federation_carbon.value_or(CarbonMass()).grams()));
  if (!(options.battery_floor >= 0 && options.battery_floor <= 1)) return Bad("battery_floor", "[0, 1]", options.battery_floor);
  FEDWATT_RETURN_IF_ERROR(positive("max_g_per_kwh", true, options.max_g_per_kwh));
  if (!(options.max_power.watts() >= 0 && std::isfinite(options.max_power.watts()))) return Bad("max_watts", "at least 0", options.max_power.watts());
  if (options.limited() && !(options.max_power.watts() > 0)) {
    return absl::InvalidArgumentError("budget.max_watts: a budget can hold only where the most that a device can draw is known; expected more than 0, got 0");
  }
  return absl::OkStatus();
}

void ClientHistory::NoteCost(int64_t microjoules) {
  const double cost = static_cast<double>(microjoules);
  if (cost_count++ == 0) {
    cost_mean_uj = cost;
    cost_variance = cost * cost / 16;  // one sample says nothing of its spread: a quarter of it
    return;
  }
  const double step = cost - cost_mean_uj;
  cost_mean_uj += kWeight * step;
  cost_variance = (1 - kWeight) * (cost_variance + kWeight * step * step);
}

void ClientHistory::NoteSeconds(double value) { seconds = seconds > 0 ? seconds + kWeight * (value - seconds) : value; }

std::optional<int64_t> ClientHistory::UpperCost() const {
  if (cost_count == 0) return std::nullopt;
  return Bounded(cost_mean_uj + kNinetiethPercentile * std::sqrt(std::max(cost_variance, 0.0)));
}

std::string ClientHistory::Save() const {
  return absl::StrFormat("1 %d %d %d %s %d %d %.17g %.17g %.17g %d %d %d %d", last_selected_round, selected_count, accepted_count,
                         train_loss ? absl::StrFormat("%.17g", *train_loss) : std::string("-"), example_count, cost_count, cost_mean_uj, cost_variance, seconds, day,
                         day_spent_uj, open_uj, open_ug) +
         (work.samples().empty() ? "" : absl::StrCat(" ", work.Save()));
}

absl::StatusOr<ClientHistory> ClientHistory::Parse(std::string_view text) {
  std::vector<std::string> words = absl::StrSplit(std::string(text), ' ');
  constexpr size_t kWords = 14;
  ClientHistory history;
  if (words.size() > kWords) {
    FEDWATT_ASSIGN_OR_RETURN(history.work, WorkHistory::Parse(absl::StrJoin(words.begin() + kWords, words.end(), " ")));
    words.resize(kWords);
  }
  double loss = 0;
  bool good = words.size() == kWords && words[0] == "1" && absl::SimpleAtoi(words[1], &history.last_selected_round) &&
              absl::SimpleAtoi(words[2], &history.selected_count) && absl::SimpleAtoi(words[3], &history.accepted_count) &&
              (words[4] == "-" || (absl::SimpleAtod(words[4], &loss) && std::isfinite(loss))) && absl::SimpleAtoi(words[5], &history.example_count) &&
              absl::SimpleAtoi(words[6], &history.cost_count) && absl::SimpleAtod(words[7], &history.cost_mean_uj) &&
              absl::SimpleAtod(words[8], &history.cost_variance) && absl::SimpleAtod(words[9], &history.seconds) &&
              absl::SimpleAtoi(words[10], &history.day) && absl::SimpleAtoi(words[11], &history.day_spent_uj) &&
              absl::SimpleAtoi(words[12], &history.open_uj) && absl::SimpleAtoi(words[13], &history.open_ug);
  good = good && history.open_uj >= 0 && history.open_ug >= 0 && history.day_spent_uj >= 0 && std::isfinite(history.cost_mean_uj) && std::isfinite(history.cost_variance) &&
         std::isfinite(history.seconds);
  if (!good) return absl::DataLossError(absl::StrCat("a client's history is damaged: '", std::string(text.substr(0, 80)), "'"));
  if (words[4] != "-") history.train_loss = loss;
  return history;
}

Budget::Budget(const BudgetOptions& options) : options_(options) {
  const auto microjoules = [](const std::optional<Energy>& energy) { return energy ? std::optional<int64_t>(energy->microjoules()) : std::nullopt; };
  round_ = Account(microjoules(options.per_round));
  federation_ = Account(microjoules(options.federation));
  carbon_ = Account(options.federation_carbon ? std::optional<int64_t>(options.federation_carbon->micrograms()) : std::nullopt);
}

std::optional<Energy> Budget::LeftToday(ClientHistory& history, absl::Time now) const {
  if (const int64_t today = DayOf(now); today != history.day) {
    // One day's allowance a day that has passed pays for debts.
    const double paid = options_.client_per_day ? static_cast<double>(options_.client_per_day->microjoules()) * static_cast<double>(std::max<int64_t>(today - history.day, 0)) : 0;
    history.day_spent_uj = options_.client_per_day ? Bounded(static_cast<double>(history.day_spent_uj) - paid) : 0;
    history.day = today;
  }
  if (!options_.client_per_day) return std::nullopt;
  return Microjoules(std::max<int64_t>(options_.client_per_day->microjoules() - history.day_spent_uj, 0));
}

std::optional<std::string> Budget::Refuses(ClientHistory& history, const std::optional<double>& battery_fraction, bool charging, absl::Time now,
                                           const std::optional<int64_t>& expected_uj) const {
  if (battery_fraction.has_value() && !charging && *battery_fraction < options_.battery_floor) return "battery_floor";
  LeftToday(history, now);
  if (!options_.client_per_day) return std::nullopt;
  const int64_t limit = options_.client_per_day->microjoules();
  // Of a client that never told its joules, nothing is known but that it has spent nothing today.
  const int64_t expected = expected_uj.value_or(history.UpperCost().value_or(0));
  const bool first = history.day_spent_uj == 0 && history.cost_count == 0;
  if (!first && (history.day_spent_uj >= limit || expected > limit - history.day_spent_uj)) return "client_budget";
  return std::nullopt;
}

Claim Budget::Price(const ClientHistory& history, const std::optional<Power>& max_power, absl::Duration longest, const std::optional<double>& g_per_kwh,
                    const std::optional<int64_t>& expected_uj) const {
  const double watts = max_power ? max_power->watts() : options_.max_power.watts();
  Claim claim;
  if (!options_.limited()) return claim;  // nothing is held, only counted
  claim.most_uj = watts > 0 && longest < absl::InfiniteDuration() ? Bounded(watts * absl::ToDoubleSeconds(longest) * 1e6) : kMost;
  claim.expected_uj = std::min(expected_uj.value_or(history.UpperCost().value_or(claim.most_uj)), claim.most_uj);
  constexpr double kMicrojoulesPerMicrogramFactor = 3.6e6;  // micrograms = microjoules * g_per_kwh / 3.6e6
  const double worst = std::max(options_.max_g_per_kwh, g_per_kwh.value_or(0));
  claim.most_ug = Bounded(static_cast<double>(claim.most_uj) * worst / kMicrojoulesPerMicrogramFactor);
  claim.expected_ug = Bounded(static_cast<double>(claim.expected_uj) * g_per_kwh.value_or(worst) / kMicrojoulesPerMicrogramFactor);
  return claim;
}

std::optional<std::string> Budget::Reserve(ClientHistory& history, const Claim& claim) {
  if (!federation_.Admits(claim.expected_uj)) return "federation_budget";
  if (!carbon_.Admits(claim.expected_ug)) return "carbon_budget";
  if (!round_.Admits(claim.expected_uj)) return "round_budget";
  Readmit(history, claim);
  return std::nullopt;
}

void Budget::Readmit(ClientHistory& history, const Claim& claim) {
  federation_.Reserve(claim.most_uj);
  carbon_.Reserve(claim.most_ug);
  round_.Reserve(claim.most_uj);
  history.open_uj = claim.most_uj;
  history.open_ug = claim.most_ug;
}

void Budget::Settle(ClientHistory& history, const Claim& claim, int64_t microjoules, int64_t micrograms) {
  const bool limited = options_.limited();
  const int64_t actual_uj = std::clamp<int64_t>(microjoules, 0, limited ? claim.most_uj : kMost), actual_ug = std::clamp<int64_t>(micrograms, 0, limited ? claim.most_ug : kMost);
  federation_.Settle(claim.most_uj, actual_uj);
  carbon_.Settle(claim.most_ug, actual_ug);
  round_.Settle(claim.most_uj, actual_uj);
  history.day_spent_uj = Bounded(static_cast<double>(history.day_spent_uj) + static_cast<double>(actual_uj));
  history.open_uj = history.open_ug = 0;
}

void Budget::Forfeit(ClientHistory& history) {
  if (history.open_uj == 0 && history.open_ug == 0) return;
  federation_.Restore(federation_.spent() + history.open_uj);
  carbon_.Restore(carbon_.spent() + history.open_ug);
  history.day_spent_uj = Bounded(static_cast<double>(history.day_spent_uj) + static_cast<double>(history.open_uj));
  history.open_uj = history.open_ug = 0;
}

std::string Budget::Save() const { return absl::StrCat("1 ", federation_.spent(), " ", carbon_.spent(), " ", round_.spent()); }

absl::Status Budget::Restore(std::string_view text) {
  const std::vector<std::string> words = absl::StrSplit(std::string(text), ' ');
  int64_t federation = 0, carbon = 0, round = 0;
  if (words.size() != 4 || words[0] != "1" || !absl::SimpleAtoi(words[1], &federation) || !absl::SimpleAtoi(words[2], &carbon) ||
      !absl::SimpleAtoi(words[3], &round) || federation < 0 || carbon < 0 || round < 0) {
    return absl::DataLossError(absl::StrCat("the accounts are damaged: '", std::string(text.substr(0, 80)), "'"));
  }
  federation_.Restore(federation);
  carbon_.Restore(carbon);
  round_.Restore(round);
  return absl::OkStatus();
}

}  // namespace fedwatt

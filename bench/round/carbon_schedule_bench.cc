// What carbon_aware saves, and what there is to save: the round engine in virtual time over made-up series in the style of recorded ones
// (recorded_style.h), forecasts replayed as they were issued; 100 equal clients at four sites, 10 a round, 96 rounds of 15 minutes, that is a day of work.
// Each start is compared with the policy `uniform` begun at the same time, and with a bound that knows the future:
//
//   least grams of any schedule that starts 96 rounds of 10 clients in the 15-minute slots of the window, with each site's clients asked between f m,
//   rounded down, and (2 - f) m, rounded up, times, f = fairness and m the mean: the policy's own bounds. Computed as the dual of that linear program
//   by subgradient steps, so it is a bound from below whatever the number of steps.
//
//   build/release/bin/carbon_schedule_bench [starts]          the table
//   build/release/bin/carbon_schedule_bench --csv SEED FILE   the series alone
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>

#include "absl/strings/str_cat.h"
#include "bench/round/recorded_style.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/round/engine.h"

namespace fedwatt::bench {
namespace {

constexpr int64_t kClients = 100, kCohort = 10, kRounds = 96;
constexpr absl::Duration kRound = absl::Minutes(15);
constexpr double kWatts = 5, kFairness = 0.5;
constexpr int kDays = 10;

struct Outcome {
  double grams = 0, gini = 0, hours = 0;
};

double Gini(std::vector<int64_t> counts) {
  std::sort(counts.begin(), counts.end());
  double weighted = 0, sum = 0;
  const double n = static_cast<double>(counts.size());
  for (size_t i = 0; i < counts.size(); ++i) {
    weighted += static_cast<double>(i + 1) * static_cast<double>(counts[i]);
    sum += static_cast<double>(counts[i]);
  }
  return (2 * weighted - (n + 1) * sum) / (n * sum);
}

// Runs all rounds from `start` on; clients never fail, and take all alike.
Outcome Simulate(const std::shared_ptr<const CarbonModel>& carbon, const std::string& policy, absl::Duration slack, absl::Time start, uint64_t seed) {
  EngineOptions options;
  options.run_id = "carbon";
  options.seed = seed;
  options.rounds = kRounds;
  options.clients_per_round = kCohort;
  options.wait_for_clients = kClients;
  options.deadline = kRound + absl::Minutes(1);
  options.evaluates = false;
  options.carbon = carbon;
  options.selection.policy = policy;
  options.selection.slack = slack;
  options.selection.fairness = kFairness;
  absl::StatusOr<Engine> engine = Engine::Create(options);
  FEDWATT_CHECK(engine.ok());
  const size_t sites = carbon->sites().size();
  std::vector<int64_t> counts(kClients);
  Outcome outcome;
  absl::Time now = start, timer;
  std::vector<StartAttempt> started;
  bool finished = false, waits = false;
  const auto send = [&](const Event& event, auto& self) -> void {
    std::vector<Event> answers;
    for (const Effect& effect : engine->Handle(event, now)) {
      if (const auto* one = std::get_if<StartAttempt>(&effect)) {
        started.push_back(*one);
      } else if (const auto* fold = std::get_if<Fold>(&effect)) {
        answers.push_back(FoldFinished{fold->attempt, absl::OkStatus(), 100, 1.0});
      } else if (std::holds_alternative<Aggregate>(effect)) {
        answers.push_back(AggregateFinished{absl::OkStatus(), ""});
      } else if (std::holds_alternative<Publish>(effect)) {
        answers.push_back(PublishFinished{absl::OkStatus()});
      } else if (const auto* one_timer = std::get_if<SetTimer>(&effect)) {
        timer = one_timer->at;
      } else if (std::holds_alternative<Finish>(effect)) {
        finished = true;
      }
    }
    for (const Event& answer : answers) self(answer, self);
  };
  for (int64_t i = 0; i < kClients; ++i) send(MemberJoined{i, absl::StrCat("c", i), static_cast<size_t>(i) % sites, Watts(kWatts)}, send);
  while (!finished) {
    waits = started.empty();
    if (waits) {
      now = std::max(now, timer);
      send(Tick{}, send);
      continue;
    }
    const std::vector<StartAttempt> cohort = std::move(started);
    started.clear();
    const absl::Time begun = now;
    now += kRound;
    const Energy energy = Watts(kWatts) * kRound;
    for (const StartAttempt& one : cohort) {
      ++counts[static_cast<size_t>(one.partition)];
      const CarbonReading reading = carbon->Account(static_cast<size_t>(one.partition) % sites, energy, begun, now);
      FEDWATT_CHECK(reading.operational.has_value() && reading.basis == IntensityBasis::kObserved);
      outcome.grams += reading.operational->grams();
    }
    for (const StartAttempt& one : cohort) send(UpdateArrived{one.attempt, energy}, send);
  }
  outcome.hours = absl::ToDoubleHours(now - start);
  outcome.gini = Gini(counts);
  return outcome;
}

double Bound(const CarbonModel& carbon, absl::Time start, absl::Duration slack) {
  const size_t sites = carbon.sites().size();
  const int64_t slots = kRounds + static_cast<int64_t>(slack / kRound);
  const Energy energy = Watts(kWatts) * kRound;
  std::vector<std::vector<double>> price(static_cast<size_t>(slots), std::vector<double>(sites));
  for (int64_t t = 0; t < slots; ++t) {
    for (size_t s = 0; s < sites; ++s) {
      price[static_cast<size_t>(t)][s] = carbon.Account(s, energy, start + t * kRound, start + (t + 1) * kRound).operational->grams();
    }
  }
  const double capacity = static_cast<double>(kClients) / static_cast<double>(sites);
  const double mean = static_cast<double>(kRounds * kCohort) / static_cast<double>(kClients);
  const double low = capacity * std::floor(kFairness * mean), high = capacity * std::ceil((2 - kFairness) * mean);
  std::vector<double> upper(sites, 0), lower(sites, 0);
  double best = 0;
  std::vector<std::pair<double, size_t>> order(sites);
  for (int step = 1; step <= 4000; ++step) {
    std::vector<std::pair<double, size_t>> cost(static_cast<size_t>(slots));
    std::vector<std::vector<double>> taken(static_cast<size_t>(slots), std::vector<double>(sites, 0));
    for (size_t t = 0; t < cost.size(); ++t) {
      for (size_t s = 0; s < sites; ++s) order[s] = {price[t][s] + upper[s] - lower[s], s};
      std::sort(order.begin(), order.end());
      double left = kCohort, sum = 0;
      for (const auto& [value, s] : order) {
        const double take = std::min(left, capacity);
        taken[t][s] = take;
        sum += take * value;
        left -= take;
      }
      cost[t] = {sum, t};
    }
    std::sort(cost.begin(), cost.end());
    double value = 0;
    std::vector<double> total(sites, 0);
    for (int64_t r = 0; r < kRounds; ++r) {
      value += cost[static_cast<size_t>(r)].first;
      for (size_t s = 0; s < sites; ++s) total[s] += taken[cost[static_cast<size_t>(r)].second][s];
    }
    for (size_t s = 0; s < sites; ++s) value += lower[s] * low - upper[s] * high;
    best = std::max(best, value);
    const double length = 0.002 / std::sqrt(step) * price[0][0] / 10;
    for (size_t s = 0; s < sites; ++s) {
      upper[s] = std::max(0.0, upper[s] + length * (total[s] - high));
      lower[s] = std::max(0.0, lower[s] + length * (low - total[s]));
    }
  }
  return best;
}

struct Spread {
  std::vector<double> values;
  void Add(double value) { values.push_back(value); }
  std::string Text(const char* format) {
    std::sort(values.begin(), values.end());
    double sum = 0;
    for (double value : values) sum += value;
    char text[100];
    std::snprintf(text, sizeof(text), format, sum / static_cast<double>(values.size()), values.front(), values.back());
    return text;
  }
};

std::shared_ptr<const CarbonModel> Model(uint64_t seed) {
  std::vector<CarbonSite> sites;
  for (const Zone& zone : Zones()) sites.push_back(*ParseCarbonSite(absl::StrCat(zone.name.substr(2), " zone=", zone.name)));
  absl::StatusOr<CarbonModel> model = CarbonModel::Create(std::move(sites), RecordedStyle(seed, kDays), IntensityKind::kAverage, std::nullopt);
  FEDWATT_CHECK(model.ok());
  return std::make_shared<const CarbonModel>(*std::move(model));
}

int Table(int starts) {
  struct Row {
    const char* policy;
    absl::Duration slack;
    Spread cut, gap, gini, hours;
  };
  std::vector<Row> rows = {{"uniform", absl::ZeroDuration(), {}, {}, {}, {}},        {"carbon_aware", absl::ZeroDuration(), {}, {}, {}, {}},
                           {"carbon_aware", absl::Hours(6), {}, {}, {}, {}},         {"carbon_aware", absl::Hours(12), {}, {}, {}, {}},
                           {"carbon_aware", absl::Hours(24), {}, {}, {}, {}},        {"carbon_aware", absl::Hours(48), {}, {}, {}, {}}};
  for (int i = 0; i < starts; ++i) {
    const auto carbon = Model(static_cast<uint64_t>(i + 1));
    Random random(DeriveSeed("start", {static_cast<uint64_t>(i)}));
    // A whole day of history, and room for the longest window.
    const absl::Time start = kSeriesStart + absl::Hours(24) + kRound * static_cast<int64_t>(random.Below(4 * 24 * 4));
    const double uniform = Simulate(carbon, "uniform", absl::ZeroDuration(), start, static_cast<uint64_t>(i)).grams;
    for (Row& row : rows) {
      const Outcome outcome = Simulate(carbon, row.policy, row.slack, start, static_cast<uint64_t>(i));
      row.cut.Add(100 * (1 - outcome.grams / uniform));
      row.gap.Add(100 * (outcome.grams / Bound(*carbon, start, row.slack) - 1));
      row.gini.Add(outcome.gini);
      row.hours.Add(outcome.hours);
    }
  }
  std::printf("%d starts, each on a series of its own; mean (least, greatest)\n", starts);
  std::printf("%-13s %6s  %-26s %-26s %-22s %s\n", "policy", "slack", "% fewer grams than uniform", "% above the bound", "Gini of participation", "hours");
  for (Row& row : rows) {
    std::printf("%-13s %6s  %-26s %-26s %-22s %s\n", row.policy, absl::FormatDuration(row.slack).c_str(), row.cut.Text("%.1f (%.1f, %.1f)").c_str(),
                row.gap.Text("%.1f (%.1f, %.1f)").c_str(), row.gini.Text("%.2f (%.2f, %.2f)").c_str(), row.hours.Text("%.1f (%.1f, %.1f)").c_str());
  }
  return 0;
}

}  // namespace
}  // namespace fedwatt::bench

int main(int argc, char** argv) {
  if (argc == 4 && std::strcmp(argv[1], "--csv") == 0) {
    std::ofstream file(argv[3]);
    file << fedwatt::WriteIntensityCsv(fedwatt::bench::RecordedStyle(static_cast<uint64_t>(std::atoll(argv[2])), fedwatt::bench::kDays));
    return file.good() ? 0 : 1;
  }
  return fedwatt::bench::Table(argc > 1 ? std::atoi(argv[1]) : 20);
}

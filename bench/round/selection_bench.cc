// How long one round's selection takes among many members, budgets and histories included: the whole event that opens the round, by policy.
//
//   build/release/bin/selection_bench [members [repeats]]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "absl/strings/str_cat.h"
#include "bench/round/recorded_style.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/round/engine.h"

namespace fedwatt::bench {
namespace {

double CpuMilliseconds() { return 1e3 * static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

int Run(int64_t members, int repeats) {
  std::vector<CarbonSite> sites;
  for (const Zone& zone : Zones()) sites.push_back(*ParseCarbonSite(absl::StrCat(zone.name.substr(2), " zone=", zone.name)));
  const auto carbon = std::make_shared<const CarbonModel>(*CarbonModel::Create(std::move(sites), RecordedStyle(1, 10), IntensityKind::kAverage, std::nullopt));
  std::printf("%lld members, a tenth of them a round, 24 h of slack; CPU milliseconds of the event that opens a round, median (greatest) of %d rounds\n", static_cast<long long>(members), repeats);
  // Once more with the fit policy that looks at what each member's attempts took.
  const std::string by_budget_name = "uniform+by_budget";
  std::vector<std::string> names = SelectionPolicies().Names();
  names.push_back(by_budget_name);
  for (const std::string& name : names) {
    const bool by_budget = name == by_budget_name;
    const std::string policy = by_budget ? "uniform" : name;
    EngineOptions options;
    options.run_id = "selection";
    options.rounds = 1'000'000;
    options.clients_per_round = members / 10;
    options.wait_for_clients = members;
    options.evaluates = false;
    options.carbon = carbon;
    options.selection.policy = policy;
    options.selection.slack = absl::Hours(24);
    options.budget.client_per_day = Joules(1e6);
    options.budget.federation = Joules(1e11);
    options.budget.max_power = Watts(5);
    if (by_budget) options.fit = {.policy = "by_budget", .widths = {1, 0.5, 0.25, 0.125, 0.0625}};
    // With histories, as after many rounds.
    Random random(7);
    for (int64_t i = 0; i < members; ++i) {
      ClientHistory history;
      history.selected_count = static_cast<int64_t>(random.Below(20));
      history.last_selected_round = history.selected_count > 0 ? 1 + static_cast<int64_t>(random.Below(100)) : 0;
      history.train_loss = random.Uniform();
      history.example_count = 1 + static_cast<int64_t>(random.Below(500));
      for (int n = 0; n < 3; ++n) history.NoteCost(Joules(1 + 100 * random.Uniform()).microjoules());
      history.NoteSeconds(1 + 30 * random.Uniform());
      for (size_t n = 0; by_budget && n < WorkHistory::kMost; ++n) {
        const double macs = n % 2 == 0 ? 1e5 : 3e4;
        history.work.Note({.at = kSeriesStart, .macs = macs, .parameters = macs, .train_seconds = 600 * macs / 1e5 * (0.5 + random.Uniform()), .transfer_seconds = random.Uniform(), .joules = 5 * random.Uniform()});
      }
      options.memory[HistoryKey(absl::StrCat("c-", i), i)] = history.Save();
    }
    absl::StatusOr<Engine> engine = Engine::Create(options);
    FEDWATT_CHECK(engine.ok());
    absl::Time now = kSeriesStart + absl::Hours(48);
    std::vector<double> times;
    const auto handle = [&](const Event& event) {
      const double before = CpuMilliseconds();
      Effects effects = engine->Handle(event, now);
      const double took = CpuMilliseconds() - before;
      for (const Effect& effect : effects) {
        if (std::holds_alternative<StartAttempt>(effect)) {
          times.push_back(took);
          break;
        }
        if (const auto* timer = std::get_if<SetTimer>(&effect)) now = std::max(now, timer->at);
      }
      return effects;
    };
    if (by_budget) handle(ModelShaped{{{2e5, 2e5}, {1e5, 1e5}, {3e4, 3e4}, {1e4, 1e4}, {4e3, 4e3}}});
    for (int64_t i = 0; i < members; ++i) handle(MemberJoined{i, absl::StrCat("c-", i), static_cast<size_t>(i) % 4, Watts(5)});
    while (static_cast<int>(times.size()) < repeats) {
      if (engine->state().phase == RoundPhase::kIdle) {
        handle(Tick{});
        continue;
      }
      // Everybody drops out, so the round is abandoned and the next one opens.
      now += absl::Minutes(1);
      std::vector<std::string> ids;
      for (const auto& [id, attempt] : engine->state().attempts) ids.push_back(id);
      for (const std::string& id : ids) handle(AttemptFailed{id, Rejection::kDisconnected, Joules(5)});
    }
    std::sort(times.begin(), times.end());
    std::printf("%-17s %8.2f (%.2f)\n", name.c_str(), times[times.size() / 2], times.back());
  }
  return 0;
}

}  // namespace
}  // namespace fedwatt::bench

int main(int argc, char** argv) { return fedwatt::bench::Run(argc > 1 ? std::atoll(argv[1]) : 10000, argc > 2 ? std::atoi(argv[2]) : 15); }

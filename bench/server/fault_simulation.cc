// Runs that a seed describes, with faults, in virtual time; prints what came of them as one line of JSON, and each broken promise with the seed that breaks it.
//
//   fault_simulation [FIRST_SEED] [SEEDS]     the runs of these seeds
//   fault_simulation show SEED                one of them, printed as it happens
//   fault_simulation crashes [SEEDS]          the crash matrix: 168 cells, each with that many seeds (500)
//   fault_simulation bug NAME [SEEDS]         in a build with planted bugs: how many seeds it takes until this one is found, of at most SEEDS (20000)
//
// Exit 1 where a promise was broken, or a planted bug kept all of them.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/process.h"
#include "fedwatt/base/planted.h"
#include "tests/fault/crash_points.h"
#include "tests/fault/simulation.h"

namespace fedwatt::testing {
namespace {

int Show(uint64_t seed) {
  const Scenario scenario = ExpandSeed(seed);
  std::printf("%s\n", Describe(scenario).c_str());
  const SimulationResult result = Simulate(scenario, [](const std::string& line) { std::printf("%s\n", line.c_str()); });
  for (const std::string& violation : result.violations) std::printf("seed %lu: %s\n", seed, violation.c_str());
  std::printf("trace %016lx\n", result.trace);
  return result.violations.empty() ? 0 : 1;
}

int Run(uint64_t first, uint64_t count) {
  const absl::Duration begin = ProcessCpuTime();
  int64_t rounds = 0, committed = 0, uploads = 0, faults = 0, crashes = 0, exits = 0, broken = 0;
  absl::Duration simulated;
  std::map<std::string, int64_t> kinds;
  uint64_t trace = 0;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    const SimulationResult result = Simulate(ExpandSeed(seed));
    for (const std::string& violation : result.violations) std::printf("seed %lu: %s\n", seed, violation.c_str());
    broken += !result.violations.empty();
    rounds += result.rounds;
    committed += result.committed;
    uploads += result.uploads;
    faults += result.fault_count();
    crashes += result.crashes;
    exits += result.exits;
    simulated += result.simulated;
    trace = trace * 31 + result.trace;
    for (const auto& [kind, times] : result.faults) kinds[kind] += times;
    std::fflush(stdout);
  }
  const double seconds = absl::ToDoubleSeconds(ProcessCpuTime() - begin), n = std::max<double>(1, static_cast<double>(rounds));
  std::string text;
  for (const auto& [kind, times] : kinds) absl::StrAppend(&text, text.empty() ? "" : ", ", "\"", kind, "\": ", times);
  std::printf(
      "{\"first_seed\": %lu, \"seeds\": %lu, \"broken\": %ld, \"rounds\": %ld, \"committed\": %ld, \"uploads_per_round\": %.2f, \"faults_per_round\": %.2f, \"crashes\": %ld, \"exits\": %ld, "
      "\"simulated_hours\": %.1f, \"cpu_seconds\": %.1f, \"rounds_per_cpu_second\": %.0f, \"simulated_hours_per_cpu_hour\": %.0f, \"trace\": \"%016lx\", \"faults\": {%s}}\n",
      first, count, broken, rounds, committed, static_cast<double>(uploads) / n, static_cast<double>(faults) / n, crashes, exits, absl::ToDoubleHours(simulated), seconds,
      static_cast<double>(rounds) / seconds, absl::ToDoubleSeconds(simulated) / seconds, trace, text.c_str());
  return broken == 0 ? 0 : 1;
}

int Crashes(int64_t seeds) {
  const absl::Duration begin = ProcessCpuTime();
  int64_t cells = 0, runs = 0, crashed = 0, failed = 0;
  for (const CrashPoint& point : CrashPoints()) {
    for (const Loss loss : kLosses) {
      for (const bool nested : {false, true}) {
        const CrashCell cell{point, loss, nested};
        const CrashCellResult result = RunCrashCell(cell, 1, seeds);
        ++cells;
        runs += result.runs;
        crashed += result.crashed;
        failed += !result.failures.empty();
        for (const std::string& failure : result.failures) std::printf("%s: %s\n", cell.Name().c_str(), failure.c_str());
      }
    }
    std::fflush(stdout);
  }
  std::printf("{\"cells\": %ld, \"runs\": %ld, \"crashed_as_planned\": %ld, \"cells_broken\": %ld, \"cpu_seconds\": %.1f}\n", cells, runs, crashed, failed, absl::ToDoubleSeconds(ProcessCpuTime() - begin));
  return failed == 0 && crashed == runs ? 0 : 1;
}

#ifdef FEDWATT_PLANT_BUGS
int Bug(const std::string& name, uint64_t most) {
  const absl::Duration begin = ProcessCpuTime();
  PlantBug(name);
  for (uint64_t seed = 1; seed <= most; ++seed) {
    const SimulationResult result = Simulate(ExpandSeed(seed));
    if (result.violations.empty()) continue;
    std::printf("%s\t%lu\t%.1f\t%s\n", name.c_str(), seed, absl::ToDoubleSeconds(ProcessCpuTime() - begin), result.violations[0].c_str());
    return 0;
  }
  std::printf("%s\t-\t%.1f\tnot found\n", name.c_str(), absl::ToDoubleSeconds(ProcessCpuTime() - begin));
  return 1;
}
#endif

int Main(int argc, char** argv) {
#ifdef FEDWATT_PLANT_BUGS
  if (argc >= 3 && std::strcmp(argv[1], "bug") == 0) return Bug(argv[2], argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 20000);
#endif
  if (argc >= 2 && std::strcmp(argv[1], "crashes") == 0) return Crashes(argc > 2 ? std::atol(argv[2]) : 500);
  if (argc == 3 && std::strcmp(argv[1], "show") == 0) return Show(std::strtoull(argv[2], nullptr, 10));
  return Run(argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1, argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1000);
}

}  // namespace
}  // namespace fedwatt::testing

int main(int argc, char** argv) { return fedwatt::testing::Main(argc, argv); }

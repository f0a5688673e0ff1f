// How often PlausibilityChecker finds a client that reports 30 % too little or too much, and an honest one by mistake, by how alike the honest devices of the
// class are and how often each has reported. 100 clients, a tenth of them liars; 200 federations a cell.
//
//   build/release/bin/misreport_bench [federations]
#include <cstdio>
#include <cstdlib>

#include "tests/energy/misreports.h"

int main(int argc, char** argv) {
  using namespace fedwatt::testing;
  const int federations = argc > 1 ? std::atoi(argv[1]) : 200;
  std::printf("%8s %8s %8s  %14s %14s %14s\n", "between", "within", "reports", "% found at 0.7", "% found at 1.3", "% false alarms");
  for (double between : {0.03, 0.05, 0.08, 0.12}) {
    for (double within : {0.05, 0.12}) {
      for (int64_t reports : {5, 20, 60}) {
        double found[2] = {0, 0}, alarms = 0, honest = 0;
        for (int which = 0; which < 2; ++which) {
          int64_t lying = 0, flagged = 0;
          for (int i = 0; i < federations; ++i) {
            const MisreportOutcome one = DetectMisreports({.factor = which == 0 ? 0.7 : 1.3, .between = between, .within = within, .reports = reports}, static_cast<uint64_t>(i));
            lying += one.lying;
            flagged += one.flagged_lying;
            honest += static_cast<double>(one.honest);
            alarms += static_cast<double>(one.flagged_honest);
          }
          found[which] = 100 * static_cast<double>(flagged) / static_cast<double>(lying);
        }
        std::printf("%7.0f%% %7.0f%% %8lld  %14.1f %14.1f %14.2f\n", 100 * between, 100 * within, static_cast<long long>(reports), found[0], found[1], 100 * alarms / honest);
      }
    }
  }
  return 0;
}

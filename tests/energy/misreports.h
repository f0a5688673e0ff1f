// Honest and lying clients for the plausibility checks.
#ifndef FEDWATT_TESTS_ENERGY_MISREPORTS_H_
#define FEDWATT_TESTS_ENERGY_MISREPORTS_H_

#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/random.h"
#include "fedwatt/energy/plausibility.h"

namespace fedwatt::testing {

struct MisreportOptions {
  int64_t clients = 100;
  double liars = 0.1;      // of them
  double factor = 1.3;     // on what they report
  double between = 0.05;   // relative spread of honest devices of the class
  double within = 0.12;    // of one device's reports
  int64_t reports = 20;    // of each client
};
struct MisreportOutcome {
  int64_t honest = 0, flagged_honest = 0, lying = 0, flagged_lying = 0;
};

// One federation: who is conspicuous once everybody has reported so often.
inline MisreportOutcome DetectMisreports(const MisreportOptions& options, uint64_t seed) {
  Random random(DeriveSeed("misreports", {seed}));
  PlausibilityChecker checker;
  const int64_t lying = static_cast<int64_t>(options.liars * static_cast<double>(options.clients) + 0.5);
  for (int64_t i = 0; i < options.clients; ++i) {
    const double device = std::exp(options.between * random.Normal());
    for (int64_t n = 0; n < options.reports; ++n) {
      ReportClaim claim{.client = absl::StrCat("c", i), .energy_class = "phone"};
      claim.macs = 1e9 * (1 + random.Uniform());
      claim.train_energy = Joules(1e-8 * claim.macs * device * std::exp(options.within * random.Normal()) * (i < lying ? options.factor : 1));
      checker.Learn(claim);
    }
  }
  MisreportOutcome outcome;
  for (int64_t i = 0; i < options.clients; ++i) {
    const bool flagged = !checker.Conspicuous(absl::StrCat("c", i)).empty();
    ++(i < lying ? outcome.lying : outcome.honest);
    (i < lying ? outcome.flagged_lying : outcome.flagged_honest) += flagged;
  }
  return outcome;
}

}  // namespace fedwatt::testing

#endif  // FEDWATT_TESTS_ENERGY_MISREPORTS_H_

// Do budgets hold? 100,000 rounds of federations whose clients drop out, lie and run low, under forecasts that say the opposite of what comes, with a
// coordinator that is killed in mid-round: tests/testing/hostile_fleet.h. Exit code 1 where a bound is broken.
//
//   build/release/bin/budget_bench [rounds [seed]]
#include <cstdio>
#include <cstdlib>

#include "tests/testing/hostile_fleet.h"

int main(int argc, char** argv) {
  using namespace fedwatt;
  const int64_t rounds = argc > 1 ? std::atoll(argv[1]) : 100000;
  const uint64_t seed = argc > 2 ? static_cast<uint64_t>(std::atoll(argv[2])) : 1;
  bool good = true;
  std::printf("%-17s %5s %8s %6s %9s %8s %8s %8s %8s %8s %8s %7s %6s\n", "policy", "lies", "rounds", "feds", "attempts", "restarts", "client", "round", "joules", "grams",
              "truly", "floor", "books");
  const std::vector<std::string> policies = SelectionPolicies().Names();
  for (const std::string& policy : policies) {
    for (const bool lies : {true, false}) {
      testing::HostileOptions options;
      options.seed = seed;
      options.policy = policy;
      options.misreports = lies;
      options.rounds = rounds / (2 * static_cast<int64_t>(policies.size())) + 1;
      const testing::HostileOutcome o = testing::HostileFleet(options).Run();
      std::printf("%-17s %5s %8lld %6lld %9lld %8lld %8.3f %8.3f %8.3f %8.3f %8.3f %7lld %6lld\n", policy.c_str(), lies ? "yes" : "no", static_cast<long long>(o.rounds),
                  static_cast<long long>(o.federations), static_cast<long long>(o.attempts), static_cast<long long>(o.restarts), o.client_overspend, o.round_overspend,
                  o.federation_overspend, o.carbon_overspend, o.true_overspend, static_cast<long long>(o.below_floor), static_cast<long long>(o.books_differ));
      good = good && o.client_overspend <= 1 && o.round_overspend <= 1 && o.federation_overspend <= 1 && o.carbon_overspend <= 1 && o.below_floor == 0 && o.books_differ == 0 &&
             (lies || o.true_overspend <= 1);
    }
  }
  std::printf("client, round, joules, grams, truly: greatest overspend in units of the greatest single attempt (at most 1 is allowed); truly: joules that really\n"
              "went, which no book can bound where clients lie; floor: attempts below the battery floor; books: rounds where two sets of books differ\n");
  return good ? 0 : 1;
}

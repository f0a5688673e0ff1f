// A short run of bench/round/budget_bench: budgets hold against a hostile world.
#include "tests/testing/hostile_fleet.h"

#include "fedwatt/round/selection.h"
#include "gtest/gtest.h"

namespace fedwatt::testing {
namespace {

class HostileFleetTest : public ::testing::TestWithParam<std::string> {};

TEST_P(HostileFleetTest, OverspendsByLessThanOneAttemptAndSpendsNothingTwice) {
  HostileOptions options;
  options.policy = GetParam();
  options.rounds = GetParam() == "carbon_aware" ? 400 : 2500;  // it plans, and waits a lot
  const HostileOutcome outcome = HostileFleet(options).Run();
  EXPECT_EQ(outcome.books_differ, 0);
  EXPECT_EQ(outcome.below_floor, 0);
  EXPECT_LE(outcome.client_overspend, 1);
  EXPECT_LE(outcome.round_overspend, 1);
  EXPECT_LE(outcome.federation_overspend, 1);
  EXPECT_LE(outcome.carbon_overspend, 1);
  // The world was as hostile as it claims, or the above would say little.
  EXPECT_GT(outcome.federations, 3);
  EXPECT_GT(outcome.restarts, 3);
  EXPECT_GT(outcome.client_overspend, 0);
  for (const char* reason : {"battery_floor", "client_budget"}) EXPECT_GT(outcome.refusals.count(reason), 0u) << reason;
}

TEST_P(HostileFleetTest, WithoutLiesTheJoulesThatReallyWentAreWithinTheBudgetToo) {
  HostileOptions options;
  options.policy = GetParam();
  options.seed = 2;
  options.rounds = GetParam() == "carbon_aware" ? 200 : 1000;
  options.misreports = false;
  EXPECT_LE(HostileFleet(options).Run().true_overspend, 1);
}

INSTANTIATE_TEST_SUITE_P(Policies, HostileFleetTest, ::testing::ValuesIn(SelectionPolicies().Names()));

}  // namespace
}  // namespace fedwatt::testing

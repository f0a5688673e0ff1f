#include "fedwatt/energy/plausibility.h"

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/energy/misreports.h"

namespace fedwatt {
namespace {

ReportClaim Honest() {
  ReportClaim claim{.client = "c", .energy_class = "k"};
  claim.wall = absl::Seconds(9);
  claim.elapsed = absl::Seconds(10);
  claim.energy = Joules(40);
  claim.max_power = Watts(5);
  claim.uplink_payload_bytes = claim.received_bytes = 1000;
  claim.downlink_payload_bytes = 2000;
  claim.sent_bytes = 2500;  // with what a retry sent twice
  return claim;
}

TEST(PlausibilityTest, FindsWhatCannotBe) {
  EXPECT_EQ(PlausibilityChecker::Impossible(Honest()), "");
  ReportClaim claim = Honest();
  claim.wall = absl::Seconds(17);  // 10 s, a tenth and 5 s are 16 s
  EXPECT_EQ(PlausibilityChecker::Impossible(claim), "wall_beyond_elapsed");
  claim = Honest();
  claim.energy = Joules(81);  // 5 W for 16 s are 80 J
  EXPECT_EQ(PlausibilityChecker::Impossible(claim), "power_beyond_device");
  claim.max_power = Power();  // not known
  EXPECT_EQ(PlausibilityChecker::Impossible(claim), "");
  claim = Honest();
  claim.between_wall = absl::Seconds(30);
  claim.between_energy = Joules(190);  // 5 W for 30 s, a tenth and 5 s
  EXPECT_EQ(PlausibilityChecker::Impossible(claim), "");
  claim.between_energy = Joules(191);
  EXPECT_EQ(PlausibilityChecker::Impossible(claim), "power_beyond_device");
  claim = Honest();
  claim.uplink_payload_bytes = 999;
  EXPECT_EQ(PlausibilityChecker::Impossible(claim), "bytes_differ");
  claim = Honest();
  claim.downlink_payload_bytes = 2501;
  EXPECT_EQ(PlausibilityChecker::Impossible(claim), "bytes_differ");
  claim = Honest();
  claim.energy.reset();  // not metered is no lie
  EXPECT_EQ(PlausibilityChecker::Impossible(claim), "");
}

TEST(PlausibilityTest, SaysNothingOfFew) {
  PlausibilityChecker checker;
  EXPECT_EQ(checker.Conspicuous("nobody"), "");
  for (int client = 0; client < 7; ++client) {
    for (int n = 0; n < 20; ++n) {
      ReportClaim claim{.client = absl::StrCat(client), .energy_class = "k", .train_energy = Joules(client == 0 ? 1000 : 1), .macs = 1e6};
      checker.Learn(claim);
    }
  }
  EXPECT_EQ(checker.Conspicuous("0"), "");  // seven are no class
  for (int n = 0; n < 20; ++n) checker.Learn({.client = "7", .energy_class = "k", .train_energy = Joules(1 + 0.01 * n), .macs = 1e6});
  EXPECT_EQ(checker.Conspicuous("0"), "unlike_its_class");
  EXPECT_EQ(checker.Conspicuous("1"), "");
}

TEST(PlausibilityTest, FindsThirtyPercentMoreOrLessWithoutManyFalseAlarms) {
  for (double factor : {0.7, 1.3}) {
    testing::MisreportOutcome sum;
    for (uint64_t seed = 0; seed < 60; ++seed) {
      const testing::MisreportOutcome one = testing::DetectMisreports({.factor = factor}, seed);
      sum.honest += one.honest;
      sum.flagged_honest += one.flagged_honest;
      sum.lying += one.lying;
      sum.flagged_lying += one.flagged_lying;
    }
    // 600 liars and 5400 honest clients: a true 95 % would show less than 93 % in one of 100 seeds.
    EXPECT_GT(static_cast<double>(sum.flagged_lying), 0.93 * static_cast<double>(sum.lying)) << factor;
    EXPECT_LT(static_cast<double>(sum.flagged_honest), 0.014 * static_cast<double>(sum.honest)) << factor;
  }
}

}  // namespace
}  // namespace fedwatt

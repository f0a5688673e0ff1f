#include "fedwatt/energy/quantities.h"

#include <limits>
#include <vector>

#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::StatusIs;
using ::testing::HasSubstr;

constexpr EnergyTier kBestFirst[] = {
    EnergyTier::kWall, EnergyTier::kDevice, EnergyTier::kComponent, EnergyTier::kCalibratedHere,
    EnergyTier::kCalibratedClass, EnergyTier::kGeneric, EnergyTier::kMissing};

EnergyReading Reading(int64_t low, int64_t middle, int64_t high, EnergyTier tier, absl::Duration window) {
  EnergyReading reading;
  reading.low = Microjoules(low);
  reading.energy = Microjoules(middle);
  reading.high = Microjoules(high);
  reading.tier = tier;
  reading.source = "rapl";
  reading.domain = "package-0";
  reading.window = window;
  return reading;
}

TEST(EnergyTest, RoundsToTheNearestMicrojoule) {
  EXPECT_EQ(Joules(1.5).microjoules(), 1500000);
  EXPECT_EQ(Joules(0.0000014).microjoules(), 1);
  EXPECT_EQ(Joules(0.0000016).microjoules(), 2);
  EXPECT_EQ(Joules(0.00000025).microjoules(), 0);
  EXPECT_EQ(Joules(0.5e-6).microjoules(), 1);
  EXPECT_EQ(Joules(-0.5e-6).microjoules(), -1);
  EXPECT_EQ(Joules(-0.0000016).microjoules(), -2);
  EXPECT_EQ(Joules(0).microjoules(), 0);
  EXPECT_EQ(Microjoules(2500000).joules(), 2.5);
}

TEST(EnergyTest, HoldsTheDocumentedRange) {
  EXPECT_EQ(Joules(8.9e12).microjoules(), 8900000000000000000);
  EXPECT_EQ(Joules(-8.9e12).microjoules(), -8900000000000000000);
}

TEST(EnergyDeathTest, AbortsOutsideTheRange) {
  EXPECT_DEATH(Joules(9e12), "9e12");
  EXPECT_DEATH(Joules(-9e12), "9e12");
  EXPECT_DEATH(Joules(std::numeric_limits<double>::quiet_NaN()), "isfinite");
  EXPECT_DEATH(Joules(std::numeric_limits<double>::infinity()), "isfinite");
  EXPECT_DEATH(Watts(1) * absl::InfiniteDuration(), "isfinite");
  EXPECT_DEATH((void)(Joules(1) / absl::ZeroDuration()), "span");
  EXPECT_DEATH((void)(Joules(1) / absl::Seconds(-1)), "span");
}

TEST(EnergyTest, AddsSubtractsAndCompares) {
  Energy sum = Microjoules(3) + Microjoules(4);
  sum += Microjoules(10);
  EXPECT_EQ(sum, Microjoules(17));
  EXPECT_EQ(Microjoules(3) - Microjoules(4), Microjoules(-1));
  EXPECT_LT(Microjoules(-1), Energy());
}

TEST(PowerTest, TimesASpanIsEnergyAndBack) {
  EXPECT_EQ(Watts(2.5) * absl::Minutes(2), Joules(300));
  EXPECT_EQ(Watts(1e-6) * absl::Milliseconds(1500), Microjoules(2));
  EXPECT_EQ(Watts(7) * absl::ZeroDuration(), Energy());
  EXPECT_DOUBLE_EQ((Joules(300) / absl::Minutes(2)).watts(), 2.5);
  EXPECT_LT(Watts(1), Watts(2));
}

TEST(EnergyTierTest, NamesRoundTrip) {
  const std::vector<std::string> names = {"wall", "device", "component", "calibrated_here", "calibrated_class", "generic", "missing"};
  for (size_t i = 0; i < names.size(); ++i) {
    EXPECT_EQ(EnergyTierName(kBestFirst[i]), names[i]);
    ASSERT_OK_AND_ASSIGN(EnergyTier parsed, ParseEnergyTier(names[i]));
    EXPECT_EQ(parsed, kBestFirst[i]);
  }
  EXPECT_THAT(ParseEnergyTier("Wall"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("wall, device")));
  EXPECT_THAT(ParseEnergyTier(""), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("''")));
}

TEST(EnergyTierTest, WorseIsLaterAndOnlyTheFirstThreeWereMetered) {
  for (size_t i = 0; i < std::size(kBestFirst); ++i) {
    EXPECT_EQ(IsEstimate(kBestFirst[i]), i >= 3) << EnergyTierName(kBestFirst[i]);
    for (size_t j = 0; j < std::size(kBestFirst); ++j) {
      EXPECT_EQ(WorseTier(kBestFirst[i], kBestFirst[j]), kBestFirst[std::max(i, j)]);
    }
  }
}

TEST(AddWindowsTest, AddsEnergiesIntervalsAndWindowsAndKeepsTheWorstTier) {
  EnergyReading a = Reading(1, 2, 3, EnergyTier::kComponent, absl::Seconds(1));
  EnergyReading b = Reading(10, 20, 40, EnergyTier::kGeneric, absl::Seconds(2));
  b.source = "cpu_time";
  EnergyReading sum = AddWindows(a, b);
  EXPECT_EQ(sum.low, Microjoules(11));
  EXPECT_EQ(sum.energy, Microjoules(22));
  EXPECT_EQ(sum.high, Microjoules(43));
  EXPECT_EQ(sum.tier, EnergyTier::kGeneric);
  EXPECT_EQ(sum.window, absl::Seconds(3));
  EXPECT_EQ(sum.source, "rapl+cpu_time");
  EXPECT_EQ(sum.domain, "package-0");
}

TEST(AddWindowsTest, NamesEachSourceOnceHoweverManyWindows) {
  EnergyReading a = Reading(1, 1, 1, EnergyTier::kComponent, absl::Seconds(1));
  EnergyReading b = a;
  b.domain = "package-0+package-1";
  EnergyReading sum = AddWindows(AddWindows(a, b), AddWindows(b, a));
  EXPECT_EQ(sum.source, "rapl");
  EXPECT_EQ(sum.domain, "package-0+package-1");
}

TEST(AddWindowsTest, TakesTheEnergyWhereNoIntervalIsStated) {
  EnergyReading a = Reading(1, 2, 3, EnergyTier::kComponent, absl::Seconds(1));
  EnergyReading b = a;
  b.low.reset();
  b.high.reset();
  EnergyReading sum = AddWindows(a, b);
  EXPECT_EQ(sum.low, Microjoules(3));
  EXPECT_EQ(sum.high, Microjoules(5));
}

TEST(AddWindowsTest, MissingPlusAnythingIsMissing) {
  EnergyReading known = Reading(1, 2, 3, EnergyTier::kComponent, absl::Seconds(1));
  EnergyReading missing;
  missing.window = absl::Seconds(4);
  for (const EnergyReading& sum : {AddWindows(known, missing), AddWindows(missing, known), AddWindows(missing, missing)}) {
    EXPECT_TRUE(sum.missing());
    EXPECT_FALSE(sum.low.has_value());
    EXPECT_FALSE(sum.high.has_value());
    EXPECT_EQ(sum.tier, EnergyTier::kMissing);
    EXPECT_EQ(sum.source, "");
  }
  EXPECT_EQ(AddWindows(known, missing).window, absl::Seconds(5));
}

}  // namespace
}  // namespace fedwatt

#include "fedwatt/audit/interval.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace fedwatt {
namespace {

TEST(StudentTTest, IsThatOfTheTables) {
  EXPECT_DOUBLE_EQ(StudentT(1), 12.706);
  EXPECT_DOUBLE_EQ(StudentT(4), 2.776);
  EXPECT_DOUBLE_EQ(StudentT(30), 2.042);
  EXPECT_NEAR(StudentT(40), 2.021, 0.001);
  EXPECT_NEAR(StudentT(120), 1.980, 0.001);
  EXPECT_NEAR(StudentT(1000000), 1.960, 0.001);
}

TEST(MeanIntervalTest, IsComputedByHand) {
  // Mean 4, squares of deviations 4 + 0 + 4 = 8, variance 4, standard error 2 / sqrt(3), t(2) = 4.303.
  const std::optional<Interval> interval = MeanInterval(std::vector<double>{2, 4, 6});
  ASSERT_TRUE(interval.has_value());
  EXPECT_DOUBLE_EQ(interval->estimate, 4);
  EXPECT_NEAR(interval->low, 4 - 4.96868, 1e-4);
  EXPECT_NEAR(interval->high, 4 + 4.96868, 1e-4);
  EXPECT_EQ(interval->count, 3);
  EXPECT_NEAR(RelativeHalfWidth(interval), 1.24217, 1e-4);
}

TEST(MeanIntervalTest, HasNoneOfTwoOrOfWhatIsNoNumber) {
  EXPECT_FALSE(MeanInterval({}).has_value());
  EXPECT_FALSE(MeanInterval(std::vector<double>{1, 2}).has_value());
  EXPECT_FALSE(MeanInterval(std::vector<double>{1, 2, std::nan("")}).has_value());
  EXPECT_FALSE(MeanInterval(std::vector<double>{1, 2, std::numeric_limits<double>::infinity()}).has_value());
  EXPECT_TRUE(std::isinf(RelativeHalfWidth(std::nullopt)));
}

TEST(MeanIntervalTest, IsAPointWhereAllAreEqual) {
  const std::optional<Interval> interval = MeanInterval(std::vector<double>{0.5, 0.5, 0.5, 0.5});
  ASSERT_TRUE(interval.has_value());
  EXPECT_DOUBLE_EQ(interval->low, 0.5);
  EXPECT_DOUBLE_EQ(interval->high, 0.5);
}

TEST(RatioIntervalTest, IsComputedByHand) {
  // Ratios 1/2, 1, 2: logarithms -ln 2, 0, ln 2; their deviation is ln 2, half = 4.303 ln 2 / sqrt(3) = 1.72201.
  const std::optional<Interval> interval = RatioInterval(std::vector<double>{1, 3, 8}, std::vector<double>{2, 3, 4});
  ASSERT_TRUE(interval.has_value());
  EXPECT_NEAR(interval->estimate, 1, 1e-12);
  EXPECT_NEAR(interval->low, std::exp(-1.72201), 1e-5);
  EXPECT_NEAR(interval->high, std::exp(1.72201), 1e-4);
}

TEST(RatioIntervalTest, CancelsWhatBothOfAPairShare) {
  // A machine that is five times slower at times: unpaired, the two overlap wide; paired, one takes half of the other each time.
  const std::vector<double> without = {1, 5, 2, 4, 3}, with = {0.5, 2.5, 1, 2, 1.5};
  EXPECT_GT(MeanInterval(with)->high, MeanInterval(without)->low);
  const std::optional<Interval> ratio = RatioInterval(with, without);
  EXPECT_EQ(Judge(ratio, 1), Verdict::kLess);
  EXPECT_NEAR(ratio->high, 0.5, 1e-9);
}

TEST(RatioIntervalTest, HasNoneOfWhatIsNotPositive) {
  EXPECT_FALSE(RatioInterval(std::vector<double>{1, 2, 0}, std::vector<double>{1, 1, 1}).has_value());
  EXPECT_FALSE(RatioInterval(std::vector<double>{1, 2, 3}, std::vector<double>{1, -1, 1}).has_value());
  EXPECT_FALSE(RatioInterval(std::vector<double>{1, 2, std::nan("")}, std::vector<double>{1, 1, 1}).has_value());
}

TEST(JudgeTest, ShowsNothingUnlessTheWholeIntervalLiesOnOneSide) {
  EXPECT_EQ(Judge(Interval{0.8, 0.7, 0.999, 5}, 1), Verdict::kLess);
  EXPECT_EQ(Judge(Interval{0.8, 0.7, 1, 5}, 1), Verdict::kNotShown);
  EXPECT_EQ(Judge(Interval{0.8, 0.7, 1.1, 5}, 1), Verdict::kNotShown);
  EXPECT_EQ(Judge(Interval{1.2, 1, 1.4, 5}, 1), Verdict::kNotShown);
  EXPECT_EQ(Judge(Interval{1.2, 1.001, 1.4, 5}, 1), Verdict::kMore);
  EXPECT_EQ(Judge(std::nullopt, 1), Verdict::kNotShown);
  EXPECT_EQ(Judge(Interval{-0.01, -0.02, 0.001, 5}, 0), Verdict::kNotShown);
  EXPECT_EQ(VerdictName(Verdict::kNotShown), "no_difference_shown");
}

}  // namespace
}  // namespace fedwatt

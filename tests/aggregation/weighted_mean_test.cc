#include <cfloat>
#include <cmath>

#include "fedwatt/aggregation/accumulator.h"
#include "fedwatt/base/random.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::testing::ElementsAre;

std::unique_ptr<Accumulator> Make(int64_t size, double max_abs = 64, int64_t max_total_weight = 1 << 30) {
  AccumulatorOptions options;
  options.layout = *ParameterLayout::Create({{"w", {size}}});
  options.max_abs = max_abs;
  options.max_total_weight = max_total_weight;
  return *(*Accumulators().Find("weighted_mean"))(options);
}

TEST(WeightedMeanTest, HandComputed) {
  const auto accumulator = Make(3);
  ASSERT_THAT(accumulator->Accumulate({std::vector<float>{1, -2, 0.5f}, 1, {}}), IsOk());
  ASSERT_THAT(accumulator->Accumulate({std::vector<float>{5, 2, -0.5f}, 3, {}}), IsOk());
  ASSERT_OK_AND_ASSIGN(MeanDelta mean, accumulator->Report());
  // (1 + 15) / 4, (-2 + 6) / 4, (0.5 - 1.5) / 4.
  EXPECT_THAT(mean.values, ElementsAre(4.0f, 1.0f, -0.25f));
  EXPECT_EQ(mean.update_count, 2);
  EXPECT_EQ(mean.total_weight, 4);
}

TEST(WeightedMeanTest, WeighsEachCoordinateByThoseWhoCoveredIt) {
  const auto accumulator = Make(4);
  const std::vector<CoordinateRange> narrow = {{0, 1}, {2, 3}};
  ASSERT_THAT(accumulator->Accumulate({std::vector<float>{1, 1, 1, 1}, 1, {}}), IsOk());
  ASSERT_THAT(accumulator->Accumulate({std::vector<float>{5, 9, 3, 9}, 3, narrow}), IsOk());
  ASSERT_OK_AND_ASSIGN(MeanDelta mean, accumulator->Report());
  EXPECT_THAT(mean.values, ElementsAre(4.0f, 1.0f, 2.5f, 1.0f));
}

// Breakdown: one client moves the mean by exactly its share of its own limit.
TEST(WeightedMeanTest, OneClientMovesTheMeanByItsShare) {
  const auto accumulator = Make(1, 8, 100);
  for (int i = 0; i < 9; ++i) ASSERT_THAT(accumulator->Accumulate({std::vector<float>{0}, 1, {}}), IsOk());
  ASSERT_THAT(accumulator->Accumulate({std::vector<float>{8}, 1, {}}), IsOk());
  EXPECT_EQ(accumulator->Report()->values[0], 0.8f);
}

// max_abs = 1, max_total_weight = 4: exponent 60, so 2^-61 rounds to even zero and 3 * 2^-61 to 2 * 2^-60.
TEST(WeightedMeanTest, ExponentFollowsTheFormulaAndHalvesGoToEven) {
  const auto accumulator = Make(3, 1, 4);
  ASSERT_THAT(accumulator->Accumulate({std::vector<float>{0x1p-61f, 0x3p-61f, 0x1p-60f}, 1, {}}), IsOk());
  EXPECT_THAT(accumulator->Report()->values, ElementsAre(0.0f, 0x1p-59f, 0x1p-60f));
  // A hair more than a power of two costs one bit: exponent 59.
  const auto coarser = Make(2, 1, 5);
  ASSERT_THAT(coarser->Accumulate({std::vector<float>{0x1p-60f, 0x3p-60f}, 1, {}}), IsOk());
  EXPECT_THAT(coarser->Report()->values, ElementsAre(0.0f, 0x1p-58f));
}

TEST(WeightedMeanTest, FullWeightAtTheLimitDoesNotOverflow) {
  for (int64_t weight : {int64_t{1}, int64_t{3}, int64_t{1} << 29, (int64_t{1} << 40) - 1, int64_t{1} << 40}) {
    for (float limit : {1.0f, 64.0f, 63.9f, FLT_MIN, FLT_MAX}) {
      const auto accumulator = Make(2, limit, weight);
      ASSERT_THAT(accumulator->Accumulate({std::vector<float>{limit, -limit}, weight, {}}), IsOk());
      ASSERT_OK_AND_ASSIGN(MeanDelta mean, accumulator->Report());
      EXPECT_THAT(mean.values, ElementsAre(limit, -limit)) << weight;
    }
  }
}

TEST(WeightedMeanTest, ManyHalvesAtTheLimitStaySummable) {
  const int64_t count = 5000;
  const auto accumulator = Make(1, 1, count);
  for (int64_t i = 0; i < count; ++i) ASSERT_THAT(accumulator->Accumulate({std::vector<float>{1}, 1, {}}), IsOk());
  EXPECT_EQ(accumulator->Report()->values[0], 1.0f);
}

// The root mean square error against a sum in extended precision is at most 1e-7 of the root mean square delta; the float32 result alone
// costs 2^-25 = 3e-8 of a value.
TEST(WeightedMeanTest, ErrorIsBelow1e7OfTheRmsDelta) {
  const int64_t size = 20'000;
  for (double scale : {1e-4, 1e-2, 1.0}) {
    const auto accumulator = Make(size);
    Random random(5);
    std::vector<long double> sum(size);
    long double total = 0, squares = 0;
    const int clients = 20;
    for (int k = 0; k < clients; ++k) {
      const int64_t weight = 1 + static_cast<int64_t>(random.Below(1000));
      std::vector<float> delta(size);
      for (int64_t i = 0; i < size; ++i) {
        delta[i] = static_cast<float>(random.Normal() * scale);
        sum[i] += static_cast<long double>(delta[i]) * weight;
        squares += static_cast<long double>(delta[i]) * delta[i];
      }
      total += weight;
      ASSERT_THAT(accumulator->Accumulate({delta, weight, {}}), IsOk());
    }
    ASSERT_OK_AND_ASSIGN(MeanDelta mean, accumulator->Report());
    long double error = 0;
    for (int64_t i = 0; i < size; ++i) {
      const long double difference = mean.values[i] - sum[i] / total;
      error += difference * difference;
    }
    const double rms_delta = std::sqrt(static_cast<double>(squares) / (clients * size));
    const double rms_error = std::sqrt(static_cast<double>(error) / size);
    EXPECT_LE(rms_error, 1e-7 * rms_delta) << scale;
    EXPECT_GT(rms_error, 0) << scale;
  }
}

TEST(WeightedMeanTest, EqualSumsHaveEqualBytesHoweverTheyWereCovered) {
  const auto whole = Make(10), parts = Make(10);
  const std::vector<float> delta(10, 1.0f);
  const std::vector<CoordinateRange> all = {{0, 10}}, split = {{0, 4}, {4, 10}};
  ASSERT_THAT(whole->Accumulate({delta, 5, {}}), IsOk());
  ASSERT_THAT(parts->Accumulate({delta, 5, split}), IsOk());
  EXPECT_EQ(whole->Save(), parts->Save());
  ASSERT_THAT(whole->Accumulate({delta, 5, all}), IsOk());
  ASSERT_THAT(parts->Accumulate({delta, 5, {}}), IsOk());
  EXPECT_EQ(whole->Save(), parts->Save());
}

}  // namespace
}  // namespace fedwatt

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <numeric>

#include "fedwatt/compression/symbol_coder.h"
#include "tests/compression/transform_testing.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::Forward;
using ::fedwatt::testing::Inverse;
using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::MakeTransform;
using ::fedwatt::testing::Noise;
using ::fedwatt::testing::SquaredDistance;
using ::fedwatt::testing::SquaredNorm;
using ::fedwatt::testing::StatusIs;
using ::fedwatt::testing::Transformed;
using ::testing::_;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(TopKTest, KeepsTheLargestMagnitudesAndTheFirstOfEqualOnes) {
  // 4 of 10: 9, -8, and of three 5s the first two.
  const std::vector<float> values = {1, 5, -8, 0, -5, 2, 9, 5, -1, 3};
  const std::vector<Segment> segments = {{1, 3}, {1, 1}, {2, 3}};
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Transform> transform, MakeTransform("top_k:fraction=0.4"));
  ASSERT_OK_AND_ASSIGN(Transformed made, Forward(*transform, values, segments));
  EXPECT_THAT(made.inner.values, ElementsAre(5, -8, -5, 9));
  EXPECT_THAT(made.inner.segments, ElementsAre(Segment{1, 2}, Segment{1, 2}));
  ASSERT_OK_AND_ASSIGN(std::vector<float> decoded, Inverse(*transform, made, segments));
  EXPECT_THAT(decoded, ElementsAre(0, 5, -8, 0, -5, 0, 9, 0, 0, 0));
}

TEST(TopKTest, AgreesWithSorting) {
  Random random(1);
  for (int trial = 0; trial < 300; ++trial) {
    const size_t count = 1 + random.Below(400);
    std::vector<float> values = Noise(count, 1, trial);
    // Ties, also across the borders of histogram bins, and zeros.
    if (trial % 3 == 1) {
      for (float& value : values) value = std::round(value);
    }
    if (trial % 3 == 2) {
      for (float& value : values) value = std::ldexp(1.0f + 0x1p-23f * static_cast<float>(random.Below(3)), static_cast<int>(random.Below(3)));
    }
    const std::vector<Segment> segments = {{1, static_cast<int64_t>(count)}};
    for (double fraction : {0.001, 0.1, 0.5, 0.99, 1.0}) {
      ASSERT_OK_AND_ASSIGN(std::unique_ptr<Transform> transform, MakeTransform("top_k:fraction=" + std::to_string(fraction)));
      ASSERT_OK_AND_ASSIGN(Transformed made, Forward(*transform, values, segments));
      ASSERT_OK_AND_ASSIGN(std::vector<float> decoded, Inverse(*transform, made, segments));
      std::vector<size_t> order(count);
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return std::fabs(values[a]) > std::fabs(values[b]); });
      std::vector<float> expected(count);
      const size_t k = static_cast<size_t>(std::ceil(std::stod(std::to_string(fraction)) * static_cast<double>(count)));
      for (size_t i = 0; i < k; ++i) expected[order[i]] = values[order[i]];
      ASSERT_EQ(decoded, expected) << trial << " " << fraction;
    }
  }
}

TEST(TopKTest, NeverKeepsZeros) {
  std::vector<float> values(1000);
  values[17] = FLT_TRUE_MIN;
  values[400] = -0.0f;
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Transform> transform, MakeTransform("top_k:fraction=0.5"));
  ASSERT_OK_AND_ASSIGN(Transformed made, Forward(*transform, values, {{1, 1000}}));
  EXPECT_THAT(made.inner.values, ElementsAre(FLT_TRUE_MIN));
  values[17] = 0;
  ASSERT_OK_AND_ASSIGN(made, Forward(*transform, values, {{1, 1000}}));
  EXPECT_THAT(made.inner.values, IsEmpty());
  EXPECT_THAT(made.inner.segments, IsEmpty());
  EXPECT_EQ(made.side, "");
}

TEST(TopKTest, PlacesCostLittleMoreThanTheirEntropy) {
  const std::vector<float> values = Noise(200'000, 1, 3);
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Transform> transform, MakeTransform("top_k:fraction=0.01"));
  ASSERT_OK_AND_ASSIGN(Transformed made, Forward(*transform, values, {{1, 200'000}}));
  EXPECT_EQ(made.inner.values.size(), 2000u);
  const double entropy = -(0.01 * std::log2(0.01) + 0.99 * std::log2(0.99)) * 200'000;
  EXPECT_LT(static_cast<double>(made.side.size()) * 8, 1.04 * entropy);
}

TEST(TopKTest, RefusesOtherSymbolsAndTooManyPlaces) {
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Transform> transform, MakeTransform("top_k:fraction=0.2"));
  const std::vector<Segment> segments = {{2, 5}};
  const auto status = [&](const SparseSymbols& symbols) {
    const std::string side = *EncodeSymbols({10}, symbols);
    return Inverse(*transform, {{std::vector<float>(symbols.indices.size(), 1), {{1, static_cast<int64_t>(symbols.indices.size())}}}, side},
                   segments);
  };
  EXPECT_THAT(status({{3, 7}, {1, 1}}), IsOk());
  EXPECT_THAT(status({{3, 7}, {1, 2}}), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("symbol 2")));
  EXPECT_THAT(status({{3, 7}, {-1, 1}}), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("symbol -1")));
  EXPECT_THAT(status({{3, 7, 8}, {1, 1, 1}}), StatusIs(absl::StatusCode::kDataLoss, _));
}

TEST(TopKTest, RefusesBadOptions) {
  for (const char* spec : {"top_k:fraction=0", "top_k:fraction=-1", "top_k:fraction=1.01", "top_k:fraction=nan", "top_k:fraction=", "top_k:k=5"}) {
    EXPECT_THAT(MakeTransform(spec), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("top_k"))) << spec;
  }
}

TEST(ThresholdTest, KeepsWhatReachesTheMultipleOfTheRoot) {
  // Root of the mean square: sqrt((4 * 1 + 3 * 4 + 16) / 8) = 2.
  const std::vector<float> values = {1, -1, 2, -2, 1, 1, -4, 2};
  const std::vector<Segment> segments = {{1, 2}, {2, 3}};
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Transform> at_one, MakeTransform("threshold:multiple=1"));
  ASSERT_OK_AND_ASSIGN(Transformed made, Forward(*at_one, values, segments));
  EXPECT_THAT(made.inner.values, ElementsAre(2, -2, -4, 2));  // equality is enough
  EXPECT_THAT(made.inner.segments, ElementsAre(Segment{1, 4}));
  ASSERT_OK_AND_ASSIGN(std::vector<float> decoded, Inverse(*at_one, made, segments));
  EXPECT_THAT(decoded, ElementsAre(0, 0, 2, -2, 0, 0, -4, 2));
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Transform> above, MakeTransform("threshold:multiple=1.0001"));
  ASSERT_OK_AND_ASSIGN(made, Forward(*above, values, segments));
  EXPECT_THAT(made.inner.values, ElementsAre(-4));
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Transform> far, MakeTransform("threshold:multiple=1000"));
  ASSERT_OK_AND_ASSIGN(made, Forward(*far, values, segments));
  EXPECT_THAT(made.inner.values, IsEmpty());
}

TEST(ThresholdTest, KeepsItsBoundOnTheError) {
  for (const char* multiple : {"0.1", "0.5", "0.9", "3"}) {
    const std::vector<float> values = Noise(5000, 0.01, 2);
    ASSERT_OK_AND_ASSIGN(std::unique_ptr<Transform> transform, MakeTransform(std::string("threshold:multiple=") + multiple));
    ASSERT_OK_AND_ASSIGN(Transformed made, Forward(*transform, values, {{1, 5000}}));
    ASSERT_OK_AND_ASSIGN(std::vector<float> decoded, Inverse(*transform, made, {{1, 5000}}));
    EXPECT_LE(SquaredDistance(values, decoded), std::min(1.0, std::stod(multiple) * std::stod(multiple)) * SquaredNorm(values));
  }
}

TEST(ThresholdTest, BearsZerosAndTheEndsOfFloat) {
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Transform> transform, MakeTransform("threshold:multiple=1"));
  ASSERT_OK_AND_ASSIGN(Transformed made, Forward(*transform, {0, -0.0f, 0}, {{1, 3}}));
  EXPECT_THAT(made.inner.values, IsEmpty());
  ASSERT_OK_AND_ASSIGN(made, Forward(*transform, {FLT_TRUE_MIN, 0, 0}, {{1, 3}}));
  EXPECT_THAT(made.inner.values, ElementsAre(FLT_TRUE_MIN));
  ASSERT_OK_AND_ASSIGN(made, Forward(*transform, {FLT_MAX, -FLT_MAX, 1}, {{1, 3}}));
  EXPECT_THAT(made.inner.values, ElementsAre(FLT_MAX, -FLT_MAX));
}

TEST(ThresholdTest, RefusesBadOptions) {
  for (const char* spec :
       {"threshold:multiple=0", "threshold:multiple=-1", "threshold:multiple=1001", "threshold:multiple=nan", "threshold:fraction=0.1"}) {
    EXPECT_THAT(MakeTransform(spec), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("threshold"))) << spec;
  }
}

}  // namespace
}  // namespace fedwatt

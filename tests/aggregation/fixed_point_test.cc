#include "aggregation/fixed_point.h"

#include <cfloat>
#include <cmath>
#include <vector>

#include "fedwatt/base/random.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace fedwatt::internal {
namespace {

using ::testing::ElementsAre;

std::vector<int64_t> Round(const std::vector<float>& values, double factor, float max_magnitude) {
  std::vector<int64_t> sums(values.size());
  AddScaled(values, factor, max_magnitude, absl::MakeSpan(sums));
  return sums;
}

TEST(MaxMagnitudeTest, FindsTheLargestAndWhatIsNotFinite) {
  EXPECT_EQ(MaxMagnitude({}), 0);
  EXPECT_EQ(MaxMagnitude({-0.0f}), 0);
  EXPECT_EQ(MaxMagnitude({1, -3, 2}), 3);
  EXPECT_EQ(MaxMagnitude({FLT_TRUE_MIN, 0}), FLT_TRUE_MIN);
  EXPECT_TRUE(std::isinf(MaxMagnitude({1, -INFINITY, 2})));
  EXPECT_TRUE(std::isnan(MaxMagnitude({1, INFINITY, -NAN})));
  for (size_t size = 1; size < 70; ++size) {
    for (size_t at = 0; at < size; ++at) {
      std::vector<float> values(size, 0.5f);
      values[at] = -7;
      ASSERT_EQ(MaxMagnitude(values), 7) << size << " " << at;
    }
  }
}

TEST(AddScaledTest, RoundsHalvesToEven) {
  const std::vector<float> halves = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 0.75f, -0.25f};
  EXPECT_THAT(Round(halves, 1, 2.5f), ElementsAre(0, 2, 2, 0, -2, -2, 1, 0));
  // The same numbers by the loop for large magnitudes.
  EXPECT_THAT(Round(halves, 1, 0x1p60f), ElementsAre(0, 2, 2, 0, -2, -2, 1, 0));
}

TEST(AddScaledTest, AddsToWhatIsThere) {
  std::vector<int64_t> sums = {10, -10};
  AddScaled({1, 2}, 4, 2, absl::MakeSpan(sums));
  EXPECT_THAT(sums, ElementsAre(14, -2));
}

TEST(AddScaledTest, ReachesBothEndsOfItsRange) {
  EXPECT_THAT(Round({1, -1}, 0x1p62, 1), ElementsAre(int64_t{1} << 62, -(int64_t{1} << 62)));
  EXPECT_THAT(Round({1, -1}, 0x1p51, 1), ElementsAre(int64_t{1} << 51, -(int64_t{1} << 51)));
}

// Both loops against the C library's rounding, over magnitudes from far below one to the limit.
TEST(AddScaledTest, AgreesWithLlrintEverywhere) {
  Random random(1);
  for (int power = -40; power <= 62; ++power) {
    std::vector<float> values(257);
    for (float& value : values) value = static_cast<float>(2 * random.Uniform() - 1);
    const double factor = std::ldexp(1 - random.Uniform() / 2, power);
    const std::vector<int64_t> by_size = Round(values, factor, 1);
    const std::vector<int64_t> by_large = Round(values, factor, std::min(0x1p62 / factor, 0x1p100));
    for (size_t i = 0; i < values.size(); ++i) {
      const int64_t expected = std::llrint(static_cast<double>(values[i]) * factor);
      ASSERT_EQ(by_size[i], expected) << values[i] << " * 2^" << power;
      ASSERT_EQ(by_large[i], expected) << values[i] << " * 2^" << power;
    }
  }
}

}  // namespace
}  // namespace fedwatt::internal

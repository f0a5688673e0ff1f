// Every instruction set that this machine has against plain C++.
#include "aggregation/fixed_point.h"

#include <cfloat>
#include <cmath>
#include <vector>

#include "fedwatt/base/random.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "hwy/targets.h"
#include "tests/testing/value_blocks.h"

namespace fedwatt::internal {
namespace {

using ::testing::ElementsAre;

std::vector<int64_t> Round(const std::vector<float>& values, double factor, float max_magnitude) {
  std::vector<int64_t> sums(values.size());
  AddScaled(values, factor, max_magnitude, absl::MakeSpan(sums));
  return sums;
}

class FixedPointTest : public ::testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override { Choose(GetParam()); }
  void TearDown() override { Choose(0); }
  static void Choose(int64_t target) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
};

TEST_P(FixedPointTest, MaxMagnitudeFindsTheLargestAndWhatIsNotFinite) {
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

TEST_P(FixedPointTest, AddScaledRoundsHalvesToEven) {
  const std::vector<float> halves = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 0.75f, -0.25f};
  EXPECT_THAT(Round(halves, 1, 2.5f), ElementsAre(0, 2, 2, 0, -2, -2, 1, 0));
  // The same numbers by the loop for large magnitudes.
  EXPECT_THAT(Round(halves, 1, 0x1p60f), ElementsAre(0, 2, 2, 0, -2, -2, 1, 0));
}

TEST_P(FixedPointTest, AddScaledAddsToWhatIsThere) {
  std::vector<int64_t> sums = {10, -10};
  AddScaled({1, 2}, 4, 2, absl::MakeSpan(sums));
  EXPECT_THAT(sums, ElementsAre(14, -2));
}

TEST_P(FixedPointTest, AddScaledReachesBothEndsOfItsRange) {
  EXPECT_THAT(Round({1, -1}, 0x1p62, 1), ElementsAre(int64_t{1} << 62, -(int64_t{1} << 62)));
  EXPECT_THAT(Round({1, -1}, 0x1p51, 1), ElementsAre(int64_t{1} << 51, -(int64_t{1} << 51)));
}

// Both loops against the C library's rounding, over magnitudes from far below one to the limit.
TEST_P(FixedPointTest, AddScaledAgreesWithLlrintEverywhere) {
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

// Blocks of every kind, at odd places of their bytes, with codes that begin inside a scale's run.
struct Bytes {
  explicit Bytes(Random& random) {
    for (int i = 0; i < 400; ++i) {
      const float value = static_cast<float>(random.Normal());
      data.append(reinterpret_cast<const char*>(&value), 4);
      upper_halves.append(reinterpret_cast<const char*>(&value) + 2, 2);
      scales.append(reinterpret_cast<const char*>(&value), 4);
    }
  }
  ValueBlock Block(Random& random) const {
    ValueBlock block{.kind = static_cast<ValueBlock::Kind>(random.Below(3)), .begin = 5, .count = static_cast<size_t>(random.Below(300)), .data = data.data() + 1};
    if (block.kind == ValueBlock::Kind::kBfloat16) block.data = upper_halves.data() + 1;
    if (block.kind != ValueBlock::Kind::kCodes) return block;
    block.scales = scales.data() + 3;
    block.per_scale = 1 + random.Below(random.Below(2) == 0 ? 3 : 100);
    block.skipped = random.Below(block.per_scale);
    return block;
  }
  std::string data = " ", upper_halves = " ", scales = "   ";
};

TEST_P(FixedPointTest, BlocksAddWhatTheirValuesAdd) {
  Random random(2);
  const Bytes bytes(random);
  for (int trial = 0; trial < 300; ++trial) {
    const ValueBlock block = bytes.Block(random);
    const std::vector<float> values = fedwatt::testing::ValuesOf(block);
    float most = 0;
    for (float value : values) most = std::max(most, std::fabs(value));
    const double factor = std::ldexp(1 + random.Uniform(), trial % 3 == 0 ? 58 : 40) / std::max(most, FLT_MIN);
    std::vector<int64_t> sums(values.size() + 1, 7);
    ASSERT_EQ(AddScaledBlock(block, factor, most, sums.data()), most);
    for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(sums[i], 7 + std::llrint(static_cast<double>(values[i]) * factor)) << i << " of " << values.size();
    ASSERT_EQ(sums.back(), 7);
    // What a prefix leaves out is what the rest lacks.
    const size_t cut = random.Below(block.count + 1);
    ValueBlock rest = block;
    rest.RemovePrefix(cut);
    ASSERT_EQ(rest.begin, 5 + cut);
    ASSERT_EQ(fedwatt::testing::ValuesOf(rest), std::vector<float>(values.begin() + static_cast<std::ptrdiff_t>(cut), values.end()));
  }
}

TEST_P(FixedPointTest, SubtractingTakesNonsenseAway) {
  Random random(3);
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<float> values(1 + random.Below(40));
    for (float& value : values) value = static_cast<float>(random.Normal());
    const float bad[] = {NAN, -NAN, INFINITY, -INFINITY, FLT_MAX, -FLT_MAX, 0x1p20f};
    for (int i = 0; i < 3; ++i) values[random.Below(values.size())] = bad[random.Below(7)];
    const ValueBlock block{.count = values.size(), .data = reinterpret_cast<const char*>(values.data())};
    std::vector<int64_t> sums(values.size());
    for (int64_t& sum : sums) sum = static_cast<int64_t>(random.Next() >> 3);
    const std::vector<int64_t> before = sums;
    const double factor = std::ldexp(1.5, trial % 2 == 0 ? 49 : 60);
    EXPECT_FALSE(AddScaledBlock(block, factor, 1, sums.data()) <= 0x1p19f);
    SubtractScaledBlock(block, factor, 1, sums.data());
    ASSERT_EQ(sums, before);
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, FixedPointTest, ::testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         [](const auto& info) { return std::string(hwy::TargetName(info.param)); });

}  // namespace
}  // namespace fedwatt::internal

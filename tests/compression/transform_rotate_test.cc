#include <bit>
#include <cfloat>
#include <cmath>

#include "hwy/targets.h"
#include "tests/compression/transform_testing.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::Forward;
using ::fedwatt::testing::Inverse;
using ::fedwatt::testing::MakeTransform;
using ::fedwatt::testing::Noise;
using ::fedwatt::testing::SquaredDistance;
using ::fedwatt::testing::SquaredNorm;
using ::fedwatt::testing::StatusIs;
using ::fedwatt::testing::Transformed;
using ::testing::_;
using ::testing::HasSubstr;

std::vector<Segment> Whole(size_t count) { return {{1, static_cast<int64_t>(count)}}; }

// The head of the transform's file, word for word and in float64.
std::vector<double> Reference(const std::vector<float>& values, uint64_t seed) {
  std::vector<double> out(values.begin(), values.end());
  Random random(DeriveSeed("rotate", {seed}));
  const size_t count = values.size(), block = std::min<size_t>(4096, std::bit_floor(count));
  const auto rotate = [&](size_t begin) {
    std::vector<double> in(out.begin() + begin, out.begin() + begin + block);
    uint64_t word = 0;
    for (size_t i = 0; i < block; ++i) {
      if (i % 64 == 0) word = random.Next();
      if (word >> (i % 64) & 1) in[i] = -in[i];
    }
    for (size_t i = 0; i < block; ++i) {
      double sum = 0;
      for (size_t j = 0; j < block; ++j) sum += std::popcount(i & j) % 2 == 0 ? in[j] : -in[j];
      out[begin + i] = sum / std::sqrt(static_cast<double>(block));
    }
  };
  size_t begin = 0;
  for (; begin + block <= count; begin += block) rotate(begin);
  if (begin < count) rotate(count - block);
  return out;
}

TEST(RotateTest, AgreesWithTheDocumentedMatrix) {
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Transform> transform, MakeTransform("rotate"));
  for (size_t count : {1, 2, 3, 4, 7, 31, 33, 64, 100, 255, 1024, 1500, 4096, 5000, 8192}) {
    const std::vector<float> values = Noise(count, 1, count);
    ASSERT_OK_AND_ASSIGN(Transformed made, Forward(*transform, values, Whole(count), count + 1));
    const std::vector<double> expected = Reference(values, count + 1);
    ASSERT_EQ(made.inner.values.size(), count);
    for (size_t i = 0; i < count; ++i) ASSERT_NEAR(made.inner.values[i], expected[i], 1e-5) << count << " " << i;
  }
}

TEST(RotateTest, KeepsLengthsAndComesBack) {
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Transform> transform, MakeTransform("rotate"));
  for (size_t count : {1, 2, 3, 5, 6, 63, 65, 200, 3000, 4095, 4097, 8191, 100'003}) {
    const std::vector<float> values = Noise(count, 0.02, count);
    ASSERT_OK_AND_ASSIGN(Transformed made, Forward(*transform, values, Whole(count)));
    EXPECT_NEAR(SquaredNorm(made.inner.values) / SquaredNorm(values), 1, 1e-5) << count;
    ASSERT_OK_AND_ASSIGN(std::vector<float> decoded, Inverse(*transform, made, Whole(count)));
    EXPECT_LT(SquaredDistance(decoded, values) / SquaredNorm(values), 1e-12) << count;
  }
}

TEST(RotateTest, SpreadsASpikeEvenlyAlsoNearTheEnd) {
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Transform> transform, MakeTransform("rotate"));
  for (size_t place : {0, 4095, 4096, 4999}) {
    std::vector<float> values(5000);
    values[place] = 64;
    ASSERT_OK_AND_ASSIGN(Transformed made, Forward(*transform, values, Whole(5000)));
    float most = 0;
    for (float value : made.inner.values) most = std::max(most, std::fabs(value));
    // In the last block alone: 64 / sqrt(4096) = 1 everywhere. In both: sums of 3,192 random signs / 64, rarely beyond 5 deviations.
    EXPECT_LE(most, place < 4096 ? 5 : 1.001f) << place;
    EXPECT_GE(most, 0.999f) << place;
  }
}

TEST(RotateTest, OtherSeedsMakeOtherRotations) {
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Transform> transform, MakeTransform("rotate"));
  const std::vector<float> values = Noise(128, 1, 1);
  ASSERT_OK_AND_ASSIGN(Transformed one, Forward(*transform, values, Whole(128), 1));
  ASSERT_OK_AND_ASSIGN(Transformed two, Forward(*transform, values, Whole(128), 2));
  // Two random rotations of one vector are about orthogonal: |a - b|^2 ~ 2 |x|^2.
  EXPECT_NEAR(SquaredDistance(one.inner.values, two.inner.values) / SquaredNorm(values), 2, 0.6);
}

TEST(RotateTest, GivesEqualBitsWhateverTheVectors) {
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Transform> transform, MakeTransform("rotate"));
  for (size_t count : {1, 2, 8, 33, 100, 2048, 10'000}) {
    const std::vector<float> values = Noise(count, 1, count);
    std::vector<std::vector<float>> results;
    for (const auto target : hwy::SupportedAndGeneratedTargets()) {
      hwy::SetSupportedTargetsForTest(target);
      hwy::GetChosenTarget().Update(hwy::SupportedTargets());
      ASSERT_OK_AND_ASSIGN(Transformed made, Forward(*transform, values, Whole(count)));
      ASSERT_OK_AND_ASSIGN(std::vector<float> decoded, Inverse(*transform, made, Whole(count)));
      results.push_back(made.inner.values);
      results.push_back(decoded);
    }
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    for (size_t i = 2; i < results.size(); ++i) {
      for (size_t j = 0; j < count; ++j) {
        ASSERT_EQ(std::bit_cast<uint32_t>(results[i][j]), std::bit_cast<uint32_t>(results[i % 2][j])) << i << " " << j;
      }
    }
  }
}

TEST(RotateTest, RefusesWhatOverflows) {
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Transform> transform, MakeTransform("rotate"));
  EXPECT_THAT(Forward(*transform, std::vector<float>(64, FLT_MAX), Whole(64)), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("too large")));
  EXPECT_THAT(Inverse(*transform, {{std::vector<float>(64, FLT_MAX), Whole(64)}, ""}, Whole(64)),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("overflow")));
  EXPECT_THAT(Inverse(*transform, {{{1, 1}, Whole(2)}, "x"}, Whole(2)), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("expected none")));
}

}  // namespace
}  // namespace fedwatt

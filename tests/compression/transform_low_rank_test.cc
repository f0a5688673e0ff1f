#include <bit>
#include <cfloat>
#include <cmath>

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

// rows x columns, sum over i of lengths[i] u_i v_i^T, whose u and v are orthonormal: rows of Hadamard matrices.
std::vector<float> WithSingularValues(size_t rows, size_t columns, const std::vector<double>& lengths) {
  std::vector<float> matrix(rows * columns);
  const double norm = std::sqrt(static_cast<double>(rows * columns));
  for (size_t i = 0; i < rows; ++i) {
    for (size_t j = 0; j < columns; ++j) {
      double sum = 0;
      for (size_t r = 0; r < lengths.size(); ++r) sum += lengths[r] * ((std::popcount(i & r) + std::popcount(j & r)) % 2 == 0 ? 1 : -1);
      matrix[i * columns + j] = static_cast<float>(sum / norm);
    }
  }
  return matrix;
}

TEST(LowRankTest, FactorsAreRowsOfTheirOwnSegmentsAndShareTheLength) {
  // u v^T with u = (1, 2, 2), |u| = 3, and v = (2, 0, 0, 0): length 6, so each factor has length sqrt(6).
  const std::vector<float> matrix = {2, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0};
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Transform> transform, MakeTransform("low_rank:rank=1"));
  ASSERT_OK_AND_ASSIGN(Transformed made, Forward(*transform, matrix, {{3, 4}}));
  EXPECT_THAT(made.inner.segments, ElementsAre(Segment{1, 3}, Segment{1, 4}));
  EXPECT_EQ(made.side, "");
  ASSERT_EQ(made.inner.values.size(), 7u);
  const float root = std::sqrt(6.0f), sign = made.inner.values[0] < 0 ? -1 : 1;
  for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(made.inner.values[i], sign * (i == 0 ? 1 : 2) / 3.0f * root, 1e-6) << i;
  for (size_t j = 0; j < 4; ++j) EXPECT_NEAR(made.inner.values[3 + j], sign * (j == 0 ? root : 0), 1e-6) << j;
  ASSERT_OK_AND_ASSIGN(std::vector<float> decoded, Inverse(*transform, made, {{3, 4}}));
  for (size_t i = 0; i < 12; ++i) EXPECT_NEAR(decoded[i], matrix[i], 1e-6);
}

TEST(LowRankTest, DecodesSumsOfProducts) {
  // P = (1 2; 3 4; 5 6 as columns {1, 3, 5} and {2, 4, 6}), Q likewise {1, 0, 2, 0, 0, 0, 0} and {0, 1, 1, 0, 0, 0, 0}.
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Transform> transform, MakeTransform("low_rank:rank=2"));
  const std::vector<float> inner = {1, 3, 5, 2, 4, 6, 1, 0, 2, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0};
  ASSERT_OK_AND_ASSIGN(std::vector<float> decoded, Inverse(*transform, {{inner, {{2, 3}, {2, 7}}}, ""}, {{3, 7}}));
  EXPECT_THAT(decoded, ElementsAre(1, 2, 4, 0, 0, 0, 0, 3, 4, 10, 0, 0, 0, 0, 5, 6, 16, 0, 0, 0, 0));
}

TEST(LowRankTest, ComesNearTheBestApproximation) {
  // |M - M_4|^2 = 1 + 0.25 + 0.0625 + ..., which no matrix of rank 4 undercuts.
  const std::vector<double> lengths = {16, 8, 4, 2, 1, 0.5, 0.25, 0.125};
  const std::vector<float> matrix = WithSingularValues(64, 32, lengths);
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Transform> transform, MakeTransform("low_rank"));
  const double best = 1.328;
  double sum = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    ASSERT_OK_AND_ASSIGN(Transformed made, Forward(*transform, matrix, {{64, 32}}, seed));
    EXPECT_EQ(made.inner.values.size(), 4 * 96u);
    ASSERT_OK_AND_ASSIGN(std::vector<float> decoded, Inverse(*transform, made, {{64, 32}}, seed));
    const double error = SquaredDistance(decoded, matrix);
    EXPECT_GE(error, best * 0.99);
    EXPECT_LE(error, best * 4);  // a start nearly orthogonal to the fourth direction
    sum += error;
  }
  EXPECT_LE(sum / 20, best * 1.2);
}

TEST(LowRankTest, IsExactAtTheRankOfTheMatrix) {
  const std::vector<float> matrix = WithSingularValues(16, 32, {3, 2, 1});
  for (const char* spec : {"low_rank:rank=3", "low_rank:rank=5"}) {  // the second has columns without a length
    ASSERT_OK_AND_ASSIGN(std::unique_ptr<Transform> transform, MakeTransform(spec));
    ASSERT_OK_AND_ASSIGN(Transformed made, Forward(*transform, matrix, {{16, 32}}));
    ASSERT_OK_AND_ASSIGN(std::vector<float> decoded, Inverse(*transform, made, {{16, 32}}));
    EXPECT_LT(SquaredDistance(decoded, matrix), 1e-11 * SquaredNorm(matrix)) << spec;
  }
}

TEST(LowRankTest, LeavesAloneWhatItWouldNotShorten) {
  // 4 (rows + columns) >= rows * columns for 8 x 8, vectors and single rows and columns; 9 x 9 is the first square that gains.
  const std::vector<Segment> segments = {{8, 8}, {1, 100}, {100, 1}, {1, 1}, {2, 1000}, {9, 9}};
  size_t count = 0;
  for (const Segment& segment : segments) count += static_cast<size_t>(segment.count());
  const std::vector<float> values = Noise(count, 1, 1);
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Transform> transform, MakeTransform("low_rank:rank=4"));
  ASSERT_OK_AND_ASSIGN(Transformed made, Forward(*transform, values, segments));
  EXPECT_THAT(made.inner.segments,
              ElementsAre(Segment{8, 8}, Segment{1, 100}, Segment{100, 1}, Segment{1, 1}, Segment{2, 1000}, Segment{4, 9}, Segment{4, 9}));
  ASSERT_OK_AND_ASSIGN(std::vector<float> decoded, Inverse(*transform, made, segments));
  for (size_t i = 0; i + 81 < count; ++i) ASSERT_EQ(decoded[i], values[i]);
}

TEST(LowRankTest, BearsZerosAndTheEndsOfFloat) {
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Transform> transform, MakeTransform("low_rank:rank=2"));
  ASSERT_OK_AND_ASSIGN(Transformed made, Forward(*transform, std::vector<float>(100), {{10, 10}}));
  EXPECT_EQ(made.inner.values, std::vector<float>(40));
  for (float end : {FLT_MAX, FLT_TRUE_MIN}) {
    ASSERT_OK_AND_ASSIGN(made, Forward(*transform, std::vector<float>(100, end), {{10, 10}}));
    ASSERT_OK_AND_ASSIGN(std::vector<float> decoded, Inverse(*transform, made, {{10, 10}}));
    for (float value : decoded) EXPECT_NEAR(value / end, 1, 1e-5);
  }
  ASSERT_OK_AND_ASSIGN(std::vector<float> decoded, Inverse(*transform, {{std::vector<float>(40, -FLT_MAX), {{2, 10}, {2, 10}}}, ""}, {{10, 10}}));
  EXPECT_EQ(decoded, std::vector<float>(100, FLT_MAX));
  EXPECT_THAT(Inverse(*transform, {made.inner, "x"}, {{10, 10}}), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("expected none")));
}

TEST(LowRankTest, RefusesBadOptions) {
  for (const char* spec : {"low_rank:rank=0", "low_rank:rank=1025", "low_rank:rank=1.5", "low_rank:rank=", "low_rank:k=1"}) {
    EXPECT_THAT(MakeTransform(spec), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("low_rank"))) << spec;
  }
}

}  // namespace
}  // namespace fedwatt

#include "fedwatt/privacy/update_guard.h"

#include <cfloat>
#include <cmath>
#include <limits>

#include "fedwatt/base/random.h"
#include "fedwatt/model/rejection.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::_;
using ::testing::ElementsAre;

// Two parameters, one buffer, one parameter.
ParameterLayout SmallLayout() {
  return *ParameterLayout::Create({{"w", {2}}, {"mean", {1}, EntryKind::kAveragedBuffer}, {"count", {}, EntryKind::kLocal}, {"b", {1}}});
}

ParameterLayout Wide(int64_t size) { return *ParameterLayout::Create({{"w", {size}}}); }

std::optional<Rejection> Reason(const std::vector<float>& delta, int64_t example_count, const UpdateLimits& limits) {
  const absl::Status status = CheckUpdate(SmallLayout(), delta, example_count, limits);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return RejectionOf(status);
}

TEST(CheckUpdateTest, AcceptsBothEndsOfEveryLimit) {
  UpdateLimits limits;
  limits.max_abs = 4;
  limits.max_norm = 5;
  limits.max_example_count = 10;
  // 3, 4 and 0 have norm 5; the buffer does not count.
  EXPECT_THAT(CheckUpdate(SmallLayout(), {3, -4, 4, 0}, 1, limits), IsOk());
  EXPECT_THAT(CheckUpdate(SmallLayout(), {0, 0, -4, -0.0f}, 10, limits), IsOk());
}

TEST(CheckUpdateTest, NamesEachReason) {
  UpdateLimits limits;
  limits.max_abs = 4;
  limits.max_norm = 5;
  limits.max_example_count = 10;
  EXPECT_EQ(Reason({1, 2, 3}, 1, limits), Rejection::kWrongLayout);
  EXPECT_EQ(Reason({}, 1, limits), Rejection::kWrongLayout);
  EXPECT_EQ(Reason({1, 2, 3, 4, 5}, 1, limits), Rejection::kWrongLayout);
  EXPECT_EQ(Reason({0, 0, 0, 0}, 0, limits), Rejection::kBadWeight);
  EXPECT_EQ(Reason({0, 0, 0, 0}, -1, limits), Rejection::kBadWeight);
  EXPECT_EQ(Reason({0, 0, 0, 0}, 11, limits), Rejection::kBadWeight);
  EXPECT_EQ(Reason({0, std::nextafter(4.0f, 5.0f), 0, 0}, 1, limits), Rejection::kValueTooLarge);
  EXPECT_EQ(Reason({0, 0, -4.5f, 0}, 1, limits), Rejection::kValueTooLarge);  // buffers too
  EXPECT_EQ(Reason({3, -4, 0, 0.01f}, 1, limits), Rejection::kNormTooLarge);
}

TEST(CheckUpdateTest, SeesOneBadValueAnywhere) {
  const float bad_values[] = {NAN, -NAN, INFINITY, -INFINITY};
  for (size_t size : {size_t{1}, size_t{2047}, size_t{2048}, size_t{2049}, size_t{5000}}) {
    const ParameterLayout layout = Wide(static_cast<int64_t>(size));
    for (size_t at : {size_t{0}, size / 2, size - 1}) {
      for (float bad : bad_values) {
        std::vector<float> delta(size, 0.5f);
        delta[at] = bad;
        EXPECT_EQ(RejectionOf(CheckUpdate(layout, delta, 1, UpdateLimits())), Rejection::kNotFinite) << size << " " << at << " " << bad;
      }
    }
  }
}

TEST(CheckUpdateTest, ZeroNormMeansNoBound) {
  UpdateLimits limits;
  limits.max_abs = FLT_MAX;
  EXPECT_THAT(CheckUpdate(SmallLayout(), {FLT_MAX, -FLT_MAX, FLT_MAX, FLT_MAX}, 1, limits), IsOk());
  limits.max_norm = 1e39;
  // Squares of floats do not overflow a double: the norm is 3.4e38 * sqrt(3).
  EXPECT_THAT(CheckUpdate(SmallLayout(), {FLT_MAX, -FLT_MAX, FLT_MAX, FLT_MAX}, 1, limits), IsOk());
  limits.max_norm = 5.8e38;
  EXPECT_EQ(Reason({FLT_MAX, -FLT_MAX, FLT_MAX, FLT_MAX}, 1, limits), Rejection::kNormTooLarge);
}

TEST(ParameterNormTest, LeavesBuffersOut) { EXPECT_EQ(ParameterNorm(SmallLayout(), {2, 3, 100, 6}), 7); }

TEST(ClipToNormTest, ScalesParametersAndKeepsBuffers) {
  std::vector<float> delta = {2, 3, 100, 6};
  EXPECT_EQ(ClipToNorm(SmallLayout(), 3.5, absl::MakeSpan(delta)), 7);
  EXPECT_NEAR(delta[0], 1, 2e-6);
  EXPECT_NEAR(delta[1], 1.5, 3e-6);
  EXPECT_EQ(delta[2], 100);
  EXPECT_NEAR(delta[3], 3, 6e-6);
}

TEST(ClipToNormTest, LeavesShortAndZeroDeltasAlone) {
  std::vector<float> delta = {2, 3, 100, 6};
  EXPECT_EQ(ClipToNorm(SmallLayout(), 7, absl::MakeSpan(delta)), 7);
  EXPECT_THAT(delta, ElementsAre(2, 3, 100, 6));
  std::vector<float> zero(4, 0.0f);
  EXPECT_EQ(ClipToNorm(SmallLayout(), 1, absl::MakeSpan(zero)), 0);
  EXPECT_THAT(zero, ElementsAre(0, 0, 0, 0));
}

TEST(ClipToNormTest, ResultPassesABoundOfTheSameNorm) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    Random random(seed);
    std::vector<float> delta(1 + random.Below(5000));
    for (float& value : delta) value = static_cast<float>(random.Normal());
    const ParameterLayout layout = Wide(static_cast<int64_t>(delta.size()));
    const double clip_norm = std::pow(10, -4 + 4 * random.Uniform());
    UpdateLimits limits;
    limits.max_norm = clip_norm;
    const double before = ClipToNorm(layout, clip_norm, absl::MakeSpan(delta));
    ASSERT_THAT(CheckUpdate(layout, delta, 1, limits), IsOk()) << clip_norm;
    if (before > clip_norm) {
      EXPECT_GT(ParameterNorm(layout, delta), clip_norm * (1 - 2e-6));
    }
  }
}

TEST(ClipToNormTest, LeavesWhatIsNotFiniteToTheGuard) {
  std::vector<float> delta = {NAN, 1, 2, 3};
  EXPECT_TRUE(std::isnan(ClipToNorm(SmallLayout(), 1, absl::MakeSpan(delta))));
  EXPECT_EQ(delta[1], 1);
  EXPECT_EQ(Reason(delta, 1, UpdateLimits()), Rejection::kNotFinite);
}

}  // namespace
}  // namespace fedwatt

// What every registered transform promises. A new transform is found here with no edit.
#include <cfloat>
#include <cmath>
#include <set>

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
using ::testing::HasSubstr;

using Segments = std::vector<Segment>;

int64_t CountOf(const Segments& segments) {
  int64_t count = 0;
  for (const Segment& segment : segments) count += segment.count();
  return count;
}

const std::vector<Segments>& Shapes() {
  static const auto& shapes = *new std::vector<Segments>{
      {},
      {{1, 1}},
      {{1, 2}},
      {{3, 1}},
      {{1, 1}, {1, 1}, {1, 1}},
      {{7, 13}},
      {{40, 50}, {1, 50}, {3, 1}, {30, 31}, {1, 1}},
      {{1, 4099}},
      {{64, 128}, {1, 64}, {10, 64}, {1, 10}},
  };
  return shapes;
}

class TransformContractTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { ASSERT_OK_AND_ASSIGN(transform_, MakeTransform(GetParam())); }

  // Values that a sparsifier, a rotation, a smoothing and a factorisation all have something to do with.
  static std::vector<float> Values(const Segments& segments, uint64_t seed) {
    std::vector<float> values = Noise(static_cast<size_t>(CountOf(segments)), 0.01, seed);
    for (size_t i = 0; i < values.size(); ++i) values[i] += 0.03f * std::sin(static_cast<float>(i) * 0.1f) + (i % 50 == 7 ? 0.3f : 0.0f);
    return values;
  }

  // What Inverse may hand out, whatever it was given.
  static void ExpectWellFormed(const Transform& transform, const Segments& segments, const DecodedValues& out) {
    const size_t count = static_cast<size_t>(CountOf(segments));
    ASSERT_EQ(out.is_sparse, transform.sparse());
    if (out.is_sparse) {
      EXPECT_TRUE(out.dense.empty());
      ASSERT_EQ(out.sparse.indices.size(), out.sparse.values.size());
      ASSERT_EQ(std::set<uint32_t>(out.sparse.indices.begin(), out.sparse.indices.end()).size(), out.sparse.indices.size());
      for (uint32_t index : out.sparse.indices) ASSERT_LT(index, count);
      for (float value : out.sparse.values) ASSERT_TRUE(std::isfinite(value));
    } else {
      EXPECT_TRUE(out.sparse.indices.empty() && out.sparse.values.empty());
      ASSERT_EQ(out.dense.size(), count);
      for (float value : out.dense) ASSERT_TRUE(std::isfinite(value));
    }
  }

  std::unique_ptr<Transform> transform_;
};

TEST_P(TransformContractTest, IsNamedAsRegistered) { EXPECT_EQ(transform_->name(), GetParam()); }

TEST_P(TransformContractTest, ForwardLeavesNoMoreThanItGotAndInverseAsksForThat) {
  for (const Segments& segments : Shapes()) {
    const std::vector<float> values = Values(segments, 1);
    ASSERT_OK_AND_ASSIGN(Transformed made, Forward(*transform_, values, segments));
    EXPECT_EQ(CountOf(made.inner.segments), static_cast<int64_t>(made.inner.values.size()));
    EXPECT_LE(made.inner.values.size(), values.size());
    for (float value : made.inner.values) ASSERT_TRUE(std::isfinite(value));
    DecodedValues out;
    const absl::Status status = transform_->Inverse(
        made.side, {segments, 5, 1},
        [&](absl::Span<const Segment> asked, std::vector<float>& inner) {
          EXPECT_EQ(Segments(asked.begin(), asked.end()), made.inner.segments);
          inner = made.inner.values;
          return absl::OkStatus();
        },
        out);
    ASSERT_THAT(status, IsOk());
    ExpectWellFormed(*transform_, segments, out);
  }
}

TEST_P(TransformContractTest, IsDeterministic) {
  for (const Segments& segments : Shapes()) {
    const std::vector<float> values = Values(segments, 2);
    ASSERT_OK_AND_ASSIGN(Transformed one, Forward(*transform_, values, segments));
    ASSERT_OK_AND_ASSIGN(Transformed two, Forward(*transform_, values, segments));
    EXPECT_EQ(one.inner.values, two.inner.values);
    EXPECT_EQ(one.inner.segments, two.inner.segments);
    EXPECT_EQ(one.side, two.side);
    EXPECT_EQ(*Inverse(*transform_, one, segments), *Inverse(*transform_, two, segments));
  }
}

// Biased transforms lose part of the vector and add nothing; random_k, which enlarges what it keeps, is tested by its bias.
TEST_P(TransformContractTest, LosesAtMostTheVectorItself) {
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Transform> transform, MakeTransform(GetParam() == "random_k" ? "random_k:scale=none" : GetParam()));
  for (const Segments& segments : Shapes()) {
    const std::vector<float> values = Values(segments, 3);
    ASSERT_OK_AND_ASSIGN(Transformed made, Forward(*transform, values, segments));
    ASSERT_OK_AND_ASSIGN(std::vector<float> decoded, Inverse(*transform, made, segments));
    EXPECT_LE(SquaredDistance(values, decoded), SquaredNorm(values) * (1 + 1e-5));
  }
}

TEST_P(TransformContractTest, ZerosStayZeros) {
  for (const Segments& segments : Shapes()) {
    const std::vector<float> zeros(static_cast<size_t>(CountOf(segments)));
    ASSERT_OK_AND_ASSIGN(Transformed made, Forward(*transform_, zeros, segments));
    ASSERT_OK_AND_ASSIGN(std::vector<float> decoded, Inverse(*transform_, made, segments));
    EXPECT_EQ(decoded, zeros);
  }
}

TEST_P(TransformContractTest, BearsTheEndsOfFloat) {
  for (const Segments& segments : Shapes()) {
    for (float end : {FLT_MAX, FLT_MIN, FLT_TRUE_MIN}) {
      std::vector<float> values(static_cast<size_t>(CountOf(segments)), end);
      for (size_t i = 0; i < values.size(); i += 3) values[i] = -end;
      const absl::StatusOr<Transformed> made = Forward(*transform_, values, segments);
      if (!made.ok()) {
        EXPECT_EQ(made.status().code(), absl::StatusCode::kInvalidArgument);
        continue;
      }
      for (float value : made->inner.values) ASSERT_TRUE(std::isfinite(value));
      const absl::StatusOr<std::vector<float>> decoded = Inverse(*transform_, *made, segments);
      if (!decoded.ok()) {
        EXPECT_EQ(decoded.status().code(), absl::StatusCode::kDataLoss);
        continue;
      }
      for (float value : *decoded) ASSERT_TRUE(std::isfinite(value));
    }
  }
}

TEST_P(TransformContractTest, PassesOnWhatInnerSays) {
  for (const Segments& segments : Shapes()) {
    ASSERT_OK_AND_ASSIGN(Transformed made, Forward(*transform_, Values(segments, 4), segments));
    DecodedValues out;
    EXPECT_THAT(transform_->Inverse(
                    made.side, {segments, 5, 1}, [](auto, auto&) { return absl::DataLossError("from within"); }, out),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("from within")));
  }
}

// Truncated to nothing, a sparsifier's places are those of a vector of zeros; whatever codes the values then notices.
TEST_P(TransformContractTest, RefusesSideInformationOfOtherLengths) {
  const Segments segments = Shapes().back();
  ASSERT_OK_AND_ASSIGN(Transformed made, Forward(*transform_, Values(segments, 5), segments));
  for (size_t size = 1; size < made.side.size(); ++size) {
    EXPECT_THAT(Inverse(*transform_, {made.inner, made.side.substr(0, size)}, segments), StatusIs(absl::StatusCode::kDataLoss, _)) << size;
  }
  EXPECT_THAT(Inverse(*transform_, {made.inner, made.side + '\0'}, segments), StatusIs(absl::StatusCode::kDataLoss, _));
}

TEST_P(TransformContractTest, BearsHostileSideInformationAndInnerValues) {
  Random random(6);
  for (const Segments& segments : Shapes()) {
    ASSERT_OK_AND_ASSIGN(Transformed made, Forward(*transform_, Values(segments, 6), segments));
    for (int trial = 0; trial < 200; ++trial) {
      std::string side = made.side;
      if (trial % 2 == 0 && !side.empty()) side[random.Below(side.size())] ^= static_cast<char>(1 << random.Below(8));
      if (trial % 2 == 1) {
        side.resize(random.Below(40));
        for (char& c : side) c = static_cast<char>(random.Next());
      }
      DecodedValues out;
      const absl::Status status = transform_->Inverse(
          side, {segments, 5, 1},
          [&](absl::Span<const Segment> asked, std::vector<float>& inner) {
            const Segments inner_segments(asked.begin(), asked.end());
            EXPECT_LE(CountOf(inner_segments), CountOf(segments));
            inner.resize(static_cast<size_t>(CountOf(inner_segments)));
            for (float& value : inner) value = random.Below(2) == 0 ? FLT_MAX : -FLT_MAX;
            return absl::OkStatus();
          },
          out);
      ASSERT_TRUE(status.ok() || status.code() == absl::StatusCode::kDataLoss) << status;
      if (status.ok()) ExpectWellFormed(*transform_, segments, out);
    }
  }
}

TEST_P(TransformContractTest, RefusesUnknownOptions) {
  EXPECT_THAT(MakeTransform(GetParam() + ":nonsense=1"), StatusIs(absl::StatusCode::kInvalidArgument, _));
}

INSTANTIATE_TEST_SUITE_P(Registered, TransformContractTest, ::testing::ValuesIn(Transforms().Names()), [](const auto& info) { return info.param; });

}  // namespace
}  // namespace fedwatt

#include <cfloat>
#include <cmath>
#include <map>

#include "tests/compression/transform_testing.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::Forward;
using ::fedwatt::testing::Inverse;
using ::fedwatt::testing::MakeTransform;
using ::fedwatt::testing::Noise;
using ::fedwatt::testing::StatusIs;
using ::fedwatt::testing::Transformed;
using ::testing::_;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(RandomKTest, ScalesKeptValuesAndSendsNoPlaces) {
  std::vector<float> values(30);
  for (size_t i = 0; i < 30; ++i) values[i] = static_cast<float>(i + 1);
  const std::vector<Segment> segments = {{1, 10}, {4, 5}};
  for (double factor : {1.0, 10.0}) {
    ASSERT_OK_AND_ASSIGN(std::unique_ptr<Transform> transform, MakeTransform(factor == 1 ? "random_k:scale=none" : "random_k"));
    ASSERT_OK_AND_ASSIGN(Transformed made, Forward(*transform, values, segments));
    EXPECT_EQ(made.inner.values.size(), 3u);
    EXPECT_EQ(made.side, "");
    ASSERT_OK_AND_ASSIGN(std::vector<float> decoded, Inverse(*transform, made, segments));
    int kept = 0;
    for (size_t i = 0; i < 30; ++i) {
      if (decoded[i] == 0) continue;
      ++kept;
      EXPECT_EQ(decoded[i], values[i] * factor);
    }
    EXPECT_EQ(kept, 3);
    made.side = "x";
    EXPECT_THAT(Inverse(*transform, made, segments), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("expected none")));
  }
}

// Of 5 places 2 make 10 sets, 3 likewise by their complement. Over 20,000 seeds, a set's number has a mean of 2,000 and a deviation of 42; 20 sets at
// 5 deviations give a false alarm of 1e-5.
TEST(RandomKTest, EverySetIsEquallyLikely) {
  const std::vector<float> values = {1, 2, 4, 8, 16};
  for (const char* spec : {"random_k:fraction=0.4", "random_k:fraction=0.6"}) {
    ASSERT_OK_AND_ASSIGN(std::unique_ptr<Transform> transform, MakeTransform(spec));
    std::map<int, int> sets;
    for (uint64_t seed = 0; seed < 20'000; ++seed) {
      ASSERT_OK_AND_ASSIGN(Transformed made, Forward(*transform, values, {{1, 5}}, seed));
      float sum = 0;
      for (float value : made.inner.values) sum += value;
      ++sets[static_cast<int>(sum)];
    }
    EXPECT_EQ(sets.size(), 10u);
    for (const auto& [set, times] : sets) EXPECT_NEAR(times, 2000, 210) << set;
  }
}

TEST(RandomKTest, KeepsExactlyAsManyAsAskedInOrder) {
  for (size_t count : {1, 2, 63, 64, 65, 128, 1000}) {
    std::vector<float> values(count);
    for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i);
    for (const char* fraction : {"0.000001", "0.3", "0.5", "0.51", "0.999", "1"}) {
      ASSERT_OK_AND_ASSIGN(std::unique_ptr<Transform> transform, MakeTransform(std::string("random_k:fraction=") + fraction));
      ASSERT_OK_AND_ASSIGN(Transformed made, Forward(*transform, values, {{1, static_cast<int64_t>(count)}}));
      EXPECT_EQ(made.inner.values.size(), static_cast<size_t>(std::ceil(std::stod(fraction) * static_cast<double>(count))));
      for (size_t i = 1; i < made.inner.values.size(); ++i) ASSERT_LT(made.inner.values[i - 1], made.inner.values[i]);
      ASSERT_LT(made.inner.values.back(), count);
    }
  }
}

TEST(RandomKTest, StaysFinite) {
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Transform> transform, MakeTransform("random_k:fraction=0.5"));
  ASSERT_OK_AND_ASSIGN(Transformed made, Forward(*transform, {FLT_MAX, FLT_MAX}, {{1, 2}}));
  ASSERT_OK_AND_ASSIGN(std::vector<float> decoded, Inverse(*transform, made, {{1, 2}}));
  EXPECT_EQ(decoded[0] + decoded[1], FLT_MAX);
}

TEST(RandomKTest, RefusesBadOptions) {
  for (const char* spec : {"random_k:fraction=0", "random_k:fraction=2", "random_k:scale=", "random_k:scale=some", "random_k:seed=1"}) {
    EXPECT_THAT(MakeTransform(spec), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("random_k"))) << spec;
  }
}

}  // namespace
}  // namespace fedwatt

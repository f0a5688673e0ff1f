#include "fedwatt/model/layout.h"

#include "tests/golden/golden.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::Golden;
using ::fedwatt::testing::GoldenLayout;
using ::fedwatt::testing::GoldenModel;
using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::HasSubstr;

absl::Status CreateStatus(std::vector<LayoutEntry> entries) { return ParameterLayout::Create(std::move(entries)).status(); }

TEST(ParameterLayoutTest, PlacesEntriesAndSkipsLocalOnes) {
  const ParameterLayout layout = GoldenLayout();
  EXPECT_EQ(layout.value_count(), 10);
  EXPECT_EQ(layout.offset(0), 0);
  EXPECT_EQ(layout.offset(1), 6);
  EXPECT_EQ(layout.offset(3), 8);
  EXPECT_EQ(layout.entries()[2].element_count(), 1);  // a scalar
  EXPECT_EQ(ParameterLayout().value_count(), 0);
}

TEST(ParameterLayoutTest, DigestsArePinned) {
  EXPECT_EQ(GoldenLayout().digest().Raw(), Golden("layout_digest.hex"));
  EXPECT_EQ(ModelDigest(GoldenLayout(), GoldenModel()).Raw(), Golden("model_digest.hex"));
}

TEST(ParameterLayoutTest, DigestSeesNamesShapesKindsDtypesAndOrder) {
  const LayoutEntry a{"a", {2, 3}}, b{"b", {6}};
  const Digest base = ParameterLayout::Create({a, b})->digest();
  EXPECT_EQ(ParameterLayout::Create({a, b})->digest(), base);
  EXPECT_NE(ParameterLayout::Create({b, a})->digest(), base);
  EXPECT_NE(ParameterLayout::Create({{"a", {3, 2}}, b})->digest(), base);
  EXPECT_NE(ParameterLayout::Create({{"c", {2, 3}}, b})->digest(), base);
  EXPECT_NE(ParameterLayout::Create({{"a", {2, 3}, EntryKind::kAveragedBuffer}, b})->digest(), base);
  EXPECT_NE(ParameterLayout::Create({a, b, {"n", {}, EntryKind::kLocal, Dtype::kInt64}})->digest(), base);
  EXPECT_NE(ParameterLayout::Create({a, b, {"n", {}, EntryKind::kLocal, Dtype::kFloat32}})->digest(),
            ParameterLayout::Create({a, b, {"n", {}, EntryKind::kLocal, Dtype::kInt64}})->digest());
}

TEST(ParameterLayoutTest, ModelDigestSeesEveryValueBitButNoLocalEntry) {
  const ParameterLayout layout = GoldenLayout();
  std::vector<float> values = GoldenModel();
  const Digest base = ModelDigest(layout, values);
  values[3] = -0.0f;  // was 0: equal as a number, other bits
  EXPECT_NE(ModelDigest(layout, values), base);
  std::vector<LayoutEntry> entries = layout.entries();
  entries.erase(entries.begin() + 2);
  EXPECT_EQ(ModelDigest(*ParameterLayout::Create(entries), GoldenModel()), base);
}

TEST(ParameterLayoutTest, RefusesBadEntries) {
  EXPECT_THAT(CreateStatus({}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no values")));
  EXPECT_THAT(CreateStatus({{"n", {}, EntryKind::kLocal, Dtype::kInt64}}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no values")));
  EXPECT_THAT(CreateStatus({{"", {1}}}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("name")));
  EXPECT_THAT(CreateStatus({{std::string(255, 'x'), {1}}}), IsOk());
  EXPECT_THAT(CreateStatus({{std::string(256, 'x'), {1}}}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("256 bytes")));
  EXPECT_THAT(CreateStatus({{"a", {1}}, {"a", {2}}}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("entry 1")));
  EXPECT_THAT(CreateStatus({{"a", {0}}}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("dimension 0")));
  EXPECT_THAT(CreateStatus({{"a", {-3}}}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("dimension -3")));
  EXPECT_THAT(CreateStatus({{"a", std::vector<int64_t>(8, 2)}}), IsOk());
  EXPECT_THAT(CreateStatus({{"a", std::vector<int64_t>(9, 1)}}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("9 dimensions")));
  EXPECT_THAT(CreateStatus({{"a", {2}, EntryKind::kParameter, Dtype::kInt64}}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("integers")));
  EXPECT_THAT(CreateStatus({{"a", {2}, static_cast<EntryKind>(0)}}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("kind 0")));
  EXPECT_THAT(CreateStatus({{"a", {2}, static_cast<EntryKind>(4)}}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("kind 4")));
  EXPECT_THAT(CreateStatus({{"a", {2}, EntryKind::kParameter, static_cast<Dtype>(3)}}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("dtype 3")));
}

TEST(ParameterLayoutTest, RefusesMoreValuesThanTheLimitWithoutOverflow) {
  const int64_t limit = ParameterLayout::kMaxValueCount;
  EXPECT_THAT(CreateStatus({{"a", {limit}}}), IsOk());
  EXPECT_THAT(CreateStatus({{"a", {limit + 1}}}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("more than")));
  EXPECT_THAT(CreateStatus({{"a", {limit}}, {"b", {1}}}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("more than")));
  // 2^32 * 2^32 wraps to 0.
  EXPECT_THAT(CreateStatus({{"a", {int64_t{1} << 32, int64_t{1} << 32}}}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("more than")));
  EXPECT_THAT(CreateStatus({{"v", {1}}, {"a", {INT64_MAX, 2}, EntryKind::kLocal}}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("more than")));
}

TEST(ParameterLayoutTest, RefusesMoreEntriesThanTheLimit) {
  std::vector<LayoutEntry> entries;
  for (int i = 0; i < ParameterLayout::kMaxEntryCount; ++i) entries.push_back({std::to_string(i), {1}});
  EXPECT_THAT(CreateStatus(entries), IsOk());
  entries.push_back({"one more", {1}});
  EXPECT_THAT(CreateStatus(entries), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("65537 entries")));
}

}  // namespace
}  // namespace fedwatt

#include "fedwatt/model/submodel.h"

#include <numeric>

#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

ParameterLayout Layout(std::vector<LayoutEntry> entries) { return *ParameterLayout::Create(std::move(entries)); }

std::vector<float> Coordinates(int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  std::iota(values.begin(), values.end(), 0.0f);
  return values;
}

// Which coordinates of the whole a submodel keeps.
std::vector<float> Kept(const Submodel& submodel) { return submodel.Gather(Coordinates(submodel.whole().value_count())); }

// 3 inputs, 4 hidden units, 2 outputs: a (4 x 3) at 0, its bias at 12, b (2 x 4) at 16, its bias at 24.
struct Perceptron {
  ParameterLayout layout = Layout({{"a.weight", {4, 3}}, {"a.bias", {4}}, {"b.weight", {2, 4}}, {"b.bias", {2}}});
  std::vector<ChannelGroup> groups{{"a", 4, {{"a.weight", 0}, {"a.bias", 0}, {"b.weight", 1}}}};
};

TEST(SubmodelTest, DropsHiddenUnits) {
  Perceptron p;
  ASSERT_OK_AND_ASSIGN(const Submodel narrow, Submodel::Create(p.layout, p.groups, {{"a", {{0, 2}}}}));
  EXPECT_THAT(narrow.layout().entries()[0].shape, ElementsAre(2, 3));
  EXPECT_THAT(narrow.layout().entries()[2].shape, ElementsAre(2, 2));
  EXPECT_THAT(Kept(narrow), ElementsAre(0, 1, 2, 3, 4, 5, 12, 13, 16, 17, 20, 21, 24, 25));
  EXPECT_THAT(narrow.covered(), ElementsAre(CoordinateRange{0, 6}, CoordinateRange{12, 14}, CoordinateRange{16, 18}, CoordinateRange{20, 22}, CoordinateRange{24, 26}));
  ASSERT_OK_AND_ASSIGN(const Submodel split, Submodel::Create(p.layout, p.groups, {{"a", {{0, 1}, {3, 4}}}}));
  EXPECT_THAT(Kept(split), ElementsAre(0, 1, 2, 9, 10, 11, 12, 15, 16, 19, 20, 23, 24, 25));
}

TEST(SubmodelTest, WithoutDropsItIsTheWhole) {
  Perceptron p;
  for (const KeptChannels& kept : {KeptChannels{}, KeptChannels{{"a", {{0, 4}}}}}) {
    ASSERT_OK_AND_ASSIGN(const Submodel all, Submodel::Create(p.layout, p.groups, kept));
    EXPECT_TRUE(all.layout() == p.layout);
    EXPECT_THAT(all.covered(), ElementsAre(CoordinateRange{0, 26}));
  }
}

// A convolution of 3 channels with 1 x 2 kernels over 2 channels, then a linear layer over 3 channels x 4 positions: column = channel * 4 + position.
TEST(SubmodelTest, DropsChannelsOfAConvolutionAndTheirPlacesAfterFlattening) {
  const ParameterLayout layout = Layout({{"c.weight", {3, 2, 1, 2}}, {"c.bias", {3}}, {"f.weight", {2, 12}}, {"f.bias", {2}}});
  const std::vector<ChannelGroup> groups{{"c", 3, {{"c.weight", 0}, {"c.bias", 0}, {"f.weight", 1, 4}}}};
  ASSERT_OK_AND_ASSIGN(const Submodel narrow, Submodel::Create(layout, groups, {{"c", {{1, 2}}}}));
  EXPECT_THAT(narrow.layout().entries()[0].shape, ElementsAre(1, 2, 1, 2));
  EXPECT_THAT(narrow.layout().entries()[2].shape, ElementsAre(2, 4));
  // c.weight at 0, c.bias at 12, f.weight at 15, f.bias at 39.
  EXPECT_THAT(Kept(narrow), ElementsAre(4, 5, 6, 7, 13, 19, 20, 21, 22, 31, 32, 33, 34, 39, 40));
}

// Two chained convolutions: the second is cut on both of its channel axes.
TEST(SubmodelTest, CutsInputAndOutputChannelsOfOneTensor) {
  const ParameterLayout layout = Layout({{"c.weight", {2, 2, 1, 1}}, {"d.weight", {3, 2, 1, 2}}});
  const std::vector<ChannelGroup> groups{{"c", 2, {{"c.weight", 0}, {"d.weight", 1}}}, {"d", 3, {{"d.weight", 0}}}};
  ASSERT_OK_AND_ASSIGN(const Submodel narrow, Submodel::Create(layout, groups, {{"c", {{1, 2}}}, {"d", {{0, 1}, {2, 3}}}}));
  // d.weight at 4: output o, input i, kernel place k at 4 + 4 o + 2 i + k.
  EXPECT_THAT(Kept(narrow), ElementsAre(2, 3, 6, 7, 14, 15));
  EXPECT_THAT(narrow.layout().entries()[1].shape, ElementsAre(2, 1, 1, 2));
}

// Two hidden units under four gates: gate g of unit u is row 2 g + u.
TEST(SubmodelTest, DropsUnitsOfEveryGateOfAnLstm) {
  const ParameterLayout layout = Layout({{"l.weight_ih_l0", {8, 3}}, {"l.weight_hh_l0", {8, 2}}, {"l.bias_ih_l0", {8}}});
  const std::vector<ChannelGroup> groups{
      {"l", 2, {{"l.weight_ih_l0", 0, 1, 4}, {"l.weight_hh_l0", 0, 1, 4}, {"l.weight_hh_l0", 1}, {"l.bias_ih_l0", 0, 1, 4}}}};
  ASSERT_OK_AND_ASSIGN(const Submodel narrow, Submodel::Create(layout, groups, {{"l", {{1, 2}}}}));
  EXPECT_THAT(narrow.layout().entries()[0].shape, ElementsAre(4, 3));
  EXPECT_THAT(narrow.layout().entries()[1].shape, ElementsAre(4, 1));
  EXPECT_THAT(Kept(narrow), ElementsAre(3, 4, 5, 9, 10, 11, 15, 16, 17, 21, 22, 23,  // input weights, rows 1, 3, 5, 7
                                        27, 31, 35, 39,                              // recurrent weights (at 24), column 1 of the same rows
                                        41, 43, 45, 47));                            // bias, at 40
}

TEST(SubmodelTest, DropsColumnsOfAnEmbedding) {
  const ParameterLayout layout = Layout({{"e.weight", {3, 4}}, {"f.weight", {1, 4}}});
  const std::vector<ChannelGroup> groups{{"e", 4, {{"e.weight", 1}, {"f.weight", 1}}}};
  ASSERT_OK_AND_ASSIGN(const Submodel narrow, Submodel::Create(layout, groups, {{"e", {{2, 4}}}}));
  EXPECT_THAT(Kept(narrow), ElementsAre(2, 3, 6, 7, 10, 11, 14, 15));
}

TEST(SubmodelTest, ScatterChangesWhatIsCoveredOnly) {
  Perceptron p;
  ASSERT_OK_AND_ASSIGN(const Submodel narrow, Submodel::Create(p.layout, p.groups, {{"a", {{1, 2}}}}));
  std::vector<float> whole(26, -1);
  const std::vector<float> values = Coordinates(narrow.layout().value_count());
  narrow.Scatter(values, absl::MakeSpan(whole));
  EXPECT_THAT(whole, ElementsAre(-1, -1, -1, 0, 1, 2, -1, -1, -1, -1, -1, -1, -1, 3, -1, -1, -1, 4, -1, -1, -1, 5, -1, -1, 6, 7));
  EXPECT_EQ(narrow.Gather(whole), values);
  std::vector<uint32_t> indices{7, 0, 3, 5, 2};
  narrow.ToWhole(absl::MakeSpan(indices));
  EXPECT_THAT(indices, ElementsAre(25, 3, 13, 21, 5));
}

TEST(SubmodelTest, LocalEntriesTakeNoPlaceAndScalarsStay) {
  const ParameterLayout layout = Layout({{"s", {}}, {"n.steps", {}, EntryKind::kLocal, Dtype::kInt64}, {"n.mean", {2}, EntryKind::kAveragedBuffer}});
  const std::vector<ChannelGroup> groups{{"n", 2, {{"n.mean", 0}}}};
  ASSERT_OK_AND_ASSIGN(const Submodel narrow, Submodel::Create(layout, groups, {{"n", {{1, 2}}}}));
  EXPECT_THAT(Kept(narrow), ElementsAre(0, 2));
}

// Two layers' outputs in one axis, with an index between them that belongs to neither: [a0 a1 a2 | x | b0 b1].
TEST(SubmodelTest, ConcatenatedGroupsAreCutPartByPart) {
  const ParameterLayout layout = Layout({{"next", {6}}});
  const std::vector<ChannelGroup> groups{{"a", 3, {{"next", 0}}}, {"b", 2, {{.entry = "next", .axis = 0, .begin = 4}}}};
  const auto kept = [&](KeptChannels channels) { return Kept(*Submodel::Create(layout, groups, std::move(channels))); };
  EXPECT_THAT(kept({{"a", {{0, 1}, {2, 3}}}, {"b", {{1, 2}}}}), ElementsAre(0, 2, 3, 5));
  EXPECT_THAT(kept({{"b", {{0, 1}}}}), ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(kept({{"a", {{2, 3}}}}), ElementsAre(2, 3, 4, 5));
}

// Single weights of a and all of b; the entry that is cut becomes one row.
TEST(SubmodelTest, KeepsSingleWeights) {
  Perceptron p;
  const std::vector<ChannelGroup> weights = WeightGroups(p.layout);
  ASSERT_EQ(weights.size(), 2u) << "biases are no groups";
  EXPECT_EQ(weights[0].name, "a.weight[]");
  EXPECT_EQ(weights[0].size, 12);
  const KeptChannels kept{{"a.weight[]", {{1, 3}, {7, 8}}}};
  EXPECT_TRUE(KeepsWeights(kept));
  EXPECT_FALSE(KeepsWeights({}));
  EXPECT_FALSE(KeepsWeights({{"a", {{0, 1}}}}));
  ASSERT_OK_AND_ASSIGN(const Submodel left, Submodel::Create(p.layout, weights, kept));
  EXPECT_THAT(left.layout().entries()[0].shape, ElementsAre(3));
  EXPECT_THAT(left.layout().entries()[2].shape, ElementsAre(2, 4)) << "not cut, not flattened";
  EXPECT_THAT(Kept(left), ElementsAre(1, 2, 7, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25));
  // Cuts of a cut.
  const std::vector<ChannelGroup> narrow = NarrowGroups(weights, kept);
  ASSERT_OK_AND_ASSIGN(const Submodel twice, Submodel::Create(left.layout(), narrow, {{"a.weight[]", {{1, 3}}}}));
  EXPECT_EQ(twice.Gather(Kept(left))[0], 2);
  EXPECT_EQ(KeptOfKept(weights, kept, {{"a.weight[]", {{1, 3}}}}), (KeptChannels{{"a.weight[]", {{2, 3}, {7, 8}}}}));
  EXPECT_THAT(Submodel::Create(p.layout, weights, {{"a.weight[]", {{0, 13}}}}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("range")));
}

TEST(SubmodelTest, RefusesWhatIsNoChoiceOfChannels) {
  Perceptron p;
  const auto refused = [&](KeptChannels kept, const char* words) {
    EXPECT_THAT(Submodel::Create(p.layout, p.groups, std::move(kept)), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(words))) << words;
  };
  refused({{"aa", {{0, 1}}}}, "did you mean 'a'");
  refused({{"a", {}}}, "none kept");
  refused({{"a", {{0, 5}}}}, "[0, 4)");
  refused({{"a", {{-1, 2}}}}, "[-1, 2)");
  refused({{"a", {{2, 2}}}}, "[2, 2)");
  refused({{"a", {{2, 1}}}}, "[2, 1)");
  refused({{"a", {{2, 3}, {0, 1}}}}, "in order");
  refused({{"a", {{0, 2}, {2, 3}}}}, "touch");
  refused({{"a", {{0, 3}, {1, 4}}}}, "in order");
  const auto unsuitable = [&](ChannelAxis axis) {
    const std::vector<ChannelGroup> groups{{"a", 4, {std::move(axis)}}};
    EXPECT_THAT(Submodel::Create(p.layout, groups, {{"a", {{0, 2}}}}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("does not suit")));
  };
  unsuitable({"nowhere", 0});
  unsuitable({"a.weight", 1});
  unsuitable({"a.weight", 2});
  unsuitable({"a.weight", -2});
  unsuitable({.entry = "a.bias", .axis = 0, .begin = 1});
  unsuitable({.entry = "a.bias", .axis = 0, .begin = -1});
  unsuitable({.entry = "a.bias", .axis = 0, .repeat = 0});
  unsuitable({.entry = "a.bias", .axis = 0, .repeat = int64_t{1} << 62});
  unsuitable({.entry = "a.bias", .axis = 0, .blocks = int64_t{1} << 62});
  const std::vector<ChannelGroup> twice{{"a", 4, {{"a.bias", 0}}}, {"c", 4, {{"a.bias", 0}}}};
  EXPECT_THAT(Submodel::Create(p.layout, twice, {{"a", {{0, 2}}}, {"c", {{0, 2}}}}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("does not suit")));
}

// Two layers whose outputs are concatenated: "c" reads 4 channels of a, then 3 of b, each twice, then one value of nobody's.
TEST(NarrowGroupsTest, CutsOfACutAreTheCutsOfTheWhole) {
  const ParameterLayout layout = *ParameterLayout::Create({{"a", {4}}, {"b", {3}}, {"c", {2, 11}}});
  const std::vector<ChannelGroup> groups{{"a", 4, {{"a", 0}, {"c", 1, 1, 1, 0}}}, {"b", 3, {{"b", 0}, {"c", 1, 2, 1, 4}}}};
  const KeptChannels outer{{"a", {{0, 1}, {2, 4}}}, {"b", {{1, 3}}}}, inner{{"a", {{1, 2}}}, {"b", {{0, 1}}}};
  const std::vector<ChannelGroup> narrow = NarrowGroups(groups, outer);
  EXPECT_EQ(narrow[0].size, 3);
  EXPECT_EQ(narrow[1].size, 2);
  EXPECT_EQ(narrow[1].axes[1], (ChannelAxis{"c", 1, 2, 1, 3})) << "one of a's channels before it is gone";
  // Channel 2 of a is the second of those left, channel 1 of b the first.
  EXPECT_EQ(KeptOfKept(groups, outer, inner), (KeptChannels{{"a", {{2, 3}}}, {"b", {{1, 2}}}}));
  EXPECT_EQ(KeptOfKept(groups, outer, {}), outer);
  EXPECT_EQ(KeptOfKept(groups, {}, inner), inner);
  EXPECT_TRUE(KeptOfKept(groups, {}, {}).empty());

  std::vector<float> whole(29);
  for (size_t i = 0; i < whole.size(); ++i) whole[i] = static_cast<float>(i);
  ASSERT_OK_AND_ASSIGN(const Submodel once, Submodel::Create(layout, groups, outer));
  ASSERT_OK_AND_ASSIGN(const Submodel twice, Submodel::Create(once.layout(), narrow, inner));
  ASSERT_OK_AND_ASSIGN(const Submodel at_once, Submodel::Create(layout, groups, KeptOfKept(groups, outer, inner)));
  EXPECT_EQ(twice.layout(), at_once.layout());
  EXPECT_EQ(twice.Gather(once.Gather(whole)), at_once.Gather(whole));
  // a[2]; b[1]; of each row of c: a's place 2, b's places 6 and 7, and the last.
  EXPECT_THAT(at_once.Gather(whole), ::testing::ElementsAre(2, 5, 9, 13, 14, 17, 20, 24, 25, 28));
}

TEST(ChannelRangesTest, ComeFromChannelsAndGoBack) {
  EXPECT_EQ(ToRanges(std::vector<int64_t>{0, 1, 4, 6, 7}), (std::vector<ChannelRange>{{0, 2}, {4, 5}, {6, 8}}));
  EXPECT_TRUE(ToRanges(std::vector<int64_t>{}).empty());
  const ChannelGroup group{"g", 8, {}};
  EXPECT_EQ(ChannelsOf(group, {{"g", {{0, 2}, {4, 5}, {6, 8}}}}), (std::vector<int64_t>{0, 1, 4, 6, 7}));
  EXPECT_EQ(ChannelsOf(group, {{"other", {{0, 2}}}}).size(), 8u);
}

}  // namespace
}  // namespace fedwatt

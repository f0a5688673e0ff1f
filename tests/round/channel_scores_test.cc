#include "fedwatt/round/channel_scores.h"

#include "fedwatt/model/submodel.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

// Two hidden channels between two inputs and one output, the second channel's positions doubled by a flatten: "out" reads 2 values of each.
struct Tiny {
  ParameterLayout layout = *ParameterLayout::Create({{"in.weight", {2, 2}}, {"in.bias", {2}}, {"out.weight", {1, 4}}});
  std::vector<ChannelGroup> groups{{"in", 2, {{"in.weight", 0}, {"in.bias", 0}, {"out.weight", 1, 2, 1, 0, true}}}};
  std::vector<float> model{1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
};

TEST(ChannelScoresTest, SumsOverEachChannelsCoordinates) {
  Tiny tiny;
  ChannelScores scores;
  ScoreChannels(tiny.layout, tiny.groups, tiny.model, {}, scores);
  ASSERT_THAT(scores.at("in"), SizeIs(2));
  // Channel 0: 1, 2 and bias 5 are made, 7 and 8 read. Channel 1: 3, 4, 6; 9, 10.
  EXPECT_EQ(scores.at("in")[0].made, 1 + 4 + 25);
  EXPECT_EQ(scores.at("in")[0].read, 49 + 64);
  EXPECT_EQ(scores.at("in")[1].made, 9 + 16 + 36);
  EXPECT_EQ(scores.at("in")[1].read, 81 + 100);
  EXPECT_EQ(scores.at("in")[1].sensitivity, 0);

  ScoreChannels(tiny.layout, tiny.groups, tiny.model, std::vector<float>{1, -1, 0, 2, 1, 0, 3, 4, 0, -1}, scores);
  // 1 - 2 + 5 = 4; 8.
  EXPECT_EQ(scores.at("in")[0].sensitivity, 16);
  EXPECT_EQ(scores.at("in")[1].sensitivity, 64);
  EXPECT_EQ(scores.at("in")[0].pull, 9 + 16);
  EXPECT_EQ(scores.at("in")[1].pull, 1);
  // A second round without movement: the first weighs 0.8 of it.
  ScoreChannels(tiny.layout, tiny.groups, tiny.model, std::vector<float>(10), scores);
  EXPECT_DOUBLE_EQ(scores.at("in")[0].sensitivity, 16 * 0.8 / 1.8);
  EXPECT_EQ(scores.at("in")[0].pull, 0);
  // Without updates nothing is forgotten.
  ScoreChannels(tiny.layout, tiny.groups, std::vector<float>(10), {}, scores);
  EXPECT_DOUBLE_EQ(scores.at("in")[0].sensitivity, 16 * 0.8 / 1.8);
  EXPECT_EQ(scores.at("in")[0].made, 0);
}

TEST(ChannelScoresTest, CountsEveryBlockOfAnLstm) {
  const ParameterLayout layout = *ParameterLayout::Create({{"hh", {4, 2}}});  // two gates of two units
  const std::vector<ChannelGroup> groups{{"lstm", 2, {{"hh", 0, 1, 2}, {"hh", 1, 1, 1, 0, true}}}};
  ChannelScores scores;
  ScoreChannels(layout, groups, std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8}, {}, scores);
  // Unit 0 makes rows 0 and 2 and is read in column 0.
  EXPECT_EQ(scores.at("lstm")[0].made, 1 + 4 + 25 + 36);
  EXPECT_EQ(scores.at("lstm")[0].read, 1 + 9 + 25 + 49);
}

TEST(ChannelScoresTest, AGroupWhoseReadersAreNotKnownIsWeighedByWhatMakesIt) {
  Tiny tiny;
  tiny.groups[0].axes.pop_back();
  ChannelScores scores;
  ScoreChannels(tiny.layout, tiny.groups, tiny.model, {}, scores);
  EXPECT_EQ(scores.at("in")[0].read, 1);
}

// "c" reads 2 channels of a, then 2 of b, each twice, then one value of nobody's: rows of 2 + 4 + 1.
struct Concatenated {
  ParameterLayout layout = *ParameterLayout::Create({{"a", {2}}, {"b", {2}}, {"c", {2, 7}}});
  std::vector<ChannelGroup> groups{{"a", 2, {{"a", 0}, {"c", 1, 1, 1, 0, true}}}, {"b", 2, {{"b", 0}, {"c", 1, 2, 1, 2, true}}}};
  std::vector<float> model{1, 2, 3, 4, /*c:*/ 10, 11, 20, 21, 22, 23, 90, 12, 13, 24, 25, 26, 27, 91};
};

TEST(ChannelScoresTest, FindsEachGroupsPartOfAConcatenatedAxis) {
  Concatenated model;
  ChannelScores scores;
  std::vector<float> delta(18);
  delta[4 + 4] = 2;       // row 0, the first value of b's channel 1
  delta[4 + 7 + 6] = 50;  // nobody's
  ScoreChannels(model.layout, model.groups, model.model, delta, scores);
  EXPECT_EQ(scores.at("a")[0].read, 10 * 10 + 12 * 12);
  EXPECT_EQ(scores.at("a")[1].read, 11 * 11 + 13 * 13);
  EXPECT_EQ(scores.at("b")[0].read, 20 * 20 + 21 * 21 + 24 * 24 + 25 * 25);
  EXPECT_EQ(scores.at("b")[1].read, 22 * 22 + 23 * 23 + 26 * 26 + 27 * 27);
  EXPECT_EQ(scores.at("b")[0].made, 9);
  EXPECT_EQ(scores.at("b")[1].pull, 4);
  for (const auto& [group, channel] : {std::pair("a", 0), {"a", 1}, {"b", 0}}) EXPECT_EQ(scores.at(group)[static_cast<size_t>(channel)].pull, 0) << group << channel;

  ZeroReaders(model.layout, model.groups[1], {0}, absl::MakeSpan(model.model));
  EXPECT_THAT(model.model, ElementsAre(1, 2, 3, 4, 10, 11, 0, 0, 22, 23, 90, 12, 13, 0, 0, 26, 27, 91));
}

TEST(ChannelScoresTest, ForgetsScoresOfAnotherSizeAndOfOtherGroups) {
  Tiny tiny;
  const std::vector<float> delta{1, -1, 0, 2, 1, 0, 3, 4, 0, -1};
  ChannelScores scores{{"in", std::vector<ChannelScore>(3, ChannelScore{.sensitivity_sum = 1e6, .round_weight = 1})}, {"gone", std::vector<ChannelScore>(2)}};
  ScoreChannels(tiny.layout, tiny.groups, tiny.model, delta, scores);
  EXPECT_THAT(scores, SizeIs(1));
  ASSERT_THAT(scores.at("in"), SizeIs(2));
  EXPECT_EQ(scores.at("in")[0].sensitivity, 16) << "as if this were the first round";
}

TEST(ChannelScoresTest, ASingleWeightIsItsOwnChannel) {
  Tiny tiny;
  const std::vector<ChannelGroup> weights = WeightGroups(tiny.layout);
  ChannelScores scores;
  ScoreChannels(tiny.layout, weights, tiny.model, std::vector<float>{1, -1, 0, 2, 1, 0, 3, 4, 0, -1}, scores);
  ASSERT_THAT(scores.at("in.weight[]"), SizeIs(4));
  const ChannelScore& third = scores.at("out.weight[]")[3];  // weight 10, moved by -1
  EXPECT_EQ(third.made * third.read, 100) << "so that magnitude is the weight's";
  EXPECT_EQ(third.sensitivity, 100);
  EXPECT_EQ(third.pull, 1);
  ZeroReaders(tiny.layout, weights[0], {0, 2}, absl::MakeSpan(tiny.model));
  EXPECT_THAT(tiny.model, ElementsAre(0, 2, 0, 4, 5, 6, 7, 8, 9, 10));
}

TEST(ChannelScoresTest, ZeroReadersTakesAChannelOutOfTheModel) {
  Tiny tiny;
  ZeroReaders(tiny.layout, tiny.groups[0], {1}, absl::MakeSpan(tiny.model));
  EXPECT_THAT(tiny.model, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 0, 0));
}

}  // namespace
}  // namespace fedwatt

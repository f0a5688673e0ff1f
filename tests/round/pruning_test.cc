#include "fedwatt/round/pruning.h"

#include <limits>

#include "fedwatt/model/submodel.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Two layers of 10 hidden channels each between 20 inputs and 5 outputs: 200 + 10 + 100 + 10 + 50 + 5 = 375 parameters.
ParameterLayout Layout() {
  return *ParameterLayout::Create({{"a.weight", {10, 20}}, {"a.bias", {10}}, {"b.weight", {10, 10}}, {"b.bias", {10}}, {"c.weight", {5, 10}}, {"c.bias", {5}}});
}
std::vector<ChannelGroup> Groups() {
  return {{"a", 10, {{"a.weight", 0}, {"a.bias", 0}, {"b.weight", 1, 1, 1, 0, true}}}, {"b", 10, {{"b.weight", 0}, {"b.bias", 0}, {"c.weight", 1, 1, 1, 0, true}}}};
}

// What magnitude makes of these: channels in the order of `weights`, as many as there are.
std::vector<ChannelScore> Weighing(const std::vector<double>& weights) {
  std::vector<ChannelScore> scores;
  for (double weight : weights) scores.push_back({.made = weight, .read = 1});
  return scores;
}
ChannelScores Both(const std::vector<double>& weights) { return {{"a", Weighing(weights)}, {"b", Weighing(weights)}}; }
const std::vector<double> kRising{1, 2, 3, 4, 5, 6, 7, 8, 9, 10};

int64_t Left(const Pruner& pruner, const std::string& group) {
  return static_cast<int64_t>(ChannelsOf({group, 10, {}}, pruner.kept()).size());
}

TEST(PrunerTest, KeepsTheMostImportantChannelsAtTheTarget) {
  ASSERT_OK_AND_ASSIGN(Pruner pruner, Pruner::Create({.target = 0.4}, Layout(), Groups(), 1));
  EXPECT_TRUE(pruner.prunes());
  EXPECT_TRUE(pruner.Advance(0, Both({1, 9, 2, 8, 3, 7, 4, 6, 5, 0})));
  // With n channels in both: 20 n + n + n^2 + n + 5 n + 5 = n^2 + 27 n + 5; four make 129 <= 150, five 165.
  EXPECT_EQ(pruner.kept(), (KeptChannels{{"a", {{1, 2}, {3, 4}, {5, 6}, {7, 8}}}, {"b", {{1, 2}, {3, 4}, {5, 6}, {7, 8}}}}));
  for (int64_t round = 1; round < 5; ++round) EXPECT_FALSE(pruner.Advance(round, Both({4, 3, 2, 1})));
}

TEST(PrunerTest, CutsGraduallyAlongTheCubicSchedule) {
  ASSERT_OK_AND_ASSIGN(Pruner pruner, Pruner::Create({.target = 0.2, .begin = 2, .end = 9, .every = 3}, Layout(), Groups(), 1));
  std::vector<int64_t> left;
  for (int64_t round = 0; round <= 12; ++round) {
    const int64_t had = Left(pruner, "a");
    const bool cut = pruner.Advance(round, Both({kRising.end() - had, kRising.end()}));
    EXPECT_EQ(cut, round == 2 || round == 5) << round;
    left.push_back(Left(pruner, "a"));
    EXPECT_EQ(Left(pruner, "b"), left.back());
  }
  // Three cuts, after rounds 2, 5, 8: shares 0.2 + 0.8 * (8/27, 1/27, 0) = 0.437, 0.230, 0.2 of 375 = 163.9, 86.1, 75; n^2 + 27 n + 5 of 4, 2 and 2
  // channels are 129, 63, 63 (5: 165, 3: 95), so that the third finds nothing to do.
  EXPECT_THAT(left, ElementsAre(10, 10, 4, 4, 4, 2, 2, 2, 2, 2, 2, 2, 2));
}

TEST(PrunerTest, ARoundThatCameToNothingOnlyPutsTheCutOff) {
  ASSERT_OK_AND_ASSIGN(Pruner pruner, Pruner::Create({.target = 0.2, .begin = 2, .end = 8, .every = 3}, Layout(), Groups(), 1));
  EXPECT_FALSE(pruner.Advance(1, Both(kRising)));
  EXPECT_TRUE(pruner.Advance(4, Both(kRising))) << "rounds 2 and 3 were abandoned";
  EXPECT_EQ(Left(pruner, "a"), 4);
  EXPECT_TRUE(pruner.Advance(9, Both({1, 2, 3, 4}))) << "two cuts at once";
  EXPECT_EQ(Left(pruner, "a"), 2);
  EXPECT_EQ(pruner.kept().at("a"), (std::vector<ChannelRange>{{8, 10}}));
}

// After the first cut channels 0 to 4 are gone. In the round before the next one some of them are tried, and the one that updates pull on comes back.
TEST(PrunerTest, RegrowsWhatUpdatesPullOn) {
  ASSERT_OK_AND_ASSIGN(Pruner pruner, Pruner::Create({.target = 0.35, .begin = 1, .end = 4, .every = 3, .regrow = 0.5}, Layout(), Groups(), 1));
  ASSERT_TRUE(pruner.Advance(1, Both(kRising)));
  // 0.35 + 0.65 / 8 = 0.431 of 375 = 161.7: 4 channels.
  ASSERT_EQ(pruner.kept().at("a"), (std::vector<ChannelRange>{{6, 10}}));
  EXPECT_FALSE(pruner.Advance(2, Both({1, 2, 3, 4})));
  ASSERT_TRUE(pruner.Advance(3, Both({1, 2, 3, 4})));
  // f_decay: 0.5 / 2 * (1 + cos(pi / 2)) = 0.25 of 4 channels: one place, two tried.
  const std::vector<int64_t> tried = ChannelsOf({"a", 10, {}}, pruner.kept());
  ASSERT_EQ(tried.size(), 6u);
  EXPECT_LT(tried[1], 6);
  EXPECT_EQ(tried[2], 6);
  ChannelScores scores = Both({100, 100, 1, 2, 3, 4});  // their weights are no merit of theirs
  scores["a"][0].pull = 0.5;
  scores["a"][1].pull = 0.7;
  ASSERT_TRUE(pruner.Advance(4, scores));
  // 0.35 of 375 = 131.2: again 4. The second of the tried takes the place of the weakest; in b nothing pulled.
  EXPECT_EQ(ChannelsOf({"a", 10, {}}, pruner.kept()), (std::vector<int64_t>{tried[1], 7, 8, 9}));
  EXPECT_EQ(pruner.kept().at("b"), (std::vector<ChannelRange>{{6, 10}}));
  EXPECT_FALSE(pruner.Advance(5, Both({1, 2, 3, 4})));
}

TEST(PrunerTest, WhatNobodyIsKnownToReadStaysAway) {
  std::vector<ChannelGroup> groups = Groups();
  for (ChannelGroup& group : groups) {
    for (ChannelAxis& axis : group.axes) axis.reads = false;
  }
  ASSERT_OK_AND_ASSIGN(Pruner pruner, Pruner::Create({.target = 0.35, .begin = 1, .end = 4, .every = 3, .regrow = 0.5}, Layout(), groups, 1));
  ASSERT_TRUE(pruner.Advance(1, Both(kRising)));
  EXPECT_FALSE(pruner.Advance(3, Both({1, 2, 3, 4})));
}

TEST(PrunerTest, SavesAndGoesOnTheSameWay) {
  const PruneOptions options{.target = 0.2, .begin = 1, .end = 9, .every = 4, .regrow = 0.5};
  ASSERT_OK_AND_ASSIGN(Pruner a, Pruner::Create(options, Layout(), Groups(), 1));
  for (int64_t round = 0; round <= 10; ++round) {
    ASSERT_OK_AND_ASSIGN(Pruner b, Pruner::Create(options, Layout(), Groups(), 1));
    ASSERT_THAT(b.Restore(a.Save()), IsOk());
    ChannelScores scores = Both({kRising.begin(), kRising.begin() + Left(a, "a")});
    for (auto& [group, channels] : scores) channels[0].pull = 1;
    EXPECT_EQ(a.Advance(round, scores), b.Advance(round, scores)) << round;
    EXPECT_EQ(a.kept(), b.kept()) << round;
    EXPECT_EQ(a.Save(), b.Save()) << round;
  }
  const std::string state = a.Save();
  for (size_t size = 0; size < state.size(); ++size) EXPECT_THAT(a.Restore(state.substr(0, size)), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("pruning state")));
  EXPECT_THAT(a.Restore(state + "x"), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("trailing")));
  for (size_t i = 8; i < state.size(); ++i) {
    std::string damaged = state;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x80);
    EXPECT_THAT(a.Restore(damaged), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("pruning state"))) << i;
  }
  EXPECT_EQ(a.Save(), state) << "nothing changes on error";
}

TEST(PrunerTest, PrunesNothingByDefault) {
  ASSERT_OK_AND_ASSIGN(Pruner pruner, Pruner::Create({}, Layout(), {}, 1));
  EXPECT_FALSE(pruner.prunes());
  EXPECT_FALSE(pruner.Advance(0, {}));
  EXPECT_THAT(pruner.kept(), IsEmpty());
}

TEST(PruneOptionsTest, SayWhatIsWrong) {
  const auto refused = [](PruneOptions options, absl::StatusCode code, const char* words) {
    EXPECT_THAT(Pruner::Create(options, Layout(), Groups(), 1), StatusIs(code, HasSubstr(words))) << words;
  };
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  for (double bad : {0.0, -1.0, 1.01, kNan}) refused({.target = bad}, kInvalid, "prune.target: expected (0, 1]");
  for (double bad : {-0.1, 0.51, kNan}) refused({.target = 0.5, .every = 2, .regrow = bad}, kInvalid, "prune.regrow: expected [0, 0.5]");
  refused({.target = 0.5, .begin = -1}, kInvalid, "prune.begin");
  refused({.target = 0.5, .begin = 5, .end = 4}, kInvalid, "prune.end: expected a round from prune.begin = 5, got 4");
  refused({.target = 0.5, .every = 0}, kInvalid, "prune.every");
  refused({.target = 0.5, .end = 5, .regrow = 0.1}, kInvalid, "prune.every >= 2");
  refused({.target = 0.5, .channels = "magnitud"}, absl::StatusCode::kNotFound, "did you mean 'magnitude'");
  refused({.target = 0.5, .channels = "rolling"}, kInvalid, "prune.channels = 'rolling'");
  refused({.target = 0.5, .channels = "taylor"}, kInvalid, "at least one round");
  // One channel a layer: 1 + 27 + 5 = 33 of 375.
  refused({.target = 0.08}, kInvalid, "0.088");
  EXPECT_THAT(Pruner::Create({.target = 0.5}, Layout(), {}, 1), StatusIs(kInvalid, HasSubstr("declares no channels")));
}

}  // namespace
}  // namespace fedwatt

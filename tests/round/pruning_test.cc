#include "fedwatt/round/pruning.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "fedwatt/base/bytes.h"
#include "fedwatt/base/random.h"
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

TEST(PrunerTest, LeavesWholeBlocksOfChannels) {
  // 100 channels between 2 inputs and 1 output: 2 n + n + n + 1 = 4 n + 1 of 401.
  ASSERT_OK_AND_ASSIGN(const ParameterLayout layout, ParameterLayout::Create({{"a.weight", {100, 2}}, {"a.bias", {100}}, {"b.weight", {1, 100}}, {"b.bias", {1}}}));
  const std::vector<ChannelGroup> groups{{"a", 100, {{"a.weight", 0}, {"a.bias", 0}, {"b.weight", 1, 1, 1, 0, true}}}};
  const ChannelScores scores{{"a", std::vector<ChannelScore>(100, {.made = 1, .read = 1})}};
  for (const auto& [target, left] : std::map<double, int64_t>{{0.999, 96}, {0.97, 96}, {0.96, 80}, {0.5, 48}, {0.2, 16}, {0.163, 16}, {0.16, 15}, {0.05, 4}}) {
    ASSERT_OK_AND_ASSIGN(Pruner pruner, Pruner::Create({.target = target}, layout, groups, 1));
    EXPECT_TRUE(pruner.Advance(0, scores));
    EXPECT_EQ(ChannelsOf(groups[0], pruner.kept()).size(), left) << target;
  }
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
  for (size_t i = 0; i < state.size(); ++i) {
    std::string damaged = state;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x80);
    EXPECT_THAT(a.Restore(damaged), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("pruning state"))) << i;
  }
  EXPECT_EQ(a.Save(), state) << "nothing changes on error";
}

// A state of Groups(): how many cuts were made, then of each group the channels left and those of them on trial.
std::string State(int64_t cuts, const std::vector<std::vector<int64_t>>& lists) {
  ByteWriter writer;
  writer.Put<int64_t>(cuts);
  for (const std::vector<int64_t>& list : lists) {
    writer.Put<int64_t>(static_cast<int64_t>(list.size()));
    for (int64_t channel : list) writer.Put<int64_t>(channel);
  }
  return std::move(writer).str();
}

TEST(PrunerTest, RefusesAStateThatNoScheduleLeadsTo) {
  ASSERT_OK_AND_ASSIGN(Pruner pruner, Pruner::Create({.target = 0.2, .begin = 1, .end = 9, .every = 4, .regrow = 0.5}, Layout(), Groups(), 1));
  const std::string fresh = pruner.Save();
  const auto refused = [&](int64_t cuts, const std::vector<std::vector<int64_t>>& lists, const char* words) {
    EXPECT_THAT(pruner.Restore(State(cuts, lists)), StatusIs(absl::StatusCode::kDataLoss, HasSubstr(words))) << cuts;
    EXPECT_EQ(pruner.Save(), fresh) << "nothing changes on error";
  };
  const std::vector<std::vector<int64_t>> sound{{7, 8, 9}, {8}, {1, 2, 3}, {}};
  for (int64_t cuts : {int64_t{-1}, std::numeric_limits<int64_t>::min(), int64_t{4}, std::numeric_limits<int64_t>::max()}) refused(cuts, sound, "expected 0 to 3");
  refused(1, {{7, 8, 9}, {6}, {1, 2, 3}, {}}, "on trial");  // on trial, but not in the model
  refused(1, {{7, 8, 9}, {}, {1, 2, 3}, {1, 5}}, "on trial");
  refused(1, {{}, {}, {1, 2, 3}, {}}, "nothing left of 'a'");
  refused(1, {{7, 7}, {}, {1, 2, 3}, {}}, "out of order");
  refused(1, {{7, 10}, {}, {1, 2, 3}, {}}, "out of order");
  refused(1, {{-1, 7}, {}, {1, 2, 3}, {}}, "out of order");
  for (int64_t cuts : {0, 1, 3}) {
    EXPECT_THAT(pruner.Restore(State(cuts, sound)), IsOk()) << cuts;
    EXPECT_EQ(pruner.Save(), State(cuts, sound));
  }
}

TEST(PrunerTest, ATrialThatNeverWasLeavesTheCutWithoutRegrowth) {
  ASSERT_OK_AND_ASSIGN(Pruner pruner, Pruner::Create({.target = 0.35, .begin = 1, .end = 4, .every = 3, .regrow = 0.5}, Layout(), Groups(), 1));
  ASSERT_TRUE(pruner.Advance(1, Both(kRising)));
  EXPECT_FALSE(pruner.Advance(2, Both({1, 2, 3, 4})));
  ChannelScores scores = Both({1, 2, 3, 4});
  for (auto& [group, channels] : scores) {
    for (ChannelScore& channel : channels) channel.pull = 9;  // of channels that were never dropped
  }
  EXPECT_FALSE(pruner.Advance(4, scores)) << "round 3 was abandoned; the same four are the best";
  EXPECT_EQ(pruner.kept().at("a"), (std::vector<ChannelRange>{{6, 10}}));
  EXPECT_FALSE(pruner.Advance(6, scores)) << "all cuts are made, so nothing more is tried";
}

TEST(PrunerTest, ATrialLastsUntilTheCutThatWasPutOff) {
  ASSERT_OK_AND_ASSIGN(Pruner pruner, Pruner::Create({.target = 0.35, .begin = 1, .end = 4, .every = 3, .regrow = 0.5}, Layout(), Groups(), 1));
  ASSERT_TRUE(pruner.Advance(1, Both(kRising)));
  ASSERT_TRUE(pruner.Advance(3, Both({1, 2, 3, 4})));
  const std::vector<int64_t> tried = ChannelsOf({"a", 10, {}}, pruner.kept());
  ASSERT_EQ(tried.size(), 6u);
  ChannelScores scores = Both({1, 1, 1, 2, 3, 4});
  scores["a"][0].pull = 2;
  ASSERT_TRUE(pruner.Advance(7, scores)) << "rounds 4 to 6 were abandoned";
  EXPECT_EQ(ChannelsOf({"a", 10, {}}, pruner.kept()), (std::vector<int64_t>{tried[0], 7, 8, 9}));
}

TEST(PrunerTest, WhatIsTriedFollowsFromTheSeedAlone) {
  const auto tried = [](uint64_t seed) {
    Pruner pruner = *Pruner::Create({.target = 0.35, .begin = 1, .end = 4, .every = 3, .regrow = 0.5}, Layout(), Groups(), seed);
    EXPECT_TRUE(pruner.Advance(1, Both(kRising)));
    EXPECT_TRUE(pruner.Advance(3, Both({1, 2, 3, 4})));
    return pruner.kept();
  };
  std::set<KeptChannels> seen;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    EXPECT_EQ(tried(seed), tried(seed));
    seen.insert(tried(seed));
  }
  EXPECT_GT(seen.size(), 5u) << "15 pairs a group could be tried";
}

// Random chains of layers: convolutions flattened, gates stacked, outputs concatenated. Whatever is left must be a model, and no larger than was asked for.
TEST(PrunerTest, HoldsItsTargetOnModelsOfEveryShape) {
  int64_t pruned = 0;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    Random random(seed);
    const auto below = [&random](int64_t limit) { return 1 + static_cast<int64_t>(random.Below(static_cast<uint64_t>(limit))); };
    const int64_t a = below(seed % 3 == 0 ? 80 : 12), b = below(12), repeat = below(4), blocks = below(4), nobodys = below(3);
    ASSERT_OK_AND_ASSIGN(const ParameterLayout layout,
                         ParameterLayout::Create({{"a", {a, below(5)}}, {"b", {blocks * b, 2}}, {"statistics", {a}, EntryKind::kAveragedBuffer}, {"out", {below(6), a + b * repeat + nobodys}}}));
    const std::vector<ChannelGroup> groups{{"a", a, {{"a", 0}, {"statistics", 0}, {"out", 1, 1, 1, 0, true}}}, {"b", b, {{"b", 0, 1, blocks}, {"out", 1, repeat, 1, a, true}}}};
    const auto count = [](const ParameterLayout& of) {
      int64_t sum = 0;
      for (const LayoutEntry& entry : of.entries()) {
        int64_t values = entry.kind == EntryKind::kParameter ? 1 : 0;
        for (int64_t length : entry.shape) values *= length;
        sum += values;
      }
      return static_cast<double>(sum);
    };
    const PruneOptions options{.target = 0.05 + 0.9 * random.Uniform(), .begin = 1, .end = 1 + static_cast<int64_t>(random.Below(8)), .every = 2, .regrow = 0.4};
    absl::StatusOr<Pruner> pruner = Pruner::Create(options, layout, groups, seed);
    if (!pruner.ok()) {
      EXPECT_THAT(pruner.status(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("with one channel a layer"))) << seed;
      continue;
    }
    ++pruned;
    double parameters = count(layout);
    for (int64_t round = 0; round <= 12; ++round) {
      ChannelScores scores;
      for (const ChannelGroup& group : groups) {
        scores[group.name].resize(ChannelsOf(group, pruner->kept()).size());
        for (ChannelScore& score : scores[group.name]) score = {.made = random.Uniform(), .read = 1, .pull = random.Uniform()};
      }
      pruner->Advance(round, scores);
      absl::StatusOr<Submodel> left = Submodel::Create(layout, groups, pruner->kept());
      ASSERT_THAT(left, IsOk()) << seed << " " << round;
      for (const ChannelGroup& group : groups) ASSERT_GE(ChannelsOf(group, pruner->kept()).size(), 1u) << seed;
      // Between cuts the model only grows, by what is on trial; at a cut it is never larger than after the one before.
      if (const bool cut = round >= options.begin && (round - options.begin) % options.every == 0 && round <= options.end; cut) {
        EXPECT_LE(count(left->layout()), parameters) << seed << " " << round;
        parameters = count(left->layout());
      }
    }
    EXPECT_LE(parameters, options.target * count(layout)) << seed;
    // Nor smaller than need be: the greatest common share of the channels that fits, found here by building the models.
    for (int64_t step = 4096; step >= 0; --step) {
      KeptChannels leading;
      std::map<std::string, int64_t> counts;
      for (const ChannelGroup& group : groups) {
        counts[group.name] = std::clamp<int64_t>((step * group.size + 4095) / 4096, 1, group.size);
        if (counts[group.name] > 16 && counts[group.name] < group.size) counts[group.name] = counts[group.name] / 16 * 16;
        if (counts[group.name] < group.size) leading[group.name] = {{0, counts[group.name]}};
      }
      if (count(Submodel::Create(layout, groups, leading)->layout()) > options.target * count(layout)) continue;
      for (const ChannelGroup& group : groups) EXPECT_EQ(ChannelsOf(group, pruner->kept()).size(), counts[group.name]) << seed << " " << group.name;
      break;
    }
    EXPECT_EQ(count(Submodel::Create(layout, groups, pruner->kept())->layout()), parameters) << seed << ": nothing is left on trial";
  }
  EXPECT_GT(pruned, 150);
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

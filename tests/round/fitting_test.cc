#include "fedwatt/round/fitting.h"

#include <limits>
#include <map>
#include <numeric>
#include <set>

#include "fedwatt/base/random.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Options that each registered policy can work with.
FitOptions WorkableOptions(const std::string& policy) {
  FitOptions options;
  options.policy = policy;
  if (policy == "fixed") options.widths = {0.25};
  if (policy == "by_capability" || policy == "by_turns" || policy == "by_budget") options.widths = {1, 0.5, 0.25};
  return options;
}

class FitPolicyContractTest : public ::testing::TestWithParam<std::string> {};

TEST_P(FitPolicyContractTest, ChoosesAmongTheWidthsByTheRequestAlone) {
  const FitOptions options = WorkableOptions(GetParam());
  ASSERT_THAT(CheckFit(options), IsOk());
  ASSERT_OK_AND_ASSIGN(FitPolicy policy, FitPolicies().Find(GetParam()));
  std::set<double> known(options.widths.begin(), options.widths.end());
  if (known.empty()) known = {1};
  for (int64_t partition : {int64_t{0}, int64_t{1}, int64_t{99}, int64_t{9'999'999}}) {
    for (const std::optional<int64_t>& memory : {std::optional<int64_t>(), std::optional<int64_t>(0), std::optional<int64_t>(int64_t{1} << 62)}) {
      const FitRequest request{.seed = 7, .round = 3, .partition = partition, .device = {memory}};
      const std::optional<double> width = policy.width(options, request);
      ASSERT_TRUE(width.has_value()) << "whoever has measured nothing is asked";
      EXPECT_TRUE(known.contains(*width)) << *width;
      EXPECT_EQ(policy.width(options, request), width);
    }
  }
}

// Whatever a client says of its attempts, and whatever is left for it.
TEST_P(FitPolicyContractTest, StaysAmongTheWidthsUnderHostileMeasurements) {
  const FitOptions options = WorkableOptions(GetParam());
  ASSERT_OK_AND_ASSIGN(FitPolicy policy, FitPolicies().Find(GetParam()));
  std::set<double> known(options.widths.begin(), options.widths.end());
  if (known.empty()) known = {1};
  Random random(5);
  const double numbers[] = {0, 1e-300, 1, 1e12, 1e300, -1, kNan, std::numeric_limits<double>::infinity()};
  const auto number = [&] { return numbers[random.Below(std::size(numbers))]; };
  int chosen = 0;
  for (int i = 0; i < 2000; ++i) {
    WorkHistory history;
    const std::vector<WidthCost> costs(options.widths.size(), {number(), number()});
    for (uint64_t n = random.Below(12); n > 0; --n) {
      WorkSample sample{.at = absl::FromUnixSeconds(1000), .macs = number(), .parameters = number(), .train_seconds = number(), .transfer_seconds = number(), .finished = random.Below(3) > 0};
      if (random.Below(2) == 0) sample.joules = number();
      history.Note(sample);
    }
    FitRequest request{.seed = 7, .round = 3, .partition = i, .device = {}, .history = &history, .costs = costs, .now = absl::FromUnixSeconds(1010), .time = absl::Seconds(60)};
    if (random.Below(2) == 0) request.energy = random.Below(2) == 0 ? Joules(1) : Joules(-1);
    const std::optional<double> width = policy.width(options, request);
    EXPECT_TRUE(!width || known.contains(*width)) << i;
    EXPECT_EQ(policy.width(options, request), width);
    EXPECT_TRUE(width.has_value() || policy.measures) << "only a policy that measures may leave a client out";
    chosen += width.has_value();
  }
  EXPECT_GT(chosen, 100);
}

TEST_P(FitPolicyContractTest, RefusesWidthsThatAreNone) {
  for (double bad : {0.0, -0.5, 1.0001, kNan, std::numeric_limits<double>::infinity()}) {
    FitOptions options = WorkableOptions(GetParam());
    options.widths = {bad};
    EXPECT_THAT(CheckFit(options), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("fit."))) << bad;
  }
}

INSTANTIATE_TEST_SUITE_P(All, FitPolicyContractTest, ::testing::ValuesIn(FitPolicies().Names()));

class ChannelPolicyContractTest : public ::testing::TestWithParam<std::string> {};

TEST_P(ChannelPolicyContractTest, KeepsThatManyChannelsInOrderedRangesThatDoNotTouch) {
  ASSERT_OK_AND_ASSIGN(ChannelPolicy policy, ChannelPolicies().Find(GetParam()));
  EXPECT_NE(policy.choose == nullptr, policy.importance == nullptr) << "one of two";
  for (int64_t size : {1, 2, 5, 32}) {
    std::vector<ChannelScore> scores(static_cast<size_t>(size));
    for (int64_t count = 1; count <= size; ++count) {
      std::set<std::vector<ChannelRange>> choices;
      for (int64_t round = 1; round <= 2 * size + 1; ++round) {
        Random random(static_cast<uint64_t>(round));
        for (ChannelScore& score : scores) score = {.made = random.Uniform(), .read = random.Uniform(), .sensitivity = random.Uniform(), .pull = random.Uniform()};
        const std::vector<ChannelRange> kept = ChooseChannels(policy, size, count, round, scores);
        int64_t last = -1, sum = 0;
        for (const ChannelRange& range : kept) {
          EXPECT_GT(range.begin, last);
          EXPECT_GT(range.end, range.begin);
          last = range.end;
          sum += range.end - range.begin;
        }
        EXPECT_LE(last, size);
        EXPECT_EQ(sum, count) << size << " " << round;
        EXPECT_TRUE(kept == ChooseChannels(policy, size, count, round, scores));
        choices.insert(kept);
      }
      if (!policy.moves) {
        EXPECT_THAT(choices, SizeIs(1));
      } else if (count < size) {
        EXPECT_GT(choices.size(), 1u);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, ChannelPolicyContractTest, ::testing::ValuesIn(ChannelPolicies().Names()));

TEST(ChannelPolicyTest, RollingTrainsAllChannelsEquallyOften) {
  ASSERT_OK_AND_ASSIGN(ChannelPolicy policy, ChannelPolicies().Find("rolling"));
  EXPECT_THAT(policy.choose(5, 2, 1), ElementsAre(ChannelRange{0, 2}));
  EXPECT_THAT(policy.choose(5, 2, 4), ElementsAre(ChannelRange{3, 5}));
  EXPECT_THAT(policy.choose(5, 2, 5), ElementsAre(ChannelRange{0, 1}, ChannelRange{4, 5}));
  EXPECT_THAT(policy.choose(5, 2, 6), ElementsAre(ChannelRange{0, 2}));
  EXPECT_THAT(policy.choose(5, 5, 3), ElementsAre(ChannelRange{0, 5}));
  std::map<int64_t, int> kept;
  for (int64_t round = 1; round <= 10; ++round) {
    for (const ChannelRange& range : policy.choose(5, 2, round)) {
      for (int64_t channel = range.begin; channel < range.end; ++channel) ++kept[channel];
    }
  }
  for (int64_t channel = 0; channel < 5; ++channel) EXPECT_EQ(kept[channel], 4) << channel;
}

// The signal path's strength is made * read: 8, 9, 4, 9. Of equals the first.
TEST(ChannelPolicyTest, ImportanceKeepsTheGreatestAndOfEqualsTheFirst) {
  std::vector<ChannelScore> scores{{.made = 8, .read = 1, .sensitivity = 0}, {.made = 1, .read = 9, .sensitivity = 2}, {.made = 2, .read = 2, .sensitivity = 3}, {.made = 3, .read = 3, .sensitivity = 2}};
  ASSERT_OK_AND_ASSIGN(ChannelPolicy magnitude, ChannelPolicies().Find("magnitude"));
  ASSERT_OK_AND_ASSIGN(ChannelPolicy taylor, ChannelPolicies().Find("taylor"));
  EXPECT_THAT(ChooseChannels(magnitude, 4, 1, 1, scores), ElementsAre(ChannelRange{1, 2}));
  EXPECT_THAT(ChooseChannels(magnitude, 4, 2, 1, scores), ElementsAre(ChannelRange{1, 2}, ChannelRange{3, 4}));
  EXPECT_THAT(ChooseChannels(magnitude, 4, 3, 9, scores), ElementsAre(ChannelRange{0, 2}, ChannelRange{3, 4}));
  EXPECT_THAT(ChooseChannels(taylor, 4, 1, 1, scores), ElementsAre(ChannelRange{2, 3}));
  EXPECT_THAT(ChooseChannels(taylor, 4, 2, 1, scores), ElementsAre(ChannelRange{1, 3}));
  // A channel that nothing reads matters to nobody, however large.
  scores[1] = {.made = 1e6, .read = 0};
  EXPECT_THAT(ChooseChannels(magnitude, 4, 3, 1, scores), ElementsAre(ChannelRange{0, 1}, ChannelRange{2, 4}));
}

std::vector<ChannelGroup> Groups() { return {{"a", 32, {}}, {"b", 5, {}}, {"c", 1, {}}}; }

TEST(FitterTest, CutsEveryGroupUpwardsAndNeverToNothing) {
  FitOptions options;
  options.policy = "fixed";
  options.widths = {0.1};
  ASSERT_OK_AND_ASSIGN(const Fitter fitter, Fitter::Create(options, Groups()));
  const Fit fit = fitter.Cut(0.1, 1);
  EXPECT_EQ(fit.width, 0.1);
  // 3.2 -> 4, 0.5 -> 1; a group that keeps all its channels is not named.
  EXPECT_EQ(fit.kept, (KeptChannels{{"a", {{0, 4}}}, {"b", {{0, 1}}}}));
  // 0.0625 * 32 = 2 exactly; 0.2 * 5 must not become 2 for a binary fraction's sake.
  options.widths = {0.0625};
  EXPECT_EQ(Fitter::Create(options, Groups())->Cut(options.widths[0], 1).kept.at("a"), (std::vector<ChannelRange>{{0, 2}}));
  options.widths = {0.2};
  EXPECT_EQ(Fitter::Create(options, Groups())->Cut(options.widths[0], 1).kept.at("b"), (std::vector<ChannelRange>{{0, 1}}));
  options.widths = {1};
  EXPECT_THAT(Fitter::Create(options, Groups())->Cut(options.widths[0], 1).kept, IsEmpty());
}

TEST(FitterTest, StandingFitsAreTheNarrowOnesThatStay) {
  FitOptions options;
  options.policy = "by_capability";
  options.widths = {1, 0.5, 0.25, 0.125};
  ASSERT_OK_AND_ASSIGN(const Fitter all, Fitter::Create(options, Groups()));
  EXPECT_THAT(all.Standing(), SizeIs(3));
  EXPECT_EQ(all.Standing()[0].width, 0.5);
  EXPECT_FALSE(all.sends_snapshots());
  options.live = 2;
  ASSERT_OK_AND_ASSIGN(const Fitter two, Fitter::Create(options, Groups()));
  EXPECT_THAT(two.Standing(), SizeIs(2));
  EXPECT_TRUE(two.sends_snapshots());
  options.channels = "rolling";
  ASSERT_OK_AND_ASSIGN(const Fitter rolling, Fitter::Create(options, Groups()));
  EXPECT_THAT(rolling.Standing(), IsEmpty());
  EXPECT_TRUE(rolling.sends_snapshots());
  EXPECT_THAT(Fitter().Standing(), IsEmpty());
  EXPECT_FALSE(Fitter().sends_snapshots());
}

TEST(FitterTest, AModelWithoutGroupsIsTrainedWholeOrRefused) {
  FitOptions options;
  EXPECT_THAT(Fitter::Create(options, {}), IsOk());
  options.policy = "by_capability";
  options.widths = {1, 0.5};
  EXPECT_THAT(Fitter::Create(options, {}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("only be trained whole")));
  options.widths = {1};
  EXPECT_THAT(Fitter::Create(options, {}), IsOk());
}

// 100 partitions, five equal shares: within two of 20 each, whatever the seed; and again among any other hundred.
TEST(ByCapabilityTest, DealsWidthsByShare) {
  FitOptions options;
  options.policy = "by_capability";
  options.widths = {1, 0.5, 0.25, 0.125, 0.0625};
  ASSERT_OK_AND_ASSIGN(FitPolicy policy, FitPolicies().Find("by_capability"));
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    for (int64_t first : {0, 1000}) {
      std::map<double, int> dealt;
      for (int64_t partition = first; partition < first + 100; ++partition) ++dealt[*policy.width(options, {seed, 1, partition, {}})];
      for (double width : options.widths) EXPECT_NEAR(dealt[width], 20, 2) << seed << " " << width;
    }
  }
  options.shares = {1, 0, 0, 0, 3};
  EXPECT_THAT(CheckFit(options), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("fit.shares: expected numbers > 0")));
  options.widths = {1, 0.0625};
  options.shares = {1, 19};
  std::map<double, int> dealt;
  for (int64_t partition = 0; partition < 100; ++partition) ++dealt[*policy.width(options, {4, 1, partition, {}})];
  EXPECT_NEAR(dealt[1], 5, 1);
  // A client keeps its width.
  EXPECT_EQ(policy.width(options, {4, 1, 33, {}}), policy.width(options, {4, 50, 33, {}}));
}

// Over any hundred rounds of a client, and any hundred neighbouring clients of a round, each width has about its share.
TEST(ByTurnsTest, GivesEveryClientEveryWidthInItsShare) {
  FitOptions options;
  options.policy = "by_turns";
  options.widths = {1, 0.5, 0.25, 0.125, 0.0625};
  ASSERT_OK_AND_ASSIGN(FitPolicy policy, FitPolicies().Find("by_turns"));
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    for (int64_t fixed : {1, 2, 57}) {
      std::map<double, int> over_rounds, over_partitions;
      for (int64_t i = 1; i <= 100; ++i) {
        ++over_rounds[*policy.width(options, {seed, i, fixed, {}})];
        ++over_partitions[*policy.width(options, {seed, fixed, i, {}})];
      }
      for (double width : options.widths) {
        EXPECT_NEAR(over_rounds[width], 20, 2) << seed << " " << width;
        EXPECT_NEAR(over_partitions[width], 20, 2) << seed << " " << width;
      }
    }
  }
}

TEST(ByCapabilityTest, FollowsTheMemoryThatDevicesReport) {
  FitOptions options;
  options.policy = "by_capability";
  options.widths = {1, 0.5, 0.25};
  options.memory_mb = {4000, 1000, 500};
  ASSERT_THAT(CheckFit(options), IsOk());
  ASSERT_OK_AND_ASSIGN(FitPolicy policy, FitPolicies().Find("by_capability"));
  const auto width = [&](std::optional<int64_t> bytes) { return policy.width(options, {1, 1, 0, {bytes}}); };
  EXPECT_EQ(width(4'000'000'000), 1);
  EXPECT_EQ(width(3'999'999'999), 0.5);
  EXPECT_EQ(width(1'000'000'000), 0.5);
  EXPECT_EQ(width(500'000'000), 0.25);
  EXPECT_EQ(width(1), 0.25);
  EXPECT_EQ(width(-1), 0.25);
  EXPECT_EQ(width(std::nullopt), 0.25);
}

TEST(FitOptionsTest, SayWhatIsWrong) {
  const auto refused = [](FitOptions options, absl::StatusCode code, const char* words) {
    EXPECT_THAT(CheckFit(options), StatusIs(code, HasSubstr(words))) << words;
  };
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  refused({.policy = "fulll"}, absl::StatusCode::kNotFound, "did you mean 'full'");
  refused({.channels = "order"}, absl::StatusCode::kNotFound, "known: magnitude, ordered, rolling, taylor");
  refused({.widths = {0.5}}, kInvalid, "fit.policy = 'full'");
  refused({.policy = "fixed"}, kInvalid, "expects one width, got 0");
  refused({.policy = "fixed", .widths = {1, 0.5}}, kInvalid, "expects one width, got 2");
  refused({.policy = "fixed", .widths = {1}, .shares = {1}}, kInvalid, "one width for all");
  refused({.policy = "by_turns"}, kInvalid, "'by_turns' expects at least one width");
  refused({.policy = "by_turns", .widths = {1, 0.5}, .memory_mb = {1, 0}}, kInvalid, "fit.memory_mb belongs to fit.policy = 'by_capability'");
  refused({.policy = "by_capability"}, kInvalid, "at least one width");
  refused({.policy = "by_capability", .widths = {0.5, 1}}, kInvalid, "widest first");
  refused({.policy = "by_capability", .widths = {0.5, 0.5}}, kInvalid, "none twice");
  refused({.policy = "by_capability", .widths = {1, 0.5}, .shares = {1}}, kInvalid, "one for each of 2 widths, got 1");
  refused({.policy = "by_capability", .widths = {1}, .shares = {kNan}}, kInvalid, "numbers > 0");
  refused({.policy = "by_capability", .widths = {1}, .memory_mb = {-1}}, kInvalid, "fit.memory_mb");
  refused({.policy = "by_capability", .widths = {1}, .shares = {1}, .memory_mb = {1}}, kInvalid, "exclude each other");
  refused({.live = 65}, kInvalid, "fit.live: expected [0, 64], got 65");
  refused({.live = -1}, kInvalid, "fit.live");
}

// Widths of 100, 25 and 10 multiply-adds an example and 100, 50 and 25 parameters, a deadline of 60 s.
class ByBudgetTest : public ::testing::Test {
 protected:
  ByBudgetTest() {
    options_.policy = "by_budget";
    options_.widths = {1, 0.5, 0.25};
    request_.history = &history_;
    request_.costs = costs_;
    request_.now = absl::FromUnixSeconds(2000);
    request_.time = absl::Seconds(60);
    request_.max_power = Watts(2);
  }
  void Note(size_t width, double train, double transfer, std::optional<double> joules = std::nullopt, bool finished = true) {
    history_.Note({.at = absl::FromUnixSeconds(1990), .macs = costs_[width].macs_per_example, .parameters = costs_[width].parameters, .train_seconds = train, .transfer_seconds = transfer, .joules = joules, .finished = finished});
  }
  std::optional<double> Width() const { return FitPolicies().Find("by_budget")->width(options_, request_); }

  FitOptions options_;
  WorkHistory history_;
  const std::vector<WidthCost> costs_{{100, 100}, {25, 50}, {10, 25}};
  FitRequest request_;
};

TEST_F(ByBudgetTest, BeginsWithTheFirstWidth) {
  EXPECT_EQ(Width(), 0.25);
  options_.first = 0.5;
  EXPECT_THAT(CheckFit(options_), IsOk());
  EXPECT_EQ(Width(), 0.5);
  request_.history = nullptr;
  EXPECT_EQ(Width(), 0.5);
}

// 5 s of training and 1 s of transfer at a quarter: in proportion 12.5 + 2 s at half, 50 + 4 s at full width, and a quarter more than that for safety.
TEST_F(ByBudgetTest, TakesTheWidestThatMeetsTheDeadline) {
  Note(2, 5, 1);
  request_.time = absl::Seconds(67.5);
  EXPECT_EQ(Width(), 1);
  request_.time = absl::Seconds(67.4);
  EXPECT_EQ(Width(), 0.5);
  request_.time = absl::Seconds(18.1);
  EXPECT_EQ(Width(), 0.25);
  request_.time = absl::Seconds(7.4);
  EXPECT_EQ(Width(), std::nullopt);
  // 8 s at half and 5 s at a quarter are 3 s and 0.2 s a multiply-add: 23 s at full width, and 1 s of transfer, whatever the size.
  Note(1, 8, 1);
  request_.time = absl::Seconds(30);
  EXPECT_EQ(Width(), 1);
  request_.time = absl::Seconds(29.9);
  EXPECT_EQ(Width(), 0.5);
}

// 4 J at a quarter are 10 J at half and 40 J at full width, and a quarter more for safety.
TEST_F(ByBudgetTest, TakesTheWidestThatMeetsTheJoules) {
  Note(2, 0.5, 0.1, 4);
  EXPECT_EQ(Width(), 1);
  request_.energy = Joules(49.9);
  EXPECT_EQ(Width(), 0.5);
  request_.energy = Joules(12.4);
  EXPECT_EQ(Width(), 0.25);
  request_.energy = Joules(4.9);
  EXPECT_EQ(Width(), std::nullopt);
  request_.energy = Joules(0);
  EXPECT_EQ(Width(), std::nullopt);
}

// What was not metered is not free: 14.5 s at half width at 2 W, and a quarter more, are 36.25 J; 6 s at a quarter 15 J.
TEST_F(ByBudgetTest, UnmeteredWorkIsTakenAtTheMostThatTheDeviceDraws) {
  Note(2, 5, 1);
  request_.energy = Joules(36.25);
  EXPECT_EQ(Width(), 0.5);
  request_.energy = Joules(36.2);
  EXPECT_EQ(Width(), 0.25);
  request_.energy = Joules(14.9);
  EXPECT_EQ(Width(), std::nullopt);
}

TEST_F(ByBudgetTest, WhatWasTooMuchIsNotAskedAgainAtOnce) {
  options_.first = 1;
  Note(0, 0, 0, std::nullopt, /*finished=*/false);
  EXPECT_EQ(Width(), 0.5);
  Note(1, 0, 0, std::nullopt, /*finished=*/false);
  EXPECT_EQ(Width(), 0.25);
  Note(2, 1, 1);
  EXPECT_EQ(Width(), 0.25) << "though half would seem to take 4.5 s";
  for (int i = 0; i < 6; ++i) Note(2, 1, 1);
  EXPECT_EQ(Width(), 0.25) << "full width is forgotten, half is not, and full width is more";
  Note(2, 1, 1);
  EXPECT_EQ(Width(), 1);
}

TEST_F(ByBudgetTest, NobodyIsForgottenForEver) {
  Note(2, 1e12, 0);
  EXPECT_EQ(Width(), std::nullopt);
  request_.now = absl::FromUnixSeconds(1990 + 16 * 60);
  EXPECT_EQ(Width(), std::nullopt);
  request_.now += absl::Seconds(1);
  EXPECT_EQ(Width(), 0.25) << "tried anew after 16 deadlines";
}

TEST_F(ByBudgetTest, RefusesSettingsOfOtherPolicies) {
  options_.shares = {1, 1, 1};
  EXPECT_THAT(CheckFit(options_), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("fit.shares")));
  options_.shares.clear();
  options_.first = 0.3;
  EXPECT_THAT(CheckFit(options_), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("fit.first: expected one of fit.widths")));
  for (double bad : {kNan, -1.0, 2.0}) {
    options_.first = bad;
    EXPECT_THAT(CheckFit(options_), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("fit.first"))) << bad;
  }
  options_.first = 0.5;
  options_.policy = "by_turns";
  EXPECT_THAT(CheckFit(options_), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("fit.first belongs to")));
  options_ = {};
  options_.policy = "by_budget";
  EXPECT_THAT(CheckFit(options_), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("fit.widths")));
}

}  // namespace
}  // namespace fedwatt

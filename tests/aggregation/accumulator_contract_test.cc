// What every registered accumulator promises.
#include <algorithm>
#include <cmath>
#include <functional>

#include "fedwatt/aggregation/accumulator.h"
#include "fedwatt/base/random.h"
#include "fedwatt/model/rejection.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::_;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr int64_t kSize = 103;  // no multiple of a vector width

struct Sent {
  std::vector<float> delta;
  int64_t example_count;
  std::vector<CoordinateRange> covered;
  ClientUpdate update() const { return {delta, example_count, covered}; }
};

class AccumulatorContractTest : public ::testing::TestWithParam<std::string> {
 protected:
  static AccumulatorOptions Options() {
    AccumulatorOptions options;
    options.layout = *ParameterLayout::Create({{"w", {50, 2}}, {"mean", {3}, EntryKind::kAveragedBuffer}});
    options.max_abs = 8;
    options.max_total_weight = 10'000;
    return options;
  }
  static std::unique_ptr<Accumulator> Make(const AccumulatorOptions& options = Options()) {
    return *(*Accumulators().Find(GetParam()))(options);
  }
  // Some whole, some covering one or two ranges.
  static std::vector<Sent> Updates(int count = 12) {
    Random random(11);
    std::vector<Sent> updates;
    for (int k = 0; k < count; ++k) {
      Sent sent{std::vector<float>(kSize), static_cast<int64_t>(1 + random.Below(500)), {}};
      for (float& value : sent.delta) value = static_cast<float>(std::clamp(random.Normal(), -8.0, 8.0));
      if (k % 3 == 1) sent.covered = {{0, 40}, {60, 103}};
      if (k % 3 == 2) sent.covered = {{10 + k, 70}};
      updates.push_back(std::move(sent));
    }
    return updates;
  }
  static void Fold(Accumulator& into, const std::vector<Sent>& updates) {
    for (const Sent& sent : updates) ASSERT_THAT(into.Accumulate(sent.update()), IsOk());
  }
  static void ExpectSame(const Accumulator& a, const Accumulator& b) {
    EXPECT_EQ(a.Save(), b.Save());
    EXPECT_EQ(a.update_count(), b.update_count());
    ASSERT_OK_AND_ASSIGN(MeanDelta x, a.Report());
    ASSERT_OK_AND_ASSIGN(MeanDelta y, b.Report());
    EXPECT_EQ(x.values, y.values);
    EXPECT_EQ(x.uncovered, y.uncovered);
    EXPECT_EQ(x.update_count, y.update_count);
    EXPECT_EQ(x.total_weight, y.total_weight);
  }
};

TEST_P(AccumulatorContractTest, OrderDoesNotMatter) {
  std::vector<Sent> updates = Updates();
  const auto first = Make();
  Fold(*first, updates);
  Random random(1);
  for (int trial = 0; trial < 20; ++trial) {
    random.Shuffle(updates);
    const auto second = Make();
    Fold(*second, updates);
    ExpectSame(*first, *second);
  }
}

TEST_P(AccumulatorContractTest, MergeIsTheSameAsOneAccumulator) {
  const std::vector<Sent> updates = Updates();
  const auto whole = Make();
  Fold(*whole, updates);
  for (size_t split : {size_t{0}, size_t{1}, updates.size() / 2, updates.size()}) {
    const auto left = Make(), right = Make();
    Fold(*left, {updates.begin(), updates.begin() + split});
    Fold(*right, {updates.begin() + split, updates.end()});
    const std::string untouched = right->Save();
    ASSERT_THAT(left->Merge(*right), IsOk());
    ExpectSame(*left, *whole);
    EXPECT_EQ(right->Save(), untouched);
  }
}

TEST_P(AccumulatorContractTest, SaveAndRestoreMidRoundChangesNothing) {
  const std::vector<Sent> updates = Updates();
  const auto whole = Make();
  Fold(*whole, updates);
  for (size_t split = 0; split <= updates.size(); ++split) {
    const auto before = Make();
    Fold(*before, {updates.begin(), updates.begin() + split});
    const auto after = Make();
    Fold(*after, {updates[0]});  // Restore replaces what is there
    ASSERT_THAT(after->Restore(before->Save()), IsOk());
    Fold(*after, {updates.begin() + split, updates.end()});
    ExpectSame(*after, *whole);
  }
}

TEST_P(AccumulatorContractTest, ResetForgetsEverything) {
  const std::vector<Sent> updates = Updates();
  const auto used = Make(), fresh = Make();
  Fold(*used, updates);
  used->Reset();
  EXPECT_EQ(used->update_count(), 0);
  EXPECT_THAT(used->Report(), StatusIs(absl::StatusCode::kFailedPrecondition, _));
  EXPECT_EQ(used->Save(), fresh->Save());
  Fold(*used, updates);
  Fold(*fresh, updates);
  ExpectSame(*used, *fresh);
}

TEST_P(AccumulatorContractTest, AnEmptyRoundHasNoMean) {
  const auto accumulator = Make();
  EXPECT_EQ(accumulator->update_count(), 0);
  EXPECT_THAT(accumulator->Report(), StatusIs(absl::StatusCode::kFailedPrecondition, _));
  ASSERT_THAT(accumulator->Merge(*Make()), IsOk());
  EXPECT_THAT(accumulator->Report(), StatusIs(absl::StatusCode::kFailedPrecondition, _));
}

TEST_P(AccumulatorContractTest, ASingleClientIsItsOwnMean) {
  for (int64_t weight : {1, 7, 10'000}) {
    const auto accumulator = Make();
    std::vector<float> delta(kSize, 0.1f);
    delta[0] = 8;
    delta[1] = -8;
    delta[2] = 0;
    ASSERT_THAT(accumulator->Accumulate({delta, weight, {}}), IsOk());
    ASSERT_OK_AND_ASSIGN(MeanDelta mean, accumulator->Report());
    for (int64_t i = 0; i < kSize; ++i) EXPECT_FLOAT_EQ(mean.values[i], delta[i]);
    EXPECT_THAT(mean.uncovered, IsEmpty());
    EXPECT_EQ(mean.update_count, 1);
    EXPECT_EQ(mean.total_weight, weight);
  }
}

TEST_P(AccumulatorContractTest, AnyUpdateOfEqualClientsIsTheMean) {
  const auto accumulator = Make();
  for (int64_t weight : {1, 20, 300}) ASSERT_THAT(accumulator->Accumulate({std::vector<float>(kSize, -2.5f), weight, {}}), IsOk());
  ASSERT_OK_AND_ASSIGN(MeanDelta mean, accumulator->Report());
  EXPECT_THAT(mean.values, ::testing::Each(-2.5f));
}

struct Spoiler {
  const char* name;
  std::function<void(Sent&)> spoil;
  absl::StatusCode code;
  Rejection reason;
};

TEST_P(AccumulatorContractTest, BadUpdatesChangeNothing) {
  const auto code = absl::StatusCode::kInvalidArgument;
  const std::vector<Spoiler> spoilers = {
      {"short", [](Sent& s) { s.delta.pop_back(); }, code, Rejection::kWrongLayout},
      {"long", [](Sent& s) { s.delta.push_back(0); }, code, Rejection::kWrongLayout},
      {"empty", [](Sent& s) { s.delta.clear(); }, code, Rejection::kWrongLayout},
      {"first NaN", [](Sent& s) { s.delta.front() = NAN; }, code, Rejection::kNotFinite},
      {"last NaN", [](Sent& s) { s.delta.back() = -NAN; }, code, Rejection::kNotFinite},
      {"infinite", [](Sent& s) { s.delta[50] = INFINITY; }, code, Rejection::kNotFinite},
      {"too large", [](Sent& s) { s.delta[50] = std::nextafter(8.0f, 9.0f); }, code, Rejection::kValueTooLarge},
      {"too low", [](Sent& s) { s.delta.back() = -8.5f; }, code, Rejection::kValueTooLarge},
      {"no weight", [](Sent& s) { s.example_count = 0; }, code, Rejection::kBadWeight},
      {"negative weight", [](Sent& s) { s.example_count = INT64_MIN; }, code, Rejection::kBadWeight},
      {"heavy", [](Sent& s) { s.example_count = 9'901; }, absl::StatusCode::kResourceExhausted, Rejection::kBadWeight},
      {"huge", [](Sent& s) { s.example_count = INT64_MAX; }, absl::StatusCode::kResourceExhausted, Rejection::kBadWeight},
      {"covers before", [](Sent& s) { s.covered = {{-1, 5}}; }, code, Rejection::kWrongLayout},
      {"covers behind", [](Sent& s) { s.covered = {{5, kSize + 1}}; }, code, Rejection::kWrongLayout},
      {"covers nothing", [](Sent& s) { s.covered = {{5, 5}}; }, code, Rejection::kWrongLayout},
      {"covers backwards", [](Sent& s) { s.covered = {{6, 5}}; }, code, Rejection::kWrongLayout},
      {"overlaps", [](Sent& s) { s.covered = {{0, 6}, {5, 9}}; }, code, Rejection::kWrongLayout},
      {"unsorted", [](Sent& s) { s.covered = {{5, 9}, {0, 2}}; }, code, Rejection::kWrongLayout},
      // The bad value stands in the second range, after the first one was found good.
      {"late NaN", [](Sent& s) { s.covered = {{0, 6}, {50, 60}}, s.delta[55] = NAN; }, code, Rejection::kNotFinite},
  };
  const auto accumulator = Make();
  ASSERT_THAT(accumulator->Accumulate({std::vector<float>(kSize, 1.0f), 100, {}}), IsOk());
  const std::string before = accumulator->Save();
  for (const Spoiler& spoiler : spoilers) {
    Sent sent{std::vector<float>(kSize, 2.0f), 10, {}};
    spoiler.spoil(sent);
    const absl::Status status = accumulator->Accumulate(sent.update());
    EXPECT_EQ(status.code(), spoiler.code) << spoiler.name << ": " << status;
    EXPECT_EQ(RejectionOf(status), spoiler.reason) << spoiler.name << ": " << status;
    EXPECT_EQ(accumulator->Save(), before) << spoiler.name;
  }
  // The very last unit of weight is still free.
  EXPECT_THAT(accumulator->Accumulate({std::vector<float>(kSize, 8.0f), 9'900, {}}), IsOk());
  EXPECT_THAT(accumulator->Accumulate({std::vector<float>(kSize, 8.0f), 1, {}}), StatusIs(absl::StatusCode::kResourceExhausted, _));
}

TEST_P(AccumulatorContractTest, UncoveredValuesAreIgnoredEvenIfBad) {
  const auto clean = Make(), dirty = Make();
  std::vector<float> delta(kSize, 1.0f);
  const std::vector<CoordinateRange> covered = {{0, 10}, {20, kSize}};
  ASSERT_THAT(clean->Accumulate({delta, 5, covered}), IsOk());
  delta[10] = NAN;
  delta[19] = 1e30f;
  ASSERT_THAT(dirty->Accumulate({delta, 5, covered}), IsOk());
  ExpectSame(*clean, *dirty);
}

TEST_P(AccumulatorContractTest, ReportsWhatNobodyCovered) {
  const auto accumulator = Make();
  const std::vector<CoordinateRange> first = {{2, 10}}, second = {{10, 20}, {30, kSize}};
  ASSERT_THAT(accumulator->Accumulate({std::vector<float>(kSize, 1.0f), 5, first}), IsOk());
  ASSERT_THAT(accumulator->Accumulate({std::vector<float>(kSize, 3.0f), 2, second}), IsOk());
  ASSERT_OK_AND_ASSIGN(MeanDelta mean, accumulator->Report());
  EXPECT_THAT(mean.uncovered, ElementsAre(CoordinateRange{0, 2}, CoordinateRange{20, 30}));
  for (int64_t i = 0; i < kSize; ++i) EXPECT_EQ(mean.values[i], i < 2 || (i >= 20 && i < 30) ? 0 : i < 10 ? 1 : 3) << i;
  ASSERT_THAT(accumulator->Accumulate({std::vector<float>(kSize, 0.0f), 1, {}}), IsOk());
  ASSERT_OK_AND_ASSIGN(mean, accumulator->Report());
  EXPECT_THAT(mean.uncovered, IsEmpty());
}

TEST_P(AccumulatorContractTest, MergeRefusesOtherOptionsItselfAndTooMuchWeight) {
  const auto accumulator = Make();
  ASSERT_THAT(accumulator->Accumulate({std::vector<float>(kSize, 1.0f), 6'000, {}}), IsOk());
  const std::string before = accumulator->Save();
  AccumulatorOptions options = Options();
  options.max_abs = 4;
  EXPECT_THAT(accumulator->Merge(*Make(options)), StatusIs(absl::StatusCode::kInvalidArgument, _));
  options = Options();
  options.max_total_weight = 20'000;
  EXPECT_THAT(accumulator->Merge(*Make(options)), StatusIs(absl::StatusCode::kInvalidArgument, _));
  options = Options();
  options.layout = *ParameterLayout::Create({{"v", {kSize}}});
  EXPECT_THAT(accumulator->Merge(*Make(options)), StatusIs(absl::StatusCode::kInvalidArgument, _));
  EXPECT_THAT(accumulator->Merge(*accumulator), StatusIs(absl::StatusCode::kInvalidArgument, _));
  const auto heavy = Make();
  ASSERT_THAT(heavy->Accumulate({std::vector<float>(kSize, 1.0f), 4'001, {}}), IsOk());
  EXPECT_THAT(accumulator->Merge(*heavy), StatusIs(absl::StatusCode::kResourceExhausted, _));
  EXPECT_EQ(accumulator->Save(), before);
}

TEST_P(AccumulatorContractTest, RestoreRefusesDamageAndOtherOptions) {
  const auto source = Make();
  Fold(*source, Updates());
  const std::string saved = source->Save();
  const auto target = Make();
  Fold(*target, Updates(3));
  const std::string before = target->Save();
  for (size_t size = 0; size < saved.size(); size += 1 + size / 16) {
    EXPECT_THAT(target->Restore(saved.substr(0, size)), StatusIs(absl::StatusCode::kDataLoss, _)) << size;
  }
  std::string damaged = saved;
  for (size_t i = 0; i < saved.size(); ++i) {
    damaged[i] ^= 0x10;
    ASSERT_THAT(target->Restore(damaged), StatusIs(absl::StatusCode::kDataLoss, _)) << i;
    damaged[i] ^= 0x10;
  }
  EXPECT_THAT(target->Restore(saved + "x"), StatusIs(absl::StatusCode::kDataLoss, _));
  EXPECT_EQ(target->Save(), before);

  AccumulatorOptions options = Options();
  options.max_abs = 4;
  EXPECT_THAT(Make(options)->Restore(saved), StatusIs(absl::StatusCode::kInvalidArgument, _));
  options = Options();
  options.layout = *ParameterLayout::Create({{"v", {kSize}}});
  EXPECT_THAT(Make(options)->Restore(saved), StatusIs(absl::StatusCode::kInvalidArgument, _));
}

TEST_P(AccumulatorContractTest, FactoryRefusesBadOptions) {
  const AccumulatorFactory factory = *Accumulators().Find(GetParam());
  for (double bad : {0.0, -1.0, static_cast<double>(NAN), static_cast<double>(INFINITY), 1e-39, 1e39}) {
    AccumulatorOptions options = Options();
    options.max_abs = bad;
    EXPECT_THAT(factory(options), StatusIs(absl::StatusCode::kInvalidArgument, _)) << bad;
  }
  for (int64_t bad : {int64_t{0}, int64_t{-1}, (int64_t{1} << 40) + 1, INT64_MAX}) {
    AccumulatorOptions options = Options();
    options.max_total_weight = bad;
    EXPECT_THAT(factory(options), StatusIs(absl::StatusCode::kInvalidArgument, _)) << bad;
  }
  AccumulatorOptions options = Options();
  options.layout = ParameterLayout();
  EXPECT_THAT(factory(options), StatusIs(absl::StatusCode::kInvalidArgument, _));
}

// Accumulators that need updates whole refuse blocks; others add to the last bit what Accumulate adds, or nothing.
TEST_P(AccumulatorContractTest, BlocksAddWhatTheWholeAddsOrNothing) {
  const auto whole = Make(), by_blocks = Make();
  bool able = false;
  for (const Sent& sent : Updates(30)) {
    const auto source = [&](const std::vector<float>& values, size_t length) {
      return [&values, length](BlockVisitor visit) {
        for (size_t begin = 0; begin < values.size(); begin += length) {
          const size_t count = std::min(length, values.size() - begin);
          if (!visit({.begin = begin, .count = count, .data = reinterpret_cast<const char*>(values.data() + begin)})) return false;
        }
        return true;
      };
    };
    const std::string before = by_blocks->Save();
    for (float bad : {NAN, -INFINITY, 8.001f, -3e38f}) {
      for (size_t at : {size_t{0}, size_t{50}, size_t{102}}) {
        std::vector<float> spoilt = sent.delta;
        spoilt[at] = bad;
        ASSERT_FALSE(by_blocks->AccumulateBlocks(source(spoilt, 10), sent.example_count, 8));
        ASSERT_EQ(by_blocks->Save(), before);
      }
    }
    // Blocks that end early, go beyond the end, or are found damaged after the last; a lower bound; bad weights.
    std::vector<float> longer = sent.delta;
    longer.push_back(1);
    const auto good = source(sent.delta, 40);
    EXPECT_FALSE(by_blocks->AccumulateBlocks(source(longer, 13), sent.example_count, 8));
    EXPECT_FALSE(by_blocks->AccumulateBlocks([&](BlockVisitor visit) { return good(visit) && false; }, sent.example_count, 8));
    EXPECT_FALSE(by_blocks->AccumulateBlocks([&](BlockVisitor visit) { good(visit); return false; }, sent.example_count, 0.5));
    EXPECT_FALSE(by_blocks->AccumulateBlocks(good, sent.example_count, 1e-3));
    EXPECT_FALSE(by_blocks->AccumulateBlocks(good, 0, 8));
    EXPECT_FALSE(by_blocks->AccumulateBlocks(good, 10'001, 8));
    ASSERT_EQ(by_blocks->Save(), before);

    able = by_blocks->AccumulateBlocks(good, sent.example_count, 8);
    if (!able) {
      ASSERT_THAT(by_blocks->Accumulate({sent.delta, sent.example_count, {}}), IsOk());
    }
    ASSERT_THAT(whole->Accumulate({sent.delta, sent.example_count, {}}), IsOk());
    ExpectSame(*whole, *by_blocks);
  }
  EXPECT_EQ(able, GetParam() == "weighted_mean");
}

INSTANTIATE_TEST_SUITE_P(Registered, AccumulatorContractTest, ::testing::ValuesIn(Accumulators().Names()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace fedwatt

#include "fedwatt/energy/counter.h"

#include <limits>
#include <memory>

#include "gtest/gtest.h"

namespace fedwatt {
namespace {

constexpr int64_t kModulus = 262'143'328'911;  // 2^32 units of 61 uJ, about
constexpr int64_t kMost = std::numeric_limits<int64_t>::max();

// A counter of at most 1000 W read every second unless told otherwise.
class CounterTest : public ::testing::Test {
 protected:
  CounterDelta Feed(int64_t raw_uj, absl::Duration span = absl::Seconds(1), absl::Duration asleep = absl::ZeroDuration()) {
    now_ += span;
    suspended_ += asleep;
    return counter_->Feed(now_, suspended_, raw_uj);
  }
  static void ExpectMissing(const CounterDelta& delta, uint8_t flags) {
    EXPECT_TRUE(delta.missing());
    EXPECT_FALSE(delta.least_uj.has_value());
    EXPECT_FALSE(delta.most_uj.has_value());
    EXPECT_EQ(delta.flags, flags) << CounterFlagNames(delta.flags);
  }
  static void ExpectExactly(const CounterDelta& delta, int64_t least, int64_t value, int64_t most, uint8_t flags = 0) {
    ASSERT_FALSE(delta.missing()) << CounterFlagNames(delta.flags);
    EXPECT_EQ(*delta.least_uj, least);
    EXPECT_EQ(*delta.value_uj, value);
    EXPECT_EQ(*delta.most_uj, most);
    EXPECT_EQ(delta.flags, flags) << CounterFlagNames(delta.flags);
  }
  void Use(const CounterSpec& spec) { counter_ = std::make_unique<CounterAccumulator>(spec); }

  std::unique_ptr<CounterAccumulator> counter_ = std::make_unique<CounterAccumulator>(CounterSpec{.modulus_uj = kModulus});
  absl::Duration now_, suspended_;
};

TEST_F(CounterTest, TakesTheFirstReadingAsTheOrigin) {
  ExpectMissing(Feed(250'000'000'000), 0);
  const CounterDelta delta = Feed(250'000'000'123, absl::Seconds(2));
  ExpectExactly(delta, 123, 123, 123);
  EXPECT_EQ(delta.span, absl::Seconds(2));
}

TEST_F(CounterTest, UnwrapsAtTheModulusAndAllowsForAResetThatLooksTheSame) {
  Feed(kModulus - 1000);
  ExpectExactly(Feed(500), 500, 1500, 1500, kCounterWrapped);
  Feed(kModulus - 1);  // capped
  ExpectExactly(Feed(0), 0, 1, 1, kCounterWrapped);
}

TEST_F(CounterTest, CallsABackwardStepThatIsNoPlausibleWrapAReset) {
  Feed(90'000'000);
  ExpectMissing(Feed(1000), kCounterReset);
  ExpectExactly(Feed(3000), 2000, 2000, 2000);
}

TEST_F(CounterTest, CannotTellAWrapFromAResetWithoutAModulus) {
  Use({});
  Feed(kModulus - 10);
  ExpectMissing(Feed(10), kCounterReset);
  ExpectExactly(Feed(11), 1, 1, 1);
  ExpectExactly(Feed(kMost - 1, absl::Hours(24 * 365 * 400)), kMost - 12, kMost - 12, kMost - 12);
}

// The way back from one number that was too small is no energy, in however long a window.
TEST_F(CounterTest, MissesTheWayBackFromOneWrongNumber) {
  Use({});
  Feed(90'000'000'000);
  ExpectMissing(Feed(12, absl::Minutes(2)), kCounterReset);
  ExpectMissing(Feed(90'200'000'000, absl::Minutes(2)), kCounterReset);
  ExpectExactly(Feed(90'300'000'000), 100'000'000, 100'000'000, 100'000'000);
  // Several wrong ones, and one that stays.
  ExpectMissing(Feed(12), kCounterReset);
  ExpectExactly(Feed(12, absl::Milliseconds(1)), 0, 0, 0);
  ExpectMissing(Feed(1), kCounterReset);
  ExpectMissing(Feed(90'310'000'000, absl::Minutes(2)), kCounterReset);
  ExpectExactly(Feed(90'310'000'001), 1, 1, 1);
}

TEST_F(CounterTest, CountsAfterARestartThatGoesOn) {
  Use({});
  Feed(90'000'000'000);
  ExpectMissing(Feed(1'000'000), kCounterReset);
  ExpectExactly(Feed(2'000'000), 1'000'000, 1'000'000, 1'000'000);
  ExpectExactly(Feed(95'000'000'000, absl::Minutes(2)), 94'998'000'000, 94'998'000'000, 94'998'000'000);
  // Far beyond where it would be by itself: a long time after a restart.
  Feed(96'000'000'000, absl::Minutes(2));
  ExpectMissing(Feed(3, absl::Milliseconds(1)), kCounterReset);
  ExpectMissing(Feed(200'000'000'000, absl::Milliseconds(1)), kCounterCapped);
  ExpectExactly(Feed(200'000'000'001), 1, 1, 1);
}

TEST_F(CounterTest, MissesTheWayBackWhereNoWholeTurnIsPossible) {
  Feed(100'000'000'000);
  ExpectMissing(Feed(12), kCounterReset);
  ExpectMissing(Feed(100'500'000'000, absl::Minutes(2)), kCounterReset);
  ExpectExactly(Feed(100'500'000'001), 1, 1, 1);
}

// A wrap and a wrong number look the same, too.
TEST_F(CounterTest, AllowsForAWrongNumberWhereAWholeTurnIsPossible) {
  Feed(200'000'000'000);
  ExpectExactly(Feed(1'000'000'000, absl::Minutes(2)), 1'000'000'000, kModulus - 199'000'000'000, kModulus - 199'000'000'000, kCounterWrapped);
  ExpectExactly(Feed(210'000'000'000, absl::Minutes(4)), 0, 209'000'000'000, 209'000'000'000);
}

TEST_F(CounterTest, RefusesAReadingAboveItsOwnModulusAsTheStartOfAWrap) {
  Feed(kMost);
  ExpectMissing(Feed(5), kCounterReset);
}

TEST_F(CounterTest, CapsWhatNoHardwareDraws) {
  Feed(0);
  ExpectExactly(Feed(1'010'000'000), 1'010'000'000, 1'010'000'000, 1'010'000'000);  // 1000 W for 1 s, 1 ms of age and 10 ms of burst
  ExpectMissing(Feed(1'010'000'000 + 1'012'000'000), kCounterCapped);
}

TEST_F(CounterTest, CountsWholeWrapsThatMayHideInALongSpan) {
  Feed(0);
  // 600 s at 1000 W are 2.3 turns.
  ExpectExactly(Feed(30'000'000'000, absl::Minutes(10)), 30'000'000'000, 30'000'000'000, 30'000'000'000 + 2 * kModulus, kCounterAmbiguous);
  ExpectExactly(Feed(10'000'000'000, absl::Minutes(10)), 10'000'000'000, kModulus - 20'000'000'000, 2 * kModulus - 20'000'000'000,
                kCounterWrapped | kCounterAmbiguous);
}

TEST_F(CounterTest, MissesAFrozenCounter) {
  Feed(42);
  // Shorter than the counter's own refresh.
  EXPECT_EQ(Feed(42, absl::Microseconds(300)).value_uj, 0);
  ExpectMissing(Feed(42), kCounterFrozen);
  ExpectExactly(Feed(900'000'010), 899'999'968, 899'999'968, 899'999'968);
}

TEST_F(CounterTest, SeesAFrozenCounterHoweverOftenItIsRead) {
  Feed(7);
  for (int i = 0; i < 3; ++i) ExpectExactly(Feed(7, absl::Milliseconds(30)), 0, 0, 0);
  ExpectMissing(Feed(7, absl::Milliseconds(30)), kCounterFrozen);
}

TEST_F(CounterTest, KnowsHowOldItsNumberMayBe) {
  EXPECT_EQ(counter_->staleness(), absl::InfiniteDuration());
  Feed(7);
  EXPECT_EQ(counter_->staleness(), absl::InfiniteDuration());  // it may have stood still for hours
  Feed(7, absl::Milliseconds(20));
  EXPECT_EQ(counter_->staleness(), absl::InfiniteDuration());
  Feed(8, absl::Milliseconds(30));
  EXPECT_EQ(counter_->staleness(), absl::Milliseconds(31));  // since another number was seen, and a refresh
  Feed(8, absl::Milliseconds(5));
  EXPECT_EQ(counter_->staleness(), absl::Milliseconds(36));
  Feed(5'000'000'000, absl::Milliseconds(5));  // what no hardware draws is no sign of life
  EXPECT_EQ(counter_->staleness(), absl::Milliseconds(41));
  counter_->Forget();
  EXPECT_EQ(counter_->staleness(), absl::InfiniteDuration());
}

TEST_F(CounterTest, MissesTheSpanInWhichTheMachineSlept) {
  Feed(1000);
  ExpectMissing(Feed(2000, absl::Seconds(1), absl::Hours(8)), kCounterSuspended);
  ExpectExactly(Feed(2500), 500, 500, 500);
  ExpectExactly(Feed(2600, absl::Seconds(1), absl::Milliseconds(9)), 100, 100, 100);  // jitter between two clocks
}

TEST_F(CounterTest, SpansAReadingThatFailedButNotAForgottenOne) {
  Feed(100);
  now_ += absl::Seconds(1);  // a failed reading is not fed
  ExpectExactly(Feed(350), 250, 250, 250);
  counter_->Forget();
  ExpectMissing(Feed(400), 0);
}

TEST_F(CounterTest, SurvivesAClockThatStandsOrSteps) {
  Feed(100);
  ExpectExactly(Feed(150, absl::ZeroDuration()), 50, 50, 50);
  ExpectMissing(Feed(200, absl::Seconds(-1)), 0);
  ExpectExactly(Feed(210), 10, 10, 10);
}

TEST_F(CounterTest, StatesHowOftenToRead) {
  CounterAccumulator counter({.modulus_uj = 66'000'000'000, .max_power = Watts(500), .refresh = absl::Milliseconds(2)});
  EXPECT_EQ(counter.safe_period(), absl::Seconds(33));  // 66 kJ / 500 W / 4
  EXPECT_EQ(CounterAccumulator(CounterSpec{}).safe_period(), absl::InfiniteDuration());
}

TEST(CounterFlagNamesTest, NamesThemAll) {
  EXPECT_EQ(CounterFlagNames(0), "");
  EXPECT_EQ(CounterFlagNames(63), "wrapped, reset, ambiguous, capped, frozen, suspended");
}

}  // namespace
}  // namespace fedwatt

#include "fedwatt/base/clock.h"

#include "gtest/gtest.h"

namespace fedwatt {
namespace {

TEST(VirtualClockTest, StandsStillUntilAdvanced) {
  VirtualClock clock(absl::FromUnixSeconds(100));
  EXPECT_EQ(clock.Now(), absl::FromUnixSeconds(100));
  EXPECT_EQ(clock.Monotonic(), absl::ZeroDuration());
  clock.Advance(absl::Seconds(5));
  EXPECT_EQ(clock.Now(), absl::FromUnixSeconds(105));
  EXPECT_EQ(clock.Monotonic(), absl::Seconds(5));
}

TEST(VirtualClockTest, NeverGoesBack) {
  VirtualClock clock(absl::FromUnixSeconds(100));
  clock.AdvanceTo(absl::FromUnixSeconds(50));
  clock.Advance(-absl::Seconds(1));
  EXPECT_EQ(clock.Now(), absl::FromUnixSeconds(100));
}

TEST(RealClockTest, MonotonicTimeDoesNotJumpBack) {
  const absl::Duration before = RealClock().Monotonic();
  EXPECT_LE(before, RealClock().Monotonic());
}

}  // namespace
}  // namespace fedwatt

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

class JumpingClock : public Clock {
 public:
  absl::Time Now() const override { return absl::UnixEpoch() + monotonic + jump; }
  absl::Duration Monotonic() const override { return monotonic; }
  absl::Duration monotonic = absl::Seconds(100), jump = absl::Hours(1000);
};

TEST(SteadyClockTest, TakesPartInNoJump) {
  JumpingClock machine;
  SteadyClock clock(&machine);
  const absl::Time start = machine.Now();
  EXPECT_EQ(clock.Now(), start);
  for (const absl::Duration jump : {absl::Hours(24), -absl::Hours(48)}) {
    machine.jump += jump;
    machine.monotonic += absl::Seconds(5);
  }
  EXPECT_EQ(clock.Now(), start + absl::Seconds(10));
  EXPECT_EQ(clock.Monotonic(), absl::Seconds(110));
  // A day back is not caught up with, a day ahead is.
  clock.CatchUp();
  EXPECT_EQ(clock.Now(), start + absl::Seconds(10));
  machine.jump += absl::Hours(48);
  clock.CatchUp();
  EXPECT_EQ(clock.Now(), start + absl::Seconds(10) + absl::Hours(24));
}

TEST(RealClockTest, MonotonicTimeDoesNotJumpBack) {
  const absl::Duration before = RealClock().Monotonic();
  EXPECT_LE(before, RealClock().Monotonic());
}

}  // namespace
}  // namespace fedwatt

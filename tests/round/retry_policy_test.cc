#include "fedwatt/round/retry_policy.h"

#include "gtest/gtest.h"

namespace fedwatt {
namespace {

TEST(RetryWindowTest, DrawsInsideAndForgivesNonsense) {
  Random random(1);
  for (int i = 0; i < 1000; ++i) {
    const absl::Duration wait = DrawFromWindow({absl::Seconds(2), absl::Seconds(3)}, random);
    EXPECT_GE(wait, absl::Seconds(2));
    EXPECT_LE(wait, absl::Seconds(3));
  }
  EXPECT_EQ(DrawFromWindow({absl::Seconds(4), absl::Seconds(1)}, random), absl::Seconds(4));
  EXPECT_EQ(DrawFromWindow({absl::Seconds(-4), absl::Seconds(-1)}, random), absl::ZeroDuration());
}

TEST(BackoffTest, GrowsToItsCapAndStartsAgain) {
  Backoff backoff(absl::Milliseconds(100), absl::Seconds(5), 1);
  absl::Duration longest;
  for (int i = 0; i < 200; ++i) {
    const absl::Duration wait = backoff.Next();
    EXPECT_GT(wait, absl::ZeroDuration());
    EXPECT_LE(wait, absl::Seconds(5));
    if (i == 0) {
      EXPECT_LE(wait, absl::Milliseconds(100));
    }
    longest = std::max(longest, wait);
  }
  EXPECT_GT(longest, absl::Seconds(4));
  EXPECT_EQ(backoff.failures(), 200);
  backoff.Reset();
  EXPECT_LE(backoff.Next(), absl::Milliseconds(100));
}

}  // namespace
}  // namespace fedwatt

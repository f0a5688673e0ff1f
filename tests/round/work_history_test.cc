#include "fedwatt/round/work_history.h"

#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

WorkSample Sample(double macs, double train, double transfer = 0, std::optional<double> joules = std::nullopt) {
  return {.at = absl::FromUnixSeconds(1000), .macs = macs, .parameters = macs, .train_seconds = train, .transfer_seconds = transfer, .joules = joules};
}
WorkSample Unfinished(double macs) {
  WorkSample sample = Sample(macs, 60);
  sample.finished = false;
  return sample;
}

TEST(WorkHistoryTest, AWidthThatWasSeenTakesTheMeanOfItsAttempts) {
  WorkHistory history;
  EXPECT_EQ(history.Forecast(100, 100), std::nullopt);
  history.Note(Sample(100, 8, 2, 30));
  history.Note(Sample(100, 12, 4));
  history.Note(Sample(10, 1, 1, 3));
  const std::optional<WorkForecast> forecast = history.Forecast(100, 100);
  ASSERT_TRUE(forecast.has_value());
  EXPECT_DOUBLE_EQ(forecast->train_seconds, 10);
  EXPECT_DOUBLE_EQ(forecast->transfer_seconds, 3);
  EXPECT_DOUBLE_EQ(forecast->seconds(), 13);
  EXPECT_DOUBLE_EQ(*forecast->joules, 30) << "an attempt that was not metered counts for no joules, not for zero";
}

// 2 s and 0.05 s a multiply-add: 7 s at 100 and 2.5 s at 10, so 22 s at 400 and 3.25 s at 25. Joules: 1 + 0.2 x. Transfer, by parameters: 0.1 x.
TEST(WorkHistoryTest, OthersLieOnALineThroughWhatWasSeen) {
  WorkHistory history;
  history.Note(Sample(100, 7, 10, 21));
  history.Note(Sample(10, 2.5, 1, 3));
  const std::optional<WorkForecast> wide = history.Forecast(400, 200), narrow = history.Forecast(25, 25);
  EXPECT_DOUBLE_EQ(wide->train_seconds, 22);
  EXPECT_DOUBLE_EQ(wide->transfer_seconds, 20);
  EXPECT_DOUBLE_EQ(*wide->joules, 81);
  EXPECT_DOUBLE_EQ(narrow->train_seconds, 3.25);
}

TEST(WorkHistoryTest, OneWidthAloneIsTakenInProportion) {
  WorkHistory history;
  history.Note(Sample(100, 8, 3));
  EXPECT_DOUBLE_EQ(history.Forecast(50, 50)->train_seconds, 4);
  EXPECT_DOUBLE_EQ(history.Forecast(200, 300)->train_seconds, 16);
  EXPECT_DOUBLE_EQ(history.Forecast(200, 300)->transfer_seconds, 9);
  EXPECT_EQ(history.Forecast(50, 50)->joules, std::nullopt);
}

// No line falls, and none begins below zero: 10 s at 10 and 4 s at 100 are 7 s anywhere; 1 s at 10 and 100 s at 100 go through the origin with the slope
// (10 * 1 + 100 * 100) / (10^2 + 100^2) = 10010 / 10100.
TEST(WorkHistoryTest, LinesNeitherFallNorBeginBelowZero) {
  WorkHistory falling, steep;
  falling.Note(Sample(10, 10));
  falling.Note(Sample(100, 4));
  EXPECT_DOUBLE_EQ(falling.Forecast(1000, 1000)->train_seconds, 7);
  steep.Note(Sample(10, 1));
  steep.Note(Sample(100, 100));
  EXPECT_DOUBLE_EQ(steep.Forecast(5, 5)->train_seconds, 5 * 10010.0 / 10100);
}

TEST(WorkHistoryTest, WhatWasNotFinishedIsTooMuchUntilAsMuchHasBeenDone) {
  WorkHistory history;
  history.Note(Sample(10, 1));
  history.Note(Unfinished(50));
  EXPECT_FALSE(history.TooMuch(10));
  EXPECT_FALSE(history.TooMuch(49));
  EXPECT_TRUE(history.TooMuch(50));
  EXPECT_TRUE(history.TooMuch(1000));
  history.Note(Sample(100, 5));
  EXPECT_FALSE(history.TooMuch(50));
  EXPECT_TRUE(history.TooMuch(1000));
  WorkHistory never;
  never.Note(Unfinished(10));
  EXPECT_EQ(never.Forecast(10, 10), std::nullopt);
}

TEST(WorkHistoryTest, ForgetsAllButTheLastEight) {
  WorkHistory history;
  history.Note(Sample(100, 1000));
  for (int i = 0; i < 8; ++i) history.Note(Sample(100, 1));
  EXPECT_THAT(history.samples(), SizeIs(WorkHistory::kMost));
  EXPECT_DOUBLE_EQ(history.Forecast(100, 100)->train_seconds, 1);
}

TEST(WorkHistoryTest, NumbersThatNoAttemptHasLeaveNoTrace) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity(), kNan = std::numeric_limits<double>::quiet_NaN();
  WorkHistory history;
  for (double bad : {kNan, kInfinity, -kInfinity, -1.0, 1e300}) {
    history.Note(Sample(100, bad));
    history.Note(Sample(100, 1, bad));
    history.Note(Sample(100, 1, 1, bad));
    history.Note(Sample(bad, 1));
  }
  history.Note(Sample(0, 1));
  EXPECT_THAT(history.samples(), IsEmpty());
  // The greatest that count stay numbers wherever they are carried.
  history.Note(Sample(1e18, 1e12, 1e12, 1e12));
  history.Note(Sample(1, 0, 0, 0));
  EXPECT_TRUE(std::isfinite(history.Forecast(1e18, 1)->seconds()));
  EXPECT_TRUE(std::isfinite(*history.Forecast(5e17, 1)->joules));
}

TEST(WorkHistoryTest, ReadsBackWhatItWrote) {
  WorkHistory history;
  EXPECT_EQ(history.Save(), "");
  history.Note(Sample(1.0 / 3, 0.1, 1e-9, 1e11));
  history.Note(Unfinished(7));
  ASSERT_OK_AND_ASSIGN(const WorkHistory again, WorkHistory::Parse(history.Save()));
  EXPECT_EQ(again.Save(), history.Save());
  EXPECT_EQ(again.Forecast(5, 5)->train_seconds, history.Forecast(5, 5)->train_seconds);
  EXPECT_TRUE(again.TooMuch(7));
  ASSERT_OK_AND_ASSIGN(const WorkHistory none, WorkHistory::Parse(""));
  EXPECT_THAT(none.samples(), IsEmpty());
}

TEST(WorkHistoryTest, RefusesDamage) {
  const std::string good = "1000 1 1 1 1 - 1";
  for (const std::string& bad : {std::string("1"), std::string("1000 1 1 1 1 - 2"), std::string("1000 0 1 1 1 - 1"), std::string("1000 1 1 nan 1 - 1"), std::string("x 1 1 1 1 - 1"),
                                 std::string("1000 1 1 1 -1 - 1"), std::string("1000 1 1 1 1 1e300 1"), good + " 1", absl::StrCat(good, " ", good, " ", good, " ", good, " ", good, " ", good, " ", good, " ", good, " ", good)}) {
    EXPECT_THAT(WorkHistory::Parse(bad), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("measurements"))) << bad;
  }
}

}  // namespace
}  // namespace fedwatt

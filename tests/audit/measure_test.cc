#include "fedwatt/audit/measure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "fedwatt/base/clock.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::Contains;
using ::testing::HasSubstr;

// Joules at so many watts of the machine's processor time; a window may be missing.
class WattMeter : public Meter {
 public:
  WattMeter(const absl::Duration& cpu, EnergyTier tier) : cpu_(cpu), tier_(tier) {}
  std::string_view name() const override { return "watt"; }
  EnergyTier tier() const override { return tier_; }
  std::string Describe() const override { return "watt"; }
  absl::Status Start() override {
    start_ = cpu_;
    return absl::OkStatus();
  }
  EnergyReading Read() override {
    EnergyReading reading;
    if (++reads_ % 4 == missing_of_four_) return reading;
    reading.energy = reading.low = reading.high = Watts(watts) * (cpu_ - start_);
    reading.tier = tier_;
    return reading;
  }
  double watts = 10;
  int missing_of_four_ = -1;

 private:
  const absl::Duration& cpu_;
  const EnergyTier tier_;
  absl::Duration start_;
  int reads_ = 0;
};

// A machine whose speed changes from turn to turn: what takes a second takes `slowness` of them.
class MeasureTest : public ::testing::Test {
 protected:
  Task Of(std::string way, std::string work, absl::Duration each, int64_t examples_each = 1) {
    return {way, work, examples_each, [this, each, name = way + "/" + work](int64_t repeats) {
              order_.push_back(name);
              const double slowness = slowness_[calls_++ / 2 % slowness_.size()];
              cpu_ += slowness * each * repeats;
              clock_.Advance(slowness * each * repeats);
              return absl::OkStatus();
            }};
  }
  MeasureOptions Options() {
    MeasureOptions options;
    options.clock = &clock_;
    options.cpu = [this] { return cpu_; };
    options.block = absl::Milliseconds(100);
    return options;
  }

  VirtualClock clock_;
  absl::Duration cpu_;
  std::vector<double> slowness_ = {1};
  size_t calls_ = 0;
  std::vector<std::string> order_;
};

TEST_F(MeasureTest, CostsAreOfOneExampleAndRatiosOfPairs) {
  const std::vector<Task> tasks = {Of("float32", "training", absl::Milliseconds(20), 10), Of("half width", "training", absl::Milliseconds(5), 10)};
  ASSERT_OK_AND_ASSIGN(const Measurement measured, Measure(tasks, Options()));
  ASSERT_EQ(measured.tasks.size(), 2u);
  EXPECT_NEAR(measured.tasks[0].cpu_seconds->estimate, 0.002, 1e-12);
  EXPECT_NEAR(measured.tasks[1].cpu_seconds->estimate, 0.0005, 1e-12);
  EXPECT_FALSE(measured.tasks[0].cpu_ratio.has_value());
  EXPECT_NEAR(measured.tasks[1].cpu_ratio->estimate, 0.25, 1e-9);
  EXPECT_EQ(Judge(measured.tasks[1].cpu_ratio, 1), Verdict::kLess);
  EXPECT_TRUE(measured.narrow_enough);
  EXPECT_EQ(measured.turns, 5);
  // Nothing meters.
  EXPECT_FALSE(measured.tasks[0].joules.has_value());
  EXPECT_FALSE(measured.tasks[1].joule_ratio.has_value());
}

TEST_F(MeasureTest, ReversesTheOrderEveryOtherTurn) {
  const std::vector<Task> tasks = {Of("a", "training", absl::Seconds(1)), Of("b", "training", absl::Seconds(1))};
  ASSERT_THAT(Measure(tasks, Options()).status(), IsOk());
  const std::vector<std::string> turns(order_.end() - 10, order_.end());
  EXPECT_EQ(turns, (std::vector<std::string>{"a/training", "b/training", "b/training", "a/training", "a/training", "b/training", "b/training", "a/training", "a/training", "b/training"}));
}

TEST_F(MeasureTest, GoesOnUntilIntervalsAreNarrowOrTheBudgetIsSpent) {
  slowness_ = {1, 3, 2, 5, 1.5, 4};
  std::vector<Task> tasks = {Of("float32", "inference", absl::Milliseconds(200)), Of("int8", "inference", absl::Milliseconds(100))};
  MeasureOptions options = Options();
  options.budget = absl::Seconds(20);
  ASSERT_OK_AND_ASSIGN(const Measurement poor, Measure(tasks, options));
  EXPECT_FALSE(poor.narrow_enough);
  EXPECT_GE(clock_.Monotonic(), absl::Seconds(20));
  EXPECT_LT(clock_.Monotonic(), absl::Seconds(30));
  // The machine's moods are in both of a pair alike.
  EXPECT_LT(RelativeHalfWidth(poor.tasks[1].cpu_ratio), 0.01);
  EXPECT_GT(RelativeHalfWidth(poor.tasks[1].cpu_seconds), 0.05);

  options.budget = absl::Hours(1);
  options.target = 0.2;
  ASSERT_OK_AND_ASSIGN(const Measurement good, Measure(tasks, options));
  EXPECT_TRUE(good.narrow_enough);
  EXPECT_GT(good.turns, 5);

  options.budget = absl::ZeroDuration();
  ASSERT_OK_AND_ASSIGN(const Measurement least, Measure(tasks, options));
  EXPECT_EQ(least.turns, kLeastMeasurements);
}

TEST_F(MeasureTest, MetersJoulesAndLeavesOutWindowsThatWereMissed) {
  WattMeter meter(cpu_, EnergyTier::kComponent);
  meter.missing_of_four_ = 1;  // one of the pair, every other turn
  const std::vector<Task> tasks = {Of("float32", "training", absl::Seconds(1)), Of("half width", "training", absl::Milliseconds(500))};
  MeasureOptions options = Options();
  options.meter = &meter;
  options.least_turns = 8;
  ASSERT_OK_AND_ASSIGN(const Measurement measured, Measure(tasks, options));
  EXPECT_NEAR(measured.tasks[0].joules->estimate, 10, 1e-6);
  EXPECT_NEAR(measured.tasks[1].joules->estimate, 5, 1e-6);
  EXPECT_EQ(measured.tasks[0].joules->count, 4);
  EXPECT_EQ(measured.tasks[1].joules->count, 8);
  EXPECT_NEAR(measured.tasks[1].joule_ratio->estimate, 0.5, 1e-6);
  EXPECT_EQ(measured.tasks[1].joule_ratio->count, 4);
}

TEST_F(MeasureTest, RefusesAMeterThatEstimates) {
  WattMeter meter(cpu_, EnergyTier::kGeneric);
  MeasureOptions options = Options();
  options.meter = &meter;
  const std::vector<Task> tasks = {Of("float32", "training", absl::Seconds(1))};
  EXPECT_THAT(Measure(tasks, options).status(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("estimates")));
  for (double target : {0.0, -1.0}) {
    options = Options();
    options.target = target;
    EXPECT_THAT(Measure(tasks, options).status(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("target")));
  }
  options = Options();
  options.least_turns = 2;
  EXPECT_THAT(Measure(tasks, options).status(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("least_turns")));
}

TEST_F(MeasureTest, AWayThatFailsCostsItselfAlone) {
  std::vector<Task> tasks = {Of("float32", "training", absl::Seconds(1)), Of("int8", "training", absl::Seconds(1)), Of("int8", "inference", absl::Seconds(1))};
  tasks[1].run = [](int64_t) { return absl::UnavailableError("the child died"); };
  ASSERT_OK_AND_ASSIGN(const Measurement measured, Measure(tasks, Options()));
  EXPECT_EQ(measured.tasks[1].problem, "the child died");
  EXPECT_FALSE(measured.tasks[1].cpu_seconds.has_value());
  EXPECT_TRUE(measured.tasks[0].cpu_seconds.has_value());
  // Where what it would be compared with failed, there is no ratio.
  tasks[0].run = tasks[1].run;
  ASSERT_OK_AND_ASSIGN(const Measurement rest, Measure(tasks, Options()));
  EXPECT_TRUE(rest.tasks[2].cpu_seconds.has_value());
  EXPECT_FALSE(rest.tasks[2].cpu_ratio.has_value());
  EXPECT_TRUE(rest.narrow_enough);
  tasks.pop_back();
  ASSERT_OK_AND_ASSIGN(const Measurement none, Measure(tasks, Options()));
  EXPECT_EQ(none.turns, 1);
}

TEST_F(MeasureTest, AClockThatFailsEndsIt) {
  MeasureOptions options = Options();
  options.cpu = []() -> absl::StatusOr<absl::Duration> { return absl::UnavailableError("no trainer process runs"); };
  const std::vector<Task> tasks = {Of("float32", "training", absl::Seconds(1))};
  EXPECT_THAT(Measure(tasks, options).status(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("no trainer")));
}

TEST_F(MeasureTest, StopsWhenAsked) {
  std::stop_source stop;
  MeasureOptions options = Options();
  options.stop = stop.get_token();
  options.progress = [&stop](const std::string& line) {
    if (line.starts_with("turn 2")) stop.request_stop();
  };
  const std::vector<Task> tasks = {Of("float32", "training", absl::Seconds(1))};
  ASSERT_OK_AND_ASSIGN(const Measurement measured, Measure(tasks, options));
  EXPECT_EQ(measured.turns, 2);
  EXPECT_FALSE(measured.tasks[0].cpu_seconds.has_value());
}

}  // namespace
}  // namespace fedwatt

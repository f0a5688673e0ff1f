#include "fedwatt/energy/phase_tracker.h"

#include <deque>
#include <string>

#include "fedwatt/base/process.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

std::unique_ptr<Meter> FakeMeter(const Clock* clock, double watts) {
  MeterOptions options;
  options.clock = clock;
  options.watts_per_core = watts;
  auto choice = ChooseMeter("fake", options);
  EXPECT_TRUE(choice.ok());
  return std::move(choice->meter);
}

// Plays back what a test gives it; a negative number is a missing reading.
class ScriptedMeter : public Meter {
 public:
  std::deque<int64_t> readings;
  absl::Status start_status;
  int starts = 0;

  std::string_view name() const override { return "scripted"; }
  EnergyTier tier() const override { return EnergyTier::kDevice; }
  std::string Describe() const override { return "scripted"; }
  absl::Status Start() override {
    ++starts;
    return start_status;
  }
  EnergyReading Read() override {
    EnergyReading reading;
    const int64_t microjoules = readings.front();
    readings.pop_front();
    if (microjoules < 0) return reading;
    reading.energy = reading.low = reading.high = Microjoules(microjoules);
    reading.tier = tier();
    return reading;
  }
};

TEST(PhaseTrackerTest, TilesTheWallTimeExactly) {
  VirtualClock clock;
  auto meter = FakeMeter(&clock, 2);
  PhaseTracker tracker(&clock, meter.get());
  clock.Advance(absl::Hours(1));  // before the first phase: nobody's
  const absl::Duration start = clock.Monotonic();
  tracker.Enter(Phase::kInit);
  clock.Advance(absl::Nanoseconds(1));
  tracker.Enter(Phase::kDownload);
  clock.Advance(absl::Milliseconds(333));
  tracker.Enter(Phase::kTrain);
  clock.Advance(absl::Seconds(7));
  tracker.Enter(Phase::kEncode);  // shorter than any meter resolves
  tracker.Enter(Phase::kUpload);
  clock.Advance(absl::Milliseconds(667));
  std::vector<PhaseSpan> spans = tracker.Finish();

  ASSERT_EQ(spans.size(), 5u);
  const Phase order[] = {Phase::kInit, Phase::kDownload, Phase::kTrain, Phase::kEncode, Phase::kUpload};
  const int64_t microjoules[] = {0, 666000, 14000000, 0, 1334000};
  absl::Duration total;
  for (size_t i = 0; i < spans.size(); ++i) {
    EXPECT_EQ(spans[i].phase, order[i]);
    EXPECT_EQ(spans[i].energy.energy, Microjoules(microjoules[i]));
    EXPECT_EQ(spans[i].energy.window, spans[i].wall);
    total += spans[i].wall;
  }
  EXPECT_EQ(total, clock.Monotonic() - start);
  EXPECT_EQ(spans[0].wall, absl::Nanoseconds(1));
  EXPECT_EQ(spans[3].wall, absl::ZeroDuration());
}

TEST(PhaseTrackerTest, TilesRealTimeExactlyToo) {
  PhaseTracker tracker(&RealClock(), nullptr);
  const absl::Duration before = RealClock().Monotonic();
  tracker.Enter(Phase::kInit);
  const absl::Duration inside = RealClock().Monotonic();
  for (int i = 0; i < 1000; ++i) tracker.Enter(i % 2 == 0 ? Phase::kTrain : Phase::kEncode);
  const absl::Duration inside_end = RealClock().Monotonic();
  absl::Duration total, cpu;
  for (const PhaseSpan& span : tracker.Finish()) {
    EXPECT_GE(span.wall, absl::ZeroDuration());
    total += span.wall;
    cpu += span.cpu;
  }
  EXPECT_GE(total, inside_end - inside);
  EXPECT_LE(total, RealClock().Monotonic() - before);
  EXPECT_GT(cpu, absl::ZeroDuration());
}

TEST(PhaseTrackerTest, AddsAPhaseEnteredAgainToItsFirstSpan) {
  VirtualClock clock;
  ScriptedMeter meter;
  meter.readings = {1, 20, 300, 4000};
  PhaseTracker tracker(&clock, &meter);
  tracker.Enter(Phase::kTrain);
  clock.Advance(absl::Seconds(1));
  tracker.Enter(Phase::kEvaluate);
  clock.Advance(absl::Seconds(2));
  tracker.Enter(Phase::kTrain);
  clock.Advance(absl::Seconds(4));
  tracker.Enter(Phase::kTrain);  // into itself
  clock.Advance(absl::Seconds(8));
  std::vector<PhaseSpan> spans = tracker.Finish();
  ASSERT_EQ(spans.size(), 2u);
  EXPECT_EQ(spans[0].phase, Phase::kTrain);
  EXPECT_EQ(spans[0].wall, absl::Seconds(13));
  EXPECT_EQ(spans[0].energy.energy, Microjoules(4301));
  EXPECT_EQ(spans[1].wall, absl::Seconds(2));
  EXPECT_EQ(spans[1].energy.energy, Microjoules(20));
}

TEST(PhaseTrackerTest, AMissingPartMakesItsPhaseMissingAndNoOther) {
  VirtualClock clock;
  ScriptedMeter meter;
  meter.readings = {10, -1, 30, 40};
  PhaseTracker tracker(&clock, &meter);
  tracker.Enter(Phase::kInit);
  tracker.Enter(Phase::kTrain);
  tracker.Enter(Phase::kUpload);
  tracker.Enter(Phase::kTrain);
  std::vector<PhaseSpan> spans = tracker.Finish();
  ASSERT_EQ(spans.size(), 3u);
  EXPECT_EQ(spans[0].energy.energy, Microjoules(10));
  EXPECT_TRUE(spans[1].energy.missing());
  EXPECT_EQ(spans[2].energy.energy, Microjoules(30));
}

TEST(PhaseTrackerTest, WithoutAMeterEveryReadingIsMissing) {
  VirtualClock clock;
  PhaseTracker tracker(&clock, nullptr);
  tracker.Enter(Phase::kTrain);
  clock.Advance(absl::Seconds(3));
  std::vector<PhaseSpan> spans = tracker.Finish();
  ASSERT_EQ(spans.size(), 1u);
  EXPECT_TRUE(spans[0].energy.missing());
  EXPECT_EQ(spans[0].energy.window, absl::Seconds(3));
  EXPECT_EQ(spans[0].wall, absl::Seconds(3));
}

TEST(PhaseTrackerTest, IsEmptyBeforeTheFirstPhaseAndAfterFinish) {
  VirtualClock clock;
  ScriptedMeter meter;
  meter.readings = {1, 2};
  PhaseTracker tracker(&clock, &meter);
  EXPECT_TRUE(tracker.Finish().empty());
  tracker.Enter(Phase::kTrain);
  EXPECT_EQ(tracker.Finish().size(), 1u);
  EXPECT_TRUE(tracker.Finish().empty());
  clock.Advance(absl::Hours(1));  // between two attempts: nobody's, so the meter starts afresh
  tracker.Enter(Phase::kUpload);
  std::vector<PhaseSpan> spans = tracker.Finish();
  ASSERT_EQ(spans.size(), 1u);
  EXPECT_EQ(spans[0].phase, Phase::kUpload);
  EXPECT_EQ(spans[0].wall, absl::ZeroDuration());
  EXPECT_EQ(meter.starts, 2);
}

TEST(PhaseTrackerTest, GoesOnWhenTheMeterCannotStart) {
  VirtualClock clock;
  ScriptedMeter meter;
  meter.start_status = absl::UnavailableError("gone");
  meter.readings = {-1};
  PhaseTracker tracker(&clock, &meter);
  tracker.Enter(Phase::kTrain);
  clock.Advance(absl::Seconds(1));
  std::vector<PhaseSpan> spans = tracker.Finish();
  ASSERT_EQ(spans.size(), 1u);
  EXPECT_TRUE(spans[0].energy.missing());
  EXPECT_EQ(spans[0].wall, absl::Seconds(1));
}

TEST(PhaseTrackerTest, ReadingTheMeterIsAPhaseOfItsOwn) {
  // Each reading takes a second, and its window is the time since the reading before began.
  struct Slow : ScriptedMeter {
    VirtualClock* clock;
    absl::Duration TakeSamplingCpu() override { return absl::Seconds(7); }
    EnergyReading Read() override {
      EnergyReading reading = ScriptedMeter::Read();
      clock->Advance(absl::Seconds(1));
      return reading;
    }
  } meter;
  VirtualClock clock;
  meter.clock = &clock;
  meter.readings = {30, 50, 1001, -1, 8};
  PhaseTracker tracker(&clock, &meter);
  const absl::Duration start = clock.Monotonic();
  tracker.Enter(Phase::kTrain);
  clock.Advance(absl::Seconds(3));
  tracker.Enter(Phase::kUpload);  // 30 uJ of training; then a second of reading
  clock.Advance(absl::Seconds(4));
  std::vector<PhaseSpan> spans = tracker.Cut(Phase::kIdleWait);  // 50 uJ: one fifth metering, four upload
  ASSERT_EQ(spans.size(), 3u);
  EXPECT_EQ(spans[0].energy.energy, Microjoules(30));
  EXPECT_EQ(spans[1].phase, Phase::kUpload);
  EXPECT_EQ(spans[1].energy.energy, Microjoules(40));
  EXPECT_EQ(spans[2].phase, Phase::kMetering);
  EXPECT_EQ(spans[2].wall, absl::Seconds(1));
  EXPECT_EQ(spans[2].energy.energy, Microjoules(10));
  EXPECT_EQ(spans[2].energy.tier, EnergyTier::kDevice);
  EXPECT_GE(spans[2].cpu, absl::Seconds(7)) << "sampling in the background is metering, too";
  absl::Duration told;
  for (const PhaseSpan& span : spans) told += span.wall;
  clock.Advance(absl::Seconds(1));
  for (Phase next : {Phase::kTrain, Phase::kEncode}) tracker.Enter(next);
  std::vector<PhaseSpan> rest = tracker.Finish();
  for (const PhaseSpan& span : rest) told += span.wall;
  EXPECT_EQ(told, clock.Monotonic() - start - absl::Seconds(1)) << "all but the last reading";
  ASSERT_EQ(rest[0].phase, Phase::kIdleWait);
  ASSERT_EQ(rest[1].phase, Phase::kMetering);
  EXPECT_EQ(rest[0].energy.energy, Microjoules(500)) << "halves of 1001, the odd one to metering";
  EXPECT_TRUE(rest[1].energy.missing()) << "one of its parts is";
}

TEST(PhaseTrackerTest, GoesOnWithAnotherMeter) {
  VirtualClock clock;
  ScriptedMeter first, second;
  first.readings = {10};
  second.readings = {200, 3000};
  PhaseTracker tracker(&clock, &first);
  tracker.Enter(Phase::kTrain);
  clock.Advance(absl::Seconds(1));
  tracker.UseMeter(&second);
  tracker.UseMeter(&second);  // nothing changes
  clock.Advance(absl::Seconds(2));
  const std::vector<PhaseSpan> spans = tracker.Cut(Phase::kUpload);
  ASSERT_EQ(spans.size(), 1u);
  EXPECT_EQ(spans[0].wall, absl::Seconds(3));
  EXPECT_EQ(spans[0].energy.energy, Microjoules(210));
  EXPECT_EQ(second.starts, 1);
  clock.Advance(absl::Seconds(4));
  tracker.UseMeter(nullptr);
  clock.Advance(absl::Seconds(8));
  const std::vector<PhaseSpan> rest = tracker.Finish();
  ASSERT_EQ(rest.size(), 1u);
  EXPECT_EQ(rest[0].wall, absl::Seconds(12));
  EXPECT_TRUE(rest[0].energy.missing()) << "a part of it was not metered";
}

TEST(PhaseTrackerTest, TilesRealTimeOverCuts) {
  auto meter = FakeMeter(&RealClock(), 3);
  PhaseTracker tracker(&RealClock(), meter.get(), PhaseTracker::Cpu::kProcess);
  const absl::Duration before = RealClock().Monotonic();
  tracker.Enter(Phase::kInit);
  const absl::Duration inside = RealClock().Monotonic();
  std::vector<PhaseSpan> all;
  for (int i = 0; i < 300; ++i) {
    tracker.Enter(Phase::kTrain);
    AddSpans(all, tracker.Cut(Phase::kIdleWait));
  }
  const absl::Duration inside_end = RealClock().Monotonic();
  AddSpans(all, tracker.Finish());
  absl::Duration total;
  for (const PhaseSpan& span : all) total += span.wall;
  EXPECT_GE(total, inside_end - inside);
  EXPECT_LE(total, RealClock().Monotonic() - before);
  const EnergyReading sum = SumOfSpans(all);
  ASSERT_FALSE(sum.missing());
  EXPECT_NEAR(sum.energy->joules(), 3 * absl::ToDoubleSeconds(total), 0.001) << "each piece is rounded to microjoules";
  EXPECT_THAT(DescribeSpans(all), ::testing::HasSubstr("metering"));
}

TEST(PhaseTrackerTest, CountsTheCallingThreadsCpuTime) {
  PhaseTracker tracker(&RealClock(), nullptr);
  tracker.Enter(Phase::kTrain);
  const absl::Duration end = ThreadCpuTime() + absl::Milliseconds(30);
  while (ThreadCpuTime() < end) {
  }
  tracker.Enter(Phase::kUpload);
  std::vector<PhaseSpan> spans = tracker.Finish();
  ASSERT_EQ(spans.size(), 2u);
  EXPECT_GE(spans[0].cpu, absl::Milliseconds(30));
  EXPECT_LT(spans[1].cpu, absl::Milliseconds(15));
}

TEST(PhaseNameTest, SpellsTheRunRecordsNames) {
  const std::vector<std::string> names = {"init",   "idle_wait", "download", "decode",    "train",      "evaluate",
                                          "fit",    "encode",    "upload",   "aggregate", "checkpoint", "metering"};
  for (size_t i = 0; i < names.size(); ++i) EXPECT_EQ(PhaseName(static_cast<Phase>(i)), names[i]);
}

}  // namespace
}  // namespace fedwatt

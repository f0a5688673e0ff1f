// A meter in the plug that writes into a file or a pipe, well or badly.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tests/energy/meter_fixture.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::MeterFixture;
using ::fedwatt::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

class ExternalTest : public MeterFixture {
 protected:
  ExternalTest() : MeterFixture("external") {
    clock_.Advance(absl::Seconds(1000));  // seconds since 1970, on this machine
    options_.source = "watts:/plug.csv";
    root_.Write("plug.csv", "time,watts\n# a comment\n");
  }
  void Append(const std::string& text) { std::ofstream(root_.At("plug.csv"), std::ios::app) << text; }
  static void ExpectReading(const EnergyReading& reading, double low, double joules, double high) {
    ASSERT_FALSE(reading.missing());
    EXPECT_NEAR(reading.low->joules(), low, 1e-5);
    EXPECT_NEAR(reading.energy->joules(), joules, 1e-5);
    EXPECT_NEAR(reading.high->joules(), high, 1e-5);
  }
};

TEST_F(ExternalTest, IntegratesPowerBetweenSamplesAndCutsItAtTheWindow) {
  Append("998,10\n999.5,10\n");
  auto meter = Started();
  Append("1001,40\n1002,40\n");
  const EnergyReading reading = ReadAfter(*meter, absl::Seconds(2));
  // From 20 W at 1000 to 40 W at 1001, then 40 W.
  ExpectReading(reading, 10 + 40, 30 + 40, 40 + 40);
  EXPECT_EQ(reading.window, absl::Seconds(2));
  EXPECT_EQ(reading.tier, EnergyTier::kWall);
  EXPECT_EQ(reading.source, "external");
}

TEST_F(ExternalTest, StatesWhatIsNotKnownYetUpToTwiceTheHighestPower) {
  Append("1000,10\n");
  auto meter = Started();
  Append("1001,30\n1002,20\n");
  ExpectReading(ReadAfter(*meter, absl::Seconds(4)), 10 + 20, 20 + 25 + 2 * 20, 30 + 30 + 2 * 2 * 30);
  Append("1005,20\n");
  ExpectReading(ReadAfter(*meter), 20, 20, 20);  // 1002 to 1004 belonged to the window before
}

TEST_F(ExternalTest, CountsJoules) {
  options_.source = "joules:/plug.csv";
  Append("999,5000\n1000,5000\n");
  auto meter = Started();
  Append("1001,5030\n1003,5090\n");
  ExpectReading(ReadAfter(*meter, absl::Seconds(3)), 90, 90, 90);
  Append("1005,5190\n");
  clock_.Advance(absl::Seconds(1));
  // Two seconds between two numbers, and the window ends in the middle: the end is not known when it is stated.
  ExpectReading(meter->Read(), 0, 30, 2 * 30);
  ExpectReading(ReadAfter(*meter), 0, 50, 100);  // the share of the 100 J
  Append("1006,10\n");
  EXPECT_TRUE(ReadAfter(*meter).missing());  // it started again
}

TEST_F(ExternalTest, TakesTimesOfBothForms) {
  Append("1970-01-01T00:16:40Z,7\n");
  auto meter = Started();
  Append(" 1001.5 , 7 \n1970-01-01T01:16:43+01:00,7\n");
  ExpectReading(ReadAfter(*meter, absl::Seconds(3)), 21, 21, 21);
}

TEST_F(ExternalTest, MissesUntilTheInstrumentHasSpoken) {
  auto meter = Started();
  Append("1001,10\n");
  EXPECT_TRUE(ReadAfter(*meter, absl::Seconds(2)).missing());
  Append("1003,10\n");
  ExpectReading(ReadAfter(*meter), 10, 10, 10);
}

TEST_F(ExternalTest, MissesWhenTheInstrumentFallsSilent) {
  Append("1000,10\n");
  auto meter = Started();
  EXPECT_FALSE(ReadAfter(*meter, absl::Seconds(29)).missing());
  EXPECT_TRUE(ReadAfter(*meter, absl::Seconds(2)).missing());
  Append("1032,10\n");
  EXPECT_TRUE(ReadAfter(*meter).missing());  // half a minute between two samples of power
  Append("1033,10\n");
  ExpectReading(ReadAfter(*meter), 10, 10, 10);
}

TEST_F(ExternalTest, MissesWhenTheMachinesClockWasSet) {
  Append("1000,10\n");
  struct SteppingClock : Clock {
    absl::Time Now() const override { return now; }
    absl::Duration Monotonic() const override { return monotonic; }
    absl::Time now = absl::UnixEpoch() + absl::Seconds(1000);
    absl::Duration monotonic;
  } clock;
  options_.clock = &clock;
  auto meter = Started();
  Append("1001,10\n1020,10\n");
  clock.monotonic += absl::Seconds(1);
  clock.now += absl::Seconds(20);
  EXPECT_TRUE(meter->Read().missing());
  Append("1021,10\n");
  clock.monotonic += absl::Seconds(1);
  clock.now += absl::Seconds(1);
  ExpectReading(meter->Read(), 10, 10, 10);
}

TEST_F(ExternalTest, SkipsWhatIsNoSample) {
  Append("1000,10\n");
  auto meter = Started();
  Append("1000.2,-5\n1000.3,nan\n1000.4,inf\n1000.5,1e300\n1000.6\n1000.7,\n,\n\n,10\nnan,10\n-5,10\n1e300,10\ninfinite-past,10\ninfinite-future,10\n");
  Append("999,1000\n1000,1000\n");    // time does not go back
  Append("1500,90000\n");             // nor ahead
  Append(std::string("1000.8,5\0\n", 10));
  Append(absl::StrCat("1000.9,", std::string(300, '9'), "\n"));
  Append("1000.95," + std::string(1 << 18, 'x') + "\n");
  Append("1001,10\n");
  ExpectReading(ReadAfter(*meter), 10, 10, 10);
}

TEST_F(ExternalTest, WaitsForTheEndOfALine) {
  Append("1000,10\n");
  auto meter = Started();
  Append("1001,1");
  clock_.Advance(absl::Seconds(1));
  meter->Sample();
  Append("0\n");
  ExpectReading(meter->Read(), 10, 10, 10);
}

TEST_F(ExternalTest, ReadsOnlyTheEndOfALongFile) {
  std::string text;
  for (int i = 0; i < 20000; ++i) text += absl::StrCat(i * 0.05, ",10\n");
  Append(text + "1000,10\n");
  auto meter = Started();
  Append("1001,10\n");
  ExpectReading(ReadAfter(*meter), 10, 10, 10);
}

TEST_F(ExternalTest, GoesOnAfterTheFileWasCutOrReplaced) {
  Append("1000,10\n");
  auto meter = Started();
  root_.Write("plug.csv", "1000.5,10\n");
  EXPECT_TRUE(ReadAfter(*meter).missing());
  Append("1002,10\n");
  ExpectReading(ReadAfter(*meter), 10, 10, 10);
  root_.Write("next.csv", "1002.5,10\n");
  std::filesystem::rename(root_.At("next.csv"), root_.At("plug.csv"));
  EXPECT_TRUE(ReadAfter(*meter).missing());
  Append("1004,10\n");
  ReadAfter(*meter);
  Append("1005,10\n");
  ExpectReading(ReadAfter(*meter), 10, 10, 10);
}

TEST_F(ExternalTest, ReadsAPipeWithoutWaitingForItsWriter) {
  root_.Remove("plug.csv");
  ASSERT_EQ(::mkfifo(root_.At("plug.csv").c_str(), 0600), 0);
  auto meter = Started();
  EXPECT_TRUE(ReadAfter(*meter).missing());
  const int pipe = ::open(root_.At("plug.csv").c_str(), O_WRONLY | O_NONBLOCK);
  ASSERT_GE(pipe, 0);
  for (const char* text : {"time,watts\n1001,10\n10", "02,10\n"}) {
    ASSERT_GT(::write(pipe, text, std::strlen(text)), 0);
    meter->Sample();
  }
  ReadAfter(*meter);
  ASSERT_GT(::write(pipe, "1003,10\n", 8), 0);
  ::close(pipe);
  ExpectReading(ReadAfter(*meter), 10, 10, 10);
}

TEST_F(ExternalTest, BoundsWhatAFastWriterCosts) {
  Append("1000,10\n");
  auto meter = Started();
  std::string text;
  for (int i = 1; i <= 40000; ++i) text += absl::StrCat(1000 + i * 1e-5, ",10\n");
  Append(text);
  clock_.Advance(absl::Seconds(1));
  meter->Sample();
  Append("1001,10\n");
  ExpectReading(meter->Read(), 10, 10, 10);
}

// Samples of all ages between windows of all lengths, with garbage, repeats and gaps among them: the true joules of each window lie in its interval.
TEST_F(ExternalTest, HoldsTheTruthOfRandomSeries) {
  std::mt19937_64 random(7);
  const auto uniform = [&random] { return static_cast<double>(random() >> 11) * 0x1p-53; };
  for (const bool power : {true, false}) {
    options_.source = power ? "watts:/plug.csv" : "joules:/plug.csv";
    root_.Write("plug.csv", "");
    double now = absl::ToDoubleSeconds(clock_.Monotonic()), written = now, watts = 75, joules = 1e6;
    // Joules at `at`, since this test began; power is linear between samples.
    struct Piece {
      double from, to, watts_from, watts_to;
    };
    std::vector<Piece> pieces;
    const auto spent = [&pieces](double at) {
      double sum = 0;
      for (const Piece& p : pieces) {
        const double share = std::clamp((at - p.from) / (p.to - p.from), 0.0, 1.0);
        sum += (p.watts_from + (p.watts_from + (p.watts_to - p.watts_from) * share)) / 2 * share * (p.to - p.from);
      }
      return sum;
    };
    struct Line {
      double at;
      std::string text;
    };
    std::vector<Line> lines;
    for (int i = 0; i < 2000; ++i) {
      const double next = written + 0.05 + 2.5 * uniform(), now_watts = 50 + 50 * uniform();
      pieces.push_back({written, next, watts, now_watts});
      joules += (watts + now_watts) / 2 * (next - written);
      written = next;
      watts = now_watts;
      lines.push_back({next, absl::StrFormat("%.9f,%.9f\n", next, power ? watts : joules)});
      if (random() % 20 == 0) lines.push_back({next, "garbage,1\n"});
      if (random() % 20 == 0) lines.push_back({next, lines.back().text});
    }
    Append(absl::StrFormat("%.9f,%.9f\n", now, power ? 75.0 : 1e6));
    auto meter = Started();
    int stated = 0;
    for (auto line = lines.begin(); now < written - 10;) {
      const double before = now, span = 0.01 * std::pow(600.0, uniform());
      for (double step = span / 3; now < before + span - 1e-9;) {
        clock_.Advance(absl::Seconds(step));
        now += step;
        for (; line != lines.end() && line->at <= now; ++line) Append(line->text);
        if (random() % 2 == 0) meter->Sample();
      }
      const EnergyReading reading = meter->Read();
      if (reading.missing()) continue;
      ++stated;
      const double truth = spent(now) - spent(before);
      EXPECT_GE(truth, reading.low->joules() - 1e-3) << before << " to " << now;
      EXPECT_LE(truth, reading.high->joules() + 1e-3) << before << " to " << now;
    }
    EXPECT_GT(stated, 500);
  }
}

TEST_F(ExternalTest, RefusesWithoutAnInstrument) {
  for (const char* source : {"", "/plug.csv", "watts:", "volts:/plug.csv"}) {
    options_.source = source;
    EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("; remedy: set it to watts:FILE or joules:FILE")));
  }
  options_.source = "watts:/absent.csv";
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("absent.csv")));
  options_.source = "watts:/";
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expected a file or a named pipe")));
}

}  // namespace
}  // namespace fedwatt

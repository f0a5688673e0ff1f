// The powercap meter on folders that the test builds: no hardware, no privilege.
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <limits>
#include <map>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "fedwatt/energy/meter.h"
#include "tests/energy/fake_root.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::FakeRoot;
using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

// (2^32 - 1) units of 2^-14 J: what common Intel parts report. The counter wraps one unit, 61 uJ, later.
constexpr int64_t kRange = 262143328850;
constexpr int64_t kModulus = kRange + 61;
constexpr Energy kEdge = Microjoules(1000000);  // 1000 W over the 1 ms between two values of the counter

class RaplTest : public ::testing::Test {
 protected:
  void Zone(const std::string& zone, const std::string& name, int64_t counter_uj, int64_t range_uj = kRange) {
    root_.Write(Path(zone, "name"), name + "\n");
    root_.Write(Path(zone, "max_energy_range_uj"), absl::StrCat(range_uj, "\n"));
    Count(zone, counter_uj);
  }
  void Count(const std::string& zone, int64_t counter_uj) {
    shown_[zone] = counter_uj;
    root_.Write(Path(zone, "energy_uj"), absl::StrCat(counter_uj, "\n"));
  }
  // While the meter waits, every counter that it can read goes on by a microjoule, or none does.
  void Wait() {
    ++waits_;
    if (stands_still_) return;
    for (auto& [zone, counter_uj] : shown_) {
      int64_t shown;
      std::ifstream file(root_.At(Path(zone, "energy_uj")));
      if (file >> shown && shown == counter_uj) Count(zone, counter_uj + 1);
    }
  }
  static std::string Path(const std::string& zone, const std::string& file) { return "sys/class/powercap/" + zone + "/" + file; }

  absl::StatusOr<std::unique_ptr<Meter>> Create() {
    MeterOptions options;
    options.root = root_.path();
    options.clock = &clock_;
    options.suspended = [this] { return suspended_; };
    options.pause = [this](absl::Duration) { Wait(); };
    auto entry = Meters().Find("rapl");
    if (!entry.ok()) return entry.status();
    return entry->create(options);
  }
  std::unique_ptr<Meter> Started() {
    auto meter = Create();
    EXPECT_THAT(meter, IsOk());
    if (!meter.ok()) return nullptr;
    EXPECT_THAT((*meter)->Start(), IsOk());
    return *std::move(meter);
  }
  EnergyReading ReadAfter(Meter& meter, absl::Duration span = absl::Seconds(1)) {
    clock_.Advance(span);
    return meter.Read();
  }

  FakeRoot root_;
  VirtualClock clock_;
  absl::Duration suspended_;
  std::map<std::string, int64_t> shown_;
  bool stands_still_ = false;
  int waits_ = 0;
};

TEST_F(RaplTest, BooksTheDifferenceOfTheCounter) {
  Zone("intel-rapl:0", "package-0", 5000000);
  auto meter = Started();
  Count("intel-rapl:0", 17000003);
  EnergyReading reading = ReadAfter(*meter, absl::Seconds(2));
  EXPECT_EQ(reading.energy, Microjoules(12000003));  // the first sample is the origin, never energy
  EXPECT_EQ(reading.low, Microjoules(12000003) - kEdge);  // both ends may show a number that is a refresh old
  EXPECT_EQ(reading.high, Microjoules(12000003) + kEdge);
  EXPECT_EQ(reading.tier, EnergyTier::kComponent);
  EXPECT_EQ(reading.source, "rapl");
  EXPECT_EQ(reading.domain, "package-0");
  EXPECT_EQ(reading.window, absl::Seconds(2));
  Count("intel-rapl:0", 17000010);
  EXPECT_EQ(ReadAfter(*meter).energy, Microjoules(7));
}

TEST_F(RaplTest, AddsPackagesAndDramAndNothingElse) {
  Zone("intel-rapl", "", 0);  // the control type itself
  Zone("intel-rapl:0", "psys", 0);
  Zone("intel-rapl:1", "package-0", 0);
  Zone("intel-rapl:1:0", "core", 0);
  Zone("intel-rapl:1:1", "dram", 0);
  Zone("intel-rapl:2", "package-1-die-0", 0);
  Zone("intel-rapl:2:0", "dram", 0);
  Zone("intel-rapl:3", "package-0", 0);  // the same package a second time
  Zone("intel-rapl-mmio:0", "package-0", 0);
  Zone("intel-rapl-mmio:1", "package-1", 0);  // the same die under the other door's name
  Zone("dtpm:0", "package-9", 0);
  auto meter = Started();
  Count("intel-rapl:0", 1000000);
  Count("intel-rapl:1", 200000);
  Count("intel-rapl:1:0", 30000);
  Count("intel-rapl:1:1", 4000);
  Count("intel-rapl:2", 50);
  Count("intel-rapl:2:0", 6);
  Count("intel-rapl:3", 600000);
  Count("intel-rapl-mmio:0", 200000);
  Count("intel-rapl-mmio:1", 50);
  Count("dtpm:0", 7000000);
  EnergyReading reading = ReadAfter(*meter);
  EXPECT_EQ(reading.energy, Microjoules(204056));
  EXPECT_EQ(reading.domain, "package-0+package-1-die-0+package-0-dram+package-1-die-0-dram");
  EXPECT_THAT(meter->Describe(), HasSubstr(reading.domain));
  EXPECT_THAT(meter->Describe(), HasSubstr("psys (covers the packages again"));
}

TEST_F(RaplTest, CountsMirroredDiesOnce) {
  Zone("intel-rapl:0", "package-0-die-0", 5000);
  Zone("intel-rapl:1", "package-0-die-1", 5000);
  auto meter = Started();
  for (int64_t counter = 105000; counter < 1000000; counter += 100000) {
    Count("intel-rapl:0", counter);
    Count("intel-rapl:1", counter);
    EnergyReading reading = ReadAfter(*meter);
    EXPECT_EQ(reading.energy, Microjoules(100000));
    EXPECT_EQ(reading.domain, "package-0-die-0");
  }
  // Two counters that happened to agree are two again as soon as they differ.
  Count("intel-rapl:0", 1000000);
  Count("intel-rapl:1", 1000001);
  EXPECT_EQ(ReadAfter(*meter).domain, "package-0-die-0+package-0-die-1");
}

TEST_F(RaplTest, TakesThePlatformCounterWhereItIsAlone) {
  Zone("intel-rapl:0", "psys", 100);
  auto meter = Started();
  Count("intel-rapl:0", 7100);
  EnergyReading reading = ReadAfter(*meter);
  EXPECT_EQ(reading.energy, Microjoules(7000));
  EXPECT_EQ(reading.tier, EnergyTier::kDevice);
  EXPECT_EQ(reading.domain, "psys");
}

TEST_F(RaplTest, BridgesAFailedSampleInsideAWindow) {
  Zone("intel-rapl:0", "package-0", 100);
  auto meter = Started();
  EXPECT_EQ(meter->SamplePeriod(), absl::Seconds(kModulus / 1e6 / 1000 / 4));
  root_.Remove(Path("intel-rapl:0", "energy_uj"));
  clock_.Advance(absl::Seconds(1));
  meter->Sample();
  Count("intel-rapl:0", 350);
  EXPECT_EQ(ReadAfter(*meter).energy, Microjoules(250));
}

TEST_F(RaplTest, SamplesKeepALongWindowUnambiguous) {
  Zone("intel-rapl:0", "package-0", 0);
  auto meter = Started();
  int64_t spent = 0;
  for (int i = 0; i < 200; ++i) {  // 100 minutes at 500 W: more than eleven turns
    spent += 15000000000;
    Count("intel-rapl:0", spent % kModulus);
    clock_.Advance(absl::Seconds(30));
    meter->Sample();
  }
  EnergyReading reading = meter->Read();
  EXPECT_EQ(reading.energy, Microjoules(spent));
  EXPECT_EQ(reading.high, Microjoules(spent) + kEdge);
  EXPECT_EQ(reading.window, absl::Minutes(100));
}

TEST_F(RaplTest, MissesTheWindowInWhichTheMachineSlept) {
  Zone("intel-rapl:0", "package-0", 100);
  auto meter = Started();
  suspended_ = absl::Hours(1);
  Count("intel-rapl:0", 5100);
  EXPECT_TRUE(ReadAfter(*meter).missing());
  Count("intel-rapl:0", 5200);
  EXPECT_EQ(ReadAfter(*meter).energy, Microjoules(100));
}

TEST_F(RaplTest, FallsBackToMmioWhereItIsTheOnlyDoor) {
  Zone("intel-rapl-mmio:0", "package-0", 10);
  auto meter = Started();
  Count("intel-rapl-mmio:0", 1010);
  EXPECT_EQ(ReadAfter(*meter).energy, Microjoules(1000));
}

TEST_F(RaplTest, UnwrapsAtOneUnitAboveTheRange) {
  Zone("intel-rapl:0", "package-0", kModulus - 1000);
  auto meter = Started();
  Count("intel-rapl:0", 500);
  EXPECT_EQ(ReadAfter(*meter).energy, Microjoules(1500));
  Count("intel-rapl:0", kModulus - 100);  // nearly a full turn in a second: more than a package can draw
  EXPECT_TRUE(ReadAfter(*meter).missing());
  Count("intel-rapl:0", 0);
  EXPECT_EQ(ReadAfter(*meter).energy, Microjoules(100));
}

TEST_F(RaplTest, CallsAResetMissingAndGoesOn) {
  Zone("intel-rapl:0", "package-0", 90000000);
  auto meter = Started();
  Count("intel-rapl:0", 1000);
  EnergyReading reset = ReadAfter(*meter);
  EXPECT_TRUE(reset.missing());
  EXPECT_EQ(reset.tier, EnergyTier::kMissing);
  EXPECT_EQ(reset.source, "");
  EXPECT_EQ(reset.window, absl::Seconds(1));
  Count("intel-rapl:0", 3000);
  EXPECT_EQ(ReadAfter(*meter).energy, Microjoules(2000));
}

TEST_F(RaplTest, CallsAnImplausibleJumpMissing) {
  Zone("intel-rapl:0", "package-0", 0);
  auto meter = Started();
  Count("intel-rapl:0", 1009000000);  // 1009 W, within the counter's refresh slack of 1000 W
  EXPECT_EQ(ReadAfter(*meter).energy, Joules(1009));
  Count("intel-rapl:0", 1009000000 + 1012000000);
  EXPECT_TRUE(ReadAfter(*meter).missing());
}

TEST_F(RaplTest, CallsAFrozenCounterMissingButNotAShortWindow) {
  Zone("intel-rapl:0", "package-0", 42);
  auto meter = Started();
  EXPECT_EQ(ReadAfter(*meter, absl::Microseconds(300)).energy, Microjoules(0));  // shorter than the counter's refresh
  EXPECT_TRUE(ReadAfter(*meter, absl::Milliseconds(100)).missing());
}

// What a counter held back before a reading must not come out in the window after it.
TEST_F(RaplTest, MissesTheWindowsOnBothSidesOfAReadingAtWhichTheCounterStood) {
  Zone("intel-rapl:0", "package-0", 0);
  auto meter = Started();
  Count("intel-rapl:0", 5000000);  // and here it stops, in the middle of the window
  stands_still_ = true;
  waits_ = 0;
  EXPECT_TRUE(ReadAfter(*meter).missing());
  EXPECT_EQ(waits_, 20);  // it was waited for: 10 ms
  stands_still_ = false;
  Count("intel-rapl:0", 70000000);
  EXPECT_TRUE(ReadAfter(*meter).missing());
  Count("intel-rapl:0", 90000000);
  EXPECT_EQ(ReadAfter(*meter).energy, Microjoules(20000000));
}

TEST_F(RaplTest, TakesAnOriginThatStoodStillForMissing) {
  Zone("intel-rapl:0", "package-0", 0);
  stands_still_ = true;
  auto meter = Started();
  stands_still_ = false;
  Count("intel-rapl:0", 70000000);
  EXPECT_TRUE(ReadAfter(*meter).missing());
  Count("intel-rapl:0", 90000000);
  EXPECT_EQ(ReadAfter(*meter).energy, Microjoules(20000000));
}

TEST_F(RaplTest, WaitsForEachCounterAndOnlyUntilItMoves) {
  Zone("intel-rapl:0", "package-0", 0);
  Zone("intel-rapl:1", "package-1", 0);
  auto meter = Started();
  waits_ = 0;
  Count("intel-rapl:0", 1000);
  Count("intel-rapl:1", 1000);
  EXPECT_FALSE(ReadAfter(*meter).missing());
  EXPECT_EQ(waits_, 1);
}

TEST_F(RaplTest, WidensTheIntervalWhenWholeWrapsMayHide) {
  Zone("intel-rapl:0", "package-0", 0);
  auto meter = Started();
  Count("intel-rapl:0", 30000000000);
  // 600 s at 1000 W is 2.3 turns: up to two whole ones can hide behind 30 kJ.
  EnergyReading reading = ReadAfter(*meter, absl::Minutes(10));
  EXPECT_EQ(reading.energy, Joules(30000));
  EXPECT_EQ(reading.low, Joules(30000) - kEdge);
  EXPECT_EQ(reading.high, Microjoules(30000000000 + 2 * kModulus) + kEdge);
}

TEST_F(RaplTest, LosesTheWindowsOnBothSidesOfAFailedRead) {
  Zone("intel-rapl:0", "package-0", 100);
  Zone("intel-rapl:1", "package-1", 100);
  auto meter = Started();
  root_.Remove(Path("intel-rapl:1", "energy_uj"));
  Count("intel-rapl:0", 200);
  EXPECT_TRUE(ReadAfter(*meter).missing());  // one package is not the sum of two
  Count("intel-rapl:1", 300);
  EnergyReading after = ReadAfter(*meter, absl::Seconds(3));
  EXPECT_TRUE(after.missing());
  EXPECT_EQ(after.window, absl::Seconds(3));
  Count("intel-rapl:0", 205);
  Count("intel-rapl:1", 306);
  EXPECT_EQ(ReadAfter(*meter).energy, Microjoules(11));
}

TEST_F(RaplTest, CallsGarbageMissing) {
  Zone("intel-rapl:0", "package-0", 100);
  auto meter = Started();
  for (const char* text : {"", "\n", "garbage", "12x", "-5", "1e6", "99999999999999999999999", "0x10"}) {
    root_.Write(Path("intel-rapl:0", "energy_uj"), text);
    EXPECT_TRUE(ReadAfter(*meter).missing()) << text;
  }
  root_.Remove(Path("intel-rapl:0", "energy_uj"));
  std::filesystem::create_directory(root_.At(Path("intel-rapl:0", "energy_uj")));
  EXPECT_TRUE(ReadAfter(*meter).missing());
}

TEST_F(RaplTest, CannotUnwrapWithoutARange) {
  for (const char* range : {"", "0", "-1", "many", "9223372036854775807"}) {
    Zone("intel-rapl:0", "package-0", kRange - 10);
    root_.Write(Path("intel-rapl:0", "max_energy_range_uj"), range);
    auto meter = Started();
    Count("intel-rapl:0", kRange);
    EXPECT_EQ(ReadAfter(*meter).energy, Microjoules(10)) << range;
    Count("intel-rapl:0", 20);
    EXPECT_TRUE(ReadAfter(*meter).missing()) << range;
    EXPECT_THAT(meter->Describe(), HasSubstr("wrap limit unknown"));
  }
}

TEST_F(RaplTest, TakesCountersUpToTheEndOf64Bits) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  Zone("intel-rapl:0", "package-0", kMost - 6);
  auto meter = Started();
  Count("intel-rapl:0", kMost - 1);
  EXPECT_EQ(ReadAfter(*meter).energy, Microjoules(5));
  Count("intel-rapl:0", 0);  // above the range already: no wrap explains this
  EXPECT_TRUE(ReadAfter(*meter).missing());
}

TEST_F(RaplTest, StatesTheWrapLimit) {
  Zone("intel-rapl:0", "package-0", 0);
  Zone("intel-rapl:1", "package-1", 0, 65532610987);
  ASSERT_OK_AND_ASSIGN(auto meter, Create());
  EXPECT_THAT(meter->Describe(), HasSubstr("at least every 16 s"));  // a quarter of 65.5 kJ at 1000 W, the shorter of the two
}

TEST_F(RaplTest, RefusesByNameWhereThereIsNoPackage) {
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnimplemented, AllOf(HasSubstr("no RAPL package"), HasSubstr(root_.path()))));
  Zone("intel-rapl:1:0", "core", 0);
  Zone("intel-rapl:2", "package", 0);
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("no RAPL package")));
}

TEST_F(RaplTest, RefusesAnUnreadableCounter) {
  Zone("intel-rapl:0", "package-0", 0);
  root_.Write(Path("intel-rapl:0", "energy_uj"), "garbage\1");
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("garbage\\x01")));
  root_.Remove(Path("intel-rapl:0", "energy_uj"));
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("energy_uj")));
}

TEST_F(RaplTest, NamesAPermissionProblemAndItsRemedy) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may read everything";
  Zone("intel-rapl:0", "package-0", 0);
  const std::string counter = root_.At(Path("intel-rapl:0", "energy_uj"));
  auto meter = Started();
  ASSERT_EQ(::chmod(counter.c_str(), 0), 0);
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kPermissionDenied, AllOf(HasSubstr(counter), HasSubstr("sudo chmod a+r"))));
  EXPECT_TRUE(ReadAfter(*meter).missing());
}

TEST_F(RaplTest, RefusesToCoverOneThread) {
  Zone("intel-rapl:0", "package-0", 0);
  MeterOptions options;
  options.root = root_.path();
  options.thread_scope = true;
  options.share = false;
  EXPECT_THAT(ChooseMeter("rapl", options), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("thread")));
  ASSERT_OK_AND_ASSIGN(MeterChoice choice, ChooseMeter("auto", options));
  ASSERT_NE(choice.meter, nullptr);
  EXPECT_EQ(choice.meter->name(), "cpu_time");
}

TEST_F(RaplTest, IsPreferredWhereItWorks) {
  Zone("intel-rapl:0", "package-0", 0);
  MeterOptions options;
  options.root = root_.path() + "/";
  ASSERT_OK_AND_ASSIGN(MeterChoice choice, ChooseMeter("auto", options));
  ASSERT_NE(choice.meter, nullptr);
  EXPECT_EQ(choice.meter->name(), "rapl");
  EXPECT_TRUE(choice.refused.empty());
}

}  // namespace
}  // namespace fedwatt

// Defects of energy meters that others shipped, each with the test that keeps it out of this one. `ShippedDefectsTest.NamesTestsThatExist` reads this table.
//
//  # | defect                                                                | kept out by
//  1 | a failed read becomes 0, then a wrap, then the counter's whole range  | ShippedDefectsTest.D01FailedReadIsAGapAndNotARange
//  2 | an unreadable range makes a wrap negative energy                      | ShippedDefectsTest.D02WrapWithoutARangeIsMissingAndNotNegative
//  3 | an option counts DRAM that is then never summed                       | ShippedDefectsTest.D03DramChangesTheTotal
//  4 | two sockets' DRAM of one name become one                              | ShippedDefectsTest.D04DramOfTwoSocketsIsCountedTwice
//  5 | dies that show one counter are summed                                 | RaplTest.CountsMirroredDiesOnce
//  6 | cores are added to the package they are in                            | ShippedDefectsTest.D06CoresAreNotAddedToTheirPackage
//  7 | the platform counter is added as if it were one more package          | ShippedDefectsTest.D07PlatformIsNotOneMorePackage
//  8 | zones are told by their number and not by their name                  | ShippedDefectsTest.D08ZonesAreToldByNameWhateverTheirNumber
//  9 | a wrap yields nothing; microwatts are added as microjoules            | ShippedDefectsTest.D09WrapKeepsItsJoules PowerTest.TimesASpanIsEnergyAndBack
// 10 | the first reading counts what the counter already held                | ShippedDefectsTest.D10FirstReadingIsTheOrigin
// 11 | a failed call of the GPU's driver repeats the last value              | NvmlTest.MissesAFailedCallAndNeverRepeatsTheLastNumber
// 12 | empty columns are dropped and shift the others                        | CodeCarbonTest.MissingIsEmptyAndShiftsNoColumn
// 13 | a rounded factor between joules and kilowatt-hours                    | ShippedDefectsTest.D13SumsAreExactToTheMicrojoule CodeCarbonTest.HasItsColumnsAndUnits
// 14 | waiting is measured before it begins; bytes are not those on the wire | PhaseTrackerTest.TilesTheWallTimeExactly TlsTest.BytesOnTheWireAreCounted
// 15 | one joule of a budget is spent twice                                  | AccountTest.HoldsOpenAttemptsAtTheirMost AccountTest.OverspendsByLessThanOneAttempt
// 16 | the battery's guard always passes                                     | ConditionsTest.ReadsSuppliesAndZones BrokenRuleTest.EachRuleAtBothSides
// 17 | a selection policy fails as it is shipped                             | SelectionContractTest.ChoosesThatManyDifferentMembers
// 18 | "process" is the whole machine where counters exist                   | RaplTest.RefusesToCoverOneThread
// 19 | the parts of processes exceed the machine                             | CpuTimeTest.ThreadSharesNeverExceedTheProcess
// 20 | a worse meter hides a better one                                      | ChooseMeterTest.AutoRanksByTierAndThenByPreference
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/energy/meter_fixture.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::MeterFixture;

// Of common Intel parts: 262 kJ.
constexpr int64_t kRange = 262143328850, kModulus = kRange + 61;

class ShippedDefectsTest : public MeterFixture {
 protected:
  ShippedDefectsTest() : MeterFixture("rapl") {}
  void Zone(const std::string& zone, const std::string& name, int64_t microjoules) {
    root_.Write("sys/class/powercap/" + zone + "/name", name + "\n");
    root_.Write("sys/class/powercap/" + zone + "/max_energy_range_uj", absl::StrCat(kRange, "\n"));
    Count(zone, microjoules);
  }
  void Count(const std::string& zone, int64_t microjoules) {
    shown_[zone] = microjoules;
    root_.Write("sys/class/powercap/" + zone + "/energy_uj", absl::StrCat(microjoules, "\n"));
  }
  void Wait() override {
    for (const auto& [zone, microjoules] : std::map<std::string, int64_t>(shown_)) Count(zone, microjoules + 1);
  }
  std::map<std::string, int64_t> shown_;
};

TEST_F(ShippedDefectsTest, D01FailedReadIsAGapAndNotARange) {
  Zone("intel-rapl:0", "package-0", 200'000'000'000);
  auto meter = Started();
  root_.Write("sys/class/powercap/intel-rapl:0/energy_uj", "");
  EXPECT_TRUE(ReadAfter(*meter).missing());
  Count("intel-rapl:0", 200'020'000'000);
  EXPECT_TRUE(ReadAfter(*meter).missing());
  Count("intel-rapl:0", 200'030'000'000);
  EXPECT_EQ(ReadAfter(*meter).energy, Joules(10));
}

TEST_F(ShippedDefectsTest, D02WrapWithoutARangeIsMissingAndNotNegative) {
  Zone("intel-rapl:0", "package-0", kModulus - 1000);
  root_.Remove("sys/class/powercap/intel-rapl:0/max_energy_range_uj");
  auto meter = Started();
  Count("intel-rapl:0", 5000);
  EXPECT_TRUE(ReadAfter(*meter).missing());
  Count("intel-rapl:0", 9000);
  EXPECT_EQ(ReadAfter(*meter).energy, Microjoules(4000));
}

TEST_F(ShippedDefectsTest, D03DramChangesTheTotal) {
  Zone("intel-rapl:0", "package-0", 0);
  for (const bool dram : {false, true}) {
    if (dram) Zone("intel-rapl:0:0", "dram", 0);
    Count("intel-rapl:0", 0);
    auto meter = Started();
    Count("intel-rapl:0", 50'000'000);
    if (dram) Count("intel-rapl:0:0", 7'000'000);
    EXPECT_EQ(ReadAfter(*meter).energy, Joules(dram ? 57 : 50));
  }
}

TEST_F(ShippedDefectsTest, D04DramOfTwoSocketsIsCountedTwice) {
  for (const char* socket : {"0", "1"}) {
    Zone(absl::StrCat("intel-rapl:", socket), absl::StrCat("package-", socket), 0);
    Zone(absl::StrCat("intel-rapl:", socket, ":0"), "dram", 0);
  }
  auto meter = Started();
  Count("intel-rapl:0", 10'000'000);
  Count("intel-rapl:1", 20'000'000);
  Count("intel-rapl:0:0", 3'000'000);
  Count("intel-rapl:1:0", 4'000'000);
  EXPECT_EQ(ReadAfter(*meter).energy, Joules(37));
}

TEST_F(ShippedDefectsTest, D06CoresAreNotAddedToTheirPackage) {
  Zone("intel-rapl:0", "package-0", 0);
  Zone("intel-rapl:0:0", "core", 0);
  Zone("intel-rapl:0:1", "uncore", 0);
  auto meter = Started();
  Count("intel-rapl:0", 50'000'000);
  Count("intel-rapl:0:0", 40'000'000);
  Count("intel-rapl:0:1", 5'000'000);
  EXPECT_EQ(ReadAfter(*meter).energy, Joules(50));
}

TEST_F(ShippedDefectsTest, D07PlatformIsNotOneMorePackage) {
  Zone("intel-rapl:0", "package-0", 0);
  Zone("intel-rapl:1", "psys", 0);
  auto meter = Started();
  Count("intel-rapl:0", 30'000'000);
  Count("intel-rapl:1", 70'000'000);
  EXPECT_EQ(ReadAfter(*meter).energy, Joules(30));
}

TEST_F(ShippedDefectsTest, D08ZonesAreToldByNameWhateverTheirNumber) {
  Zone("intel-rapl:0", "psys", 0);
  Zone("intel-rapl:1", "package-0-die-0", 0);
  Zone("intel-rapl:7", "package-0-die-1", 0);
  auto meter = Started();
  Count("intel-rapl:0", 90'000'000);
  Count("intel-rapl:1", 10'000'000);
  Count("intel-rapl:7", 20'000'000);
  const EnergyReading reading = ReadAfter(*meter);
  EXPECT_EQ(reading.energy, Joules(30));
  EXPECT_EQ(reading.domain, "package-0-die-0+package-0-die-1");
}

TEST_F(ShippedDefectsTest, D09WrapKeepsItsJoules) {
  Zone("intel-rapl:0", "package-0", kModulus - 10'000'000);
  auto meter = Started();
  Count("intel-rapl:0", 15'000'000);
  EXPECT_EQ(ReadAfter(*meter).energy, Joules(25));
}

TEST_F(ShippedDefectsTest, D10FirstReadingIsTheOrigin) {
  Zone("intel-rapl:0", "package-0", 123'456'789'000);
  auto meter = Started();
  Count("intel-rapl:0", 123'461'789'000);
  EXPECT_EQ(ReadAfter(*meter).energy, Joules(5));
}

TEST_F(ShippedDefectsTest, D13SumsAreExactToTheMicrojoule) {
  EnergyReading sum;
  sum.energy = sum.low = sum.high = Energy();
  sum.tier = EnergyTier::kWall;
  EnergyReading one = sum;
  one.energy = one.low = one.high = Microjoules(3);
  for (int i = 0; i < 100'000; ++i) sum = AddWindows(sum, one);
  EXPECT_EQ(sum.energy, Microjoules(300'000));
  EXPECT_EQ(Joules(3.6e6), Microjoules(3'600'000'000'000));  // a kilowatt-hour
}

std::string Content(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

TEST_F(ShippedDefectsTest, NamesTestsThatExist) {
  std::string tests;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(FEDWATT_TESTS_FOLDER)) {
    if (absl::EndsWith(entry.path().string(), "_test.cc")) tests += Content(entry.path());
  }
  const std::vector<std::string> lines = absl::StrSplit(Content(std::string(FEDWATT_TESTS_FOLDER) + "/energy/shipped_defects_test.cc"), '\n');
  int rows = 0;
  for (const std::string& line : lines) {
    const std::vector<std::string> cells = absl::StrSplit(line, " | ");
    if (!absl::StartsWith(line, "//") || cells.size() != 3 || absl::StrContains(cells[0], "#")) continue;
    ++rows;
    for (const std::string& name : std::vector<std::string>(absl::StrSplit(cells[2], ' ', absl::SkipEmpty()))) {
      const std::vector<std::string> parts = absl::StrSplit(name, '.');
      ASSERT_EQ(parts.size(), 2u) << line;
      EXPECT_TRUE(absl::StrContains(tests, absl::StrCat("(", parts[0], ", ", parts[1], ")"))) << name;
    }
  }
  EXPECT_EQ(rows, 20);
}

}  // namespace
}  // namespace fedwatt

// Batteries of different gauges and moods.
#include "absl/strings/str_cat.h"
#include "tests/energy/meter_fixture.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::MeterFixture;
using ::fedwatt::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

class BatteryTest : public MeterFixture {
 protected:
  BatteryTest() : MeterFixture("battery") {}
  void Supply(const std::string& name, const std::map<std::string, std::string>& files) {
    for (const auto& [file, text] : files) root_.Write("sys/class/power_supply/" + name + "/" + file, text + "\n");
  }
  void Battery(const std::string& name, std::map<std::string, std::string> files) {
    files.insert({{"type", "Battery"}, {"status", "Discharging"}, {"present", "1"}});
    Supply(name, files);
  }
};

TEST_F(BatteryTest, IntegratesPower) {
  Battery("BAT0", {{"power_now", "7500000"}, {"energy_now", "40000000"}});
  auto meter = Started();
  const EnergyReading reading = ReadAfter(*meter, absl::Seconds(4));
  EXPECT_EQ(reading.energy, Joules(30));
  EXPECT_EQ(reading.low, Joules(4 * (7.5 - 0.15 - 0.01)));
  EXPECT_EQ(reading.high, Joules(4 * (7.5 + 0.15 + 0.01)));
  EXPECT_EQ(reading.tier, EnergyTier::kDevice);
  EXPECT_EQ(reading.domain, "BAT0");
  EXPECT_THAT(meter->Describe(), HasSubstr("screen and radio included"));
}

// The kernel's ABI says that a discharging current is negative; drivers disagree.
TEST_F(BatteryTest, TakesTheSignFromTheStateAndNotFromTheCurrent) {
  for (const char* current : {"1500000", "-1500000"}) {
    Battery("BAT0", {{"current_now", current}, {"voltage_now", "4000000"}});
    EXPECT_EQ(ReadAfter(*Started()).energy, Joules(6)) << current;
  }
}

TEST_F(BatteryTest, RefusesWhileItDoesNotDischarge) {
  for (const char* status : {"Charging", "Full", "Not charging", "Unknown", ""}) {
    Battery("BAT0", {{"power_now", "7500000"}, {"status", status}});
    EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnavailable, AllOf(HasSubstr("only while it discharges"), HasSubstr("; remedy: unplug"))));
    EXPECT_THAT(found_["BAT0"], HasSubstr("only while it discharges"));
  }
  Battery("BAT0", {{"power_now", "7500000"}, {"status", "Discharging"}});
  Supply("AC", {{"type", "Mains"}, {"online", "1"}});  // too weak a charger
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("on mains")));
  Supply("AC", {{"type", "Mains"}, {"online", "0"}});
  EXPECT_FALSE(ReadAfter(*Started()).missing());
}

TEST_F(BatteryTest, MissesTheWindowInWhichItWasCharged) {
  Battery("BAT0", {{"power_now", "5000000"}});
  auto meter = Started();
  Battery("BAT0", {{"power_now", "5000000"}, {"status", "Charging"}});
  clock_.Advance(absl::Seconds(1));
  meter->Sample();
  Battery("BAT0", {{"power_now", "5000000"}, {"status", "Discharging"}});
  EXPECT_TRUE(ReadAfter(*meter).missing());
  EXPECT_EQ(ReadAfter(*meter).energy, Joules(5));
}

TEST_F(BatteryTest, AddsTwoAndLetsOneOfThemRest) {
  Battery("BAT0", {{"power_now", "5000000"}});
  Battery("BAT1", {{"power_now", "3000000"}});
  auto meter = Started();
  EXPECT_EQ(ReadAfter(*meter).energy, Joules(8));
  Battery("BAT1", {{"power_now", "3000000"}, {"status", "Not charging"}});
  meter->Read();
  const EnergyReading reading = ReadAfter(*meter);
  EXPECT_EQ(reading.energy, Joules(5));
  EXPECT_EQ(reading.domain, "BAT0+BAT1");
  options_.source = "BAT0";
  EXPECT_EQ(ReadAfter(*Started()).domain, "BAT0");
  EXPECT_EQ(found_["BAT1"], "not named in energy.source");
}

TEST_F(BatteryTest, IgnoresTheBatteryOfAMouseAndAnEmptyBay) {
  Battery("hidpp_battery_0", {{"power_now", "100"}, {"scope", "Device"}});
  Battery("BAT1", {{"power_now", "100"}, {"present", "0"}});
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("no battery")));
  EXPECT_THAT(found_["hidpp_battery_0"], HasSubstr("mouse"));
  EXPECT_EQ(found_["BAT1"], "not present");
}

TEST_F(BatteryTest, MissesAGaugeThatShowsNoPower) {
  Battery("BAT0", {{"power_now", "5000000"}});
  auto meter = Started();
  Battery("BAT0", {{"power_now", "0"}});
  EXPECT_TRUE(ReadAfter(*meter).missing());
}

// 10 mWh a step: 36 J.
TEST_F(BatteryTest, StatesTheFallOfALevelToAStepAtEachEnd) {
  Battery("BAT0", {{"energy_now", "41230000"}, {"energy_full", "50000000"}});
  auto meter = Started();
  EnergyReading reading = ReadAfter(*meter, absl::Seconds(5));
  EXPECT_EQ(reading.energy, Energy());  // less than it can show, and not nothing
  EXPECT_EQ(reading.low, Energy());
  EXPECT_EQ(reading.high, Joules(36));
  Battery("BAT0", {{"energy_now", "41200000"}});
  reading = ReadAfter(*meter, absl::Seconds(20));
  EXPECT_EQ(reading.energy, Joules(108));
  EXPECT_EQ(reading.low, Energy());  // it fell by three steps at once, so it may be that late
  EXPECT_EQ(reading.high, Joules(216));
  for (int level = 41190000; level > 41100000; level -= 10000) {
    Battery("BAT0", {{"energy_now", absl::StrCat(level)}});
    clock_.Advance(absl::Seconds(5));
    meter->Sample();
  }
  reading = meter->Read();
  EXPECT_EQ(reading.energy, Joules(9 * 36));
  EXPECT_EQ(reading.low, Joules(9 * 36 - 108));
  EXPECT_EQ(reading.high, Joules(9 * 36 + 108));
  EXPECT_THAT(meter->Describe(), HasSubstr("fall of the level of BAT0"));
}

TEST_F(BatteryTest, MultipliesChargeByTheVoltageItFellAt) {
  Battery("BAT0", {{"charge_now", "3000000"}, {"voltage_now", "4000000"}});
  auto meter = Started();
  Battery("BAT0", {{"charge_now", "2990000"}, {"voltage_now", "3900000"}});
  EXPECT_EQ(ReadAfter(*meter, absl::Seconds(20)).energy, Joules(0.010 * 3600 * 3.95));
}

TEST_F(BatteryTest, MissesALevelThatRisesOrFallsTooFast) {
  Battery("BAT0", {{"energy_now", "40000000"}});
  auto meter = Started();
  Battery("BAT0", {{"energy_now", "40100000"}});
  EXPECT_TRUE(ReadAfter(*meter).missing());
  Battery("BAT0", {{"energy_now", "10000000"}});
  EXPECT_TRUE(ReadAfter(*meter).missing());
  Battery("BAT0", {{"energy_now", "9900000"}, {"status", "Charging"}});
  EXPECT_TRUE(ReadAfter(*meter).missing());
  Battery("BAT0", {{"energy_now", "9900000"}, {"status", "Discharging"}});
  EXPECT_TRUE(ReadAfter(*meter).missing());  // nothing is known of its start
  Battery("BAT0", {{"energy_now", "9800000"}});
  EXPECT_EQ(ReadAfter(*meter, absl::Minutes(1)).energy, Joules(360));
}

TEST_F(BatteryTest, RefusesGaugesThatShowNeitherPowerNorEnergy) {
  Battery("BAT0", {{"capacity", "55"}, {"charge_now", "3000000"}});  // a charge at no voltage
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("no battery")));
  EXPECT_EQ(found_["BAT0"], "its gauge shows neither power nor energy");
  Battery("BAT0", {{"power_now", "3000000"}});
  Battery("BAT1", {{"energy_now", "3000000"}});
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("two kinds")));
}

}  // namespace
}  // namespace fedwatt

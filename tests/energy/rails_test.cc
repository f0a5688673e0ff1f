// Power sensors on supply rails, in the layouts of two generations of boards.
#include "absl/strings/str_cat.h"
#include "tests/energy/meter_fixture.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::MeterFixture;
using ::fedwatt::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class RailsTest : public MeterFixture {
 protected:
  RailsTest() : MeterFixture("rails") {}
  // A channel of an INA3221.
  void Channel(const std::string& chip, int index, const std::string& label, int64_t millivolts, int64_t milliamps) {
    const std::string folder = "sys/class/hwmon/" + chip;
    root_.Write(folder + "/name", "ina3221\n");
    if (!label.empty()) root_.Write(absl::StrCat(folder, "/in", index, "_label"), label + "\n");
    root_.Write(absl::StrCat(folder, "/in", index, "_input"), absl::StrCat(millivolts, "\n"));
    root_.Write(absl::StrCat(folder, "/curr", index, "_input"), absl::StrCat(milliamps, "\n"));
  }
};

TEST_F(RailsTest, MultipliesVoltageAndCurrentOfOneIndex) {
  Channel("hwmon1", 1, "VDD_IN", 5000, 2000);
  root_.Write("sys/class/hwmon/hwmon1/shunt1_resistor", "5000\n");  // micro-ohms
  Channel("hwmon1", 2, "VDD_CPU_GPU_CV", 4000, 1000);
  for (int i = 4; i <= 7; ++i) root_.Write(absl::StrCat("sys/class/hwmon/hwmon1/in", i, "_input"), "7000\n");  // shunts and sums
  auto meter = Started();
  const EnergyReading reading = ReadAfter(*meter);
  EXPECT_EQ(reading.energy, Joules(10));
  // 1 % of 10 W, 40 uV / 5 mOhm / 2 at 5 V, 8 mV / 2 at 2 A.
  EXPECT_EQ(reading.low, Joules(10 - 0.1 - 0.02 - 0.008));
  EXPECT_EQ(reading.high, Joules(10 + 0.1 + 0.02 + 0.008));
  EXPECT_EQ(reading.tier, EnergyTier::kDevice);
  EXPECT_EQ(reading.domain, "VDD_IN");
  EXPECT_EQ(found_["VDD_CPU_GPU_CV"], "lies behind VDD_IN");
  EXPECT_EQ(found_.size(), 2u);
}

TEST_F(RailsTest, IntegratesBetweenSamplesAndStatesHowFarPowerSwung) {
  Channel("hwmon1", 1, "VDD_IN", 5000, 1000);
  auto meter = Started();
  EXPECT_GE(meter->SamplePeriod(), absl::Milliseconds(100));
  EXPECT_LE(meter->SamplePeriod(), absl::Seconds(2));
  Channel("hwmon1", 1, "VDD_IN", 5000, 3000);
  clock_.Advance(absl::Seconds(2));
  meter->Sample();
  const EnergyReading reading = ReadAfter(*meter, absl::Seconds(1));
  EXPECT_EQ(reading.energy, Joules(20 + 15));  // 5 to 15 W over 2 s, 15 W for 1 s
  EXPECT_LT(*reading.low, Joules(10 + 15));
  EXPECT_GT(*reading.low, Joules(9.7 + 14.5));
  EXPECT_GT(*reading.high, Joules(30 + 15));
  EXPECT_LT(*reading.high, Joules(31 + 15.5));
}

TEST_F(RailsTest, AddsRailsThatAreKnownToBeDisjoint) {
  Channel("hwmon3", 1, "VDD_GPU_SOC", 1000, 4000);
  Channel("hwmon3", 2, "VDD_CPU_CV", 1000, 2000);
  Channel("hwmon3", 3, "VIN_SYS_5V0", 5000, 1000);
  Channel("hwmon4", 1, "NC", 0, 0);
  Channel("hwmon4", 2, "VDDQ_VDD2_1V8AO", 5000, 200);
  auto meter = Started();
  EXPECT_EQ(meter->tier(), EnergyTier::kComponent);
  EXPECT_EQ(ReadAfter(*meter).energy, Joules(11));
  EXPECT_THAT(found_["VDDQ_VDD2_1V8AO"], HasSubstr("lies behind one of"));
  EXPECT_THAT(found_["NC"], HasSubstr("not connected"));
}

TEST_F(RailsTest, NeverAddsRailsOfWhichOneMayFeedTheOther) {
  Channel("hwmon1", 1, "RAIL_A", 5000, 1000);
  Channel("hwmon1", 2, "RAIL_B", 3000, 1000);
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("; remedy: name those to add in energy.source, of RAIL_A, RAIL_B")));
  options_.source = "RAIL_B, RAIL_A";
  EXPECT_EQ(ReadAfter(*Started()).energy, Joules(8));
  options_.source = "RAIL_B";
  EXPECT_EQ(ReadAfter(*Started()).energy, Joules(3));
  EXPECT_EQ(found_["RAIL_A"], "not named in energy.source");
  options_.source = "RAIL_C";
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kNotFound, AllOf(HasSubstr("'RAIL_C'"), HasSubstr("known: RAIL_A, RAIL_B"))));
}

TEST_F(RailsTest, TakesASingleRail) {
  root_.Write("sys/class/hwmon/hwmon0/name", "ina226\n");
  root_.Write("sys/class/hwmon/hwmon0/power1_input", "2500000\n");  // microwatts
  root_.Write("sys/class/hwmon/hwmon0/in1_input", "5000\n");
  root_.Write("sys/class/hwmon/hwmon0/curr1_input", "9999\n");
  auto meter = Started();
  const EnergyReading reading = ReadAfter(*meter, absl::Seconds(4));
  EXPECT_EQ(reading.energy, Joules(10));
  EXPECT_EQ(reading.domain, "ina226");
  EXPECT_EQ(reading.tier, EnergyTier::kComponent);
}

TEST_F(RailsTest, LeavesOutDisabledChannels) {
  Channel("hwmon1", 1, "VDD_IN", 5000, 2000);
  root_.Write("sys/class/hwmon/hwmon1/in1_enable", "0\n");
  Channel("hwmon1", 2, "VDD_SOC", 1000, 2000);
  EXPECT_EQ(ReadAfter(*Started()).domain, "VDD_SOC");
  EXPECT_THAT(found_["VDD_IN"], HasSubstr("switched off"));
}

TEST_F(RailsTest, ReadsTheOldLayoutOfJetsons) {
  const std::string device = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0";
  root_.Write(device + "/rail_name_0", "POM_5V_IN\n");
  root_.Write(device + "/in_power0_input", "2400\n");  // milliwatts
  root_.Write(device + "/rail_name_1", "POM_5V_GPU\n");
  root_.Write(device + "/in_power1_input", "400\n");
  root_.Write("sys/bus/i2c/drivers/ina3221x/bind", "");
  auto meter = Started();
  EXPECT_EQ(ReadAfter(*meter, absl::Seconds(2)).energy, Joules(4.8));
  EXPECT_EQ(found_["POM_5V_GPU"], "lies behind POM_5V_IN");
}

TEST_F(RailsTest, FindsItsChipsAfterTheyWereNumberedAnew) {
  for (const char* hwmon : {"hwmon1", "hwmon7"}) {
    root_.Remove("sys/class/hwmon");
    Channel(hwmon, 1, "VDD_IN", 5000, 1000);
    EXPECT_EQ(ReadAfter(*Started()).domain, "VDD_IN") << hwmon;
  }
}

TEST_F(RailsTest, TakesTheServersOwnMeterForAll) {
  root_.Write("sys/class/hwmon/hwmon2/name", "power_meter\n");
  root_.Write("sys/class/hwmon/hwmon2/power1_average", "180000000\n");
  Channel("hwmon3", 1, "RAIL_A", 5000, 1000);
  auto meter = Started();
  EXPECT_EQ(meter->tier(), EnergyTier::kDevice);
  EXPECT_EQ(ReadAfter(*meter).energy, Joules(180));
  EXPECT_EQ(found_["RAIL_A"], "lies behind power_meter");
}

TEST_F(RailsTest, LeavesOtherMonitorsAlone) {
  for (const char* name : {"nvme", "coretemp", "BAT0", "amdgpu"}) {
    const std::string folder = absl::StrCat("sys/class/hwmon/", name);
    root_.Write(folder + "/name", absl::StrCat(name, "\n"));
    root_.Write(folder + "/in1_input", "12000\n");
    root_.Write(folder + "/curr1_input", "1000\n");
    root_.Write(folder + "/power1_input", "9000000\n");
  }
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("no power sensor")));
}

TEST_F(RailsTest, TakesALittleBelowNothingForNothing) {
  Channel("hwmon1", 1, "VDD_IN", 5000, -8);
  auto meter = Started();
  const EnergyReading reading = ReadAfter(*meter);
  EXPECT_EQ(reading.energy, Energy());
  EXPECT_EQ(reading.low, Energy());
  EXPECT_GT(*reading.high, Joules(0.04));
}

TEST_F(RailsTest, SpansAFailedSampleAndMissesAFailedEdge) {
  Channel("hwmon1", 1, "VDD_IN", 5000, 1000);
  auto meter = Started();
  const std::string current = "sys/class/hwmon/hwmon1/curr1_input";
  root_.Write(current, "garbage");
  clock_.Advance(absl::Seconds(1));
  meter->Sample();
  root_.Write(current, "1000\n");
  EXPECT_EQ(ReadAfter(*meter).energy, Joules(10));
  for (const char* text : {"", "1e3", "99999999999999999999", "-", "9223372036854775807"}) {
    root_.Write(current, text);
    EXPECT_TRUE(ReadAfter(*meter).missing()) << text;
  }
  root_.Write(current, "1000\n");
  EXPECT_TRUE(ReadAfter(*meter).missing());  // nothing is known of its start
  EXPECT_EQ(ReadAfter(*meter).energy, Joules(5));
}

TEST_F(RailsTest, MissesWindowsNobodySampledOrInWhichTheMachineSlept) {
  Channel("hwmon1", 1, "VDD_IN", 5000, 1000);
  auto meter = Started();
  EXPECT_TRUE(ReadAfter(*meter, absl::Seconds(11)).missing());
  EXPECT_EQ(ReadAfter(*meter).energy, Joules(5));
  suspended_ = absl::Minutes(1);
  EXPECT_TRUE(ReadAfter(*meter).missing());
}

TEST_F(RailsTest, RefusesASensorThatCannotBeRead) {
  Channel("hwmon1", 1, "VDD_IN", 5000, 1000);
  root_.Write("sys/class/hwmon/hwmon1/in1_input", "much\n");
  const auto meter = Create();
  EXPECT_THAT(meter, Not(IsOk()));
  EXPECT_THAT(std::string(meter.status().message()), AllOf(HasSubstr("VDD_IN"), HasSubstr("in1_input")));
}

}  // namespace
}  // namespace fedwatt

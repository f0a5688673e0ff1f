#include "fedwatt/client/conditions.h"

#include <filesystem>
#include <fstream>

#include "gtest/gtest.h"

namespace fedwatt {
namespace {

class ConditionsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string base = ::testing::TempDir() + "fedwatt-conditions-XXXXXX";
    ASSERT_NE(::mkdtemp(base.data()), nullptr);
    root_ = base;
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void Put(const std::string& path, const std::string& text) {
    std::filesystem::path file = root_ / "sys/class" / path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text << "\n";
  }
  DeviceState Read() { return ReadDeviceState(root_.string()); }
  std::filesystem::path root_;
};

TEST_F(ConditionsTest, NothingThereIsUnknown) {
  DeviceState state = Read();
  EXPECT_FALSE(state.battery_fraction.has_value());
  EXPECT_FALSE(state.charging.has_value());
  EXPECT_FALSE(state.temperature_celsius.has_value());
  EXPECT_EQ(BrokenRule({0.9, true, 1, false}, state), std::nullopt);
}

TEST_F(ConditionsTest, ReadsSuppliesAndZones) {
  Put("power_supply/BAT0/type", "Battery");
  Put("power_supply/BAT0/capacity", "42");
  Put("power_supply/BAT0/status", "Discharging");
  Put("power_supply/BAT1/type", "Battery");
  Put("power_supply/BAT1/capacity", "17");
  Put("power_supply/BAT1/status", "Discharging");
  Put("power_supply/mouse/type", "Battery");
  Put("power_supply/mouse/scope", "Device");
  Put("power_supply/mouse/capacity", "3");
  Put("power_supply/AC/type", "Mains");
  Put("power_supply/AC/online", "0");
  Put("thermal/thermal_zone0/temp", "45500");
  Put("thermal/thermal_zone1/temp", "61250");
  Put("thermal/thermal_zone2/temp", "-274000");
  Put("thermal/cooling_device0/temp", "99000");
  DeviceState state = Read();
  EXPECT_DOUBLE_EQ(state.battery_fraction.value(), 0.17);
  EXPECT_FALSE(state.charging.value());
  EXPECT_DOUBLE_EQ(state.temperature_celsius.value(), 61.25);
  EXPECT_FALSE(state.metered_link.has_value());
  Put("power_supply/AC/online", "1");
  EXPECT_TRUE(Read().charging.value());
}

TEST_F(ConditionsTest, NonsenseIsUnknown) {
  Put("power_supply/BAT0/type", "Battery");
  Put("power_supply/BAT0/capacity", "101");
  Put("thermal/thermal_zone0/temp", "warm");
  EXPECT_FALSE(Read().battery_fraction.has_value());
  EXPECT_FALSE(Read().temperature_celsius.has_value());
}

TEST(BrokenRuleTest, EachRuleAtBothSides) {
  ConditionRules rules{0.3, false, 70, false};
  DeviceState state{0.3, false, 70.0, false};
  EXPECT_EQ(BrokenRule(rules, state), std::nullopt);
  state.battery_fraction = 0.29;
  EXPECT_EQ(BrokenRule(rules, state), "battery 0.29 below 0.30");
  state.charging = true;
  EXPECT_EQ(BrokenRule(rules, state), std::nullopt);
  state.temperature_celsius = 70.1;
  EXPECT_EQ(BrokenRule(rules, state), "temperature 70.1 C above 70.0 C");
  state.temperature_celsius = 20;
  state.metered_link = true;
  EXPECT_EQ(BrokenRule(rules, state), "network is metered");
  rules.allow_metered_link = true;
  rules.require_charger = true;
  EXPECT_EQ(BrokenRule(rules, state), std::nullopt);
  state.charging = false;
  EXPECT_EQ(BrokenRule(rules, state), "not on a charger");
}

}  // namespace
}  // namespace fedwatt

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

TEST_F(ConditionsTest, AMobileModemAsTheWayOutIsMetered) {
  const std::string header = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
  const auto route = [](const std::string& interface, int metric, const std::string& destination = "00000000") {
    return interface + "\t" + destination + "\t0101A8C0\t0003\t0\t0\t" + std::to_string(metric) + "\t" + (destination == "00000000" ? "00000000" : "00FFFFFF") + "\t0\t0\t0\n";
  };
  Put("net/wlan0/type", "1");
  Put("net/wlan0/uevent", "DEVTYPE=wlan\nINTERFACE=wlan0");
  Put("net/usb0/type", "1");
  Put("net/usb0/uevent", "DEVTYPE=wwan\nINTERFACE=usb0");
  Put("net/ppp0/type", "512");
  Put("net/rmnet0/type", "519");
  EXPECT_FALSE(Read().metered_link.has_value());  // no route
  Put("../../proc/net/route", header + route("wlan0", 600) + route("usb0", 700) + route("ppp0", 0, "0000A8C0"));
  EXPECT_FALSE(Read().metered_link.has_value());
  Put("../../proc/net/route", header + route("wlan0", 800) + route("usb0", 700));
  EXPECT_TRUE(Read().metered_link.value());
  EXPECT_EQ(BrokenRule({.allow_metered_link = false}, Read()), "network is metered (client.allow_metered)");
  EXPECT_EQ(BrokenRule({.allow_metered_link = true}, Read()), std::nullopt);
  for (const char* modem : {"ppp0", "rmnet0"}) {
    Put("../../proc/net/route", header + route(modem, 0));
    EXPECT_TRUE(Read().metered_link.value()) << modem;
  }
  // By IPv6 alone; a route to one network and one to nowhere are no default.
  const std::string zeros(32, '0');
  Put("../../proc/net/route", header);
  const std::string six = zeros + " 00 " + zeros + " 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     ";
  Put("../../proc/net/ipv6_route", zeros + " 00 " + zeros + " 00 " + zeros + " ffffffff 00000001 00000000 00200200       lo\n" + six + "wlan0\n");
  EXPECT_FALSE(Read().metered_link.has_value());
  Put("../../proc/net/ipv6_route", six + "rmnet0\n");
  EXPECT_TRUE(Read().metered_link.value());
  for (const char* nonsense : {"", "usb0", "usb0\t00000000", "\t\t\t\t\t\t\t\t\n", "usb0\t00000000\tx\tx\tx\tx\tmetric\t00000000\n"}) {
    Put("../../proc/net/route", nonsense);
    Put("../../proc/net/ipv6_route", nonsense);
    EXPECT_FALSE(Read().metered_link.has_value()) << nonsense;
  }
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
  EXPECT_EQ(BrokenRule(rules, state), "network is metered (client.allow_metered)");
  rules.allow_metered_link = true;
  rules.require_charger = true;
  EXPECT_EQ(BrokenRule(rules, state), std::nullopt);
  state.charging = false;
  EXPECT_EQ(BrokenRule(rules, state), "not on a charger");
}

}  // namespace
}  // namespace fedwatt

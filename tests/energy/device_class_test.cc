#include "fedwatt/energy/device_class.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(DeviceClassTest, KnowsTheDocumentedNames) {
  EXPECT_THAT(DeviceClassNames(), ElementsAre("server_core", "laptop", "jetson_nano", "raspberry_pi_4", "phone"));
}

TEST(DeviceClassTest, EveryFigureIsInItsRange) {
  for (const std::string& name : DeviceClassNames()) {
    SCOPED_TRACE(name);
    ASSERT_OK_AND_ASSIGN(DeviceClass device, FindDeviceClass(name));
    EXPECT_EQ(device.name, name);
    EXPECT_GE(device.macs_per_second, 1e8);
    EXPECT_LE(device.macs_per_second, 6e10);  // no single core of any of them does more
    EXPECT_GT(device.active_power.watts(), 0);
    EXPECT_LT(device.active_power.watts(), 100);
    EXPECT_GT(device.idle_power.watts(), 0);
    EXPECT_LT(device.idle_power.watts(), 100);
    EXPECT_GT(device.uplink_bytes_per_second, 1e5);
    EXPECT_GE(device.downlink_bytes_per_second, device.uplink_bytes_per_second);
    EXPECT_GE(device.memory_bytes, 1'000'000'000);
    EXPECT_LE(device.memory_bytes, 64'000'000'000);
    EXPECT_GE(device.dropout_fraction, 0);
    EXPECT_LT(device.dropout_fraction, 1);
    // Between the multiplier of 45 nm silicon with nothing around it (4.6 pJ) and a hundred times a modern core.
    const double picojoules_per_mac = device.active_power.watts() / device.macs_per_second * 1e12;
    EXPECT_GT(picojoules_per_mac, 4.6);
    EXPECT_LT(picojoules_per_mac, 20000);
  }
}

TEST(DeviceClassTest, BoardsAreSlowerThanServers) {
  ASSERT_OK_AND_ASSIGN(DeviceClass server, FindDeviceClass("server_core"));
  for (const char* name : {"jetson_nano", "raspberry_pi_4", "phone"}) {
    ASSERT_OK_AND_ASSIGN(DeviceClass device, FindDeviceClass(name));
    EXPECT_LT(device.macs_per_second, server.macs_per_second);
    EXPECT_GT(device.dropout_fraction, server.dropout_fraction);
  }
}

TEST(DeviceClassTest, TakesItsFiguresFromTheFile) {
  ASSERT_OK_AND_ASSIGN(const DeviceClass pi, FindDeviceClass("raspberry_pi_4"));
  EXPECT_EQ(pi.macs_per_second, 1.8e9);
  EXPECT_EQ(pi.active_power, Watts(1.13));
  EXPECT_EQ(pi.idle_power, Watts(2.29));
  EXPECT_EQ(pi.uplink_bytes_per_second, 2.5e6);
  EXPECT_EQ(pi.downlink_bytes_per_second, 12.5e6);
  EXPECT_EQ(pi.memory_bytes, 4'000'000'000);
  EXPECT_EQ(pi.dropout_fraction, 0.02);
  EXPECT_FALSE(pi.has_bfloat16);
  ASSERT_OK_AND_ASSIGN(const DeviceClass server, FindDeviceClass("server_core"));
  EXPECT_TRUE(server.has_bfloat16);
}

TEST(DeviceClassTest, SaysWhatIsWrongInAFileAndWhere) {
  const std::string device = R"({"name": "a", "macs_per_second": 1e9, "active_watts": 1, "idle_watts": 1, "uplink_mbps": 1, "downlink_mbps": 1, "memory_gb": 1,
    "dropout_fraction": 0.5, "bfloat16": false, "source": "s"})";
  const auto parse = [](const std::string& list) { return ParseDeviceClasses(absl::StrCat(R"({"schema": "fedwatt.devices.v1", "devices": [)", list, "]}")); };
  ASSERT_OK_AND_ASSIGN(const std::vector<DeviceClass> one, parse(device));
  EXPECT_EQ(one.size(), 1u);
  const auto refused = [&](const char* from, const char* to, const char* why) {
    const std::string bad = absl::StrReplaceAll(device, {{from, to}});
    ASSERT_NE(bad, device) << from;
    EXPECT_THAT(parse(bad), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why)));
  };
  refused("1e9", "0", "devices[0]: macs_per_second: expected [1,");
  refused("\"active_watts\": 1", "\"active_watts\": -1", "active_watts");
  refused("0.5", "1", "dropout_fraction");
  refused("false", "0", "bfloat16: expected true or false");
  refused("\"source\": \"s\"", "\"source\": \"\"", "source: expected a text");
  refused("\"uplink_mbps\": 1", "\"uplink_mbps\": null", "uplink_mbps: expected a number");
  EXPECT_THAT(parse(device + "," + device), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("'a' is given twice")));
  EXPECT_THAT(parse(""), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expected a list")));
  EXPECT_THAT(ParseDeviceClasses("{}"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("schema")));
  EXPECT_THAT(ParseDeviceClasses("x"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not a JSON object")));
}

TEST(DeviceClassTest, NamesTheNearestForAnUnknownOne) {
  EXPECT_THAT(FindDeviceClass("raspberry_pi4"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("did you mean 'raspberry_pi_4'?")));
  EXPECT_THAT(FindDeviceClass(""), StatusIs(absl::StatusCode::kNotFound, AllOf(HasSubstr("known: server_core"), HasSubstr("phone"))));
}

}  // namespace
}  // namespace fedwatt

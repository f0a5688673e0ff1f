#include "fedwatt/energy/device_class.h"

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

TEST(DeviceClassTest, NamesTheNearestForAnUnknownOne) {
  EXPECT_THAT(FindDeviceClass("raspberry_pi4"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("did you mean 'raspberry_pi_4'?")));
  EXPECT_THAT(FindDeviceClass(""), StatusIs(absl::StatusCode::kNotFound, AllOf(HasSubstr("known: server_core"), HasSubstr("phone"))));
}

}  // namespace
}  // namespace fedwatt

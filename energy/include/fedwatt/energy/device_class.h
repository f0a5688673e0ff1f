// Kinds of device that a simulated fleet consists of: how fast, how many watts, how often away.
#ifndef FEDWATT_ENERGY_DEVICE_CLASS_H_
#define FEDWATT_ENERGY_DEVICE_CLASS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "fedwatt/energy/quantities.h"

namespace fedwatt {

// Figures are estimates (tier `generic`) with their source in energy/data/devices.json.
struct DeviceClass {
  std::string name;                  // "server_core", "laptop", "jetson_nano", "raspberry_pi_4", "phone"
  double macs_per_second = 0;        // sustained training multiply-adds a second, forward and backward
  Power active_power;                // while training, above idle
  Power idle_power;
  double uplink_bytes_per_second = 0;
  double downlink_bytes_per_second = 0;
  int64_t memory_bytes = 0;          // that one would report
  double dropout_fraction = 0;       // of attempts that never answer, [0, 1)
  bool has_bfloat16 = false;         // instructions for it, of the kind that training uses
};

// `text`: JSON as energy/data/devices.json, each device with its source. Errors: INVALID_ARGUMENT  what is wrong, and where
absl::StatusOr<std::vector<DeviceClass>> ParseDeviceClasses(std::string_view text);

// Those of energy/data/devices.json, as it was when this was built.
std::vector<std::string> DeviceClassNames();
// Errors: NOT_FOUND, with the nearest name
absl::StatusOr<DeviceClass> FindDeviceClass(std::string_view name);

}  // namespace fedwatt

#endif  // FEDWATT_ENERGY_DEVICE_CLASS_H_

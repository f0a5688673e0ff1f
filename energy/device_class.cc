#include "fedwatt/energy/device_class.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "device_data.h"
#include "fedwatt/base/nearest.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/base/text.h"
#include "json_members.h"

namespace fedwatt {
namespace {

constexpr double kBytesPerMegabit = 1e6 / 8;

const std::vector<DeviceClass>& DeviceClasses() {
  static const auto& classes = *[] {
    absl::StatusOr<std::vector<DeviceClass>> parsed = ParseDeviceClasses(internal::kDeviceData);
    FEDWATT_CHECK(parsed.ok());  // DeviceClassTest.KnowsTheDocumentedNames
    return new std::vector<DeviceClass>(*std::move(parsed));
  }();
  return classes;
}

}  // namespace

absl::StatusOr<std::vector<DeviceClass>> ParseDeviceClasses(std::string_view text) {
  using internal::Json;
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::InvalidArgumentError("device classes: not a JSON object");
  if (json.value("schema", Json()) != "fedwatt.devices.v1") return absl::InvalidArgumentError("device classes: schema: expected \"fedwatt.devices.v1\"");
  std::vector<DeviceClass> classes;
  FEDWATT_RETURN_IF_ERROR(internal::ReadList(json, "device classes", "devices", [&](internal::Members& in) {
    DeviceClass& device = classes.emplace_back();
    device.name = in.Text("name");
    device.macs_per_second = in.Number("macs_per_second", 1, 1e15);
    device.active_power = Watts(in.Number("active_watts", 0, 10000));
    device.idle_power = Watts(in.Number("idle_watts", 0, 10000));
    device.uplink_bytes_per_second = in.Number("uplink_mbps", 1e-3, 1e6) * kBytesPerMegabit;
    device.downlink_bytes_per_second = in.Number("downlink_mbps", 1e-3, 1e6) * kBytesPerMegabit;
    device.memory_bytes = std::llround(in.Number("memory_gb", 1e-3, 1e6) * 1e9);
    device.dropout_fraction = in.Number("dropout_fraction", 0, 0.999);
    device.has_bfloat16 = in.Flag("bfloat16");
    in.Text("source");
  }));
  for (size_t i = 0; i < classes.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (classes[i].name == classes[j].name) return absl::InvalidArgumentError(absl::StrCat("device classes: devices[", i, "]: name: '", OneLine(classes[i].name), "' is given twice"));
    }
  }
  return classes;
}

std::vector<std::string> DeviceClassNames() {
  std::vector<std::string> names;
  for (const DeviceClass& device : DeviceClasses()) names.push_back(device.name);
  return names;
}

absl::StatusOr<DeviceClass> FindDeviceClass(std::string_view name) {
  for (const DeviceClass& device : DeviceClasses()) {
    if (device.name == name) return device;
  }
  const std::vector<std::string> names = DeviceClassNames();
  const std::string nearest = NearestName(name, names);
  return absl::NotFoundError(absl::StrCat("unknown device class '", std::string(name), "'",
                                          nearest.empty() ? "" : absl::StrCat("; did you mean '", nearest, "'?"),
                                          " known: ", absl::StrJoin(names, ", ")));
}

}  // namespace fedwatt

#include "fedwatt/energy/device_class.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "fedwatt/base/nearest.h"

namespace fedwatt {
namespace {

constexpr double kMegabit = 1e6 / 8;  // bytes
constexpr int64_t kGigabyte = 1'000'000'000;

// Every figure is an estimate for one training thread. Speeds: peak float32 multiply-adds a second of one core times 0.3, the
// share of peak that LibTorch sustains on small models (measured on Zen 4: 0.11 logistic, 0.33 two-layer perceptron, 0.28
// LeNet, 0.55-0.72 FedAvg CNN). Power is above idle, for one busy core. Links and dropout are orders of magnitude for
// wired, home and mobile access; memory is what such a device is commonly sold with (a server's share of one core); phones drop 6-10 % of attempts in Bonawitz et al. 2019 (arXiv:1902.01046).
const std::vector<DeviceClass>& DeviceClasses() {
  static const auto* classes = new std::vector<DeviceClass>{
      // Zen 4 server core: measured FMA peak 58e9; data-sheet TDP 360 W / 96 cores, idle about a third of that.
      {"server_core", 17e9, Watts(3.75), Watts(1.25), 1000 * kMegabit, 1000 * kMegabit, 4 * kGigabyte, 0.001, /*has_bfloat16=*/true},
      // AVX2 at 3 GHz, 16 a cycle: 48e9; one turbo core of a 28 W processor with its memory; screen off.
      {"laptop", 14e9, Watts(12), Watts(5), 20 * kMegabit, 100 * kMegabit, 16 * kGigabyte, 0.05},
      // Cortex-A57 at 1.43 GHz, 4 a cycle: 5.7e9, the GPU unused; 10 W mode over 4 cores less board and GPU.
      {"jetson_nano", 1.7e9, Watts(1.5), Watts(1.5), 20 * kMegabit, 100 * kMegabit, 4 * kGigabyte, 0.02},
      // Cortex-A72 at 1.5 GHz, 4 a cycle: 6e9; PowerJoular's fit 2.29 W + 4.53 W x utilisation, one of 4 cores busy.
      {"raspberry_pi_4", 1.8e9, Watts(1.13), Watts(2.29), 20 * kMegabit, 100 * kMegabit, 4 * kGigabyte, 0.02},
      // Big Arm core at 2.4 GHz under thermal limits, 8 a cycle: 19e9; 3 W while training; awake with the screen off.
      {"phone", 5.8e9, Watts(3), Watts(0.3), 10 * kMegabit, 40 * kMegabit, 6 * kGigabyte, 0.08},
  };
  return *classes;
}

}  // namespace

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

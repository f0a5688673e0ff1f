// Small text files of the kernel, read below an injected root.
#ifndef FEDWATT_ENERGY_SYSFS_H_
#define FEDWATT_ENERGY_SYSFS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace fedwatt {

// `root` without a slash at its end, and `path`, which begins with one.
std::string Below(std::string_view root, std::string_view path);

// A file that holds one integer. Errors: of ReadFile; UNAVAILABLE  it holds something else
absl::StatusOr<int64_t> ReadIntegerFile(const std::string& path);
// Likewise, and it is not negative.
absl::StatusOr<int64_t> ReadCountFile(const std::string& path);
// One word or line without the white space around it; "" where it cannot be read.
std::string ReadWordFile(const std::string& path);

// Names in a folder, sorted; empty where it cannot be read.
std::vector<std::string> ListFolder(const std::string& path);

// One chip of the kernel's hardware-monitoring class.
struct HwmonChip {
  std::string name;    // the driver's: "ina3221"
  std::string folder;  // where it is now: its number changes from boot to boot
};
// Sorted by the place of the device ("1-0040") where it can be told, so that the order outlives a boot.
std::vector<HwmonChip> FindHwmonChips(std::string_view root);

}  // namespace fedwatt

#endif  // FEDWATT_ENERGY_SYSFS_H_

#include "sysfs.h"

#include <algorithm>
#include <filesystem>
#include <tuple>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt {
namespace {

absl::Status Unexpected(const std::string& path, const char* expected, const std::string& text) {
  return absl::UnavailableError(absl::StrCat(path, ": expected ", expected, ", got '", absl::CHexEscape(text.substr(0, 32)), "'"));
}

}  // namespace

std::string Below(std::string_view root, std::string_view path) {
  while (!root.empty() && root.back() == '/') root.remove_suffix(1);
  return std::string(root) + std::string(path);
}

absl::StatusOr<int64_t> ReadIntegerFile(const std::string& path) {
  FEDWATT_ASSIGN_OR_RETURN(std::string text, ReadFile(path, 4096));
  int64_t value;
  if (!absl::SimpleAtoi(text, &value)) return Unexpected(path, "an integer", text);
  return value;
}

absl::StatusOr<int64_t> ReadCountFile(const std::string& path) {
  FEDWATT_ASSIGN_OR_RETURN(std::string text, ReadFile(path, 4096));
  int64_t value;
  if (!absl::SimpleAtoi(text, &value) || value < 0) return Unexpected(path, "a count", text);
  return value;
}

std::string ReadWordFile(const std::string& path) {
  absl::StatusOr<std::string> text = ReadFile(path, 4096);
  return text.ok() ? std::string(absl::StripAsciiWhitespace(*text)) : "";
}

std::vector<std::string> ListFolder(const std::string& path) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(path, error), end; !error && entry != end; entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<HwmonChip> FindHwmonChips(std::string_view root) {
  const std::string folder = Below(root, "/sys/class/hwmon");
  std::vector<std::tuple<std::string, std::string, std::string>> found;  // place, chip, folder
  for (const std::string& entry : ListFolder(folder)) {
    const std::string path = folder + "/" + entry;
    const std::string name = ReadWordFile(path + "/name");
    if (name.empty()) continue;
    std::error_code error;
    const std::filesystem::path device = std::filesystem::canonical(path + "/device", error);
    found.emplace_back(error ? "" : device.filename().string(), name, path);
  }
  std::sort(found.begin(), found.end());
  std::vector<HwmonChip> chips;
  for (const auto& [place, name, path] : found) chips.push_back({name, path});
  return chips;
}

}  // namespace fedwatt

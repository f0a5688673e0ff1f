#include "fedwatt/client/conditions.h"

#include <algorithm>
#include <filesystem>
#include <limits>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "fedwatt/base/file.h"

namespace fedwatt {
namespace {

std::optional<std::string> ReadLine(const std::filesystem::path& path) {
  absl::StatusOr<std::string> text = ReadFile(path.string(), 4096);
  if (!text.ok()) return std::nullopt;
  absl::StripAsciiWhitespace(&*text);
  return *std::move(text);
}

std::optional<int64_t> ReadNumber(const std::filesystem::path& path) {
  std::optional<std::string> text = ReadLine(path);
  int64_t value = 0;
  if (!text || !absl::SimpleAtoi(*text, &value)) return std::nullopt;
  return value;
}

template <typename Visit>
void ForEachEntry(const std::filesystem::path& folder, Visit visit) {
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) visit(entry->path());
}

// The interface that the system prefers for what has no route of its own; IPv4 first.
std::optional<std::string> DefaultInterface(const std::filesystem::path& root) {
  std::optional<std::string> best;
  int64_t least = std::numeric_limits<int64_t>::max();
  const auto consider = [&](absl::string_view interface, int64_t metric) {
    if (metric >= least || interface == "lo") return;
    least = metric;
    best = std::string(interface);
  };
  constexpr size_t kMostBytes = 1 << 20;
  // Interface, destination, gateway, flags, reference count, use, metric (decimal), mask, ...
  if (absl::StatusOr<std::string> text = ReadFile((root / "proc/net/route").string(), kMostBytes); text.ok()) {
    for (absl::string_view line : absl::StrSplit(*text, '\n')) {
      const std::vector<absl::string_view> words = absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
      int64_t metric = 0;
      if (words.size() >= 8 && words[1] == "00000000" && words[7] == "00000000" && absl::SimpleAtoi(words[6], &metric)) consider(words[0], metric);
    }
  }
  if (best) return best;
  // Destination, its prefix, source, its prefix, next hop, metric (hexadecimal), reference count, use, flags, interface.
  if (absl::StatusOr<std::string> text = ReadFile((root / "proc/net/ipv6_route").string(), kMostBytes); text.ok()) {
    for (absl::string_view line : absl::StrSplit(*text, '\n')) {
      const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
      int64_t metric = 0;
      if (words.size() >= 10 && words[1] == "00" && words[0].find_first_not_of('0') == absl::string_view::npos && absl::SimpleHexAtoi(words[5], &metric)) consider(words[9], metric);
    }
  }
  return best;
}

// Mobile modems say so (DEVTYPE of the driver) or speak a protocol of their own instead of Ethernet: PPP (512), raw IP (519), Phonet (820).
bool IsMobile(const std::filesystem::path& interface) {
  if (std::optional<int64_t> type = ReadNumber(interface / "type"); type == 512 || type == 519 || type == 820) return true;
  const absl::StatusOr<std::string> event = ReadFile((interface / "uevent").string(), 4096);
  return event.ok() && absl::StrContains(*event, "DEVTYPE=wwan");
}

}  // namespace

DeviceState ReadDeviceState(const std::string& root) {
  DeviceState state;
  const std::filesystem::path classes = std::filesystem::path(root) / "sys/class";
  ForEachEntry(classes / "power_supply", [&state](const std::filesystem::path& supply) {
    const std::string type = ReadLine(supply / "type").value_or("");
    if (type == "Battery") {
      // A mouse's battery is not the machine's.
      if (ReadLine(supply / "scope").value_or("System") == "Device") return;
      std::optional<int64_t> percent = ReadNumber(supply / "capacity");
      if (percent && *percent >= 0 && *percent <= 100) {
        state.battery_fraction = std::min(state.battery_fraction.value_or(1), static_cast<double>(*percent) / 100);
      }
      const std::string status = ReadLine(supply / "status").value_or("");
      if (status == "Discharging") state.charging = state.charging.value_or(false);
      if (status == "Charging" || status == "Full") state.charging = true;
    } else if (type == "Mains" || type == "USB") {
      std::optional<int64_t> online = ReadNumber(supply / "online");
      if (online) state.charging = state.charging.value_or(false) || *online > 0;
    }
  });
  ForEachEntry(classes / "thermal", [&state](const std::filesystem::path& zone) {
    if (zone.filename().string().rfind("thermal_zone", 0) != 0) return;
    std::optional<int64_t> millidegrees = ReadNumber(zone / "temp");
    // Broken sensors report absolute zero or a maximum.
    if (!millidegrees || *millidegrees < -50000 || *millidegrees > 200000) return;
    const double celsius = static_cast<double>(*millidegrees) / 1000;
    state.temperature_celsius = std::max(state.temperature_celsius.value_or(celsius), celsius);
  });
  if (const std::optional<std::string> interface = DefaultInterface(root); interface && IsMobile(classes / "net" / *interface)) state.metered_link = true;
  return state;
}

std::optional<std::string> BrokenRule(const ConditionRules& rules, const DeviceState& state) {
  const bool charging = state.charging.value_or(false);
  if (rules.require_charger && state.charging.has_value() && !charging) return "not on a charger";
  if (state.battery_fraction && *state.battery_fraction < rules.min_battery_fraction && !charging) {
    return absl::StrFormat("battery %.2f below %.2f", *state.battery_fraction, rules.min_battery_fraction);
  }
  if (state.temperature_celsius && *state.temperature_celsius > rules.max_temperature_celsius) {
    return absl::StrFormat("temperature %.1f C above %.1f C", *state.temperature_celsius, rules.max_temperature_celsius);
  }
  if (!rules.allow_metered_link && state.metered_link.value_or(false)) return "network is metered (client.allow_metered)";
  return std::nullopt;
}

}  // namespace fedwatt

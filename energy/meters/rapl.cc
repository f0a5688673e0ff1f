// Intel's and AMD's running-average-power-limit counters, read through the kernel's powercap folder.
//
// Only packages are summed. Their subzones (core, uncore, dram) lie inside them or beside them, psys covers the whole board
// under another boundary, and intel-rapl-mmio is a second door to the same counters: adding any of those counts joules twice.
//
// The counter is in microjoules and wraps after 2^32 hardware units. max_energy_range_uj is 2^32 - 1 units, so the
// modulus is one unit more. A failed read, a step backwards that no wrap explains, and a counter that stands still are gaps.
#include <algorithm>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/energy/meter.h"

namespace fedwatt {
namespace {

// No package sold draws more for long; a faster counter is a reset or a lie.
constexpr double kMaxPackageWatts = 1000;
// The counter advances about once a millisecond, so a window may book joules from a little before its start.
constexpr absl::Duration kRefreshSlack = absl::Milliseconds(10);
// A powered package always spends some units in this time; a counter that shows none is frozen or masked.
constexpr absl::Duration kFrozenAfter = absl::Milliseconds(100);

// A non-negative integer file. Errors: of ReadFile; UNAVAILABLE  not such a number
absl::StatusOr<int64_t> ReadCount(const std::string& path) {
  FEDWATT_ASSIGN_OR_RETURN(std::string text, ReadFile(path, 4096));
  int64_t value;
  if (!absl::SimpleAtoi(text, &value) || value < 0) {
    return absl::UnavailableError(
        absl::StrCat(path, ": expected a count of microjoules, got '", absl::CHexEscape(text.substr(0, 32)), "'"));
  }
  return value;
}

struct Package {
  std::string name;     // "package-0", "package-1-die-0"
  std::string counter;  // path of energy_uj
  int64_t modulus_uj = 0;  // 0: unknown, so a wrap cannot be told from a reset
};

// The largest number of microjoules a package can have spent in `window`.
int64_t PlausibleMicrojoules(absl::Duration window) {
  const double bound = kMaxPackageWatts * 1e6 * absl::ToDoubleSeconds(window + kRefreshSlack);
  return bound < 9e18 ? static_cast<int64_t>(bound) : std::numeric_limits<int64_t>::max();
}

struct Spent {
  int64_t least_uj = 0;
  int64_t most_uj = 0;  // more than least when the window is long enough to hold further whole wraps
};

// nullopt: what happened between the two readings cannot be known.
std::optional<Spent> Difference(const Package& package, int64_t before, int64_t after, absl::Duration window) {
  const int64_t plausible = PlausibleMicrojoules(window);
  int64_t delta = after - before;
  if (delta < 0) {
    if (before >= package.modulus_uj) return std::nullopt;  // also when the modulus is unknown
    delta += package.modulus_uj;
  }
  if (delta > plausible || (delta == 0 && window >= kFrozenAfter)) return std::nullopt;
  Spent spent{delta, delta};
  if (package.modulus_uj > 0) spent.most_uj += (plausible - delta) / package.modulus_uj * package.modulus_uj;
  return spent;
}

class RaplMeter : public Meter {
 public:
  RaplMeter(const Clock* clock, std::vector<Package> packages) : clock_(clock), packages_(std::move(packages)) {}

  std::string_view name() const override { return "rapl"; }
  EnergyTier tier() const override { return EnergyTier::kComponent; }
  std::string Describe() const override {
    int64_t modulus_uj = std::numeric_limits<int64_t>::max();
    for (const Package& package : packages_) modulus_uj = std::min(modulus_uj, package.modulus_uj);
    return absl::StrCat("rapl: powercap counters of ", Domain(), "; CPU packages of the whole machine, all processes and idle power",
                        " included, without DRAM, disks, network, mains adapter; ",
                        modulus_uj > 0 ? absl::StrFormat("read at least every %.0f s, the shortest wrap at %.0f W a package",
                                                         static_cast<double>(modulus_uj) / 1e6 / kMaxPackageWatts, kMaxPackageWatts)
                                       : std::string("wrap limit unknown: a window with a wrap is missing"));
  }

  absl::Status Start() override {
    last_.reset();
    last_wall_ = clock_->Monotonic();
    FEDWATT_ASSIGN_OR_RETURN(last_, Sample());
    last_wall_ = last_->wall;
    return absl::OkStatus();
  }

  EnergyReading Read() override {
    EnergyReading reading;
    absl::StatusOr<Point> now = Sample();
    const std::optional<Point> last = std::exchange(last_, now.ok() ? std::make_optional(*now) : std::nullopt);
    const absl::Duration wall = now.ok() ? now->wall : clock_->Monotonic();
    if (last_wall_.has_value()) reading.window = wall - *last_wall_;
    last_wall_ = wall;
    if (!now.ok() || !last.has_value()) return reading;

    Spent total;
    for (size_t i = 0; i < packages_.size(); ++i) {
      const std::optional<Spent> spent = Difference(packages_[i], last->counters[i], now->counters[i], reading.window);
      if (!spent.has_value()) return reading;
      total.least_uj += spent->least_uj;
      total.most_uj += spent->most_uj;
    }
    reading.energy = reading.low = Microjoules(total.least_uj);
    reading.high = Microjoules(total.most_uj);
    reading.tier = tier();
    reading.source = "rapl";
    reading.domain = Domain();
    return reading;
  }

 private:
  struct Point {
    absl::Duration wall;
    std::vector<int64_t> counters;  // one a package
  };

  absl::StatusOr<Point> Sample() const {
    Point point{clock_->Monotonic(), {}};
    for (const Package& package : packages_) {
      FEDWATT_ASSIGN_OR_RETURN(point.counters.emplace_back(), ReadCount(package.counter));
    }
    return point;
  }

  std::string Domain() const {
    return absl::StrJoin(packages_, "+", [](std::string* out, const Package& package) { *out += package.name; });
  }

  const Clock* const clock_;
  const std::vector<Package> packages_;
  std::optional<Point> last_;
  std::optional<absl::Duration> last_wall_;  // kept across failed reads, so that windows still tile
};

// Folder of each package zone of one control type, by zone name; the lower index wins where two claim one name.
std::map<std::string, std::string> PackageFolders(const std::string& powercap, const std::string& control) {
  std::map<int, std::string> zones;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(powercap, error), end; !error && entry != end; entry.increment(error)) {
    const std::string file = entry->path().filename().string();
    int index;
    // "intel-rapl:0:0" is a subzone: its remainder is no number.
    if (absl::StartsWith(file, control) && absl::SimpleAtoi(file.substr(control.size()), &index)) zones[index] = entry->path().string();
  }
  std::map<std::string, std::string> packages;
  for (const auto& [index, folder] : zones) {
    absl::StatusOr<std::string> name = ReadFile(folder + "/name", 4096);
    if (!name.ok()) continue;
    absl::StripAsciiWhitespace(&*name);
    if (absl::StartsWith(*name, "package-")) packages.emplace(*name, folder);
  }
  return packages;
}

absl::StatusOr<std::unique_ptr<Meter>> Create(const MeterOptions& options) {
  if (options.thread_scope) {
    return absl::UnimplementedError("rapl counts whole CPU packages; it cannot tell one thread's joules from another's");
  }
  const std::string powercap = absl::StrCat(absl::StripSuffix(options.root, "/"), "/sys/class/powercap");
  std::map<std::string, std::string> folders = PackageFolders(powercap, "intel-rapl:");
  if (folders.empty()) folders = PackageFolders(powercap, "intel-rapl-mmio:");
  if (folders.empty()) {
    return absl::UnimplementedError(absl::StrCat("no RAPL package under ", powercap,
                                                 " (virtual machine, container, other CPU, or module intel_rapl_msr not loaded)"));
  }
  std::vector<Package> packages;
  for (const auto& [name, folder] : folders) {
    Package package{name, folder + "/energy_uj"};
    if (absl::Status status = ReadCount(package.counter).status(); absl::IsPermissionDenied(status)) {
      return absl::PermissionDeniedError(absl::StrCat(
          package.counter, " is readable by root only (CVE-2020-8694); allow it with: sudo chmod a+r ", powercap, "/*/energy_uj"));
    } else if (!status.ok()) {
      return absl::UnavailableError(absl::StrCat(name, ": ", status.message()));
    }
    absl::StatusOr<int64_t> range = ReadCount(folder + "/max_energy_range_uj");
    if (range.ok() && *range > 0 && *range < std::numeric_limits<int64_t>::max() / 2) {
      const int64_t unit_uj = (*range + (int64_t{1} << 31)) / ((int64_t{1} << 32) - 1);
      package.modulus_uj = *range + unit_uj;
    }
    packages.push_back(std::move(package));
  }
  return std::make_unique<RaplMeter>(options.clock, std::move(packages));
}

}  // namespace

namespace internal {

void InstallMeter_rapl(MeterRegistry& registry) {
  FEDWATT_CHECK(registry.Register("rapl", MeterEntry{Create, /*preference=*/100}).ok());
}

}  // namespace internal
}  // namespace fedwatt

// The counters of rapl, read through the kernel's performance events: for machines on which the powercap folder is closed and perf_event_open is not.
//
// /sys/bus/event_source/devices/power says the PMU's type, on which CPUs to open an event so that each package or die is counted once (cpumask), and for each
// event its configuration, its unit and how many of it one count is worth. The kernel widens the registers to 64 bits, so the counters do not wrap; they
// begin with 0 when they are opened, so no two of them are told to be mirrors.
#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "counter_meter.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/energy/meter.h"
#include "sysfs.h"

namespace fedwatt {

absl::StatusOr<int> OpenPerfEvent(uint32_t type, uint64_t config, int cpu) {
  struct perf_event_attr attributes = {};
  attributes.size = sizeof attributes;
  attributes.type = type;
  attributes.config = config;
  const long descriptor = ::syscall(SYS_perf_event_open, &attributes, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
  if (descriptor < 0) return ErrnoStatus(errno, "perf_event_open");
  return static_cast<int>(descriptor);
}

namespace {

constexpr int kMostCpus = 1 << 16;

// "0-3,8": CPUs as the kernel lists them. nullopt unless it is one, and not longer than any machine's.
std::optional<std::set<int>> ParseCpuList(const std::string& text) {
  std::set<int> cpus;
  for (absl::string_view part : absl::StrSplit(text, ',', absl::SkipEmpty())) {
    const std::vector<absl::string_view> ends = absl::StrSplit(part, absl::MaxSplits('-', 1));
    int first, last;
    if (!absl::SimpleAtoi(ends.front(), &first) || !absl::SimpleAtoi(ends.back(), &last)) return std::nullopt;
    if (first < 0 || last < first || last >= kMostCpus) return std::nullopt;
    for (int cpu = first; cpu <= last; ++cpu) cpus.insert(cpu);
  }
  if (cpus.empty()) return std::nullopt;
  return cpus;
}

// "event=0x02" or "event=0x02,umask=0x01", laid out as format/event and format/umask say ("config:0-7").
std::optional<uint64_t> ParseEvent(const std::string& pmu, const std::string& text) {
  uint64_t config = 0;
  for (absl::string_view term : absl::StrSplit(text, ',')) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(term, absl::MaxSplits('=', 1));
    uint64_t value;
    if (!absl::SimpleHexAtoi(parts.second, &value)) return std::nullopt;
    const std::string format = ReadWordFile(absl::StrCat(pmu, "/format/", parts.first));
    absl::string_view bits = format;
    int low;
    if (!absl::ConsumePrefix(&bits, "config:") || !absl::SimpleAtoi(bits.substr(0, bits.find('-')), &low) || low < 0 || low > 63) return std::nullopt;
    config |= value << low;
  }
  return config;
}

struct Descriptor {
  explicit Descriptor(int value) : value(value) {}
  ~Descriptor() { ::close(value); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  const int value;
};

absl::StatusOr<int64_t> ReadEvent(int descriptor, double microjoules_per_count) {
  uint64_t count;
  (void)::lseek(descriptor, 0, SEEK_SET);  // an event has no position; a test's file does
  const ssize_t size = ::read(descriptor, &count, sizeof count);
  if (size < 0) return ErrnoStatus(errno, "performance event");
  if (size != sizeof count) return absl::UnavailableError(absl::StrCat("performance event: expected 8 bytes, got ", size));
  const double microjoules = static_cast<double>(count) * microjoules_per_count;
  if (!(microjoules < 9e18)) return absl::UnavailableError(absl::StrCat("performance event: ", count, " counts are no energy"));
  return static_cast<int64_t>(microjoules);
}

std::string PackageLabel(std::string_view root, int cpu) {
  const std::string topology = Below(root, absl::StrCat("/sys/devices/system/cpu/cpu", cpu, "/topology/"));
  absl::StatusOr<int64_t> package = ReadCountFile(topology + "physical_package_id"), die = ReadCountFile(topology + "die_id");
  if (!package.ok()) return absl::StrCat("package-of-cpu-", cpu);
  return absl::StrCat("package-", *package, die.ok() && *die > 0 ? absl::StrCat("-die-", *die) : "");
}

absl::StatusOr<std::unique_ptr<Meter>> Create(const MeterOptions& options) {
  if (options.thread_scope) return absl::UnimplementedError("rapl_perf counts whole CPU packages; it cannot tell one thread's joules from another's");
  const std::string pmu = Below(options.root, "/sys/bus/event_source/devices/power");
  absl::StatusOr<int64_t> type = ReadCountFile(pmu + "/type");
  if (!type.ok() || *type > std::numeric_limits<uint32_t>::max()) {
    return absl::UnimplementedError(absl::StrCat("no performance events of power under ", pmu, " (virtual machine, container or other CPU)"));
  }
  const std::optional<std::set<int>> cpus = ParseCpuList(ReadWordFile(pmu + "/cpumask"));
  if (!cpus.has_value()) return absl::UnavailableError(absl::StrCat(pmu, "/cpumask: expected a list of CPUs, got '", ReadWordFile(pmu + "/cpumask"), "'"));

  CounterMeterOptions made;
  made.name = "rapl_perf";
  const auto found = [&options](const std::string& name, const std::string& refusal) {
    if (options.on_domain) options.on_domain({name, refusal});
  };
  const auto has = [&pmu](const char* event) { return !ReadWordFile(absl::StrCat(pmu, "/events/", event)).empty(); };
  const bool packages = has("energy-pkg"), platform = !packages && has("energy-psys");
  struct Event {
    const char* name;
    const char* suffix;  // of the label
    bool wanted;
    const char* refusal;
  };
  const Event events[] = {
      {"energy-pkg", "", packages, ""},
      {"energy-ram", "-dram", packages, "lies inside the platform counter"},
      {"energy-psys", "psys", platform, "covers the packages again, under a boundary and calibration of the board's maker"},
      {"energy-cores", "", false, "lies inside its package"},
      {"energy-gpu", "", false, "lies inside its package"},
  };
  for (const Event& event : events) {
    if (!has(event.name)) continue;
    if (!event.wanted) {
      found(event.name, event.refusal);
      made.left_out.push_back(absl::StrCat(event.name, " (", event.refusal, ")"));
      continue;
    }
    const std::string file = absl::StrCat(pmu, "/events/", event.name);
    const std::optional<uint64_t> config = ParseEvent(pmu, ReadWordFile(file));
    double scale = 0;
    const bool scaled = absl::SimpleAtod(ReadWordFile(file + ".scale"), &scale) && std::isfinite(scale) && scale > 0 && scale < 1e3;
    const std::string unit = ReadWordFile(file + ".unit");
    if (!config.has_value() || !scaled || unit != "Joules") {
      const std::string refusal = absl::StrCat(event.name, ": its configuration, scale or unit (expected Joules, got '", unit, "') cannot be read");
      found(event.name, refusal);
      // A sum without it would not be what it says; DRAM is a boundary of its own.
      if (event.name != std::string("energy-ram")) return absl::UnavailableError(refusal);
      made.left_out.push_back(refusal);
      continue;
    }
    for (int cpu : *cpus) {
      CounterSource source;
      source.label = platform ? event.suffix : PackageLabel(options.root, cpu) + event.suffix;
      absl::StatusOr<int> descriptor = options.open_perf_event(static_cast<uint32_t>(*type), *config, cpu);
      if (!descriptor.ok()) {
        const bool denied = absl::IsPermissionDenied(descriptor.status());
        const std::string refusal = absl::StrCat(
            event.name, " on CPU ", cpu, ": ", descriptor.status().message(),
            denied ? "; remedy: sudo sysctl kernel.perf_event_paranoid=0, or sudo setcap cap_perfmon=ep on the program" : "");
        found(source.label, refusal);
        return denied ? absl::PermissionDeniedError(refusal) : absl::UnavailableError(refusal);
      }
      auto owned = std::make_shared<Descriptor>(*descriptor);
      // One count may be as much as a joule: then no millisecond's wait sees it move.
      if (scale > 1e-3) source.spec.refresh = absl::Seconds(1), source.spec.frozen_after = absl::Minutes(1);
      source.read = [owned, per_count = scale * 1e6] { return ReadEvent(owned->value, per_count); };
      FEDWATT_RETURN_IF_ERROR(source.read().status());
      found(source.label, "");
      made.sources.push_back(std::move(source));
      if (platform) break;  // there is but one
    }
  }
  if (made.sources.empty()) return absl::UnimplementedError(absl::StrCat("no event energy-pkg or energy-psys under ", pmu, "/events"));
  made.tier = platform ? EnergyTier::kDevice : EnergyTier::kComponent;
  made.covers = platform ? "the platform as the board's maker calibrated it, all processes and idle power included"
                         : "of the whole machine, all processes and idle power included, without disks, network, mains adapter";
  return MakeCounterMeter(std::move(made), options);
}

}  // namespace

namespace internal {

void InstallMeter_rapl_perf(MeterRegistry& registry) {
  FEDWATT_CHECK(registry.Register("rapl_perf", MeterEntry{Create, /*preference=*/95}).ok());
}

}  // namespace internal
}  // namespace fedwatt

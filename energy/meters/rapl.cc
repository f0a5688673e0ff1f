// Intel's and AMD's running-average-power-limit counters, read through the kernel's powercap folder.
//
// energy_uj is in microjoules and wraps after 2^32 hardware units. max_energy_range_uj is 2^32 - 1 units, so the modulus is one unit more.
// Packages (or dies) and their DRAM are summed, domain.h says why nothing else is.
#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "counter_meter.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/energy/domain.h"
#include "fedwatt/energy/meter.h"
#include "sysfs.h"

namespace fedwatt {
namespace {

// The preferred door first.
const std::vector<std::string>& Controls() {
  static const auto* controls = new std::vector<std::string>{"intel-rapl", "intel-rapl-mmio"};
  return *controls;
}

// Every zone below `powercap`, in order of control, number and number of the subzone.
std::vector<DomainCandidate> FindZones(const std::string& powercap) {
  std::map<std::vector<int>, std::string> zones;  // {control, zone} or {control, zone, subzone}
  for (const std::string& entry : ListFolder(powercap)) {
    const std::vector<std::string> parts = absl::StrSplit(entry, ':');
    const auto control = std::find(Controls().begin(), Controls().end(), parts[0]);
    if (control == Controls().end() || parts.size() < 2 || parts.size() > 3) continue;
    std::vector<int> key = {static_cast<int>(control - Controls().begin())};
    for (size_t i = 1; i < parts.size(); ++i) {
      if (!absl::SimpleAtoi(parts[i], &key.emplace_back())) key.clear();
      if (key.empty()) break;
    }
    if (!key.empty()) zones[key] = powercap + "/" + entry;
  }
  std::vector<DomainCandidate> found;
  std::map<std::vector<int>, EnergyDomain> parents;
  for (const auto& [key, folder] : zones) {
    const std::string name = ReadWordFile(folder + "/name");
    if (name.empty()) continue;
    const auto parent = key.size() == 3 ? parents.find({key[0], key[1]}) : parents.end();
    DomainCandidate candidate;
    candidate.domain = ParseDomain(name, parent == parents.end() ? nullptr : &parent->second);
    candidate.control = Controls()[static_cast<size_t>(key[0])];
    candidate.folder = folder;
    candidate.readable = ReadCountFile(folder + "/energy_uj").status();
    if (key.size() == 2) parents[key] = candidate.domain;
    found.push_back(std::move(candidate));
  }
  return found;
}

std::string Name(const DomainCandidate& candidate) {
  return absl::StrCat(candidate.control == Controls()[0] ? "" : candidate.control + " ", DomainLabel(candidate.domain));
}

int64_t Modulus(const std::string& folder) {
  absl::StatusOr<int64_t> range = ReadCountFile(folder + "/max_energy_range_uj");
  if (!range.ok() || *range <= 0 || *range >= std::numeric_limits<int64_t>::max() / 2) return 0;
  return *range + (*range + (int64_t{1} << 31)) / ((int64_t{1} << 32) - 1);
}

absl::StatusOr<std::unique_ptr<Meter>> Create(const MeterOptions& options) {
  if (options.thread_scope) {
    return absl::UnimplementedError("rapl counts whole CPU packages; it cannot tell one thread's joules from another's");
  }
  const std::string powercap = Below(options.root, "/sys/class/powercap");
  DomainChoice choice = SelectDomains(FindZones(powercap), Controls());
  std::vector<std::string> left_out;
  const auto remedy = [&powercap](const absl::Status& unreadable) {
    return absl::StrCat(unreadable.message(), !absl::IsPermissionDenied(unreadable) ? "" : absl::StrCat(
        ", readable by root only (CVE-2020-8694); remedy: sudo chmod a+r ", powercap, "/*/energy_uj"));
  };
  for (const DomainCandidate& candidate : choice.chosen) {
    if (options.on_domain) options.on_domain({Name(candidate), candidate.readable.ok() ? "" : remedy(candidate.readable)});
  }
  for (const DomainChoice::Refused& refused : choice.refused) {
    if (options.on_domain) options.on_domain({Name(refused.candidate), refused.candidate.readable.ok() ? refused.reason : remedy(refused.candidate.readable)});
    left_out.push_back(absl::StrCat(Name(refused.candidate), " (", refused.reason, ")"));
  }
  if (choice.chosen.empty()) {
    return absl::UnimplementedError(absl::StrCat("no RAPL package under ", powercap,
                                                 " (virtual machine, container, other CPU, or module not loaded); remedy: sudo modprobe intel_rapl_msr"));
  }
  if (absl::IsPermissionDenied(choice.status)) return absl::PermissionDeniedError(remedy(choice.status));
  if (!choice.status.ok()) return absl::UnavailableError(choice.status.message());

  CounterMeterOptions made;
  made.name = "rapl";
  const bool platform = choice.chosen[0].domain.kind == DomainKind::kPlatform;
  made.tier = platform ? EnergyTier::kDevice : EnergyTier::kComponent;
  made.covers = platform ? "the platform as the board's maker calibrated it, all processes and idle power included"
                         : "of the whole machine, all processes and idle power included, without disks, network, mains adapter";
  for (const DomainCandidate& candidate : choice.chosen) {
    CounterSource source;
    source.label = DomainLabel(candidate.domain);
    if (candidate.domain.kind == DomainKind::kPackage) source.mirror_group = "package";
    source.spec.modulus_uj = Modulus(candidate.folder);
    source.read = [path = candidate.folder + "/energy_uj"] { return ReadCountFile(path); };
    made.sources.push_back(std::move(source));
  }
  made.left_out = std::move(left_out);
  return MakeCounterMeter(std::move(made), options);
}

}  // namespace

namespace internal {

void InstallMeter_rapl(MeterRegistry& registry) {
  FEDWATT_CHECK(registry.Register("rapl", MeterEntry{Create, /*preference=*/100}).ok());
}

}  // namespace internal
}  // namespace fedwatt

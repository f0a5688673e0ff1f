// AMD's energy counters as the kernel's hardware-monitoring driver amd_energy shows them, one a socket and one a core.
//
// energyN_input is in microjoules. The driver widens the 32-bit registers itself, so the counters do not wrap; a step backwards is a reset. Cores lie inside
// their socket and are not added.
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "counter_meter.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/energy/meter.h"
#include "sysfs.h"

namespace fedwatt {
namespace {

absl::StatusOr<std::unique_ptr<Meter>> Create(const MeterOptions& options) {
  if (options.thread_scope) return absl::UnimplementedError("amd_energy counts whole sockets; it cannot tell one thread's joules from another's");
  CounterMeterOptions made;
  made.name = "amd_energy";
  made.covers = "of the whole machine, all processes and idle power included, without memory, disks, network, mains adapter";
  absl::Status unreadable;
  int cores = 0;
  for (const HwmonChip& chip : FindHwmonChips(options.root)) {
    if (chip.name != "amd_energy") continue;
    for (const std::string& file : ListFolder(chip.folder)) {
      absl::string_view stem = file;
      if (!absl::StartsWith(stem, "energy") || !absl::ConsumeSuffix(&stem, "_label")) continue;
      absl::string_view number;
      std::string label = ReadWordFile(chip.folder + "/" + file);
      number = label;
      int socket;
      if (absl::StartsWith(label, "Ecore")) {
        ++cores;
        continue;
      }
      if (!absl::ConsumePrefix(&number, "Esocket") || !absl::SimpleAtoi(number, &socket)) {
        if (options.on_domain) options.on_domain({label, "no name this version knows"});
        continue;
      }
      CounterSource source;
      source.label = absl::StrCat("package-", socket);
      const std::string path = absl::StrCat(chip.folder, "/", stem, "_input");
      absl::Status readable = ReadCountFile(path).status();
      if (absl::IsPermissionDenied(readable)) {
        readable = absl::PermissionDeniedError(
            absl::StrCat(readable.message(), ", readable by root only (CVE-2020-12912); remedy: sudo chmod a+r ", chip.folder, "/energy*_input"));
      }
      if (options.on_domain) options.on_domain({source.label, std::string(readable.message())});
      if (unreadable.ok()) unreadable = readable;
      source.read = [path] { return ReadCountFile(path); };
      made.sources.push_back(std::move(source));
    }
  }
  if (cores > 0) {
    if (options.on_domain) options.on_domain({absl::StrCat(cores, " cores"), "lie inside their socket"});
    made.left_out.push_back(absl::StrCat(cores, " cores (lie inside their socket)"));
  }
  if (made.sources.empty()) {
    return absl::UnimplementedError(absl::StrCat("no socket of a chip amd_energy under ", Below(options.root, "/sys/class/hwmon")));
  }
  if (!unreadable.ok()) return absl::IsPermissionDenied(unreadable) ? unreadable : absl::UnavailableError(unreadable.message());
  return MakeCounterMeter(std::move(made), options);
}

}  // namespace

namespace internal {

void InstallMeter_amd_energy(MeterRegistry& registry) {
  FEDWATT_CHECK(registry.Register("amd_energy", MeterEntry{Create, /*preference=*/90}).ok());
}

}  // namespace internal
}  // namespace fedwatt

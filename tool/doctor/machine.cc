#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/civil_time.h"
#include "doctor/check.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/process.h"
#include "fedwatt/base/sandbox.h"
#include "fedwatt/config/run_options.h"
#include "fedwatt/energy/meter.h"

namespace fedwatt::tool {
namespace {

constexpr double kGib = 1 << 30;
constexpr double kFewDiskGib = 1, kTooFewDiskGib = 0.064;
// LibTorch alone costs 0.15 GiB a process before it does anything.
constexpr double kFewMemoryGib = 1;

// What a refusal says to do; a warning always has something.
std::string RemedyFor(const absl::Status& refusal) {
  const std::string remedy = SplitRefusal(std::string(refusal.message())).remedy;
  if (!remedy.empty()) return remedy;
  if (absl::IsInvalidArgument(refusal) || absl::IsNotFound(refusal)) return "correct energy.source or energy.watts_per_core";
  return "nothing to do unless this machine should have it; another meter is used";
}

}  // namespace

void CheckMeters(const Settings& settings, bool all, const std::string& root, Checks& checks) {
  MeterOptions options = MakeMeterOptions(settings);
  options.root = root;
  for (const std::string& name : Meters().Names()) {
    absl::StatusOr<MeterEntry> entry = Meters().Find(name);
    if (!entry.ok() || (entry->preference < 0 && !all)) continue;  // only where it is named
    std::vector<FoundDomain> found;
    options.on_domain = [&found](const FoundDomain& domain) { found.push_back(domain); };
    const std::string title = absl::StrCat("meter ", name);
    absl::StatusOr<std::unique_ptr<Meter>> meter = entry->create(options);
    if (meter.ok()) {
      checks.push_back({title, Verdict::kOk, absl::StrCat((*meter)->Describe(), entry->preference < 0 ? "; only where energy.meter names it" : "")});
    } else if (all || absl::IsPermissionDenied(meter.status())) {
      checks.push_back({title, Verdict::kWarn, SplitRefusal(std::string(meter.status().message())).reason, RemedyFor(meter.status())});
    }
    for (const FoundDomain& domain : found) {
      if (!all) break;
      const Refusal refusal = SplitRefusal(domain.refusal);
      checks.push_back({absl::StrCat(title, " ", domain.name), refusal.remedy.empty() ? Verdict::kOk : Verdict::kWarn,
                        domain.refusal.empty() ? meter.ok() ? "counted" : "found" : absl::StrCat("not counted: ", refusal.reason), refusal.remedy});
    }
  }
  options.on_domain = nullptr;
  const std::string& wanted = settings.energy.meter;
  absl::StatusOr<MeterChoice> choice = ChooseMeter(wanted, options);
  if (!choice.ok()) {
    checks.push_back({"energy", Verdict::kFail,
                      absl::StrCat("energy.meter ", wanted, ": ", SplitRefusal(std::string(choice.status().message())).reason),
                      absl::StrCat("set energy.meter to auto, or: ", RemedyFor(choice.status()))});
  } else if (choice->meter == nullptr) {
    checks.push_back({"energy", Verdict::kWarn, "no meter: joules will be missing", "set energy.meter to auto"});
  } else {
    const std::string detail =
        absl::StrCat(std::string(choice->meter->name()), ", tier ", std::string(EnergyTierName(choice->meter->tier())));
    if (IsEstimate(choice->meter->tier())) {
      checks.push_back({"energy", Verdict::kWarn, detail + ": joules will be estimates",
                        "fedwatt doctor --energy lists all meters and what each would need; or give energy.watts_per_core for this machine"});
    } else {
      checks.push_back({"energy", Verdict::kOk, detail});
    }
  }
}

void CheckClock(absl::Time now, Checks& checks) {
  const auto year = absl::ToCivilYear(now, absl::UTCTimeZone()).year();
  const std::string text = absl::FormatTime("%Y-%m-%d %H:%M:%S UTC", now, absl::UTCTimeZone());
  if (year >= 2025 && year < 2100)
    checks.push_back({"clock", Verdict::kOk, text});
  else
    checks.push_back({"clock", Verdict::kFail, text + ": certificates will look not yet or no longer valid",
                      "set the clock, or enable time synchronisation"});
}

void CheckData(const Settings& settings, Checks& checks) {
  if (settings.data.path.empty()) {
    checks.push_back({"data", Verdict::kWarn, "data.path is not set", "name a configuration with --config, or set data.path"});
    return;
  }
  for (const std::string& path : {settings.data.path, settings.data.test_path}) {
    if (path.empty()) continue;
    std::error_code error;
    const bool folder = std::filesystem::is_directory(path, error);
    if (::access(path.c_str(), folder ? R_OK | X_OK : R_OK) != 0) {
      checks.push_back({"data", Verdict::kFail, std::string(ErrnoStatus(errno, path).message()),
                        "correct data.path or data.test_path; for Fashion-MNIST: apt-get install dataset-fashion-mnist"});
    } else if (folder && std::filesystem::is_empty(path, error)) {
      checks.push_back({"data", Verdict::kFail, path + " is an empty folder", "put the files of data.format there"});
    } else {
      checks.push_back({"data", Verdict::kOk, absl::StrCat(path, " is readable (format ", settings.data.format, ")")});
    }
  }
}

void CheckDisk(const Settings& settings, Checks& checks) {
  std::filesystem::path folder = std::filesystem::absolute(settings.out.empty() ? "." : settings.out).lexically_normal();
  std::error_code error;
  while (!std::filesystem::is_directory(folder, error) && folder.has_relative_path()) folder = folder.parent_path();
  struct statvfs info;
  if (::access(folder.c_str(), W_OK | X_OK) != 0 || ::statvfs(folder.c_str(), &info) != 0) {
    checks.push_back(
        {"disk", Verdict::kFail, std::string(ErrnoStatus(errno, folder.string()).message()), "choose another folder with --out"});
    return;
  }
  const double free_gib = static_cast<double>(info.f_bavail) * static_cast<double>(info.f_frsize) / kGib;
  const std::string detail = absl::StrFormat("%.1f GiB free for %s", free_gib, folder.string());
  if (free_gib >= kFewDiskGib)
    checks.push_back({"disk", Verdict::kOk, detail});
  else
    checks.push_back({"disk", free_gib < kTooFewDiskGib ? Verdict::kFail : Verdict::kWarn, detail,
                      "free some space, or choose another folder with --out"});
}

void CheckMachine(Checks& checks) {
  const MachineInfo machine = DescribeMachine();
  const std::string cores = absl::StrCat(machine.core_count, machine.core_count == 1 ? " core, " : " cores, ",
                                         machine.cpu_model.empty() ? "unknown CPU" : machine.cpu_model,
                                         machine.instruction_sets.empty() ? "" : ", ", machine.instruction_sets);
  checks.push_back({"cores", Verdict::kOk, cores});
  if (!machine.memory_bytes) {
    checks.push_back({"memory", Verdict::kWarn, "the kernel does not say how much there is", "look with another tool"});
    return;
  }
  const double gib = static_cast<double>(*machine.memory_bytes) / kGib;
  const std::string detail = absl::StrFormat("%.1f GiB", gib);
  if (gib >= kFewMemoryGib)
    checks.push_back({"memory", Verdict::kOk, detail});
  else
    checks.push_back({"memory", Verdict::kWarn, detail + "; LibTorch alone takes 0.15 GiB a process",
                      "run one client here, with a small model"});
}

void CheckSandbox(const Settings& settings, Checks& checks) {
  const SandboxWalls walls = OfferedWalls();
  const std::string detail = absl::StrCat("TorchScript archives run behind ", Describe(walls));
  if (walls.system_calls) {
    checks.push_back({"sandbox", Verdict::kOk, detail});
  } else {
    const bool needed = settings.model.sandbox.required && !settings.model.torchscript.empty();
    checks.push_back({"sandbox", needed ? Verdict::kFail : Verdict::kWarn, detail, "use a kernel with CONFIG_SECCOMP_FILTER; model.sandbox = best runs archives all the same"});
  }
}

}  // namespace fedwatt::tool

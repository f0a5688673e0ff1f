// Power sensors on a board's supply rails, read through the kernel's hardware-monitoring class: Texas Instruments' INA chips, as on NVIDIA's Jetson and many
// other boards, and the ACPI power meter of servers.
//
// Voltage and current belong together by their index. An INA3221's inputs 4 to 7 are shunt voltages and sums, not rails. A rail that feeds the whole board is
// preferred to the sum of those behind it, and rails of which it is not known whether one feeds another are never added unless the user names them.
#include <algorithm>
#include <cmath>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/energy/meter.h"
#include "power_meter.h"
#include "sysfs.h"

namespace fedwatt {
namespace {

// Gain error of the chips and tolerance of the shunts, together.
constexpr double kRelativeError = 0.01;
// INA3221: 8 mV and 40 uV a step.
constexpr double kVoltageStep = 8e-3, kShuntStep = 40e-6, kUsualShunt = 5e-3;

const std::set<std::string>& WholeBoardRails() {
  static const auto* rails = new std::set<std::string>{"VDD_IN", "POM_5V_IN"};  // Jetson TX2, Xavier NX, Orin NX and Nano; Jetson Nano
  return *rails;
}
// Rails that together feed a module and not each other.
const std::vector<std::set<std::string>>& DisjointRails() {
  static const auto* sets = new std::vector<std::set<std::string>>{
      {"VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"},         // Jetson AGX Orin; VDDQ_VDD2_1V8AO is behind VIN_SYS_5V0
      {"GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"},        // Jetson AGX Xavier
  };
  return *sets;
}

struct Rail {
  std::string label;
  bool whole = false;  // feeds everything
  std::string refusal;
  std::function<absl::StatusOr<PowerSample>()> read;
};

std::function<absl::StatusOr<PowerSample>()> ReadPower(std::string path, double watts_per_count) {
  return [path = std::move(path), watts_per_count]() -> absl::StatusOr<PowerSample> {
    FEDWATT_ASSIGN_OR_RETURN(const int64_t count, ReadIntegerFile(path));
    const double watts = static_cast<double>(count) * watts_per_count;
    // A little below zero is an offset of the sensor around nothing.
    return PowerSample{std::max(0.0, watts), kRelativeError * std::abs(watts) + watts_per_count / 2 + std::max(0.0, -watts)};
  };
}

std::function<absl::StatusOr<PowerSample>()> ReadVoltageAndCurrent(const std::string& folder, int index) {
  const absl::StatusOr<int64_t> micro_ohms = ReadCountFile(absl::StrCat(folder, "/shunt", index, "_resistor"));
  const double shunt = micro_ohms.ok() && *micro_ohms > 0 ? static_cast<double>(*micro_ohms) / 1e6 : kUsualShunt;
  return [folder, index, shunt]() -> absl::StatusOr<PowerSample> {
    FEDWATT_ASSIGN_OR_RETURN(const int64_t millivolts, ReadCountFile(absl::StrCat(folder, "/in", index, "_input")));
    FEDWATT_ASSIGN_OR_RETURN(const int64_t milliamps, ReadIntegerFile(absl::StrCat(folder, "/curr", index, "_input")));
    const double volts = static_cast<double>(millivolts) / 1e3, amps = static_cast<double>(milliamps) / 1e3;
    const double watts = volts * amps;
    const double error = kRelativeError * std::abs(watts) + volts * kShuntStep / shunt / 2 + std::abs(amps) * kVoltageStep / 2;
    return PowerSample{std::max(0.0, watts), error + std::max(0.0, -watts)};
  };
}

void AddRail(std::vector<Rail>& rails, Rail rail) {
  if (rail.refusal.empty()) {
    if (absl::Status read = rail.read().status(); !read.ok()) {
      rail.refusal = std::string(read.message());
      if (absl::IsPermissionDenied(read)) absl::StrAppend(&rail.refusal, "; remedy: sudo chmod a+r /sys/class/hwmon/hwmon*/*_input");
    }
  }
  rails.push_back(std::move(rail));
}

void AddChip(const HwmonChip& chip, std::vector<Rail>& rails) {
  const std::string shown = ReadWordFile(chip.folder + "/label");
  const std::string fallback = shown.empty() ? chip.name : shown;
  if (chip.name == "power_meter") {
    for (const char* file : {"/power1_average", "/power1_input"}) {
      if (!ReadCountFile(chip.folder + file).ok()) continue;
      AddRail(rails, {fallback, true, "", ReadPower(chip.folder + file, 1e-6)});
      return;
    }
    return;
  }
  if (!absl::StartsWith(chip.name, "ina")) return;
  const std::vector<std::string> files = ListFolder(chip.folder);
  const auto has = [&files](const std::string& file) { return std::binary_search(files.begin(), files.end(), file); };
  for (int i = 1; i <= 3; ++i) {
    const std::string power = absl::StrCat("power", i, "_input");
    const bool pair = has(absl::StrCat("in", i, "_input")) && has(absl::StrCat("curr", i, "_input"));
    if (!has(power) && !pair) continue;
    std::string label = ReadWordFile(absl::StrCat(chip.folder, "/in", i, "_label"));
    if (label.empty()) label = i == 1 ? fallback : absl::StrCat(fallback, "-", i);
    Rail rail{label, WholeBoardRails().count(label) > 0, "", nullptr};
    absl::StatusOr<int64_t> enabled = ReadCountFile(absl::StrCat(chip.folder, "/in", i, "_enable"));
    if (label == "NC" || (enabled.ok() && *enabled == 0)) {
      rail.refusal = "not connected or switched off";
    } else {
      rail.read = has(power) ? ReadPower(chip.folder + "/" + power, 1e-6) : ReadVoltageAndCurrent(chip.folder, i);
    }
    AddRail(rails, std::move(rail));
  }
}

// The driver of NVIDIA's kernels up to 4.9 shows its rails here and not among the hardware monitors.
void AddOldJetson(std::string_view root, std::vector<Rail>& rails) {
  const std::string driver = Below(root, "/sys/bus/i2c/drivers/ina3221x");
  for (const std::string& address : ListFolder(driver)) {
    for (const std::string& device : ListFolder(driver + "/" + address)) {
      if (!absl::StartsWith(device, "iio:device") && !absl::StartsWith(device, "iio_device")) continue;
      const std::string folder = absl::StrCat(driver, "/", address, "/", device);
      for (int i = 0; i < 3; ++i) {
        const std::string label = ReadWordFile(absl::StrCat(folder, "/rail_name_", i));
        if (label.empty()) continue;
        AddRail(rails, {label, WholeBoardRails().count(label) > 0, label == "NC" ? "not connected or switched off" : "",
                        ReadPower(absl::StrCat(folder, "/in_power", i, "_input"), 1e-3)});
      }
    }
  }
}

// Marks which rails to add; sets the others' refusals. Errors: NOT_FOUND  `wanted` names none
absl::Status Select(const std::string& wanted, std::vector<Rail>& rails) {
  std::set<std::string> chosen, usable;
  for (const Rail& rail : rails) {
    if (rail.refusal.empty()) usable.insert(rail.label);
  }
  const std::string known = absl::StrJoin(usable, ", ");
  std::string reason = "not named in energy.source";
  if (!wanted.empty()) {
    for (absl::string_view name : absl::StrSplit(wanted, ',')) chosen.emplace(absl::StripAsciiWhitespace(name));
    for (const std::string& name : chosen) {
      if (usable.count(name) == 0) return absl::NotFoundError(absl::StrCat("energy.source: no rail '", name, "' can be read here; known: ", known));
    }
  } else {
    for (const Rail& rail : rails) {
      // Two that each feed everything are the same joules twice.
      if (rail.whole && rail.refusal.empty() && chosen.empty()) chosen.insert(rail.label);
    }
    if (!chosen.empty()) reason = absl::StrCat("lies behind ", *chosen.begin());
    for (const std::set<std::string>& set : DisjointRails()) {
      if (chosen.empty() && std::includes(usable.begin(), usable.end(), set.begin(), set.end())) {
        chosen = set;
        reason = absl::StrCat("lies behind one of ", absl::StrJoin(set, ", "));
      }
    }
    if (chosen.empty() && usable.size() == 1) chosen = usable;
    if (chosen.empty()) reason = absl::StrCat("whether it feeds another rail is not known; remedy: name those to add in energy.source, of ", known);
  }
  std::set<std::string> taken;
  for (Rail& rail : rails) {
    if (!rail.refusal.empty()) continue;
    if (chosen.count(rail.label) == 0) {
      rail.refusal = reason;
    } else if (!taken.insert(rail.label).second) {
      rail.refusal = absl::StrCat(rail.label, " was found before");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Meter>> Create(const MeterOptions& options) {
  if (options.thread_scope) return absl::UnimplementedError("rails measure a whole board; they cannot tell one thread's joules from another's");
  std::vector<Rail> rails;
  for (const HwmonChip& chip : FindHwmonChips(options.root)) AddChip(chip, rails);
  AddOldJetson(options.root, rails);
  if (rails.empty()) return absl::UnimplementedError(absl::StrCat("no power sensor of a rail under ", Below(options.root, "/sys/class/hwmon")));
  const absl::Status selected = Select(options.source, rails);
  if (options.on_domain) {
    for (const Rail& rail : rails) options.on_domain({rail.label, rail.refusal});
  }
  FEDWATT_RETURN_IF_ERROR(selected);

  PowerMeterOptions made;
  made.name = "rails";
  bool whole = false;
  for (Rail& rail : rails) {
    if (rail.refusal.empty()) {
      whole |= rail.whole;
      made.sources.push_back({rail.label, std::move(rail.read)});
    } else {
      made.left_out.push_back(absl::StrCat(rail.label, " (", SplitRefusal(rail.refusal).reason, ")"));
    }
  }
  if (made.sources.empty()) {
    for (const Rail& rail : rails) {
      if (absl::StrContains(rail.refusal, "chmod")) return absl::PermissionDeniedError(rail.refusal);
    }
    return absl::UnimplementedError(rails[0].label + ": " + rails[0].refusal);
  }
  made.tier = whole ? EnergyTier::kDevice : EnergyTier::kComponent;
  made.covers = whole ? "all that the board draws, without its power supply's losses" : "what these rails feed, all processes and idle power included, and not the rest of the board";
  return MakePowerMeter(std::move(made), options);
}

}  // namespace

namespace internal {

void InstallMeter_rails(MeterRegistry& registry) {
  FEDWATT_CHECK(registry.Register("rails", MeterEntry{Create, /*preference=*/120}).ok());
}

}  // namespace internal
}  // namespace fedwatt

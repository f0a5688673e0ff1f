#include "fedwatt/energy/calibration.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <thread>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/process.h"
#include "fedwatt/base/status_macros.h"
#include "host_cpu.h"
#include "sysfs.h"

namespace fedwatt {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kSchema[] = "fedwatt.calibration.v1";
constexpr int64_t kMostBytes = int64_t{1} << 20;
constexpr size_t kMostSamples = 10000;
constexpr int kIdleBlocks = 5, kBlocksPerStep = 2;
constexpr absl::Duration kSlice = absl::Milliseconds(500);  // between two looks at the CPUs' clocks
constexpr absl::Duration kDutyCycle = absl::Milliseconds(50);

std::string HostName() {
  char name[256] = {};
  (void)::gethostname(name, sizeof name - 1);
  return name;
}

// "mains", "battery", or "" where the machine has no power supply that tells.
std::string PowerSource(const std::string& root) {
  std::string source;
  const std::string folder = Below(root, "/sys/class/power_supply");
  for (const std::string& name : ListFolder(folder)) {
    const std::string supply = absl::StrCat(folder, "/", name), online = ReadWordFile(supply + "/online");
    if (ReadWordFile(supply + "/type") != "Mains" || online.empty()) continue;
    if (online == "1") return "mains";
    source = "battery";
  }
  return source;
}

// Keeps one thread busy with dense sums for `duty` of each cycle until `end`.
void Burn(double duty, absl::Time end) {
  double values[512];
  std::fill(std::begin(values), std::end(values), 1.0);
  for (absl::Time cycle = absl::Now(); cycle < end; cycle += kDutyCycle) {
    const absl::Time rest = std::min(cycle + duty * kDutyCycle, end);
    while (absl::Now() < rest) {
      for (double& value : values) value = value * 0.999999 + 1e-6;
    }
    // The compiler must not see that nobody reads them.
    std::atomic_signal_fence(std::memory_order_seq_cst);
    volatile double kept = values[17];
    (void)kept;
    if (const absl::Time next = std::min(cycle + kDutyCycle, end); absl::Now() < next) absl::SleepFor(next - absl::Now());
  }
}

absl::Status BurnThreads(int threads, double duty, absl::Duration span) {
  const absl::Time end = absl::Now() + span;
  std::vector<std::thread> busy;
  for (int i = 0; i < threads; ++i) busy.emplace_back([=] { Burn(duty, end); });
  for (std::thread& thread : busy) thread.join();
  absl::SleepFor(end - absl::Now());
  return absl::OkStatus();
}

absl::Status Damaged(const std::string& path, const std::string& what) { return absl::DataLossError(absl::StrCat(path, ": ", what)); }

}  // namespace

std::string MachineForCalibration(const std::string& root) {
  absl::StatusOr<internal::HostCpuTimes> times = internal::ReadHostCpuTimes(root);
  return absl::StrCat(internal::MachineModel(root), ", ", times.ok() ? times->by_cpu.size() : 0, " CPUs, clock from ", internal::CpuActivityReader(root).clock_source(),
                      ", governor '", ReadWordFile(Below(root, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")), "', power '", PowerSource(root), "'");
}

absl::Status Calibration::CheckMachine(const std::string& root) const {
  const std::string here = MachineForCalibration(root);
  if (here == machine) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("calibrated for another machine or another state of it: ", machine, "; here: ", here, "; run fedwatt calibrate again"));
}

absl::StatusOr<Calibration> ReadCalibration(const std::string& path) {
  FEDWATT_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMostBytes));
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || json.value("schema", Json()) != kSchema) return Damaged(path, absl::StrCat("expected an object with schema ", kSchema));
  Calibration made;
  std::string problem;
  const auto take_text = [&](const char* name, std::string& value) {
    if (!json.contains(name) || !json[name].is_string()) {
      if (problem.empty()) problem = absl::StrCat("field '", name, "': expected a string");
      return;
    }
    value = json[name].get<std::string>();
  };
  const auto take_number = [&](const Json& from, const char* name, double& value) {
    if (!from.is_object() || !from.contains(name) || !from[name].is_number() || !std::isfinite(from[name].get<double>()) || from[name].get<double>() < 0 ||
        from[name].get<double>() > 1e6) {
      if (problem.empty()) problem = absl::StrCat("field '", name, "': expected a number in [0, 1e6]");
      return;
    }
    value = from[name].get<double>();
  };
  std::string measured_at, tier;
  take_text("host", made.host);
  take_text("machine", made.machine);
  take_text("measured_at", measured_at);
  take_text("meter", made.meter);
  take_text("meter_tier", tier);
  take_text("covers", made.covers);
  const Json idle = json.value("idle", Json());
  double watts = 0, low = 0, high = 0, blocks = 0, seconds = 0;
  take_number(idle, "watts", watts);
  take_number(idle, "low_watts", low);
  take_number(idle, "high_watts", high);
  take_number(idle, "blocks", blocks);
  take_number(idle, "block_seconds", seconds);
  made.idle = {Watts(watts), Watts(low), Watts(high), static_cast<int>(blocks), absl::Seconds(seconds)};
  const Json samples = json.value("samples", Json());
  if (!samples.is_array() || samples.size() > kMostSamples) return Damaged(path, absl::StrCat("field 'samples': expected an array of at most ", kMostSamples));
  for (const Json& sample : samples) {
    double power = 0;
    CpuActivity activity;
    take_number(sample, "apart_ghz", activity.apart_ghz);
    take_number(sample, "together_ghz", activity.together_ghz);
    take_number(sample, "watts", power);
    made.samples.push_back({activity, Watts(power)});
  }
  std::string error;
  if (problem.empty() && !absl::ParseTime(absl::RFC3339_full, measured_at, &made.measured_at, &error)) problem = absl::StrCat("field 'measured_at': ", error);
  absl::StatusOr<EnergyTier> parsed = ParseEnergyTier(tier);
  if (problem.empty() && (!parsed.ok() || IsEstimate(*parsed))) problem = "field 'meter_tier': expected that of a meter that measures";
  if (problem.empty() && !(low <= watts && watts <= high)) problem = "field 'idle': expected low_watts <= watts <= high_watts";
  if (!problem.empty()) return Damaged(path, problem);
  made.meter_tier = *parsed;
  return made;
}

absl::Status WriteCalibration(const std::string& path, const Calibration& calibration) {
  Json samples = Json::array();
  for (const CpuModel::Sample& sample : calibration.samples) {
    samples.push_back({{"apart_ghz", sample.activity.apart_ghz}, {"together_ghz", sample.activity.together_ghz}, {"watts", sample.power.watts()}});
  }
  const IdlePower& idle = calibration.idle;
  const Json json = {{"schema", kSchema},
                     {"host", calibration.host},
                     {"machine", calibration.machine},
                     {"measured_at", absl::FormatTime(absl::RFC3339_sec, calibration.measured_at, absl::UTCTimeZone())},
                     {"meter", calibration.meter},
                     {"meter_tier", std::string(EnergyTierName(calibration.meter_tier))},
                     {"covers", calibration.covers},
                     {"idle",
                      {{"watts", idle.power.watts()},
                       {"low_watts", idle.low.watts()},
                       {"high_watts", idle.high.watts()},
                       {"blocks", idle.block_count},
                       {"block_seconds", absl::ToDoubleSeconds(idle.block)}}},
                     {"samples", std::move(samples)}};
  if (const std::filesystem::path folder = std::filesystem::path(path).parent_path(); !folder.empty()) FEDWATT_RETURN_IF_ERROR(MakeDirectories(folder.string()));
  return WriteFileAtomically(path, json.dump(2, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace) + "\n");
}

std::string DefaultCalibrationPath() {
  const std::string host = HostName();
  const char* const config = std::getenv("XDG_CONFIG_HOME");
  const char* const home = std::getenv("HOME");
  if (config != nullptr && *config != '\0') return absl::StrCat(config, "/fedwatt/calibration-", host, ".json");
  if (home != nullptr && *home != '\0') return absl::StrCat(home, "/.config/fedwatt/calibration-", host, ".json");
  return "";
}

absl::StatusOr<Calibration> Calibrate(const CalibrateOptions& options) {
  if (options.duration < absl::Seconds(10) || options.duration > absl::Hours(24)) {
    return absl::InvalidArgumentError(absl::StrCat("duration: expected 10 s to 24 h, got ", absl::FormatDuration(options.duration)));
  }
  MeterOptions whole = options.meter_options;
  whole.share = whole.thread_scope = false;
  whole.calibration.clear();  // a model must not be fitted to itself
  FEDWATT_ASSIGN_OR_RETURN(MeterChoice choice, ChooseMeter(options.meter, whole));
  if (choice.meter == nullptr || IsEstimate(choice.meter->tier()) || !choice.meter->CoversMachine()) {
    std::string why;
    if (choice.meter != nullptr) why = absl::StrCat(std::string(choice.meter->name()), " does not measure the whole machine");
    for (const RefusedMeter& refused : choice.refused) absl::StrAppend(&why, why.empty() ? "" : "; ", refused.name, ": ", refused.reason);
    return absl::FailedPreconditionError(absl::StrCat("calibrating needs a meter that measures this machine, and there is none: ", why));
  }
  Meter& meter = *choice.meter;
  const Clock& clock = *whole.clock;
  const auto load = options.load ? options.load : BurnThreads;
  const auto say = [&](const std::string& text) {
    if (options.progress) options.progress(text);
  };
  FEDWATT_ASSIGN_OR_RETURN(const internal::HostCpuTimes times, internal::ReadHostCpuTimes(whole.root));
  const int cpus = static_cast<int>(times.by_cpu.size());
  internal::CpuActivityReader activity(whole.root);

  Calibration made;
  made.host = HostName();
  made.machine = MachineForCalibration(whole.root);
  made.measured_at = clock.Now();
  made.meter = std::string(meter.name());
  made.meter_tier = meter.tier();
  // One block of a step: mean activity and watts.
  const auto measure = [&](int threads, double duty, absl::Duration span) -> absl::StatusOr<CpuModel::Sample> {
    CpuModel::Sample sample;
    FEDWATT_RETURN_IF_ERROR(meter.Start());
    activity.Read(absl::Seconds(1)).status().IgnoreError();  // an origin
    absl::Duration at = clock.Monotonic();
    const absl::Duration start = at;
    while (at - start < span) {
      FEDWATT_RETURN_IF_ERROR(load(threads, duty, std::min(kSlice, std::max(span - (at - start), absl::Milliseconds(20)))));
      const absl::Duration now = clock.Monotonic();
      if (now <= at) return absl::InternalError("the load took no time");
      FEDWATT_ASSIGN_OR_RETURN(const internal::CpuActivityReader::Window window, activity.Read(now - at));
      const double seconds = absl::ToDoubleSeconds(now - at);
      sample.activity.apart_ghz += window.value.apart_ghz * seconds;
      sample.activity.together_ghz += window.value.together_ghz * seconds;
      at = now;
    }
    const EnergyReading reading = meter.Read();
    const double seconds = absl::ToDoubleSeconds(at - start);
    if (reading.missing() || reading.window <= absl::ZeroDuration() || *reading.energy <= Energy()) {
      return absl::UnavailableError(absl::StrCat(made.meter, " gave no joules for ", absl::FormatDuration(span), " of ", threads, " busy threads"));
    }
    made.covers = reading.domain;
    sample.activity.apart_ghz /= seconds;
    sample.activity.together_ghz /= seconds;
    sample.power = *reading.energy / reading.window;
    return sample;
  };

  made.idle.block_count = kIdleBlocks;
  made.idle.block = options.duration / 4 / kIdleBlocks;
  say(absl::StrFormat("idle, %.0f s: leave the machine alone", absl::ToDoubleSeconds(options.duration / 4)));
  std::vector<Power> idle;
  for (int i = 0; i < kIdleBlocks; ++i) {
    FEDWATT_ASSIGN_OR_RETURN(const CpuModel::Sample sample, measure(0, 1, made.idle.block));
    made.samples.push_back(sample);
    idle.push_back(sample.power);
  }
  std::sort(idle.begin(), idle.end());
  made.idle.low = idle.front();
  made.idle.power = idle[kIdleBlocks / 2];
  made.idle.high = idle.back();

  std::vector<int> counts = {1, cpus / 4, cpus / 2, cpus};
  std::sort(counts.begin(), counts.end());
  counts.erase(std::unique(counts.begin(), counts.end()), counts.end());
  counts.erase(std::remove(counts.begin(), counts.end(), 0), counts.end());
  const double duties[] = {0.25, 0.5, 0.75, 1.0};
  const absl::Duration block = options.duration * 3 / 4 / static_cast<int64_t>(counts.size() * std::size(duties) * kBlocksPerStep);
  for (int threads : counts) {
    for (double duty : duties) {
      say(absl::StrFormat("%d of %d CPUs busy %.0f %% of the time, %.1f s", threads, cpus, 100 * duty, absl::ToDoubleSeconds(block * kBlocksPerStep)));
      for (int i = 0; i < kBlocksPerStep; ++i) {
        FEDWATT_ASSIGN_OR_RETURN(made.samples.emplace_back(), measure(threads, duty, block));
      }
    }
  }
  return made;
}

}  // namespace fedwatt

// The generic model: CPU seconds times watts of one busy core.
//
// It knows nothing about clock frequency, instruction mix, memory, idle power or the rest of the device. The watts are a table
// value for a *kind* of CPU, so the truth is stated as an interval of a factor of three either way: published load sweeps
// show models of this kind off by up to 2.8 times in total, and one host drawing 14.4 or 36.8 W at the same utilisation.
#include <cmath>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "host_cpu.h"
#include "fedwatt/base/process.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/energy/meter.h"

namespace fedwatt {
namespace {

constexpr double kErrorFactor = 3;

struct CoreWatts {
  const char* pattern;  // in the device tree's model or the CPU's model name
  double watts;         // of one busy logical CPU, above idle where the source separates idle
};

// First match wins. Boards: slope of the PowerJoular project's linear fits over CPU utilisation (Noureddine, Intelligent
// Environments 2022) divided by the cores. Others: data-sheet TDP divided by hardware threads, rounded over the examples.
constexpr CoreWatts kCoreWatts[] = {
    {"Raspberry Pi 5", 0.87},    // 3.46 W / 4
    {"Raspberry Pi 400", 1.26},  // 5.03 W / 4
    {"Raspberry Pi 4", 1.13},    // 4.53 W / 4, 64-bit system
    {"Raspberry Pi 3", 0.83},    // 3.30 W / 4, model B+
    {"Raspberry Pi Zero W", 0.47},
    {"Jetson Nano", 1.5},      // estimate: 10 W mode less idle, board and GPU share, over 4 cores
    {"Threadripper", 5.0},     // 1950X 180 W / 32; 3970X 280 W / 64
    {"EPYC", 2.5},             // 9654 360 W / 192; 7763 280 W / 128; 8024P 90 W / 16
    {"Xeon", 3.5},             // Platinum 8480+ 350 W / 112; Platinum 8380 270 W / 80; E5-2620 v3 85 W / 12
    {"Ryzen", 4.5},            // 5950X 105 W / 32; 7950X 170 W / 32; 5600X 65 W / 12
    {"Intel(R) Core", 3.5},    // i9-13900K 125 W / 32; i7-1185G7 28 W / 8; i5-1240P 28 W / 16
    {"N100", 1.5},             // 6 W / 4
};
#if defined(__aarch64__) || defined(__arm__)
constexpr CoreWatts kUnknownCore = {"unknown Arm CPU", 2.0};  // between a Raspberry Pi (1.1) and an Altra Q80-30 (210 W / 80)
#else
constexpr CoreWatts kUnknownCore = {"unknown CPU", 4.0};  // 4 W a thread, the customary default of energy trackers
#endif

class CpuTimeMeter : public Meter {
 public:
  CpuTimeMeter(const MeterOptions& options, Power per_core, std::string origin)
      : clock_(options.clock), thread_scope_(options.thread_scope), per_core_(per_core), origin_(std::move(origin)) {}

  std::string_view name() const override { return "cpu_time"; }
  EnergyTier tier() const override { return EnergyTier::kGeneric; }
  bool CoversMachine() const override { return false; }
  std::string Describe() const override {
    return absl::StrCat("cpu_time: estimate, CPU seconds of this ", thread_scope_ ? "thread" : "process", " x ", per_core_.watts(),
                        " W a busy core (", origin_, "), true value within a factor of ", kErrorFactor,
                        "; no idle power, memory, storage, GPU or network");
  }

  absl::Status Start() override {
    last_ = Sample();
    return absl::OkStatus();
  }

  EnergyReading Read() override {
    EnergyReading reading;
    const Point now = Sample();
    const std::optional<Point> last = std::exchange(last_, now);
    if (!last.has_value()) return reading;
    reading.window = now.wall - last->wall;
    // Another thread's CPU clock has another origin.
    if (thread_scope_ && now.thread != last->thread) return reading;
    reading.energy = per_core_ * (now.cpu - last->cpu);
    reading.low = Joules(reading.energy->joules() / kErrorFactor);
    reading.high = Joules(reading.energy->joules() * kErrorFactor);
    reading.tier = tier();
    reading.source = "cpu_time";
    reading.domain = thread_scope_ ? "thread cpu" : "process cpu";
    return reading;
  }

 private:
  struct Point {
    absl::Duration wall;
    absl::Duration cpu;
    std::thread::id thread;
  };

  Point Sample() const {
    return {clock_->Monotonic(), thread_scope_ ? ThreadCpuTime() : ProcessCpuTime(), std::this_thread::get_id()};
  }

  const Clock* const clock_;
  const bool thread_scope_;
  const Power per_core_;
  const std::string origin_;
  std::optional<Point> last_;
};

absl::StatusOr<std::unique_ptr<Meter>> Create(const MeterOptions& options) {
  if (!std::isfinite(options.watts_per_core) || options.watts_per_core > 1000) {
    return absl::InvalidArgumentError(absl::StrCat("watts_per_core: expected at most 1000, got ", options.watts_per_core));
  }
  if (options.watts_per_core > 0) {
    return std::make_unique<CpuTimeMeter>(options, Watts(options.watts_per_core), "as configured");
  }
  const std::string model = internal::MachineModel(options.root);
  CoreWatts found = kUnknownCore;
  for (const CoreWatts& entry : kCoreWatts) {
    if (!absl::StrContains(model, entry.pattern)) continue;
    found = entry;
    break;
  }
  return std::make_unique<CpuTimeMeter>(options, Watts(found.watts), absl::StrCat("built-in table, ", found.pattern));
}

}  // namespace

namespace internal {

void InstallMeter_cpu_time(MeterRegistry& registry) {
  FEDWATT_CHECK(registry.Register("cpu_time", MeterEntry{Create, /*preference=*/10}).ok());
}

}  // namespace internal
}  // namespace fedwatt

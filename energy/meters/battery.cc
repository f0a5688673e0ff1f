// Batteries while they discharge, read through /sys/class/power_supply: then, and only then, they see all that the device draws.
//
// Gauges differ. Where there is power_now, or current_now with voltage_now, power is sampled and integrated; the sign of a current is not trusted, since drivers
// disagree about it, but the state is. Where there is only a level, energy_now (uWh) or charge_now (uAh) with voltage_now, the joules of a window are its fall.
// A level falls in steps, so a window is off by up to a step at each end: by the largest fall that was seen between two samples, or, until one was seen, by the
// greatest common divisor of the gauge's own numbers.
#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <optional>
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

constexpr double kRelativeError = 0.02, kErrorWatts = 0.01;  // of a gauge's power
constexpr double kMicroWattHour = 3.6e-3;                     // joules
constexpr const char* kCovers = "all that the device draws, screen and radio included, while it runs on battery; missing while it is charged or on mains";

enum class Gauge { kPower, kCurrent, kEnergy, kCharge };

struct Battery {
  std::string name, folder;
  Gauge gauge = Gauge::kPower;
};

class Supplies {
 public:
  Supplies(std::vector<Battery> batteries, std::vector<std::string> mains)
      : batteries_(std::move(batteries)), mains_(std::move(mains)) {}

  const std::vector<Battery>& batteries() const { return batteries_; }
  std::string Label() const {
    return absl::StrJoin(batteries_, "+", [](std::string* out, const Battery& battery) { *out += battery.name; });
  }

  // FAILED_PRECONDITION unless at least one battery discharges, none is charged and nothing else feeds the device.
  absl::Status Discharging() const {
    for (const std::string& mains : mains_) {
      absl::StatusOr<int64_t> online = ReadIntegerFile(mains + "/online");
      if (online.ok() && *online != 0) return absl::FailedPreconditionError(absl::StrCat("the device is on mains: ", mains, "/online is ", *online));
    }
    int discharging = 0;
    std::string others;
    for (const Battery& battery : batteries_) {
      const std::string state = ReadWordFile(battery.folder + "/status");
      discharging += state == "Discharging";
      if (state != "Discharging") absl::StrAppend(&others, others.empty() ? "" : ", ", battery.name, " is ", state.empty() ? "unreadable" : state);
      if (state == "Charging" || state.empty()) discharging = -static_cast<int>(batteries_.size());
    }
    if (discharging > 0) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(others, ": a battery shows the device's joules only while it discharges"));
  }

  absl::StatusOr<PowerSample> ReadPower() const {
    FEDWATT_RETURN_IF_ERROR(Discharging());
    double watts = 0;
    for (const Battery& battery : batteries_) {
      if (ReadWordFile(battery.folder + "/status") != "Discharging") continue;
      if (battery.gauge == Gauge::kPower) {
        FEDWATT_ASSIGN_OR_RETURN(const int64_t microwatts, ReadIntegerFile(battery.folder + "/power_now"));
        watts += std::abs(static_cast<double>(microwatts)) * 1e-6;
      } else {
        FEDWATT_ASSIGN_OR_RETURN(const int64_t microamps, ReadIntegerFile(battery.folder + "/current_now"));
        FEDWATT_ASSIGN_OR_RETURN(const int64_t microvolts, ReadCountFile(battery.folder + "/voltage_now"));
        watts += std::abs(static_cast<double>(microamps)) * 1e-6 * static_cast<double>(microvolts) * 1e-6;
      }
    }
    if (watts == 0) return absl::UnavailableError("the batteries' gauges show no power although they discharge");
    return PowerSample{watts, kRelativeError * watts + kErrorWatts};
  }

 private:
  const std::vector<Battery> batteries_;
  const std::vector<std::string> mains_;  // folders of the supplies that are no battery
};

class LevelMeter : public Meter {
 public:
  LevelMeter(Supplies supplies, const MeterOptions& common)
      : supplies_(std::move(supplies)), clock_(common.clock), suspended_(common.suspended), gauges_(supplies_.batteries().size()) {
    for (size_t i = 0; i < gauges_.size(); ++i) {
      const Battery& battery = supplies_.batteries()[i];
      const std::string stem = battery.folder + (battery.gauge == Gauge::kEnergy ? "/energy_" : "/charge_");
      for (const char* file : {"now", "full", "full_design"}) {
        if (absl::StatusOr<int64_t> count = ReadCountFile(stem + file); count.ok()) gauges_[i].step = std::gcd(gauges_[i].step, *count);
      }
    }
  }

  std::string_view name() const override { return "battery"; }
  EnergyTier tier() const override { return EnergyTier::kDevice; }
  absl::Duration SamplePeriod() const override { return absl::Seconds(1); }
  std::string Describe() const override {
    return absl::StrCat("battery: fall of the level of ", supplies_.Label(), ", which the gauge shows in steps; ", kCovers);
  }

  absl::Status Start() override {
    Open(clock_->Monotonic());
    last_.reset();
    FEDWATT_RETURN_IF_ERROR(Look());
    Open(last_->at);
    return absl::OkStatus();
  }
  void Sample() override {
    if (!last_.has_value()) return;
    // What happened to the level meanwhile is not known to be the device's alone.
    if (absl::Status looked = Look(); absl::IsFailedPrecondition(looked)) missing_ = true;
  }
  EnergyReading Read() override {
    EnergyReading reading;
    const bool had_start = last_.has_value();
    const absl::Status looked = had_start || opened_.has_value() ? Look() : absl::FailedPreconditionError("not started");
    const absl::Duration at = looked.ok() ? last_->at : clock_->Monotonic();
    if (opened_.has_value()) reading.window = at - *opened_;
    if (!looked.ok()) {
      last_.reset();
    } else if (had_start && !missing_) {
      double low = 0, high = 0;
      for (LevelGauge& gauge : gauges_) {
        low += std::max(0.0, gauge.fallen - gauge.StepJoules());
        high += gauge.fallen + gauge.StepJoules();
        reading.energy = reading.energy.value_or(Energy()) + Joules(gauge.fallen);
      }
      reading.low = std::min(Joules(low), *reading.energy);
      reading.high = std::max(Joules(high), *reading.energy);
      reading.tier = tier();
      reading.source = "battery";
      reading.domain = supplies_.Label();
    }
    if (opened_.has_value()) Open(at);
    return reading;
  }

 private:
  struct LevelGauge {
    int64_t step = 0;            // greatest common divisor of all its numbers
    int64_t largest_fall = 0;    // between two samples
    double joules_per_count = 0; // now
    double fallen = 0;           // joules of the open window
    double StepJoules() const { return static_cast<double>(std::max(step, largest_fall)) * joules_per_count; }
  };
  struct Point {
    absl::Duration at, suspended;
    std::vector<int64_t> level;
    std::vector<double> joules_per_count;
  };

  // Reads all levels and books their falls since the look before.
  absl::Status Look() {
    FEDWATT_RETURN_IF_ERROR(supplies_.Discharging());
    Point now{clock_->Monotonic(), suspended_(), {}, {}};
    for (const Battery& battery : supplies_.batteries()) {
      if (battery.gauge == Gauge::kEnergy) {
        FEDWATT_ASSIGN_OR_RETURN(now.level.emplace_back(), ReadCountFile(battery.folder + "/energy_now"));
        now.joules_per_count.push_back(kMicroWattHour);
      } else {
        FEDWATT_ASSIGN_OR_RETURN(now.level.emplace_back(), ReadCountFile(battery.folder + "/charge_now"));
        FEDWATT_ASSIGN_OR_RETURN(const int64_t microvolts, ReadCountFile(battery.folder + "/voltage_now"));
        now.joules_per_count.push_back(kMicroWattHour * static_cast<double>(microvolts) * 1e-6);
      }
    }
    if (last_.has_value()) missing_ |= now.suspended - last_->suspended >= kShortestSleep;
    for (size_t i = 0; i < gauges_.size(); ++i) {
      LevelGauge& gauge = gauges_[i];
      gauge.joules_per_count = now.joules_per_count[i];
      gauge.step = std::gcd(gauge.step, now.level[i]);
      if (!last_.has_value()) continue;
      const int64_t fall = last_->level[i] - now.level[i];
      const double joules = static_cast<double>(fall) * (last_->joules_per_count[i] + now.joules_per_count[i]) / 2;
      // A level that rises while the battery discharges was corrected by its gauge; one that falls so fast was, too.
      const double most = kMostWatts * absl::ToDoubleSeconds(now.at - last_->at + kSlowestGauge);
      if (fall < 0 || joules > most) {
        missing_ = true;
        continue;
      }
      gauge.largest_fall = std::max(gauge.largest_fall, fall);
      gauge.fallen += joules;
    }
    last_ = std::move(now);
    return absl::OkStatus();
  }

  void Open(absl::Duration at) {
    opened_ = at;
    missing_ = false;
    for (LevelGauge& gauge : gauges_) gauge.fallen = 0;
  }

  static constexpr double kMostWatts = 300;
  static constexpr absl::Duration kSlowestGauge = absl::Minutes(1);

  const Supplies supplies_;
  const Clock* const clock_;
  const std::function<absl::Duration()> suspended_;
  std::vector<LevelGauge> gauges_;  // one a battery
  std::optional<Point> last_;   // absent after a failed read at an edge
  std::optional<absl::Duration> opened_;
  bool missing_ = false;
};

absl::StatusOr<std::unique_ptr<Meter>> Create(const MeterOptions& options) {
  if (options.thread_scope) return absl::UnimplementedError("a battery feeds a whole device; it cannot tell one thread's joules from another's");
  const std::string folder = Below(options.root, "/sys/class/power_supply");
  std::set<std::string> wanted;
  for (absl::string_view name : absl::StrSplit(options.source, ',', absl::SkipEmpty())) wanted.emplace(absl::StripAsciiWhitespace(name));
  std::vector<Battery> batteries;
  std::vector<std::string> mains;
  const auto refuse = [&options](const std::string& name, const std::string& why) {
    if (options.on_domain) options.on_domain({name, why});
  };
  for (const std::string& name : ListFolder(folder)) {
    const std::string supply = folder + "/" + name;
    const std::string type = ReadWordFile(supply + "/type");
    if (type != "Battery") {
      if (!type.empty()) mains.push_back(supply);
      continue;
    }
    const auto has = [&supply](const char* file) { return ReadIntegerFile(supply + "/" + file).ok(); };
    if (ReadWordFile(supply + "/scope") == "Device") {
      refuse(name, "belongs to a mouse, a pen or the like");
    } else if (ReadWordFile(supply + "/present") == "0") {
      refuse(name, "not present");
    } else if (!wanted.empty() && wanted.count(name) == 0) {
      refuse(name, "not named in energy.source");
    } else if (has("power_now")) {
      batteries.push_back({name, supply, Gauge::kPower});
    } else if (has("current_now") && has("voltage_now")) {
      batteries.push_back({name, supply, Gauge::kCurrent});
    } else if (has("energy_now")) {
      batteries.push_back({name, supply, Gauge::kEnergy});
    } else if (has("charge_now") && has("voltage_now")) {
      batteries.push_back({name, supply, Gauge::kCharge});
    } else {
      refuse(name, "its gauge shows neither power nor energy");
    }
  }
  if (batteries.empty()) return absl::UnimplementedError(absl::StrCat("no battery whose gauge can be used under ", folder));
  const auto is_level = [](const Battery& battery) { return battery.gauge == Gauge::kEnergy || battery.gauge == Gauge::kCharge; };
  const bool level = std::any_of(batteries.begin(), batteries.end(), is_level);
  if (level && !std::all_of(batteries.begin(), batteries.end(), is_level)) {
    return absl::UnimplementedError("the batteries have gauges of two kinds; remedy: name one battery in energy.source");
  }
  const std::vector<Battery> found = batteries;
  Supplies supplies(std::move(batteries), std::move(mains));
  const absl::Status state = supplies.Discharging();
  for (const Battery& battery : found) refuse(battery.name, state.ok() ? "" : absl::StrCat(state.message(), "; remedy: unplug the charger"));
  if (!state.ok()) return absl::UnavailableError(absl::StrCat(state.message(), "; remedy: unplug the charger"));
  if (level) return std::make_unique<LevelMeter>(std::move(supplies), options);
  PowerMeterOptions made;
  made.name = "battery";
  made.covers = kCovers;
  const std::string label = supplies.Label();
  made.sources.push_back({label, [supplies = std::make_shared<Supplies>(std::move(supplies))] { return supplies->ReadPower(); }});
  return MakePowerMeter(std::move(made), options);
}

}  // namespace

namespace internal {

void InstallMeter_battery(MeterRegistry& registry) {
  FEDWATT_CHECK(registry.Register("battery", MeterEntry{Create, /*preference=*/110}).ok());
}

}  // namespace internal
}  // namespace fedwatt

#include "fedwatt/energy/attribution.h"

#include <algorithm>
#include <optional>
#include <thread>
#include <utility>

#include "absl/numeric/int128.h"
#include "absl/strings/str_cat.h"
#include "fedwatt/base/process.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/energy/calibration.h"
#include "host_cpu.h"

namespace fedwatt {
namespace {

// floor(whole * part / all), in 128 bits.
int64_t Fraction(int64_t whole, int64_t part, int64_t all) {
  return static_cast<int64_t>(absl::int128(whole) * part / all);
}

class SharedMeter : public Meter {
 public:
  SharedMeter(std::unique_ptr<Meter> meter, const MeterOptions& options)
      : meter_(std::move(meter)), root_(options.root), thread_scope_(options.thread_scope) {
    readable_ = internal::ReadHostCpuTimes(root_).status();
    if (options.calibration.empty()) return;
    absl::StatusOr<Calibration> calibration = ReadCalibration(options.calibration);
    if (!calibration.ok()) {
      idle_told_ = std::string(calibration.status().message());
    } else if (calibration->meter != meter_->name() && meter_->name() != "cpu_model") {
      idle_told_ = absl::StrCat(options.calibration, " is about the meter ", calibration->meter);
    } else if (absl::Status fits = calibration->CheckMachine(root_); !fits.ok()) {
      idle_told_ = std::string(fits.message());
    } else {
      idle_ = calibration->idle.power;
    }
  }

  std::string_view name() const override { return meter_->name(); }
  EnergyTier tier() const override { return meter_->tier(); }
  bool CoversMachine() const override { return false; }
  std::string Describe() const override {
    if (!readable_.ok()) return absl::StrCat(meter_->Describe(), "; not shared out: ", std::string(readable_.message()));
    return absl::StrCat(meter_->Describe(), "; of that the part of this ", thread_scope_ ? "thread" : "process", " by CPU time",
                        idle_              ? absl::StrCat("; idle power ", idle_->watts(), " W as calibrated")
                        : idle_told_.empty() ? "; idle power not calibrated"
                                             : absl::StrCat("; idle power not known: ", idle_told_));
  }
  absl::Duration SamplePeriod() const override { return meter_->SamplePeriod(); }
  void Sample() override { meter_->Sample(); }
  absl::Duration TakeSamplingCpu() override { return meter_->TakeSamplingCpu(); }

  absl::Status Start() override {
    FEDWATT_RETURN_IF_ERROR(meter_->Start());
    last_ = Times();
    return absl::OkStatus();
  }

  EnergyReading Read() override {
    EnergyReading reading = meter_->Read();
    if (!readable_.ok()) return reading;
    const std::optional<Point> now = Times();
    const std::optional<Point> last = std::exchange(last_, now);
    EnergyReading missing;
    missing.window = reading.window;
    // Another thread's CPU clock has another origin.
    if (reading.missing() || !now || !last || (thread_scope_ && now->thread != last->thread)) return missing;
    const int64_t mine = std::max<int64_t>(0, absl::ToInt64Nanoseconds(now->mine - last->mine));
    const int64_t busy = std::max<int64_t>(0, absl::ToInt64Nanoseconds(now->busy - last->busy));
    // Both ends of the kernel's count are whole ticks.
    const int64_t ticks = absl::ToInt64Nanoseconds(2 * internal::kTick);
    const int64_t all = std::max({mine, busy, int64_t{1}});
    const int64_t gross_uj = reading.energy->microjoules();
    reading.gross = reading.energy;
    reading.energy = Microjoules(Fraction(gross_uj, mine, all));
    reading.low = Microjoules(Fraction(reading.low.value_or(*reading.gross).microjoules(), mine, std::max(mine, busy + ticks) + 1));
    reading.high = Microjoules(Fraction(reading.high.value_or(*reading.gross).microjoules(), mine, std::max({mine, busy - ticks, int64_t{1}})));
    if (idle_) {
      const int64_t idle_uj = std::min(gross_uj, (*idle_ * reading.window).microjoules());
      reading.idle = Microjoules(Fraction(idle_uj, mine, all));
    }
    reading.domain = absl::StrCat(reading.domain, thread_scope_ ? " by thread" : " by process");
    return reading;
  }

 private:
  struct Point {
    absl::Duration mine, busy;
    std::thread::id thread;
  };

  std::optional<Point> Times() const {
    absl::StatusOr<internal::HostCpuTimes> host = internal::ReadHostCpuTimes(root_);
    if (!host.ok()) return std::nullopt;
    return Point{thread_scope_ ? ThreadCpuTime() : ProcessCpuTime(), host->busy, std::this_thread::get_id()};
  }

  const std::unique_ptr<Meter> meter_;
  const std::string root_;
  const bool thread_scope_;
  absl::Status readable_;
  std::optional<Power> idle_;
  std::string idle_told_;
  std::optional<Point> last_;
};

}  // namespace

std::unique_ptr<Meter> ShareByCpuTime(std::unique_ptr<Meter> meter, const MeterOptions& options) {
  return std::make_unique<SharedMeter>(std::move(meter), options);
}

}  // namespace fedwatt

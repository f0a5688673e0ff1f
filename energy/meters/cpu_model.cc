// The CPU's watts from how busy and how fast its cores are, by a model that `fedwatt calibrate` fitted on this very machine against a meter that
// measures (cpu_model.h). It covers what that meter covered. The interval is the model's own, and as wide as the kernel's ticks leave the busy times open.
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "host_cpu.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/energy/calibration.h"
#include "fedwatt/energy/cpu_model.h"
#include "fedwatt/energy/meter.h"

namespace fedwatt {
namespace {

class CpuModelMeter : public Meter {
 public:
  CpuModelMeter(const MeterOptions& options, Calibration calibration, CpuModel model)
      : clock_(options.clock), calibration_(std::move(calibration)), model_(std::move(model)), activity_(options.root) {}

  std::string_view name() const override { return "cpu_model"; }
  EnergyTier tier() const override { return EnergyTier::kCalibratedHere; }
  std::string Describe() const override {
    const auto& c = model_.coefficients();
    return absl::StrFormat("cpu_model: estimate, %.3g W + %.3g W/GHz + %.3g W/GHz over busy cores, fitted on %s against %s (%s), error left out %.1f %%; all processes and "
                           "idle power included",
                           c[0], c[1], c[2], absl::FormatTime("%Y-%m-%d", calibration_.measured_at, absl::UTCTimeZone()), calibration_.meter, calibration_.covers,
                           100 * model_.left_out_error_fraction());
  }
  // The clock is what it is at an instant, so look often.
  absl::Duration SamplePeriod() const override { return absl::Seconds(1); }

  absl::Status Start() override {
    Open();
    activity_.Read(absl::Seconds(1)).status().IgnoreError();  // an origin
    return absl::OkStatus();
  }
  void Sample() override {
    if (!at_) return;
    const absl::Duration now = clock_->Monotonic(), span = now - *at_;
    if (span <= absl::ZeroDuration()) return;
    at_ = now;
    absl::StatusOr<internal::CpuActivityReader::Window> window = activity_.Read(span);
    if (!window.ok()) {
      missing_ = true;
      return;
    }
    low_ += model_.Predict(window->least).low * span;
    value_ += model_.Predict(window->value).power * span;
    high_ += model_.Predict(window->most).high * span;
  }
  EnergyReading Read() override {
    EnergyReading reading;
    if (!at_) return reading;
    Sample();
    reading.window = *at_ - opened_;
    if (!missing_) {
      reading.energy = value_;
      reading.low = low_;
      reading.high = high_;
      reading.tier = tier();
      reading.source = "cpu_model";
      reading.domain = calibration_.covers;
    }
    Open();
    return reading;
  }

 private:
  void Open() {
    at_ = opened_ = clock_->Monotonic();
    low_ = value_ = high_ = Energy();
    missing_ = false;
  }

  const Clock* const clock_;
  const Calibration calibration_;
  const CpuModel model_;
  internal::CpuActivityReader activity_;
  std::optional<absl::Duration> at_;  // of the last sample
  absl::Duration opened_;
  Energy low_, value_, high_;  // of the open window
  bool missing_ = false;
};

absl::StatusOr<std::unique_ptr<Meter>> Create(const MeterOptions& options) {
  if (options.thread_scope) return absl::UnimplementedError("cpu_model covers the whole CPU; it cannot tell one thread's joules from another's");
  if (options.calibration.empty()) return absl::UnimplementedError("cpu_model needs a calibration, and no file is named; remedy: run fedwatt calibrate");
  absl::StatusOr<Calibration> calibration = ReadCalibration(options.calibration);
  if (absl::IsNotFound(calibration.status())) {
    return absl::UnimplementedError(absl::StrCat("cpu_model: this machine is not calibrated (", options.calibration, "); remedy: run fedwatt calibrate where a better meter is at hand"));
  }
  if (absl::IsPermissionDenied(calibration.status())) return calibration.status();
  if (!calibration.ok()) return absl::UnavailableError(calibration.status().message());
  if (absl::Status readable = internal::ReadHostCpuTimes(options.root).status(); !readable.ok()) {
    return absl::UnimplementedError(absl::StrCat("cpu_model needs the CPUs' busy times: ", std::string(readable.message())));
  }
  if (absl::Status fits = calibration->CheckMachine(options.root); !fits.ok()) return absl::UnavailableError(fits.message());
  absl::StatusOr<CpuModel> model = CpuModel::Fit(calibration->samples);
  if (!model.ok()) return absl::UnavailableError(absl::StrCat(options.calibration, ": ", std::string(model.status().message())));
  return std::make_unique<CpuModelMeter>(options, *std::move(calibration), *std::move(model));
}

}  // namespace

namespace internal {

void InstallMeter_cpu_model(MeterRegistry& registry) {
  FEDWATT_CHECK(registry.Register("cpu_model", MeterEntry{Create, /*preference=*/50}).ok());
}

}  // namespace internal
}  // namespace fedwatt

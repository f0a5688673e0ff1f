#include "power_meter.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "fedwatt/base/process.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt {
namespace {

// Of one core, for reading sensors.
constexpr double kMostCost = 0.004;
constexpr absl::Duration kShortestPeriod = absl::Milliseconds(100), kLongestPeriod = absl::Seconds(2);

class PowerMeter : public Meter {
 public:
  PowerMeter(PowerMeterOptions options, const MeterOptions& common, absl::Duration period)
      : options_(std::move(options)), clock_(common.clock), suspended_(common.suspended), period_(period) {}

  std::string_view name() const override { return options_.name; }
  bool CoversMachine() const override { return options_.covers_machine; }
  EnergyTier tier() const override { return options_.tier; }
  absl::Duration SamplePeriod() const override { return period_; }
  std::string Describe() const override {
    return absl::StrCat(options_.name, ": power of ", Domain(), " integrated over samples every ",
                        absl::StrFormat("%.1f s", absl::ToDoubleSeconds(period_)), "; ", options_.covers,
                        options_.left_out.empty() ? "" : absl::StrCat("; left out: ", absl::StrJoin(options_.left_out, ", ")));
  }

  absl::Status Start() override {
    Open(clock_->Monotonic());
    last_.reset();
    FEDWATT_ASSIGN_OR_RETURN(Point now, ReadAll());
    Open(now.at);
    last_ = now;
    return absl::OkStatus();
  }

  void Sample() override {
    if (!last_.has_value()) return;
    absl::StatusOr<Point> now = ReadAll();
    if (now.ok()) Integrate(*now);
    missing_ |= absl::IsFailedPrecondition(now.status());
  }

  EnergyReading Read() override {
    EnergyReading reading;
    absl::StatusOr<Point> now = ReadAll();
    const absl::Duration at = now.ok() ? now->at : clock_->Monotonic();
    if (opened_.has_value()) reading.window = at - *opened_;
    if (!now.ok()) {
      last_.reset();
    } else if (!last_.has_value()) {
      last_ = *now;  // the sensor is back
    } else {
      Integrate(*now);
      if (!missing_) State(reading);
    }
    Open(at);
    return reading;
  }

 private:
  struct Point {
    absl::Duration at, suspended;
    double least_watts = 0, watts = 0, most_watts = 0;
  };

  absl::StatusOr<Point> ReadAll() const {
    Point point{clock_->Monotonic(), suspended_()};
    for (const PowerSource& source : options_.sources) {
      FEDWATT_ASSIGN_OR_RETURN(PowerSample sample, source.read());
      if (!(sample.watts >= 0 && sample.error_watts >= 0 && sample.watts + sample.error_watts < kMostWatts)) {
        return absl::UnavailableError(absl::StrCat(source.label, ": expected a power up to ", kMostWatts, " W, got ", sample.watts));
      }
      point.least_watts += std::max(0.0, sample.watts - sample.error_watts);
      point.watts += sample.watts;
      point.most_watts += sample.watts + sample.error_watts;
    }
    return point;
  }

  void Integrate(const Point& now) {
    const Point last = *std::exchange(last_, now);
    const absl::Duration span = now.at - last.at;
    missing_ |= span < absl::ZeroDuration() || span > kMostGap || now.suspended - last.suspended >= kShortestSleep;
    const double seconds = absl::ToDoubleSeconds(span);
    least_ += std::min(last.least_watts, now.least_watts) * seconds;
    value_ += (last.watts + now.watts) / 2 * seconds;
    most_ += std::max(last.most_watts, now.most_watts) * seconds;
  }

  void Open(absl::Duration at) {
    opened_ = at;
    least_ = value_ = most_ = 0;
    missing_ = false;
  }

  void State(EnergyReading& reading) const {
    reading.energy = Joules(value_);
    reading.low = std::min(Joules(least_), *reading.energy);
    reading.high = std::max(Joules(most_), *reading.energy);
    reading.tier = options_.tier;
    reading.source = options_.name;
    reading.domain = Domain();
  }

  std::string Domain() const {
    return absl::StrJoin(options_.sources, "+", [](std::string* out, const PowerSource& source) { *out += source.label; });
  }

  static constexpr double kMostWatts = 100'000;

  const PowerMeterOptions options_;
  const Clock* const clock_;
  const std::function<absl::Duration()> suspended_;
  const absl::Duration period_;
  std::optional<Point> last_;               // absent after a failed read at an edge
  std::optional<absl::Duration> opened_;    // the window's start
  double least_ = 0, value_ = 0, most_ = 0; // joules of the open window
  bool missing_ = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Meter>> MakePowerMeter(PowerMeterOptions options, const MeterOptions& common) {
  FEDWATT_CHECK(!options.sources.empty());
  const absl::Duration before = ThreadCpuTime();
  for (const PowerSource& source : options.sources) {
    if (absl::Status read = source.read().status(); !read.ok()) {
      return absl::IsPermissionDenied(read) ? read : absl::UnavailableError(read.message());
    }
  }
  const absl::Duration period = std::clamp((ThreadCpuTime() - before) / kMostCost, kShortestPeriod, kLongestPeriod);
  return std::make_unique<PowerMeter>(std::move(options), common, period);
}

}  // namespace fedwatt

// A meter that invents joules from the injected clock: fixed watts times elapsed time. For tests and demonstrations; `auto`
// never picks it.
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/energy/meter.h"

namespace fedwatt {
namespace {

class FakeMeter : public Meter {
 public:
  FakeMeter(const Clock* clock, Power power) : clock_(clock), power_(power) {}

  std::string_view name() const override { return "fake"; }
  EnergyTier tier() const override { return EnergyTier::kGeneric; }
  bool CoversMachine() const override { return false; }
  std::string Describe() const override {
    return absl::StrCat("fake: invented, ", power_.watts(), " W whatever the device does; for tests");
  }

  absl::Status Start() override {
    last_ = clock_->Monotonic();
    return absl::OkStatus();
  }

  EnergyReading Read() override {
    EnergyReading reading;
    const absl::Duration now = clock_->Monotonic();
    const std::optional<absl::Duration> last = std::exchange(last_, now);
    if (!last.has_value()) return reading;
    reading.window = now - *last;
    reading.energy = reading.low = reading.high = power_ * reading.window;
    reading.tier = tier();
    reading.source = "fake";
    reading.domain = "fake";
    return reading;
  }

 private:
  const Clock* const clock_;
  const Power power_;
  std::optional<absl::Duration> last_;
};

}  // namespace

namespace internal {

void InstallMeter_fake(MeterRegistry& registry) {
  MeterEntry entry;
  entry.create = [](const MeterOptions& options) -> absl::StatusOr<std::unique_ptr<Meter>> {
    return std::make_unique<FakeMeter>(options.clock, Watts(options.watts_per_core > 0 ? options.watts_per_core : 10));
  };
  entry.preference = -1;
  FEDWATT_CHECK(registry.Register("fake", std::move(entry)).ok());
}

}  // namespace internal
}  // namespace fedwatt

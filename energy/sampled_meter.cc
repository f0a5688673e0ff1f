#include "sampled_meter.h"

#include <thread>
#include <utility>

#include "absl/synchronization/mutex.h"
#include "fedwatt/base/process.h"

namespace fedwatt {
namespace {

class SampledMeter : public Meter {
 public:
  explicit SampledMeter(std::unique_ptr<Meter> meter)
      : meter_(std::move(meter)), period_(meter_->SamplePeriod()), thread_([this] { Run(); }) {}
  ~SampledMeter() override {
    {
      absl::MutexLock lock(&mutex_);
      ending_ = true;
    }
    thread_.join();
  }

  // These three never change, so they need no lock.
  std::string_view name() const override { return meter_->name(); }
  EnergyTier tier() const override { return meter_->tier(); }
  std::string Describe() const override { return meter_->Describe(); }
  bool CoversMachine() const override { return meter_->CoversMachine(); }

  absl::Status Start() override {
    absl::MutexLock lock(&mutex_);
    return meter_->Start();
  }
  EnergyReading Read() override {
    absl::MutexLock lock(&mutex_);
    return meter_->Read();
  }
  void Sample() override {
    absl::MutexLock lock(&mutex_);
    meter_->Sample();
  }
  absl::Duration SamplePeriod() const override { return period_; }
  absl::Duration TakeSamplingCpu() override {
    absl::MutexLock lock(&mutex_);
    return std::exchange(cpu_, absl::ZeroDuration());
  }

 private:
  void Run() {
    absl::MutexLock lock(&mutex_);
    absl::Duration before = ThreadCpuTime();
    while (!mutex_.AwaitWithTimeout(absl::Condition(&ending_), period_)) {
      meter_->Sample();
      const absl::Duration now = ThreadCpuTime();
      cpu_ += now - std::exchange(before, now);
    }
  }

  const std::unique_ptr<Meter> meter_;
  const absl::Duration period_;
  absl::Mutex mutex_;  // over *meter_'s windows
  absl::Duration cpu_ ABSL_GUARDED_BY(mutex_);  // of the thread, not asked for yet
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace

std::unique_ptr<Meter> SampleInBackground(std::unique_ptr<Meter> meter) {
  if (meter->SamplePeriod() == absl::InfiniteDuration()) return meter;
  return std::make_unique<SampledMeter>(std::move(meter));
}

}  // namespace fedwatt

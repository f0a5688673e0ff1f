// One meter on a machine of files: no hardware, no privilege, no time but the test's.
#ifndef FEDWATT_TESTS_ENERGY_METER_FIXTURE_H_
#define FEDWATT_TESTS_ENERGY_METER_FIXTURE_H_

#include <map>
#include <memory>
#include <string>

#include "fedwatt/base/clock.h"
#include "fedwatt/energy/meter.h"
#include "tests/energy/fake_root.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt::testing {

class MeterFixture : public ::testing::Test {
 protected:
  explicit MeterFixture(std::string meter) : name_(std::move(meter)) {
    options_.root = root_.path();
    options_.clock = &clock_;
    options_.suspended = [this] { return suspended_; };
    options_.pause = [this](absl::Duration) { Wait(); };
    options_.on_domain = [this](const FoundDomain& domain) { found_[domain.name] = domain.refusal; };
  }
  // What happens while the meter waits for a counter.
  virtual void Wait() {}

  absl::StatusOr<std::unique_ptr<Meter>> Create() {
    found_.clear();
    auto entry = Meters().Find(name_);
    if (!entry.ok()) return entry.status();
    return entry->create(options_);
  }
  std::unique_ptr<Meter> Started() {
    auto meter = Create();
    EXPECT_THAT(meter, IsOk());
    if (!meter.ok()) return nullptr;
    EXPECT_THAT((*meter)->Start(), IsOk());
    return *std::move(meter);
  }
  EnergyReading ReadAfter(Meter& meter, absl::Duration span = absl::Seconds(1)) {
    clock_.Advance(span);
    return meter.Read();
  }

  const std::string name_;
  FakeRoot root_;
  VirtualClock clock_;
  absl::Duration suspended_;
  MeterOptions options_;
  std::map<std::string, std::string> found_;  // refusal by domain, of the last Create
};

}  // namespace fedwatt::testing

#endif  // FEDWATT_TESTS_ENERGY_METER_FIXTURE_H_

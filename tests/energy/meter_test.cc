// What every registered meter promises, and how one is chosen.
#include "fedwatt/energy/meter.h"

#include <fcntl.h>
#include <stdlib.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "fedwatt/energy/calibration.h"
#include "tests/energy/fake_root.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::FakeRoot;
using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class MeterContractTest : public ::testing::TestWithParam<std::string> {
 protected:
  // A root with every source a meter could want, each of 3 W.
  MeterContractTest() {
    root_.Write("proc/cpuinfo", "model name\t: Test CPU\n");
    root_.Write("sys/class/powercap/intel-rapl:0/name", "package-0\n");
    root_.Write("sys/class/powercap/intel-rapl:0/max_energy_range_uj", "262143328850\n");
    root_.Write("sys/class/hwmon/hwmon0/name", "amd_energy\n");
    root_.Write("sys/class/hwmon/hwmon0/energy1_label", "Esocket0\n");
    root_.Write("sys/class/hwmon/hwmon1/name", "ina226\n");
    root_.Write("sys/class/hwmon/hwmon1/power1_input", "3000000\n");
    root_.Write("sys/class/power_supply/BAT0/type", "Battery\n");
    root_.Write("sys/class/power_supply/BAT0/status", "Discharging\n");
    root_.Write("sys/class/power_supply/BAT0/power_now", "3000000\n");
    const std::string pmu = "sys/bus/event_source/devices/power/";
    root_.Write(pmu + "type", "25\n");
    root_.Write(pmu + "cpumask", "0\n");
    root_.Write(pmu + "format/event", "config:0-7\n");
    root_.Write(pmu + "events/energy-pkg", "event=0x02\n");
    root_.Write(pmu + "events/energy-pkg.scale", "1e-6\n");
    root_.Write(pmu + "events/energy-pkg.unit", "Joules\n");
    std::filesystem::create_directories(root_.At("usr/lib"));
    std::filesystem::create_symlink(FEDWATT_FAKE_NVML_LIBRARY, root_.At("usr/lib/libnvidia-ml.so.1"));
    ::setenv("FEDWATT_FAKE_NVML", root_.At("sys/gpus").c_str(), 1);
    root_.Write("sys/gpus/0/name", "gpu\n");
    std::string series = "start_s,end_s,low_uj,energy_uj,high_uj,tier\n";
    for (int i = 0; i < 100; ++i) absl::StrAppend(&series, i, ",", i + 1, ",2900000,3000000,3100000,wall\n");
    root_.Write("series.csv", series);
    Tick();
    options_.root = root_.path();
    options_.clock = &clock_;
    options_.calibration = root_.At("calibration.json");
    Calibration calibration{.host = "h", .machine = MachineForCalibration(root_.path()), .meter = "rapl", .meter_tier = EnergyTier::kComponent, .covers = "package-0"};
    for (int i = 0; i <= 10; ++i) calibration.samples.push_back({{0.1 * i, 0.1 * i}, Watts(1 + 0.2 * i)});
    EXPECT_THAT(WriteCalibration(options_.calibration, calibration), IsOk());
    options_.pause = [this](absl::Duration) {
      if (root_alive_) Move(1);
    };
    options_.open_perf_event = [this](uint32_t, uint64_t, int) -> absl::StatusOr<int> { return ::open(root_.At("perf").c_str(), O_RDONLY | O_CLOEXEC); };
    if (GetParam() == "external") options_.source = "watts:/plug.csv";
    if (GetParam() == "replay") options_.source = "/series.csv";
  }
  ~MeterContractTest() override { ::unsetenv("FEDWATT_FAKE_NVML"); }
  // Time passes, every counter moves and every instrument writes.
  void Tick() {
    clock_.Advance(absl::Seconds(1));
    Move(3000000);
    std::ofstream(root_.At("plug.csv"), std::ios::app) << absl::ToDoubleSeconds(clock_.Monotonic()) << ",3\n";
  }
  void Move(int64_t microjoules) {
    counter_uj_ += microjoules;
    const std::string text = absl::StrCat(counter_uj_, "\n");
    root_.Write("sys/class/powercap/intel-rapl:0/energy_uj", text);
    root_.Write("sys/class/hwmon/hwmon0/energy1_input", text);
    root_.Write("sys/gpus/0/energy", absl::StrCat(counter_uj_ / 1000, "\n"));
    root_.Write("perf", std::string(reinterpret_cast<const char*>(&counter_uj_), sizeof counter_uj_));
    if (microjoules > 1000) ticks_ += 50;
    root_.Write("proc/stat", absl::StrCat("cpu  ", ticks_, " 0 0 1 0 0 0 0 0 0\ncpu0 ", ticks_, " 0 0 1 0 0 0 0 0 0\n"));
  }
  absl::StatusOr<std::unique_ptr<Meter>> Create() {
    auto entry = Meters().Find(GetParam());
    if (!entry.ok()) return entry.status();
    return entry->create(options_);
  }
  void ExpectWhole(const Meter& meter, const EnergyReading& reading) {
    if (reading.missing()) {
      EXPECT_FALSE(reading.low.has_value());
      EXPECT_FALSE(reading.high.has_value());
      EXPECT_EQ(reading.tier, EnergyTier::kMissing);
      EXPECT_EQ(reading.source, "");
      return;
    }
    ASSERT_TRUE(reading.low.has_value() && reading.high.has_value());
    EXPECT_GE(*reading.low, Energy());
    EXPECT_LE(*reading.low, *reading.energy);
    EXPECT_LE(*reading.energy, *reading.high);
    EXPECT_EQ(reading.tier, meter.tier());
    EXPECT_EQ(reading.source, meter.name());
    EXPECT_NE(reading.domain, "");
  }

  FakeRoot root_;
  VirtualClock clock_;
  int64_t counter_uj_ = 0, ticks_ = 0;
  bool root_alive_ = true;
  MeterOptions options_;
};

TEST_P(MeterContractTest, SaysWhatItIs) {
  ASSERT_OK_AND_ASSIGN(auto meter, Create());
  EXPECT_EQ(meter->name(), GetParam());
  EXPECT_NE(meter->tier(), EnergyTier::kMissing);
  EXPECT_THAT(meter->Describe(), HasSubstr(GetParam()));
  EXPECT_EQ(meter->Describe().find('\n'), std::string::npos);
}

TEST_P(MeterContractTest, ReadsConsecutiveWindowsThatAdd) {
  ASSERT_OK_AND_ASSIGN(auto meter, Create());
  ASSERT_THAT(meter->Start(), IsOk());
  EnergyReading sum;
  int64_t microjoules = 0;
  for (int i = 0; i < 3; ++i) {
    Tick();
    EnergyReading reading = meter->Read();
    ASSERT_FALSE(reading.missing());
    ExpectWhole(*meter, reading);
    EXPECT_EQ(reading.window, absl::Seconds(1));
    microjoules += reading.energy->microjoules();
    sum = i == 0 ? reading : AddWindows(sum, reading);
  }
  ExpectWhole(*meter, sum);
  EXPECT_EQ(sum.energy, Microjoules(microjoules));
  EXPECT_EQ(sum.window, absl::Seconds(3));
}

TEST_P(MeterContractTest, ReadBeforeStartIsMissing) {
  ASSERT_OK_AND_ASSIGN(auto meter, Create());
  Tick();
  EnergyReading reading = meter->Read();
  EXPECT_TRUE(reading.missing());
  ExpectWhole(*meter, reading);
}

TEST_P(MeterContractTest, StartAgainForgetsTheTimeBefore) {
  ASSERT_OK_AND_ASSIGN(auto meter, Create());
  ASSERT_THAT(meter->Start(), IsOk());
  for (int i = 0; i < 5; ++i) Tick();
  ASSERT_THAT(meter->Start(), IsOk());
  Tick();
  EnergyReading reading = meter->Read();
  ASSERT_FALSE(reading.missing());
  EXPECT_EQ(reading.window, absl::Seconds(1));
  EXPECT_LE(*reading.energy, Joules(10));  // one second's worth, not six
}

TEST_P(MeterContractTest, RefusesByNameOrWorksUnderAnEmptyRoot) {
  FakeRoot empty;
  for (const std::string& root : {empty.path(), empty.path() + "/absent"}) {
    options_.root = root;
    absl::StatusOr<std::unique_ptr<Meter>> meter = Create();
    if (!meter.ok()) {
      EXPECT_TRUE(absl::IsUnimplemented(meter.status()) || absl::IsPermissionDenied(meter.status()) ||
                  (absl::IsNotFound(meter.status()) && !options_.source.empty()))
          << meter.status();
      EXPECT_NE(meter.status().message(), "");
      continue;
    }
    ASSERT_THAT((*meter)->Start(), IsOk());
    Tick();
    ExpectWhole(**meter, (*meter)->Read());
  }
}

TEST_P(MeterContractTest, IsNeverZeroWhenItsSourceGoes) {
  ASSERT_OK_AND_ASSIGN(auto meter, Create());
  ASSERT_THAT(meter->Start(), IsOk());
  root_alive_ = false;
  root_.Remove("sys");
  root_.Remove("proc");
  for (int i = 0; i < 2; ++i) {
    clock_.Advance(absl::Seconds(1));
    EnergyReading reading = meter->Read();
    ExpectWhole(*meter, reading);
    EXPECT_EQ(reading.window, absl::Seconds(1));
    if (!reading.missing()) {
      EXPECT_GT(*reading.energy, Energy());
    }
  }
}

TEST_P(MeterContractTest, NamesTheSourcesThatItTakes) {
  std::set<std::string> taken;
  options_.on_domain = [&taken](const FoundDomain& domain) {
    EXPECT_NE(domain.name, "");
    if (domain.refusal.empty()) taken.insert(domain.name);
  };
  ASSERT_OK_AND_ASSIGN(auto meter, Create());
  ASSERT_THAT(meter->Start(), IsOk());
  Tick();
  const EnergyReading reading = meter->Read();
  const bool reads_files = !taken.empty();
  EXPECT_EQ(reads_files, GetParam() != "cpu_model" && GetParam() != "cpu_time" && GetParam() != "fake" && GetParam() != "replay");
  if (reads_files) {
    EXPECT_EQ(reading.domain, absl::StrJoin(taken, "+"));
  }
}

TEST_P(MeterContractTest, CoversOneThreadOrRefuses) {
  options_.thread_scope = true;
  absl::StatusOr<std::unique_ptr<Meter>> meter = Create();
  if (!meter.ok()) {
    EXPECT_THAT(meter, StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("thread")));
  }
}

INSTANTIATE_TEST_SUITE_P(All, MeterContractTest, ::testing::ValuesIn(Meters().Names()), [](const auto& info) { return info.param; });

TEST(FakeMeterTest, IsExact) {
  VirtualClock clock;
  MeterOptions options;
  options.clock = &clock;
  options.watts_per_core = 2.5;
  ASSERT_OK_AND_ASSIGN(MeterChoice choice, ChooseMeter("fake", options));
  ASSERT_THAT(choice.meter->Start(), IsOk());
  clock.Advance(absl::Seconds(4));
  EXPECT_EQ(choice.meter->Read().energy, Joules(10));
  EXPECT_EQ(choice.meter->Read().energy, Joules(0));
}

TEST(ChooseMeterTest, KnowsItsMeters) {
  EXPECT_THAT(Meters().Names(), ElementsAre("amd_energy", "battery", "cpu_model", "cpu_time", "external", "fake", "nvml", "rails", "rapl", "rapl_perf", "replay"));
}

// What covers more of the device comes first, and what only `energy.source` or a name can ask for is never taken unasked.
TEST(ChooseMeterTest, AutoRanksByTierAndThenByPreference) {
  FakeRoot root;
  MeterOptions options;
  options.root = root.path();
  options.open_perf_event = [](uint32_t, uint64_t, int) -> absl::StatusOr<int> { return absl::PermissionDeniedError("no"); };
  const auto chosen = [&options] {
    absl::StatusOr<MeterChoice> choice = ChooseMeter("auto", options);
    return choice.ok() && choice->meter != nullptr ? std::string(choice->meter->name()) : "";
  };
  EXPECT_EQ(chosen(), "cpu_time");
  root.Write("sys/class/hwmon/hwmon0/name", "amd_energy\n");
  root.Write("sys/class/hwmon/hwmon0/energy1_label", "Esocket0\n");
  root.Write("sys/class/hwmon/hwmon0/energy1_input", "5\n");
  EXPECT_EQ(chosen(), "amd_energy");
  root.Write("sys/class/powercap/intel-rapl:0/name", "package-0\n");
  root.Write("sys/class/powercap/intel-rapl:0/energy_uj", "5\n");
  EXPECT_EQ(chosen(), "rapl");
  // One rail of a board is no better than a package; the whole board is, and so is a battery.
  root.Write("sys/class/hwmon/hwmon1/name", "ina226\n");
  root.Write("sys/class/hwmon/hwmon1/power1_input", "5\n");
  EXPECT_EQ(chosen(), "rails");
  root.Write("sys/class/power_supply/BAT0/type", "Battery\n");
  root.Write("sys/class/power_supply/BAT0/status", "Discharging\n");
  root.Write("sys/class/power_supply/BAT0/power_now", "5000000\n");
  EXPECT_EQ(chosen(), "battery");
  root.Write("sys/class/hwmon/hwmon1/in1_label", "VDD_IN\n");
  EXPECT_EQ(chosen(), "rails");
  root.Write("plug.csv", "");
  options.source = "watts:/plug.csv";
  EXPECT_EQ(chosen(), "external");
}

TEST(ChooseMeterTest, AutoTakesTheBestAvailableAndSaysWhyNotTheOthers) {
  FakeRoot empty;
  MeterOptions options;
  options.root = empty.path();
  ASSERT_OK_AND_ASSIGN(MeterChoice choice, ChooseMeter("auto", options));
  ASSERT_NE(choice.meter, nullptr);
  EXPECT_EQ(choice.meter->name(), "cpu_time");
  std::vector<std::string> names;
  for (const RefusedMeter& refused : choice.refused) names.push_back(refused.name);
  EXPECT_THAT(names, ElementsAre("external", "rails", "battery", "rapl", "rapl_perf", "amd_energy", "cpu_model"));
  EXPECT_THAT(choice.refused[3].reason, HasSubstr("no RAPL package"));
  EXPECT_EQ(SplitRefusal(choice.refused[3].reason).remedy, "sudo modprobe intel_rapl_msr");
}

TEST(ChooseMeterTest, AutoNeverInventsJoules) {
  MeterOptions options;
  options.root = "/nonexistent";
  options.watts_per_core = 1e9;  // even when every other meter refuses
  ASSERT_OK_AND_ASSIGN(MeterChoice choice, ChooseMeter("auto", options));
  EXPECT_EQ(choice.meter, nullptr);
  ASSERT_EQ(choice.refused.size(), 8u);
  EXPECT_EQ(choice.refused[0].name, "external");  // in the order tried
  EXPECT_EQ(choice.refused[7].name, "cpu_time");
}

TEST(ChooseMeterTest, TheChosenMeterSamplesItselfInTheBackground) {
  struct Counting : Meter {
    explicit Counting(std::atomic<int>* samples) : samples(samples) {}
    std::string_view name() const override { return "counting"; }
    EnergyTier tier() const override { return EnergyTier::kComponent; }
    std::string Describe() const override { return "counting"; }
    absl::Status Start() override { return absl::OkStatus(); }
    void Sample() override { ++*samples; }
    absl::Duration SamplePeriod() const override { return absl::Milliseconds(1); }
    EnergyReading Read() override { return {}; }
    std::atomic<int>* samples;
  };
  static std::atomic<int> samples = 0;
  ASSERT_THAT(Meters().Register("zz_counting", {[](const MeterOptions&) { return std::make_unique<Counting>(&samples); }, -1}), IsOk());
  {
    ASSERT_OK_AND_ASSIGN(MeterChoice choice, ChooseMeter("zz_counting", {}));
    ASSERT_THAT(choice.meter->Start(), IsOk());
    EXPECT_EQ(choice.meter->name(), "counting");
    const absl::Time limit = absl::Now() + absl::Seconds(30);
    while (samples < 5 && absl::Now() < limit) std::this_thread::yield();
    EXPECT_GE(samples, 5);
  }
}

TEST(ChooseMeterTest, NoneIsNoMeter) {
  ASSERT_OK_AND_ASSIGN(MeterChoice choice, ChooseMeter("none", {}));
  EXPECT_EQ(choice.meter, nullptr);
  EXPECT_TRUE(choice.refused.empty());
}

TEST(ChooseMeterTest, ReturnsTheErrorOfAMeterAskedForByName) {
  FakeRoot empty;
  MeterOptions options;
  options.root = empty.path();
  EXPECT_THAT(ChooseMeter("rapl", options), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("no RAPL package")));
  EXPECT_THAT(ChooseMeter("rapel", options), StatusIs(absl::StatusCode::kNotFound, HasSubstr("did you mean 'rapl'?")));
  EXPECT_THAT(ChooseMeter("", options), StatusIs(absl::StatusCode::kNotFound, HasSubstr("known: amd_energy, battery, cpu_model, cpu_time")));
}

}  // namespace
}  // namespace fedwatt

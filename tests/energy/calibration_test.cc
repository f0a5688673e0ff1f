// Calibration, and the meter that uses it, on a made-up machine with a known law of power.
#include "fedwatt/energy/calibration.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "fedwatt/base/file.h"
#include "tests/energy/fake_root.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::FakeRoot;
using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

// Two cores of two hardware threads at 2 GHz: 0 and 2, 1 and 3. watts = 6 + 5 apart_ghz + 3 together_ghz.
class CalibrationTest : public ::testing::Test {
 protected:
  static constexpr double kIdle = 6, kApart = 5, kTogether = 3, kGhz = 2;

  CalibrationTest() {
    root_.Write("proc/cpuinfo", "model name\t: Test CPU\n");
    for (int cpu = 0; cpu < 4; ++cpu) {
      const std::string folder = absl::StrCat("sys/devices/system/cpu/cpu", cpu);
      root_.Write(folder + "/topology/thread_siblings_list", cpu % 2 == 0 ? "0,2\n" : "1,3\n");
      root_.Write(folder + "/cpufreq/scaling_cur_freq", "2000000\n");
      root_.Write(folder + "/cpufreq/scaling_governor", "schedutil\n");
    }
    root_.Write("sys/class/powercap/intel-rapl:0/name", "package-0\n");
    root_.Write("sys/class/powercap/intel-rapl:0/max_energy_range_uj", "262143328850\n");
    Write();
    options_.duration = absl::Seconds(60);
    options_.meter_options.root = root_.path();
    options_.meter_options.clock = &clock_;
    options_.meter_options.pause = [this](absl::Duration) {
      counter_uj_ += 1;
      Write();
    };
    options_.load = [this](int threads, double duty, absl::Duration span) {
      Pass(threads, duty, span);
      return absl::OkStatus();
    };
    options_.progress = [this](const std::string&) { ++steps_; };
  }
  double Watts(int threads, double duty) const {
    double apart = 0, together = 0;
    for (int core = 0; core < 2; ++core) {
      const double first = threads > core ? duty : 0, second = threads > core + 2 ? duty : 0;
      apart += kGhz / 2 * (1 - (1 - first) * (1 - second));
      together += kGhz / 2 * std::max(first, second);
    }
    return kIdle + kApart * apart + kTogether * together;
  }
  // Threads go to cores of their own first.
  void Pass(int threads, double duty, absl::Duration span) {
    clock_.Advance(span);
    const double seconds = absl::ToDoubleSeconds(span);
    for (int cpu = 0; cpu < 4; ++cpu) {
      if (cpu < threads) busy_[cpu] += 100 * duty * seconds;
    }
    counter_uj_ += 1e6 * seconds * Watts(threads, duty) * (1 + noise_ * std::sin(++calls_));
    Write();
  }
  void Write() {
    std::string stat = "cpu  0 0 0 0 0 0 0 0 0 0\n";
    for (int cpu = 0; cpu < 4; ++cpu) absl::StrAppend(&stat, "cpu", cpu, " ", static_cast<int64_t>(busy_[cpu]), " 0 0 1 0 0 0 0 0 0\n");
    root_.Write("proc/stat", stat);
    root_.Write("sys/class/powercap/intel-rapl:0/energy_uj", absl::StrCat(static_cast<int64_t>(counter_uj_)));
  }

  FakeRoot root_;
  VirtualClock clock_;
  CalibrateOptions options_;
  double busy_[4] = {}, counter_uj_ = 1e6, noise_ = 0;
  int calls_ = 0, steps_ = 0;
};

TEST_F(CalibrationTest, RecoversTheLawOfPower) {
  const absl::Duration start = clock_.Monotonic();
  ASSERT_OK_AND_ASSIGN(const Calibration made, Calibrate(options_));
  EXPECT_NEAR(absl::ToDoubleSeconds(clock_.Monotonic() - start), 60, 3);
  EXPECT_EQ(steps_, 1 + 3 * 4) << "idle; 1, 2 and 4 threads at four duties";
  EXPECT_NEAR(made.idle.power.watts(), kIdle, 0.01);
  EXPECT_LE(made.idle.low, made.idle.power);
  EXPECT_GE(made.idle.high, made.idle.power);
  EXPECT_EQ(made.meter, "rapl");
  EXPECT_EQ(made.meter_tier, EnergyTier::kComponent);
  EXPECT_EQ(made.covers, "package-0");
  EXPECT_EQ(made.machine, "Test CPU, 4 CPUs, clock from cpufreq, governor 'schedutil', power ''");
  ASSERT_OK_AND_ASSIGN(const CpuModel model, CpuModel::Fit(made.samples));
  EXPECT_NEAR(model.coefficients()[0], kIdle, 0.1);
  EXPECT_NEAR(model.coefficients()[1], kApart, 0.2);
  EXPECT_NEAR(model.coefficients()[2], kTogether, 0.2);
  EXPECT_LT(model.left_out_error_fraction(), 0.01);
}

TEST_F(CalibrationTest, TheMeterPredictsFromAFileWithAnIntervalThatHoldsTheTruth) {
  noise_ = 0.04;
  ASSERT_OK_AND_ASSIGN(const Calibration made, Calibrate(options_));
  MeterOptions options = options_.meter_options;
  options.share = false;
  options.calibration = root_.At("config/calibration.json");
  ASSERT_THAT(WriteCalibration(options.calibration, made), IsOk());
  EXPECT_EQ(ChooseMeter("auto", options)->meter->name(), "rapl") << "what measures goes first";
  root_.Remove("sys/class/powercap");
  ASSERT_OK_AND_ASSIGN(MeterChoice choice, ChooseMeter("auto", options));
  ASSERT_NE(choice.meter, nullptr);
  EXPECT_EQ(choice.meter->name(), "cpu_model");
  EXPECT_EQ(choice.meter->tier(), EnergyTier::kCalibratedHere);
  ASSERT_OK_AND_ASSIGN(const MeterEntry entry, Meters().Find("cpu_model"));
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Meter> meter, entry.create(options));
  EXPECT_THAT(meter->Describe(), AllOf(HasSubstr("estimate"), HasSubstr("against rapl (package-0)")));
  ASSERT_THAT(meter->Start(), IsOk());
  int inside = 0, windows = 0;
  for (int threads : {0, 1, 2, 3, 4}) {
    for (double duty : {0.1, 0.4, 0.6, 0.9, 1.0}) {
      for (absl::Duration span : {absl::Seconds(2), absl::Milliseconds(100)}) {
        Pass(threads, duty, span);
        const double truth = Watts(threads, duty) * absl::ToDoubleSeconds(span);
        const EnergyReading reading = meter->Read();
        ASSERT_FALSE(reading.missing());
        EXPECT_EQ(reading.window, span);
        EXPECT_EQ(reading.source, "cpu_model");
        EXPECT_EQ(reading.domain, "package-0");
        ++windows;
        inside += reading.low->joules() <= truth && truth <= reading.high->joules();
        EXPECT_NEAR(reading.energy->joules() / truth, 1, span > absl::Seconds(1) ? 0.05 : 0.25);
      }
    }
  }
  EXPECT_GE(inside, windows * 9 / 10);
}

TEST_F(CalibrationTest, RefusesWithoutAMeterThatMeasures) {
  root_.Remove("sys/class/powercap");
  EXPECT_THAT(Calibrate(options_), StatusIs(absl::StatusCode::kFailedPrecondition, AllOf(HasSubstr("there is none"), HasSubstr("no RAPL package"))));
  for (const char* name : {"cpu_time", "fake", "none"}) {
    options_.meter = name;
    EXPECT_THAT(Calibrate(options_), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("needs a meter that measures"))) << name;
  }
  options_.meter = "rapl";
  EXPECT_THAT(Calibrate(options_), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("")));
  options_.meter = "raple";
  EXPECT_THAT(Calibrate(options_), StatusIs(absl::StatusCode::kNotFound, HasSubstr("")));
  options_.meter = "auto";
  for (absl::Duration span : {absl::Seconds(9), -absl::Seconds(60), absl::InfiniteDuration()}) {
    options_.duration = span;
    EXPECT_THAT(Calibrate(options_), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("duration")));
  }
}

TEST_F(CalibrationTest, StopsWhenTheMeterDoes) {
  options_.load = [this](int threads, double duty, absl::Duration span) {
    Pass(threads, duty, span);
    if (threads > 0) root_.Remove("sys/class/powercap/intel-rapl:0/energy_uj");
    return absl::OkStatus();
  };
  options_.meter_options.pause = [](absl::Duration) {};
  EXPECT_THAT(Calibrate(options_), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("rapl gave no joules")));
}

TEST_F(CalibrationTest, TheFileIsReadBackAndDamageIsFound) {
  ASSERT_OK_AND_ASSIGN(const Calibration made, Calibrate(options_));
  const std::string path = root_.At("c.json");
  ASSERT_THAT(WriteCalibration(path, made), IsOk());
  ASSERT_OK_AND_ASSIGN(const Calibration back, ReadCalibration(path));
  EXPECT_EQ(back.machine, made.machine);
  EXPECT_EQ(absl::ToUnixSeconds(back.measured_at), absl::ToUnixSeconds(made.measured_at));
  EXPECT_EQ(back.idle.power, made.idle.power);
  EXPECT_EQ(back.idle.block, made.idle.block);
  ASSERT_EQ(back.samples.size(), made.samples.size());
  EXPECT_EQ(back.samples[7].power, made.samples[7].power);
  EXPECT_EQ(back.samples[7].activity.together_ghz, made.samples[7].activity.together_ghz);

  ASSERT_OK_AND_ASSIGN(const std::string text, ReadFile(path));
  const std::pair<const char*, const char*> spoilt[] = {{"fedwatt.calibration.v1", "fedwatt.calibration.v9"}, {"\"host\"", "\"hast\""}, {"\"component\"", "\"generic\""},
                                                        {"\"low_watts\": ", "\"low_watts\": 9"},               {"\"samples\": [", "\"samples\": 3, \"x\": ["},
                                                        {"\"measured_at\": \"", "\"measured_at\": \"x"},         {"\"together_ghz\": ", "\"together_ghz\": -1"},
                                                        {"\"apart_ghz\": ", "\"apart_ghz\": null, \"x\": "},     {"{", "["}};
  MeterOptions options = options_.meter_options;
  options.calibration = path;
  for (const auto& [from, to] : spoilt) {
    const std::string changed = text.substr(0, text.find(from)) + to + text.substr(text.find(from) + std::string(from).size());
    ASSERT_NE(changed, text);
    ASSERT_THAT(WriteFileAtomically(path, changed), IsOk());
    EXPECT_THAT(ReadCalibration(path), StatusIs(absl::StatusCode::kDataLoss, HasSubstr(path))) << to;
    EXPECT_THAT(ChooseMeter("cpu_model", options), StatusIs(absl::StatusCode::kUnavailable, HasSubstr(""))) << to;
  }
  EXPECT_THAT(ReadCalibration(root_.At("absent")), StatusIs(absl::StatusCode::kNotFound, HasSubstr("")));
}

TEST_F(CalibrationTest, AnotherMachineOrStateIsRefused) {
  ASSERT_OK_AND_ASSIGN(const Calibration made, Calibrate(options_));
  MeterOptions options = options_.meter_options;
  options.calibration = root_.At("c.json");
  EXPECT_THAT(ChooseMeter("cpu_model", options), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("run fedwatt calibrate")));
  ASSERT_THAT(WriteCalibration(options.calibration, made), IsOk());
  EXPECT_THAT(ChooseMeter("cpu_model", options), IsOk());
  root_.Write("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n");
  EXPECT_THAT(ChooseMeter("cpu_model", options), StatusIs(absl::StatusCode::kUnavailable, AllOf(HasSubstr("schedutil"), HasSubstr("powersave"))));
  root_.Write("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "schedutil\n");
  root_.Write("sys/class/power_supply/AC/type", "Mains\n");
  root_.Write("sys/class/power_supply/AC/online", "0\n");
  EXPECT_THAT(ChooseMeter("cpu_model", options), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("power 'battery'")));
}

TEST_F(CalibrationTest, ACpuThatComesOrGoesCostsOneWindow) {
  ASSERT_OK_AND_ASSIGN(const Calibration made, Calibrate(options_));
  MeterOptions options = options_.meter_options;
  options.calibration = root_.At("c.json");
  ASSERT_THAT(WriteCalibration(options.calibration, made), IsOk());
  ASSERT_OK_AND_ASSIGN(const MeterEntry entry, Meters().Find("cpu_model"));
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Meter> meter, entry.create(options));
  ASSERT_THAT(meter->Start(), IsOk());
  clock_.Advance(absl::Seconds(1));
  ASSERT_OK_AND_ASSIGN(const std::string stat, ReadFile(root_.At("proc/stat")));
  root_.Write("proc/stat", stat.substr(0, stat.find("cpu3")));
  EXPECT_TRUE(meter->Read().missing());
  Write();
  clock_.Advance(absl::Seconds(1));
  EXPECT_TRUE(meter->Read().missing()) << "its start lacks a CPU";
  Pass(2, 1, absl::Seconds(1));
  EXPECT_FALSE(meter->Read().missing());
}

}  // namespace
}  // namespace fedwatt

#include <memory>
#include <string>
#include <thread>

#include "fedwatt/base/process.h"
#include "fedwatt/energy/meter.h"
#include "tests/energy/fake_root.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::FakeRoot;
using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::HasSubstr;

void Burn(absl::Duration cpu) {
  const absl::Duration end = ThreadCpuTime() + cpu;
  while (ThreadCpuTime() < end) {
  }
}

std::unique_ptr<Meter> Make(const MeterOptions& options) {
  auto choice = ChooseMeter("cpu_time", options);
  EXPECT_THAT(choice, IsOk());
  return choice.ok() ? std::move(choice->meter) : nullptr;
}

TEST(CpuTimeTest, BooksCpuSecondsTimesWatts) {
  MeterOptions options;
  options.watts_per_core = 5;
  auto meter = Make(options);
  const absl::Duration before = ProcessCpuTime();
  ASSERT_THAT(meter->Start(), IsOk());
  Burn(absl::Milliseconds(40));
  EnergyReading reading = meter->Read();
  const absl::Duration around = ProcessCpuTime() - before;
  ASSERT_FALSE(reading.missing());
  EXPECT_GE(*reading.energy, Watts(5) * absl::Milliseconds(40));
  EXPECT_LE(*reading.energy, Watts(5) * around);
  EXPECT_NEAR(reading.low->joules() * 3, reading.energy->joules(), 2e-6);
  EXPECT_NEAR(reading.high->joules(), reading.energy->joules() * 3, 2e-6);
  EXPECT_EQ(reading.tier, EnergyTier::kGeneric);
  EXPECT_EQ(reading.source, "cpu_time");
  EXPECT_EQ(reading.domain, "process cpu");
}

TEST(CpuTimeTest, ThreadScopeLeavesOtherThreadsOut) {
  MeterOptions options;
  options.watts_per_core = 1;
  auto process = Make(options);
  options.thread_scope = true;
  auto thread = Make(options);
  ASSERT_THAT(process->Start(), IsOk());
  ASSERT_THAT(thread->Start(), IsOk());
  std::thread([] { Burn(absl::Milliseconds(60)); }).join();
  EnergyReading own = thread->Read();
  EnergyReading all = process->Read();
  EXPECT_EQ(own.domain, "thread cpu");
  EXPECT_GE(*all.energy - *own.energy, Joules(0.059));
  EXPECT_LT(*own.energy, Joules(0.03));
}

TEST(CpuTimeTest, ThreadSharesNeverExceedTheProcess) {
  MeterOptions options;
  options.watts_per_core = 1;
  auto process = Make(options);
  ASSERT_THAT(process->Start(), IsOk());
  Energy shares[2];
  std::thread threads[2];
  for (int i = 0; i < 2; ++i) {
    threads[i] = std::thread([i, &shares, options]() mutable {
      options.thread_scope = true;
      auto meter = Make(options);
      ASSERT_THAT(meter->Start(), IsOk());
      Burn(absl::Milliseconds(20));
      shares[i] = *meter->Read().energy;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GE(shares[0] + shares[1], Joules(0.04));
  EXPECT_LE(shares[0] + shares[1], *process->Read().energy + Microjoules(2));
}

TEST(CpuTimeTest, ThreadScopeReadFromAnotherThreadIsMissing) {
  MeterOptions options;
  options.thread_scope = true;
  auto meter = Make(options);
  ASSERT_THAT(meter->Start(), IsOk());
  std::thread([&] { EXPECT_TRUE(meter->Read().missing()); }).join();
}

TEST(CpuTimeTest, TakesTheWattsOfTheModelItFinds) {
  FakeRoot root;
  MeterOptions options;
  options.root = root.path();
  EXPECT_THAT(Make(options)->Describe(), HasSubstr("unknown"));
  root.Write("proc/cpuinfo", "processor\t: 0\nmodel name\t: AMD EPYC 9654 96-Core Processor\n");
  EXPECT_THAT(Make(options)->Describe(), HasSubstr("2.5 W a busy core (built-in table, EPYC)"));
  root.Write("proc/device-tree/model", std::string("Raspberry Pi 4 Model B Rev 1.4\0", 31));
  EXPECT_THAT(Make(options)->Describe(), HasSubstr("1.13 W a busy core (built-in table, Raspberry Pi 4)"));
  options.watts_per_core = 7;
  EXPECT_THAT(Make(options)->Describe(), HasSubstr("7 W a busy core (as configured)"));
}

TEST(CpuTimeTest, SurvivesAGarbageCpuinfo) {
  FakeRoot root;
  MeterOptions options;
  options.root = root.path();
  for (const char* text : {"", "model name", "model name\n:", "\xff\xfe:\n"}) {
    root.Write("proc/cpuinfo", text);
    EXPECT_THAT(Make(options)->Describe(), HasSubstr("unknown")) << text;
  }
}

TEST(CpuTimeTest, ValidatesTheWatts) {
  MeterOptions options;
  for (double watts : {0.0, -1.0, 1e-9, 1000.0}) {
    options.watts_per_core = watts;
    EXPECT_THAT(ChooseMeter("cpu_time", options), IsOk()) << watts;
  }
  for (double watts : {1000.1, std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(),
                       std::numeric_limits<double>::quiet_NaN()}) {
    options.watts_per_core = watts;
    EXPECT_THAT(ChooseMeter("cpu_time", options), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("watts_per_core"))) << watts;
  }
}

}  // namespace
}  // namespace fedwatt

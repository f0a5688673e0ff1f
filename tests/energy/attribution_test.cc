#include "fedwatt/energy/attribution.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "fedwatt/base/process.h"
#include "fedwatt/energy/calibration.h"
#include "tests/energy/fake_root.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::FakeRoot;
using ::fedwatt::testing::IsOk;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Le;

// Less than a millijoule more: what the counter moved while it was waited for.
MATCHER_P(Near, energy, absl::StrCat("about ", energy.joules(), " J")) { return arg >= energy && arg < energy + Microjoules(1000); }

void Burn(absl::Duration cpu) {
  const absl::Duration end = ProcessCpuTime() + cpu;
  while (ProcessCpuTime() < end) {
  }
}

class SharedMeterTest : public ::testing::Test {
 protected:
  SharedMeterTest() {
    root_.Write("sys/class/powercap/intel-rapl:0/name", "package-0\n");
    root_.Write("sys/class/powercap/intel-rapl:0/max_energy_range_uj", "262143328850\n");
    root_.Write("proc/cpuinfo", "model name\t: Test CPU\n");
    Advance(absl::Seconds(1), 0, 0);
    options_.root = root_.path();
    options_.clock = &clock_;
    options_.pause = [this](absl::Duration) { Move(1); };
  }
  // `busy_ticks` of 10 ms over all CPUs, spread over the fields that count.
  void Advance(absl::Duration span, int64_t busy_ticks, int64_t energy_uj) {
    clock_.Advance(span);
    busy_ += busy_ticks;
    const std::string times = absl::StrCat(" ", busy_ / 2, " 0 ", busy_ - busy_ / 2, " 777 88 0 0 5 6 7\n");
    root_.Write("proc/stat", absl::StrCat("cpu ", times, "cpu0", times, "intr 1\n"));
    Move(energy_uj);
  }
  // The meter waits for the counter to move, so it must.
  void Move(int64_t energy_uj) {
    absl::MutexLock lock(&mutex_);
    counter_ += energy_uj;
    // In one write, and always as long, for other processes read it meanwhile.
    const std::string text = absl::StrFormat("%012d\n", counter_);
    const std::string path = root_.At("sys/class/powercap/intel-rapl:0/energy_uj");
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT, 0644);
    EXPECT_EQ(pwrite(fd, text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
    close(fd);
  }
  std::unique_ptr<Meter> Make() {
    absl::StatusOr<MeterChoice> choice = ChooseMeter("rapl", options_);
    EXPECT_THAT(choice, IsOk());
    return choice.ok() ? std::move(choice->meter) : nullptr;
  }

  FakeRoot root_;
  VirtualClock clock_;
  MeterOptions options_;
  absl::Mutex mutex_;
  int64_t busy_ = 100, counter_ = 1000000;
};

TEST_F(SharedMeterTest, ReadsThisProcessesPartAndKeepsTheWhole) {
  std::unique_ptr<Meter> meter = Make();
  EXPECT_THAT(meter->Describe(), AllOf(HasSubstr("part of this process by CPU time"), HasSubstr("idle power not calibrated")));
  EXPECT_FALSE(meter->CoversMachine());
  const absl::Duration before = ProcessCpuTime();
  ASSERT_THAT(meter->Start(), IsOk());
  const absl::Duration started = ProcessCpuTime();
  Burn(absl::Milliseconds(50));
  Advance(absl::Seconds(10), 1000, 100'000'000);  // all processes: 10 s
  const absl::Duration burnt = ProcessCpuTime();
  const EnergyReading reading = meter->Read();
  const absl::Duration after = ProcessCpuTime();
  ASSERT_FALSE(reading.missing());
  EXPECT_THAT(*reading.gross, Near(Joules(100)));
  // 10 J a second of CPU time.
  EXPECT_GE(reading.energy->joules(), 10 * absl::ToDoubleSeconds(burnt - started) - 1e-6);
  EXPECT_LE(reading.energy->joules(), 10 * absl::ToDoubleSeconds(after - before) + 1e-6);
  EXPECT_LE(*reading.low, *reading.energy);
  EXPECT_GE(*reading.high, *reading.energy);
  EXPECT_EQ(reading.idle, std::nullopt);
  EXPECT_EQ(reading.tier, EnergyTier::kComponent);
  EXPECT_EQ(reading.domain, "package-0 by process");
  EXPECT_EQ(reading.window, absl::Seconds(10));
}

TEST_F(SharedMeterTest, AProcessThatDidAllHasAllAndNeverMore) {
  std::unique_ptr<Meter> meter = Make();
  ASSERT_THAT(meter->Start(), IsOk());
  Burn(absl::Milliseconds(30));
  Advance(absl::Seconds(1), 1, 5'000'000);  // the kernel shows fewer ticks than there were
  const EnergyReading reading = meter->Read();
  EXPECT_THAT(*reading.energy, Near(Joules(5)));
  EXPECT_EQ(reading.energy, reading.gross);
  EXPECT_LT(*reading.low, *reading.energy) << "by ticks, others may have run too";
}

TEST_F(SharedMeterTest, TellsIdlePowerWhereItWasMeasured) {
  options_.calibration = root_.At("calibration.json");
  Calibration calibration{.host = "h", .machine = MachineForCalibration(root_.path()), .measured_at = absl::FromUnixSeconds(1), .meter = "rapl",
                          .meter_tier = EnergyTier::kComponent, .covers = "package-0", .idle = {Watts(4), Watts(4), Watts(4), 5, absl::Seconds(6)}, .samples = {}};
  ASSERT_THAT(WriteCalibration(options_.calibration, calibration), IsOk());
  std::unique_ptr<Meter> meter = Make();
  EXPECT_THAT(meter->Describe(), HasSubstr("idle power 4 W as calibrated"));
  ASSERT_THAT(meter->Start(), IsOk());
  Burn(absl::Milliseconds(30));
  Advance(absl::Seconds(1), 1, 10'000'000);
  EnergyReading reading = meter->Read();
  EXPECT_THAT(*reading.energy, Near(Joules(10)));
  EXPECT_EQ(reading.idle, Joules(4));
  // A package below its idle power has no dynamic part, and no negative one.
  Burn(absl::Milliseconds(30));
  Advance(absl::Seconds(1), 1, 3'000'000);
  reading = meter->Read();
  EXPECT_THAT(*reading.energy, Near(Joules(3)));
  EXPECT_EQ(reading.idle, reading.energy);

  calibration.meter = "another";
  ASSERT_THAT(WriteCalibration(options_.calibration, calibration), IsOk());
  EXPECT_THAT(Make()->Describe(), HasSubstr("idle power not known"));
  calibration.meter = "rapl";
  calibration.machine = "another";
  ASSERT_THAT(WriteCalibration(options_.calibration, calibration), IsOk());
  EXPECT_THAT(Make()->Describe(), HasSubstr("calibrated for another machine"));
}

TEST_F(SharedMeterTest, StaysWholeWhenAskedToOrWithoutProcessTimes) {
  options_.share = false;
  std::unique_ptr<Meter> meter = Make();
  ASSERT_THAT(meter->Start(), IsOk());
  Advance(absl::Seconds(1), 100, 7'000'000);
  EXPECT_THAT(*meter->Read().energy, Near(Joules(7)));
  EXPECT_TRUE(meter->CoversMachine());

  options_.share = true;
  root_.Remove("proc/stat");
  meter = Make();
  EXPECT_THAT(meter->Describe(), HasSubstr("not shared out"));
  ASSERT_THAT(meter->Start(), IsOk());
  clock_.Advance(absl::Seconds(1));
  Move(8'000'000);
  const EnergyReading reading = meter->Read();
  EXPECT_THAT(*reading.energy, Near(Joules(8)));
  EXPECT_EQ(reading.gross, std::nullopt);
}

TEST_F(SharedMeterTest, IsMissingWhileProcessTimesAre) {
  std::unique_ptr<Meter> meter = Make();
  ASSERT_THAT(meter->Start(), IsOk());
  Advance(absl::Seconds(1), 100, 7'000'000);
  root_.Write("proc/stat", "cpu 1 2 three\n");
  EnergyReading reading = meter->Read();
  EXPECT_TRUE(reading.missing());
  EXPECT_EQ(reading.gross, std::nullopt);
  EXPECT_EQ(reading.window, absl::Seconds(1));
  Advance(absl::Seconds(1), 100, 7'000'000);
  EXPECT_TRUE(meter->Read().missing()) << "its start is not known";
  Advance(absl::Seconds(1), 100, 7'000'000);
  EXPECT_FALSE(meter->Read().missing());
}

TEST_F(SharedMeterTest, GivesThreadsPartsOfTheirOwn) {
  options_.thread_scope = true;
  Energy parts[2];
  const auto work = [&](int i, absl::Duration cpu) {
    // Each thread has a meter of its own, and windows that tell of the same 10 s.
    std::unique_ptr<Meter> meter = Make();
    ASSERT_THAT(meter->Start(), IsOk());
    const absl::Duration end = ThreadCpuTime() + cpu;
    while (ThreadCpuTime() < end) {
    }
    Advance(absl::Seconds(10), 1000, 100'000'000);
    const EnergyReading reading = meter->Read();
    ASSERT_FALSE(reading.missing());
    EXPECT_EQ(reading.domain, "package-0 by thread");
    EXPECT_THAT(*reading.gross, Near(Joules(100)));
    parts[i] = *reading.energy;
  };
  std::thread(work, 0, absl::Milliseconds(20)).join();
  std::thread(work, 1, absl::Milliseconds(60)).join();
  EXPECT_NEAR(parts[0].joules(), 0.2, 0.05);
  EXPECT_NEAR(parts[1].joules(), 0.6, 0.05);
}

// Processes of one host, each a client with a meter of its own over the same package.
TEST_F(SharedMeterTest, ProcessesOfOneHostCountNoJouleTwice) {
  constexpr int kProcesses = 3;
  constexpr int64_t kGross = 90'000'001;  // does not divide
  struct Said {
    int64_t share_uj, gross_uj;
    absl::Duration least, most;  // CPU time between Start and Read
  };
  int ready[2], go[2], said[2];
  ASSERT_TRUE(pipe(ready) == 0 && pipe(go) == 0 && pipe(said) == 0);
  std::vector<pid_t> children;
  for (int i = 0; i < kProcesses; ++i) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      options_.pause = absl::SleepFor;
      char byte = 0;
      if (read(go[0], &byte, 1) != 1) _exit(5);
      std::unique_ptr<Meter> meter = Make();
      const absl::Duration before = ProcessCpuTime();
      if (!meter->Start().ok()) _exit(1);
      const absl::Duration started = ProcessCpuTime();
      Burn(absl::Milliseconds(40) * (i + 1));
      if (write(ready[1], &byte, 1) != 1 || read(go[0], &byte, 1) != 1) _exit(2);
      clock_.Advance(absl::Seconds(3));  // as in the parent: the clock is not shared
      const absl::Duration burnt = ProcessCpuTime();
      const EnergyReading reading = meter->Read();
      if (reading.missing()) _exit(3);
      const Said mine{reading.energy->microjoules(), reading.gross->microjoules(), burnt - started, ProcessCpuTime() - before};
      _exit(write(said[1], &mine, sizeof mine) == sizeof mine ? 0 : 4);
    }
    children.push_back(child);
  }
  std::atomic<bool> done = false;
  std::thread counter([&] {
    while (!done) {
      Move(1);
      absl::SleepFor(absl::Microseconds(200));
    }
  });
  char bytes[kProcesses] = {};
  ASSERT_EQ(write(go[1], bytes, kProcesses), kProcesses);
  for (int i = 0; i < kProcesses; ++i) ASSERT_EQ(read(ready[0], bytes, 1), 1);
  Advance(absl::Seconds(3), 50, kGross);  // 0.5 s of CPU time, of which the clients had some 0.24 s
  ASSERT_EQ(write(go[1], bytes, kProcesses), kProcesses);
  int64_t sum_uj = 0;
  for (int i = 0; i < kProcesses; ++i) {
    Said client;
    ASSERT_EQ(read(said[0], &client, sizeof client), static_cast<ssize_t>(sizeof client));
    EXPECT_NEAR(static_cast<double>(client.gross_uj), kGross, 0.01 * kGross) << "each sees the whole package, and what it moved meanwhile";
    const double per_second = kGross / 0.5;
    EXPECT_GE(static_cast<double>(client.share_uj), per_second * absl::ToDoubleSeconds(client.least) - 2);
    EXPECT_LE(static_cast<double>(client.share_uj), 1.01 * per_second * absl::ToDoubleSeconds(client.most) + 2);
    sum_uj += client.share_uj;
  }
  done = true;
  counter.join();
  for (pid_t child : children) {
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  // Without shares it would be three times the package.
  const int64_t rest_uj = kGross - sum_uj;
  EXPECT_GE(sum_uj, int64_t{43'200'000}) << "0.24 of 0.5 s at least";
  EXPECT_GE(rest_uj, 0);
  EXPECT_EQ(sum_uj + rest_uj, kGross);
}

}  // namespace
}  // namespace fedwatt

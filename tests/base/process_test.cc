#include "fedwatt/base/process.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <optional>
#include <thread>

#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

TEST(ProcessTest, SaysWhatThisMachineIs) {
  const MachineInfo info = DescribeMachine();
  EXPECT_GE(info.core_count, 1);
  ASSERT_TRUE(info.memory_bytes.has_value());
  EXPECT_GT(*info.memory_bytes, 1 << 20);
  ASSERT_TRUE(ResidentBytes().has_value());
  EXPECT_GT(*ResidentBytes(), 0);
  // The kernel updates the two counters at different moments, so the peak is compared with slack.
  EXPECT_GE(PeakResidentBytes().value_or(0) + (1 << 20), *ResidentBytes());
}

TEST(ProcessTest, CpuTimeGrowsWithWork) {
  const absl::Duration before = ThreadCpuTime();
  volatile double x = 1;
  while (ThreadCpuTime() - before < absl::Milliseconds(5)) x = x * 1.0000001;
  EXPECT_GE(ProcessCpuTime(), absl::Milliseconds(5));
}

absl::Duration ClockOf(pid_t pid) {
  clockid_t clock;
  timespec time;
  EXPECT_EQ(clock_getcpuclockid(pid, &clock), 0);
  EXPECT_EQ(clock_gettime(clock, &time), 0);
  return absl::DurationFromTimespec(time);
}

// Works for 20 ms of its CPU time, says so, and lives on until it is killed.
pid_t Worker() {
  int done[2];
  EXPECT_EQ(pipe(done), 0);
  const pid_t pid = fork();
  if (pid == 0) {
    timespec time;
    do {
      clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    } while (absl::DurationFromTimespec(time) < absl::Milliseconds(20));
    (void)!write(done[1], "x", 1);
    pause();
    _exit(0);
  }
  char word;
  EXPECT_EQ(read(done[0], &word, 1), 1);
  close(done[0]);
  close(done[1]);
  return pid;
}

TEST(ProcessTest, AChildsCpuTimeIsOursFromItsStartToItsEnd) {
  const absl::Duration process = ProcessCpuTime(), thread = ThreadCpuTime();
  const pid_t pid = Worker();
  EXPECT_LT(ThreadCpuTime() - thread, absl::Milliseconds(20)) << "it does not work for us yet";
  std::optional<ChildCpu> child(pid);
  EXPECT_GE(ProcessCpuTime() - process, absl::Milliseconds(20));
  EXPECT_LT(ThreadCpuTime() - thread, absl::Milliseconds(20)) << "nobody waited for it yet";
  child->Charge();
  const absl::Duration charged = ThreadCpuTime() - thread;
  EXPECT_GE(charged, absl::Milliseconds(20));
  child->Charge();
  EXPECT_LT(ThreadCpuTime() - thread - charged, absl::Milliseconds(10)) << "once only";
  std::thread([] { EXPECT_LT(ThreadCpuTime(), absl::Milliseconds(20)) << "another thread's"; }).join();

  kill(pid, SIGKILL);
  siginfo_t end;
  ASSERT_EQ(waitid(P_PID, pid, &end, WEXITED | WNOWAIT), 0);
  const absl::Duration life = ClockOf(pid);
  child.reset();
  ASSERT_EQ(waitpid(pid, nullptr, 0), pid);
  EXPECT_GE(ThreadCpuTime() - thread, life) << "what a dead child spent stays spent";
  EXPECT_GE(ProcessCpuTime() - process, life);
}

TEST(ProcessTest, AnEndedChildIsTheThreadsThatEndsIt) {
  const pid_t pid = Worker();
  std::thread([pid] {
    const absl::Duration before = ThreadCpuTime();
    std::optional<ChildCpu> child(pid);
    child.reset();
    EXPECT_GE(ThreadCpuTime() - before, absl::Milliseconds(20));
  }).join();
  kill(pid, SIGKILL);
  ASSERT_EQ(waitpid(pid, nullptr, 0), pid);
}

}  // namespace
}  // namespace fedwatt

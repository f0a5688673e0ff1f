// A child process enters the sandbox and then tries what foreign code would.
#include "fedwatt/base/sandbox.h"

#include <fcntl.h>
#include <linux/perf_event.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "fedwatt/base/file.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::HasSubstr;

constexpr int kReport = 3;  // the descriptor at which a child tells

// What a child that runs `body` wrote to kReport, and how it ended.
struct Told {
  std::string text;
  int status = 0;
};
Told InChild(const std::function<void()>& body) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const pid_t pid = fork();
  if (pid == 0) {
    const int end = fcntl(ends[1], F_DUPFD, 64);  // out of the way of what is closed
    close(ends[0]);
    close(ends[1]);
    dup2(end, kReport);
    close(end);
    body();
    _exit(0);
  }
  close(ends[1]);
  Told told;
  char buffer[4096];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof(buffer))) > 0;) told.text.append(buffer, static_cast<size_t>(n));
  close(ends[0]);
  waitpid(pid, &told.status, 0);
  return told;
}
void Tell(const std::string& text) {
  if (write(kReport, text.data(), text.size()) != static_cast<ssize_t>(text.size())) _exit(3);
}

struct Attempt {
  const char* name;
  std::function<long()> call;  // as system calls: -1 and errno when refused
};

class SandboxTest : public ::testing::Test {
 protected:
  SandboxTest() {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    EXPECT_THAT(WriteFileAtomically(canary_, "secret"), IsOk());
  }
  ~SandboxTest() override { std::filesystem::remove_all(folder_); }

  std::vector<Attempt> FileAttempts() const {
    const char* canary = canary_.c_str();
    const char* other = other_.c_str();
    return {
        {"open to read", [=] { return open(canary, O_RDONLY); }},
        {"open to write", [=] { return open(canary, O_WRONLY); }},
        {"truncate by opening", [=] { return open(canary, O_WRONLY | O_TRUNC); }},
        {"create", [=] { return open(other, O_CREAT | O_WRONLY, 0600); }},
        {"list", [=, folder = folder_] { return open(folder.c_str(), O_RDONLY | O_DIRECTORY); }},
        {"make a folder", [=] { return mkdir(other, 0700); }},
        {"remove", [=] { return unlink(canary); }},
        {"rename", [=] { return rename(canary, other); }},
        {"symbolic link", [=] { return symlink(canary, other); }},
        {"make a pipe file", [=] { return mkfifo(other, 0600); }},
        {"read another process's memory", [] { return open("/proc/1/mem", O_RDONLY); }},
    };
  }

  std::vector<Attempt> OtherAttempts() const {
    const char* canary = canary_.c_str();
    const char* other = other_.c_str();
    const pid_t parent = getpid();
    return {
        {"hard link", [=] { return link(canary, other); }},
        {"truncate", [=] { return truncate(canary, 0); }},
        {"change a mode", [=] { return chmod(canary, 0); }},
        {"stat", [=] { struct stat s; return stat(canary, &s); }},
        {"openat2", [=] { unsigned long how[3] = {O_RDONLY, 0, 0}; return syscall(SYS_openat2, AT_FDCWD, canary, how, sizeof(how)); }},
        {"change root", [=, folder = folder_] { return chroot(folder.c_str()); }},
        {"mount", [=, folder = folder_] { return mount("none", folder.c_str(), "tmpfs", 0, nullptr); }},
        {"TCP socket", [] { return socket(AF_INET, SOCK_STREAM, 0); }},
        {"UDP socket", [] { return socket(AF_INET6, SOCK_DGRAM, 0); }},
        {"local socket", [] { return socket(AF_UNIX, SOCK_STREAM, 0); }},
        {"netlink socket", [] { return socket(AF_NETLINK, SOCK_RAW, 0); }},
        {"socket pair", [] { int ends[2]; return socketpair(AF_UNIX, SOCK_STREAM, 0, ends); }},
        {"pipe", [] { int ends[2]; return pipe(ends); }},
        {"duplicate", [] { return dup(0); }},
        {"duplicate by fcntl", [] { return fcntl(0, F_DUPFD, 0); }},
        {"memory file", [] { return memfd_create("x", 0); }},
        {"io_uring", [] { char parameters[120] = {}; return syscall(SYS_io_uring_setup, 4, parameters); }},
        {"inotify", [] { return syscall(SYS_inotify_init1, 0); }},
        {"shared memory", [] { return syscall(SYS_shmget, 0, 4096, 0600); }},
        {"message queue", [] { return syscall(SYS_mq_open, "x", O_CREAT | O_RDWR, 0600, nullptr); }},
        {"fork", [] { const long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); if (pid == 0) _exit(0); return pid; }},
        {"fork by glibc", [] { const pid_t pid = fork(); if (pid == 0) _exit(0); return pid; }},
        {"clone3", [] { unsigned long arguments[8] = {0, 0, 0, 0, SIGCHLD, 0, 0, 0}; const long pid = syscall(SYS_clone3, arguments, sizeof(arguments)); if (pid == 0) _exit(0); return pid; }},
        {"execute", [] { char* const none[] = {nullptr}; return execve("/bin/true", none, none); }},
        {"execute by descriptor", [] { char* const none[] = {nullptr}; return syscall(SYS_execveat, 0, "/bin/true", none, none, 0); }},
        {"trace the parent", [=] { return ptrace(PTRACE_ATTACH, parent, nullptr, nullptr); }},
        {"be traced", [] { return ptrace(PTRACE_TRACEME, 0, nullptr, nullptr); }},
        {"read the parent's memory", [=] { char byte; iovec to{&byte, 1}, from{&byte, 1}; return process_vm_readv(parent, &to, 1, &from, 1, 0); }},
        {"write the parent's memory", [=] { char byte = 0; iovec from{&byte, 1}, to{&byte, 1}; return process_vm_writev(parent, &from, 1, &to, 1, 0); }},
        {"signal the parent", [=] { return kill(parent, 0); }},
        {"signal a thread of the parent", [=] { return syscall(SYS_tgkill, parent, parent, 0); }},
        {"signal any thread", [=] { return syscall(SYS_tkill, parent, 0); }},
        {"descriptor of the parent", [=] { return syscall(SYS_pidfd_open, parent, 0); }},
        {"limit the parent", [=] { const rlimit limit{1, 1}; return prlimit(parent, RLIMIT_CPU, &limit, nullptr); }},
        {"raise the limits", [] { const rlimit limit{RLIM_INFINITY, RLIM_INFINITY}; return setrlimit(RLIMIT_AS, &limit); }},
        {"own priority", [] { return setpriority(PRIO_PROCESS, 0, 1); }},
        {"own processors", [] { cpu_set_t set; CPU_ZERO(&set); CPU_SET(0, &set); return sched_setaffinity(0, sizeof(set), &set); }},
        {"namespaces", [] { return unshare(CLONE_NEWUSER); }},
        {"another user", [] { return setuid(65534); }},
        {"dumpable again", [] { return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); }},
        {"outlive the name", [] { return prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0); }},
        {"a filter of its own", [] { return syscall(SYS_seccomp, 0, 0, nullptr); }},
        {"performance counters", [] { perf_event_attr attributes{}; attributes.size = sizeof(attributes); attributes.type = PERF_TYPE_SOFTWARE; return syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0); }},
        {"programs in the kernel", [] { char attributes[120] = {}; return syscall(SYS_bpf, 0, attributes, sizeof(attributes)); }},
        {"keys", [] { return syscall(SYS_keyctl, 0, -3, 1); }},
        {"page faults", [] { return syscall(SYS_userfaultfd, 0); }},
        {"kernel module", [] { return syscall(SYS_init_module, nullptr, 0, ""); }},
        {"the clock", [] { const timespec now{1, 0}; return clock_settime(CLOCK_REALTIME, &now); }},
        {"type into the terminal", [] { char byte = 'x'; return syscall(SYS_ioctl, 0, 0x5412, &byte); }},
        {"personality", [] { return syscall(SYS_personality, 0x0040000); }},
        {"pass descriptors", [] { msghdr message{}; return sendmsg(kReport, &message, 0); }},
#ifdef __x86_64__
        {"an x32 call", [] { return syscall(0x40000000 | SYS_getpid); }},
#endif
    };
  }

  // Runs all in a child that called `enter`; one line "name: how" for each that was not refused with one of `errors`.
  static std::string NotRefused(const std::vector<Attempt>& attempts, const std::function<bool()>& enter, const std::vector<int>& errors) {
    const Told told = InChild([&] {
      if (!enter()) return Tell("not entered");
      for (const Attempt& attempt : attempts) {
        errno = 0;
        const long result = attempt.call();
        const int error = errno;
        if (result == -1 && std::find(errors.begin(), errors.end(), error) != errors.end()) continue;
        Tell(std::string(attempt.name) + ": " + std::to_string(result) + ", errno " + std::to_string(error) + "\n");
      }
      Tell("all tried");
    });
    return told.text;
  }

  const std::string folder_ = ::testing::TempDir() + "/sandbox_" + std::to_string(getpid());
  const std::string canary_ = folder_ + "/canary";
  const std::string other_ = folder_ + "/other";
};

bool Enter() { return EnterSandbox({.last_descriptor = kReport}).ok(); }

TEST_F(SandboxTest, RefusesEverythingButComputing) {
  if (!OfferedWalls().system_calls) GTEST_SKIP() << "this kernel filters no system calls";
  std::vector<Attempt> attempts = FileAttempts(), others = OtherAttempts();
  attempts.insert(attempts.end(), others.begin(), others.end());
  EXPECT_GE(attempts.size(), 60u);
  EXPECT_EQ(NotRefused(attempts, Enter, {EPERM, ENOSYS}), "all tried");
  EXPECT_EQ(*ReadFile(canary_), "secret");
  EXPECT_FALSE(std::filesystem::exists(other_));
  // Outside, most of them work: the test sees when they are let through.
  EXPECT_THAT(NotRefused({attempts[0], attempts[3], {"fork", [] { const pid_t pid = fork(); if (pid == 0) _exit(0); return pid; }}, {"socket", [] { return socket(AF_UNIX, SOCK_STREAM, 0); }}},
                         [] { return true; }, {EPERM, ENOSYS}),
              AllOf(HasSubstr("open to read: "), HasSubstr("create: "), HasSubstr("fork: "), HasSubstr("socket: ")));
}

// Each wall stands without the other.
TEST_F(SandboxTest, TheFilterAloneRefusesTheSame) {
  if (!OfferedWalls().system_calls) GTEST_SKIP() << "this kernel filters no system calls";
  std::vector<Attempt> attempts = FileAttempts(), others = OtherAttempts();
  attempts.insert(attempts.end(), others.begin(), others.end());
  EXPECT_EQ(NotRefused(attempts, [] { return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && internal::FilterSystemCalls(); }, {EPERM, ENOSYS}), "all tried");
}

TEST_F(SandboxTest, LandlockAloneForbidsFiles) {
  if (OfferedWalls().landlock_abi == 0) GTEST_SKIP() << "this kernel has no Landlock";
  EXPECT_EQ(NotRefused(FileAttempts(), [] { return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && internal::ForbidFiles() > 0; }, {EACCES}), "all tried");
  EXPECT_EQ(*ReadFile(canary_), "secret");
}

// A kernel without either still gives no new descriptor, and so no file and no connection.
TEST_F(SandboxTest, TheLimitsAloneGiveNoDescriptor) {
  const std::vector<Attempt> all = FileAttempts(), others = OtherAttempts();
  std::vector<Attempt> attempts(all.begin(), all.begin() + 5);
  for (const Attempt& attempt : others) {
    for (const char* name : {"TCP socket", "UDP socket", "local socket", "netlink socket", "socket pair", "pipe", "duplicate", "memory file"}) {
      if (std::strcmp(attempt.name, name) == 0) attempts.push_back(attempt);
    }
  }
  EXPECT_EQ(attempts.size(), 13u);
  const auto enter = [] {
    if (syscall(SYS_close_range, kReport + 1, ~0u, 0) != 0) return false;
    const rlimit limit{kReport + 1, kReport + 1};
    return setrlimit(RLIMIT_NOFILE, &limit) == 0;
  };
  EXPECT_EQ(NotRefused(attempts, enter, {EMFILE}), "all tried");
}

TEST_F(SandboxTest, ComputingGoesOn) {
  const Told told = InChild([] {
    if (!Enter()) return Tell("not entered");
    std::vector<std::thread> threads;
    std::vector<double> sums(4);
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&sums, i] {
        std::vector<double> values(1 << 20, 1.0 + i);
        for (double value : values) sums[static_cast<size_t>(i)] += value;
      });
    }
    for (std::thread& thread : threads) thread.join();
    timespec pause{0, 1000000};
    char random[16];
    if (nanosleep(&pause, nullptr) != 0 || syscall(SYS_getrandom, random, sizeof(random), 0) != sizeof(random)) return Tell("no sleep or randomness");
    Tell(std::to_string(sums[0] + sums[3]));
  });
  EXPECT_EQ(told.text, std::to_string(5.0 * (1 << 20)));
  EXPECT_EQ(told.status, 0);
}

TEST_F(SandboxTest, ThreadsThatWereThereBeforeAreInsideToo) {
  if (!OfferedWalls().system_calls) GTEST_SKIP() << "this kernel filters no system calls";
  const Told told = InChild([this] {
    int go[2];
    if (pipe(go) != 0 || go[0] != kReport + 1) return Tell("no pipe");
    std::string text;
    std::thread early([&] {
      char byte;
      if (read(go[0], &byte, 1) == 1) text = open(canary_.c_str(), O_RDONLY) >= 0 ? "opened" : errno == EPERM ? "refused" : "failed otherwise";
    });
    const bool entered = EnterSandbox({.last_descriptor = go[1]}).ok();
    if (write(go[1], "x", 1) != 1) _exit(4);
    early.join();
    Tell(entered ? text : "not entered");
  });
  EXPECT_EQ(told.text, "refused");
}

TEST_F(SandboxTest, MemoryEndsAtTheLimitAndTheHeapSaysSo) {
  const Told told = InChild([] {
    if (!EnterSandbox({.memory_bytes = 256 << 20, .last_descriptor = kReport}).ok()) return Tell("not entered");
    void* much = mmap(nullptr, 512 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void* little = mmap(nullptr, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    Tell(std::string(much == MAP_FAILED ? "no " : "yes ") + (little == MAP_FAILED ? "no" : "yes"));
  });
  EXPECT_EQ(told.text, "no yes");
}

TEST_F(SandboxTest, ClosesWhatIsOpenAndSilencesStandardError) {
  const Told told = InChild([this] {
    const int secret = open(canary_.c_str(), O_RDONLY);
    const int loud = open(other_.c_str(), O_CREAT | O_WRONLY, 0600), silent = open("/dev/null", O_WRONLY);
    dup2(silent, STDOUT_FILENO);
    dup2(loud, STDERR_FILENO);
    if (secret <= kReport || !Enter()) return Tell("not entered");
    char byte;
    const bool closed = read(secret, &byte, 1) == -1 && errno == EBADF;
    dprintf(STDERR_FILENO, "noise");
    Tell(closed ? "closed" : "open");
  });
  EXPECT_EQ(told.text, "closed");
  EXPECT_EQ(*ReadFile(other_), "");
}

#ifdef __x86_64__
// Calls by the 32-bit door have other numbers, which the filter would mistake.
TEST_F(SandboxTest, TheOldDoorKills) {
  if (!OfferedWalls().system_calls) GTEST_SKIP() << "this kernel filters no system calls";
  const Told told = InChild([] {
    if (!Enter()) _exit(5);
    long result;
    asm volatile("int $0x80" : "=a"(result) : "a"(20) : "memory", "r8", "r9", "r10", "r11");
    _exit(result > 0 ? 6 : 7);
  });
  EXPECT_TRUE(WIFSIGNALED(told.status)) << told.status;
}
#endif

TEST_F(SandboxTest, AnAbortIsStillAnAbort) {
  const Told told = InChild([] {
    if (!Enter()) _exit(5);
    std::abort();
  });
  ASSERT_TRUE(WIFSIGNALED(told.status)) << told.status;
  EXPECT_EQ(WTERMSIG(told.status), SIGABRT);
  EXPECT_FALSE(WCOREDUMP(told.status));
}

TEST(SandboxOptionsTest, AreCheckedAndDescribed) {
  EXPECT_THAT(EnterSandbox({.memory_bytes = 0}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("memory of 0 bytes")));
  EXPECT_THAT(EnterSandbox({.last_descriptor = 1}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("descriptors up to 1")));
  EXPECT_EQ(Describe({.system_calls = true, .landlock_abi = 2}), "system calls (seccomp), files (Landlock 2), limits");
  EXPECT_EQ(Describe({}), "limits; this kernel filters no system calls; it has no Landlock");
}

}  // namespace
}  // namespace fedwatt

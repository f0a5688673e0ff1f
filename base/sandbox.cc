#include "fedwatt/base/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt {
namespace {

// Landlock's calls, which the headers of older kernels lack. The numbers are the same on all architectures.
constexpr long kLandlockCreateRuleset = 444, kLandlockRestrictSelf = 446;
constexpr unsigned kLandlockVersion = 1;

int LandlockAbi() {
  const long abi = syscall(kLandlockCreateRuleset, nullptr, 0, kLandlockVersion);
  return abi > 0 ? static_cast<int>(abi) : 0;
}

#if defined(__x86_64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#else
constexpr uint32_t kArchitecture = 0;  // no filter is known
#endif

// What computing needs of the kernel. The commonest come first: the filter looks from the top.
constexpr int kAllowed[] = {
    SYS_futex, SYS_madvise, SYS_mmap, SYS_munmap, SYS_mprotect, SYS_mremap, SYS_brk, SYS_sched_yield, SYS_clock_gettime,
    // The open descriptors.
    SYS_read, SYS_write, SYS_recvfrom, SYS_sendto, SYS_ppoll, SYS_close, SYS_fstat,
#ifdef SYS_poll
    SYS_poll,
#endif
    // Threads.
    SYS_set_robust_list, SYS_rseq, SYS_set_tid_address, SYS_sched_getaffinity, SYS_getcpu, SYS_membarrier, SYS_exit, SYS_exit_group,
    // Time and randomness.
    SYS_clock_getres, SYS_clock_nanosleep, SYS_nanosleep, SYS_gettimeofday, SYS_getrandom,
    // Signals to oneself.
    SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sigaltstack, SYS_restart_syscall,
    // Facts about oneself and the machine's size.
    SYS_getpid, SYS_gettid, SYS_getrusage, SYS_sysinfo,
};

using Code = std::vector<sock_filter>;

constexpr sock_filter Load(size_t offset) { return {BPF_LD | BPF_W | BPF_ABS, 0, 0, static_cast<uint32_t>(offset)}; }
constexpr sock_filter LoadNumber() { return Load(offsetof(seccomp_data, nr)); }
// The low or the high half of an argument; both architectures are little-endian.
constexpr sock_filter LoadArgument(int index, int half = 0) { return Load(offsetof(seccomp_data, args) + 8 * static_cast<size_t>(index) + 4 * static_cast<size_t>(half)); }
constexpr sock_filter Return(uint32_t action) { return {BPF_RET | BPF_K, 0, 0, action}; }
constexpr sock_filter Refuse(uint32_t error) { return Return(SECCOMP_RET_ERRNO | error); }
// Goes on with the next instruction where the loaded value is this one, and otherwise skips `count`.
constexpr sock_filter UnlessSkip(uint32_t value, size_t count) { return {BPF_JMP | BPF_JEQ | BPF_K, 0, static_cast<uint8_t>(count), value}; }

// `body` decides about the system call; it ends in a return.
void Decide(Code& code, int number, const Code& body) {
  code.push_back(LoadNumber());
  code.push_back(UnlessSkip(static_cast<uint32_t>(number), body.size()));
  code.insert(code.end(), body.begin(), body.end());
}

Code MakeFilter() {
  Code code = {Load(offsetof(seccomp_data, arch)), {BPF_JMP | BPF_JEQ | BPF_K, 1, 0, kArchitecture}, Return(SECCOMP_RET_KILL_PROCESS), LoadNumber()};
#ifdef __x86_64__
  // The x32 calls have numbers of their own behind this bit.
  code.push_back({BPF_JMP | BPF_JGE | BPF_K, 0, 1, 0x40000000});
  code.push_back(Refuse(EPERM));
#endif
  for (const int number : kAllowed) {
    code.push_back(UnlessSkip(static_cast<uint32_t>(number), 1));
    code.push_back(Return(SECCOMP_RET_ALLOW));
  }
  // A thread, started as glibc does; anything else would be a process or a namespace. The arguments of clone3 are out of a filter's reach: without it glibc takes clone.
  constexpr uint32_t kThread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
  Decide(code, SYS_clone, {LoadArgument(0), UnlessSkip(kThread, 1), Return(SECCOMP_RET_ALLOW), Refuse(EPERM)});
  Decide(code, SYS_clone3, {Refuse(ENOSYS)});
  // abort() signals a thread of its own process.
  Decide(code, SYS_tgkill, {LoadArgument(0), UnlessSkip(static_cast<uint32_t>(getpid()), 1), Return(SECCOMP_RET_ALLOW), Refuse(EPERM)});
  // Limits are read, of this process alone, and never set.
  Decide(code, SYS_prlimit64, {LoadArgument(0), UnlessSkip(0, 5), LoadArgument(2), UnlessSkip(0, 3), LoadArgument(2, 1), UnlessSkip(0, 1), Return(SECCOMP_RET_ALLOW), Refuse(EPERM)});
  Decide(code, SYS_prctl, {LoadArgument(0), UnlessSkip(PR_SET_NAME, 1), Return(SECCOMP_RET_ALLOW), Refuse(EPERM)});
  code.push_back(Refuse(EPERM));
  return code;
}

absl::Status Limit(__rlimit_resource resource, rlim_t value, const char* name) {
  const rlimit limit{value, value};
  return setrlimit(resource, &limit) == 0 ? absl::OkStatus() : ErrnoStatus(errno, name);
}

// The process's address space.
absl::StatusOr<int64_t> AddressSpaceBytes() {
  FEDWATT_ASSIGN_OR_RETURN(const std::string text, ReadFile("/proc/self/statm"));
  return std::strtoll(text.c_str(), nullptr, 10) * sysconf(_SC_PAGESIZE);
}

}  // namespace

namespace internal {

bool FilterSystemCalls() {
  if (kArchitecture == 0) return false;
  Code code = MakeFilter();
  const sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

int ForbidFiles() {
  // Every right that a version knows is handled, and none is granted to any path, port or process.
  const int abi = LandlockAbi();
  if (abi == 0) return 0;
  struct {
    uint64_t files, ports, scopes;
  } handled{};
  handled.files = (uint64_t{1} << (abi >= 5 ? 16 : abi >= 3 ? 15 : abi == 2 ? 14 : 13)) - 1;
  handled.ports = abi >= 4 ? 3 : 0;
  handled.scopes = abi >= 6 ? 3 : 0;
  const size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
  const int rules = static_cast<int>(syscall(kLandlockCreateRuleset, &handled, size, 0));
  if (rules < 0) return 0;
  const bool stands = syscall(kLandlockRestrictSelf, rules, 0) == 0;
  close(rules);
  return stands ? abi : 0;
}

}  // namespace internal

std::string Describe(const SandboxWalls& walls) {
  return absl::StrCat(walls.system_calls ? "system calls (seccomp), " : "", walls.landlock_abi > 0 ? absl::StrCat("files (Landlock ", walls.landlock_abi, "), ") : "", "limits",
                      walls.system_calls ? "" : "; this kernel filters no system calls", walls.landlock_abi > 0 ? "" : "; it has no Landlock");
}

SandboxWalls OfferedWalls() {
  const uint32_t action = SECCOMP_RET_ERRNO;
  return {kArchitecture != 0 && syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0, LandlockAbi()};
}

absl::StatusOr<SandboxWalls> EnterSandbox(const SandboxLimits& limits) {
  if (limits.memory_bytes <= 0 || limits.last_descriptor < 2) {
    return absl::InvalidArgumentError(absl::StrCat("sandbox: memory of ", limits.memory_bytes, " bytes and descriptors up to ", limits.last_descriptor, ", expected > 0 and >= 2"));
  }
  // Where memory runs out all the same, this process is the one to go.
  if (const int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC); fd >= 0) {
    [[maybe_unused]] const ssize_t written = write(fd, "1000", 4);
    close(fd);
  }
  FEDWATT_ASSIGN_OR_RETURN(const int64_t present, AddressSpaceBytes());
  if (dup2(STDOUT_FILENO, STDERR_FILENO) < 0) return ErrnoStatus(errno, "standard error");
  const unsigned beyond = static_cast<unsigned>(limits.last_descriptor) + 1;
  if (syscall(SYS_close_range, beyond, ~0u, 0) != 0) return ErrnoStatus(errno, "close_range");

  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  const __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return ErrnoStatus(errno, "no_new_privs");
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) return ErrnoStatus(errno, "PR_SET_DUMPABLE");
  FEDWATT_RETURN_IF_ERROR(Limit(RLIMIT_CORE, 0, "RLIMIT_CORE"));
  FEDWATT_RETURN_IF_ERROR(Limit(RLIMIT_FSIZE, 0, "RLIMIT_FSIZE"));
  FEDWATT_RETURN_IF_ERROR(Limit(RLIMIT_MEMLOCK, 0, "RLIMIT_MEMLOCK"));
  FEDWATT_RETURN_IF_ERROR(Limit(RLIMIT_MSGQUEUE, 0, "RLIMIT_MSGQUEUE"));
  SandboxWalls walls;
  walls.landlock_abi = internal::ForbidFiles();  // opens one, so it comes before the limit on descriptors
  FEDWATT_RETURN_IF_ERROR(Limit(RLIMIT_NOFILE, beyond, "RLIMIT_NOFILE"));
  FEDWATT_RETURN_IF_ERROR(Limit(RLIMIT_AS, static_cast<rlim_t>(present + std::min(limits.memory_bytes, std::numeric_limits<int64_t>::max() - present)), "RLIMIT_AS"));
  if (syscall(SYS_capset, &header, none) != 0) return ErrnoStatus(errno, "capset");
  walls.system_calls = internal::FilterSystemCalls();
  return walls;
}

}  // namespace fedwatt

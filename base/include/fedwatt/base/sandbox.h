// Locks the calling process into what it already has: memory, processor and its open descriptors.
#ifndef FEDWATT_BASE_SANDBOX_H_
#define FEDWATT_BASE_SANDBOX_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace fedwatt {

struct SandboxLimits {
  // Address space beyond what the process has when it enters, > 0.
  int64_t memory_bytes = int64_t{1} << 32;
  // Descriptors 0 to this one stay open, >= 2; all others are closed and none can be made.
  int last_descriptor = 2;
};

// What a parent asks of a child that runs foreign code.
struct SandboxPolicy {
  // False: the code is run also where the kernel cannot filter its system calls.
  bool required = true;
  // SandboxLimits::memory_bytes, >= 0; 0 = three quarters of the machine's memory.
  int64_t memory_bytes = 0;
  // The child is killed when it shows no sign of life for this long, > 0.
  absl::Duration max_silence = absl::Minutes(10);
};

// What stands around a process, or would. Limits on memory and descriptors, no new privileges, no core dump and an empty set of capabilities stand on any Linux.
struct SandboxWalls {
  // seccomp-bpf, over all threads: no file, socket, process, signal to others or change of limits; only threads, memory, time and the open descriptors.
  bool system_calls = false;
  // Landlock, as a second wall before files, over the calling thread and those it starts: its version in this kernel; 0 = none.
  int landlock_abi = 0;
};

// In words, for people: "system calls (seccomp), files (Landlock 7), limits", and which of them the kernel does not have.
std::string Describe(const SandboxWalls& walls);

// What EnterSandbox() would find in this kernel. Enters nothing.
SandboxWalls OfferedWalls();

// For the rest of this process's life. System calls that are not allowed fail with EPERM. Standard error goes where standard output goes. Comes before foreign code
// and before the process starts threads. Call once. What the kernel does not have is missing in the answer and no error.
// Errors: INVALID_ARGUMENT  limits; UNAVAILABLE  a system call that always works did not
absl::StatusOr<SandboxWalls> EnterSandbox(const SandboxLimits& limits);

namespace internal {
// One wall each. False, or 0, where the kernel does not have it; needs no_new_privs.
bool FilterSystemCalls();
int ForbidFiles();
}  // namespace internal

}  // namespace fedwatt

#endif  // FEDWATT_BASE_SANDBOX_H_

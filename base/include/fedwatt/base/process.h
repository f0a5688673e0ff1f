// What this process and this machine are and have spent.
#ifndef FEDWATT_BASE_PROCESS_H_
#define FEDWATT_BASE_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "absl/time/time.h"

namespace fedwatt {

// User plus system time of all threads of this process, and of its ChildCpu processes up to this instant.
absl::Duration ProcessCpuTime();
// User plus system time of the calling thread, and what ChildCpu::Charge charged it with.
absl::Duration ThreadCpuTime();

// Makes the CPU time of a child process ours, over the child's whole life. Owned by one thread at a time.
class ChildCpu {
 public:
  explicit ChildCpu(pid_t pid);
  // Charges. Comes before the child is reaped: a dead one can be asked until then, and what it spent stays counted.
  ~ChildCpu();
  ChildCpu(const ChildCpu&) = delete;
  ChildCpu& operator=(const ChildCpu&) = delete;

  // What the child spent since the call before is the calling thread's. Whoever waits for a child's work calls it when the work is done.
  void Charge();

 private:
  const pid_t pid_;
};

// Since this process began, to a hundredth of a second; nullopt where the kernel does not say.
std::optional<absl::Duration> ProcessAge();

// Resident set, now and at its highest; nullopt where the kernel does not say.
std::optional<int64_t> ResidentBytes();
std::optional<int64_t> PeakResidentBytes();

struct MachineInfo {
  std::string cpu_model;          // "" when unknown
  int core_count = 1;
  std::optional<int64_t> memory_bytes;
  std::string instruction_sets;   // space-separated subset that matters: avx2 avx512f avx512_bf16 avx512_vnni neon ...
};
MachineInfo DescribeMachine();

}  // namespace fedwatt

#endif  // FEDWATT_BASE_PROCESS_H_

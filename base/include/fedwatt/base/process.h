// What this process and this machine are and have spent.
#ifndef FEDWATT_BASE_PROCESS_H_
#define FEDWATT_BASE_PROCESS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/time/time.h"

namespace fedwatt {

// User plus system time of all threads of this process.
absl::Duration ProcessCpuTime();
// User plus system time of the calling thread.
absl::Duration ThreadCpuTime();

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

// How long a machine's CPUs were busy, and how fast they ran: procfs and sysfs below a root. Private to the room.
#ifndef FEDWATT_ENERGY_HOST_CPU_H_
#define FEDWATT_ENERGY_HOST_CPU_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "fedwatt/energy/cpu_model.h"

namespace fedwatt::internal {

// What the machine calls itself: the board where a device tree names it, else the CPU; "" when unknown.
std::string MachineModel(const std::string& root);

// The kernel counts in ticks of this length, and shows whole ones.
inline constexpr absl::Duration kTick = absl::Milliseconds(10);

// Since the machine booted, guests' time included, time stolen by a hypervisor not.
struct HostCpuTimes {
  absl::Duration busy;                   // of all CPUs together
  std::map<int, absl::Duration> by_cpu;  // busy time of each
};
// Errors: UNAVAILABLE  ROOT/proc/stat is not readable, or not as the kernel writes it
absl::StatusOr<HostCpuTimes> ReadHostCpuTimes(const std::string& root);

// Follows the activity of the physical cores. Owned by one thread.
class CpuActivityReader {
 public:
  // Cores as ROOT/sys/devices/system/cpu tells them; where it does not, each CPU counts as a core.
  explicit CpuActivityReader(std::string root);

  struct Window {
    CpuActivity least, value, most;  // the busy times may be off by a tick each
  };
  // The time since the call before, `span` > 0 long. The clock is what sysfs says now, or 1 GHz where it does not say.
  // Errors: FAILED_PRECONDITION  the first call; UNAVAILABLE  as ReadHostCpuTimes, or a CPU that came or went meanwhile: the next call starts anew
  absl::StatusOr<Window> Read(absl::Duration span);
  // "cpufreq", or "none" where the clock is not known: models fitted under one do not hold under the other.
  std::string clock_source() const;

 private:
  double ClockGhz(int cpu) const;

  const std::string root_;
  std::map<int, int> core_of_cpu_;  // the lowest CPU of its core stands for it
  std::map<int, absl::Duration> last_;
};

}  // namespace fedwatt::internal

#endif  // FEDWATT_ENERGY_HOST_CPU_H_

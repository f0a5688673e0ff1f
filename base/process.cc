#include "fedwatt/base/process.h"

#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"

namespace fedwatt {
namespace {

absl::Duration ReadCpuClock(clockid_t clock) {
  struct timespec spent = {};
  clock_gettime(clock, &spent);
  return absl::DurationFromTimespec(spent);
}

std::optional<int64_t> StatusField(const char* field) {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    if (!absl::StartsWith(line, field)) continue;
    std::vector<std::string> words = absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    int64_t kibibytes;
    if (words.size() >= 2 && absl::SimpleAtoi(words[1], &kibibytes)) return kibibytes * 1024;
  }
  return std::nullopt;
}

// The children that work for this process. Thread-safe.
class Children {
 public:
  static Children& Instance() {
    static Children& children = *new Children();  // outlives every thread
    return children;
  }

  void Add(pid_t pid) {
    absl::MutexLock lock(&mutex_);
    spent_[pid] = absl::ZeroDuration();
  }
  // Looks at the child once more; returns by how much it has grown since it was last looked at for a charge.
  absl::Duration Take(pid_t pid) {
    absl::MutexLock lock(&mutex_);
    absl::Duration& taken = spent_[pid];
    const absl::Duration now = std::max(taken, Spent(pid));
    charged_ += now - taken;
    return now - std::exchange(taken, now);
  }
  void Remove(pid_t pid) {
    absl::MutexLock lock(&mutex_);
    spent_.erase(pid);
  }
  absl::Duration Total() {
    absl::MutexLock lock(&mutex_);
    absl::Duration total = charged_;
    for (const auto& [pid, taken] : spent_) total += std::max(absl::ZeroDuration(), Spent(pid) - taken);
    return total;
  }

 private:
  // Zero where the kernel does not say, which is then no growth.
  static absl::Duration Spent(pid_t pid) {
    clockid_t clock;
    return clock_getcpuclockid(pid, &clock) == 0 ? ReadCpuClock(clock) : absl::ZeroDuration();
  }

  absl::Mutex mutex_;
  std::map<pid_t, absl::Duration> spent_ ABSL_GUARDED_BY(mutex_);  // of each that may run, as far as it is charged
  absl::Duration charged_ ABSL_GUARDED_BY(mutex_);
};

thread_local absl::Duration charged_here;

}  // namespace

absl::Duration ProcessCpuTime() { return ReadCpuClock(CLOCK_PROCESS_CPUTIME_ID) + Children::Instance().Total(); }
absl::Duration ThreadCpuTime() { return ReadCpuClock(CLOCK_THREAD_CPUTIME_ID) + charged_here; }

ChildCpu::ChildCpu(pid_t pid) : pid_(pid) { Children::Instance().Add(pid_); }

ChildCpu::~ChildCpu() {
  Charge();
  Children::Instance().Remove(pid_);
}

void ChildCpu::Charge() { charged_here += Children::Instance().Take(pid_); }

std::optional<int64_t> ResidentBytes() { return StatusField("VmRSS:"); }
std::optional<int64_t> PeakResidentBytes() { return StatusField("VmHWM:"); }

std::optional<absl::Duration> ProcessAge() {
  std::ifstream file("/proc/self/stat");
  std::string text;
  if (!std::getline(file, text)) return std::nullopt;
  // The command's name may hold anything; the fields after it are numbers. starttime is the 22nd of all, in ticks since the machine booted.
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  const std::vector<std::string> fields = absl::StrSplit(text.substr(name_end + 1), ' ', absl::SkipEmpty());
  int64_t ticks;
  if (fields.size() < 20 || !absl::SimpleAtoi(fields[19], &ticks)) return std::nullopt;
  struct timespec boot = {};
  clock_gettime(CLOCK_BOOTTIME, &boot);
  return absl::DurationFromTimespec(boot) - absl::Seconds(ticks) / ::sysconf(_SC_CLK_TCK);
}

MachineInfo DescribeMachine() {
  static const std::set<std::string> kInteresting = {"avx2", "fma",         "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni",
                                                     "sha_ni", "amx_tile", "asimd",   "asimddp",     "bf16",        "sve"};
  MachineInfo info;
  std::ifstream cpuinfo("/proc/cpuinfo");
  std::string line;
  while (std::getline(cpuinfo, line)) {
    std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 1));
    if (parts.size() != 2) continue;
    std::string key(absl::StripAsciiWhitespace(parts[0]));
    if (key == "model name" && info.cpu_model.empty()) info.cpu_model = std::string(absl::StripAsciiWhitespace(parts[1]));
    if ((key == "flags" || key == "Features") && info.instruction_sets.empty()) {
      for (absl::string_view flag : absl::StrSplit(parts[1], ' ', absl::SkipEmpty())) {
        if (!kInteresting.contains(std::string(flag))) continue;
        if (!info.instruction_sets.empty()) info.instruction_sets += ' ';
        info.instruction_sets += std::string(flag);
      }
    }
  }
  long cores = ::sysconf(_SC_NPROCESSORS_ONLN);
  info.core_count = cores > 0 ? static_cast<int>(cores) : 1;
  long pages = ::sysconf(_SC_PHYS_PAGES), page_bytes = ::sysconf(_SC_PAGESIZE);
  if (pages > 0 && page_bytes > 0) info.memory_bytes = static_cast<int64_t>(pages) * page_bytes;
  return info;
}

}  // namespace fedwatt

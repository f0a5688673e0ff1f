#include "host_cpu.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"
#include "sysfs.h"

namespace fedwatt::internal {
namespace {

constexpr int64_t kMostBytes = int64_t{1} << 20;
constexpr int64_t kMostTicks = int64_t{1} << 50;

std::string CpuFolder(const std::string& root, int cpu) { return absl::StrCat(root, "/sys/devices/system/cpu/cpu", cpu); }

}  // namespace

std::string MachineModel(const std::string& root) {
  absl::StatusOr<std::string> board = ReadFile(root + "/proc/device-tree/model", 4096);
  if (board.ok()) return std::string(board->c_str());  // the device tree ends its strings with NUL
  absl::StatusOr<std::string> info = ReadFile(root + "/proc/cpuinfo", int64_t{16} << 20);
  if (!info.ok()) return "";
  for (absl::string_view line : absl::StrSplit(*info, '\n')) {
    if (!absl::StartsWith(line, "model name")) continue;
    const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 1));
    if (parts.size() == 2) return std::string(absl::StripAsciiWhitespace(parts[1]));
  }
  return "";
}

absl::StatusOr<HostCpuTimes> ReadHostCpuTimes(const std::string& root) {
  const std::string path = Below(root, "/proc/stat");
  absl::StatusOr<std::string> text = ReadFile(path, kMostBytes);
  if (!text.ok()) return absl::UnavailableError(text.status().message());
  HostCpuTimes times;
  for (absl::string_view line : absl::StrSplit(*text, '\n')) {
    if (!absl::ConsumePrefix(&line, "cpu")) break;  // they come first
    const std::vector<std::string> fields = absl::StrSplit(line, ' ', absl::SkipEmpty());
    const bool total = !line.empty() && line[0] == ' ';
    int cpu = -1;
    // user nice system idle iowait irq softirq, then what is counted elsewhere or not this machine's.
    const size_t first = total ? 0 : 1;
    bool sound = fields.size() >= first + 7 && (total || (absl::SimpleAtoi(fields[0], &cpu) && cpu >= 0));
    int64_t busy = 0;
    for (size_t i : {0, 1, 2, 5, 6}) {
      int64_t ticks = 0;
      sound = sound && absl::SimpleAtoi(fields[first + i], &ticks) && ticks >= 0 && ticks < kMostTicks;
      busy += ticks;
    }
    if (!sound) return absl::UnavailableError(absl::StrCat(path, ": expected times in ticks, got 'cpu", std::string(line.substr(0, 60)), "'"));
    if (total)
      times.busy = busy * kTick;
    else
      times.by_cpu[cpu] = busy * kTick;
  }
  if (times.by_cpu.empty()) return absl::UnavailableError(absl::StrCat(path, ": no CPUs in it"));
  return times;
}

CpuActivityReader::CpuActivityReader(std::string root) : root_(Below(root, "")) {
  absl::StatusOr<HostCpuTimes> times = ReadHostCpuTimes(root_);
  if (!times.ok()) return;
  for (const auto& [cpu, busy] : times->by_cpu) {
    int core = cpu;
    // "0,4" or "0-1": the lowest comes first.
    const std::vector<std::string> numbers = absl::StrSplit(ReadWordFile(CpuFolder(root_, cpu) + "/topology/thread_siblings_list"), absl::ByAnyChar(",-"));
    int lowest;
    if (absl::SimpleAtoi(numbers[0], &lowest) && lowest >= 0 && lowest <= cpu && times->by_cpu.contains(lowest)) core = lowest;
    core_of_cpu_[cpu] = core;
  }
}

absl::StatusOr<CpuActivityReader::Window> CpuActivityReader::Read(absl::Duration span) {
  absl::StatusOr<HostCpuTimes> now = ReadHostCpuTimes(root_);
  std::map<int, absl::Duration> last = std::exchange(last_, now.ok() ? now->by_cpu : std::map<int, absl::Duration>());
  if (!now.ok()) return now.status();
  if (last.empty()) return absl::FailedPreconditionError("nothing was read before");
  FEDWATT_CHECK(span > absl::ZeroDuration());
  struct Core {
    double idle[3] = {1, 1, 1}, most[3] = {0, 0, 0}, ghz = 0;
  };
  std::map<int, Core> cores;
  for (const auto& [cpu, core_number] : core_of_cpu_) {
    const auto before = last.find(cpu), after = now->by_cpu.find(cpu);
    if (before == last.end() || after == now->by_cpu.end()) return absl::UnavailableError(absl::StrCat("CPU ", cpu, " came or went"));
    Core& core = cores[core_number];
    core.ghz = std::max(core.ghz, ClockGhz(cpu));
    for (int i = 0; i < 3; ++i) {
      const double busy = std::clamp(absl::FDivDuration(after->second - before->second + (i - 1) * kTick, span), 0.0, 1.0);
      core.idle[i] *= 1 - busy;
      core.most[i] = std::max(core.most[i], busy);
    }
  }
  Window window;
  const double share = 1.0 / static_cast<double>(cores.size());
  for (const auto& [number, core] : cores) {
    CpuActivity* const parts[] = {&window.least, &window.value, &window.most};
    for (int i = 0; i < 3; ++i) {
      parts[i]->apart_ghz += share * core.ghz * (1 - core.idle[i]);
      parts[i]->together_ghz += share * core.ghz * core.most[i];
    }
  }
  return window;
}

std::string CpuActivityReader::clock_source() const {
  if (core_of_cpu_.empty()) return "none";
  return ReadFile(CpuFolder(root_, core_of_cpu_.begin()->first) + "/cpufreq/scaling_cur_freq", 4096).ok() ? "cpufreq" : "none";
}

double CpuActivityReader::ClockGhz(int cpu) const {
  const absl::StatusOr<int64_t> khz = ReadCountFile(CpuFolder(root_, cpu) + "/cpufreq/scaling_cur_freq");
  if (!khz.ok() || *khz == 0 || *khz > 100'000'000) return 1;
  return static_cast<double>(*khz) / 1e6;
}

}  // namespace fedwatt::internal

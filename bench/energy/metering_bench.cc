// metering_bench [SECONDS] [EDGES]: what metering itself costs: CPU time as a share of one core, and resident memory.
//
// For each meter a PhaseTracker runs SECONDS (default 10) with EDGES phase edges a second (default 10, several times what a client has), and background
// sampling at the meter's own period. `rapl` and `cpu_model` read a sysfs tree in a temporary folder, whose counters another process moves once a millisecond; `auto` is what
// this machine has. Nothing else runs in this process, so all of its CPU time is metering's. `told` is what the tracker booked as the phase `metering`.
// Exit code 1 where a bar is missed: 0.5 % of a core, 5 MB.
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "fedwatt/base/process.h"
#include "fedwatt/energy/calibration.h"
#include "fedwatt/energy/phase_tracker.h"

namespace {

void Put(const std::string& path, const std::string& text) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT, 0644);
  if (fd < 0 || pwrite(fd, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) std::abort();
  close(fd);
}

void Move(const std::string& root, int64_t step) {
  Put(root + "/sys/class/powercap/intel-rapl:0/energy_uj", absl::StrFormat("%014d\n", 1000000 + 20000 * step));
  std::string stat;
  for (int cpu = -1; cpu < 16; ++cpu) absl::StrAppendFormat(&stat, "cpu%s %012d 0 0 1 0 0 0 0 0 0\n", cpu < 0 ? " " : absl::StrCat(cpu), 1000 + step / 20 * (cpu < 0 ? 16 : 1));
  Put(root + "/proc/stat", stat);
}

// A tree with one package and 16 CPUs, and its calibration.
std::string MakeRoot() {
  std::string root = (std::filesystem::temp_directory_path() / "metering_bench_XXXXXX").string();
  if (mkdtemp(root.data()) == nullptr) std::abort();
  Put(root + "/proc/cpuinfo", "model name\t: Bench CPU\n");
  Put(root + "/sys/class/powercap/intel-rapl:0/name", "package-0\n");
  Put(root + "/sys/class/powercap/intel-rapl:0/max_energy_range_uj", "262143328850\n");
  for (int cpu = 0; cpu < 16; ++cpu) Put(absl::StrCat(root, "/sys/devices/system/cpu/cpu", cpu, "/cpufreq/scaling_cur_freq"), "2000000\n");
  Move(root, 0);
  fedwatt::Calibration calibration{.host = "bench", .machine = fedwatt::MachineForCalibration(root), .meter = "rapl", .meter_tier = fedwatt::EnergyTier::kComponent, .covers = "package-0"};
  for (int i = 0; i <= 20; ++i) calibration.samples.push_back({{0.1 * i, 0.1 * i}, fedwatt::Watts(5 + i)});
  if (!fedwatt::WriteCalibration(root + "/calibration.json", calibration).ok()) std::abort();
  return root;
}

bool Measure(const std::string& label, const std::string& meter_name, const fedwatt::MeterOptions& options, double seconds, double edges) {
  const int64_t memory_before = fedwatt::ResidentBytes().value_or(0);
  absl::StatusOr<fedwatt::MeterChoice> choice = fedwatt::ChooseMeter(meter_name, options);
  if (!choice.ok() || choice->meter == nullptr) {
    std::fprintf(stderr, "%s: %s\n", label.c_str(), choice.ok() ? "none" : choice.status().ToString().c_str());
    return false;
  }
  fedwatt::PhaseTracker tracker(&fedwatt::RealClock(), choice->meter.get());
  const absl::Duration start = fedwatt::RealClock().Monotonic(), cpu = fedwatt::ProcessCpuTime();
  tracker.Enter(fedwatt::Phase::kIdleWait);
  int64_t count = 0;
  for (absl::Duration now = start; now - start < absl::Seconds(seconds); now = fedwatt::RealClock().Monotonic()) {
    absl::SleepFor(absl::Seconds(1 / edges));
    tracker.Enter(++count % 2 == 0 ? fedwatt::Phase::kIdleWait : fedwatt::Phase::kTrain);
  }
  const double wall = absl::ToDoubleSeconds(fedwatt::RealClock().Monotonic() - start), spent = absl::ToDoubleSeconds(fedwatt::ProcessCpuTime() - cpu);
  double told = 0;
  for (const fedwatt::PhaseSpan& span : tracker.Finish()) {
    if (span.phase == fedwatt::Phase::kMetering) told = absl::ToDoubleSeconds(span.cpu);
  }
  const double percent = 100 * spent / wall, megabytes = static_cast<double>(fedwatt::ResidentBytes().value_or(0) - memory_before) / 1e6;
  std::printf("%-10s %-10s %6lld edges in %5.1f s   %8.2f ms CPU (told %.2f)   %.4f %% of a core   %5.2f MB\n", label.c_str(), std::string(choice->meter->name()).c_str(),
              static_cast<long long>(count), wall, 1e3 * spent, 1e3 * told, percent, megabytes);
  return percent <= 0.5 && megabytes <= 5;
}

}  // namespace

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 10, edges = argc > 2 ? std::atof(argv[2]) : 10;
  if (!(seconds > 0 && edges > 0)) {
    std::fprintf(stderr, "usage: metering_bench [SECONDS] [EDGES]\n");
    return 2;
  }
  const std::string root = MakeRoot();
  const pid_t mover = fork();
  if (mover == 0) {
    for (int64_t step = 1;; ++step) {
      Move(root, step);
      absl::SleepFor(absl::Milliseconds(1));
    }
  }
  fedwatt::MeterOptions tree;
  tree.root = root;
  tree.calibration = root + "/calibration.json";
  bool held = Measure("tree", "rapl", tree, seconds, edges);
  held &= Measure("tree", "cpu_model", tree, seconds, edges);
  held &= Measure("tree", "cpu_time", tree, seconds, edges);
  held &= Measure("machine", "auto", {}, seconds, edges);
  kill(mover, SIGKILL);
  waitpid(mover, nullptr, 0);
  std::filesystem::remove_all(root);
  return held ? 0 : 1;
}

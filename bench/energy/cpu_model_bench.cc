// cpu_model_bench FOLDER: the CPU model against published load sweeps with RAPL, each level predicted from the others.
//
// FOLDER holds the CSVs of github.com/mlco2/codecarbon, codecarbon/data/hardware/cpu_load_profiling (MIT licence; read at commit b05965e4). Watts are
// rapl_energy over duration. The column rapl_power is one level late: it repeats the watts of the row before, as `lag` shows (the largest difference), and so gives 0.2
// to 1.4 W for idle machines; `late` is the model's mean error on that column. Levels below 6 % load are left out, as in the study that set the bars.
// Exit code 1 where a bar is missed: mean error at most 10 % on three hosts and 15 % on the fourth, 85 to 95 % of levels inside their 90 % interval.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "fedwatt/base/file.h"
#include "fedwatt/energy/cpu_model.h"

namespace {

struct Level {
  double load;
  fedwatt::CpuModel::Sample sample;
  fedwatt::Power late;  // rapl_power
};

struct LeftOut {
  double sum = 0, largest = 0, inside = 0;
};

// Each sample against the model of the others.
LeftOut LeaveOneOut(const std::vector<fedwatt::CpuModel::Sample>& samples) {
  LeftOut out;
  for (size_t i = 0; i < samples.size(); ++i) {
    std::vector<fedwatt::CpuModel::Sample> others = samples;
    others.erase(others.begin() + static_cast<ptrdiff_t>(i));
    const auto predicted = fedwatt::CpuModel::Fit(others).value().Predict(samples[i].activity);
    const double off = std::abs(predicted.power.watts() / samples[i].power.watts() - 1);
    out.sum += off;
    out.largest = std::max(out.largest, off);
    out.inside += predicted.low <= samples[i].power && samples[i].power <= predicted.high;
  }
  return out;
}

bool Load(const std::string& path, bool some_cores, std::vector<Level>& levels, double& lag_error) {
  absl::StatusOr<std::string> text = fedwatt::ReadFile(path, 1 << 20);
  if (!text.ok()) {
    std::fprintf(stderr, "%s\n", std::string(text.status().message()).c_str());
    return false;
  }
  std::map<std::string, size_t> column;
  double before_watts = 0;
  for (absl::string_view line : absl::StrSplit(*text, '\n', absl::SkipWhitespace())) {
    const std::vector<std::string> cells = absl::StrSplit(absl::StripAsciiWhitespace(line), ',');
    if (column.empty()) {
      for (size_t i = 0; i < cells.size(); ++i) column[cells[i]] = i;
      continue;
    }
    const auto number = [&](const char* name) {
      double value = NAN;
      const auto at = column.find(name);
      if (at == column.end() || at->second >= cells.size() || !absl::SimpleAtod(cells[at->second], &value)) value = NAN;
      return value;
    };
    const double load = number("cpu_load") / 100, ghz = number("cpu_freq") / 1000;
    const double watts = number("rapl_energy") * 3.6e6 / number("duration");
    if (!(load >= 0 && ghz > 0 && watts > 0 && number("rapl_power") > 0)) {
      std::fprintf(stderr, "%s: a row without load, frequency or energy\n", path.c_str());
      return false;
    }
    if (before_watts > 0) lag_error = std::max(lag_error, std::abs(number("rapl_power") / before_watts - 1));
    before_watts = watts;
    // All hosts have two hardware threads a core. Some cores: whole threads, which the kernel puts on cores of their own first. All cores: each busy for `load`.
    const double apart = some_cores ? std::min(1.0, 2 * load) : 1 - (1 - load) * (1 - load);
    const double together = some_cores ? std::min(1.0, 2 * load) : load;
    levels.push_back({load, {{apart * ghz, together * ghz}, fedwatt::Watts(watts)}, fedwatt::Watts(number("rapl_power"))});
  }
  return !levels.empty();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: cpu_model_bench FOLDER\n");
    return 2;
  }
  // E5-1240 is a second run of the host of E3-1240, with the core counter probably added to the package's; it is shown and not judged.
  const std::vector<std::pair<std::string, bool>> hosts = {
      {"AMD_EPYC_8024P_8C", true}, {"AMD_Threadripper", true}, {"E3-1240", true}, {"E5-2620", true}, {"E5-1240", false}};
  std::printf("%-20s %6s %12s %8s %8s   %17s %8s %8s\n", "host", "levels", "mean error", "largest", "inside", "W, W/GHz, W/GHz", "lag", "late");
  std::vector<double> judged;
  double inside_judged = 0, levels_judged = 0;
  for (const auto& [host, judge] : hosts) {
    std::vector<Level> all;
    double lag_error = 0;
    for (bool some : {false, true}) {
      if (!Load(std::string(argv[1]) + "/" + host + (some ? "_some_cores.csv" : "_all_cores.csv"), some, all, lag_error)) return 6;
    }
    std::vector<fedwatt::CpuModel::Sample> samples, late;
    for (const Level& level : all) {
      if (level.load < 0.06) continue;
      samples.push_back(level.sample);
      late.push_back({level.sample.activity, level.late});
    }
    const LeftOut left = LeaveOneOut(samples), left_late = LeaveOneOut(late);
    const double count = static_cast<double>(samples.size());
    const auto coefficients = fedwatt::CpuModel::Fit(samples).value().coefficients();
    std::printf("%-20s %6.0f %10.1f %% %6.0f %% %6.0f %%   %5.1f %5.1f %5.1f %6.0f %% %6.1f %%\n", host.c_str(), count, 100 * left.sum / count, 100 * left.largest,
                100 * left.inside / count, coefficients[0], coefficients[1], coefficients[2], 100 * lag_error, 100 * left_late.sum / count);
    if (!judge) continue;
    judged.push_back(left.sum / count);
    inside_judged += left.inside;
    levels_judged += count;
  }
  std::sort(judged.begin(), judged.end());
  const double coverage = inside_judged / levels_judged;
  const bool met = judged[2] <= 0.10 && judged[3] <= 0.15 && coverage >= 0.85 && coverage <= 0.95;
  std::printf("judged hosts: third best %.1f %% (bar 10), worst %.1f %% (bar 15), inside the 90 %% interval %.1f %% (bar 85 to 95): %s\n", 100 * judged[2],
              100 * judged[3], 100 * coverage, met ? "met" : "missed");
  return met ? 0 : 1;
}

#include "fedwatt/audit/measure.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt {
namespace {

constexpr int64_t kMostRepeats = 1 << 20;

struct Samples {
  int64_t repeats = 1;
  std::vector<double> cpu, joules;  // of one example, a turn each
  std::string problem;
};

// The first of the same work; the task itself where it is that one.
size_t BaseOf(absl::Span<const Task> tasks, size_t i) {
  for (size_t k = 0; k < i; ++k) {
    if (tasks[k].work == tasks[i].work) return k;
  }
  return i;
}

class Measurer {
 public:
  Measurer(absl::Span<const Task> tasks, const MeasureOptions& options) : tasks_(tasks), options_(options), samples_(tasks.size()) {}

  absl::StatusOr<Measurement> Run() {
    start_ = options_.clock->Monotonic();
    for (size_t i = 0; i < tasks_.size(); ++i) FEDWATT_RETURN_IF_ERROR(WarmUp(i));
    Measurement made;
    while (true) {
      for (size_t k = 0; k < tasks_.size(); ++k) {
        const size_t i = made.turns % 2 == 0 ? k : tasks_.size() - 1 - k;
        if (samples_[i].problem.empty()) FEDWATT_RETURN_IF_ERROR(Turn(i));
      }
      ++made.turns;
      const double width = Widest();
      made.narrow_enough = width <= options_.target;
      if (options_.progress) {
        options_.progress(absl::StrFormat("turn %d, %.0f s: %s", made.turns, absl::ToDoubleSeconds(options_.clock->Monotonic() - start_),
                                          std::isfinite(width) ? absl::StrFormat("widest interval +-%.1f %%", 100 * width) : "too few for intervals"));
      }
      if (made.turns >= options_.most_turns || options_.stop.stop_requested()) break;
      if (made.narrow_enough && made.turns >= options_.least_turns) break;
      if (made.turns >= kLeastMeasurements && options_.clock->Monotonic() - start_ >= options_.budget) break;
      if (std::all_of(samples_.begin(), samples_.end(), [](const Samples& one) { return !one.problem.empty(); })) break;
    }
    for (size_t i = 0; i < tasks_.size(); ++i) made.tasks.push_back(CostOf(i));
    return made;
  }

 private:
  // Processor seconds of `repeats`.
  absl::StatusOr<double> Spend(size_t i, int64_t repeats) {
    FEDWATT_ASSIGN_OR_RETURN(const absl::Duration before, options_.cpu());
    const absl::Status ran = tasks_[i].run(repeats);
    FEDWATT_ASSIGN_OR_RETURN(const absl::Duration after, options_.cpu());
    if (!ran.ok()) samples_[i].problem = std::string(ran.message());
    return absl::ToDoubleSeconds(after - before);
  }

  absl::Status WarmUp(size_t i) {
    FEDWATT_RETURN_IF_ERROR(Spend(i, 1).status());
    const double block = absl::ToDoubleSeconds(options_.block);
    Samples& samples = samples_[i];
    while (samples.problem.empty()) {
      FEDWATT_ASSIGN_OR_RETURN(const double seconds, Spend(i, samples.repeats));
      if (seconds >= block || samples.repeats >= kMostRepeats) break;
      // At most eightfold at once: a first look may be far too small.
      const double wanted = std::min(8.0, 1.1 * block / std::max(seconds, 1e-9));
      samples.repeats = std::min(kMostRepeats, std::max(samples.repeats + 1, static_cast<int64_t>(wanted * static_cast<double>(samples.repeats))));
    }
    if (options_.progress) {
      options_.progress(absl::StrFormat("%s, %s: %s", tasks_[i].way, tasks_[i].work,
                                        samples.problem.empty() ? absl::StrCat(samples.repeats * tasks_[i].examples_each, " examples a turn") : samples.problem));
    }
    return absl::OkStatus();
  }

  absl::Status Turn(size_t i) {
    Samples& samples = samples_[i];
    const double examples = static_cast<double>(samples.repeats * tasks_[i].examples_each);
    if (options_.meter != nullptr) FEDWATT_RETURN_IF_ERROR(options_.meter->Start());
    FEDWATT_ASSIGN_OR_RETURN(const double seconds, Spend(i, samples.repeats));
    if (options_.meter != nullptr) {
      const EnergyReading reading = options_.meter->Read();
      // NaN keeps the turn's place, so that pairs stay pairs.
      samples.joules.push_back(reading.missing() ? std::nan("") : reading.energy->joules() / examples);
    }
    samples.cpu.push_back(seconds / examples);
    return absl::OkStatus();
  }

  TaskCost CostOf(size_t i) const {
    const Samples &samples = samples_[i], &base = samples_[BaseOf(tasks_, i)];
    TaskCost cost{tasks_[i].way, tasks_[i].work, samples.problem, {}, {}, {}, {}};
    if (!samples.problem.empty()) return cost;
    cost.cpu_seconds = MeanInterval(samples.cpu);
    // A window that the meter missed is left out, on both sides of a pair.
    std::vector<double> known, with, without;
    for (size_t turn = 0; turn < samples.joules.size(); ++turn) {
      if (std::isnan(samples.joules[turn])) continue;
      known.push_back(samples.joules[turn]);
      if (!base.problem.empty() || std::isnan(base.joules[turn])) continue;
      with.push_back(samples.joules[turn]);
      without.push_back(base.joules[turn]);
    }
    cost.joules = MeanInterval(known);
    if (&base == &samples || !base.problem.empty()) return cost;
    cost.cpu_ratio = RatioInterval(samples.cpu, base.cpu);
    cost.joule_ratio = RatioInterval(with, without);
    return cost;
  }

  double Widest() const {
    double widest = 0;
    for (size_t i = 0; i < tasks_.size(); ++i) {
      if (!samples_[i].problem.empty()) continue;
      const TaskCost cost = CostOf(i);
      widest = std::max(widest, RelativeHalfWidth(cost.cpu_seconds));
      if (BaseOf(tasks_, i) != i && samples_[BaseOf(tasks_, i)].problem.empty()) widest = std::max(widest, RelativeHalfWidth(cost.cpu_ratio));
      if (options_.meter != nullptr) widest = std::max(widest, RelativeHalfWidth(cost.joules));
    }
    return widest;
  }

  const absl::Span<const Task> tasks_;
  const MeasureOptions& options_;
  std::vector<Samples> samples_;
  absl::Duration start_;
};

}  // namespace

absl::StatusOr<Measurement> Measure(absl::Span<const Task> tasks, const MeasureOptions& options) {
  if (!(options.target > 0) || options.least_turns < kLeastMeasurements || options.most_turns < options.least_turns) {
    return absl::InvalidArgumentError(absl::StrCat("measurement: expected a target > 0 and ", kLeastMeasurements, " <= least_turns <= most_turns, got ", options.target, ", ",
                                                   options.least_turns, ", ", options.most_turns));
  }
  if (options.meter != nullptr && IsEstimate(options.meter->tier())) {
    return absl::InvalidArgumentError(absl::StrCat("measurement: meter '", std::string(options.meter->name()), "' estimates; expected one that measures"));
  }
  return Measurer(tasks, options).Run();
}

}  // namespace fedwatt

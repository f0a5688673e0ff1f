#include "fedwatt/round/number_format.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "fedwatt/base/digest.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/process.h"

namespace fedwatt {
namespace {

constexpr double kMeasurementSeconds = 0.06;  // of one turn in float32
constexpr double kBudgetSeconds = 1.5;        // of all turns
constexpr int kMostPairs = 15;
constexpr int64_t kMostFileBytes = 1 << 20;
constexpr size_t kMostRemembered = 4096;

// What a step's time depends on, besides the machine.
std::string Describe(const Plan& plan, int64_t batch) {
  const ArchitectureSpec& spec = plan.architecture;
  std::string text = absl::StrCat(spec.name, "/", absl::StrJoin(spec.input_shape, "x"), "/", spec.output_count, "/", spec.archive_digest.Hex(), "/", plan.layout_digest.Hex(), "/",
                                  batch, "/", plan.recipe.threads, "/", plan.recipe.loss, "/", plan.recipe.momentum != 0, "/bfloat16");
  for (const auto& [key, value] : spec.options) absl::StrAppend(&text, "/", key, "=", value);
  return text;
}

// Processor time where the trainer works on the calling thread: it does not count what others take of a busy machine.
class Stopwatch {
 public:
  explicit Stopwatch(const Clock& clock) : clock_(clock), cpu_(ThreadCpuTime()), wall_(clock.Monotonic()) {}
  double Seconds(int threads) const {
    const double cpu = absl::ToDoubleSeconds(ThreadCpuTime() - cpu_), wall = absl::ToDoubleSeconds(clock_.Monotonic() - wall_);
    return threads == 1 && cpu > 0.02 * wall ? cpu : wall;
  }

 private:
  const Clock& clock_;
  const absl::Duration cpu_, wall_;
};

}  // namespace

FormatChooser::FormatChooser(std::string path, std::string machine) : path_(std::move(path)), machine_(std::move(machine)) {
  if (path_.empty()) return;
  const absl::StatusOr<std::string> text = ReadFile(path_, kMostFileBytes);
  if (!text.ok()) return;
  absl::MutexLock lock(&mutex_);
  for (absl::string_view line : absl::StrSplit(*text, '\n')) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(line, absl::MaxSplits(' ', 1));
    double ratio = 0;
    if (parts.first.size() == 64 && absl::SimpleAtod(parts.second, &ratio) && ratio > 0 && std::isfinite(ratio)) ratios_[parts.first] = ratio;
  }
}

FormatChoice FormatChooser::Choose(const Plan& plan, std::string_view refusal, LocalTrainer& trainer, absl::Span<const float> model, const Dataset& data,
                                   const TrainingControl& control) {
  if (plan.fit.number_format == "float32") return {};
  if (!refusal.empty()) return {"float32", std::string(refusal)};
  if (absl::Status able = trainer.CheckNumberFormat("bfloat16"); !able.ok()) return {"float32", std::string(able.message())};
  if (plan.fit.number_format == "bfloat16") return {"bfloat16", ""};

  const int64_t batch = std::min<int64_t>(plan.recipe.batch_size, data.size());
  const std::string key = Sha256(absl::StrCat(Describe(plan, batch), "/", machine_)).Hex();
  absl::MutexLock lock(&mutex_);
  auto known = ratios_.find(key);
  if (known == ratios_.end()) {
    const Measured measured = Probe(plan.recipe, trainer, model, data, control);
    if (measured.ratio == 0) return {"float32", absl::StrCat("bfloat16 was not measured: ", measured.problem)};
    Remember(key, measured.ratio);
    known = ratios_.find(key);
  }
  const std::string words = absl::StrFormat("a step in bfloat16 is %.2f times as fast, batch %d", known->second, batch);
  if (known->second >= kWorthwhile) return {"bfloat16", words};
  return {"float32", absl::StrCat(words, "; at least ", kWorthwhile, " is worth it")};
}

FormatChooser::Measured FormatChooser::Probe(const TrainingRecipe& asked, LocalTrainer& trainer, absl::Span<const float> model, const Dataset& data,
                                             const TrainingControl& control) const {
  std::vector<float> trained(model.size());
  std::string problem;
  // Seconds a step, or nothing once something is wrong.
  const auto time = [&](const char* format, int32_t steps) -> std::optional<double> {
    if (!problem.empty()) return std::nullopt;
    TrainingRecipe recipe = asked;
    recipe.number_format = format;
    recipe.local_steps = steps;
    recipe.client_learning_rate = 1e-6;  // so many steps from one model must not diverge
    const Stopwatch watch(*control.clock);
    const absl::StatusOr<TrainingResult> result = trainer.Train(model, data, recipe, 0, {.stop = control.stop, .deadline = control.deadline, .clock = control.clock}, absl::MakeSpan(trained));
    if (!result.ok()) {
      problem = std::string(result.status().message());
    } else if (result->steps_done < steps) {
      problem = "stopped";
    } else if (const double seconds = watch.Seconds(asked.threads); seconds > 0) {
      return seconds / steps;
    } else {
      problem = "its clock stands still";
    }
    return std::nullopt;
  };
  const Stopwatch all(*control.clock);
  time("bfloat16", 1);  // warms up
  const std::optional<double> step = time("float32", 2);
  const int32_t steps = step.has_value() ? static_cast<int32_t>(std::clamp(kMeasurementSeconds / *step, 1.0, 1000.0)) : 1;
  std::vector<double> ratios;
  while (problem.empty() && static_cast<int>(ratios.size()) < kMostPairs && (ratios.empty() || all.Seconds(asked.threads) < kBudgetSeconds)) {
    const std::optional<double> wide = time("float32", steps), narrow = time("bfloat16", steps);
    if (wide.has_value() && narrow.has_value()) ratios.push_back(*wide / *narrow);
  }
  if (!problem.empty()) return {0, problem};
  std::nth_element(ratios.begin(), ratios.begin() + static_cast<int64_t>(ratios.size() / 2), ratios.end());
  return {ratios[ratios.size() / 2], ""};
}

void FormatChooser::Remember(const std::string& key, double ratio) {
  if (ratios_.size() >= kMostRemembered) ratios_.clear();
  ratios_[key] = ratio;
  if (path_.empty()) return;
  std::string text;
  for (const auto& [known, value] : ratios_) absl::StrAppendFormat(&text, "%s %.4f\n", known, value);
  // Where it can't be kept it is measured again after the next start.
  (void)WriteFileAtomically(path_, text);
}

}  // namespace fedwatt

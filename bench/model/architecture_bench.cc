// Processor time and memory of one architecture at one length, training and inference apart: one line of JSON. A process each, since memory is its peak.
//   architecture_bench ARCHITECTURE LENGTH BATCH TURNS [option=value ...]
// LENGTH tokens of a vocabulary of 65. CPU seconds are of the process, per token; medians over TURNS turns of one step of SGD, or one scored batch, after one
// turn to warm up. Memory is the peak resident set over what the process held before the model was made.
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "absl/time/time.h"
#include "fedwatt/base/process.h"
#include "speed.h"

int main(int argc, char** argv) {
  using namespace fedwatt;
  if (argc < 5) {
    std::fprintf(stderr, "usage: architecture_bench ARCHITECTURE LENGTH BATCH TURNS [option=value ...]\n");
    return 2;
  }
  const int64_t length = std::atoll(argv[2]), batch = std::atoll(argv[3]);
  const int turns = std::atoi(argv[4]);
  if (length < 1 || batch < 1 || turns < 1) return 2;
  if (!ConfigureKernels(1).ok()) return 1;
  ArchitectureSpec spec{.name = argv[1], .input_shape = {length}, .output_count = 65};
  for (int i = 5; i < argc; ++i) {
    const char* equals = std::strchr(argv[i], '=');
    if (equals == nullptr) return 2;
    spec.options[std::string(argv[i], static_cast<size_t>(equals - argv[i]))] = equals + 1;
  }
  const Dataset data = bench::SyntheticTokens(spec, batch);
  const auto peak = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss * 1024;
  };
  const int64_t before = peak();
  absl::StatusOr<std::unique_ptr<LocalTrainer>> trainer = MakeTorchTrainer(spec);
  if (!trainer.ok()) {
    std::fprintf(stderr, "%s\n", std::string(trainer.status().message()).c_str());
    return 1;
  }
  const std::vector<float> start = *(*trainer)->InitialModel(1);
  std::vector<float> trained(start.size());
  const auto median_per_token = [&](const auto& work) {
    std::vector<double> seconds;
    for (int turn = 0; turn <= turns; ++turn) {
      const absl::Duration begin = ProcessCpuTime();
      if (!work()) std::exit(1);
      if (turn > 0) seconds.push_back(absl::ToDoubleSeconds(ProcessCpuTime() - begin) / static_cast<double>(batch * length));
    }
    return bench::Median(std::move(seconds));
  };
  const double inference = median_per_token([&] { return (*trainer)->Evaluate(start, data, "cross_entropy").ok(); });
  const int64_t inference_peak = peak();
  const TrainingRecipe recipe{.local_steps = 1, .batch_size = static_cast<int32_t>(batch), .client_learning_rate = 0.01};
  const double training = median_per_token([&] { return (*trainer)->Train(start, data, recipe, 1, {}, absl::MakeSpan(trained)).ok(); });
  std::printf(
      "{\"architecture\": \"%s\", \"length\": %lld, \"batch\": %lld, \"turns\": %d, \"parameters\": %lld, \"macs\": %.0f, \"inference_us_per_token\": %.4f, "
      "\"training_us_per_token\": %.4f, \"inference_peak_bytes\": %lld, \"training_peak_bytes\": %lld}\n",
      argv[1], static_cast<long long>(length), static_cast<long long>(batch), turns, static_cast<long long>(start.size()),
      MacsPerExample((*trainer)->layout(), (*trainer)->UsesPerExample()), 1e6 * inference, 1e6 * training, static_cast<long long>(inference_peak - before),
      static_cast<long long>(peak() - before));
  return 0;
}

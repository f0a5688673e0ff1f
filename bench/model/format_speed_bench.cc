// What a step of local SGD costs in bfloat16 against float32: processor seconds a step, by batch size, one kernel thread.
//
//   build/release/bin/format_speed_bench [architecture [repeats [batch size ...]]]
//
// Both formats take turns within each repeat, so that whatever else the machine does hits both alike; ratios are of the same repeat.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "fedwatt/base/process.h"
#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/torch/torch_trainer.h"

namespace fedwatt {
namespace {

constexpr double kSecondsEach = 0.3;  // of one measurement in float32

Dataset Synthetic(const ArchitectureSpec& spec, int64_t count) {
  Random random(1);
  ExampleStore store;
  store.input_shape = spec.input_shape;
  store.output_count = spec.output_count;
  if (spec.name == "char_lstm") {
    std::vector<int32_t> tokens(static_cast<size_t>(count * store.input_size()));
    for (int32_t& token : tokens) token = static_cast<int32_t>(random.Below(static_cast<uint64_t>(spec.output_count)));
    store.inputs = std::move(tokens);
  } else {
    std::vector<float> values(static_cast<size_t>(count * store.input_size()));
    for (float& value : values) value = static_cast<float>(random.Normal());
    store.inputs = std::move(values);
  }
  for (int64_t i = 0; i < count; ++i) store.labels.push_back(static_cast<int32_t>(random.Below(static_cast<uint64_t>(spec.output_count))));
  return *Dataset::Create(std::move(store));
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

int Run(const std::string& architecture, int repeats, const std::vector<int32_t>& batches) {
  ArchitectureSpec spec{.name = architecture, .input_shape = {1, 28, 28}, .output_count = 10};
  if (architecture == "char_lstm") spec.input_shape = {80}, spec.output_count = 80;
  if (architecture == "lenet" || architecture == "pfl_cnn") spec.input_shape = {3, 32, 32};
  absl::StatusOr<std::unique_ptr<LocalTrainer>> trainer = MakeTorchTrainer(spec);
  if (!trainer.ok()) return std::fprintf(stderr, "%s\n", trainer.status().ToString().c_str()), 1;
  const std::vector<float> model = *(*trainer)->InitialModel(1);
  std::vector<float> local(model.size());
  const absl::Status able = CheckBfloat16Instructions();
  std::printf("bfloat16 instructions: %s\n%s, %d repeats\n%-6s %14s %14s %s\n", able.ok() ? "yes" : std::string(able.message()).c_str(), architecture.c_str(), repeats, "batch",
              "float32 ms/step", "bfloat16", "times faster, median (least to most)");
  for (int32_t batch : batches) {
    const Dataset data = Synthetic(spec, std::max<int64_t>(batch, 512 / batch * batch));
    const auto seconds_a_step = [&](const char* format, int32_t steps) {
      TrainingRecipe recipe{.local_steps = steps, .batch_size = batch, .client_learning_rate = 0.001, .number_format = format};
      const absl::Duration start = ThreadCpuTime();
      FEDWATT_CHECK((*trainer)->Train(model, data, recipe, 1, {}, absl::MakeSpan(local)).ok());
      return absl::ToDoubleSeconds(ThreadCpuTime() - start) / steps;
    };
    seconds_a_step("bfloat16", 2);
    seconds_a_step("float32", 2);
    const int32_t steps = static_cast<int32_t>(std::clamp(kSecondsEach / seconds_a_step("float32", 2), 1.0, 10000.0));
    std::vector<double> seconds[2], ratios;
    for (int repeat = 0; repeat < repeats; ++repeat) {
      seconds[0].push_back(seconds_a_step("float32", steps));
      seconds[1].push_back(seconds_a_step("bfloat16", steps));
      ratios.push_back(seconds[0].back() / seconds[1].back());
    }
    std::printf("%-6d %14.3f %14.3f %.2f (%.2f to %.2f)\n", batch, 1e3 * Median(seconds[0]), 1e3 * Median(seconds[1]), Median(ratios),
                *std::min_element(ratios.begin(), ratios.end()), *std::max_element(ratios.begin(), ratios.end()));
  }
  return 0;
}

}  // namespace
}  // namespace fedwatt

int main(int argc, char** argv) {
  if (!fedwatt::ConfigureKernels(1).ok()) return 1;
  for (const auto& [key, value] : fedwatt::KernelFacts()) std::printf("%s %s\n", key.c_str(), value.c_str());
  std::vector<int32_t> batches;
  for (int i = 3; i < argc; ++i) batches.push_back(std::max(1, std::atoi(argv[i])));
  return fedwatt::Run(argc > 1 ? argv[1] : "fedavg_cnn", argc > 2 ? std::max(1, std::atoi(argv[2])) : 7, batches.empty() ? std::vector<int32_t>{10, 50, 128} : batches);
}

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
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/torch/torch_trainer.h"
#include "speed.h"

namespace fedwatt {
namespace {

constexpr double kSecondsEach = 0.3;  // of one measurement in float32

int Run(const std::string& architecture, int repeats, const std::vector<int32_t>& batches) {
  const ArchitectureSpec spec = bench::TypicalSpec(architecture);
  absl::StatusOr<std::unique_ptr<LocalTrainer>> trainer = MakeTorchTrainer(spec);
  if (!trainer.ok()) return std::fprintf(stderr, "%s\n", trainer.status().ToString().c_str()), 1;
  const std::vector<float> model = *(*trainer)->InitialModel(1);
  std::vector<float> local(model.size());
  const absl::Status able = CheckBfloat16Instructions();
  std::printf("bfloat16 instructions: %s\n%s, %d repeats\n%-6s %14s %14s %s\n", able.ok() ? "yes" : std::string(able.message()).c_str(), architecture.c_str(), repeats, "batch",
              "float32 ms/step", "bfloat16", "times faster, median (least to most)");
  for (int32_t batch : batches) {
    const Dataset data = bench::Synthetic(spec, std::max<int64_t>(batch, 512 / batch * batch));
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
    std::printf("%-6d %14.3f %14.3f %s\n", batch, 1e3 * bench::Median(seconds[0]), 1e3 * bench::Median(seconds[1]), bench::MedianAndSpread(ratios).c_str());
  }
  return 0;
}

}  // namespace
}  // namespace fedwatt

int main(int argc, char** argv) {
  if (!fedwatt::bench::SetUp()) return 1;
  return fedwatt::Run(argc > 1 ? argv[1] : "fedavg_cnn", argc > 2 ? std::max(1, std::atoi(argv[2])) : 7, fedwatt::bench::Numbers(argc, argv, 3, {10, 50, 128}));
}

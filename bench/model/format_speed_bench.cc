// What a step of local SGD costs in bfloat16, and when it rounds for 8-bit integers, against float32: processor seconds a step, by batch size, one kernel thread.
//
//   build/release/bin/format_speed_bench [architecture [repeats [batch size ...]]]
//
// All ways take turns within each repeat, so that whatever else the machine does hits all alike; ratios are of the same repeat.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fedwatt/base/process.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/torch/torch_trainer.h"
#include "speed.h"

namespace fedwatt {
namespace {

constexpr double kSecondsEach = 0.3;  // of one measurement in float32

struct Way {
  const char* name;
  const char* quantization;
  const char* number_format;
};
constexpr Way kWays[] = {{"float32", "", "float32"}, {"bfloat16", "", "bfloat16"}, {"float32, for int8", "int8", "float32"}, {"bfloat16, for int8", "int8", "bfloat16"}};

int Run(const std::string& architecture, int repeats, const std::vector<int32_t>& batches) {
  const absl::Status able = CheckBfloat16Instructions();
  std::printf("bfloat16 instructions: %s\n%s, %d repeats; ms a step, times faster than float32, median (least to most)\n", able.ok() ? "yes" : std::string(able.message()).c_str(),
              architecture.c_str(), repeats);
  for (int32_t batch : batches) {
    ArchitectureSpec spec = bench::TypicalSpec(architecture);
    const Dataset data = bench::Synthetic(spec, std::max<int64_t>(batch, 512 / batch * batch));
    std::vector<std::function<double(int32_t)>> seconds_a_step;  // of so many steps; one for each way that this model can be trained
    for (const Way& way : kWays) {
      spec.quantization = way.quantization;
      absl::StatusOr<std::unique_ptr<LocalTrainer>> made = MakeTorchTrainer(spec);
      if (absl::IsUnimplemented(made.status())) break;
      if (!made.ok()) return std::fprintf(stderr, "%s\n", made.status().ToString().c_str()), 1;
      std::shared_ptr<LocalTrainer> trainer = *std::move(made);
      seconds_a_step.push_back([&data, &way, batch, trainer, model = *trainer->InitialModel(1), local = std::vector<float>(static_cast<size_t>(trainer->layout().value_count()))](int32_t steps) mutable {
        const TrainingRecipe recipe{.local_steps = steps, .batch_size = batch, .client_learning_rate = 0.001, .number_format = way.number_format};
        const absl::Duration start = ThreadCpuTime();
        FEDWATT_CHECK(trainer->Train(model, data, recipe, 1, {}, absl::MakeSpan(local)).ok());
        return absl::ToDoubleSeconds(ThreadCpuTime() - start) / steps;
      });
    }
    for (auto& measure : seconds_a_step) measure(2);
    const int32_t steps = static_cast<int32_t>(std::clamp(kSecondsEach / seconds_a_step[0](2), 1.0, 10000.0));
    std::vector<std::vector<double>> seconds(seconds_a_step.size()), ratios(seconds_a_step.size());
    for (int repeat = 0; repeat < repeats; ++repeat) {
      for (size_t way = 0; way < seconds.size(); ++way) {
        seconds[way].push_back(seconds_a_step[way](steps));
        ratios[way].push_back(seconds[0].back() / seconds[way].back());
      }
    }
    for (size_t way = 0; way < seconds.size(); ++way) {
      std::printf("batch %-5d %-20s %9.3f  %s\n", batch, kWays[way].name, 1e3 * bench::Median(seconds[way]), bench::MedianAndSpread(ratios[way]).c_str());
    }
  }
  return 0;
}

}  // namespace
}  // namespace fedwatt

int main(int argc, char** argv) {
  if (!fedwatt::bench::SetUp()) return 1;
  return fedwatt::Run(argc > 1 ? argv[1] : "fedavg_cnn", argc > 2 ? std::max(1, std::atoi(argv[2])) : 7, fedwatt::bench::Numbers(argc, argv, 3, {10, 50, 128}));
}

// What the delivered int8 model buys in inference: processor seconds an example of final-int8.pt against final.pt, one kernel thread, and the sizes of both files.
//
//   build/release/bin/int8_speed_bench [architecture [repeats [batch size ...]]]
//
// Both take turns within each repeat, so that whatever else the machine does hits both alike; ratios are of the same repeat.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include <torch/script.h>

#include "fedwatt/base/process.h"
#include "fedwatt/base/random.h"
#include "fedwatt/model/torch/quantization.h"
#include "fedwatt/model/torch/torch_trainer.h"

namespace fedwatt {
namespace {

constexpr int64_t kExamples = 1024;  // of one measurement

Dataset Synthetic(const ArchitectureSpec& spec) {
  Random random(1);
  ExampleStore store;
  store.input_shape = spec.input_shape;
  store.output_count = spec.output_count;
  std::vector<float> values(static_cast<size_t>(kExamples * store.input_size()));
  for (float& value : values) value = static_cast<float>(random.Normal());
  store.inputs = std::move(values);
  for (int64_t i = 0; i < kExamples; ++i) store.labels.push_back(static_cast<int32_t>(random.Below(static_cast<uint64_t>(spec.output_count))));
  return *Dataset::Create(std::move(store));
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

double SecondsPerExample(torch::jit::Module& archive, const at::Tensor& batch) {
  const int64_t calls = std::max<int64_t>(1, kExamples / batch.size(0));
  const absl::Duration start = ThreadCpuTime();
  for (int64_t i = 0; i < calls; ++i) archive.forward({batch});
  return absl::ToDoubleSeconds(ThreadCpuTime() - start) / static_cast<double>(calls * batch.size(0));
}

int Run(const std::string& architecture, int repeats, const std::vector<int64_t>& batches) {
  ArchitectureSpec spec{.name = architecture, .input_shape = {1, 28, 28}, .output_count = 10};
  if (architecture == "lenet" || architecture == "pfl_cnn") spec.input_shape = {3, 32, 32};
  absl::StatusOr<std::unique_ptr<LocalTrainer>> trainer = MakeTorchTrainer(spec);
  if (!trainer.ok()) return std::fprintf(stderr, "%s\n", trainer.status().ToString().c_str()), 1;
  const std::vector<float> model = *(*trainer)->InitialModel(1);
  const std::string stem = std::filesystem::temp_directory_path() / ("int8_speed_bench_" + architecture);
  const std::string paths[] = {stem + ".pt", stem + "-int8.pt"};
  if (absl::Status written = WriteTorchScript(spec, model, paths[0]); !written.ok()) return std::fprintf(stderr, "%s\n", written.ToString().c_str()), 1;
  absl::StatusOr<Int8Delivery> delivery = WriteQuantizedTorchScript(spec, model, Synthetic(spec), paths[1]);
  if (!delivery.ok()) return std::fprintf(stderr, "%s\n", delivery.status().ToString().c_str()), 1;
  const double whole = static_cast<double>(std::filesystem::file_size(paths[0]));
  std::printf("%s: %.0f bytes in float32, %ld in int8 (%.4f)\n%-6s %14s %14s %s\n", architecture.c_str(), whole, static_cast<long>(*delivery->bytes),
              static_cast<double>(*delivery->bytes) / whole, "batch", "float32 us/ex.", "int8 us/ex.", "times faster, median (least to most)");
  at::NoGradGuard no_grad;
  torch::jit::Module archives[] = {torch::jit::load(paths[0]), torch::jit::load(paths[1])};
  for (int64_t size : batches) {
    std::vector<int64_t> shape = spec.input_shape;
    shape.insert(shape.begin(), size);
    const at::Tensor batch = at::randn(shape);
    std::vector<double> seconds[2], ratios;
    for (int repeat = -2; repeat < repeats; ++repeat) {  // the first two warm up: TorchScript rewrites a graph after its first runs
      double took[2];
      for (int which : {0, 1}) took[which] = SecondsPerExample(archives[which], batch);
      if (repeat < 0) continue;
      for (int which : {0, 1}) seconds[which].push_back(took[which]);
      ratios.push_back(took[0] / took[1]);
    }
    std::printf("%-6ld %14.1f %14.1f %.2f (%.2f to %.2f)\n", static_cast<long>(size), 1e6 * Median(seconds[0]), 1e6 * Median(seconds[1]), Median(ratios),
                *std::min_element(ratios.begin(), ratios.end()), *std::max_element(ratios.begin(), ratios.end()));
  }
  for (const std::string& path : paths) std::filesystem::remove(path);
  return 0;
}

}  // namespace
}  // namespace fedwatt

int main(int argc, char** argv) {
  if (!fedwatt::ConfigureKernels(1).ok()) return 1;
  for (const auto& [key, value] : fedwatt::KernelFacts()) std::printf("%s %s\n", key.c_str(), value.c_str());
  std::vector<int64_t> batches;
  for (int i = 3; i < argc; ++i) batches.push_back(std::max(1, std::atoi(argv[i])));
  return fedwatt::Run(argc > 1 ? argv[1] : "fedavg_cnn", argc > 2 ? std::max(1, std::atoi(argv[2])) : 7, batches.empty() ? std::vector<int64_t>{1, 32, 128} : batches);
}

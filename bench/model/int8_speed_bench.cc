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
#include "fedwatt/model/torch/quantization.h"
#include "fedwatt/model/torch/torch_trainer.h"
#include "speed.h"

namespace fedwatt {
namespace {

constexpr int64_t kExamples = 1024;  // of one measurement

double SecondsPerExample(torch::jit::Module& archive, const at::Tensor& batch) {
  const int64_t calls = std::max<int64_t>(1, kExamples / batch.size(0));
  const absl::Duration start = ThreadCpuTime();
  for (int64_t i = 0; i < calls; ++i) archive.forward({batch});
  return absl::ToDoubleSeconds(ThreadCpuTime() - start) / static_cast<double>(calls * batch.size(0));
}

int Run(const std::string& architecture, int repeats, const std::vector<int32_t>& batches) {
  const ArchitectureSpec spec = bench::TypicalSpec(architecture);
  absl::StatusOr<std::unique_ptr<LocalTrainer>> trainer = MakeTorchTrainer(spec);
  if (!trainer.ok()) return std::fprintf(stderr, "%s\n", trainer.status().ToString().c_str()), 1;
  const std::vector<float> model = *(*trainer)->InitialModel(1);
  const std::string stem = std::filesystem::temp_directory_path() / ("int8_speed_bench_" + architecture);
  const std::string paths[] = {stem + ".pt", stem + "-int8.pt"};
  if (absl::Status written = WriteTorchScript(spec, model, paths[0]); !written.ok()) return std::fprintf(stderr, "%s\n", written.ToString().c_str()), 1;
  absl::StatusOr<Int8Delivery> delivery = WriteQuantizedTorchScript(spec, model, bench::Synthetic(spec, kExamples), paths[1]);
  if (!delivery.ok()) return std::fprintf(stderr, "%s\n", delivery.status().ToString().c_str()), 1;
  const double whole = static_cast<double>(std::filesystem::file_size(paths[0]));
  std::printf("%s: %.0f bytes in float32, %ld in int8 (%.4f)\n%-6s %14s %14s %s\n", architecture.c_str(), whole, static_cast<long>(*delivery->bytes),
              static_cast<double>(*delivery->bytes) / whole, "batch", "float32 us/ex.", "int8 us/ex.", "times faster, median (least to most)");
  at::NoGradGuard no_grad;
  torch::jit::Module archives[] = {torch::jit::load(paths[0]), torch::jit::load(paths[1])};
  for (int32_t size : batches) {
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
    std::printf("%-6ld %14.1f %14.1f %s\n", static_cast<long>(size), 1e6 * bench::Median(seconds[0]), 1e6 * bench::Median(seconds[1]), bench::MedianAndSpread(ratios).c_str());
  }
  for (const std::string& path : paths) std::filesystem::remove(path);
  return 0;
}

}  // namespace
}  // namespace fedwatt

int main(int argc, char** argv) {
  if (!fedwatt::bench::SetUp()) return 1;
  return fedwatt::Run(argc > 1 ? argv[1] : "fedavg_cnn", argc > 2 ? std::max(1, std::atoi(argv[2])) : 7, fedwatt::bench::Numbers(argc, argv, 3, {1, 32, 128}));
}

// What a narrower client's training really costs: processor seconds an example of local SGD at several widths of one architecture, one kernel thread.
//
//   build/release/bin/width_speed_bench [architecture or FILE.pt [repeats [batch size [examples]]]]
//
// A TorchScript archive takes examples of 1 x 28 x 28; its processor time includes that of the fedwatt-trainer processes in which it trains.
// Widths take turns within each repeat, so that whatever else the machine does hits all alike; ratios are to the full width of the same repeat.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "fedwatt/base/file.h"
#include "fedwatt/base/process.h"
#include "fedwatt/model/torch/torch_trainer.h"
#include "fedwatt/model/torchscript/torch_script_trainer.h"
#include "fedwatt/round/fitting.h"
#include "speed.h"

namespace fedwatt {
namespace {

struct Width {
  double fraction = 1;
  std::unique_ptr<LocalTrainer> trainer;
  std::vector<float> model, local;
  std::vector<double> seconds, ratios;
};

int Run(const std::string& architecture, int repeats, int32_t batch, int64_t examples) {
  ArchitectureSpec spec = bench::TypicalSpec(architecture);
  LocalTrainerFactory make = MakeTorchTrainer;
  if (architecture.ends_with(".pt")) {
    spec.name = "torchscript";
    absl::StatusOr<std::string> archive = ReadFile(architecture);
    if (!archive.ok()) return std::fprintf(stderr, "%s\n", archive.status().ToString().c_str()), 1;
    absl::StatusOr<std::shared_ptr<const ArchiveChannels>> channels = FindArchiveChannels(spec, *archive);
    if (!channels.ok()) return std::fprintf(stderr, "%s\n", channels.status().ToString().c_str()), 1;
    make = [archive = *std::move(archive), channels = *std::move(channels)](const ArchitectureSpec& narrow) { return MakeTorchScriptTrainerFromBytes(narrow, archive, {.channels = channels}); };
  }
  const Dataset data = bench::Synthetic(spec, examples);
  TrainingRecipe recipe;
  recipe.batch_size = batch;
  recipe.client_learning_rate = 0.01;
  std::vector<Width> widths;
  std::vector<ChannelGroup> groups;
  for (double fraction : {1.0, 0.5, 0.25, 0.125, 0.0625}) {
    Width width;
    width.fraction = fraction;
    ArchitectureSpec narrow = spec;
    if (fraction < 1) {
      absl::StatusOr<Fitter> fitter = Fitter::Create({.policy = "fixed", .widths = {fraction}}, groups);
      if (!fitter.ok()) return std::fprintf(stderr, "%s\n", fitter.status().ToString().c_str()), 1;
      narrow.kept = fitter->Cut(fraction, 1).kept;
    }
    absl::StatusOr<std::unique_ptr<LocalTrainer>> trainer = make(narrow);
    if (!trainer.ok()) return std::fprintf(stderr, "%s\n", trainer.status().ToString().c_str()), 1;
    width.trainer = *std::move(trainer);
    if (groups.empty()) groups = width.trainer->channel_groups();
    width.model = *width.trainer->InitialModel(1);
    width.local.resize(width.model.size());
    widths.push_back(std::move(width));
  }
  for (int repeat = -1; repeat < repeats; ++repeat) {  // the first warms up
    for (Width& width : widths) {
      const absl::Duration start = ThreadCpuTime();
      if (!width.trainer->Train(width.model, data, recipe, 1, {}, absl::MakeSpan(width.local)).ok()) return 1;
      if (repeat < 0) continue;
      width.seconds.push_back(absl::ToDoubleSeconds(ThreadCpuTime() - start) / static_cast<double>(examples));
      width.ratios.push_back(widths[0].seconds.back() / width.seconds.back());
    }
  }
  const double parameters = static_cast<double>(widths[0].model.size()), macs = MacsPerExample(widths[0].trainer->layout(), widths[0].trainer->UsesPerExample());
  std::printf("%s, batch %d, %d repeats of %ld examples\n%-8s %10s %7s %7s %12s %s\n", architecture.c_str(), batch, repeats, static_cast<long>(examples), "width",
              "parameters", "share", "macs", "cpu us/ex.", "times faster, median (least to most)");
  for (const Width& width : widths) {
    std::printf("%-8g %10zu %6.1f%% %6.1f%% %12.1f %s\n", width.fraction, width.model.size(), 100 * static_cast<double>(width.model.size()) / parameters,
                100 * MacsPerExample(width.trainer->layout(), width.trainer->UsesPerExample()) / macs, 1e6 * bench::Median(width.seconds), bench::MedianAndSpread(width.ratios).c_str());
  }
  return 0;
}

}  // namespace
}  // namespace fedwatt

int main(int argc, char** argv) {
  if (!fedwatt::bench::SetUp()) return 1;
  return fedwatt::Run(argc > 1 ? argv[1] : "fedavg_cnn", argc > 2 ? std::max(1, std::atoi(argv[2])) : 7, argc > 3 ? std::max(1, std::atoi(argv[3])) : 10,
                      argc > 4 ? std::max(1, std::atoi(argv[4])) : 600);
}

// What a trained spiking network costs, and whether it beats an integer network of equal information: from the run record of a federation of lif_snn.
//   spiking_report RUN_DIRECTORY DATA_DIRECTORY [option=value ...]
// Reads the last model of the run and Fashion-MNIST's test images; options are the architecture's. Prints one line of JSON, then a sentence for each hardware assumption.
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>

#include "fedwatt/base/file.h"
#include "fedwatt/data/reader.h"
#include "fedwatt/energy/theoretical.h"
#include "fedwatt/model/container.h"
#include "fedwatt/model/torch/architecture.h"
#include "fedwatt/model/torch/torch_trainer.h"

namespace {

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "spiking_report: %s\n", std::string(status.message()).c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace fedwatt;
  if (argc < 3) {
    std::fprintf(stderr, "usage: spiking_report RUN_DIRECTORY DATA_DIRECTORY [option=value ...]\n");
    return 2;
  }
  if (!ConfigureKernels(1).ok()) return 1;
  ArchitectureSpec spec{.name = "lif_snn", .input_shape = {1, 28, 28}, .output_count = 10};
  for (int i = 3; i < argc; ++i) {
    const char* equals = std::strchr(argv[i], '=');
    if (equals == nullptr) return 2;
    spec.options[std::string(argv[i], static_cast<size_t>(equals - argv[i]))] = equals + 1;
  }
  std::map<int64_t, std::string> models;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(argv[1]) + "/model")) {
    long long round = 0;
    if (std::sscanf(entry.path().filename().c_str(), "global-%lld.fwt", &round) == 1) models[round] = entry.path();
  }
  if (models.empty()) return Fail(absl::NotFoundError(std::string(argv[1]) + "/model/global-*.fwt: no such file"));
  const absl::StatusOr<std::string> bytes = ReadFile(models.rbegin()->second);
  if (!bytes.ok()) return Fail(bytes.status());
  const absl::StatusOr<ParameterLayout> layout = ArchitectureLayout(spec);
  if (!layout.ok()) return Fail(layout.status());
  const absl::StatusOr<ContainerView> view = ParseContainer(*bytes, 1 << 30);
  if (!view.ok()) return Fail(view.status());
  std::vector<float> model(static_cast<size_t>(layout->value_count()));
  if (view->payload.size() != model.size() * sizeof(float)) return Fail(absl::InvalidArgumentError("the model has another size than the architecture with these options"));
  std::memcpy(model.data(), view->payload.data(), view->payload.size());
  const absl::StatusOr<DataSplit> data = ReadData({.path = argv[2]});
  if (!data.ok()) return Fail(data.status());
  const absl::StatusOr<SpikeProfile> profile = ProfileSpikes(spec, model, data->test);
  if (!profile.ok()) return Fail(profile.status());
  const SpikingWork work{profile->steps, profile->analogue_macs, profile->macs_per_step, profile->spike_operations, profile->neuron_updates};
  std::printf("{\"steps\": %lld, \"spike_rate\": %.6f, \"analogue_macs\": %.0f, \"macs_per_step\": %.0f, \"spike_operations\": %.0f, \"neuron_updates\": %.0f, \"comparisons\": [",
              static_cast<long long>(work.steps), SpikeRate(work), work.analogue_macs, work.macs_per_step, work.spike_operations, work.neuron_updates);
  const char* separator = "";
  std::string statements;
  for (const HardwareAssumption& assumption : HardwareAssumptions()) {
    const SpikingComparison comparison = CompareWithIntegers(assumption, work);
    std::printf("%s{\"assumption\": \"%s\", \"spiking_theoretical_pj\": %.1f, \"integer_theoretical_pj\": %.1f, \"break_even_rate\": %.6f, \"spiking_wins\": %s}", separator,
                std::string(assumption.name).c_str(), comparison.spiking.picojoules(), comparison.integer.picojoules(), comparison.break_even_rate,
                comparison.spiking_wins ? "true" : "false");
    separator = ", ";
    statements += Statement(comparison, work) + " (" + std::string(assumption.describe) + ")\n";
  }
  std::printf("]}\n%s", statements.c_str());
  return 0;
}

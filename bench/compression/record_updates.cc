// record_updates: what clients would send. Runs a fleet from the settings of fedwatt-fleet and keeps the updates of some rounds.
//
//   record_updates --config FILE --out FOLDER [--rounds 1,10,40] [--set KEY=VALUE]...
//
// Writes local - global as float32, as the machine has them, to FOLDER/round_0010_partition_0023.f32, one file for each client of those rounds, and
// FOLDER/updates.jsonl with a line for each, by round, then partition. The run ends with the last of the rounds and is not evaluated. Updates are
// kept before clipping and before anything is carried over from earlier ones; compression.uplink decides only which models they start from.
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/synchronization/mutex.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/config/command_line.h"
#include "fedwatt/config/exit_codes.h"
#include "fedwatt/config/program.h"
#include "fedwatt/config/run_options.h"
#include "fedwatt/data/partitioner.h"
#include "fedwatt/data/reader.h"
#include "fedwatt/energy/device_class.h"
#include "fedwatt/model/local_trainer.h"
#include "fedwatt/model/torch/torch_trainer.h"
#include "fedwatt/simulation/fleet.h"
#include "nlohmann/json.hpp"

namespace fedwatt {
namespace {

using Json = nlohmann::ordered_json;

// One line's `segments`: the tensors in layout order, as matrices with the first dimension as rows.
Json Segments(const ParameterLayout& layout) {
  Json segments = Json::array();
  for (const LayoutEntry& entry : layout.entries()) {
    if (entry.kind == EntryKind::kLocal) continue;
    const int64_t rows = entry.shape.size() < 2 ? 1 : entry.shape[0];
    segments.push_back({{"name", entry.name},
                        {"rows", rows},
                        {"columns", entry.element_count() / rows},
                        {"kind", entry.kind == EntryKind::kParameter ? "parameter" : "averaged_buffer"}});
  }
  return segments;
}

// Shared by the trainers of all workers. Thread-safe.
class Recorder {
 public:
  // A trainer is told a seed, not a round: the seeds of the wanted rounds say which is which.
  Recorder(std::string folder, const std::vector<int64_t>& rounds, int64_t partitions, uint64_t seed) : folder_(std::move(folder)) {
    for (int64_t round : rounds) {
      for (int64_t partition = 0; partition < partitions; ++partition) wanted_[TrainingSeed(seed, round, partition)] = {round, partition};
    }
  }

  void Note(const ParameterLayout& layout, uint64_t training_seed, absl::Span<const float> global, absl::Span<const float> local,
            const TrainingResult& result) {
    const auto found = wanted_.find(training_seed);
    if (found == wanted_.end() || result.steps_done < 1) return;
    const auto [round, partition] = found->second;
    std::vector<float> delta(local.size());
    for (size_t i = 0; i < delta.size(); ++i) delta[i] = local[i] - global[i];
    const std::string name = absl::StrFormat("round_%04d_partition_%04d.f32", round, partition);
    const absl::Status written = WriteFileAtomically(absl::StrCat(folder_, "/", name),
                                                     std::string_view(reinterpret_cast<const char*>(delta.data()), delta.size() * sizeof(float)));
    absl::MutexLock lock(&mutex_);
    status_.Update(written);
    lines_[found->second] =
        Json{{"file", name}, {"round", round}, {"partition", partition}, {"example_count", result.example_count}, {"segments", Segments(layout)}}
            .dump();
  }

  // Writes the index. Errors: NOT_FOUND  a wanted round has no update; what writing met
  absl::Status Finish(const std::vector<int64_t>& rounds) {
    absl::MutexLock lock(&mutex_);
    FEDWATT_RETURN_IF_ERROR(status_);
    std::string index;
    for (const auto& [key, line] : lines_) absl::StrAppend(&index, line, "\n");
    FEDWATT_RETURN_IF_ERROR(WriteFileAtomically(absl::StrCat(folder_, "/updates.jsonl"), index));
    for (int64_t round : rounds) {
      const auto first = lines_.lower_bound({round, 0});
      if (first == lines_.end() || first->first.first != round) return absl::NotFoundError(absl::StrCat("round ", round, " brought no update"));
    }
    std::cerr << lines_.size() << " updates in " << folder_ << "\n";
    return absl::OkStatus();
  }

 private:
  const std::string folder_;
  std::map<uint64_t, std::pair<int64_t, int64_t>> wanted_;  // training seed to round and partition
  absl::Mutex mutex_;
  std::map<std::pair<int64_t, int64_t>, std::string> lines_ ABSL_GUARDED_BY(mutex_);
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

class RecordingTrainer : public LocalTrainer {
 public:
  RecordingTrainer(std::unique_ptr<LocalTrainer> trainer, Recorder* recorder) : trainer_(std::move(trainer)), recorder_(recorder) {}
  const ParameterLayout& layout() const override { return trainer_->layout(); }
  std::vector<double> UsesPerExample() const override { return trainer_->UsesPerExample(); }
  absl::StatusOr<TrainingResult> Train(absl::Span<const float> global, const Dataset& data, const TrainingRecipe& recipe, uint64_t seed,
                                       const TrainingControl& control, absl::Span<float> local) override {
    FEDWATT_ASSIGN_OR_RETURN(TrainingResult result, trainer_->Train(global, data, recipe, seed, control, local));
    recorder_->Note(layout(), seed, global, local, result);
    return result;
  }
  absl::StatusOr<EvaluationResult> Evaluate(absl::Span<const float> model, const Dataset& data, const std::string& loss) override {
    return trainer_->Evaluate(model, data, loss);
  }
  absl::StatusOr<std::vector<float>> InitialModel(uint64_t seed) override { return trainer_->InitialModel(seed); }

 private:
  const std::unique_ptr<LocalTrainer> trainer_;
  Recorder* const recorder_;
};

absl::StatusOr<std::vector<int64_t>> ParseRounds(const std::string& text) {
  std::vector<int64_t> rounds;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    int64_t round = 0;
    if (!absl::SimpleAtoi(part, &round) || round < 1) {
      const std::string problem = absl::StrCat("--rounds: expected whole numbers from 1, as in 1,10,40, got '", text, "'");
      return WithExitCode(absl::InvalidArgumentError(problem), ExitCode::kUsage);
    }
    rounds.push_back(round);
  }
  return rounds;
}

absl::StatusOr<ExitCode> Run(std::vector<std::string> arguments, const std::string&) {
  std::string rounds_text = "1,10,40";
  if (auto flag = std::find(arguments.begin(), arguments.end(), "--rounds"); flag != arguments.end() && flag + 1 != arguments.end()) {
    rounds_text = *(flag + 1);
    arguments.erase(flag, flag + 2);
  }
  FEDWATT_ASSIGN_OR_RETURN(const std::vector<int64_t> rounds, ParseRounds(rounds_text));
  CommandLineOptions flags;
  flags.program = "record_updates";
  flags.description = "Runs a fleet from the settings of fedwatt-fleet and keeps what clients would send in some rounds (--rounds 1,10,40).";
  flags.version = std::string(kVersion);
  flags.flags = {Flag::kOut, Flag::kSeed, Flag::kThreads};
  flags.threads_key = "simulation.workers";
  FEDWATT_ASSIGN_OR_RETURN(CommandLine line, ParseCommandLine(flags, arguments));
  if (line.print_and_exit.has_value()) {
    std::cout << *line.print_and_exit;
    return ExitCode::kDone;
  }
  line.sources.flags.push_back({"federation.rounds", absl::StrCat(*std::max_element(rounds.begin(), rounds.end())), "--rounds"});
  line.sources.flags.push_back({"federation.evaluation", "none", "record_updates"});
  FEDWATT_ASSIGN_OR_RETURN(LoadedSettings loaded, LoadSettings(line.sources));
  const Settings& settings = loaded.settings;
  if (line.show_config) {
    std::cout << ShowConfig(loaded);
    return ExitCode::kDone;
  }
  if (settings.out.empty()) return WithExitCode(absl::InvalidArgumentError("--out names the folder to write to"), ExitCode::kUsage);
  if (!settings.model.torchscript.empty()) return absl::InvalidArgumentError("model.torchscript: only built-in architectures are recorded");
  FEDWATT_RETURN_IF_ERROR(ConfigureKernels(settings.training.recipe.threads));

  absl::StatusOr<DataSplit> data = ReadData(settings.data);
  if (!data.ok()) return WithExitCode(data.status(), ExitCode::kData);
  FEDWATT_ASSIGN_OR_RETURN(Parts parts, PartitionData(data->train, settings.partition));
  const std::string run_id = NewRunId(RealClock());
  FEDWATT_ASSIGN_OR_RETURN(ArchitectureSpec architecture, MakeArchitecture(settings, data->train));
  FEDWATT_RETURN_IF_ERROR(MakeDirectories(settings.out));
  Recorder recorder(settings.out, rounds, static_cast<int64_t>(parts.size()), settings.seed);

  FleetOptions options;
  options.engine = MakeEngineOptions(settings, run_id);
  options.model = MakeGlobalModelOptions(settings, MakePlan(settings, run_id, architecture), ParameterLayout());
  options.trainer_factory = [&recorder](const ArchitectureSpec& spec) -> absl::StatusOr<std::unique_ptr<LocalTrainer>> {
    FEDWATT_ASSIGN_OR_RETURN(std::unique_ptr<LocalTrainer> trainer, MakeTorchTrainer(spec));
    return std::make_unique<RecordingTrainer>(std::move(trainer), &recorder);
  };
  for (std::vector<int32_t>& part : parts) {
    FEDWATT_ASSIGN_OR_RETURN(Dataset partition, data->train.Subset(std::move(part)));
    options.partitions.push_back(std::move(partition));
  }
  options.workers = settings.simulation_workers;
  options.client_learning_rate_at = MakeLearningRate(settings);
  std::vector<std::pair<DeviceClass, double>> mix;
  for (const DeviceShare& share : settings.energy.device_mix) {
    FEDWATT_ASSIGN_OR_RETURN(DeviceClass device, FindDeviceClass(share.name));
    mix.emplace_back(std::move(device), share.share);
  }
  options.devices = MixDevices(mix, static_cast<int64_t>(options.partitions.size()), settings.seed);
  options.log = [lowest = line.log_level](LogLevel level, std::string_view message) {
    if (level >= lowest) std::cerr << LogLevelName(level) << ": " << message << "\n";
  };
  SignalStop signals;
  FEDWATT_ASSIGN_OR_RETURN(std::unique_ptr<Fleet> fleet, Fleet::Create(std::move(options)));
  FEDWATT_RETURN_IF_ERROR(fleet->Run(signals.token()).status());
  FEDWATT_RETURN_IF_ERROR(recorder.Finish(rounds));
  return ExitCode::kDone;
}

}  // namespace
}  // namespace fedwatt

int main(int argc, char** argv) { return fedwatt::RunProgram(argc, argv, fedwatt::Run); }

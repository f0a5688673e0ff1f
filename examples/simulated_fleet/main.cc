// fedwatt-fleet: a whole federation in one process, for choosing settings before a device is touched.
#include <unistd.h>

#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/digest.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/config/command_line.h"
#include "fedwatt/config/exit_codes.h"
#include "fedwatt/config/program.h"
#include "fedwatt/config/run_options.h"
#include "fedwatt/data/partitioner.h"
#include "fedwatt/data/reader.h"
#include "fedwatt/energy/meter.h"
#include "fedwatt/model/torch/quantization.h"
#include "fedwatt/model/torch/torch_trainer.h"
#include "fedwatt/model/torchscript/torch_script_trainer.h"
#include "fedwatt/report/run_record.h"
#include "fedwatt/report/table.h"
#include "fedwatt/round/model_archive.h"
#include "fedwatt/simulation/fleet.h"

namespace fedwatt {
namespace {

absl::StatusOr<ExitCode> Run(const std::vector<std::string>& arguments, const std::string& command) {
  CommandLineOptions flags;
  flags.program = "fedwatt-fleet";
  flags.description = "Simulates a federation in one process: the coordinator's engine, the clients' training, virtual time.";
  flags.version = std::string(kVersion);
  flags.flags = {Flag::kOut, Flag::kSeed, Flag::kThreads};
  flags.threads_key = "simulation.workers";
  FEDWATT_ASSIGN_OR_RETURN(CommandLine line, ParseCommandLine(flags, arguments));
  if (line.print_and_exit.has_value()) {
    std::cout << *line.print_and_exit;
    return ExitCode::kDone;
  }
  FEDWATT_ASSIGN_OR_RETURN(LoadedSettings loaded, LoadSettings(line.sources));
  const Settings& settings = loaded.settings;
  if (line.show_config) {
    std::cout << ShowConfig(loaded);
    return ExitCode::kDone;
  }
  if (settings.partition.clients < 1 && settings.partition.kind != "natural") {
    return absl::InvalidArgumentError("partition.clients: a fleet needs at least one; for instance --set partition.clients=100");
  }
  const auto log = [lowest = line.log_level](LogLevel level, std::string_view message) {
    if (level >= lowest) std::cerr << LogLevelName(level) << ": " << message << "\n";
  };

  // One kernel thread a worker: the fleet's parallelism is over clients, and bits do not depend on it.
  FEDWATT_RETURN_IF_ERROR(ConfigureKernels(settings.training.recipe.threads));
  if (!BlasIsOptimised()) Log(log, LogLevel::kWarning, "matrix products run on the reference BLAS, about 20 times slower; install libopenblas0-pthread");

  absl::StatusOr<DataSplit> data = ReadData(settings.data);
  if (!data.ok()) return WithExitCode(data.status(), ExitCode::kData);
  FEDWATT_ASSIGN_OR_RETURN(Parts parts, PartitionData(data->train, settings.partition));

  const std::string run_id = NewRunId(RealClock());
  FEDWATT_ASSIGN_OR_RETURN(ArchitectureSpec architecture, MakeArchitecture(settings, data->train));
  const std::string& archive_path = settings.model.torchscript;
  std::shared_ptr<const ArchiveChannels> channels;
  if (!archive_path.empty()) {
    FEDWATT_ASSIGN_OR_RETURN(std::string bytes, ReadFile(archive_path));
    architecture.archive_digest = Sha256(bytes);
    if (SomeAreNarrow(settings.fit) || CutsChannels(settings.prune)) {
      FEDWATT_ASSIGN_OR_RETURN(channels, FindArchiveChannels(architecture, std::move(bytes), {.sandbox = settings.model.sandbox}));
      Log(log, LogLevel::kInfo, absl::StrCat(archive_path, ": ", Summarise(*channels)));
    }
  }
  FleetOptions options;
  options.engine = MakeEngineOptions(settings, run_id);
  FEDWATT_ASSIGN_OR_RETURN(options.engine.carbon, MakeCarbonModel(settings));
  options.model = MakeGlobalModelOptions(settings, MakePlan(settings, run_id, architecture), ParameterLayout());
  const TorchScriptOptions script_options{.sandbox = settings.model.sandbox, .channels = channels};
  options.trainer_factory = [&archive_path, &script_options](const ArchitectureSpec& spec) -> absl::StatusOr<std::unique_ptr<LocalTrainer>> {
    if (archive_path.empty()) return MakeTorchTrainer(spec);
    return MakeTorchScriptTrainer(spec, archive_path, script_options);
  };
  for (std::vector<int32_t>& part : parts) {
    FEDWATT_ASSIGN_OR_RETURN(Dataset partition, data->train.Subset(std::move(part)));
    options.partitions.push_back(std::move(partition));
  }
  const EvaluationMode evaluation = settings.federation.evaluation;
  const bool evaluates = evaluation == EvaluationMode::kCentral || evaluation == EvaluationMode::kBoth;
  if (evaluates) options.test = data->test;
  if (evaluation == EvaluationMode::kFederated || evaluation == EvaluationMode::kBoth) {
    options.held_out_fraction = settings.federation.federated_held_out_fraction;
  }
  options.workers = settings.simulation_workers;
  options.client_learning_rate_at = MakeLearningRate(settings);
  options.log = log;
  std::vector<std::pair<DeviceClass, double>> mix;
  for (const DeviceShare& share : settings.energy.device_mix) {
    FEDWATT_ASSIGN_OR_RETURN(DeviceClass device, FindDeviceClass(share.name));
    mix.emplace_back(std::move(device), share.share);
  }
  if (options.engine.carbon != nullptr) {
    options.sites = MixSites(options.engine.carbon->sites(), static_cast<int64_t>(options.partitions.size()), settings.seed);
  }
  options.start_time = settings.simulation_start;
  options.batteries = settings.simulation_batteries;
  options.devices = MixDevices(mix, static_cast<int64_t>(options.partitions.size()), settings.seed);
  FEDWATT_ASSIGN_OR_RETURN(MeterChoice meter, ChooseMeter(settings.energy.meter, MakeMeterOptions(settings)));
  options.server_meter = meter.meter.get();

  const std::string out = settings.out.empty() ? absl::StrCat("runs/fleet-", run_id) : settings.out;
  if (absl::StatusOr<std::string> earlier = ReadFile(absl::StrCat(out, "/rounds.jsonl")); earlier.ok() && !earlier->empty()) {
    return absl::AlreadyExistsError(absl::StrCat("--out ", out, " holds the record of an earlier run; a fleet does not continue runs, name another folder"));
  }
  FEDWATT_ASSIGN_OR_RETURN(std::unique_ptr<RunRecordWriter> record, RunRecordWriter::Open(out));
  FEDWATT_ASSIGN_OR_RETURN(ModelArchive archive, ModelArchive::Open(out));
  options.record = record.get();
  options.archive = &archive;

  RoundTable table(RoundTableOptionsFor(STDOUT_FILENO));
  std::cout << table.Header() << std::flush;
  options.on_round = [&](const RoundRecord& round) { std::cout << table.Row(round) << std::flush; };

  SignalStop signals;
  FEDWATT_ASSIGN_OR_RETURN(std::unique_ptr<Fleet> fleet, Fleet::Create(std::move(options)));
  FEDWATT_ASSIGN_OR_RETURN(FleetOutcome outcome, fleet->Run(signals.token()));

  RunSummary summary;
  summary.run_id = run_id;
  summary.version = std::string(kVersion);
  summary.command = command;
  summary.config = loaded.effective;
  summary.seed = settings.seed;
  summary.simulated = true;
  DescribeMachineIn(summary, KernelFacts(), meter);
  summary.target_accuracy = settings.federation.target_accuracy;
  if (channels != nullptr) summary.model_channels = Summarise(*channels);
  summary.model_path = absl::StrCat(archive.directory(), "/final.pt");
  const ArchitectureSpec& delivered = fleet->model().plan().architecture;  // which pruning may have narrowed
  if (archive_path.empty()) {
    FEDWATT_RETURN_IF_ERROR(WriteTorchScript(delivered, outcome.model, summary.model_path));
  } else {
    FEDWATT_ASSIGN_OR_RETURN(std::unique_ptr<TorchScriptTrainer> scribe, MakeTorchScriptTrainer(delivered, archive_path, script_options));
    summary.machine_facts["sandbox"] = Describe(scribe->walls());
    FEDWATT_RETURN_IF_ERROR(scribe->WriteArchive(outcome.model, summary.model_path));
  }
  FEDWATT_ASSIGN_OR_RETURN(summary.int8, DeliverInt8(delivered, outcome.model, data->test, evaluates, settings.training.recipe.loss,
                                                     absl::StrCat(archive.directory(), "/final-int8.pt")));
  FEDWATT_RETURN_IF_ERROR(record->WriteSummary(summary));
  std::cout << table.Legend();
  std::cerr << "run " << run_id << ": " << outcome.reason << ", " << outcome.rounds_committed << " rounds committed; record in " << out << "\n";
  if (outcome.reason == "stopped") return ExitCode::kDone;
  return ExitCodeOfRun(settings.federation.target_accuracy, outcome.target_reached, outcome.rounds_committed, record->best_accuracy());
}

}  // namespace
}  // namespace fedwatt

int main(int argc, char** argv) { return fedwatt::RunProgram(argc, argv, fedwatt::Run); }

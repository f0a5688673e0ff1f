// fedwatt-client: takes part in a federation with one or more parts of a data set. All output is talk, on stderr.
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "fedwatt/base/process.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/client/client.h"
#include "fedwatt/config/command_line.h"
#include "fedwatt/config/exit_codes.h"
#include "fedwatt/config/program.h"
#include "fedwatt/config/run_options.h"
#include "fedwatt/data/partitioner.h"
#include "fedwatt/data/reader.h"
#include "fedwatt/model/torch/architecture.h"
#include "fedwatt/model/torch/torch_trainer.h"
#include "fedwatt/model/torchscript/torch_script_trainer.h"
#include "stderr_log.h"

namespace fedwatt::tool {
namespace {

std::string OriginOf(const LoadedSettings& loaded, const std::string& key) {
  for (const SettingWithOrigin& setting : loaded.effective) {
    if (setting.key == key) return setting.origin;
  }
  return "default";
}

absl::StatusOr<ExitCode> Run(const std::vector<std::string>& arguments, const std::string& /*command*/) {
  CommandLineOptions flags;
  flags.program = "fedwatt-client";
  flags.description = "Takes part in a federation with one or more parts of the data.";
  flags.version = std::string(kVersion);
  flags.flags = {Flag::kSeed, Flag::kThreads, Flag::kServer, Flag::kName, Flag::kPartition, Flag::kStay, Flag::kInsecure};
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
  if (!settings.client.partition.has_value()) {
    return WithExitCode(absl::InvalidArgumentError("--partition is missing: which part of the data this client trains on, for instance 3/8"),
                        ExitCode::kUsage);
  }
  SignalStop signals;
  const LogSink log = StderrSink(line);
  FEDWATT_RETURN_IF_ERROR(ConfigureKernels(settings.training.recipe.threads));
  if (!BlasIsOptimised()) Log(log, LogLevel::kWarning, "matrix products run on the reference BLAS, about 20 times slower; install libopenblas0-pthread");

  ClientOptions options;
  options.connection.server = settings.client.server;
  options.connection.server_origin = OriginOf(loaded, "client.server");
  options.connection.security_directory = settings.security.directory;
  options.connection.insecure = settings.security.insecure;
  options.state_directory = settings.client.state_directory;
  options.name = settings.client.name;
  options.site = settings.client.site;
  FEDWATT_ASSIGN_OR_RETURN(options.carbon, MakeCarbonModel(settings));

  const PartitionRange range = *settings.client.partition;
  absl::StatusOr<DataSplit> data = ReadData(settings.data);
  if (!data.ok()) return WithExitCode(data.status(), ExitCode::kData);
  PartitionOptions partitioning = settings.partition;
  partitioning.clients = range.total;
  absl::StatusOr<Parts> parts = PartitionData(data->train, partitioning);
  if (!parts.ok()) return WithExitCode(parts.status(), ExitCode::kData);
  for (int64_t i = range.first; i <= range.last; ++i) {
    FEDWATT_ASSIGN_OR_RETURN(Dataset part, data->train.Subset(std::move((*parts)[static_cast<size_t>(i)])));
    options.partitions.push_back({i, part.Compact()});  // the others' examples are freed
  }
  *data = DataSplit();
  options.partition_count = range.total;
  const EvaluationMode evaluation = settings.federation.evaluation;
  if (evaluation == EvaluationMode::kFederated || evaluation == EvaluationMode::kBoth) {
    options.held_out_fraction = settings.federation.federated_held_out_fraction;
  }
  options.trainer_factory = [path = settings.model.torchscript, sandbox = settings.model.sandbox, log](const ArchitectureSpec& spec) -> absl::StatusOr<std::unique_ptr<LocalTrainer>> {
    if (spec.name != "torchscript") return MakeTorchTrainer(spec);
    // Code from elsewhere runs only where its user has put it there: the digest in the plan must be that of the file named here.
    if (path.empty()) return absl::PermissionDeniedError("the run trains a TorchScript archive; allow it by naming the file: --set model.torchscript=FILE");
    FEDWATT_ASSIGN_OR_RETURN(std::unique_ptr<TorchScriptTrainer> trainer, MakeTorchScriptTrainer(spec, path, {.sandbox = sandbox}));
    Log(log, LogLevel::kInfo, absl::StrCat(path, " runs behind ", Describe(trainer->walls())));
    return trainer;
  };
  options.architectures = ArchitectureNames();
  if (!settings.model.torchscript.empty()) options.architectures.push_back("torchscript");
  options.allow_bfloat16 = settings.client.allow_bfloat16;
  options.floors = {settings.client.architectures, settings.client.codecs, settings.client.max_parameters, settings.client.max_examples, settings.client.min_cohort};
  options.max_model_bytes = settings.client.max_model_bytes;
  options.machine = DescribeMachine().cpu_model;
  for (const auto& [key, value] : KernelFacts()) absl::StrAppend(&options.machine, "/", key, "=", value);
  absl::StrAppend(&options.machine, "/", std::string(kVersion));
  options.meter = settings.energy.meter;
  options.meter_options = MakeMeterOptions(settings);
  if (const std::optional<absl::Duration> age = ProcessAge()) options.began = options.clock->Monotonic() - *age;
  options.rules.min_battery_fraction = settings.client.min_battery_percent / 100;
  options.rules.require_charger = settings.client.require_charger;
  if (settings.client.max_temperature_celsius > 0) options.rules.max_temperature_celsius = settings.client.max_temperature_celsius;
  options.rules.allow_metered_link = settings.client.allow_metered;
  options.stay = settings.client.stay;
  options.log = log;

  FEDWATT_ASSIGN_OR_RETURN(std::unique_ptr<Client> client, Client::Create(std::move(options)));
  Log(log, LogLevel::kInfo, absl::StrCat(client->client_id(), " trains partition ", range.first, range.last > range.first ? absl::StrCat("-", range.last) : "",
                                         "/", range.total, " for ", settings.client.server, "; meters: ", client->DescribeMeters()));
  absl::StatusOr<ClientSummary> summary = client->Run(signals.token());
  if (!summary.ok()) {
    // Asked to stop, it stopped.
    if (absl::IsCancelled(summary.status()) && signals.token().stop_requested()) return ExitCode::kDone;
    return summary.status();
  }
  Log(log, LogLevel::kInfo, absl::StrCat(summary->reason, "; ", summary->accepted_count, " updates accepted, ", summary->rejected_count, " refused, ",
                                         summary->cancelled_count, " cancelled, ", summary->evaluated_count, " models scored"));
  absl::Duration told;
  for (const PhaseSpan& span : summary->phases) told += span.wall;
  const std::optional<absl::Duration> lived = ProcessAge();
  const std::string share = lived ? absl::StrFormat(", %.1f %% of the %.1f s since the start", 100 * absl::FDivDuration(told, *lived), absl::ToDoubleSeconds(*lived)) : "";
  Log(log, LogLevel::kInfo, absl::StrCat("time and joules", share, ": ", DescribeSpans(summary->phases)));
  return ExitCode::kDone;
}

}  // namespace
}  // namespace fedwatt::tool

int main(int argc, char** argv) { return fedwatt::RunProgram(argc, argv, fedwatt::tool::Run); }

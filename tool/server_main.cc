// fedwatt-server: the coordinator. stdout is the table of rounds, stderr is talk.
#include <malloc.h>
#include <unistd.h>

#include <iostream>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "fedwatt/base/digest.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/config/command_line.h"
#include "fedwatt/config/exit_codes.h"
#include "fedwatt/config/program.h"
#include "fedwatt/config/run_options.h"
#include "fedwatt/data/reader.h"
#include "fedwatt/energy/meter.h"
#include "fedwatt/model/torch/quantization.h"
#include "fedwatt/model/torch/torch_trainer.h"
#include "fedwatt/model/torchscript/torch_script_trainer.h"
#include "fedwatt/report/table.h"
#include "fedwatt/server/server.h"
#include "stderr_log.h"

namespace fedwatt::tool {
namespace {

// Trains nothing: it knows the layout and the first model, and scores.
struct Model {
  ArchitectureSpec architecture;
  std::unique_ptr<LocalTrainer> trainer;
  LocalTrainerFactory factory;  // of narrower ones
  std::function<absl::Status(const ArchitectureSpec&, absl::Span<const float>, const std::string& path)> write;  // as TorchScript
  std::shared_ptr<const std::string> archive;
  std::shared_ptr<const ArchiveChannels> channels;  // of the archive, where some clients get a part of it
  std::string sandbox;                              // around the archive, in words; "" for built-in networks
};

absl::StatusOr<Model> MakeModel(const Settings& settings, const Dataset& data, std::stop_token stop) {
  Model model;
  FEDWATT_ASSIGN_OR_RETURN(model.architecture, MakeArchitecture(settings, data));
  if (settings.model.torchscript.empty()) {
    FEDWATT_ASSIGN_OR_RETURN(model.trainer, MakeTorchTrainer(model.architecture));
    model.factory = MakeTorchTrainer;
    model.write = WriteTorchScript;
    return model;
  }
  FEDWATT_ASSIGN_OR_RETURN(std::string archive, ReadFile(settings.model.torchscript));
  model.architecture.archive_digest = Sha256(archive);
  model.archive = std::make_shared<const std::string>(archive);
  if (SomeAreNarrow(settings.fit) || CutsChannels(settings.prune)) {
    FEDWATT_ASSIGN_OR_RETURN(model.channels, FindArchiveChannels(model.architecture, archive, {.sandbox = settings.model.sandbox}, std::move(stop)));
  }
  const TorchScriptOptions options{.sandbox = settings.model.sandbox, .channels = model.channels};
  FEDWATT_ASSIGN_OR_RETURN(std::unique_ptr<TorchScriptTrainer> trainer, MakeTorchScriptTrainerFromBytes(model.architecture, std::move(archive), options));
  model.sandbox = Describe(trainer->walls());
  const auto make = [bytes = model.archive, options](const ArchitectureSpec& spec) { return MakeTorchScriptTrainerFromBytes(spec, *bytes, options); };
  model.factory = [make](const ArchitectureSpec& spec) -> absl::StatusOr<std::unique_ptr<LocalTrainer>> { return make(spec); };
  model.write = [trainer = trainer.get(), make](const ArchitectureSpec& delivered, absl::Span<const float> values, const std::string& path) -> absl::Status {
    if (delivered.kept.empty()) return trainer->WriteArchive(values, path);
    FEDWATT_ASSIGN_OR_RETURN(const std::unique_ptr<TorchScriptTrainer> scribe, make(delivered));
    return scribe->WriteArchive(values, path);
  };
  model.trainer = std::move(trainer);
  return model;
}

absl::StatusOr<ExitCode> Run(const std::vector<std::string>& arguments, const std::string& command) {
  CommandLineOptions flags;
  flags.program = "fedwatt-server";
  flags.description = "Coordinates a federation: hands out the model, collects updates, keeps the ledger.";
  flags.version = std::string(kVersion);
  flags.flags = {Flag::kOut, Flag::kSeed, Flag::kListen, Flag::kInsecure};
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
  SignalStop signals;
  const LogSink log = StderrSink(line);
  FEDWATT_RETURN_IF_ERROR(ConfigureKernels(settings.training.recipe.threads));
  if (!BlasIsOptimised()) Log(log, LogLevel::kWarning, "matrix products run on the reference BLAS, about 20 times slower; install libopenblas0-pthread");

  absl::StatusOr<DataSplit> data = ReadData(settings.data);
  if (!data.ok()) return WithExitCode(data.status(), ExitCode::kData);
  FEDWATT_ASSIGN_OR_RETURN(Model model, MakeModel(settings, data->train, signals.token()));
  if (!model.sandbox.empty()) Log(log, LogLevel::kInfo, absl::StrCat(settings.model.torchscript, " runs behind ", model.sandbox));
  if (model.channels != nullptr) Log(log, LogLevel::kInfo, absl::StrCat(settings.model.torchscript, ": ", Summarise(*model.channels)));
  // What cannot even score one example would fail at every client.
  FEDWATT_ASSIGN_OR_RETURN(Dataset one, data->train.Subset({0}));
  FEDWATT_ASSIGN_OR_RETURN(std::vector<float> initial, model.trainer->InitialModel(InitialModelSeed(settings.seed)));
  if (absl::Status scored = model.trainer->Evaluate(initial, one, settings.training.recipe.loss).status(); !scored.ok()) {
    return Annotate(scored, "model, data and loss do not fit together");
  }
  one = Dataset();
  data->train = Dataset();  // the clients' business
  FEDWATT_ASSIGN_OR_RETURN(MeterChoice meter, ChooseMeter(settings.energy.meter, MakeMeterOptions(settings)));

  const std::string run_id = NewRunId(RealClock());
  ServerOptions options;
  options.listen = settings.server.listen;
  options.security_directory = settings.security.directory;
  options.certificate_lifetime = settings.security.certificate_lifetime;
  options.server_names = settings.server.names;
  options.insecure = settings.security.insecure;
  options.out_directory = settings.out.empty() ? absl::StrCat("runs/server-", run_id) : settings.out;
  options.engine = MakeEngineOptions(settings, run_id);
  FEDWATT_ASSIGN_OR_RETURN(options.engine.carbon, MakeCarbonModel(settings));
  if (!settings.carbon.server_site.empty()) options.carbon_site = settings.carbon.server_site;
  options.model = MakeGlobalModelOptions(settings, MakePlan(settings, run_id, model.architecture), model.trainer->layout());
  options.model.groups = model.trainer->channel_groups();
  options.model.uses = model.trainer->UsesPerExample();
  options.model.initial_from_seed = true;
  options.initial_model = std::move(initial);
  options.client_learning_rate_at = MakeLearningRate(settings);
  options.partition_count = settings.partition.clients;
  const EvaluationMode evaluation = settings.federation.evaluation;
  options.federated_evaluation = evaluation == EvaluationMode::kFederated || evaluation == EvaluationMode::kBoth;
  options.durability = settings.durability == Durability::kUpdate ? "update" : "round";
  options.archive = model.archive;
  options.log = log;

  options.summary.version = std::string(kVersion);
  options.summary.command = command;
  options.summary.config = loaded.effective;
  options.summary.seed = settings.seed;
  std::map<std::string, std::string> facts = KernelFacts();
  if (!model.sandbox.empty()) facts["sandbox"] = model.sandbox;
  DescribeMachineIn(options.summary, std::move(facts), meter);
  options.summary.target_accuracy = settings.federation.target_accuracy;
  if (model.channels != nullptr) options.summary.model_channels = Summarise(*model.channels);
  options.meter = std::move(meter.meter);

  const std::string out = options.out_directory;
  const bool evaluates = evaluation == EvaluationMode::kCentral || evaluation == EvaluationMode::kBoth;
  options.on_finish = [&model, out, evaluates, test = data->test, loss = settings.training.recipe.loss](const ArchitectureSpec& architecture, absl::Span<const float> values,
                                                                                                        RunSummary& summary) -> absl::Status {
    summary.model_path = absl::StrCat(out, "/model/final.pt");
    FEDWATT_RETURN_IF_ERROR(model.write(architecture, values, summary.model_path));
    FEDWATT_ASSIGN_OR_RETURN(summary.int8, DeliverInt8(architecture, values, test, evaluates, loss, absl::StrCat(out, "/model/final-int8.pt")));
    return absl::OkStatus();
  };
  const RoundTable table(RoundTableOptionsFor(STDOUT_FILENO));
  options.on_round = [&table](const RoundRecord& record) { std::cout << table.Row(record) << std::flush; };
  options.on_waiting = [&log, told = int64_t{-1}](const ServerSnapshot& snapshot) mutable {
    if (snapshot.round.member_count == std::exchange(told, snapshot.round.member_count)) return;
    Log(log, LogLevel::kInfo, absl::StrCat("waiting for clients: ", snapshot.round.member_count, " of ", snapshot.round.wait_for_clients));
  };
  // final.pt needs the trainer after the server is done with it, so evaluation borrows it.
  if (evaluates) {
    options.evaluation_data = std::move(data->test);
    options.evaluation_trainer = model.trainer.get();
    options.trainer_factory = model.factory;
  }
  FEDWATT_ASSIGN_OR_RETURN(std::unique_ptr<Server> server, Server::Create(std::move(options)));
  Log(log, LogLevel::kInfo, absl::StrCat("run ", server->run_id(), " listens on ", server->address(), settings.security.insecure ? " without TLS" : "",
                                         "; record in ", out));
  std::cout << table.Header() << std::flush;
  const RunOutcome outcome = server->Run(signals.token());
  std::cout << table.Legend() << std::flush;
  FEDWATT_RETURN_IF_ERROR(outcome.status);
  Log(log, LogLevel::kInfo, absl::StrCat(outcome.reason, "; ", outcome.committed_rounds, " rounds committed; see: fedwatt report ", out));
  if (outcome.stopped) return ExitCode::kDone;
  return ExitCodeOfRun(settings.federation.target_accuracy, outcome.target_reached, outcome.committed_rounds, server->Snapshot().best_accuracy);
}

}  // namespace
}  // namespace fedwatt::tool

int main(int argc, char** argv) {
  // Models come and go by the round: what is large goes back to the system at once instead of staying in the heap's holes.
  mallopt(M_MMAP_THRESHOLD, 256 << 10);
  mallopt(M_ARENA_MAX, 4);
  return fedwatt::RunProgram(argc, argv, fedwatt::tool::Run);
}

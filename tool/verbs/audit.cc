// fedwatt audit: what a model costs, before anybody federates it.
#include <sys/stat.h>

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "audit/alternatives.h"
#include "audit/findings.h"
#include "audit/metering.h"
#include "audit/subject.h"
#include "fedwatt/base/process.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/config/program.h"
#include "fedwatt/config/run_options.h"
#include "fedwatt/model/torch/torch_trainer.h"
#include "verb.h"

namespace fedwatt::tool {
namespace {

struct Flags {
  SettingsFlags settings;
  Format format = Format::kText;
  std::string model, data, input, intensity_source;
  int64_t outputs = 0, seeds = 5, examples = 600;
  double target = 5, minutes = 4;
  bool alternatives = false;
  std::optional<double> g_per_kwh;
};

absl::Status Usage(const std::string& problem) { return WithExitCode(absl::InvalidArgumentError(problem + "; see fedwatt audit --help"), ExitCode::kUsage); }

// Says at most one line in two seconds.
class Progress {
 public:
  void operator()(const std::string& line) {
    const absl::Duration now = RealClock().Monotonic();
    if (now - last_ < absl::Seconds(2)) return;
    last_ = now;
    Say(line);
  }

 private:
  absl::Duration last_ = RealClock().Monotonic();
};

// Short rounds of each way that has a model of its own size, under all presets.
void CodeBytes(Subject& subject, Findings& findings, Progress& progress) {
  constexpr int64_t kClients = 4;
  for (size_t i = 0; i < subject.ways().size(); ++i) {
    const Way& way = subject.ways()[i];
    WayFindings& found = findings.ways[i];
    if (way.trainer == nullptr || !way.spec.quantization.empty()) continue;  // their updates are as long as float32's
    TrainingRecipe recipe = subject.recipe();
    const auto cost = std::find_if(findings.measurement.tasks.begin(), findings.measurement.tasks.end(),
                                   [&](const TaskCost& one) { return one.way == way.name && one.work == "training"; });
    const double step = cost != findings.measurement.tasks.end() && cost->cpu_seconds.has_value() ? cost->cpu_seconds->estimate * recipe.batch_size : 1;
    recipe.local_steps = static_cast<int32_t>(std::clamp(0.5 / step, 1.0, 20.0));
    std::vector<Dataset> clients;
    const int64_t share = subject.train().size() / kClients;
    for (int64_t client = 0; client < kClients; ++client) {
      std::vector<int32_t> indices;
      for (int64_t k = 0; k < std::clamp<int64_t>(share, 1, 1000); ++k) indices.push_back(static_cast<int32_t>((client * share + k) % subject.train().size()));
      if (absl::StatusOr<Dataset> part = subject.train().Subset(std::move(indices)); part.ok()) clients.push_back(*std::move(part));
    }
    const absl::StatusOr<std::vector<float>> initial = way.trainer->InitialModel(1);
    for (const CompressionPreset& preset : CompressionPresets()) {
      progress(absl::StrCat("coding rounds: ", way.name, ", ", preset.name));
      absl::StatusOr<RoundBytes> bytes = initial.ok() ? CodeRounds(preset, way.spec, recipe, *way.trainer, *initial, clients) : absl::StatusOr<RoundBytes>(initial.status());
      if (!bytes.ok()) {
        found.bytes_problem = std::string(bytes.status().message());
        break;
      }
      found.bytes.push_back(*std::move(bytes));
    }
  }
}

// Seed after seed while there is time, each way of it; at least so many that there is an interval.
absl::Status CompareAccuracy(Subject& subject, const Flags& flags, absl::Duration budget, Findings& findings, Progress& progress, const std::stop_token& stop) {
  double seconds_a_step = 0;
  for (const TaskCost& cost : findings.measurement.tasks) {
    if (cost.work == "training" && cost.way != "int8" && cost.cpu_seconds.has_value()) seconds_a_step += cost.cpu_seconds->estimate * static_cast<double>(findings.batch_size);
  }
  if (seconds_a_step <= 0) return absl::OkStatus();
  const double two_epochs = std::max(1.0, 2.0 * static_cast<double>(subject.train().size()) / static_cast<double>(findings.batch_size));
  // Half of the budget: the machine may be busy, and scoring takes time too.
  const double affordable = 0.5 * absl::ToDoubleSeconds(budget) / static_cast<double>(flags.seeds) / seconds_a_step;
  findings.accuracy_steps = static_cast<int64_t>(std::clamp(affordable, 1.0, two_epochs));
  const absl::Duration start = RealClock().Monotonic();
  std::vector<std::vector<double>> differences(subject.ways().size());
  for (int64_t seed = 1; seed <= flags.seeds; ++seed) {
    if (stop.stop_requested() || (seed > kLeastMeasurements && RealClock().Monotonic() - start > budget)) break;
    progress(absl::StrCat("accuracy: seed ", seed, " of ", flags.seeds, ", ", findings.accuracy_steps, " steps"));
    FEDWATT_ASSIGN_OR_RETURN(const std::vector<std::optional<double>> accuracies, subject.Accuracies(static_cast<uint64_t>(seed), static_cast<int32_t>(findings.accuracy_steps)));
    ++findings.accuracy_seeds;
    for (size_t i = 0; i < accuracies.size(); ++i) {
      if (!accuracies[i].has_value()) continue;
      findings.ways[i].accuracies.push_back(*accuracies[i]);
      if (i > 0 && accuracies[0].has_value()) differences[i].push_back(*accuracies[i] - *accuracies[0]);
    }
  }
  for (size_t i = 0; i < differences.size(); ++i) findings.ways[i].accuracy_difference = MeanInterval(differences[i]);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int64_t>> ParseShape(const std::string& text) {
  std::vector<int64_t> shape;
  if (text.empty()) return shape;
  for (absl::string_view part : absl::StrSplit(text, ',')) {
    int64_t dimension = 0;
    if (!absl::SimpleAtoi(part, &dimension) || dimension < 1 || dimension > (1 << 20)) return Usage(absl::StrCat("--input: expected sizes such as 3,224,224, got '", text, "'"));
    shape.push_back(dimension);
  }
  return shape;
}

absl::StatusOr<ExitCode> Run(const Flags& flags) {
  if (!(flags.target > 0 && flags.target <= 100)) return Usage(absl::StrCat("--interval: expected a number in (0, 100], got ", flags.target));
  if (!(flags.minutes > 0 && flags.minutes <= 1440)) return Usage(absl::StrCat("--budget: expected minutes in (0, 1440], got ", flags.minutes));
  if (flags.seeds < kLeastMeasurements || flags.seeds > 100) return Usage(absl::StrCat("--seeds: expected a number in [", kLeastMeasurements, ", 100], got ", flags.seeds));
  if (flags.examples < 1 || flags.examples > 1000000000) return Usage(absl::StrCat("--examples: expected a number in [1, 1e9], got ", flags.examples));
  if (flags.outputs < 0 || flags.outputs > (1 << 24)) return Usage(absl::StrCat("--outputs: expected a number in [1, 2^24], got ", flags.outputs));
  if (flags.g_per_kwh && !(*flags.g_per_kwh >= 0 && *flags.g_per_kwh <= 1e6)) return Usage(absl::StrCat("--g-per-kwh: expected a number in [0, 1e6], got ", *flags.g_per_kwh));
  FEDWATT_ASSIGN_OR_RETURN(std::vector<int64_t> input_shape, ParseShape(flags.input));
  FEDWATT_ASSIGN_OR_RETURN(SettingsSources sources, Sources(flags.settings));
  if (!flags.model.empty()) {
    const bool file = absl::EndsWith(flags.model, ".pt") || absl::StrContains(flags.model, '/');
    sources.flags.push_back({file ? "model.torchscript" : "model.architecture", flags.model, "MODEL"});
  }
  if (!flags.data.empty()) sources.flags.push_back({"data.path", flags.data, "--data"});
  FEDWATT_ASSIGN_OR_RETURN(const LoadedSettings loaded, LoadSettings(sources));
  const Settings& settings = loaded.settings;
  SignalStop signals;
  const absl::Duration start = RealClock().Monotonic(), budget = absl::Minutes(flags.minutes);
  FEDWATT_RETURN_IF_ERROR(ConfigureKernels(settings.training.recipe.threads));

  Progress progress;
  Say("loading");
  FEDWATT_ASSIGN_OR_RETURN(const std::unique_ptr<Subject> subject, Subject::Make(settings, std::move(input_shape), flags.outputs));
  const MachineInfo machine = DescribeMachine();
  Findings findings;
  findings.model = subject->name();
  findings.input_shape = subject->ways()[0].spec.input_shape;
  findings.output_count = subject->ways()[0].spec.output_count;
  findings.batch_size = subject->recipe().batch_size;
  findings.threads = subject->recipe().threads;
  findings.cpu_model = machine.cpu_model;
  findings.cores = machine.core_count;
  findings.target = flags.target / 100;
  findings.has_data = subject->has_data();
  if (subject->profile().ok()) {
    findings.layers = Layers(*subject->profile(), subject->layout());
  } else {
    findings.layers_problem = std::string(subject->profile().status().message());
  }
  for (const Way& way : subject->ways()) {
    WayFindings& found = findings.ways.emplace_back();
    found.name = way.name;
    found.problem = way.problem;
    if (!way.problem.empty()) continue;
    found.parameters = way.parameters;
    found.macs = way.macs;
    found.model_bytes = way.model_bytes;
  }
  FEDWATT_ASSIGN_OR_RETURN(const std::unique_ptr<Meter> meter, FindMeter(settings, findings));
  if (meter != nullptr) {
    Say("idle: 15 s of rest");
    findings.idle_watts = IdleWatts(*meter);
  }

  MeasureOptions options;
  options.target = findings.target;
  options.budget = (findings.has_data ? 0.5 : 0.8) * budget;
  options.cpu = ProcessCpuTime;
  options.meter = meter.get();
  // A call to a child moves the whole model, and a counter is up to a refresh old: blocks are long against both.
  constexpr absl::Duration kMovingOneByte = absl::Nanoseconds(2);
  if (!settings.model.torchscript.empty()) options.block = std::max(options.block, 20 * kMovingOneByte * *subject->ways()[0].model_bytes);
  const std::vector<Task> tasks = subject->Tasks();
  // Three turns are the fewest.
  if (meter != nullptr) options.block = std::max(options.block, std::min(absl::Seconds(2), options.budget / (3.0 * static_cast<double>(tasks.size()))));
  options.progress = std::ref(progress);
  options.stop = signals.token();
  FEDWATT_ASSIGN_OR_RETURN(findings.measurement, Measure(tasks, options));
  if (flags.alternatives) {
    MeasureOptions brief = options;
    brief.meter = nullptr;  // that many ways in turn would take a meter hours
    brief.least_turns = kLeastMeasurements;
    brief.block = absl::Milliseconds(50);
    brief.budget = 0.5 * budget;
    FEDWATT_ASSIGN_OR_RETURN(findings.alternatives, CompareAlternatives(*subject, brief));
  }
  if (findings.has_data) FEDWATT_RETURN_IF_ERROR(CompareAccuracy(*subject, flags, 0.4 * budget, findings, progress, signals.token()));
  CodeBytes(*subject, findings, progress);

  findings.rounds = settings.federation.rounds;
  findings.clients_per_round = settings.federation.clients_per_round > 0 ? settings.federation.clients_per_round : std::max<int64_t>(1, settings.partition.clients);
  findings.examples_per_client = flags.examples;
  findings.local_epochs = settings.training.recipe.local_epochs;
  findings.g_per_kwh = flags.g_per_kwh;
  findings.intensity_source = flags.intensity_source;
  findings.seconds = absl::ToDoubleSeconds(RealClock().Monotonic() - start);
  Print(flags.format == Format::kJson ? FindingsJson(findings) : FindingsText(findings));
  return ExitCode::kDone;
}

}  // namespace

void AddAudit(CLI::App& app, Action& chosen) {
  auto [verb, flags] = Declare<Flags>(app, chosen, "audit", "what a model costs: layers, joules, accuracy, bytes, and a federation of it", Run);
  verb->add_option("MODEL", flags->model, "an architecture (fedwatt architectures) or a TorchScript archive (.pt); default: the configuration's");
  verb->add_option("--data", flags->data, "examples to learn from, as data.path; without it accuracy is not measured")->type_name("PATH");
  verb->add_option("--input", flags->input, "shape of one example where there is no data, such as 3,224,224")->type_name("SHAPE");
  verb->add_option("--outputs", flags->outputs, "outputs where there is no data; default: 10, or as many as the archive gives")->type_name("N");
  verb->add_option("--interval", flags->target, "half width of the intervals to measure to, percent; default 5")->type_name("PERCENT");
  verb->add_option("--budget", flags->minutes, "minutes that measuring may take, about; default 4")->type_name("MINUTES");
  verb->add_flag("--alternatives", flags->alternatives, "beside the model, what every built-in architecture that takes such inputs would cost; half as long again");
  verb->add_option("--seeds", flags->seeds, "trainings to compare accuracy by, at most; default 5")->type_name("N");
  verb->add_option("--examples", flags->examples, "projection: examples of a client; default 600. Rounds, clients and epochs: --set federation.rounds=N and so on")->type_name("N");
  verb->add_option("--g-per-kwh", flags->g_per_kwh, "projection: grams of CO2-equivalent a kWh")->type_name("G");
  verb->add_option("--intensity-source", flags->intensity_source, "where --g-per-kwh is from, with its year")->type_name("TEXT");
  AddSettings(verb, flags->settings);
  AddFormat(verb, flags->format);
}

}  // namespace fedwatt::tool

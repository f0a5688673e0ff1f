#include "fedwatt/config/run_options.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "fedwatt/base/digest.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/process.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/energy/calibration.h"
#include "fedwatt/round/compression_settings.h"

namespace fedwatt {
namespace {

// Where the number of clients is not known beforehand (a networked run that asks everybody), a round's weight is bounded for this many.
constexpr int64_t kUnknownCohort = 4096;

}  // namespace

std::string NewRunId(const Clock& clock) {
  const absl::Time now = clock.Now();
  const std::string salt = absl::StrCat(absl::ToUnixNanos(now), "/", absl::ToInt64Nanoseconds(clock.Monotonic()), "/",
                                        absl::ToInt64Nanoseconds(ProcessCpuTime()));
  return absl::StrCat(absl::FormatTime("%Y%m%d-%H%M%S", now, absl::UTCTimeZone()), "-", Sha256(salt).Hex().substr(0, 6));
}

absl::StatusOr<ArchitectureSpec> MakeArchitecture(const Settings& settings, const Dataset& data) {
  ArchitectureSpec spec = settings.model.architecture;
  if (spec.input_shape.empty()) {
    spec.input_shape = data.store().input_shape;
  } else {
    int64_t size = 1;
    for (int64_t dimension : spec.input_shape) size *= dimension;
    if (size != data.store().input_size()) {
      return absl::InvalidArgumentError(absl::StrCat("model.input_shape: [", absl::StrJoin(spec.input_shape, ", "), "] holds ", size,
                                                     " values, an example of the data has ", data.store().input_size()));
    }
  }
  spec.output_count = data.store().output_count;
  return spec;
}

Plan MakePlan(const Settings& settings, const std::string& run_id, ArchitectureSpec architecture) {
  Plan plan;
  plan.run_id = run_id;
  plan.architecture = std::move(architecture);
  plan.recipe = settings.training.recipe;
  plan.fit.number_format = settings.number_format;
  const absl::StatusOr<CompressionPreset> preset = FindCompressionPreset(settings.compression.preset);
  FEDWATT_CHECK(preset.ok());  // the schema has checked it
  plan.uplink_codec = settings.compression.uplink.empty() ? preset->uplink : settings.compression.uplink;
  plan.downlink_codec = settings.compression.downlink.empty() ? preset->downlink : settings.compression.downlink;
  plan.limits = settings.privacy.limits;
  plan.clip_norm = settings.privacy.clip_norm;
  plan.seed = settings.seed;
  return plan;
}

absl::StatusOr<std::shared_ptr<const CarbonModel>> MakeCarbonModel(const Settings& settings) {
  const CarbonSettings& carbon = settings.carbon;
  if (carbon.sites.empty()) {
    if (carbon.server_site.empty()) return nullptr;
    return absl::InvalidArgumentError(absl::StrCat("carbon.server_site: '", carbon.server_site, "' is not one of carbon.sites, which is empty"));
  }
  std::vector<CarbonSite> sites;
  for (const std::string& text : carbon.sites) {
    FEDWATT_ASSIGN_OR_RETURN(CarbonSite site, ParseCarbonSite(text));
    sites.push_back(std::move(site));
  }
  std::vector<IntensityRow> rows;
  for (const std::string& path : carbon.series) {
    absl::StatusOr<std::string> text = ReadFile(path);
    if (!text.ok()) return Annotate(text.status(), "carbon.series");
    FEDWATT_ASSIGN_OR_RETURN(std::vector<IntensityRow> more, ReadIntensityCsv(*text, path));
    rows.insert(rows.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
  }
  FEDWATT_ASSIGN_OR_RETURN(CarbonModel model, CarbonModel::Create(std::move(sites), rows, carbon.kind, carbon.factor));
  if (!carbon.server_site.empty() && !model.FindSite(carbon.server_site)) {
    return absl::InvalidArgumentError(absl::StrCat("carbon.server_site: '", carbon.server_site, "' is not one of carbon.sites"));
  }
  return std::make_shared<const CarbonModel>(std::move(model));
}

MeterOptions MakeMeterOptions(const Settings& settings) {
  MeterOptions options;
  options.watts_per_core = settings.energy.watts_per_core;
  options.share = settings.energy.scope == "process";
  options.calibration = settings.energy.calibration.empty() ? DefaultCalibrationPath() : settings.energy.calibration;
  return options;
}

EngineOptions MakeEngineOptions(const Settings& settings, const std::string& run_id) {
  const FederationSettings& federation = settings.federation;
  EngineOptions options;
  options.run_id = run_id;
  options.seed = settings.seed;
  options.rounds = federation.rounds;
  options.clients_per_round = federation.clients_per_round;
  options.wait_for_clients = federation.wait_for_clients;
  options.quorum = federation.quorum;
  options.deadline = federation.deadline;
  options.over_selection = federation.over_selection;
  options.target_accuracy = federation.target_accuracy;
  options.evaluate_every = federation.evaluate_every;
  options.evaluate_widths = federation.evaluate_widths;
  options.evaluates = federation.evaluation != EvaluationMode::kNone;
  options.selection = settings.selection;
  options.budget = settings.budget;
  options.fit = settings.fit;
  return options;
}

GlobalModelOptions MakeGlobalModelOptions(const Settings& settings, Plan plan, const ParameterLayout& layout) {
  GlobalModelOptions options;
  options.plan = std::move(plan);
  options.layout = layout;
  options.fit = settings.fit;
  options.prune = settings.prune;
  options.strategy = settings.aggregation.strategy;
  options.optimizer.server_learning_rate = settings.aggregation.server_learning_rate;
  options.optimizer.momentum = settings.aggregation.momentum;
  options.optimizer.beta1 = settings.aggregation.beta1;
  options.optimizer.beta2 = settings.aggregation.beta2;
  options.optimizer.tau = settings.aggregation.tau;
  const FederationSettings& federation = settings.federation;
  if (federation.clients_per_round > 0) {
    options.max_cohort =
        static_cast<int64_t>(std::ceil(static_cast<double>(federation.clients_per_round) * (1 + federation.over_selection)));
  } else {
    options.max_cohort = settings.partition.clients > 0 ? settings.partition.clients : kUnknownCohort;
  }
  return options;
}

std::function<double(int64_t)> MakeLearningRate(const Settings& settings) {
  return [training = settings.training, rounds = settings.federation.rounds](int64_t round) {
    return LearningRateAt(training, rounds, round);
  };
}

}  // namespace fedwatt

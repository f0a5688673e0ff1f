// Every setting of every binary: one schema, merged from flags, environment, file and defaults.
#ifndef FEDWATT_CONFIG_SETTINGS_H_
#define FEDWATT_CONFIG_SETTINGS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "fedwatt/base/sandbox.h"
#include "fedwatt/data/partitioner.h"
#include "fedwatt/data/reader.h"
#include "fedwatt/energy/carbon.h"
#include "fedwatt/model/plan.h"
#include "fedwatt/report/run_record.h"
#include "fedwatt/round/budget.h"
#include "fedwatt/round/engine.h"
#include "fedwatt/round/fitting.h"
#include "fedwatt/round/pruning.h"
#include "fedwatt/round/selection.h"

namespace fedwatt {

struct ModelSettings {
  // `output_count` and `archive_digest` stay unset: they come from the data and the archive. An empty `input_shape` comes from
  // the data.
  ArchitectureSpec architecture{.name = "mlp_2nn"};
  std::string torchscript;  // path of an archive; when set, architecture.name is "torchscript"
  SandboxPolicy sandbox;    // of the process in which the archive runs
};

enum class EvaluationMode { kCentral, kFederated, kBoth, kNone };

struct FederationSettings {
  int64_t rounds = 10;
  int64_t clients_per_round = 10;  // 0 = all
  int64_t wait_for_clients = 0;    // after loading always >= 1
  double quorum = 0.5;             // (0, 1]
  absl::Duration deadline = absl::Minutes(10);
  double over_selection = 0;  // >= 0
  std::optional<double> target_accuracy;
  int64_t evaluate_every = 1;
  EvaluationMode evaluation = EvaluationMode::kCentral;
  WidthEvaluation evaluate_widths = WidthEvaluation::kLast;
  double federated_held_out_fraction = 0.1;  // (0, 1)
};

enum class LearningRateSchedule { kConstant, kStep, kCosine };

struct TrainingSettings {
  TrainingRecipe recipe;  // its client_learning_rate is the one of round 1
  LearningRateSchedule schedule = LearningRateSchedule::kConstant;
  double learning_rate_decay = 0.5;         // (0, 1]
  int64_t learning_rate_decay_every = 100;  // rounds
};

struct AggregationSettings {
  std::string strategy = "fedavg";
  double server_learning_rate = 0;  // 0 = the strategy's own default
  double momentum = 0.9;
  double beta1 = 0.9;
  double beta2 = 0.99;
  double tau = 1e-3;
};

struct CompressionSettings {
  std::string preset = "no_regret";
  std::string uplink;    // "" = the preset's
  std::string downlink;  // "" = the preset's
};

struct PrivacySettings {
  double clip_norm = 0;  // 0 = no clipping
  UpdateLimits limits;
};

struct DeviceShare {
  std::string name;
  double share = 1;  // > 0, relative to the others
};

struct EnergySettings {
  std::string meter = "auto";
  double watts_per_core = 0;  // 0 = the built-in table's value
  std::string source;         // MeterOptions::source
  std::string scope = "process";  // of meters that cover the machine: this process's part, or with "machine" all of it
  std::string calibration;        // file; "" = DefaultCalibrationPath()
  std::vector<DeviceShare> device_mix = {{"server_core", 1}};
};

struct CarbonSettings {
  std::vector<std::string> series;  // CSV files
  std::vector<std::string> sites;   // ParseCarbonSite(); none: grams are not counted
  IntensityKind kind = IntensityKind::kAverage;
  std::optional<EmissionFactor> factor;  // unset: the one that the zone has
  std::string server_site;               // "" = the coordinator's own grams are not counted
};

struct SecuritySettings {
  std::string directory;  // after loading never empty
  bool insecure = false;
  absl::Duration certificate_lifetime = absl::Hours(24 * 365);
};

struct ServerSettings {
  std::string listen = "0.0.0.0:7443";
  std::vector<std::string> names;  // extra names and addresses in the server's certificate
};

// Parts first..last, both included, of `total`, counted from 0.
struct PartitionRange {
  int64_t first = 0;
  int64_t last = 0;
  int64_t total = 1;
  friend bool operator==(const PartitionRange&, const PartitionRange&) = default;
};
// "3/8" or "0-24/100". Errors: INVALID_ARGUMENT
absl::StatusOr<PartitionRange> ParsePartitionRange(std::string_view text);

struct ClientSettings {
  std::string server = "localhost:7443";
  std::string name;             // "" = derived from host and partition
  std::string state_directory;  // "" = nothing is kept between starts
  std::optional<PartitionRange> partition;
  std::string site;             // one of the coordinator's carbon.sites; "" = not known
  bool stay = false;
  double min_battery_percent = 0;
  bool require_charger = false;
  bool allow_metered = false;
  // What the client insists on; empty and 0: nothing.
  std::vector<std::string> architectures, codecs;
  int64_t max_parameters = 0;
  int64_t max_examples = 0;
  int64_t min_cohort = 0;
  int64_t max_model_bytes = int64_t{1} << 32;
  bool allow_bfloat16 = true;
  double max_temperature_celsius = 0;  // 0 = no limit
};

// kUpdate: an acknowledged update is on disk. kRound: a crash repeats the round.
enum class Durability { kUpdate, kRound };

struct Settings {
  ModelSettings model;
  DataOptions data;
  PartitionOptions partition;  // its seed is the run's seed; its clients follow client.partition when that is given
  FederationSettings federation;
  TrainingSettings training;
  AggregationSettings aggregation;
  CompressionSettings compression;
  PrivacySettings privacy;
  SelectionOptions selection;
  BudgetOptions budget;
  FitOptions fit;
  PruneOptions prune;
  std::string number_format = "float32";  // as FitSpec's
  EnergySettings energy;
  CarbonSettings carbon;
  SecuritySettings security;
  ServerSettings server;
  ClientSettings client;
  Durability durability = Durability::kUpdate;
  uint64_t seed = 1;
  std::string out;
  bool simulation_batteries = false;
  int64_t simulation_workers = 0;  // 0 = one per core
  absl::Time simulation_start = absl::UnixEpoch();  // of virtual time
};

// The client's learning rate in `round`, counted from 1: constant; step: times decay^floor((round - 1) / decay_every); cosine
// (Loshchilov, Hutter 2017, arXiv 1608.03983, equation 5, one cycle): rate / 2 * (1 + cos(pi * (round - 1) / rounds)).
double LearningRateAt(const TrainingSettings& training, int64_t rounds, int64_t round);

struct FlagValue {
  std::string key;    // "federation.rounds"
  std::string value;  // arrays in TOML syntax; strings need no quotes
  std::string flag;   // as typed, for messages and origins: "--set", "--seed"
};

struct SettingsSources {
  std::optional<std::string> file;                 // TOML
  std::vector<FlagValue> flags;                    // a later one beats an earlier one
  std::map<std::string, std::string> environment;  // all variables; those of our sections are read: FEDWATT_FEDERATION_ROUNDS
};

struct LoadedSettings {
  Settings settings;
  std::vector<SettingWithOrigin> effective;  // every key, in schema order
};

// Merges flags over environment over file over defaults and checks every value and how they fit together. Paths are relative to
// the working folder; only the default of security.directory is beside the file. Errors: INVALID_ARGUMENT  unknown key (with the
// nearest), wrong type, out of range, values that do not fit: key, expected, got, where
//         NOT_FOUND, PERMISSION_DENIED  the file
absl::StatusOr<LoadedSettings> LoadSettings(const SettingsSources& sources);

struct SettingDescription {
  std::string key, type, default_value, help;
};
std::vector<SettingDescription> SettingDescriptions();

// The schema for people, one line a key: name, type with range, default, meaning.
std::string DescribeSchema();

// This process's environment, for SettingsSources.
std::map<std::string, std::string> ProcessEnvironment();

}  // namespace fedwatt

#endif  // FEDWATT_CONFIG_SETTINGS_H_

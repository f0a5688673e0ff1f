// What an audit found, and how it is told.
#ifndef FEDWATT_TOOL_AUDIT_FINDINGS_H_
#define FEDWATT_TOOL_AUDIT_FINDINGS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "fedwatt/audit/interval.h"
#include "fedwatt/audit/measure.h"
#include "fedwatt/audit/round_bytes.h"
#include "fedwatt/energy/quantities.h"
#include "fedwatt/model/profile.h"

namespace fedwatt::tool {

// Consecutive operators of one layer: what reads entries is named by what its entries have in common, the rest goes by operator.
struct LayerRow {
  std::string layer;          // "layer1.0.conv1"; "" for operators without entries
  std::string operators;      // "conv2d"; without entries "relu (17)"
  std::vector<int64_t> output_shape;
  int64_t parameters = 0;
  double macs = 0;
  int64_t activation_bytes = 0;
};
// In the order of the first operator, those without entries last, each kind once.
std::vector<LayerRow> Layers(const ModelProfile& profile, const ParameterLayout& layout);

struct WayFindings {
  std::string name, problem;
  std::optional<int64_t> parameters, model_bytes;
  std::optional<double> macs;
  std::vector<double> accuracies;              // by seed
  std::optional<Interval> accuracy_difference;  // against float32 of the same seed, fraction
  std::vector<RoundBytes> bytes;
  std::string bytes_problem;
};

// Another architecture of the same input and outputs.
struct Alternative {
  std::string name, problem;
  std::optional<int64_t> parameters, activation_bytes;
  std::optional<double> macs;  // one example forward
  TaskCost inference, training;
};

// How processor seconds become joules where nothing meters them. Watts of one busy core.
struct WattsModel {
  double watts = 0, low = 0, high = 0;
  std::string describe;
};

struct Findings {
  std::string model;
  std::vector<int64_t> input_shape;
  int64_t output_count = 0, batch_size = 0, threads = 1;
  std::string cpu_model;
  int64_t cores = 0;

  std::vector<LayerRow> layers;
  std::string layers_problem;  // why there are none

  std::string meter;           // what meters joules, or why nothing does
  EnergyTier tier = EnergyTier::kMissing;
  std::optional<WattsModel> watts;  // where nothing meters
  std::optional<Interval> idle_watts;  // metered

  Measurement measurement;
  double target = 0;
  std::vector<WayFindings> ways;
  std::vector<Alternative> alternatives;  // the model itself first; empty where nobody asked
  bool has_data = false;
  int64_t accuracy_steps = 0, accuracy_seeds = 0;

  // The federation that is projected.
  int64_t rounds = 0, clients_per_round = 0, examples_per_client = 0, local_epochs = 0;
  std::optional<double> g_per_kwh;
  std::string intensity_source;
  double seconds = 0;  // that the audit took
};

// Joules of one example as the tier says: metered, or processor seconds times watts with both intervals taken together. nullopt where neither is known.
std::optional<Interval> JoulesOf(const Findings& findings, const TaskCost& cost);

std::string FindingsText(const Findings& findings);
std::string FindingsJson(const Findings& findings);

}  // namespace fedwatt::tool

#endif  // FEDWATT_TOOL_AUDIT_FINDINGS_H_

#include "audit/findings.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "fedwatt/base/text.h"
#include "verb.h"

namespace fedwatt::tool {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostNameBytes = 60;

// Names come out of archives, which may put anything into them.
std::string Plain(const std::string& text) { return OneLine(TruncateUtf8(text, kMostNameBytes)); }

std::string Shape(const std::vector<int64_t>& shape) { return shape.empty() ? "-" : absl::StrJoin(shape, "x"); }

// 12,345,678
std::string Count(double value) {
  std::string digits = absl::StrFormat("%.0f", value);
  for (int64_t at = static_cast<int64_t>(digits.size()) - 3; at > 0; at -= 3) digits.insert(static_cast<size_t>(at), ",");
  return digits;
}
std::string Count(const std::optional<double>& value) { return value.has_value() ? Count(*value) : "-"; }
std::string Count(const std::optional<int64_t>& value) { return value.has_value() ? Count(static_cast<double>(*value)) : "-"; }

// Three digits and a unit of 1000^n.
std::string Scaled(double value, const char* unit) {
  constexpr const char* kPrefixes[] = {"n", "u", "m", "", "k", "M", "G", "T"};
  if (value == 0 || !std::isfinite(value)) return absl::StrFormat("%g %s", value, unit);
  int step = static_cast<int>(std::floor(std::log10(std::abs(value)) / 3));
  step = std::clamp(step, -3, 4);
  const double scaled = value / std::pow(1000.0, step);
  return absl::StrFormat("%.*f %s%s", std::abs(scaled) < 9.995 ? 2 : std::abs(scaled) < 99.95 ? 1 : 0, scaled, kPrefixes[step + 3], unit);
}
std::string Bytes(double value) { return value < 1000 ? absl::StrFormat("%.0f B", value) : Scaled(value, "B"); }

std::string Range(const std::optional<Interval>& interval, const char* unit) {
  if (!interval.has_value()) return "-";
  return absl::StrFormat("%s (%s to %s)", Scaled(interval->estimate, unit), Scaled(interval->low, unit), Scaled(interval->high, unit));
}

// What a ratio shows, in words. Only what was metered is called saved.
std::string Compared(const std::optional<Interval>& ratio, bool metered) {
  if (!ratio.has_value()) return "-";
  const std::string times = absl::StrFormat("%.3f times (%.3f to %.3f)", ratio->estimate, ratio->low, ratio->high);
  switch (Judge(ratio, 1)) {
    case Verdict::kLess: return absl::StrFormat("%s %.0f %%: %s", metered ? "saved" : "less by", 100 * (1 - ratio->estimate), times);
    case Verdict::kMore: return absl::StrFormat("more by %.0f %%: %s", 100 * (ratio->estimate - 1), times);
    case Verdict::kNotShown: break;
  }
  return "no difference shown: " + times;
}

const TaskCost* Find(const Findings& findings, const std::string& way, const std::string& work) {
  for (const TaskCost& cost : findings.measurement.tasks) {
    if (cost.way == way && cost.work == work) return &cost;
  }
  return nullptr;
}

bool Metered(const Findings& findings) { return !IsEstimate(findings.tier); }

struct Projection {
  double examples = 0;                 // trained on, all rounds and clients
  std::optional<Interval> joules, grams;
  std::optional<double> cpu_seconds;
};
Projection Project(const Findings& findings, const std::string& way) {
  Projection made;
  made.examples = static_cast<double>(findings.rounds) * static_cast<double>(findings.clients_per_round) * static_cast<double>(findings.examples_per_client) *
                  static_cast<double>(findings.local_epochs);
  const TaskCost* cost = Find(findings, way, "training");
  if (cost == nullptr || !cost->cpu_seconds.has_value()) return made;
  made.cpu_seconds = cost->cpu_seconds->estimate * made.examples;
  if (const std::optional<Interval> joules = JoulesOf(findings, *cost)) {
    const auto times = [](const Interval& a, double factor) { return Interval{a.estimate * factor, a.low * factor, a.high * factor, a.count}; };
    made.joules = times(*joules, made.examples);
    if (findings.g_per_kwh.has_value()) made.grams = times(*made.joules, *findings.g_per_kwh / 3.6e6);
  }
  return made;
}

Json OfInterval(const std::optional<Interval>& interval) {
  if (!interval.has_value()) return nullptr;
  return Json{{"estimate", interval->estimate}, {"low", interval->low}, {"high", interval->high}, {"measurements", interval->count}};
}
template <typename T>
Json OrNull(const std::optional<T>& value) {
  return value.has_value() ? Json(*value) : Json(nullptr);
}

}  // namespace

std::vector<LayerRow> Layers(const ModelProfile& profile, const ParameterLayout& layout) {
  std::map<std::string, const LayoutEntry*> entries;
  for (const LayoutEntry& entry : layout.entries()) entries[entry.name] = &entry;
  std::vector<LayerRow> rows;
  std::map<std::string, size_t> known;            // layers by name
  std::map<std::string, std::pair<LayerRow, int64_t>> others;  // by operator
  std::set<std::string> counted;
  for (const OperatorProfile& run : profile.operators) {
    if (run.entries.empty()) {
      auto& [row, count] = others[run.name];
      ++count;
      row.macs += run.macs;
      row.activation_bytes += run.activation_bytes;
      continue;
    }
    // "conv1.weight" and "conv1.bias" are of "conv1".
    const std::string& first = run.entries[0];
    const std::string name = first.substr(0, first.rfind('.') == std::string::npos ? first.size() : first.rfind('.'));
    auto [it, added] = known.try_emplace(name, rows.size());
    if (added) rows.push_back({.layer = name});
    LayerRow& row = rows[it->second];
    if (row.operators.empty()) {
      row.operators = run.name;
    } else if (!absl::StrContains(row.operators, run.name)) {
      absl::StrAppend(&row.operators, "+", run.name);
    }
    row.output_shape = run.output_shape;
    row.macs += run.macs;
    row.activation_bytes += run.activation_bytes;
    for (const std::string& entry : run.entries) {
      if (counted.insert(entry).second && entries.at(entry)->kind == EntryKind::kParameter) row.parameters += entries.at(entry)->element_count();
    }
  }
  for (auto& [name, other] : others) {
    other.first.operators = other.second > 1 ? absl::StrCat(name, " (", other.second, ")") : name;
    rows.push_back(std::move(other.first));
  }
  return rows;
}

std::optional<Interval> JoulesOf(const Findings& findings, const TaskCost& cost) {
  if (Metered(findings)) return cost.joules;
  if (!findings.watts.has_value() || !cost.cpu_seconds.has_value()) return std::nullopt;
  const Interval& cpu = *cost.cpu_seconds;
  const WattsModel& watts = *findings.watts;
  return Interval{cpu.estimate * watts.watts, std::max(0.0, cpu.low) * watts.low, cpu.high * watts.high, cpu.count};
}

std::string FindingsText(const Findings& findings) {
  const bool metered = Metered(findings);
  std::string out = absl::StrFormat("%s: input %s, %d outputs; batch %d, %d kernel thread%s; %s, %d cores\n\n", Plain(findings.model), Shape(findings.input_shape),
                                    findings.output_count, findings.batch_size, findings.threads, findings.threads == 1 ? "" : "s",
                                    findings.cpu_model.empty() ? "unknown processor" : findings.cpu_model, findings.cores);
  absl::StrAppend(&out, "Layers: one example, forward, evaluation mode\n");
  if (!findings.layers_problem.empty()) {
    absl::StrAppend(&out, "  not known: ", findings.layers_problem, "\n");
  } else {
    std::vector<std::vector<std::string>> rows = {{"  layer", "operators", "output", "parameters", "multiply-adds", "activations"}};
    double parameters = 0, macs = 0, bytes = 0;
    for (const LayerRow& row : findings.layers) {
      rows.push_back({absl::StrCat("  ", row.layer.empty() ? "-" : Plain(row.layer)), Plain(row.operators), Shape(row.output_shape), Count(static_cast<double>(row.parameters)),
                      Count(row.macs), Bytes(static_cast<double>(row.activation_bytes))});
      parameters += static_cast<double>(row.parameters);
      macs += row.macs;
      bytes += static_cast<double>(row.activation_bytes);
    }
    rows.push_back({"  all", "", "", Count(parameters), Count(macs), Bytes(bytes)});
    out += Columns(rows);
  }

  absl::StrAppend(&out, "\nEnergy: ", findings.meter, "\n");
  absl::StrAppend(&out, "Idle: ", findings.idle_watts.has_value() ? Range(findings.idle_watts, "W") : "not metered, so not in any number below", "\n");
  if (!metered && findings.watts.has_value()) {
    absl::StrAppend(&out, "Joules below are processor seconds times ", absl::StrFormat("%.3g W (%.3g to %.3g)", findings.watts->watts, findings.watts->low, findings.watts->high),
                    ", tier ", std::string(EnergyTierName(findings.tier)), ": a model. The watts are common to all ways as far as they draw alike, which nobody metered here;\n",
                    "so ways are compared by processor time, and no joule is called saved.\n");
  }

  const Measurement& measured = findings.measurement;
  absl::StrAppend(&out, "\n", absl::StrFormat("Cost of one example: %d turns, 95 %% intervals, %s\n", measured.turns,
                                              measured.narrow_enough ? absl::StrFormat("all within +-%.0f %%", 100 * findings.target)
                                                                     : absl::StrFormat("NOT all within +-%.0f %%: the budget was spent", 100 * findings.target)));
  std::vector<std::vector<std::string>> rows = {{"  work", "way", "processor time", metered ? "joules" : "joules, modelled", metered ? "joules against float32" : "time against float32"}};
  std::string problems;
  for (const char* work : {"inference", "training"}) {
    for (const WayFindings& way : findings.ways) {
      const TaskCost* cost = Find(findings, way.name, work);
      if (cost == nullptr) continue;
      if (!cost->problem.empty()) {
        absl::StrAppend(&problems, "  ", work, ", ", way.name, ": not measured: ", TruncateUtf8(cost->problem, 300), "\n");
        continue;
      }
      rows.push_back({absl::StrCat("  ", work), way.name, Range(cost->cpu_seconds, "s"), Range(JoulesOf(findings, *cost), "J"),
                      way.name == "float32" ? "" : Compared(metered ? cost->joule_ratio : cost->cpu_ratio, metered)});
    }
  }
  out += Columns(rows) + problems;
  for (const WayFindings& way : findings.ways) {
    if (!way.problem.empty()) absl::StrAppend(&out, "  ", way.name, ": not measured: ", TruncateUtf8(way.problem, 300), "\n");
  }

  absl::StrAppend(&out, "\nSize and accuracy");
  absl::StrAppend(&out, findings.has_data ? absl::StrFormat(": %d steps of training each, %d seeds, paired; these are short runs, far from the end of learning\n", findings.accuracy_steps,
                                                            findings.accuracy_seeds)
                                          : std::string("; accuracy was not measured: without --data there is nothing to learn\n"));
  rows = {{"  way", "parameters", "multiply-adds", "file", "accuracy", "points against float32"}};
  for (const WayFindings& way : findings.ways) {
    if (!way.problem.empty()) continue;
    std::string mean = "-", difference = way.name == "float32" ? "" : "-";
    if (!way.accuracies.empty()) {
      double sum = 0;
      for (double accuracy : way.accuracies) sum += accuracy;
      mean = absl::StrFormat("%.4f", sum / static_cast<double>(way.accuracies.size()));
    }
    if (way.accuracy_difference.has_value()) {
      const Interval& points = *way.accuracy_difference;
      difference = absl::StrFormat("%+.2f (%+.2f to %+.2f)%s", 100 * points.estimate, 100 * points.low, 100 * points.high,
                                   Judge(points, 0) == Verdict::kNotShown ? ": no difference shown" : "");
    }
    rows.push_back({absl::StrCat("  ", way.name), Count(way.parameters), Count(way.macs), way.model_bytes.has_value() ? Bytes(static_cast<double>(*way.model_bytes)) : "-", mean, difference});
  }
  out += Columns(rows);

  if (!findings.alternatives.empty()) {
    absl::StrAppend(&out, "\nAlternatives: built-in architectures at their default options, same input and outputs; nothing is said of what they would learn\n");
    rows = {{"  architecture", "parameters", "multiply-adds", "activations", "inference", "training", "training time against the model"}};
    problems.clear();
    for (const Alternative& other : findings.alternatives) {
      if (!other.problem.empty()) {
        absl::StrAppend(&problems, "  ", other.name, ": not for these inputs: ", TruncateUtf8(other.problem, 300), "\n");
        continue;
      }
      rows.push_back({absl::StrCat("  ", Plain(other.name)), Count(other.parameters), Count(other.macs),
                      other.activation_bytes.has_value() ? Bytes(static_cast<double>(*other.activation_bytes)) : "-", Range(other.inference.cpu_seconds, "s"),
                      Range(other.training.cpu_seconds, "s"), &other == &findings.alternatives[0] ? "" : Compared(other.training.cpu_ratio, /*metered=*/false)});
    }
    out += Columns(rows) + problems;
  }

  absl::StrAppend(&out, "\nBytes of one client and round, payload; the last of a few short rounds of one client each\n");
  rows = {{"  way", "preset", "up", "down", "down, first contact"}};
  for (const WayFindings& way : findings.ways) {
    for (const RoundBytes& bytes : way.bytes) {
      rows.push_back({absl::StrCat("  ", way.name), bytes.preset, Bytes(static_cast<double>(bytes.uplink)), Bytes(static_cast<double>(bytes.downlink)), Bytes(static_cast<double>(bytes.downlink_newcomer))});
    }
    if (!way.bytes_problem.empty()) rows.push_back({absl::StrCat("  ", way.name), "not coded: " + TruncateUtf8(way.bytes_problem, 300)});
  }
  out += Columns(rows);

  absl::StrAppend(&out, "\n", absl::StrFormat("A federation of %d rounds, %d clients a round, %d examples and %d local epoch%s each: training on devices like this one\n", findings.rounds,
                                              findings.clients_per_round, findings.examples_per_client, findings.local_epochs, findings.local_epochs == 1 ? "" : "s"));
  rows = {{"  way", "processor time", metered ? "joules" : "joules, modelled", "grams of CO2-equivalent"}};
  for (const WayFindings& way : findings.ways) {
    const Projection projection = Project(findings, way.name);
    if (!projection.cpu_seconds.has_value()) continue;
    rows.push_back({absl::StrCat("  ", way.name), Scaled(*projection.cpu_seconds, "s"), Range(projection.joules, "J"),
                    findings.g_per_kwh.has_value() ? Range(projection.grams, "g") : "- (--g-per-kwh)"});
  }
  out += Columns(rows);
  rows = {{"  way", "preset", "payload of all rounds, no first contacts"}};
  const double exchanges = static_cast<double>(findings.rounds * findings.clients_per_round);
  for (const WayFindings& way : findings.ways) {
    for (const RoundBytes& bytes : way.bytes) rows.push_back({absl::StrCat("  ", way.name), bytes.preset, Bytes(static_cast<double>(bytes.uplink + bytes.downlink) * exchanges)});
  }
  if (rows.size() > 1) out += Columns(rows);
  absl::StrAppend(&out, "  Idle devices, evaluation, coding, network and coordinator are not in it.");
  if (findings.g_per_kwh.has_value()) {
    absl::StrAppend(&out, absl::StrFormat(" %g g/kWh: %s.", *findings.g_per_kwh, findings.intensity_source.empty() ? "no source was given" : findings.intensity_source));
  }
  absl::StrAppend(&out, "\n\n", absl::StrFormat("The audit took %.0f s.\n", findings.seconds));
  return out;
}

std::string FindingsJson(const Findings& findings) {
  const bool metered = Metered(findings);
  Json json = {{"schema", "fedwatt.audit.v1"}, {"model", TruncateUtf8(findings.model, 4096)}, {"input_shape", findings.input_shape}, {"output_count", findings.output_count},
               {"batch_size", findings.batch_size}, {"threads", findings.threads}, {"cpu_model", findings.cpu_model}, {"cores", findings.cores}};
  json["layers_problem"] = findings.layers_problem.empty() ? Json(nullptr) : Json(TruncateUtf8(findings.layers_problem, 4096));
  json["layers"] = Json::array();
  for (const LayerRow& row : findings.layers) {
    json["layers"].push_back({{"layer", TruncateUtf8(row.layer, 255)}, {"operators", TruncateUtf8(row.operators, 255)}, {"output_shape", row.output_shape}, {"parameters", row.parameters},
                              {"macs", row.macs}, {"activation_bytes", row.activation_bytes}});
  }
  json["energy"] = {{"meter", findings.meter}, {"tier", EnergyTierName(findings.tier)}, {"metered", metered}, {"idle_watts", OfInterval(findings.idle_watts)}};
  json["energy"]["watts_a_busy_core"] =
      findings.watts.has_value() ? Json{{"estimate", findings.watts->watts}, {"low", findings.watts->low}, {"high", findings.watts->high}} : Json(nullptr);
  json["measurement"] = {{"turns", findings.measurement.turns}, {"confidence", 0.95}, {"target_half_width", findings.target}, {"narrow_enough", findings.measurement.narrow_enough}};
  json["has_data"] = findings.has_data;
  json["accuracy_steps"] = findings.has_data ? Json(findings.accuracy_steps) : Json(nullptr);
  json["projection"] = {{"rounds", findings.rounds}, {"clients_per_round", findings.clients_per_round}, {"examples_per_client", findings.examples_per_client},
                        {"local_epochs", findings.local_epochs}, {"g_per_kwh", OrNull(findings.g_per_kwh)}, {"intensity_source", findings.intensity_source}};
  json["ways"] = Json::array();
  for (const WayFindings& way : findings.ways) {
    Json one = {{"way", way.name}, {"problem", way.problem.empty() ? Json(nullptr) : Json(TruncateUtf8(way.problem, 4096))}, {"parameters", OrNull(way.parameters)}, {"macs", OrNull(way.macs)},
                {"model_bytes", OrNull(way.model_bytes)}};
    for (const char* work : {"inference", "training"}) {
      const TaskCost* cost = Find(findings, way.name, work);
      if (cost == nullptr) {
        one[work] = nullptr;
        continue;
      }
      Json& of = one[work] = {{"problem", cost->problem.empty() ? Json(nullptr) : Json(TruncateUtf8(cost->problem, 4096))}, {"cpu_seconds", OfInterval(cost->cpu_seconds)},
                              {"joules", OfInterval(JoulesOf(findings, *cost))}, {"joules_are_estimate", !metered}};
      if (way.name == "float32") continue;
      of["cpu_ratio"] = OfInterval(cost->cpu_ratio);
      of["cpu_verdict"] = VerdictName(Judge(cost->cpu_ratio, 1));
      of["joule_ratio"] = OfInterval(cost->joule_ratio);
      of["joule_verdict"] = metered ? Json(VerdictName(Judge(cost->joule_ratio, 1))) : Json("not_metered");
    }
    one["accuracies"] = way.accuracies;
    one["accuracy_difference"] = OfInterval(way.accuracy_difference);
    one["round_bytes"] = Json::array();
    for (const RoundBytes& bytes : way.bytes) {
      one["round_bytes"].push_back(
          {{"preset", bytes.preset}, {"uplink", bytes.uplink}, {"downlink", bytes.downlink}, {"downlink_newcomer", bytes.downlink_newcomer}, {"rounds", bytes.rounds}});
    }
    one["round_bytes_problem"] = way.bytes_problem.empty() ? Json(nullptr) : Json(TruncateUtf8(way.bytes_problem, 4096));
    const Projection projection = Project(findings, way.name);
    one["projected"] = {{"cpu_seconds", OrNull(projection.cpu_seconds)}, {"joules", OfInterval(projection.joules)}, {"grams", OfInterval(projection.grams)}};
    json["ways"].push_back(std::move(one));
  }
  json["alternatives"] = Json::array();
  for (const Alternative& other : findings.alternatives) {
    json["alternatives"].push_back({{"architecture", TruncateUtf8(other.name, 4096)}, {"problem", other.problem.empty() ? Json(nullptr) : Json(TruncateUtf8(other.problem, 4096))},
                                    {"parameters", OrNull(other.parameters)}, {"macs", OrNull(other.macs)}, {"activation_bytes", OrNull(other.activation_bytes)},
                                    {"inference_cpu_seconds", OfInterval(other.inference.cpu_seconds)}, {"training_cpu_seconds", OfInterval(other.training.cpu_seconds)},
                                    {"training_cpu_ratio", OfInterval(other.training.cpu_ratio)}, {"training_cpu_verdict", VerdictName(Judge(other.training.cpu_ratio, 1))}});
  }
  json["seconds"] = findings.seconds;
  return json.dump(2) + "\n";
}

}  // namespace fedwatt::tool

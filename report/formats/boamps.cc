// A report in Boavizta's BoAmps data model (github.com/Boavizta/BoAmps, model/report_schema.json and the schemas it names, 1.x), energies in kWh.
//
// powerConsumption is required there, so a run without any joules has no such report. `quality` says how far off the number may be (10, 25 or 50 %) and
// is left out where our interval is wider or unknown.
#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "export.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/report/report_format.h"
#include "provenance.h"
#include "settings.h"

namespace fedwatt::internal {
namespace {

// The worst relative error that the clients' interval allows, where it covers everything.
std::string Quality(const EnergyReport& report) {
  const RunTotals& totals = report.totals;
  if (!report.total.complete || !totals.client_energy || !totals.client_energy_low || !totals.client_energy_high || report.server.energy != Energy() ||
      report.wasted.energy.value_or(Energy()) != Energy() || *totals.client_energy == Energy()) {
    return "";
  }
  const double middle = totals.client_energy->joules();
  const double error = std::max(totals.client_energy_high->joules() - middle, middle - totals.client_energy_low->joules()) / middle;
  return error <= 0.1 ? "high" : error <= 0.25 ? "medium" : error <= 0.5 ? "low" : "";
}

absl::StatusOr<std::vector<ReportFile>> Render(const RunRecord& run, const EnergyReport& report) {
  if (!report.total.energy) {
    return absl::FailedPreconditionError("boamps: the format requires powerConsumption, and no joules of this run are known");
  }
  const RunTotals& totals = report.totals;
  int64_t parameters = 0;
  std::string number_format;
  for (const AttemptRecord& attempt : run.attempts) {
    parameters = std::max(parameters, attempt.fit_parameter_count);
    if (attempt.outcome == "accepted") number_format = attempt.fit.number_format;
  }
  OrderedJson algorithm = {{"trainingType", "supervisedLearning"}, {"algorithmType", "neural network"}};
  if (const std::string name = SettingOf(run, "model.architecture"); !name.empty()) algorithm["algorithmName"] = name;
  if (parameters > 0) algorithm["parametersNumber"] = static_cast<double>(parameters) / 1e9;
  algorithm["framework"] = "fedwatt";
  if (!report.version.empty()) algorithm["frameworkVersion"] = report.version;
  algorithm["optimizer"] = "sgd";
  if (!number_format.empty()) algorithm["quantization"] = number_format == "float32" ? "fp32" : number_format == "bfloat16" ? "b16" : number_format;

  OrderedJson dataset = {{"dataUsage", "input"}, {"dataType", DataTypeOf(run)}};
  if (totals.train_examples > 0) dataset["dataQuantity"] = totals.train_examples;  // over all rounds, repeats included

  OrderedJson task = {{"taskStage", "training"},
                      {"taskFamily", "federated learning"},
                      {"algorithms", OrderedJson::array({algorithm})},
                      {"dataset", OrderedJson::array({dataset})}};
  if (totals.final_accuracy) task["measuredAccuracy"] = *totals.final_accuracy;
  task["taskDescription"] = absl::StrCat(ProvenanceText(report), "; total: ", SumText(report.total), ", ", SumBasis(report.total), "; ",
                                         totals.rounds_committed, " rounds committed, run ", report.run_id);

  OrderedJson measure = {{"measurementMethod", absl::StrCat("fedwatt (", report.sources.empty() ? "unnamed meter" : absl::StrJoin(report.sources, "+"), ")")}};
  if (!report.version.empty()) measure["version"] = report.version;
  measure["cpuTrackingMode"] = std::string(EnergyTierName(report.total.tier));
  measure["powerConsumption"] = KilowattHours(*report.total.energy);
  measure["measurementDuration"] = totals.wall_seconds;
  if (report.started_at) measure["measurementDateTime"] = UtcTime(*report.started_at, "%Y-%m-%d %H:%M:%S");

  // Of the coordinator, the one machine that the record names; of the clients it knows how many there were.
  OrderedJson components = OrderedJson::array();
  const std::map<std::string, std::string> facts = run.summary ? run.summary->machine_facts : std::map<std::string, std::string>{};
  OrderedJson cpu = OrderedJson::object();
  if (const auto model = facts.find("cpu"); model != facts.end()) cpu["componentName"] = absl::StrCat("coordinator: ", model->second);
  cpu["componentType"] = "cpu";
  cpu["nbComponent"] = 1;
  components.push_back(cpu);
  if (!report.clients_by_joules.empty()) {
    components.push_back({{"componentName", report.simulated ? "simulated client devices" : "client devices"},
                          {"componentType", "cpu"},
                          {"nbComponent", static_cast<int64_t>(report.clients_by_joules.size())}});
  }

  OrderedJson json = {{"header",
                       {{"formatVersionSpecificationUri", "https://github.com/Boavizta/BoAmps/tree/main/model"},
                        {"reportId", report.run_id},
                        {"reportDatetime", UtcTime(*report.finished_at, "%Y-%m-%d %H:%M:%S")},
                        {"reportStatus", report.finished ? "final" : "draft"},
                        {"publisher", {{"projectName", "fedwatt"}, {"confidentialityLevel", "internal"}}}}},
                      {"task", task},
                      {"measures", OrderedJson::array({measure})},
                      {"system", {{"os", "linux"}}},
                      {"software", {{"language", "c++"}}},
                      {"infrastructure", {{"infraType", "other"}, {"components", components}}}};
  if (!report.location.empty()) {
    // "Brest, France" names the country last.
    const std::vector<std::string> parts = absl::StrSplit(report.location, ',');
    OrderedJson environment = {{"country", std::string(absl::StripAsciiWhitespace(parts.back()))}, {"location", report.location}};
    if (report.carbon.g_per_kwh) environment["powerSourceCarbonIntensity"] = *report.carbon.g_per_kwh;
    json["environment"] = environment;
  }
  if (const std::string quality = Quality(report); !quality.empty()) json["quality"] = quality;
  return std::vector<ReportFile>{{"boamps.json", DumpJson(json)}};
}

}  // namespace

void InstallReportFormat_boamps(ReportFormatRegistry& registry) {
  FEDWATT_CHECK(registry.Register("boamps", {"Boavizta's BoAmps JSON, for the open energy data of machine learning", Render}).ok());
}

}  // namespace fedwatt::internal

// Prometheus text exposition format 0.0.4 with its naming rules (base units, `_total` for counters), for node_exporter's textfile collector. What is
// unknown has no sample. No label takes a value per client.
#include <map>
#include <utility>

#include "export.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/report/report_format.h"
#include "provenance.h"

namespace fedwatt::internal {
namespace {

using Labels = std::vector<std::pair<std::string, std::string>>;

std::string LabelValue(std::string_view text) {
  std::string value;
  for (char c : text) {
    if (c == '\\' || c == '"') value += '\\';
    if (c == '\n') {
      value += "\\n";
    } else {
      value += c;
    }
  }
  return value;
}

class Exposition {
 public:
  explicit Exposition(std::string run) : run_(std::move(run)) {}

  void Family(std::string name, const char* type, const char* help) {
    name_ = std::move(name);
    header_ = absl::StrCat("# HELP ", name_, " ", help, "\n# TYPE ", name_, " ", type, "\n");
  }
  // Of the family begun last; its header is written with its first sample.
  void Sample(Labels labels, const std::optional<double>& value) {
    const std::string number = Number(value);
    if (number.empty()) return;
    labels.insert(labels.begin(), {"run", run_});
    std::string text;
    for (const auto& [label, content] : labels) absl::StrAppend(&text, text.empty() ? "" : ",", label, "=\"", LabelValue(content), "\"");
    absl::StrAppend(&out_, std::exchange(header_, ""), name_, "{", text, "} ", number, "\n");
  }
  void Comment(const std::string& text) { absl::StrAppend(&out_, "# ", OneLine(text), "\n"); }
  std::string out() && { return std::move(out_); }

 private:
  const std::string run_;
  std::string name_, header_, out_;
};

std::optional<double> JoulesOf(const std::optional<Energy>& energy) { return energy ? std::optional<double>(energy->joules()) : std::nullopt; }
std::optional<double> CountOf(const std::optional<int64_t>& count) { return count ? std::optional<double>(static_cast<double>(*count)) : std::nullopt; }

absl::StatusOr<std::vector<ReportFile>> Render(const RunRecord&, const EnergyReport& report) {
  const RunTotals& totals = report.totals;
  Exposition text(report.run_id);
  for (const auto& [name, line] : ProvenanceLines(report)) text.Comment(absl::StrCat(name, ": ", line));
  text.Family("fedwatt_run_info", "gauge", "The run, whose value is always 1.");
  text.Sample({{"version", report.version}, {"simulated", report.simulated ? "true" : "false"}, {"finished", report.finished ? "true" : "false"}}, 1.0);
  text.Family("fedwatt_metered_time_ratio", "gauge", "Part of the wall time whose joules are known.");
  text.Sample({{"role", "client"}}, report.client_coverage());
  text.Sample({{"role", "coordinator"}}, report.server_coverage());
  text.Family("fedwatt_client_energy_joules_total", "counter", "Joules of accepted updates that came with joules, by tier.");
  for (const auto& [tier, energy] : report.tiers) {
    text.Sample({{"tier", std::string(EnergyTierName(tier))}, {"estimate", IsEstimate(tier) ? "true" : "false"}}, energy.joules());
  }
  text.Family("fedwatt_client_energy_updates_total", "counter", "Accepted updates that came with joules.");
  text.Sample({}, static_cast<double>(totals.client_energy_clients));
  text.Family("fedwatt_wasted_energy_joules_total", "counter", "Joules of attempts that did not count.");
  text.Sample({{"tier", std::string(EnergyTierName(report.wasted.tier))}}, JoulesOf(report.wasted.energy));
  text.Family("fedwatt_between_energy_joules_total", "counter", "Known joules of the clients' time outside attempts.");
  text.Sample({{"tier", std::string(EnergyTierName(report.between.tier))}}, JoulesOf(report.between.energy));
  text.Family("fedwatt_coordinator_energy_joules_total", "counter", "Joules of the coordinator.");
  text.Sample({{"tier", std::string(EnergyTierName(report.server.tier))}}, JoulesOf(report.server.energy));
  text.Family("fedwatt_carbon_grams_total", "counter", "Grams of CO2-equivalent of the known joules' electricity.");
  text.Sample({}, report.carbon.operational_grams);
  text.Family("fedwatt_phase_energy_joules_total", "counter", "Known joules of all attempts, by phase.");
  for (const PhaseTotals& phase : report.phases) text.Sample({{"phase", std::string(PhaseName(phase.phase))}}, JoulesOf(phase.spent.energy));
  text.Family("fedwatt_phase_seconds_total", "counter", "Wall time of all attempts, by phase.");
  for (const PhaseTotals& phase : report.phases) text.Sample({{"phase", std::string(PhaseName(phase.phase))}}, phase.seconds);
  text.Family("fedwatt_rounds_total", "counter", "Rounds that finished.");
  text.Sample({{"result", "committed"}}, static_cast<double>(totals.rounds_committed));
  text.Sample({{"result", "abandoned_or_repeated"}}, static_cast<double>(totals.rounds - totals.rounds_committed));
  text.Family("fedwatt_attempts_total", "counter", "Client attempts, by outcome.");
  text.Sample({{"outcome", "accepted"}}, static_cast<double>(totals.clients_completed));
  text.Sample({{"outcome", "rejected"}}, static_cast<double>(totals.clients_rejected));
  text.Sample({{"outcome", "late"}}, static_cast<double>(totals.clients_late));
  text.Sample({{"outcome", "dropped"}}, static_cast<double>(totals.clients_dropped));
  for (const auto& [direction, payload, wire, headers] :
       {std::tuple("uplink", totals.uplink_payload_bytes, totals.uplink_wire_bytes, totals.uplink_header_bytes),
        std::tuple("downlink", totals.downlink_payload_bytes, totals.downlink_wire_bytes, totals.downlink_header_bytes)}) {
    text.Family(absl::StrCat("fedwatt_", direction, "_bytes_total"), "counter", "Bytes of all clients: payload, on the wire, and headers of IP and TCP beside these.");
    text.Sample({{"kind", "payload"}}, static_cast<double>(payload));
    text.Sample({{"kind", "wire"}}, CountOf(wire));
    text.Sample({{"kind", "headers"}}, CountOf(headers));
  }
  text.Family("fedwatt_round_seconds_total", "counter", "Wall time of rounds.");
  text.Sample({}, totals.wall_seconds);
  text.Family("fedwatt_train_examples_total", "counter", "Examples of accepted updates.");
  text.Sample({}, static_cast<double>(totals.train_examples));
  text.Family("fedwatt_accuracy_ratio", "gauge", "Accuracy of the global model, last and best.");
  text.Sample({{"which", "final"}}, totals.final_accuracy);
  text.Sample({{"which", "best"}}, totals.best_accuracy);
  return std::vector<ReportFile>{{"fedwatt.prom", std::move(text).out()}};
}

}  // namespace

void InstallReportFormat_prometheus(ReportFormatRegistry& registry) {
  FEDWATT_CHECK(registry.Register("prometheus", {"Prometheus text, for node_exporter's textfile collector", Render}).ok());
}

}  // namespace fedwatt::internal

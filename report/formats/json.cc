// Everything, for programs: the report, totals, what each width cost, and rounds and summary as they lie on disk.
//
// `energy` is the in-memory report; energies are microjoules, null where unknown, each beside its tier and whether it is complete.
#include <utility>

#include "export.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/report/report_format.h"
#include "network_lines.h"
#include "record_json.h"

namespace fedwatt::internal {
namespace {

OrderedJson Sum(const EnergySum& sum) {
  return {{"energy_uj", OrNull(sum.energy)},
          {"tier", std::string(EnergyTierName(sum.tier))},
          {"is_estimate", sum.energy ? OrderedJson(IsEstimate(sum.tier)) : OrderedJson(nullptr)},
          {"complete", sum.complete}};
}

OrderedJson Tiers(const std::map<EnergyTier, Energy>& tiers) {
  OrderedJson json = OrderedJson::object();
  for (const auto& [tier, energy] : tiers) json[std::string(EnergyTierName(tier))] = energy.microjoules();
  return json;
}

OrderedJson Phases(const std::vector<PhaseTotals>& phases) {
  OrderedJson array = OrderedJson::array();
  for (const PhaseTotals& phase : phases) {
    OrderedJson json = {{"phase", std::string(PhaseName(phase.phase))},
                        {"seconds", OrNull(phase.seconds)},
                        {"cpu_seconds", OrNull(phase.cpu_seconds)},
                        {"metered_seconds", OrNull(phase.metered_seconds)}};
    json.update(Sum(phase.spent));
    array.push_back(std::move(json));
  }
  return array;
}

OrderedJson EnergyJson(const EnergyReport& report) {
  OrderedJson clients = OrderedJson::array();
  for (const ClientTotals& client : report.clients_by_joules) {
    OrderedJson json = {{"client", client.client},
                        {"attempts", client.attempts},
                        {"accepted", client.accepted},
                        {"seconds", OrNull(client.seconds)},
                        {"metered_seconds", OrNull(client.metered_seconds)}};
    json.update(Sum(client.spent));
    clients.push_back(std::move(json));
  }
  return {{"boundary", report.boundary},
          {"client_coverage", OrNull(report.client_coverage())},
          {"server_coverage", OrNull(report.server_coverage())},
          {"client_energy_by_tier_uj", Tiers(report.tiers)},
          {"sources", report.sources},
          {"simulated", report.simulated},
          {"clients", Sum(report.clients)},
          {"wasted", Sum(report.wasted)},
          {"between", Sum(report.between)},
          {"between_seconds", OrNull(report.between_seconds)},
          {"server", Sum(report.server)},
          {"total", Sum(report.total)},
          {"carbon",
           {{"operational_g", OrNull(report.carbon.operational_grams)},
            {"complete", report.carbon.complete},
            {"is_estimate", report.carbon.operational_grams ? OrderedJson(report.carbon.estimate) : OrderedJson(nullptr)},
            {"embodied_g", OrNull(report.carbon.embodied_grams)},
            {"intensity_g_per_kwh", OrNull(report.carbon.g_per_kwh)},
            {"intensity_source", OrNull(report.carbon.source)},
            {"location", OrNull(report.location)}}},
          {"train_flops", OrNull(report.train_flops)},
          {"idle_uj", OrNull(report.idle)},
          {"dynamic_uj", OrNull(report.dynamic)},
          {"gross_uj", OrNull(report.gross)},
          {"by_phase", Phases(report.phases)},
          {"between_by_phase", Phases(report.between_phases)},
          {"server_by_phase", Phases(report.server_phases)},
          {"by_client", clients}};
}

OrderedJson WidthJson(const RunRecord& run) {
  OrderedJson json = OrderedJson::array();
  for (const WidthTotals& width : SumByWidth(run.attempts, run.rounds)) {
    json.push_back({{"width_fraction", width.width_fraction},
                    {"number_format", width.number_format},
                    {"kept_parameters", width.parameter_count},
                    {"accepted", width.accepted},
                    {"train_examples", width.train_examples},
                    {"train_loss", OrNull(width.train_loss)},
                    {"accuracy", OrNull(width.accuracy)},
                    {"train_cpu_seconds", width.train_cpu_seconds},
                    {"energy_uj", OrNull(width.energy)},
                    {"energy_tier", std::string(EnergyTierName(width.energy ? width.energy_tier : EnergyTier::kMissing))},
                    {"uplink_payload_bytes", width.uplink_payload_bytes},
                    {"downlink_payload_bytes", width.downlink_payload_bytes}});
  }
  return json;
}

OrderedJson Modelled(const ModelledJoules& joules) { return {{"low", OrNull(joules.low)}, {"value", OrNull(joules.value)}, {"high", OrNull(joules.high)}}; }

// Joules, "tier" modelled, which no metered sum has; null where no attempt moved anything.
OrderedJson NetworkJson(const RunRecord& run, const EnergyReport& report) {
  const std::optional<NetworkReport> network = MakeNetworkReport(run.attempts, report.simulated, report.started_at);
  if (!network) return nullptr;
  OrderedJson radios = OrderedJson::array(), allocated = OrderedJson::array();
  for (const NetworkReport::Radio& radio : network->radios) {
    radios.push_back({{"link", radio.model->link},
                      {"joules", Modelled(radio.joules)},
                      {"kept_alive_joules", radio.kept_alive ? Modelled(*radio.kept_alive) : OrderedJson(nullptr)},
                      {"year", radio.model->year},
                      {"source", radio.model->source}});
  }
  for (const NetworkReport::Allocated& share : network->allocated) {
    allocated.push_back({{"name", share.intensity->name},
                         {"joules", OrNull(share.joules)},
                         {"kwh_per_gb", share.intensity->kwh_per_gb},
                         {"year", share.intensity->year},
                         {"source", share.intensity->source}});
  }
  return {{"tier", "modelled"},
          {"bytes", network->bytes},
          {"complete", network->complete},
          {"keep_alive_seconds", absl::ToDoubleSeconds(kKeepAlive)},
          {"radios", radios},
          {"allocated", allocated},
          {"power_model", {{"joules", Modelled(network->by_power)}, {"year", network->power_model->year}, {"source", network->power_model->source}}}};
}

absl::StatusOr<std::vector<ReportFile>> Render(const RunRecord& run, const EnergyReport& report) {
  // As read, so that fields of a later version are passed on; a record made in memory is written as this version writes it.
  OrderedJson rounds = OrderedJson::array(), summary;
  for (const std::string& line : run.round_lines) rounds.push_back(OrderedJson::parse(line, nullptr, /*allow_exceptions=*/false));
  if (run.round_lines.empty()) {
    for (const RoundRecord& round : run.rounds) rounds.push_back(OrderedJson::parse(RoundToJson(round)));
  }
  if (run.summary) {
    summary = OrderedJson::parse(run.summary_text.empty() ? SummaryToJson(*run.summary, run.rounds) : run.summary_text, nullptr, false);
  }
  const OrderedJson json = {{"schema", "fedwatt.report.v1"},
                            {"energy", EnergyJson(report)},
                            {"totals", OrderedJson::parse(TotalsToJson(report.totals))},
                            {"network", NetworkJson(run, report)},
                            {"by_width", WidthJson(run)},
                            {"summary", summary},
                            {"rounds", rounds}};
  return std::vector<ReportFile>{{"report.json", DumpJson(json)}};
}

}  // namespace

void InstallReportFormat_json(ReportFormatRegistry& registry) {
  FEDWATT_CHECK(registry.Register("json", {"everything, for programs", Render}).ok());
}

}  // namespace fedwatt::internal

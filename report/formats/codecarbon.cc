// emissions.csv with exactly the columns of CodeCarbon (mlco2/codecarbon, output_methods/emissions_data.py, 3.x: 38 columns), in its units, so that its
// tools read it; and emissions_extension.csv with what those columns cannot say, joined by run_id. A column of ours in the first file would make
// CodeCarbon move it aside, because it compares the set of names.
//
// energy_consumed counts what was metered; whether that is all stands in the extension (energy_complete, client_coverage). Unknown is an empty cell.
#include <utility>

#include "export.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/report/report_format.h"
#include "provenance.h"

namespace fedwatt::internal {
namespace {

using Columns = std::vector<std::pair<std::string, std::string>>;

std::string Table(const Columns& columns) {
  std::vector<std::string> names, cells;
  for (const auto& [name, cell] : columns) {
    names.push_back(name);
    cells.push_back(cell);
  }
  return CsvLine(names) + CsvLine(cells);
}

std::string Kwh(const EnergySum& sum) { return sum.energy ? Number(KilowattHours(*sum.energy)) : ""; }

absl::StatusOr<std::vector<ReportFile>> Render(const RunRecord&, const EnergyReport& report) {
  const RunTotals& totals = report.totals;
  std::optional<double> kilograms, rate;
  if (report.carbon.operational_grams) {
    kilograms = *report.carbon.operational_grams / 1000;
    if (totals.wall_seconds > 0) rate = *kilograms / totals.wall_seconds;
  }
  const Columns emissions = {
      {"timestamp", report.finished_at ? UtcTime(*report.finished_at, "%Y-%m-%dT%H:%M:%S") : ""},
      {"project_name", "fedwatt"},
      {"run_id", OneLine(report.run_id)},
      {"experiment_id", ""},
      {"duration", Number(totals.wall_seconds)},
      {"emissions", Number(kilograms)},
      {"emissions_rate", Number(rate)},
      // Joules here are sums over devices; what their processors, graphics cards and memories drew apart is not in the record.
      {"cpu_power", ""},
      {"gpu_power", ""},
      {"ram_power", ""},
      {"cpu_energy", ""},
      {"gpu_energy", ""},
      {"ram_energy", ""},
      {"energy_consumed", Kwh(report.total)},
      {"water_consumed", ""},
      {"country_name", ""},
      {"country_iso_code", ""},
      {"region", OneLine(report.location)},
      {"cloud_provider", ""},
      {"cloud_region", ""},
      {"os", ""},
      {"python_version", ""},
      {"codecarbon_version", ""},
      // The devices': they differ, and the record does not name them.
      {"cpu_count", ""},
      {"cpu_model", ""},
      {"gpu_count", ""},
      {"gpu_model", ""},
      {"longitude", ""},
      {"latitude", ""},
      {"ram_total_size", ""},
      {"tracking_mode", ""},
      {"cpu_utilization_percent", ""},
      {"gpu_utilization_percent", ""},
      {"ram_utilization_percent", ""},
      {"ram_used_gb", ""},
      {"on_cloud", ""},
      {"pue", ""},
      {"wue", ""}};

  std::string boundary, tiers;
  for (const std::string& sentence : report.boundary) absl::StrAppend(&boundary, boundary.empty() ? "" : "; ", sentence);
  for (const auto& [tier, energy] : report.tiers) {
    absl::StrAppend(&tiers, tiers.empty() ? "" : " ", std::string(EnergyTierName(tier)), ":", energy.microjoules());
  }
  const auto complete = [](const EnergySum& sum) { return std::string(sum.complete ? "1" : "0"); };
  const Columns extension = {
      {"run_id", OneLine(report.run_id)},
      {"boundary", OneLine(boundary)},
      {"client_coverage", Number(report.client_coverage())},
      {"server_coverage", Number(report.server_coverage())},
      {"client_energy_by_tier_uj", tiers},
      {"energy_uj", report.total.energy ? absl::StrCat(report.total.energy->microjoules()) : ""},
      {"energy_tier", std::string(EnergyTierName(report.total.tier))},
      {"energy_is_estimate", report.total.energy ? (IsEstimate(report.total.tier) ? "1" : "0") : ""},
      {"energy_complete", complete(report.total)},
      {"client_energy_uj", report.clients.energy ? absl::StrCat(report.clients.energy->microjoules()) : ""},
      {"client_energy_low_uj", totals.client_energy_low ? absl::StrCat(totals.client_energy_low->microjoules()) : ""},
      {"client_energy_high_uj", totals.client_energy_high ? absl::StrCat(totals.client_energy_high->microjoules()) : ""},
      {"client_energy_tier", std::string(EnergyTierName(report.clients.tier))},
      {"client_energy_clients", absl::StrCat(totals.client_energy_clients)},
      {"clients_completed", absl::StrCat(totals.clients_completed)},
      {"client_energy_wasted_uj", report.wasted.energy ? absl::StrCat(report.wasted.energy->microjoules()) : ""},
      {"server_energy_uj", report.server.energy ? absl::StrCat(report.server.energy->microjoules()) : ""},
      {"server_energy_tier", std::string(EnergyTierName(report.server.tier))},
      {"intensity_g_per_kwh", Number(report.carbon.g_per_kwh)},
      {"intensity_source", OneLine(report.carbon.source)},
      {"rounds_committed", absl::StrCat(totals.rounds_committed)},
      {"uplink_payload_bytes", absl::StrCat(totals.uplink_payload_bytes)},
      {"downlink_payload_bytes", absl::StrCat(totals.downlink_payload_bytes)},
      {"uplink_wire_bytes", Number(totals.uplink_wire_bytes)},
      {"downlink_wire_bytes", Number(totals.downlink_wire_bytes)},
      {"train_examples", absl::StrCat(totals.train_examples)},
      {"final_accuracy", Number(totals.final_accuracy)},
      {"best_accuracy", Number(totals.best_accuracy)},
      {"simulated", report.simulated ? "1" : "0"},
      {"fedwatt_version", OneLine(report.version)}};
  return std::vector<ReportFile>{{"emissions.csv", Table(emissions)}, {"emissions_extension.csv", Table(extension)}};
}

}  // namespace

void InstallReportFormat_codecarbon(ReportFormatRegistry& registry) {
  FEDWATT_CHECK(registry.Register("codecarbon", {"CodeCarbon's emissions.csv and, joined by run_id, what it cannot say", Render}).ok());
}

}  // namespace fedwatt::internal

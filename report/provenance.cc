#include "provenance.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "export.h"
#include "format.h"

namespace fedwatt::internal {
namespace {

std::string Coverage(const std::optional<double>& fraction, double seconds, std::string_view whose) {
  if (!fraction) return absl::StrCat("unknown of ", std::string(whose), " time");
  // Not rounded up to a whole that it is not.
  const double percent = *fraction < 1 ? std::min(100 * *fraction, 99.9) : 100;
  return absl::StrCat(Fixed(percent, 1), " % of ", std::string(whose), " ", Significant(seconds), " s");
}

}  // namespace

std::vector<std::pair<std::string, std::string>> ProvenanceLines(const EnergyReport& report) {
  std::vector<std::pair<std::string, std::string>> lines;
  for (const std::string& sentence : report.boundary) lines.emplace_back("boundary", sentence);
  lines.emplace_back("coverage", absl::StrCat("metered ", Coverage(report.client_coverage(), report.client_seconds, "the clients'"), " in attempts, ",
                                              Coverage(report.server_coverage(), report.totals.wall_seconds, "the coordinator's"), " in rounds"));
  Energy sum;
  for (const auto& [tier, energy] : report.tiers) sum += energy;
  std::string tiers;
  for (const auto& [tier, energy] : report.tiers) {
    absl::StrAppend(&tiers, tiers.empty() ? "" : ", ", std::string(EnergyTierName(tier)), IsEstimate(tier) ? " (estimate)" : "", " ",
                    sum == Energy() ? "-" : absl::StrCat(Fixed(100 * energy.joules() / sum.joules(), 1), " %"));
  }
  lines.emplace_back("tiers", absl::StrCat(tiers.empty() ? "no joules of clients known" : absl::StrCat("clients: ", tiers), "; ",
                                           report.totals.client_energy_clients, " of ", report.totals.clients_completed,
                                           " accepted updates came with joules; coordinator: ", std::string(EnergyTierName(report.server.tier)),
                                           IsEstimate(report.server.tier) && report.server.energy ? " (estimate)" : ""));
  return lines;
}

std::string ProvenanceText(const EnergyReport& report) {
  return absl::StrJoin(ProvenanceLines(report), "; ",
                       [](std::string* out, const auto& line) { absl::StrAppend(out, line.first, ": ", line.second); });
}

std::string SumText(const EnergySum& sum) {
  if (!sum.energy) return "not measured";
  return absl::StrCat(sum.complete ? "" : "at least ", IsEstimate(sum.tier) ? "~" : "", Significant(sum.energy->joules()), " J");
}

std::string SumBasis(const EnergySum& sum) {
  if (!sum.energy) return "not measured";
  return absl::StrCat(IsEstimate(sum.tier) ? "estimated" : "measured", ", tier ", std::string(EnergyTierName(sum.tier)));
}

std::string CarbonText(const EnergyReport& report) {
  const ReportCarbon& carbon = report.carbon;
  if (!carbon.operational_grams) return "";
  return absl::StrCat(carbon.complete ? "" : "at least ", carbon.estimate ? "~" : "", Significant(*carbon.operational_grams), " g CO2e (", CarbonBasis(report), ")");
}

std::string CarbonBasis(const EnergyReport& report) {
  const ReportCarbon& carbon = report.carbon;
  return absl::StrCat(carbon.g_per_kwh ? absl::StrCat(Number(carbon.g_per_kwh), " g/kWh, ") : "", carbon.source,
                      carbon.embodied_grams ? absl::StrCat("; manufacture of the devices ", Significant(*carbon.embodied_grams), " g beside it")
                                            : "; manufacture not included");
}

}  // namespace fedwatt::internal

// Front matter of a model card as the Hugging Face Hub reads it: `co2_eq_emissions` with emissions in grams of CO2-equivalent.
// Where grams are unknown the block is left out, because the Hub has no spelling for "unknown" but absence.
#include "absl/strings/str_join.h"
#include "export.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/report/report_format.h"
#include "provenance.h"

namespace fedwatt::internal {
namespace {

absl::StatusOr<std::vector<ReportFile>> Render(const RunRecord&, const EnergyReport& report) {
  std::string out = "---\n";
  for (const auto& [name, text] : ProvenanceLines(report)) absl::StrAppend(&out, "# ", name, ": ", OneLine(text), "\n");
  absl::StrAppend(&out, "# energy: ", SumText(report.total), ", ", SumBasis(report.total), "\n");
  if (!report.carbon.operational_grams) {
    absl::StrAppend(&out, "# co2_eq_emissions: unknown, because ",
                    report.total.energy ? "the electricity's intensity is (fedwatt report --g-per-kwh)" : "no joules are known", "\n");
  } else {
    absl::StrAppend(&out, "co2_eq_emissions:\n  emissions: ", Number(report.carbon.operational_grams), "\n  source: ",
                    YamlString(absl::StrCat("fedwatt", report.version.empty() ? "" : " ", report.version, ", ", SumBasis(report.total),
                                            report.carbon.complete ? "" : ", metered parts only", "; ", CarbonBasis(report))),
                    "\n  training_type: \"pre-training\"\n");
    if (!report.location.empty()) absl::StrAppend(&out, "  geographical_location: ", YamlString(report.location), "\n");
    absl::StrAppend(&out, "  hardware_used: ",
                    YamlString(absl::StrCat(report.clients_by_joules.size(), report.simulated ? " simulated client devices" : " client devices",
                                            ", meters: ", report.sources.empty() ? "unnamed" : absl::StrJoin(report.sources, ", "))),
                    "\n");
  }
  return std::vector<ReportFile>{{"model_card.yaml", out + "---\n"}};
}

}  // namespace

void InstallReportFormat_model_card(ReportFormatRegistry& registry) {
  FEDWATT_CHECK(registry.Register("model_card", {"front matter of a Hugging Face model card: co2_eq_emissions", Render}).ok());
}

}  // namespace fedwatt::internal

// Software Carbon Intensity, SCI specification 1.1 (ISO/IEC 21031:2024): (E x I + M) per R, in grams, location-based, for several R.
// The standard names no file format; the field names are ours. `sci_g` is null while a part is unknown; `operational_g` is E x I alone.
#include <utility>

#include "export.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/report/report_format.h"
#include "provenance.h"

namespace fedwatt::internal {
namespace {

absl::StatusOr<std::vector<ReportFile>> Render(const RunRecord&, const EnergyReport& report) {
  const RunTotals& totals = report.totals;
  OrderedJson provenance = OrderedJson::array();
  for (const auto& [name, text] : ProvenanceLines(report)) provenance.push_back(absl::StrCat(name, ": ", text));
  const bool whole = report.carbon.operational_grams && report.carbon.embodied_grams && report.carbon.complete;
  OrderedJson scores = OrderedJson::array();
  const auto score = [&](const char* unit, const std::optional<double>& count) {
    const bool usable = count && *count > 0;
    scores.push_back({{"functional_unit", unit},
                      {"units", OrNull(count)},
                      {"operational_g", usable && report.carbon.operational_grams ? OrNull(*report.carbon.operational_grams / *count) : OrderedJson(nullptr)},
                      {"sci_g", usable && whole ? OrNull((*report.carbon.operational_grams + *report.carbon.embodied_grams) / *count) : OrderedJson(nullptr)}});
  };
  score("round committed", static_cast<double>(totals.rounds_committed));
  score("client update accepted", static_cast<double>(totals.clients_completed));
  score("percentage point of final accuracy", totals.final_accuracy ? std::optional<double>(100 * *totals.final_accuracy) : std::nullopt);
  const OrderedJson json = {
      {"specification", "SCI 1.1 (ISO/IEC 21031:2024)"},
      {"run_id", report.run_id},
      {"provenance", provenance},
      {"energy_kwh", report.total.energy ? OrNull(KilowattHours(*report.total.energy)) : OrderedJson(nullptr)},
      {"energy_tier", std::string(EnergyTierName(report.total.tier))},
      {"energy_is_estimate", report.total.energy ? OrderedJson(IsEstimate(report.total.tier)) : OrderedJson(nullptr)},
      {"energy_complete", report.total.complete},
      {"intensity_g_per_kwh", OrNull(report.carbon.g_per_kwh)},
      {"intensity_source", OrNull(report.carbon.source)},
      {"location", OrNull(report.location)},
      {"operational_g", OrNull(report.carbon.operational_grams)},
      {"embodied_g", OrNull(report.carbon.embodied_grams)},
      {"scores", scores}};
  return std::vector<ReportFile>{{"sci.json", DumpJson(json)}};
}

}  // namespace

void InstallReportFormat_sci(ReportFormatRegistry& registry) {
  FEDWATT_CHECK(registry.Register("sci", {"Software Carbon Intensity (ISO/IEC 21031), JSON", Render}).ok());
}

}  // namespace fedwatt::internal

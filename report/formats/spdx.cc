// A fragment of an SPDX 3.0.1 document in JSON-LD: the trained model as an AIPackage with its training energy in kilowatt-hours, for the bill of
// materials that ships the model. Conforms to the JSON schema spdx.org/schema/3.0.1; it claims no profile, because licences are not in a run record
// (both licence relationships point at NoAssertionLicense).
#include <cmath>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "export.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/report/report_format.h"
#include "provenance.h"
#include "settings.h"

namespace fedwatt::internal {
namespace {

// Unreserved characters of RFC 3986 as they are, everything else percent-encoded.
std::string UriPart(std::string_view text) {
  std::string part;
  for (char c : text) {
    if (absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '.' || c == '_' || c == '~') {
      part += c;
    } else {
      absl::StrAppendFormat(&part, "%%%02X", static_cast<unsigned char>(c));
    }
  }
  return part.empty() ? "unnamed" : part;
}

// xsd:decimal: no exponent.
std::string Decimal(double value) {
  std::string text = absl::StrFormat("%.18f", value);
  while (text.back() == '0') text.pop_back();
  if (text.back() == '.') text += '0';
  return text;
}

absl::StatusOr<std::vector<ReportFile>> Render(const RunRecord& run, const EnergyReport& report) {
  if (!report.finished_at) return absl::FailedPreconditionError("spdx: the format requires a release time, and the record has no finished round");
  const std::string base = absl::StrCat("urn:fedwatt:run:", UriPart(report.run_id), ":");
  const std::string time = UtcTime(*report.finished_at, "%Y-%m-%dT%H:%M:%SZ");
  const std::string model = base + "model", tool = base + "fedwatt", supplier = base + "supplier", creation = "_:creation";

  OrderedJson package = {{"type", "ai_AIPackage"},
                         {"spdxId", model},
                         {"creationInfo", creation},
                         {"name", absl::StrCat(ModelName(run), " of run ", report.run_id)},
                         {"releaseTime", time},
                         {"suppliedBy", supplier},
                         {"software_primaryPurpose", "model"},
                         {"software_packageVersion", report.run_id},
                         // Relative to the run record.
                         {"software_downloadLocation", run.summary && !run.summary->model_path.empty() ? run.summary->model_path : "NOASSERTION"},
                         {"ai_typeOfModel", OrderedJson::array({"supervised", "neural network"})},
                         {"ai_informationAboutTraining", absl::StrCat("Federated learning, ", report.totals.rounds_committed, " rounds committed. ",
                                                                      ProvenanceText(report), "; training energy: ", SumText(report.total), ", ",
                                                                      SumBasis(report.total))}};
  if (report.total.energy) {
    package["ai_energyConsumption"] = {{"type", "ai_EnergyConsumption"},
                                       {"ai_trainingEnergyConsumption",
                                        OrderedJson::array({{{"type", "ai_EnergyConsumptionDescription"},
                                                             {"ai_energyQuantity", Decimal(KilowattHours(*report.total.energy))},
                                                             {"ai_energyUnit", "kilowattHour"}}})}};
  }
  OrderedJson metrics = OrderedJson::array();
  const auto metric = [&metrics](const char* key, const std::optional<double>& value) {
    if (value && std::isfinite(*value)) metrics.push_back({{"type", "DictionaryEntry"}, {"key", key}, {"value", Number(value)}});
  };
  metric("final_accuracy", report.totals.final_accuracy);
  metric("best_accuracy", report.totals.best_accuracy);
  metric("metered_fraction_of_client_time", report.client_coverage());
  if (!metrics.empty()) package["ai_metric"] = metrics;

  const auto licence = [&](const char* name, const char* type) -> OrderedJson {
    return {{"type", "Relationship"},
            {"spdxId", base + name},
            {"creationInfo", creation},
            {"from", model},
            {"to", OrderedJson::array({"expandedlicensing_NoAssertionLicense"})},
            {"relationshipType", type}};
  };
  const OrderedJson json = {
      {"@context", "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"},
      {"@graph",
       OrderedJson::array(
           {{{"type", "CreationInfo"}, {"@id", creation}, {"specVersion", "3.0.1"}, {"created", time}, {"createdBy", OrderedJson::array({tool})}},
            {{"type", "SoftwareAgent"},
             {"spdxId", tool},
             {"creationInfo", creation},
             {"name", report.version.empty() ? std::string("fedwatt") : absl::StrCat("fedwatt ", report.version)}},
            {{"type", "Agent"}, {"spdxId", supplier}, {"creationInfo", creation}, {"name", absl::StrCat("operator of federation ", report.run_id)}},
            package, licence("declared-license", "hasDeclaredLicense"), licence("concluded-license", "hasConcludedLicense")})}};
  return std::vector<ReportFile>{{"spdx.json", DumpJson(json)}};
}

}  // namespace

void InstallReportFormat_spdx(ReportFormatRegistry& registry) {
  FEDWATT_CHECK(registry.Register("spdx", {"SPDX 3.0.1 fragment with the model's training energy, for a bill of materials", Render}).ok());
}

}  // namespace fedwatt::internal

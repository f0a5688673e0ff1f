// Electricity Maps API v3: average intensities in g/kWh.
//   latest, past      {"zone", "carbonIntensity", "datetime", "updatedAt", "emissionFactorType", "isEstimated", "estimationMethod"}
//   history           {"zone", "history": [the same]};  past-range  {"zone", "data": [the same]}
//   forecast          {"zone", "forecast": [{"carbonIntensity", "datetime"}], "updatedAt"}
// A value holds for the hour (or the response's "temporalGranularity") in which `datetime` lies. Data is under the provider's terms; its free downloads
// are under ODbL 1.0.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "carbon/import_support.h"

namespace fedwatt::internal {
namespace {

constexpr std::string_view kName = "Electricity Maps";

absl::StatusOr<std::vector<IntensityRow>> Import(std::string_view text, const ImportOptions& options) {
  FEDWATT_ASSIGN_OR_RETURN(const Json json, ParseResponse(text, kName));
  FEDWATT_ASSIGN_OR_RETURN(const std::optional<std::string> zone, TextOf(json, "zone", kName));
  FEDWATT_ASSIGN_OR_RETURN(const std::optional<std::string> granularity, TextOf(json, "temporalGranularity", kName));
  absl::Duration length = absl::Hours(1);
  if (granularity.has_value() && *granularity != "hourly") {
    if (*granularity == "5_minutes") {
      length = absl::Minutes(5);
    } else if (*granularity == "15_minutes") {
      length = absl::Minutes(15);
    } else if (*granularity == "daily") {
      length = absl::Hours(24);
    } else {
      return NotWhatIsSent(kName, absl::StrCat("field 'temporalGranularity': expected 5_minutes, 15_minutes, hourly or daily, got '", *granularity, "'"));
    }
  }
  FEDWATT_ASSIGN_OR_RETURN(const std::optional<std::string> all_factor, TextOf(json, "emissionFactorType", kName));

  const bool forecast = json.contains("forecast");
  std::optional<absl::Time> issued;
  if (forecast) {
    FEDWATT_ASSIGN_OR_RETURN(issued, TimeOf(json, "updatedAt", kName));
    if (!issued.has_value()) issued = options.issued;
    if (!issued.has_value()) return absl::InvalidArgumentError("Electricity Maps: the forecast does not say when it was made; say it");
  }
  Json entries = Json::array();
  if (json.contains("carbonIntensity")) {
    entries.push_back(json);
  } else {
    FEDWATT_ASSIGN_OR_RETURN(const Json* array, ArrayOf(json, forecast ? "forecast" : json.contains("history") ? "history" : "data", kName));
    entries = *array;
  }

  std::vector<IntensityRow> rows;
  for (const Json& entry : entries) {
    FEDWATT_ASSIGN_OR_RETURN(const std::optional<double> value, NumberOf(entry, "carbonIntensity", kName));
    if (!value.has_value()) continue;
    IntensityRow row;
    FEDWATT_ASSIGN_OR_RETURN(const absl::Time at, RequiredTime(entry, "datetime", kName));
    const int64_t step = absl::ToInt64Seconds(length), second = absl::ToUnixSeconds(at);
    row.start = absl::FromUnixSeconds(second - (second % step + step) % step);
    row.end = row.start + length;
    FEDWATT_ASSIGN_OR_RETURN(const std::optional<std::string> own_zone, TextOf(entry, "zone", kName));
    const std::optional<std::string>& named = own_zone.has_value() ? own_zone : zone;
    row.zone = !options.zone.empty() ? options.zone : named ? absl::StrCat("EM:", *named) : "";
    row.g_per_kwh = *value;
    FEDWATT_ASSIGN_OR_RETURN(const std::optional<std::string> own_factor, TextOf(entry, "emissionFactorType", kName));
    const std::string factor = own_factor.value_or(all_factor.value_or("lifecycle"));  // the API's default
    if (factor != "lifecycle" && factor != "direct") return NotWhatIsSent(kName, absl::StrCat("field 'emissionFactorType': got '", factor, "'"));
    row.factor = factor == "direct" ? EmissionFactor::kDirect : EmissionFactor::kLifecycle;
    row.issued = issued;
    row.estimated = entry.contains("isEstimated") && entry["isEstimated"].is_boolean() && entry["isEstimated"].get<bool>();
    row.source = "electricitymaps.com";
    row.licence = options.licence.empty() ? "Electricity Maps terms" : options.licence;
    rows.push_back(std::move(row));
  }
  return Checked(std::move(rows), kName);
}

}  // namespace

void InstallIntensityImporter_electricity_maps(IntensityImporterRegistry& registry) {
  FEDWATT_CHECK(registry.Register("electricity_maps", Import).ok());
}

}  // namespace fedwatt::internal

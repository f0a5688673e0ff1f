// UK Carbon Intensity API (carbonintensity.org.uk, CC BY 4.0): half-hourly averages of generation in Great Britain, in g/kWh.
//   national  {"data": [{"from", "to", "intensity": {"forecast", "actual", "index"}}]}
//   regional  {"data": [{"regionid", "data": [{"from", "to", "intensity": {"forecast", "index"}}]}]}, or one such object as "data"
// `actual` is null for hours to come. The response does not say when its forecasts were made: without `issued` they are left out, because a replay that
// took them for known would see the future.
#include "absl/strings/str_cat.h"
#include "carbon/import_support.h"

namespace fedwatt::internal {
namespace {

constexpr std::string_view kName = "UK Carbon Intensity";

absl::Status AddIntervals(const Json& intervals, const std::string& zone, const ImportOptions& options, std::vector<IntensityRow>& rows) {
  for (const Json& interval : intervals) {
    IntensityRow row;
    FEDWATT_ASSIGN_OR_RETURN(row.start, RequiredTime(interval, "from", kName));
    FEDWATT_ASSIGN_OR_RETURN(row.end, RequiredTime(interval, "to", kName));
    row.zone = zone;
    row.factor = EmissionFactor::kDirect;
    row.source = "carbonintensity.org.uk";
    row.licence = options.licence.empty() ? "CC BY 4.0" : options.licence;
    const auto intensity = interval.find("intensity");
    if (intensity == interval.end()) return NotWhatIsSent(kName, "field 'intensity' is missing");
    FEDWATT_ASSIGN_OR_RETURN(const std::optional<double> actual, NumberOf(*intensity, "actual", kName));
    FEDWATT_ASSIGN_OR_RETURN(const std::optional<double> forecast, NumberOf(*intensity, "forecast", kName));
    if (actual.has_value()) {
      row.g_per_kwh = *actual;
      rows.push_back(row);
    }
    if (forecast.has_value() && options.issued.has_value()) {
      row.g_per_kwh = *forecast;
      row.issued = options.issued;
      rows.push_back(row);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<IntensityRow>> Import(std::string_view text, const ImportOptions& options) {
  FEDWATT_ASSIGN_OR_RETURN(const Json json, ParseResponse(text, kName));
  const auto found = json.is_object() ? json.find("data") : json.end();
  if (!json.is_object() || found == json.end()) return NotWhatIsSent(kName, "field 'data' is missing");
  const Json data = found->is_array() ? *found : Json::array({*found});
  std::vector<IntensityRow> rows;
  if (!data.empty() && data[0].is_object() && data[0].contains("data")) {
    for (const Json& region : data) {
      FEDWATT_ASSIGN_OR_RETURN(const Json* intervals, ArrayOf(region, "data", kName));
      FEDWATT_ASSIGN_OR_RETURN(const std::optional<double> id, NumberOf(region, "regionid", kName));
      const std::string zone = !options.zone.empty() ? options.zone : id ? absl::StrCat("UK:", static_cast<int64_t>(*id)) : "";
      FEDWATT_RETURN_IF_ERROR(AddIntervals(*intervals, zone, options, rows));
    }
  } else {
    FEDWATT_RETURN_IF_ERROR(AddIntervals(data, options.zone.empty() ? "UK:GB" : options.zone, options, rows));
  }
  return Checked(std::move(rows), kName);
}

}  // namespace

void InstallIntensityImporter_uk_carbon_intensity(IntensityImporterRegistry& registry) {
  FEDWATT_CHECK(registry.Register("uk_carbon_intensity", Import).ok());
}

}  // namespace fedwatt::internal

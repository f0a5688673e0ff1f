// Carbon Aware SDK (Green Software Foundation): its data file and its Web API, in g/kWh. Neither says whether values are average or marginal; that
// depends on the source behind it, so `kind` must be given.
//   file                  {"Emissions": [{"Location", "Time", "Rating", "Duration": "hh:mm:ss"}]}
//   emissions/bylocations [{"location", "time", "rating", "duration"}]
//   forecasts/current     [{"generatedAt", "location", "forecastData": [{"location", "timestamp", "duration": minutes, "value"}]}]
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "carbon/import_support.h"

namespace fedwatt::internal {
namespace {

constexpr std::string_view kName = "Carbon Aware SDK";

// "hh:mm:ss", "d.hh:mm:ss", or a number of minutes.
absl::StatusOr<absl::Duration> DurationIn(const Json& entry, const char* key) {
  const auto it = entry.find(key);
  if (it != entry.end() && it->is_number()) {
    const double minutes = it->get<double>();
    if (minutes > 0 && minutes <= 60 * 24 * 366) return absl::Minutes(minutes);
  }
  if (it != entry.end() && it->is_string()) {
    std::string text = it->get<std::string>();
    int64_t days = 0, hours = 0, minutes = 0;
    double seconds = 0;
    const size_t dot = text.find('.'), colon = text.find(':');
    bool good = true;
    if (dot != std::string::npos && colon != std::string::npos && dot < colon) {
      good = absl::SimpleAtoi(text.substr(0, dot), &days);
      text = text.substr(dot + 1);
    }
    const std::vector<std::string> parts = absl::StrSplit(text, ':');
    good = good && parts.size() == 3 && absl::SimpleAtoi(parts[0], &hours) && absl::SimpleAtoi(parts[1], &minutes) && absl::SimpleAtod(parts[2], &seconds);
    if (good && days >= 0 && days <= 366 && hours >= 0 && hours < 24 && minutes >= 0 && minutes < 60 && seconds >= 0 && seconds < 60) {
      const absl::Duration length = absl::Hours(24 * days + hours) + absl::Minutes(minutes) + absl::Seconds(seconds);
      if (length > absl::ZeroDuration()) return length;
    }
  }
  return NotWhatIsSent(kName, absl::StrCat("field '", key, "': expected \"hh:mm:ss\" or minutes, more than none"));
}

absl::Status Add(const Json& entry, bool capital, const char* time, const char* value, const std::optional<absl::Time>& issued, const ImportOptions& options,
                 std::vector<IntensityRow>& rows) {
  FEDWATT_ASSIGN_OR_RETURN(const std::optional<double> rating, NumberOf(entry, value, kName));
  if (!rating.has_value()) return absl::OkStatus();
  IntensityRow row;
  FEDWATT_ASSIGN_OR_RETURN(row.start, RequiredTime(entry, time, kName));
  FEDWATT_ASSIGN_OR_RETURN(const absl::Duration length, DurationIn(entry, capital ? "Duration" : "duration"));
  row.end = row.start + length;
  FEDWATT_ASSIGN_OR_RETURN(const std::optional<std::string> location, TextOf(entry, capital ? "Location" : "location", kName));
  row.zone = !options.zone.empty() ? options.zone : location ? absl::StrCat("CA:", *location) : "";
  row.g_per_kwh = *rating;
  row.kind = *options.kind;
  row.issued = issued;
  row.source = "carbon-aware-sdk";
  row.licence = options.licence;
  rows.push_back(std::move(row));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<IntensityRow>> Import(std::string_view text, const ImportOptions& options) {
  FEDWATT_ASSIGN_OR_RETURN(const Json json, ParseResponse(text, kName));
  if (!options.kind.has_value()) {
    return absl::InvalidArgumentError("Carbon Aware SDK: its data does not say whether it is average or marginal; say it");
  }
  std::vector<IntensityRow> rows;
  if (json.is_object()) {
    FEDWATT_ASSIGN_OR_RETURN(const Json* emissions, ArrayOf(json, "Emissions", kName));
    for (const Json& entry : *emissions) FEDWATT_RETURN_IF_ERROR(Add(entry, true, "Time", "Rating", std::nullopt, options, rows));
  } else if (json.is_array()) {
    for (const Json& entry : json) {
      if (!entry.is_object()) return NotWhatIsSent(kName, "expected objects");
      if (!entry.contains("forecastData")) {
        FEDWATT_RETURN_IF_ERROR(Add(entry, false, "time", "rating", std::nullopt, options, rows));
        continue;
      }
      FEDWATT_ASSIGN_OR_RETURN(const absl::Time issued, RequiredTime(entry, "generatedAt", kName));
      FEDWATT_ASSIGN_OR_RETURN(const Json* points, ArrayOf(entry, "forecastData", kName));
      for (const Json& point : *points) FEDWATT_RETURN_IF_ERROR(Add(point, false, "timestamp", "value", issued, options, rows));
    }
  } else {
    return NotWhatIsSent(kName, "expected an object or an array");
  }
  return Checked(std::move(rows), kName);
}

}  // namespace

void InstallIntensityImporter_carbon_aware_sdk(IntensityImporterRegistry& registry) {
  FEDWATT_CHECK(registry.Register("carbon_aware_sdk", Import).ok());
}

}  // namespace fedwatt::internal

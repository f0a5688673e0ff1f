#include "carbon/import_support.h"

#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace fedwatt::internal {
namespace {

constexpr size_t kMostBytes = 256 << 20;
constexpr size_t kMostRows = 5'000'000;

std::string Cut(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 60); }

// Error bodies differ by provider and by the gateway before it; all we have seen say a status number or a word.
std::optional<absl::Status> ErrorIn(const Json& json, std::string_view provider) {
  if (!json.is_object()) return std::nullopt;
  const bool has_data = json.contains("data") || json.contains("Emissions") || json.contains("carbonIntensity") || json.contains("history") || json.contains("forecast");
  if (has_data) return std::nullopt;
  std::string words;
  int64_t code = 0;
  const auto look = [&](const Json& object) {
    for (const char* key : {"status", "statusCode", "status_code", "code"}) {
      if (object.contains(key) && object[key].is_number_integer()) code = object[key].get<int64_t>();
    }
    for (const char* key : {"error", "message", "detail", "title", "status", "code"}) {
      if (object.contains(key) && object[key].is_string()) absl::StrAppend(&words, words.empty() ? "" : "; ", object[key].get<std::string>().substr(0, 200));
    }
  };
  look(json);
  if (json.contains("error") && json["error"].is_object()) look(json["error"]);
  if (words.empty() && code == 0) return std::nullopt;
  const std::string lower = absl::AsciiStrToLower(words);
  const auto says = [&lower](std::initializer_list<const char*> any) {
    for (const char* word : any) {
      if (absl::StrContains(lower, word)) return true;
    }
    return false;
  };
  const std::string message = absl::StrCat(std::string(provider), " answered with an error", code != 0 ? absl::StrCat(" ", code) : "", ": ", words);
  if (code == 429 || says({"429", "rate limit", "too many", "throttl"})) return absl::ResourceExhaustedError(message);
  if (code == 401 || code == 403 || says({"401", "403", "auth", "token", "forbidden", "credential"})) return absl::UnauthenticatedError(message);
  if (code >= 500 || says({"500", "502", "503", "504", "unavailable"})) return absl::UnavailableError(message);
  return absl::InvalidArgumentError(message);
}

}  // namespace

absl::Status NotWhatIsSent(std::string_view provider, std::string_view what) {
  return absl::DataLossError(absl::StrCat("not what ", std::string(provider), " sends: ", std::string(what)));
}

absl::StatusOr<Json> ParseResponse(std::string_view text, std::string_view provider) {
  if (text.size() > kMostBytes) return absl::ResourceExhaustedError(absl::StrCat("response of ", text.size(), " bytes, expected at most ", kMostBytes));
  Json json = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return NotWhatIsSent(provider, "no JSON");
  if (std::optional<absl::Status> error = ErrorIn(json, provider)) return *error;
  return json;
}

absl::StatusOr<const Json*> ArrayOf(const Json& json, std::string_view key, std::string_view provider) {
  const auto it = json.is_object() ? json.find(std::string(key)) : json.end();
  if (!json.is_object() || it == json.end() || !it->is_array()) return NotWhatIsSent(provider, absl::StrCat("field '", std::string(key), "': expected an array"));
  return &*it;
}

absl::StatusOr<std::optional<double>> NumberOf(const Json& json, std::string_view key, std::string_view provider) {
  if (!json.is_object()) return NotWhatIsSent(provider, absl::StrCat("expected an object around '", std::string(key), "', got ", Cut(json)));
  const auto it = json.find(std::string(key));
  if (it == json.end() || it->is_null()) return std::optional<double>();
  if (!it->is_number()) return NotWhatIsSent(provider, absl::StrCat("field '", std::string(key), "': expected a number, got ", Cut(*it)));
  return std::optional<double>(it->get<double>());
}

absl::StatusOr<std::optional<std::string>> TextOf(const Json& json, std::string_view key, std::string_view provider) {
  if (!json.is_object()) return NotWhatIsSent(provider, absl::StrCat("expected an object around '", std::string(key), "', got ", Cut(json)));
  const auto it = json.find(std::string(key));
  if (it == json.end() || it->is_null()) return std::optional<std::string>();
  if (!it->is_string()) return NotWhatIsSent(provider, absl::StrCat("field '", std::string(key), "': expected a string, got ", Cut(*it)));
  return std::optional<std::string>(it->get<std::string>());
}

absl::StatusOr<std::optional<absl::Time>> TimeOf(const Json& json, std::string_view key, std::string_view provider) {
  FEDWATT_ASSIGN_OR_RETURN(const std::optional<std::string> text, TextOf(json, key, provider));
  if (!text.has_value()) return std::optional<absl::Time>();
  absl::Time time;
  // The last form is a time without an offset; all four providers mean UTC by it.
  for (const char* form : {"%Y-%m-%dT%H:%M:%E*S%Ez", "%Y-%m-%dT%H:%M%Ez", "%Y-%m-%dT%H:%M:%E*S"}) {
    if (absl::ParseTime(form, *text, &time, nullptr)) return std::optional<absl::Time>(time);
  }
  return NotWhatIsSent(provider, absl::StrCat("field '", std::string(key), "': expected an ISO 8601 time, got '", text->substr(0, 60), "'"));
}

absl::StatusOr<absl::Time> RequiredTime(const Json& json, std::string_view key, std::string_view provider) {
  FEDWATT_ASSIGN_OR_RETURN(const std::optional<absl::Time> time, TimeOf(json, key, provider));
  if (!time.has_value()) return NotWhatIsSent(provider, absl::StrCat("field '", std::string(key), "' is missing"));
  return *time;
}

absl::StatusOr<std::vector<IntensityRow>> Checked(std::vector<IntensityRow> rows, std::string_view provider) {
  if (rows.empty()) return NotWhatIsSent(provider, "no usable value: all are null, or forecasts whose time of issue is not known");
  if (rows.size() > kMostRows) return absl::ResourceExhaustedError(absl::StrCat(rows.size(), " rows, expected at most ", kMostRows));
  for (const IntensityRow& row : rows) {
    if (!std::isfinite(row.g_per_kwh) || row.g_per_kwh < 0 || row.g_per_kwh > 100'000) {
      return NotWhatIsSent(provider, absl::StrCat("an intensity of ", row.g_per_kwh, " g/kWh"));
    }
    if (row.end <= row.start) return NotWhatIsSent(provider, "an interval that ends before it starts");
    if (row.zone.empty()) return absl::InvalidArgumentError(absl::StrCat(std::string(provider), ": the response does not name its zone; say it"));
  }
  return rows;
}

}  // namespace fedwatt::internal

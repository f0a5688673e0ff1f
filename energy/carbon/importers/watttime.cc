// WattTime API v3: marginal (co2_moer) or average (co2_aoer) intensities in pounds per MWh; 1 lb/MWh = 0.45359237 g/kWh.
//   historical          {"data": [{"point_time", "value"}], "meta": {"region", "signal_type", "units", "data_point_period_seconds"}}
//   forecast            the same with meta.generated_at
//   forecast/historical {"data": [{"generated_at", "forecast": [{"point_time", "value"}]}], "meta"}
#include "absl/strings/str_cat.h"
#include "carbon/import_support.h"

namespace fedwatt::internal {
namespace {

constexpr std::string_view kName = "WattTime";
constexpr double kGramsPerPound = 453.59237;

absl::StatusOr<std::vector<IntensityRow>> Import(std::string_view text, const ImportOptions& options) {
  FEDWATT_ASSIGN_OR_RETURN(const Json json, ParseResponse(text, kName));
  FEDWATT_ASSIGN_OR_RETURN(const Json* data, ArrayOf(json, "data", kName));
  const Json meta = json.value("meta", Json::object());
  FEDWATT_ASSIGN_OR_RETURN(const std::optional<std::string> region, TextOf(meta, "region", kName));
  FEDWATT_ASSIGN_OR_RETURN(const std::optional<std::string> signal, TextOf(meta, "signal_type", kName));
  FEDWATT_ASSIGN_OR_RETURN(const std::optional<std::string> units, TextOf(meta, "units", kName));
  if (!signal || (*signal != "co2_moer" && *signal != "co2_aoer")) {
    return NotWhatIsSent(kName, absl::StrCat("meta.signal_type: expected co2_moer or co2_aoer, got '", signal.value_or(""), "'"));
  }
  if (!units || *units != "lbs_co2_per_mwh") {
    return NotWhatIsSent(kName, absl::StrCat("meta.units: expected lbs_co2_per_mwh, got '", units.value_or(""), "'"));
  }
  FEDWATT_ASSIGN_OR_RETURN(const std::optional<double> period, NumberOf(meta, "data_point_period_seconds", kName));
  const double seconds = period.value_or(300);
  if (!(seconds >= 1 && seconds <= 86400)) return NotWhatIsSent(kName, absl::StrCat("meta.data_point_period_seconds: got ", seconds));
  FEDWATT_ASSIGN_OR_RETURN(const std::optional<absl::Time> generated, TimeOf(meta, "generated_at", kName));

  std::vector<IntensityRow> rows;
  const auto add = [&](const Json& points, const std::optional<absl::Time>& issued) -> absl::Status {
    for (const Json& point : points) {
      FEDWATT_ASSIGN_OR_RETURN(const std::optional<double> value, NumberOf(point, "value", kName));
      if (!value.has_value()) continue;
      IntensityRow row;
      FEDWATT_ASSIGN_OR_RETURN(row.start, RequiredTime(point, "point_time", kName));
      row.end = row.start + absl::Seconds(seconds);
      row.zone = !options.zone.empty() ? options.zone : region ? absl::StrCat("WT:", *region) : "";
      row.g_per_kwh = *value * kGramsPerPound / 1000;
      row.kind = *signal == "co2_moer" ? IntensityKind::kMarginal : IntensityKind::kAverage;
      row.factor = EmissionFactor::kDirect;
      row.issued = issued;
      row.source = "watttime.org";
      row.licence = options.licence.empty() ? "WattTime terms" : options.licence;
      rows.push_back(std::move(row));
    }
    return absl::OkStatus();
  };
  if (!data->empty() && (*data)[0].is_object() && (*data)[0].contains("forecast")) {
    for (const Json& one : *data) {
      FEDWATT_ASSIGN_OR_RETURN(const Json* points, ArrayOf(one, "forecast", kName));
      FEDWATT_ASSIGN_OR_RETURN(const absl::Time issued, RequiredTime(one, "generated_at", kName));
      FEDWATT_RETURN_IF_ERROR(add(*points, issued));
    }
  } else {
    FEDWATT_RETURN_IF_ERROR(add(*data, generated.has_value() ? generated : options.issued));
  }
  return Checked(std::move(rows), kName);
}

}  // namespace

void InstallIntensityImporter_watttime(IntensityImporterRegistry& registry) { FEDWATT_CHECK(registry.Register("watttime", Import).ok()); }

}  // namespace fedwatt::internal

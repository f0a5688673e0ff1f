// fedwatt carbon import, fedwatt carbon show: recorded intensities of the grid as series that runs can read.
#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/energy/carbon.h"
#include "verb.h"

namespace fedwatt::tool {
namespace {

struct ImportFlags {
  std::string from, out, zone, issued, kind, licence;
  std::vector<std::string> files;
};

absl::Status Usage(const std::string& message) { return WithExitCode(absl::InvalidArgumentError(message), ExitCode::kUsage); }

// By zone, kind, factor, issue, start: the order in which a series is read by people.
void Sort(std::vector<IntensityRow>& rows) {
  std::sort(rows.begin(), rows.end(), [](const IntensityRow& a, const IntensityRow& b) {
    return std::tie(a.zone, a.kind, a.factor, a.issued, a.start) < std::tie(b.zone, b.kind, b.factor, b.issued, b.start);
  });
  // Recorded answers overlap; the last one of equals is kept by none in particular, for they are equal in all that identifies a row.
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
}

absl::StatusOr<ExitCode> Import(const ImportFlags& flags) {
  absl::StatusOr<IntensityImporter> importer = IntensityImporters().Find(flags.from);
  if (!importer.ok()) return WithExitCode(importer.status(), ExitCode::kUsage);
  ImportOptions options{.zone = flags.zone, .licence = flags.licence};
  if (!flags.issued.empty() && !absl::ParseTime(absl::RFC3339_full, flags.issued, &options.issued.emplace(), nullptr)) {
    return Usage(absl::StrCat("--issued: expected an RFC 3339 time, got '", flags.issued, "'"));
  }
  if (!flags.kind.empty()) options.kind = flags.kind == "marginal" ? IntensityKind::kMarginal : IntensityKind::kAverage;
  std::vector<IntensityRow> rows;
  for (const std::string& path : flags.files) {
    FEDWATT_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
    absl::StatusOr<std::vector<IntensityRow>> more = (*importer)(text, options);
    if (!more.ok()) return WithExitCode(Annotate(more.status(), path), ExitCode::kData);
    rows.insert(rows.end(), more->begin(), more->end());
  }
  Sort(rows);
  const std::string csv = WriteIntensityCsv(rows);
  if (flags.out.empty()) {
    Print(csv);
  } else {
    FEDWATT_RETURN_IF_ERROR(WriteFileAtomically(flags.out, csv));
    Say(absl::StrCat(rows.size(), " intervals in ", flags.out));
  }
  return ExitCode::kDone;
}

struct ShowFlags {
  std::vector<std::string> files;
  Format format = Format::kText;
};

struct Summary {
  absl::Time first = absl::InfiniteFuture(), last = absl::InfinitePast();
  int64_t observed = 0, forecast = 0, estimated = 0;
  std::optional<absl::Time> observed_until;
  absl::Duration missing;
  double low = 0, high = 0, sum = 0;
  std::string licence;
};

absl::StatusOr<ExitCode> Show(const ShowFlags& flags) {
  std::vector<IntensityRow> rows;
  for (const std::string& path : flags.files) {
    FEDWATT_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
    absl::StatusOr<std::vector<IntensityRow>> more = ReadIntensityCsv(text, path);
    if (!more.ok()) return WithExitCode(more.status(), ExitCode::kData);
    rows.insert(rows.end(), more->begin(), more->end());
  }
  Sort(rows);
  std::map<std::vector<std::string>, Summary> series;
  for (const IntensityRow& row : rows) {
    Summary& one = series[{row.zone, std::string(IntensityKindName(row.kind)), std::string(EmissionFactorName(row.factor))}];
    one.first = std::min(one.first, row.start);
    one.last = std::max(one.last, row.end);
    one.licence = row.licence;
    if (row.issued) {
      ++one.forecast;
      continue;
    }
    if (one.observed_until && row.start > *one.observed_until) one.missing += row.start - *one.observed_until;
    one.observed_until = row.end;
    one.low = one.observed == 0 ? row.g_per_kwh : std::min(one.low, row.g_per_kwh);
    one.high = one.observed == 0 ? row.g_per_kwh : std::max(one.high, row.g_per_kwh);
    one.sum += row.g_per_kwh;
    ++one.observed;
    one.estimated += row.estimated;
  }
  const auto utc = [](absl::Time time) { return absl::FormatTime("%Y-%m-%dT%H:%MZ", time, absl::UTCTimeZone()); };
  if (flags.format == Format::kJson) {
    nlohmann::ordered_json out = nlohmann::ordered_json::array();
    for (const auto& [key, one] : series) {
      out.push_back({{"zone", key[0]}, {"kind", key[1]}, {"factor", key[2]}, {"first", utc(one.first)}, {"last", utc(one.last)},
                     {"observed", one.observed}, {"estimated", one.estimated}, {"forecast", one.forecast},
                     {"missing_seconds", absl::ToInt64Seconds(one.missing)}, {"licence", one.licence}});
    }
    Print(out.dump(2) + "\n");
    return ExitCode::kDone;
  }
  std::vector<std::vector<std::string>> table = {{"zone", "kind", "factor", "from", "to", "observed", "forecast", "missing", "g/kWh", "licence"}};
  for (const auto& [key, one] : series) {
    table.push_back({key[0], key[1], key[2], utc(one.first), utc(one.last), absl::StrCat(one.observed), absl::StrCat(one.forecast),
                     absl::FormatDuration(one.missing),
                     one.observed == 0 ? "-" : absl::StrFormat("%.0f-%.0f, mean %.0f", one.low, one.high, one.sum / static_cast<double>(one.observed)),
                     one.licence.empty() ? "-" : one.licence});
  }
  Print(Columns(table));
  return ExitCode::kDone;
}

}  // namespace

void AddCarbon(CLI::App& app, Action& chosen) {
  CLI::App* carbon = app.add_subcommand("carbon", "intensities of the grid: recorded answers of providers as series, and what series hold");
  carbon->require_subcommand(1);
  auto [import, flags] = Declare<ImportFlags>(*carbon, chosen, "import", "recorded JSON of a provider as one CSV series", Import);
  import->add_option("--from", flags->from, absl::StrCat("who sent it: ", absl::StrJoin(IntensityImporters().Names(), ", ")))->required();
  import->add_option("FILE", flags->files, "recorded responses")->required();
  import->add_option("--out", flags->out, "the series; default: stdout")->type_name("FILE");
  import->add_option("--zone", flags->zone, "the zone's name in the series; default: as the response says");
  import->add_option("--issued", flags->issued, "when the forecasts were made, where the response does not say; without it they are left out")->type_name("TIME");
  import->add_option("--kind", flags->kind, "average or marginal, where the response does not say")->check(CLI::IsMember({"average", "marginal"}));
  import->add_option("--licence", flags->licence, "of the data; default: the provider's");
  auto [show, show_flags] = Declare<ShowFlags>(*carbon, chosen, "show", "zones, spans, gaps and licences of series", Show);
  show->add_option("FILE", show_flags->files, "CSV series")->required();
  AddFormat(show, show_flags->format);
}

}  // namespace fedwatt::tool

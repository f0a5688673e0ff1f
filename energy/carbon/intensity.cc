// Intensity series: the CSV form, and what could be known of an hour at another.
#include <algorithm>
#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/energy/carbon.h"

namespace fedwatt {
namespace {

constexpr absl::Duration kDay = absl::Hours(24);
constexpr int kMostDaysBack = 7;
constexpr size_t kMostRows = 20'000'000;
constexpr double kMostGramsPerKwh = 100'000;  // a typing error, not a grid

const std::vector<std::string>& Columns() {
  static const auto* columns = new std::vector<std::string>{"start_utc", "end_utc",   "zone",   "g_per_kwh", "kind",
                                                            "factor",    "issued_utc", "estimated", "source",    "licence"};
  return *columns;
}

std::string Utc(absl::Time time) { return absl::FormatTime("%Y-%m-%dT%H:%M:%E*SZ", time, absl::UTCTimeZone()); }

bool ParseUtc(const std::string& text, absl::Time& out) {
  return !text.empty() && text.back() == 'Z' && absl::ParseTime(absl::RFC3339_full, text, &out, nullptr);
}

// RFC 4180: fields with commas or quotes stand in quotes, a quote is doubled. False: an open quote.
bool SplitCsv(std::string_view line, std::vector<std::string>& fields) {
  fields.assign(1, "");
  bool quoted = false;
  for (size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (quoted) {
      if (c != '"') {
        fields.back() += c;
      } else if (i + 1 < line.size() && line[i + 1] == '"') {
        fields.back() += line[++i];
      } else {
        quoted = false;
      }
    } else if (c == '"' && fields.back().empty()) {
      quoted = true;
    } else if (c == ',') {
      fields.emplace_back();
    } else {
      fields.back() += c;
    }
  }
  return !quoted;
}

std::string Quoted(const std::string& text) {
  std::string flat = text;
  std::replace(flat.begin(), flat.end(), '\n', ' ');
  std::replace(flat.begin(), flat.end(), '\r', ' ');
  if (flat.find_first_of(",\"") == std::string::npos) return flat;
  std::string out = "\"";
  for (char c : flat) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

template <typename T>
bool ParseName(const std::string& text, std::initializer_list<T> values, std::string_view (*name)(T), T& out) {
  for (T value : values) {
    if (name(value) == text) {
      out = value;
      return true;
    }
  }
  return false;
}

}  // namespace

std::string_view IntensityKindName(IntensityKind kind) { return kind == IntensityKind::kAverage ? "average" : "marginal"; }

std::string_view EmissionFactorName(EmissionFactor factor) {
  switch (factor) {
    case EmissionFactor::kLifecycle: return "lifecycle";
    case EmissionFactor::kDirect: return "direct";
    case EmissionFactor::kUnknown: break;
  }
  return "unknown";
}

std::string_view IntensityBasisName(IntensityBasis basis) {
  switch (basis) {
    case IntensityBasis::kObserved: return "observed";
    case IntensityBasis::kEstimated: return "estimated";
    case IntensityBasis::kForecast: return "forecast";
    case IntensityBasis::kPersistence: return "persistence";
    case IntensityBasis::kStatic: return "static";
    case IntensityBasis::kMissing: break;
  }
  return "missing";
}

absl::StatusOr<std::vector<IntensityRow>> ReadIntensityCsv(std::string_view text, const std::string& where) {
  std::vector<IntensityRow> rows;
  bool header = false;
  int64_t number = 0;
  std::vector<std::string> fields;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    ++number;
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.empty() || line[0] == '#') continue;
    const auto damaged = [&](std::string_view column, std::string_view expected, const std::string& got) {
      return absl::DataLossError(absl::StrCat(where, ":", number, ": ", std::string(column), ": expected ", std::string(expected), ", got '",
                                              got.substr(0, 60), "'"));
    };
    if (!SplitCsv(line, fields)) return damaged("line", "closed quotes", std::string(line));
    if (!header) {
      if (fields != Columns()) return damaged("header", absl::StrJoin(Columns(), ","), std::string(line));
      header = true;
      continue;
    }
    if (fields.size() != Columns().size()) {
      return damaged("line", absl::StrCat(Columns().size(), " fields"), absl::StrCat(fields.size()));
    }
    if (rows.size() >= kMostRows) return absl::ResourceExhaustedError(absl::StrCat(where, ": more than ", kMostRows, " rows"));
    IntensityRow row;
    if (!ParseUtc(fields[0], row.start)) return damaged("start_utc", "an RFC 3339 time that ends in Z", fields[0]);
    if (!ParseUtc(fields[1], row.end) || row.end <= row.start) return damaged("end_utc", "an RFC 3339 time that ends in Z, after start_utc", fields[1]);
    if (fields[2].empty()) return damaged("zone", "a name", fields[2]);
    row.zone = fields[2];
    // Negative average intensities do not exist; negative marginal ones are a convention that we do not know.
    if (!absl::SimpleAtod(fields[3], &row.g_per_kwh) || !(row.g_per_kwh >= 0 && row.g_per_kwh <= kMostGramsPerKwh)) {
      return damaged("g_per_kwh", absl::StrCat("a number in [0, ", kMostGramsPerKwh, "]"), fields[3]);
    }
    if (!ParseName(fields[4], {IntensityKind::kAverage, IntensityKind::kMarginal}, IntensityKindName, row.kind)) {
      return damaged("kind", "average or marginal", fields[4]);
    }
    if (!ParseName(fields[5], {EmissionFactor::kLifecycle, EmissionFactor::kDirect, EmissionFactor::kUnknown}, EmissionFactorName, row.factor)) {
      return damaged("factor", "lifecycle, direct or unknown", fields[5]);
    }
    if (!fields[6].empty()) {
      row.issued.emplace();
      if (!ParseUtc(fields[6], *row.issued)) return damaged("issued_utc", "nothing, or an RFC 3339 time that ends in Z", fields[6]);
    }
    if (fields[7] != "0" && fields[7] != "1") return damaged("estimated", "0 or 1", fields[7]);
    row.estimated = fields[7] == "1";
    row.source = fields[8];
    row.licence = fields[9];
    rows.push_back(std::move(row));
  }
  if (!header) return absl::DataLossError(absl::StrCat(where, ": expected the header ", absl::StrJoin(Columns(), ","), ", got no line"));
  return rows;
}

std::string WriteIntensityCsv(absl::Span<const IntensityRow> rows) {
  std::string out = absl::StrCat(absl::StrJoin(Columns(), ","), "\n");
  for (const IntensityRow& row : rows) {
    absl::StrAppend(&out, Utc(row.start), ",", Utc(row.end), ",", Quoted(row.zone), ",", absl::StrFormat("%.17g", row.g_per_kwh), ",",
                    std::string(IntensityKindName(row.kind)), ",", std::string(EmissionFactorName(row.factor)), ",",
                    row.issued ? Utc(*row.issued) : "", ",", row.estimated ? "1" : "0", ",", Quoted(row.source), ",", Quoted(row.licence), "\n");
  }
  return out;
}

absl::StatusOr<IntensitySeries> IntensitySeries::Create(absl::Span<const IntensityRow> rows, std::string_view zone, IntensityKind kind,
                                                        std::optional<EmissionFactor> factor) {
  IntensitySeries series;
  std::map<std::string, bool> others;  // what there is instead, for the message
  std::optional<EmissionFactor> found;
  std::vector<std::string> sources;
  series.first_ = absl::InfiniteFuture();
  series.last_ = absl::InfinitePast();
  for (const IntensityRow& row : rows) {
    if (row.zone != zone || row.kind != kind || (factor.has_value() && row.factor != *factor)) {
      if (others.size() < 20) {
        others[absl::StrCat(row.zone, " ", std::string(IntensityKindName(row.kind)), " ", std::string(EmissionFactorName(row.factor)))] = true;
      }
      continue;
    }
    if (found.has_value() && *found != row.factor) {
      return absl::InvalidArgumentError(absl::StrCat("zone ", std::string(zone), " has ", std::string(EmissionFactorName(*found)), " and ",
                                                     std::string(EmissionFactorName(row.factor)), " intensities; carbon.factor must name one"));
    }
    found = row.factor;
    if (std::find(sources.begin(), sources.end(), row.source) == sources.end()) sources.push_back(row.source);
    std::vector<Span>& spans = row.issued.has_value() ? series.forecasts_[*row.issued] : series.observed_;
    spans.push_back(Span{row.start, row.end, row.g_per_kwh, row.estimated});
    if (row.issued.has_value()) series.horizon_ = std::max(series.horizon_, row.end - *row.issued);
    series.first_ = std::min(series.first_, row.start);
    series.last_ = std::max(series.last_, row.end);
  }
  if (!found.has_value()) {
    std::vector<std::string> names;
    for (const auto& [name, unused] : others) names.push_back(name);
    return absl::NotFoundError(absl::StrCat("no ", std::string(IntensityKindName(kind)), " intensities",
                                            factor ? absl::StrCat(" (", std::string(EmissionFactorName(*factor)), ")") : "", " of zone ",
                                            std::string(zone), "; the series have: ", names.empty() ? "nothing" : absl::StrJoin(names, ", ")));
  }
  series.source_ = absl::StrJoin(sources, "+");
  const auto order = [&](std::vector<Span>& spans) -> absl::Status {
    std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) { return a.start < b.start; });
    for (size_t i = 1; i < spans.size(); ++i) {
      if (spans[i].start < spans[i - 1].end) {
        return absl::InvalidArgumentError(absl::StrCat("zone ", std::string(zone), ": intervals overlap at ", Utc(spans[i].start)));
      }
    }
    return absl::OkStatus();
  };
  FEDWATT_RETURN_IF_ERROR(order(series.observed_));
  for (auto& [issued, spans] : series.forecasts_) FEDWATT_RETURN_IF_ERROR(order(spans));
  return series;
}

const IntensitySeries::Span* IntensitySeries::Covering(const std::vector<Span>& spans, absl::Time at) {
  auto it = std::upper_bound(spans.begin(), spans.end(), at, [](absl::Time time, const Span& span) { return time < span.start; });
  if (it == spans.begin()) return nullptr;
  --it;
  return at < it->end ? &*it : nullptr;
}

std::optional<Intensity> IntensitySeries::At(absl::Time at, absl::Time as_of) const {
  if (const Span* span = Covering(observed_, at); span != nullptr && span->end <= as_of) {
    return Intensity{span->g_per_kwh, span->estimated ? IntensityBasis::kEstimated : IntensityBasis::kObserved, source_, absl::ZeroDuration()};
  }
  for (auto it = forecasts_.upper_bound(as_of); it != forecasts_.begin();) {
    --it;
    if (it->first + horizon_ <= at) break;  // no older one looks so far
    if (const Span* span = Covering(it->second, at)) return Intensity{span->g_per_kwh, IntensityBasis::kForecast, source_, as_of - it->first};
  }
  for (int days = 1; days <= kMostDaysBack; ++days) {
    const Span* span = Covering(observed_, at - days * kDay);
    if (span != nullptr && span->end <= as_of) {
      return Intensity{span->g_per_kwh, IntensityBasis::kPersistence, source_, std::max(as_of - span->end, absl::ZeroDuration())};
    }
  }
  return std::nullopt;
}

std::optional<Intensity> IntensitySeries::Settled(absl::Time at) const {
  if (const Span* span = Covering(observed_, at)) {
    return Intensity{span->g_per_kwh, span->estimated ? IntensityBasis::kEstimated : IntensityBasis::kObserved, source_, absl::ZeroDuration()};
  }
  for (auto it = forecasts_.rbegin(); it != forecasts_.rend(); ++it) {
    if (it->first + horizon_ <= at) break;
    if (const Span* span = Covering(it->second, at)) {
      return Intensity{span->g_per_kwh, IntensityBasis::kForecast, source_, std::max(at - it->first, absl::ZeroDuration())};
    }
  }
  return std::nullopt;
}

absl::Time IntensitySeries::NextChange(absl::Time at) const {
  absl::Time next = absl::InfiniteFuture();
  const auto consider = [&](const std::vector<Span>& spans) {
    auto it = std::upper_bound(spans.begin(), spans.end(), at, [](absl::Time time, const Span& span) { return time < span.end; });
    if (it != spans.end()) next = std::min(next, it->start > at ? it->start : it->end);
  };
  consider(observed_);
  for (auto it = forecasts_.rbegin(); it != forecasts_.rend(); ++it) {
    if (it->first + horizon_ <= at) break;
    consider(it->second);
  }
  return next;
}

}  // namespace fedwatt

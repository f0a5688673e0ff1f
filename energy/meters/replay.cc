// A recorded series of readings, played back on the injected clock: for tests, and for trying settings on the joules of another device.
//
// energy.source is a CSV file with the header `start_s,end_s,low_uj,energy_uj,high_uj,tier`: seconds since the first Start, half-open, rising, without overlap. A row
// with three empty numbers was missing. A window gets the rows in it, and of rows that it cuts the share of their time: its interval then holds all and nothing of them.
// What no row covers is missing.
#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/energy/meter.h"
#include "sysfs.h"

namespace fedwatt {
namespace {

constexpr const char* kHeader = "start_s,end_s,low_uj,energy_uj,high_uj,tier";
constexpr int64_t kMostBytes = 64 << 20;
constexpr int64_t kMostMicrojoules = int64_t{1} << 52;  // exact in a double, and 2^10 of them fit their sum
constexpr double kMostSeconds = 1e10;

struct Row {
  double start = 0, end = 0;  // seconds
  int64_t low_uj = 0, energy_uj = 0, high_uj = 0;
  EnergyTier tier = EnergyTier::kMissing;
};

absl::StatusOr<Row> ParseRow(absl::string_view line) {
  const std::vector<std::string> cells = absl::StrSplit(line, ',');
  Row row;
  if (cells.size() != 6) return absl::InvalidArgumentError(absl::StrCat("expected 6 cells, got ", cells.size()));
  if (!absl::SimpleAtod(cells[0], &row.start) || !absl::SimpleAtod(cells[1], &row.end) || !(row.start >= 0 && row.start < row.end && row.end <= kMostSeconds)) {
    return absl::InvalidArgumentError(absl::StrCat("expected 0 <= start_s < end_s, got ", cells[0], ", ", cells[1]));
  }
  FEDWATT_ASSIGN_OR_RETURN(row.tier, ParseEnergyTier(cells[5]));
  if (row.tier == EnergyTier::kMissing) {
    if (!(cells[2].empty() && cells[3].empty() && cells[4].empty())) return absl::InvalidArgumentError("a missing reading has no joules");
    return row;
  }
  if (!absl::SimpleAtoi(cells[2], &row.low_uj) || !absl::SimpleAtoi(cells[3], &row.energy_uj) || !absl::SimpleAtoi(cells[4], &row.high_uj) ||
      !(0 <= row.low_uj && row.low_uj <= row.energy_uj && row.energy_uj <= row.high_uj && row.high_uj <= kMostMicrojoules)) {
    return absl::InvalidArgumentError(
        absl::StrCat("expected 0 <= low_uj <= energy_uj <= high_uj <= 2^52, got ", cells[2], ", ", cells[3], ", ", cells[4]));
  }
  return row;
}

absl::StatusOr<std::vector<Row>> ParseSeries(const std::string& text) {
  std::vector<Row> rows;
  int64_t number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (number == 1) {
      if (line != kHeader) return absl::InvalidArgumentError(absl::StrCat("line 1: expected the header ", kHeader));
      continue;
    }
    if (line.empty()) continue;
    absl::StatusOr<Row> row = ParseRow(line);
    if (row.ok() && !rows.empty() && row->start < rows.back().end) row = absl::InvalidArgumentError("begins before the row above ends");
    if (!row.ok()) return absl::InvalidArgumentError(absl::StrCat("line ", number, ": ", row.status().message()));
    rows.push_back(*row);
  }
  return rows;
}

class ReplayMeter : public Meter {
 public:
  ReplayMeter(std::vector<Row> rows, EnergyTier tier, std::string path, const Clock* clock)
      : rows_(std::move(rows)), tier_(tier), path_(std::move(path)), clock_(clock) {}

  std::string_view name() const override { return "replay"; }
  EnergyTier tier() const override { return tier_; }
  bool CoversMachine() const override { return false; }  // what it recorded is not shared out again by another machine's processes
  std::string Describe() const override {
    return absl::StrCat("replay: ", rows_.size(), " readings recorded in ", path_, ", none of them made now; tier ", std::string(EnergyTierName(tier_)), " at worst");
  }

  absl::Status Start() override {
    const absl::Duration now = clock_->Monotonic();
    origin_ = origin_.value_or(now);
    last_ = now;
    return absl::OkStatus();
  }

  EnergyReading Read() override {
    EnergyReading reading;
    if (!last_.has_value()) return reading;
    const absl::Duration now = clock_->Monotonic();
    reading.window = now - *last_;
    const double begin = absl::ToDoubleSeconds(*last_ - *origin_), end = absl::ToDoubleSeconds(now - *origin_);
    last_ = now;
    double covered_to = begin;
    int64_t low = 0, value = 0, high = 0;
    for (auto row = std::upper_bound(rows_.begin(), rows_.end(), begin, [](double at, const Row& r) { return at < r.end; });
         row != rows_.end() && row->start < end; ++row) {
      if (row->tier == EnergyTier::kMissing || row->start > covered_to) return reading;
      covered_to = row->end;
      // By the difference of two roundings, so that windows that share a row sum to it.
      const auto part = [&](double at) {
        const double share = std::clamp((at - row->start) / (row->end - row->start), 0.0, 1.0);
        return static_cast<int64_t>(std::floor(share * static_cast<double>(row->energy_uj)));
      };
      value += part(end) - part(begin);
      high += row->high_uj;
      if (begin <= row->start && row->end <= end) low += row->low_uj;
    }
    if (covered_to < end) return reading;
    reading.energy = Microjoules(value);
    reading.low = Microjoules(low);
    reading.high = Microjoules(high);
    reading.tier = tier_;
    reading.source = "replay";
    reading.domain = "replay";
    return reading;
  }

 private:
  const std::vector<Row> rows_;  // rising, without overlap
  const EnergyTier tier_;        // the worst of all rows
  const std::string path_;
  const Clock* const clock_;
  std::optional<absl::Duration> origin_, last_;
};

absl::StatusOr<std::unique_ptr<Meter>> Create(const MeterOptions& options) {
  if (options.source.empty()) return absl::UnimplementedError("energy.source names no recorded series; remedy: set it to a CSV file");
  if (options.thread_scope) return absl::UnimplementedError("a recorded series knows nothing of this program's threads");
  const std::string path = Below(options.root, options.source);
  FEDWATT_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMostBytes));
  absl::StatusOr<std::vector<Row>> rows = ParseSeries(text);
  if (!rows.ok()) return absl::InvalidArgumentError(absl::StrCat(path, ": ", rows.status().message()));
  std::optional<EnergyTier> worst;
  for (const Row& row : *rows) {
    if (row.tier != EnergyTier::kMissing) worst = WorseTier(worst.value_or(row.tier), row.tier);
  }
  if (!worst.has_value()) return absl::InvalidArgumentError(absl::StrCat(path, ": no reading in it"));
  return std::make_unique<ReplayMeter>(*std::move(rows), *worst, path, options.clock);
}

}  // namespace

namespace internal {

void InstallMeter_replay(MeterRegistry& registry) {
  FEDWATT_CHECK(registry.Register("replay", MeterEntry{Create, /*preference=*/-1}).ok());
}

}  // namespace internal
}  // namespace fedwatt

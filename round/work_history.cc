#include "fedwatt/round/work_history.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/types/span.h"

namespace fedwatt {
namespace {

constexpr double kMostEver = 1e12;       // seconds or joules of an attempt: far beyond any, far below trouble
constexpr double kMostSize = 1e18;       // multiply-adds, parameters
constexpr size_t kWordsPerSample = 7;

bool Sane(double value) { return value >= 0 && value <= kMostEver; }  // false for NaN
bool SaneSize(double value) { return value > 0 && value <= kMostSize; }
bool Sane(const WorkSample& sample) {
  return SaneSize(sample.macs) && SaneSize(sample.parameters) && Sane(sample.train_seconds) && Sane(sample.transfer_seconds) && Sane(sample.joules.value_or(0));
}

bool SameSize(double a, double b) { return std::abs(a - b) <= 1e-9 * std::max(a, b); }

struct Point {
  double x = 0, y = 0;
};

// See WorkHistory::Forecast(). nullopt: no points.
std::optional<double> At(double x, absl::Span<const Point> points) {
  if (points.empty()) return std::nullopt;
  double same = 0, sum_x = 0, sum_y = 0;
  int same_count = 0;
  bool one_size = true;
  for (const Point& point : points) {
    if (SameSize(point.x, x)) {
      same += point.y;
      ++same_count;
    }
    one_size = one_size && SameSize(point.x, points[0].x);
    sum_x += point.x;
    sum_y += point.y;
  }
  if (same_count > 0) return same / same_count;
  const double count = static_cast<double>(points.size()), mean_x = sum_x / count, mean_y = sum_y / count;
  if (one_size) return mean_y / mean_x * x;
  double xx = 0, xy = 0, origin_xx = 0, origin_xy = 0;
  for (const Point& point : points) {
    xx += (point.x - mean_x) * (point.x - mean_x);
    xy += (point.x - mean_x) * (point.y - mean_y);
    origin_xx += point.x * point.x;
    origin_xy += point.x * point.y;
  }
  const double slope = xy / xx, offset = mean_y - slope * mean_x;
  if (slope < 0) return mean_y;
  return offset < 0 ? origin_xy / origin_xx * x : offset + slope * x;
}

}  // namespace

void WorkHistory::Note(const WorkSample& sample) {
  if (!Sane(sample)) return;
  if (samples_.size() == kMost) samples_.erase(samples_.begin());
  samples_.push_back(sample);
  samples_.back().at = absl::FromUnixSeconds(absl::ToUnixSeconds(sample.at));  // as Save() keeps it: a restart must not change a choice
}

std::optional<WorkForecast> WorkHistory::Forecast(double macs, double parameters) const {
  // On the stack: a round that opens asks this of every member, for several widths.
  std::array<Point, kMost> train, transfer, joules;
  size_t count = 0, metered = 0;
  for (const WorkSample& sample : samples_) {
    if (!sample.finished) continue;
    train[count] = {sample.macs, sample.train_seconds};
    transfer[count++] = {sample.parameters, sample.transfer_seconds};
    if (sample.joules) joules[metered++] = {sample.macs, *sample.joules};
  }
  if (count == 0) return std::nullopt;
  const auto first = [](const std::array<Point, kMost>& points, size_t n) { return absl::MakeConstSpan(points.data(), n); };
  return WorkForecast{*At(macs, first(train, count)), *At(parameters, first(transfer, count)), At(macs, first(joules, metered))};
}

bool WorkHistory::TooMuch(double macs) const {
  for (auto sample = samples_.rbegin(); sample != samples_.rend(); ++sample) {
    const bool same = SameSize(sample->macs, macs);
    if (sample->finished && (same || sample->macs > macs)) return false;
    if (!sample->finished && (same || sample->macs < macs)) return true;
  }
  return false;
}

std::string WorkHistory::Save() const {
  std::string text;
  for (const WorkSample& sample : samples_) {
    absl::StrAppend(&text, text.empty() ? "" : " ",
                    absl::StrFormat("%d %.17g %.17g %.17g %.17g %s %d", absl::ToUnixSeconds(sample.at), sample.macs, sample.parameters, sample.train_seconds,
                                    sample.transfer_seconds, sample.joules ? absl::StrFormat("%.17g", *sample.joules) : std::string("-"), sample.finished ? 1 : 0));
  }
  return text;
}

absl::StatusOr<WorkHistory> WorkHistory::Parse(std::string_view text) {
  WorkHistory history;
  if (text.empty()) return history;
  const std::vector<std::string> words = absl::StrSplit(std::string(text), ' ');
  bool good = words.size() % kWordsPerSample == 0 && words.size() <= kWordsPerSample * kMost;
  for (size_t i = 0; good && i < words.size(); i += kWordsPerSample) {
    WorkSample sample;
    int64_t at = 0, finished = 0;
    double joules = 0;
    good = absl::SimpleAtoi(words[i], &at) && absl::SimpleAtod(words[i + 1], &sample.macs) && absl::SimpleAtod(words[i + 2], &sample.parameters) &&
           absl::SimpleAtod(words[i + 3], &sample.train_seconds) && absl::SimpleAtod(words[i + 4], &sample.transfer_seconds) &&
           (words[i + 5] == "-" || absl::SimpleAtod(words[i + 5], &joules)) && absl::SimpleAtoi(words[i + 6], &finished) && (finished == 0 || finished == 1);
    if (words[i + 5] != "-") sample.joules = joules;
    sample.at = absl::FromUnixSeconds(at);
    sample.finished = finished == 1;
    good = good && Sane(sample);
    history.samples_.push_back(sample);
  }
  if (!good) return absl::DataLossError(absl::StrCat("a client's measurements are damaged: '", std::string(text.substr(0, 80)), "'"));
  return history;
}

}  // namespace fedwatt

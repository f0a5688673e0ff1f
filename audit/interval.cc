#include "fedwatt/audit/interval.h"

#include <cmath>
#include <iterator>
#include <limits>
#include <vector>

#include "fedwatt/base/status_macros.h"

namespace fedwatt {

double StudentT(int64_t degrees) {
  FEDWATT_CHECK(degrees >= 1);
  constexpr double kTable[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
                               2.120,  2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042};
  if (degrees <= std::ssize(kTable)) return kTable[degrees - 1];
  // Cornish and Fisher's expansion about the normal quantile z, to the second order: off by less than 0.001.
  constexpr double z = 1.95996, z3 = z * z * z, z5 = z3 * z * z;
  const double n = static_cast<double>(degrees);
  return z + (z3 + z) / (4 * n) + (5 * z5 + 16 * z3 + 3 * z) / (96 * n * n);
}

std::optional<Interval> MeanInterval(absl::Span<const double> samples) {
  const int64_t count = static_cast<int64_t>(samples.size());
  if (count < kLeastMeasurements) return std::nullopt;
  double mean = 0, squares = 0;
  for (double sample : samples) mean += sample / static_cast<double>(count);
  if (!std::isfinite(mean)) return std::nullopt;
  for (double sample : samples) squares += (sample - mean) * (sample - mean);
  const double half = StudentT(count - 1) * std::sqrt(squares / static_cast<double>(count - 1) / static_cast<double>(count));
  return Interval{mean, mean - half, mean + half, count};
}

std::optional<Interval> RatioInterval(absl::Span<const double> with, absl::Span<const double> without) {
  FEDWATT_CHECK(with.size() == without.size());
  std::vector<double> logarithms;
  for (size_t i = 0; i < with.size(); ++i) {
    if (!(with[i] > 0 && without[i] > 0)) return std::nullopt;
    logarithms.push_back(std::log(with[i] / without[i]));
  }
  std::optional<Interval> interval = MeanInterval(logarithms);
  if (!interval.has_value()) return std::nullopt;
  return Interval{std::exp(interval->estimate), std::exp(interval->low), std::exp(interval->high), interval->count};
}

Verdict Judge(const std::optional<Interval>& interval, double point) {
  if (!interval.has_value()) return Verdict::kNotShown;
  if (interval->high < point) return Verdict::kLess;
  if (interval->low > point) return Verdict::kMore;
  return Verdict::kNotShown;
}

std::string_view VerdictName(Verdict verdict) {
  switch (verdict) {
    case Verdict::kLess: return "less";
    case Verdict::kMore: return "more";
    case Verdict::kNotShown: break;
  }
  return "no_difference_shown";
}

double RelativeHalfWidth(const std::optional<Interval>& interval) {
  if (!interval.has_value() || interval->estimate == 0) return std::numeric_limits<double>::infinity();
  return (interval->high - interval->low) / 2 / std::abs(interval->estimate);
}

}  // namespace fedwatt

// What repeated measurements say, and what they do not.
#ifndef FEDWATT_AUDIT_INTERVAL_H_
#define FEDWATT_AUDIT_INTERVAL_H_

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/types/span.h"

namespace fedwatt {

// A two-sided 95 % interval.
struct Interval {
  double estimate = 0;
  double low = 0;
  double high = 0;
  int64_t count = 0;  // of measurements
};

inline constexpr int64_t kLeastMeasurements = 3;

// The 97.5 % point of Student's t, `degrees` >= 1. Aborts otherwise.
double StudentT(int64_t degrees);

// Mean and Student's interval of it. nullopt with fewer than kLeastMeasurements, or where one is not finite.
std::optional<Interval> MeanInterval(absl::Span<const double> samples);

// How many times as much of `with` as of `without` there is: geometric mean of the ratios of pairs, and the interval of their logarithms' mean. What both of a pair
// share (a busy machine, a clock that changes, the watts that a model assumes) cancels. nullopt as above, or where a value is not greater than 0.
std::optional<Interval> RatioInterval(absl::Span<const double> with, absl::Span<const double> without);

// Nobody says "saved" unless the whole interval says it.
enum class Verdict { kLess, kMore, kNotShown };
// Where an interval lies with respect to `point`: 1 for ratios, 0 for differences. What was not measured shows nothing.
Verdict Judge(const std::optional<Interval>& interval, double point);
// "less", "more", "no_difference_shown".
std::string_view VerdictName(Verdict verdict);

// Half of the interval as a share of the estimate; infinite where there is none.
double RelativeHalfWidth(const std::optional<Interval>& interval);

}  // namespace fedwatt

#endif  // FEDWATT_AUDIT_INTERVAL_H_

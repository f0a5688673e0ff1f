// Intensities in the style of recorded ones, made up: no provider's data is in them. Half-hourly values of four zones with a day's rhythm, weather that
// lasts and that neighbours share, and forecasts, issued hourly for 48 hours, whose error grows with their reach.
//   value(t)    = mean * (1 + swing * (0.75 cos(h - 19) + 0.25 cos 2(h - 8))) * exp(w(t)), h in hours of the day, w an AR(1) process of 18 h and deviation 0.25,
//                 half of whose variance all zones share
//   forecast(t) = value(t) * exp(e), e a random walk over the reach, of deviation 0.03 at once and 0.10 * sqrt(reach / 24 h) on top, drawn anew for each issue
// Means and swings span what European zones show: a clean one, two middling ones, a dirty one.
#ifndef FEDWATT_BENCH_ROUND_RECORDED_STYLE_H_
#define FEDWATT_BENCH_ROUND_RECORDED_STYLE_H_

#include <cmath>
#include <numbers>
#include <string>
#include <vector>

#include "fedwatt/base/random.h"
#include "fedwatt/energy/carbon.h"

namespace fedwatt::bench {

inline const absl::Time kSeriesStart = absl::FromUnixSeconds(1'767'225'600);  // 2026-01-01T00:00:00Z

struct Zone {
  std::string name;
  double mean, swing;
};
inline const std::vector<Zone>& Zones() {
  static const auto* zones = new std::vector<Zone>{{"S:clean", 70, 0.15}, {"S:windy", 150, 0.30}, {"S:sunny", 250, 0.35}, {"S:coal", 420, 0.20}};
  return *zones;
}

inline std::vector<IntensityRow> RecordedStyle(uint64_t seed, int days) {
  Random random(DeriveSeed("recorded-style", {seed}));
  const int steps = days * 48;
  const double keep = std::exp(-0.5 / 18), fresh = std::sqrt(1 - keep * keep) * 0.25;
  std::vector<double> shared(static_cast<size_t>(steps));
  double state = 0.25 * random.Normal();
  for (double& value : shared) value = state = keep * state + fresh * random.Normal();
  std::vector<IntensityRow> rows;
  for (const Zone& zone : Zones()) {
    std::vector<double> values(static_cast<size_t>(steps));
    double own = 0.25 * random.Normal();
    for (int i = 0; i < steps; ++i) {
      own = keep * own + fresh * random.Normal();
      const double angle = 2 * std::numbers::pi / 24, hour = (i % 48) / 2.0;
      const double rhythm = 0.75 * std::cos(angle * (hour - 19)) + 0.25 * std::cos(2 * angle * (hour - 8));
      values[static_cast<size_t>(i)] = zone.mean * (1 + zone.swing * rhythm) * std::exp((own + shared[static_cast<size_t>(i)]) / std::numbers::sqrt2);
    }
    IntensityRow row{.zone = zone.name, .factor = EmissionFactor::kLifecycle, .source = "made up, in the style of recorded ones", .licence = "CC0"};
    for (int i = 0; i < steps; ++i) {
      row.start = kSeriesStart + absl::Minutes(30 * i);
      row.end = row.start + absl::Minutes(30);
      row.g_per_kwh = values[static_cast<size_t>(i)];
      row.issued.reset();
      rows.push_back(row);
    }
    for (int issue = 0; issue < steps; issue += 2) {
      double error = 0.03 * random.Normal();
      for (int i = issue; i < std::min(issue + 96, steps); ++i) {
        error += 0.10 * std::sqrt(0.5 / 24) * random.Normal();
        row.start = kSeriesStart + absl::Minutes(30 * i);
        row.end = row.start + absl::Minutes(30);
        row.issued = kSeriesStart + absl::Minutes(30 * issue);
        row.g_per_kwh = values[static_cast<size_t>(i)] * std::exp(error);
        rows.push_back(row);
      }
    }
  }
  return rows;
}

}  // namespace fedwatt::bench

#endif  // FEDWATT_BENCH_ROUND_RECORDED_STYLE_H_

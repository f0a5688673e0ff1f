// What a client's earlier attempts took, and what that says of other widths.
#ifndef FEDWATT_ROUND_WORK_HISTORY_H_
#define FEDWATT_ROUND_WORK_HISTORY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace fedwatt {

// What one attempt of a client took. Its examples and local work are the same from round to round, so that attempts compare by the model alone.
struct WorkSample {
  absl::Time at;             // when it ended; kept to the second
  double macs = 0;           // multiply-adds of one example's forward pass, > 0
  double parameters = 0;     // of the model that travelled, > 0
  double train_seconds = 0;
  double transfer_seconds = 0;   // all the rest, from assignment to report
  std::optional<double> joules;  // of the whole attempt, where it was metered
  bool finished = true;      // false: its work was not done in time, or its client declined it; the rest then says nothing
};

// By how much an attempt may well take more than forecast: clients stop training a tenth of the time before the deadline, and no two attempts take the same.
inline constexpr double kForecastMargin = 1.25;

struct WorkForecast {
  double train_seconds = 0, transfer_seconds = 0;
  std::optional<double> joules;  // missing where no attempt was metered
  double seconds() const { return train_seconds + transfer_seconds; }
};

// The last few attempts of one client. Its numbers are what the client says, so they may only bear on its own fit. Bounded; plain value.
class WorkHistory {
 public:
  static constexpr size_t kMost = 8;  // older attempts are forgotten

  // A sample with numbers that no attempt can have (not finite, negative, beyond 1e12; no multiply-adds) leaves no trace.
  void Note(const WorkSample& sample);

  // What an attempt at a width of so many multiply-adds and parameters would take: the mean of the finished ones at that very width; else a line
  // y = a + b * x, with a, b >= 0, through all finished ones, where x is multiply-adds for training seconds and joules, parameters for transfer. Where only one
  // width was seen, a = 0: too much for wider models, too little for narrower ones, until those have been tried. nullopt: none was finished.
  std::optional<WorkForecast> Forecast(double macs, double parameters) const;
  // An attempt of at most `macs` was not finished, and none of at least as much has been since.
  bool TooMuch(double macs) const;

  const std::vector<WorkSample>& samples() const { return samples_; }  // oldest first

  // Words without line breaks, "" for no samples; the same for the same history. Errors of Parse: DATA_LOSS
  std::string Save() const;
  static absl::StatusOr<WorkHistory> Parse(std::string_view text);

 private:
  std::vector<WorkSample> samples_;
};

}  // namespace fedwatt

#endif  // FEDWATT_ROUND_WORK_HISTORY_H_

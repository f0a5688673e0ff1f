// What ways of running one model cost, measured in turns.
#ifndef FEDWATT_AUDIT_MEASURE_H_
#define FEDWATT_AUDIT_MEASURE_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "fedwatt/audit/interval.h"
#include "fedwatt/base/clock.h"
#include "fedwatt/energy/meter.h"

namespace fedwatt {

// Something that can be repeated: `repeats` >= 1 times `examples_each` examples. Errors end its measurement and are told.
struct Task {
  std::string way;   // "float32", "half width"
  std::string work;  // "inference", "training"; the first task of a kind of work is what the others of it are compared with
  int64_t examples_each = 1;
  std::function<absl::Status(int64_t repeats)> run;
};

struct MeasureOptions {
  double target = 0.05;                          // half width of each interval, relative; > 0
  int64_t least_turns = 5;                       // >= kLeastMeasurements
  int64_t most_turns = 100;
  absl::Duration budget = absl::Minutes(4);      // of wall time; what has begun is finished, and so are kLeastMeasurements turns
  absl::Duration block = absl::Milliseconds(200);  // processor time of one task in one turn, at least
  const Clock* clock = &RealClock();
  // Processor time of all that the tasks run on, in this process and in others. Errors end the measurement.
  std::function<absl::StatusOr<absl::Duration>()> cpu;
  // Of metered joules; null where there is none. An estimate is refused: it is a model of processor time, not a measurement of its own.
  Meter* meter = nullptr;
  std::function<void(const std::string&)> progress;  // a line for people, now and then
  std::stop_token stop;                              // ends the measurement early, as the budget does
};

// Of one example.
struct TaskCost {
  std::string way, work;
  std::string problem;  // for people: why there is nothing below
  std::optional<Interval> cpu_seconds;
  std::optional<Interval> joules;        // metered, idle power of all that the meter covers included
  std::optional<Interval> cpu_ratio;     // against the first task of its kind; unset for that one
  std::optional<Interval> joule_ratio;
};

struct Measurement {
  std::vector<TaskCost> tasks;  // in the order given
  int64_t turns = 0;
  bool narrow_enough = false;   // every interval is within the target
};

// Runs all tasks once to warm up and to see how often each must be repeated to fill a block; then turn by turn, the order reversed every other turn, until all
// intervals are narrow enough or the budget is spent. Errors: INVALID_ARGUMENT  options; a meter that estimates
absl::StatusOr<Measurement> Measure(absl::Span<const Task> tasks, const MeasureOptions& options);

}  // namespace fedwatt

#endif  // FEDWATT_AUDIT_MEASURE_H_

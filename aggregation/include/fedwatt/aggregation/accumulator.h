// How updates become one mean delta.
#ifndef FEDWATT_AGGREGATION_ACCUMULATOR_H_
#define FEDWATT_AGGREGATION_ACCUMULATOR_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fedwatt/base/registry.h"
#include "fedwatt/model/client_update.h"
#include "fedwatt/model/layout.h"
#include "fedwatt/model/value_block.h"

namespace fedwatt {

struct AccumulatorOptions {
  ParameterLayout layout;
  double max_abs = 64;                  // values beyond are refused, never clamped; a normal float32 > 0
  int64_t max_total_weight = 1 << 30;   // sum of example_count over a round; [1, 2^40]
};

struct MeanDelta {
  std::vector<float> values;               // layout().value_count(); 0 where nobody covered
  std::vector<CoordinateRange> uncovered;  // sorted, disjoint; empty when every coordinate was covered
  int64_t update_count = 0;
  int64_t total_weight = 0;
};

// A commutative fold over updates: the result depends neither on the order of Accumulate calls nor on how they were spread over
// accumulators that were then merged. Thread-compatible; one thread folds into one accumulator, Merge joins them.
class Accumulator {
 public:
  virtual ~Accumulator() = default;

  // Adds one update. Nothing changes on error; errors about the update carry RejectionOf().
  // Errors: INVALID_ARGUMENT  wrong length, non-finite value, value beyond max_abs, example_count < 1, bad coverage
  //         RESOURCE_EXHAUSTED  the round's weight would pass max_total_weight
  virtual absl::Status Accumulate(const ClientUpdate& update) = 0;

  // Adds an update straight from its bytes, reading them once: what Accumulate does with all of its values, each at most `max_abs`. Returns whether it
  // did. If not, nothing has changed: something is wrong with the update, which Accumulate names, or this kind of accumulator needs it whole.
  virtual bool AccumulateBlocks(BlockSource blocks, int64_t example_count, double max_abs) { return false; }

  // Adds everything `other` holds; `other` is of the same kind and options, and another object.
  // Errors: INVALID_ARGUMENT  it is not
  //         RESOURCE_EXHAUSTED  the round's weight would pass max_total_weight
  virtual absl::Status Merge(const Accumulator& other) = 0;

  // The state as bytes, and back. Restore replaces this accumulator's state.
  // Errors of Restore: DATA_LOSS  damaged; INVALID_ARGUMENT  of another kind or other options
  virtual std::string Save() const = 0;
  virtual absl::Status Restore(std::string_view state) = 0;

  // The mean. Errors: FAILED_PRECONDITION  nothing was accumulated
  virtual absl::StatusOr<MeanDelta> Report() const = 0;

  // Forgets every update, keeps the memory.
  virtual void Reset() = 0;

  virtual int64_t update_count() const = 0;
};

using AccumulatorFactory = std::function<absl::StatusOr<std::unique_ptr<Accumulator>>(const AccumulatorOptions&)>;
using AccumulatorRegistry = Registry<AccumulatorFactory>;
// "weighted_mean", and what an application registers.
AccumulatorRegistry& Accumulators();

}  // namespace fedwatt

#endif  // FEDWATT_AGGREGATION_ACCUMULATOR_H_

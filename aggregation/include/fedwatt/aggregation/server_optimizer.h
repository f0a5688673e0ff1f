// How a mean delta moves the global model.
#ifndef FEDWATT_AGGREGATION_SERVER_OPTIMIZER_H_
#define FEDWATT_AGGREGATION_SERVER_OPTIMIZER_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "fedwatt/aggregation/accumulator.h"
#include "fedwatt/base/registry.h"
#include "fedwatt/model/layout.h"

namespace fedwatt {

struct ServerOptimizerOptions {
  ParameterLayout layout;
  double server_learning_rate = 0;  // >= 0; 0 takes the default: sgd and momentum 1, the others 0.01
  double momentum = 0.9;            // sgd with momentum; [0, 1)
  double beta1 = 0.9;               // first moment of adam, yogi, adagrad; [0, 1)
  double beta2 = 0.99;              // adam, yogi; [0, 1)
  double tau = 1e-3;                // adaptivity; > 0
};

// Reddi et al. 2021 (arXiv 2003.00295), algorithm 2; the mean delta is used as a negative gradient. Averaged buffers always move by
// exactly their mean delta; coordinates nobody covered do not move, and neither do their moments. Owned by one thread.
class ServerOptimizer {
 public:
  virtual ~ServerOptimizer() = default;
  // Nothing moves on error. Errors: INVALID_ARGUMENT  wrong length, bad uncovered ranges, a value that is not finite
  virtual absl::Status Step(absl::Span<float> global, const MeanDelta& delta) = 0;
  // The model has become another: value i of `layout` was value from[i], or is new (-1), and its moments start as at the beginning. `from` has
  // layout.value_count() elements, each less than the count of before.
  virtual void Reshape(const ParameterLayout& layout, absl::Span<const int64_t> from) = 0;
  virtual std::string Save() const = 0;
  // Errors: DATA_LOSS  damaged; INVALID_ARGUMENT  of another optimizer or layout
  virtual absl::Status Restore(std::string_view state) = 0;
};

using ServerOptimizerFactory = std::function<absl::StatusOr<std::unique_ptr<ServerOptimizer>>(const ServerOptimizerOptions&)>;
using ServerOptimizerRegistry = Registry<ServerOptimizerFactory>;
// "sgd", "momentum", "adam", "adagrad", "yogi".
ServerOptimizerRegistry& ServerOptimizers();

// What `aggregation.strategy` names: an accumulator with an optimizer.
struct Strategy {
  std::string accumulator;
  std::string optimizer;
};
// "fedavg", "fedavgm", "fedadam", "fedadagrad", "fedyogi". Errors: NOT_FOUND, with the nearest name
absl::StatusOr<Strategy> FindStrategy(std::string_view name);
std::vector<std::string> StrategyNames();

}  // namespace fedwatt

#endif  // FEDWATT_AGGREGATION_SERVER_OPTIMIZER_H_

// What the server optimizers share: which coordinates a step may move, their moments, and saving those.
#ifndef FEDWATT_AGGREGATION_OPTIMIZER_BASE_H_
#define FEDWATT_AGGREGATION_OPTIMIZER_BASE_H_

#include <cmath>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fedwatt/aggregation/server_optimizer.h"

namespace fedwatt::internal {

// A named optimizer with `initial_moments.size()` float32 moments a coordinate, each starting at the value given there. Derived classes
// say how one covered parameter moves; arithmetic is in double, one rounding to float32 a stored value, coordinates in order.
class OptimizerBase : public ServerOptimizer {
 public:
  absl::Status Step(absl::Span<float> global, const MeanDelta& delta) final;
  void Reshape(const ParameterLayout& layout, absl::Span<const int64_t> from) final;
  std::string Save() const final;
  absl::Status Restore(std::string_view state) final;

 protected:
  OptimizerBase(std::string_view name, const ServerOptimizerOptions& options, double default_learning_rate,
                const std::vector<float>& initial_moments);

  // Moves the parameters [begin, begin + global.size()).
  virtual void Move(absl::Span<float> global, absl::Span<const float> delta, size_t begin) = 0;

  const ServerOptimizerOptions& options() const { return options_; }
  // The option, or the optimizer's default where that is 0.
  double learning_rate() const { return learning_rate_; }
  float* moment(size_t which, size_t begin) { return moments_[which].data() + begin; }

 private:
  const std::string name_;
  ServerOptimizerOptions options_;
  const double learning_rate_;
  const std::vector<float> initial_moments_;
  std::vector<std::vector<float>> moments_;
};

// Errors: INVALID_ARGUMENT  a field is outside the range written beside it
absl::Status ValidateServerOptimizerOptions(const ServerOptimizerOptions& options);

// A factory that validates and then makes an `Optimizer(options)`.
template <typename Optimizer>
ServerOptimizerFactory MakeFactory() {
  return [](const ServerOptimizerOptions& options) -> absl::StatusOr<std::unique_ptr<ServerOptimizer>> {
    if (absl::Status status = ValidateServerOptimizerOptions(options); !status.ok()) return status;
    return std::make_unique<Optimizer>(options);
  };
}

// First and second moments a coordinate (Reddi et al. 2021, arXiv 2003.00295, algorithm 2): m from 0, v from tau^2.
//
//   m <- beta1 m + (1 - beta1) d        d = mean delta
//   v <- NextV(v, d^2)
//   x <- x + eta m / (sqrt(v) + tau)    eta = server_learning_rate
//
// No bias correction, as in the paper. CRTP, so that the loop has no call in it.
template <typename Rule>
class AdaptiveOptimizer : public OptimizerBase {
 protected:
  AdaptiveOptimizer(std::string_view name, const ServerOptimizerOptions& options)
      : OptimizerBase(name, options, 0.01, {0.0f, static_cast<float>(options.tau * options.tau)}) {}

 private:
  void Move(absl::Span<float> global, absl::Span<const float> delta, size_t begin) final {
    const double beta1 = options().beta1, tau = options().tau, eta = learning_rate();
    float* first = moment(0, begin);
    float* second = moment(1, begin);
    for (size_t i = 0; i < global.size(); ++i) {
      const double d = delta[i];
      const double m = beta1 * first[i] + (1 - beta1) * d;
      const double v = Rule::NextV(second[i], d * d, options().beta2);
      global[i] = static_cast<float>(global[i] + eta * m / (std::sqrt(v) + tau));
      first[i] = static_cast<float>(m);
      second[i] = static_cast<float>(v);
    }
  }
};

}  // namespace fedwatt::internal

#endif  // FEDWATT_AGGREGATION_OPTIMIZER_BASE_H_

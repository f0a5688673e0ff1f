// Averaging with server momentum (FedAvgM; Hsu, Qi, Brown 2019, arXiv 1909.06335, section 4.3).
//
//   m <- beta m + d       d = mean delta, beta = momentum, m from 0
//   x <- x + eta m        eta = server_learning_rate, default 1
#include "fedwatt/base/status_macros.h"
#include "optimizer_base.h"

namespace fedwatt {
namespace {

class Momentum : public internal::OptimizerBase {
 public:
  explicit Momentum(const ServerOptimizerOptions& options) : OptimizerBase("momentum", options, 1.0, {0.0f}) {}

 private:
  void Move(absl::Span<float> global, absl::Span<const float> delta, size_t begin) override {
    const double beta = options().momentum, eta = learning_rate();
    float* velocity = moment(0, begin);
    for (size_t i = 0; i < global.size(); ++i) {
      const double m = beta * velocity[i] + delta[i];
      global[i] = static_cast<float>(global[i] + eta * m);
      velocity[i] = static_cast<float>(m);
    }
  }
};

}  // namespace

namespace internal {

void InstallServerOptimizer_momentum(ServerOptimizerRegistry& registry) {
  FEDWATT_CHECK(registry.Register("momentum", MakeFactory<Momentum>()).ok());
}

}  // namespace internal
}  // namespace fedwatt

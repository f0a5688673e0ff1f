// Plain averaging (FedAvg; McMahan et al. 2017, arXiv 1602.05629) with a server learning rate (Reddi et al. 2021, arXiv 2003.00295).
//
//   x <- x + eta d        d = mean delta, eta = server_learning_rate, default 1
#include "fedwatt/base/status_macros.h"
#include "optimizer_base.h"

namespace fedwatt {
namespace {

class Sgd : public internal::OptimizerBase {
 public:
  explicit Sgd(const ServerOptimizerOptions& options) : OptimizerBase("sgd", options, 1.0, {}) {}

 private:
  void Move(absl::Span<float> global, absl::Span<const float> delta, size_t begin) override {
    const double eta = learning_rate();
    for (size_t i = 0; i < global.size(); ++i) global[i] = static_cast<float>(global[i] + eta * delta[i]);
  }
};

}  // namespace

namespace internal {

void InstallServerOptimizer_sgd(ServerOptimizerRegistry& registry) { FEDWATT_CHECK(registry.Register("sgd", MakeFactory<Sgd>()).ok()); }

}  // namespace internal
}  // namespace fedwatt

// FedAdam (Reddi et al. 2021, arXiv 2003.00295, algorithm 2); the loop and the symbols stand in optimizer_base.h.
//
//   v <- beta2 v + (1 - beta2) d^2
#include "fedwatt/base/status_macros.h"
#include "optimizer_base.h"

namespace fedwatt {
namespace {

class Adam : public internal::AdaptiveOptimizer<Adam> {
 public:
  explicit Adam(const ServerOptimizerOptions& options) : AdaptiveOptimizer("adam", options) {}

  static double NextV(double v, double d2, double beta2) { return beta2 * v + (1 - beta2) * d2; }
};

}  // namespace

namespace internal {

void InstallServerOptimizer_adam(ServerOptimizerRegistry& registry) { FEDWATT_CHECK(registry.Register("adam", MakeFactory<Adam>()).ok()); }

}  // namespace internal
}  // namespace fedwatt

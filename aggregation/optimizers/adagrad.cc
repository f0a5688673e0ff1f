// FedAdagrad (Reddi et al. 2021, arXiv 2003.00295, algorithm 2); the loop and the symbols stand in optimizer_base.h.
//
//   v <- v + d^2
#include "fedwatt/base/status_macros.h"
#include "optimizer_base.h"

namespace fedwatt {
namespace {

class Adagrad : public internal::AdaptiveOptimizer<Adagrad> {
 public:
  explicit Adagrad(const ServerOptimizerOptions& options) : AdaptiveOptimizer("adagrad", options) {}

  static double NextV(double v, double d2, double beta2) { return v + d2; }
};

}  // namespace

namespace internal {

void InstallServerOptimizer_adagrad(ServerOptimizerRegistry& registry) { FEDWATT_CHECK(registry.Register("adagrad", MakeFactory<Adagrad>()).ok()); }

}  // namespace internal
}  // namespace fedwatt

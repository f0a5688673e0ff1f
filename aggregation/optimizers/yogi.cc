// FedYogi (Reddi et al. 2021, arXiv 2003.00295, algorithm 2); the loop and the symbols stand in optimizer_base.h.
//
//   v <- v - (1 - beta2) d^2 sign(v - d^2)
#include "fedwatt/base/status_macros.h"
#include "optimizer_base.h"

namespace fedwatt {
namespace {

class Yogi : public internal::AdaptiveOptimizer<Yogi> {
 public:
  explicit Yogi(const ServerOptimizerOptions& options) : AdaptiveOptimizer("yogi", options) {}

  static double NextV(double v, double d2, double beta2) { return v - (1 - beta2) * d2 * ((v > d2) - (v < d2)); }
};

}  // namespace

namespace internal {

void InstallServerOptimizer_yogi(ServerOptimizerRegistry& registry) { FEDWATT_CHECK(registry.Register("yogi", MakeFactory<Yogi>()).ok()); }

}  // namespace internal
}  // namespace fedwatt

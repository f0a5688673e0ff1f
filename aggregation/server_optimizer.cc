#include "fedwatt/aggregation/server_optimizer.h"

#include "fedwatt/base/status_macros.h"

namespace fedwatt {

namespace internal {
void InstallServerOptimizers(ServerOptimizerRegistry& registry);
}  // namespace internal

ServerOptimizerRegistry& ServerOptimizers() {
  static auto* registry = [] {
    auto* made = new ServerOptimizerRegistry("server optimizer");
    internal::InstallServerOptimizers(*made);
    return made;
  }();
  return *registry;
}

namespace {

const Registry<Strategy>& Strategies() {
  static const auto* registry = [] {
    auto* made = new Registry<Strategy>("strategy");
    for (const auto& [name, optimizer] : {std::pair("fedavg", "sgd"), std::pair("fedavgm", "momentum"), std::pair("fedadam", "adam"),
                                          std::pair("fedadagrad", "adagrad"), std::pair("fedyogi", "yogi")}) {
      FEDWATT_CHECK(made->Register(name, {"weighted_mean", optimizer}).ok());
    }
    return made;
  }();
  return *registry;
}

}  // namespace

absl::StatusOr<Strategy> FindStrategy(std::string_view name) { return Strategies().Find(name); }

std::vector<std::string> StrategyNames() { return Strategies().Names(); }

}  // namespace fedwatt

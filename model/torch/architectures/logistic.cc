// Multinomial logistic regression (with mean_squared_error: linear regression). 784 -> 10: 7,850 parameters.
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/torch/architecture.h"

namespace fedwatt::internal {

void InstallArchitecture_logistic(ArchitectureRegistry& registry) {
  auto describe = [](const ArchitectureSpec& spec, OptionReader& options) -> absl::StatusOr<Network> {
    return Network{{Flatten{}, Linear{"fc", spec.output_count}}};
  };
  FEDWATT_CHECK(registry.Register("logistic", describe).ok());
}

}  // namespace fedwatt::internal

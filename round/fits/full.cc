// Every client trains the whole model.
#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/round/fitting.h"

namespace fedwatt::internal {

void InstallFitPolicy_full(FitPolicyRegistry& registry) {
  FitPolicy policy;
  policy.check = [](const FitOptions& options) {
    if (options.widths.empty() && options.shares.empty() && options.memory_mb.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError("fit.policy = 'full' trains whole models; fit.widths, fit.shares and fit.memory_mb belong to other policies");
  };
  policy.width = [](const FitOptions&, const FitRequest&) -> std::optional<double> { return 1.0; };
  FEDWATT_CHECK(registry.Register("full", policy).ok());
}

}  // namespace fedwatt::internal

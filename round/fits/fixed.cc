// Every client trains at the same width.
#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/round/fitting.h"

namespace fedwatt::internal {

void InstallFitPolicy_fixed(FitPolicyRegistry& registry) {
  FitPolicy policy;
  policy.check = [](const FitOptions& options) {
    if (options.widths.size() != 1) {
      return absl::InvalidArgumentError(absl::StrCat("fit.widths: fit.policy = 'fixed' expects one width, got ", options.widths.size()));
    }
    if (options.shares.empty() && options.memory_mb.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError("fit.policy = 'fixed' has one width for all; fit.shares and fit.memory_mb belong to other policies");
  };
  policy.width = [](const FitOptions& options, const FitRequest&) -> std::optional<double> { return options.widths[0]; };
  FEDWATT_CHECK(registry.Register("fixed", policy).ok());
}

}  // namespace fedwatt::internal

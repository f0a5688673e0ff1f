#include "fedwatt/round/selection.h"

#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt {
namespace internal {
void InstallSelectionPolicys(SelectionPolicyRegistry& registry);
}  // namespace internal

absl::Status ValidateSelectionOptions(const SelectionOptions& options) {
  if (!(options.fairness >= 0 && options.fairness <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat("selection.fairness: expected [0, 1], got ", options.fairness));
  }
  if (options.slack < absl::ZeroDuration() || options.slack == absl::InfiniteDuration()) {
    return absl::InvalidArgumentError(absl::StrCat("selection.slack: expected a finite duration of at least 0, got ", absl::FormatDuration(options.slack)));
  }
  return SelectionPolicies().Find(options.policy).status();
}

SelectionPolicyRegistry& SelectionPolicies() {
  static SelectionPolicyRegistry* registry = [] {
    auto* made = new SelectionPolicyRegistry("selection policy");
    internal::InstallSelectionPolicys(*made);
    return made;
  }();
  return *registry;
}

}  // namespace fedwatt

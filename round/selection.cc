#include "fedwatt/round/selection.h"

namespace fedwatt {
namespace internal {
void InstallSelectionPolicys(SelectionPolicyRegistry& registry);
}  // namespace internal

SelectionPolicyRegistry& SelectionPolicies() {
  static SelectionPolicyRegistry* registry = [] {
    auto* made = new SelectionPolicyRegistry("selection policy");
    internal::InstallSelectionPolicys(*made);
    return made;
  }();
  return *registry;
}

}  // namespace fedwatt

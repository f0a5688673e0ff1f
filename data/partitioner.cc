#include "fedwatt/data/partitioner.h"

#include <algorithm>

#include "fedwatt/base/status_macros.h"

namespace fedwatt {

namespace internal {
void InstallPartitioners(PartitionerRegistry& registry);
}  // namespace internal

PartitionerRegistry& Partitioners() {
  static auto* registry = [] {
    auto* made = new PartitionerRegistry("partition kind");
    internal::InstallPartitioners(*made);
    return made;
  }();
  return *registry;
}

absl::StatusOr<Parts> PartitionData(const Dataset& data, const PartitionOptions& options) {
  FEDWATT_ASSIGN_OR_RETURN(const auto cut, Partitioners().Find(options.kind));
  if (data.size() == 0) return absl::InvalidArgumentError("partition: zero examples");
  const bool one_per_group = options.kind == "natural" && options.clients == 0;
  if (options.clients < 1 && !one_per_group) {
    return absl::InvalidArgumentError(absl::StrCat("partition.clients: expected at least 1, got ", options.clients));
  }
  if (options.clients > data.size()) {
    return absl::InvalidArgumentError(absl::StrCat("partition.clients: ", options.clients, " clients cannot share ", data.size(),
                                                   " examples without an empty part"));
  }
  if (options.min_examples < 1) {
    return absl::InvalidArgumentError(absl::StrCat("partition.min_examples: expected at least 1, got ", options.min_examples));
  }
  if (options.min_examples > 1 && options.kind != "natural") {
    return absl::InvalidArgumentError(absl::StrCat("partition.min_examples: leaves out natural groups, partition.kind '", options.kind,
                                                   "' has none; expected 1, got ", options.min_examples));
  }
  FEDWATT_ASSIGN_OR_RETURN(Parts parts, cut(data, options));
  for (std::vector<int32_t>& part : parts) {
    if (part.empty()) return absl::InvalidArgumentError(absl::StrCat("partition '", options.kind, "' left a part empty"));
    std::sort(part.begin(), part.end());
  }
  return parts;
}

}  // namespace fedwatt

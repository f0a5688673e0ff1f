// The data's own groups (speakers, writers), but for those with fewer than min_examples. As many clients as groups, or clients = 0: part i is the
// i-th group left. Fewer clients: the groups are shuffled and dealt out in turn, so each client holds whole groups and their numbers differ by at
// most 1.
#include <algorithm>
#include <map>

#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/data/partitioner.h"
#include "partitioners/partitioning.h"

namespace fedwatt {
namespace {

absl::StatusOr<Parts> PartitionNatural(const Dataset& data, const PartitionOptions& options) {
  const std::vector<int32_t>& group_of = data.store().natural_groups;
  if (group_of.empty()) {
    return absl::InvalidArgumentError("partition.kind 'natural' needs data with natural groups; this data has none");
  }
  std::map<int32_t, std::vector<int32_t>> groups;
  for (int64_t i = 0; i < data.size(); ++i) groups[group_of[data.indices()[i]]].push_back(static_cast<int32_t>(i));
  Parts in_order;
  int64_t largest = 0;
  for (auto& [group, members] : groups) {
    const auto size = static_cast<int64_t>(members.size());
    largest = std::max(largest, size);
    if (size >= options.min_examples) in_order.push_back(std::move(members));
  }
  if (in_order.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("partition.min_examples: expected at most ", largest,
                                                   ", the examples of the largest natural group, got ", options.min_examples));
  }
  const auto group_count = static_cast<int64_t>(in_order.size());
  if (options.clients > group_count) {
    return absl::InvalidArgumentError(absl::StrCat("partition.clients: expected at most ", group_count, ", the number of natural groups",
                                                   options.min_examples > 1 ? absl::StrCat(" of ", options.min_examples, " examples or more") : "",
                                                   ", got ", options.clients));
  }
  if (options.clients == 0 || options.clients == group_count) return in_order;
  Random random(DeriveSeed("partition_natural", {options.seed}));
  random.Shuffle(in_order);
  Parts parts(options.clients);
  for (int64_t i = 0; i < group_count; ++i) {
    std::vector<int32_t>& part = parts[i % options.clients];
    part.insert(part.end(), in_order[i].begin(), in_order[i].end());
  }
  return parts;
}

}  // namespace

namespace internal {
void InstallPartitioner_natural(PartitionerRegistry& registry) {
  FEDWATT_CHECK(registry.Register("natural", PartitionNatural).ok());
}
}  // namespace internal
}  // namespace fedwatt

// The data's own groups (speakers, writers). As many clients as groups, or clients = 0: part i is group i. Fewer clients: the
// groups are shuffled and dealt out in turn, so each client holds whole groups and their numbers differ by at most 1.
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
  const auto group_count = static_cast<int64_t>(groups.size());
  if (options.clients > group_count) {
    return absl::InvalidArgumentError(absl::StrCat("partition.clients: expected at most ", group_count,
                                                   ", the number of natural groups, got ", options.clients));
  }
  Parts in_order;
  for (auto& [group, members] : groups) in_order.push_back(std::move(members));
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

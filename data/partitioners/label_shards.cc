// Pathological label skew (McMahan et al. 2017, arXiv 1602.05629, section 3): examples sorted by label, cut into
// clients * shards_per_client shards whose sizes differ by at most 1, and each client dealt shards_per_client of them at random.
#include <algorithm>

#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/data/partitioner.h"
#include "partitioners/partitioning.h"

namespace fedwatt {
namespace {

absl::StatusOr<Parts> PartitionLabelShards(const Dataset& data, const PartitionOptions& options) {
  FEDWATT_RETURN_IF_ERROR(internal::NeedLabels(data, "label_shards"));
  if (options.shards_per_client < 1 || options.shards_per_client > data.size() / options.clients) {
    return absl::InvalidArgumentError(absl::StrCat("partition.shards_per_client: expected [1, ", data.size() / options.clients,
                                                   "] for ", data.size(), " examples and ", options.clients, " clients, got ",
                                                   options.shards_per_client));
  }
  Random random(DeriveSeed("partition_label_shards", {options.seed}));
  std::vector<int32_t> indices = internal::AllIndices(data.size());
  random.Shuffle(indices);
  std::stable_sort(indices.begin(), indices.end(), [&](int32_t a, int32_t b) { return data.label(a) < data.label(b); });
  const int64_t shard_count = options.clients * options.shards_per_client;
  std::vector<int32_t> shards = internal::AllIndices(shard_count);
  random.Shuffle(shards);
  Parts parts(options.clients);
  for (int64_t i = 0; i < shard_count; ++i) {
    std::vector<int32_t>& part = parts[i / options.shards_per_client];
    part.insert(part.end(), indices.begin() + internal::EvenCut(data.size(), shard_count, shards[i]),
                indices.begin() + internal::EvenCut(data.size(), shard_count, shards[i] + 1));
  }
  return parts;
}

}  // namespace

namespace internal {
void InstallPartitioner_label_shards(PartitionerRegistry& registry) {
  FEDWATT_CHECK(registry.Register("label_shards", PartitionLabelShards).ok());
}
}  // namespace internal
}  // namespace fedwatt

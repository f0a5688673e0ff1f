// Independent and identically distributed: a seeded shuffle cut into parts whose sizes differ by at most 1.
#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/data/partitioner.h"
#include "partitioners/partitioning.h"

namespace fedwatt {
namespace {

absl::StatusOr<Parts> PartitionIid(const Dataset& data, const PartitionOptions& options) {
  std::vector<int32_t> indices = internal::AllIndices(data.size());
  Random random(DeriveSeed("partition_iid", {options.seed}));
  random.Shuffle(indices);
  Parts parts(options.clients);
  for (int64_t i = 0; i < options.clients; ++i) {
    parts[i].assign(indices.begin() + internal::EvenCut(data.size(), options.clients, i),
                    indices.begin() + internal::EvenCut(data.size(), options.clients, i + 1));
  }
  return parts;
}

}  // namespace

namespace internal {
void InstallPartitioner_iid(PartitionerRegistry& registry) { FEDWATT_CHECK(registry.Register("iid", PartitionIid).ok()); }
}  // namespace internal
}  // namespace fedwatt

// Who holds which examples. One file each under data/partitioners/.
#ifndef FEDWATT_DATA_PARTITIONER_H_
#define FEDWATT_DATA_PARTITIONER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "fedwatt/base/registry.h"
#include "fedwatt/model/dataset.h"

namespace fedwatt {

struct PartitionOptions {
  std::string kind = "iid";   // iid, dirichlet, label_shards, natural
  int64_t clients = 0;        // number of parts, >= 1
  double alpha = 0.5;         // dirichlet: concentration, > 0
  int64_t shards_per_client = 2;  // label_shards: as in McMahan et al. 2017 (arXiv 1602.05629)
  int64_t min_examples = 1;   // natural: groups with fewer take no part, >= 1
  uint64_t seed = 0;
};

// The examples of each part, as indices into `data`; parts are disjoint, none is empty, and the same on every machine. Together they are all of
// `data`, but for groups below min_examples.
using Parts = std::vector<std::vector<int32_t>>;

// Errors: INVALID_ARGUMENT  bad options, more parts than examples, a part that would stay empty, natural without groups or with
//                            none of min_examples, min_examples with another kind; NOT_FOUND  kind
absl::StatusOr<Parts> PartitionData(const Dataset& data, const PartitionOptions& options);

using PartitionerRegistry = Registry<std::function<absl::StatusOr<Parts>(const Dataset&, const PartitionOptions&)>>;
PartitionerRegistry& Partitioners();

}  // namespace fedwatt

#endif  // FEDWATT_DATA_PARTITIONER_H_

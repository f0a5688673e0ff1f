// What the partitioners share; private to the room.
#ifndef FEDWATT_DATA_PARTITIONERS_PARTITIONING_H_
#define FEDWATT_DATA_PARTITIONERS_PARTITIONING_H_

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "fedwatt/model/dataset.h"

namespace fedwatt::internal {

// 0, 1, ..., count - 1.
inline std::vector<int32_t> AllIndices(int64_t count) {
  std::vector<int32_t> indices(count);
  std::iota(indices.begin(), indices.end(), 0);
  return indices;
}

// Where share `i` of `shares` starts when `count` is cut into shares whose sizes differ by at most 1.
inline int64_t EvenCut(int64_t count, int64_t shares, int64_t i) { return count / shares * i + std::min(i, count % shares); }

inline absl::Status NeedLabels(const Dataset& data, const std::string& kind) {
  if (!data.store().labels.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("partition.kind '", kind, "' needs class labels; this data has none (regression)"));
}

}  // namespace fedwatt::internal

#endif  // FEDWATT_DATA_PARTITIONERS_PARTITIONING_H_

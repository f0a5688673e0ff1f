// What one client contributes to one round, decoded.
#ifndef FEDWATT_MODEL_CLIENT_UPDATE_H_
#define FEDWATT_MODEL_CLIENT_UPDATE_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace fedwatt {

// A half-open range [begin, end) of flat coordinates.
struct CoordinateRange {
  int64_t begin = 0;
  int64_t end = 0;
  friend bool operator==(const CoordinateRange&, const CoordinateRange&) = default;
};

// Borrows its values. `delta` = local - global, in layout order. `covered` lists, sorted and disjoint, the coordinates the
// client trained; empty means all. Uncovered values of `delta` are ignored.
//
// A sparse update lists `indices`, without repetition and in any order: delta[i] belongs to coordinate indices[i], all others are 0.
struct ClientUpdate {
  absl::Span<const float> delta;
  int64_t example_count = 0;  // the averaging weight, >= 1
  absl::Span<const CoordinateRange> covered;
  bool is_sparse = false;
  absl::Span<const uint32_t> indices;  // empty unless is_sparse
};

}  // namespace fedwatt

#endif  // FEDWATT_MODEL_CLIENT_UPDATE_H_

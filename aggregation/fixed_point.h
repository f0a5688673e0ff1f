// The loops in which an update is folded into integer sums, in Highway: one source for every instruction set, chosen at run time. Same bits on every
// machine: vector width changes nothing.
#ifndef FEDWATT_AGGREGATION_FIXED_POINT_H_
#define FEDWATT_AGGREGATION_FIXED_POINT_H_

#include <cstdint>

#include "absl/types/span.h"
#include "fedwatt/model/value_block.h"

namespace fedwatt::internal {

// The largest |value|, or infinity or NaN when one is not finite.
float MaxMagnitude(absl::Span<const float> values);

// sums[i] += round(double(values[i]) * factor), halves to even. `max_magnitude` >= every |values[i]|;
// max_magnitude * factor <= 2^62.
void AddScaled(absl::Span<const float> values, double factor, float max_magnitude, absl::Span<int64_t> sums);

// The same for values at `indices`, each below sums.size(): equal bits to adding the vector that they stand for.
void AddScaledAt(absl::Span<const uint32_t> indices, absl::Span<const float> values, double factor, absl::Span<int64_t> sums);

// AddScaled of a block to the sums of its coordinates, sums[0] being that of block.begin, and MaxMagnitude of its values in one pass. Where that exceeds
// `max_magnitude`, sums of the block hold nonsense, which SubtractScaledBlock with the same arguments takes away again to the last bit.
float AddScaledBlock(const ValueBlock& block, double factor, double max_magnitude, int64_t* sums);
void SubtractScaledBlock(const ValueBlock& block, double factor, double max_magnitude, int64_t* sums);

}  // namespace fedwatt::internal

#endif  // FEDWATT_AGGREGATION_FIXED_POINT_H_

// The cosine transform of a matrix's rows: where neighbouring inputs are alike, as pixels are, so are their weights' changes, and a few coefficients
// hold most of them (Ahmed, Natarajan and Rao 1974).
#ifndef FEDWATT_COMPRESSION_BLOCK_DCT_H_
#define FEDWATT_COMPRESSION_BLOCK_DCT_H_

#include <cstdint>

#include "absl/types/span.h"

namespace fedwatt {

// How a row is seen: kNoDct leaves it as it is, kLineDct takes it as one line, a side from kLeastSide to kGreatestSide as pictures of side x side values, one
// after the other (an image's pixels; the channels of a convolution's output; kernels). One byte on the wire.
using DctShape = uint8_t;
inline constexpr DctShape kNoDct = 0, kLineDct = 1, kLeastSide = 4, kGreatestSide = 64;

// Whether rows of so many values can be seen that way. columns >= 0.
bool IsDctShape(DctShape shape, int64_t columns);

// The shape in which the sum of the values' magnitudes is least, judged by 32 rows; kNoDct unless that is below `least_gain` times the sum as they are. What a
// quantizer costs follows that sum. Cost: about 100 operations a value of these rows.
DctShape ChooseDct(int64_t rows, int64_t columns, absl::Span<const float> values, double least_gain);

// Replaces each row of a row-major matrix by its orthonormal DCT-II, and back. A line is cut into the powers of two that add up to `columns`, the greatest first
// and at most 512, so nothing is padded; a picture is transformed along both sides. `values` has rows * columns elements; IsDctShape(shape, columns).
//
// Computed in double, lines by Lee's algorithm (1984), pictures by the definition, from additions, multiplications, divisions and square roots alone, in one
// order: the same bits on every machine. Cost: about 36 operations a value for lines, 2 * side for pictures; scratch of 64 kB. Thread-safe.
void ForwardDct(DctShape shape, int64_t rows, int64_t columns, absl::Span<float> values);
void InverseDct(DctShape shape, int64_t rows, int64_t columns, absl::Span<float> values);

}  // namespace fedwatt

#endif  // FEDWATT_COMPRESSION_BLOCK_DCT_H_

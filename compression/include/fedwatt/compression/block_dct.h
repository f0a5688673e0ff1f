// The cosine transform of a matrix's rows: where neighbouring inputs are alike, as pixels are, so are their weights' changes, and a few coefficients
// hold most of them (Ahmed, Natarajan and Rao 1974).
#ifndef FEDWATT_COMPRESSION_BLOCK_DCT_H_
#define FEDWATT_COMPRESSION_BLOCK_DCT_H_

#include <cstdint>

#include "absl/types/span.h"

namespace fedwatt {

// Replaces each row of a row-major matrix by its orthonormal DCT-II, block by block, and back. A row is cut into the powers of two that add up to
// `columns`, the greatest first and at most 512, so nothing is padded. `values` has rows * columns elements.
//
// Computed in double by Lee's algorithm (1984) from additions, multiplications and square roots alone, in one order: the same bits on every machine.
// Cost: about 4 log2(512) operations a value; scratch of 512 * 8 doubles. Thread-safe.
void ForwardBlockDct(int64_t rows, int64_t columns, absl::Span<float> values);
void InverseBlockDct(int64_t rows, int64_t columns, absl::Span<float> values);

}  // namespace fedwatt

#endif  // FEDWATT_COMPRESSION_BLOCK_DCT_H_

// Entropy coding of integer vectors that are mostly zero: what every quantizer that ends in integers shares.
//
// A symbol is coded as the run of zeros before it and as its signed magnitude, or, where few are zero, each position by its neighbours; by interleaved
// range coders of the asymmetric kind (rANS: Duda 2013, arXiv 1311.2540; interleaving: Giesen 2014, arXiv 1402.3392) whose frequencies both ends learn
// alike from the symbols behind them. Integer arithmetic throughout: the same bytes on every machine. compression/symbol_coder.cc describes the bytes.
#ifndef FEDWATT_COMPRESSION_SYMBOL_CODER_H_
#define FEDWATT_COMPRESSION_SYMBOL_CODER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace fedwatt {

// The symbols of a vector that are not zero. indices are strictly increasing; symbols[i] stands at indices[i], is not 0 and has a magnitude of
// at most kMaxSymbol.
struct SparseSymbols {
  std::vector<uint32_t> indices;
  std::vector<int32_t> symbols;
};
inline constexpr int32_t kMaxSymbol = (1 << 24) - 1;

// `segment_counts` cut the vector into runs with statistics of their own; at most 2^31 positions in all. No symbols make no bytes. Size: about the
// zero-order entropy of each segment, or less where neighbours are alike, plus 1-4 bytes a segment that is not all zero and 4-8 bytes.
// Cost: follows the symbols; the positions where a sixth of them or more are symbols, and their neighbours tell enough about them. `salt` is whatever else
// both ends must agree about. `row_lengths`, unless empty, say of each segment how long its rows are: symbols are told by those above them, too.
// Errors: INVALID_ARGUMENT  indices out of order or range, a symbol that is 0 or too large, a count that is negative, too many positions
absl::StatusOr<std::string> EncodeSymbols(absl::Span<const int64_t> segment_counts, const SparseSymbols& symbols, uint64_t salt = 0,
                                          absl::Span<const int64_t> row_lengths = {});

// The inverse, with the counts, the salt and the row lengths that EncodeSymbols had: others are noticed but for one in 2^32. `bytes` may be hostile:
// memory follows what they truly hold, or is at most a small multiple of the positions, and `max_symbols` bounds the number of symbols. What `out` held is
// lost, its memory reused; its content is unspecified on error.
// Errors: DATA_LOSS  not what EncodeSymbols makes for these counts
absl::Status DecodeSymbols(std::string_view bytes, absl::Span<const int64_t> segment_counts, int64_t max_symbols, SparseSymbols& out,
                           uint64_t salt = 0, absl::Span<const int64_t> row_lengths = {});

}  // namespace fedwatt

#endif  // FEDWATT_COMPRESSION_SYMBOL_CODER_H_

// Entropy coding of integer vectors that are mostly zero: what every quantizer that ends in integers shares.
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

// `segment_counts` cut the vector into runs with statistics of their own; at most 2^31 positions in all. Cost: follows the symbols.
// Errors: INVALID_ARGUMENT  indices out of order or range, a symbol that is 0 or too large
absl::StatusOr<std::string> EncodeSymbols(absl::Span<const int64_t> segment_counts, const SparseSymbols& symbols);

// The inverse. `bytes` may be hostile: nothing is allocated beyond what they can hold, and `max_symbols` bounds the number of symbols.
// Errors: DATA_LOSS  not what EncodeSymbols makes for these counts
absl::Status DecodeSymbols(std::string_view bytes, absl::Span<const int64_t> segment_counts, int64_t max_symbols, SparseSymbols& out);

}  // namespace fedwatt

#endif  // FEDWATT_COMPRESSION_SYMBOL_CODER_H_

// The vectorised loops of the quantizers, in Highway: one source for every instruction set, chosen at run time.
#ifndef FEDWATT_COMPRESSION_KERNELS_H_
#define FEDWATT_COMPRESSION_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"

namespace fedwatt::internal {

// The kernels below may write this many elements behind the last place that they found.
inline constexpr size_t kPlacePadding = 64;

// Writes the places i with |values[i]| >= threshold, ascending, and returns how many there are. `places` has room for
// values.size() + kPlacePadding. NaN is never found, infinity always.
size_t FindAtLeast(absl::Span<const float> values, float threshold, uint32_t* places);

// Rounds at thresholds: symbol_i = sign(x_i) * floor(|x_i| / step + 1 - t_i), t_i = (rank_i + offset) / 256, rank_i = (multiplier * i + addend) mod 256, in
// float64. Writes ranks and symbols of all places whose symbol is not zero, and of some others, by place; both have room for values.size() +
// kPlacePadding. Returns how many there are, SIZE_MAX where a magnitude is beyond kMaxSymbol. Infinity is, NaN is not among them.
inline constexpr uint32_t kRanks = 256;
size_t RoundRanked(absl::Span<const float> values, uint32_t multiplier, uint32_t addend, double offset, float step, uint32_t* ranks, int32_t* symbols);

// What the coder asks of symbols before it codes them, in one look.
struct SymbolFacts {
  bool good = true;    // indices ascend, and no symbol is 0 or beyond kMaxSymbol
  bool units = true;   // all are +-1
  size_t escapes = 0;  // of a magnitude of kEscapeMagnitude or more
};
inline constexpr int32_t kEscapeMagnitude = 5;
// As many indices as symbols.
SymbolFacts LookAtSymbols(absl::Span<const uint32_t> indices, absl::Span<const int32_t> symbols);

// The largest magnitude as float bits, which order like magnitudes do: at least those of infinity where a value is not finite.
uint32_t MaxMagnitudeBits(absl::Span<const float> values);

inline bool AllFinite(absl::Span<const float> values) { return MaxMagnitudeBits(values) < 0x7f800000u; }

// sum of values[i]^2 in float64, as 32 sums of the places equal mod 32, which are then added in order: equal bits on every machine.
double SumOfSquares(absl::Span<const float> values);

// Adds the magnitudes of a row of values to the sums of its columns, and returns their sum, in the order of SumOfSquares. `columns` has values.size()
// elements, or none.
double AddMagnitudes(absl::Span<const float> values, absl::Span<double> columns);

}  // namespace fedwatt::internal

#endif  // FEDWATT_COMPRESSION_KERNELS_H_

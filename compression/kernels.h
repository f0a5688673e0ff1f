// The vectorised loops of the quantizers, in Highway: one source for every instruction set, chosen at run time.
#ifndef FEDWATT_COMPRESSION_KERNELS_H_
#define FEDWATT_COMPRESSION_KERNELS_H_

#include <bit>
#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"

namespace fedwatt::internal {

// The kernels below may write this many elements behind the last place that they found.
inline constexpr size_t kPlacePadding = 64;

// Writes the places i with |values[i]| >= threshold, ascending, and returns how many there are. `places` has room for
// values.size() + kPlacePadding. NaN is never found, infinity always.
size_t FindAtLeast(absl::Span<const float> values, float threshold, uint32_t* places);

// Rounds blocks of kRanks values at thresholds: symbol_i = sign(x_i) * floor(|x_i| / step + 1 - t_i), t_i = (k + offset) / 256, k = (multiplier * i + addend)
// mod 256 the rank of place i in its block, in float64. Ranks of equal k >> w, w = RankWidthLog2(k), are a class: 2^w ranks, the first of which is `first`.
// The symbol of rank k in block b goes to out[kRankedBlocks * first + (b << w) + k - first], if it is not zero; some that are zero do so, too. At most
// kRankedBlocks blocks, the last of which may be shorter. Returns the first block in which a magnitude is beyond kMaxSymbol, which that of infinity is and
// NaN is not, or how many blocks there are.
inline constexpr uint32_t kRanks = 256;
inline constexpr uint32_t kRankedBlocks = 64;
constexpr int RankWidthLog2(uint32_t rank) { return rank < 4 ? 0 : 30 - std::countl_zero(rank); }
struct RankThresholds {
  uint32_t multiplier, addend;
  double offset;
};
size_t RoundRanked(absl::Span<const float> values, const RankThresholds* blocks, float step, int32_t* out);

// Moves what is not zero among symbols, and `first` + its place, to `out` and `indices`, in order; both have room for symbols.size() + kPlacePadding. Leaves
// zeros, and returns how many there were.
size_t TakeSymbols(absl::Span<int32_t> symbols, uint32_t first, uint32_t* indices, int32_t* out);

// What the coder asks of symbols before it codes them, in one look.
struct SymbolFacts {
  bool good = true;    // indices ascend, and no symbol is 0 or beyond kMaxSymbol
  bool units = true;   // all are +-1
  size_t escapes = 0;  // of a magnitude of kEscapeMagnitude or more
};
inline constexpr int32_t kEscapeMagnitude = 5;
// As many indices as symbols.
SymbolFacts LookAtSymbols(absl::Span<const uint32_t> indices, absl::Span<const int32_t> symbols);

// What the range coder writes next: start << 16 | frequency of a symbol, both below 2^kPrecision, the state that it goes into above.
inline constexpr int kPrecision = 11;
inline constexpr int kStateShift = 16 + kPrecision;
// Codes operations in this order, eight by eight: those of states 7, 3, 6, 2, 5, 1, 4 and 0. x, a state, becomes floor(x / frequency) * 2^kPrecision +
// x mod frequency + start; before, where that would be 2^32 or more, its low half is spilled. Writes the states that spilled to `words`, of which the
// low 16 bits count and which have room for as many as there are operations and 8 more, and returns how many did.
inline constexpr size_t kOctet = 8;
size_t CodeOctets(absl::Span<const uint32_t> operations, uint32_t* states, uint32_t* words);

// Square matrices of `side` rows and columns that lie side by side, kMatrixLanes of them: element (i, j) of each at in[(i * side + j) * kMatrixLanes]. Multiplies each
// from the left by `left`, rows first, and transposes what comes out. Products are added one by one from the first on: equal bits on every machine.
inline constexpr size_t kMatrixLanes = 8;
void MultiplyAndTranspose(const double* left, size_t side, const double* in, double* out);

// The largest magnitude as float bits, which order like magnitudes do: at least those of infinity where a value is not finite.
uint32_t MaxMagnitudeBits(absl::Span<const float> values);

inline bool AllFinite(absl::Span<const float> values) { return MaxMagnitudeBits(values) < 0x7f800000u; }

// sum of values[i]^2 in float64, as 32 sums of the places equal mod 32, which are then added in order: equal bits on every machine.
double SumOfSquares(absl::Span<const float> values);

// The same, stretch by stretch; all but the last are multiples of 32 long.
class SquareSums {
 public:
  void Add(absl::Span<const float> values);
  double Total() const;

 private:
  double sums_[32] = {};
};

// Adds the magnitudes of a row of values to the sums of its columns, and returns their sum, in the order of SumOfSquares. `columns` has values.size()
// elements, or none.
double AddMagnitudes(absl::Span<const float> values, absl::Span<double> columns);

}  // namespace fedwatt::internal

#endif  // FEDWATT_COMPRESSION_KERNELS_H_

// dithered: unbiased rounding to multiples of one step, with thresholds that both ends know, which makes the places of the non-zeros cheap.
//
//   symbol_i = sign(x_i) * floor(|x_i| / S + 1 - t_i),  t_i uniform in (0, 1)
//   decoded  = symbol_i * S
//
// With |x| / S = m + f, floor(m + f + 1 - t) is m + 1 where t <= f and m otherwise, so E[decoded] = x. Variance: f * (1 - f) * S^2, which is
// |x| * (S - |x|) for |x| < S. That is plain stochastic rounding; what is gained lies in t: a place with a small t is likely to be non-zero, one
// with a large t hardly ever. The decoder knows t, so that places are coded class by class of t, each class at a density of its own. On updates of a
// small network that halves the bits at equal variance. Thresholds shared by both ends: dithered quantization (Ziv 1985, IEEE Trans. Inf. Theory
// 31(3)), in federated learning QUIC-FL (Ben Basat et al. 2022, arXiv 2205.13341); stochastic rounding of most values to zero is the optimal
// unbiased sparsification of Wangni et al. (2018, arXiv 1710.09854) with one threshold for all.
//
// In a block b of 256 consecutive places, place p has rank k where p = (a_b * k + c_b) mod 256, and t = (k + v_b) / 256. Of
// h = Mix(Mix(seed + g) + (b + 1) * g), g = 0x9e3779b97f4a7c15, Mix the finalizer of SplitMix64: a_b = 2 * (h mod 2^7) + 1, c_b = bits 7-14 of h,
// v_b = (bits 40-63 of h + 1/2) / 2^24. So each t is uniform on midpoints of 2^32 cells, and a block has one t in each 256th of (0, 1): rounding
// errors inside a block partly cancel.
//
// Options, one of: step=S > 0; multiple=M, S = M * root of the mean square of all values, default 3. |error| < S.
// Bytes: S as float32, then EncodeSymbols with one segment for each class of ranks, kClasses below, over all blocks; within a class places are in
// order of blocks, then ranks. Ranks of the last block whose places do not exist hold zeros.
// Cost: one vectorised pass to find what is not zero; decoding: as the symbols, one hash each.
#include <algorithm>
#include <array>
#include <bit>
#include <cfloat>
#include <cmath>
#include <vector>

#include "codec_support.h"
#include "fedwatt/base/status_macros.h"
#include "kernels.h"
#include "stage_support.h"
#include "step_support.h"

namespace fedwatt {
namespace {

constexpr uint32_t kBlock = 256;
// Sizes of the classes of ranks: powers of two that add up to kBlock.
constexpr std::array<uint32_t, 13> kClasses = {1, 1, 1, 1, 2, 2, 4, 4, 8, 8, 32, 64, 128};

struct ClassOfRank {
  std::array<uint8_t, kBlock> index;
  std::array<uint8_t, kClasses.size()> first;  // rank
};
constexpr ClassOfRank MakeClassOfRank() {
  ClassOfRank made{};
  uint32_t rank = 0;
  for (uint32_t c = 0; c < kClasses.size(); ++c) {
    made.first[c] = static_cast<uint8_t>(rank);
    for (uint32_t i = 0; i < kClasses[c]; ++i) made.index[rank++] = static_cast<uint8_t>(c);
  }
  return made;
}
constexpr ClassOfRank kClassOfRank = MakeClassOfRank();

uint64_t Mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// The thresholds of one block.
class Dither {
 public:
  explicit Dither(uint64_t seed) : key_(Mix(seed + kGolden)) {}
  struct Block {
    uint32_t multiplier;  // a
    uint32_t addend;      // c
    uint64_t hash;
    // k of a place: inverse * (place - addend) mod 256.
    uint32_t inverse() const {
      uint32_t x = multiplier;  // right in 3 bits; each step doubles them
      x *= 2 - multiplier * x;
      x *= 2 - multiplier * x;
      return x & 255;
    }
    double offset() const { return (static_cast<double>(hash >> 40) + 0.5) * 0x1p-24; }
  };
  Block At(uint64_t block) const {
    const uint64_t hash = Mix(key_ + (block + 1) * kGolden);
    return {static_cast<uint32_t>(2 * (hash & 127) + 1), static_cast<uint32_t>(hash >> 7 & 255), hash};
  }

 private:
  static constexpr uint64_t kGolden = 0x9e3779b97f4a7c15u;
  uint64_t key_;
};

std::array<int64_t, kClasses.size()> ClassCounts(int64_t values) {
  const int64_t blocks = (values + static_cast<int64_t>(kBlock) - 1) / static_cast<int64_t>(kBlock);
  std::array<int64_t, kClasses.size()> counts;
  for (size_t c = 0; c < kClasses.size(); ++c) counts[c] = blocks * kClasses[c];
  return counts;
}

// Classes alone do not tell vectors of 300 and 301 values apart, and another seed's thresholds would fit any symbols.
uint64_t Salt(uint64_t count, uint64_t seed) { return Mix(seed) + count; }

class Dithered : public Codec {
 public:
  Dithered(bool relative, double target) : relative_(relative), target_(target) {}
  std::string_view name() const override { return "dithered"; }
  bool sparse() const override { return true; }

  absl::StatusOr<std::string> Encode(absl::Span<const float> values, const CodingContext& context) const override {
    if (values.empty()) return std::string();
    const auto counts = ClassCounts(static_cast<int64_t>(values.size()));
    const float step = internal::StepOf(
        relative_ ? target_ * std::sqrt(internal::SumOfSquares(values) / static_cast<double>(values.size())) : target_);
    const Dither dither(context.seed);
    const float rank_step = static_cast<float>(step * (internal::kCandidateSlack / kBlock));
    std::array<SparseSymbols, kClasses.size()> classes;
    uint32_t places[kBlock + internal::kPlacePadding];
    int32_t by_rank[kBlock];
    for (size_t begin = 0, b = 0; begin < values.size(); begin += kBlock, ++b) {
      const absl::Span<const float> block = values.subspan(begin, kBlock);
      const Dither::Block thresholds = dither.At(b);
      const uint32_t inverse = thresholds.inverse();
      const uint32_t shift = (0u - inverse * thresholds.addend) & 255;
      const double offset = thresholds.offset();
      const size_t found = internal::FindAtLeastRanked(block, inverse, shift, static_cast<float>(offset), rank_step, places);
      uint64_t hits[kBlock / 64] = {};
      for (size_t i = 0; i < found; ++i) {
        const float value = block[places[i]];
        const uint32_t rank = (inverse * places[i] + shift) & 255;
        const double threshold = (rank + offset) / static_cast<double>(kBlock);
        const double magnitude = std::fabs(value) / static_cast<double>(step) + (1 - threshold);
        if (!(magnitude < kMaxSymbol + 1.0)) return internal::RefuseSymbol(name(), value, step);
        const int32_t symbol = static_cast<int32_t>(magnitude);
        by_rank[rank] = value < 0 ? -symbol : symbol;
        hits[rank / 64] |= static_cast<uint64_t>(symbol != 0) << rank % 64;
      }
      for (uint32_t word = 0; word < kBlock / 64; ++word) {
        for (uint64_t left = hits[word]; left != 0; left &= left - 1) {
          const uint32_t rank = word * 64 + static_cast<uint32_t>(std::countr_zero(left));
          const uint32_t c = kClassOfRank.index[rank];
          classes[c].indices.push_back(static_cast<uint32_t>(b * kClasses[c] + rank - kClassOfRank.first[c]));
          classes[c].symbols.push_back(by_rank[rank]);
        }
      }
    }
    SparseSymbols symbols;
    int64_t first = 0;
    for (size_t c = 0; c < kClasses.size(); ++c) {
      for (uint32_t index : classes[c].indices) symbols.indices.push_back(static_cast<uint32_t>(first + index));
      symbols.symbols.insert(symbols.symbols.end(), classes[c].symbols.begin(), classes[c].symbols.end());
      first += counts[c];
    }
    return internal::PutStepAndSymbols(step, counts, symbols, Salt(values.size(), context.seed));
  }

  absl::Status Decode(std::string_view bytes, const CodingContext& context, absl::Span<float> out) const override {
    SparseValues decoded;
    FEDWATT_RETURN_IF_ERROR(DecodeInto(bytes, static_cast<int64_t>(out.size()), context.seed, decoded));
    std::fill(out.begin(), out.end(), 0.0f);
    for (size_t i = 0; i < decoded.indices.size(); ++i) out[decoded.indices[i]] = decoded.values[i];
    return absl::OkStatus();
  }

  absl::Status DecodeSparse(std::string_view bytes, const CodingContext& context, SparseValues& out) const override {
    return DecodeInto(bytes, internal::CountValues(context.segments), context.seed, out);
  }

  double ErrorBound(double max_abs) const override {
    return internal::StepOf(relative_ ? target_ * max_abs : target_) * (1 + 0x1p-20) + FLT_TRUE_MIN;
  }

 private:
  absl::Status DecodeInto(std::string_view bytes, int64_t count, uint64_t seed, SparseValues& out) const {
    const auto counts = ClassCounts(count);
    SparseSymbols symbols;
    symbols.indices = std::move(out.indices);  // its memory
    float step = 0;
    FEDWATT_RETURN_IF_ERROR(internal::TakeStepAndSymbols(name(), bytes, counts, count, Salt(static_cast<uint64_t>(count), seed), step, symbols));
    out.values.resize(symbols.symbols.size());
    // What a block's places need, once: most blocks are met in most classes.
    const Dither dither(seed);
    std::vector<uint16_t> blocks(static_cast<size_t>((count + kBlock - 1) / kBlock));
    for (size_t b = 0; b < blocks.size(); ++b) {
      const Dither::Block block = dither.At(b);
      blocks[b] = static_cast<uint16_t>(block.multiplier << 8 | block.addend);
    }
    int64_t first = 0;
    uint32_t last = 0;
    size_t i = 0;
    for (size_t c = 0; c < kClasses.size(); ++c) {
      const int width = std::countr_zero(kClasses[c]);
      const int64_t end = first + counts[c];
      for (; i < symbols.indices.size() && symbols.indices[i] < end; ++i) {
        const uint32_t index = static_cast<uint32_t>(symbols.indices[i] - first);
        const uint32_t block = index >> width, rank = kClassOfRank.first[c] + (index & (kClasses[c] - 1));
        const uint32_t place = block * kBlock + (((blocks[block] >> 8) * rank + blocks[block]) & 255);
        last = std::max(last, place);
        symbols.indices[i] = place;
        out.values[i] = internal::DecodeSymbol(symbols.symbols[i], step);
      }
      first = end;
    }
    out.indices = std::move(symbols.indices);
    if (!out.indices.empty() && last >= count) {
      return absl::DataLossError(absl::StrCat("dithered: a symbol stands beyond the last of ", count, " values"));
    }
    return absl::OkStatus();
  }

  const bool relative_;
  const double target_;
};

absl::StatusOr<std::unique_ptr<Codec>> MakeDithered(const CodecOptions& options) {
  FEDWATT_RETURN_IF_ERROR(internal::CheckOptionNames("dithered", options, {"step", "multiple"}));
  if (options.size() > 1) return absl::InvalidArgumentError("codec 'dithered': either step or multiple, not both");
  bool relative = true;
  double target = 3;
  if (const auto it = options.find("step"); it != options.end()) {
    relative = false;
    FEDWATT_ASSIGN_OR_RETURN(target, internal::ParseOption("dithered", "step", it->second, FLT_TRUE_MIN, FLT_MAX));
  }
  if (const auto it = options.find("multiple"); it != options.end()) {
    FEDWATT_ASSIGN_OR_RETURN(target, internal::ParseOption("dithered", "multiple", it->second, 1e-6, 1e6));
  }
  return std::make_unique<Dithered>(relative, target);
}

}  // namespace

namespace internal {

void InstallCodec_dithered(CodecRegistry& registry) { FEDWATT_CHECK(registry.Register("dithered", MakeDithered).ok()); }

}  // namespace internal
}  // namespace fedwatt

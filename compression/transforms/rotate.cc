// rotate: random signs, then an orthonormal Walsh-Hadamard transform, block by block: every value spreads over its block, so that all become about
// normal with one deviation, and one step or one scale suits them all (Suresh et al. 2017, arXiv 1611.00429, section 4; DRIVE: Vargaftik et al.
// 2021, arXiv 2105.08339, in front of "sign:scale=unbiased").
//
//   y = H D x / sqrt(B),   D = diag(+-1),   H_ij = (-1)^popcount(i & j)
//
// Blocks of B = min(4096, greatest power of two <= n) values from the start on, over all segments together. What is left behind the last whole block
// is rotated in one more block that ends where the vector ends and overlaps the one before it: a product of two rotations, so nothing is padded and
// no block is small. The inverse goes backwards. Segments pass on as they are.
//
// The sign of place i of block b is bit i mod 64 of a word, 1 for -1; words are those of Random(DeriveSeed("rotate", {context.seed})) in order,
// max(1, B / 64) for each block. No side information. Cost: log2(B) additions a value. In float32, each butterfly in one order, so all machines get
// equal bits. |x - inverse(forward(x))| is some 2^-23 of the block's norm.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "transforms/rotate.cc"
#include <cstdint>

#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace fedwatt::internal {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// values[i] = bit i of `words` ? -factor * values[i] : factor * values[i]
void FlipSignsKernel(const uint64_t* words, size_t count, float factor, float* values) {
  const hn::CappedTag<float, 32> df;
  const hn::RebindToUnsigned<decltype(df)> du;
  const size_t lanes = hn::Lanes(df);
  const auto factors = hn::Set(df, factor);
  size_t i = 0;
  for (; i + 32 <= count; i += 32) {
    const auto word = hn::Set(du, static_cast<uint32_t>(words[i / 64] >> (i % 64)));
    for (size_t j = 0; j < 32; j += lanes) {
      const auto sign = hn::Shl(word, hn::Sub(hn::Set(du, 31), hn::Iota(du, static_cast<uint32_t>(j))));
      const auto scaled = hn::BitCast(du, hn::Mul(hn::LoadU(df, values + i + j), factors));
      hn::StoreU(hn::BitCast(df, hn::Xor(scaled, hn::And(sign, hn::Set(du, 0x80000000u)))), df, values + i + j);
    }
  }
  for (; i < count; ++i) values[i] *= (words[i / 64] >> (i % 64) & 1) != 0 ? -factor : factor;
}

// One of the log2(count) equal passes of the transform (Pease 1968): out_i = in_2i + in_2i+1, out_(count/2+i) = in_2i - in_2i+1.
void ButterflyPassKernel(const float* in, size_t count, float* out) {
  const hn::ScalableTag<float> df;
  const size_t lanes = hn::Lanes(df), half = count / 2;
  size_t i = 0;
  for (; i + lanes <= half; i += lanes) {
    hn::Vec<decltype(df)> even, odd;
    hn::LoadInterleaved2(df, in + 2 * i, even, odd);
    hn::StoreU(hn::Add(even, odd), df, out + i);
    hn::StoreU(hn::Sub(even, odd), df, out + half + i);
  }
  for (; i < half; ++i) {
    out[i] = in[2 * i] + in[2 * i + 1];
    out[half + i] = in[2 * i] - in[2 * i + 1];
  }
}

// values = H values; `scratch` has room for as many.
void HadamardKernel(size_t count, float* values, float* scratch) {
  float *from = values, *to = scratch;
  for (size_t reach = 1; reach < count; reach *= 2) {
    ButterflyPassKernel(from, count, to);
    float* const other = from;
    from = to;
    to = other;
  }
  if (from == values) return;
  for (size_t i = 0; i < count; ++i) values[i] = from[i];
}

}  // namespace HWY_NAMESPACE
}  // namespace fedwatt::internal
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "codec_support.h"
#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/compression/transform.h"
#include "kernels.h"
#include "stage_support.h"

namespace fedwatt {
namespace internal {

HWY_EXPORT(FlipSignsKernel);
HWY_EXPORT(HadamardKernel);

}  // namespace internal

namespace {

constexpr size_t kMaxBlock = 4096;

class Rotate : public Transform {
 public:
  std::string_view name() const override { return "rotate"; }

  absl::Status Forward(SegmentedValues& data, const CodingContext& context, std::string& side) const override {
    const Plan plan(data.values.size(), context.seed);
    std::vector<float> scratch(plan.block);
    for (size_t b = 0; b < plan.begins.size(); ++b) {
      float* const values = data.values.data() + plan.begins[b];
      HWY_DYNAMIC_DISPATCH(internal::FlipSignsKernel)(plan.words_of(b), plan.block, plan.factor, values);
      HWY_DYNAMIC_DISPATCH(internal::HadamardKernel)(plan.block, values, scratch.data());
    }
    if (!internal::AllFinite(data.values)) return absl::InvalidArgumentError("rotate: the values are too large to be added up in float32");
    return absl::OkStatus();
  }

  absl::Status Inverse(std::string_view side, const CodingContext& context, InnerDecoder inner, DecodedValues& out) const override {
    if (!side.empty()) return absl::DataLossError(absl::StrCat("rotate: ", side.size(), " bytes of side information, expected none"));
    out.is_sparse = false;
    FEDWATT_RETURN_IF_ERROR(inner(context.segments, out.dense));
    const Plan plan(out.dense.size(), context.seed);
    std::vector<float> scratch(plan.block);
    for (size_t b = plan.begins.size(); b-- > 0;) {
      float* const values = out.dense.data() + plan.begins[b];
      HWY_DYNAMIC_DISPATCH(internal::HadamardKernel)(plan.block, values, scratch.data());
      HWY_DYNAMIC_DISPATCH(internal::FlipSignsKernel)(plan.words_of(b), plan.block, plan.factor, values);
    }
    if (!internal::AllFinite(out.dense)) return absl::DataLossError("rotate: the values overflow");
    return absl::OkStatus();
  }

 private:
  struct Plan {
    Plan(size_t count, uint64_t seed) : block(std::min(kMaxBlock, std::bit_floor(count))) {
      if (count == 0) return;
      for (size_t begin = 0; begin + block <= count; begin += block) begins.push_back(begin);
      if (begins.back() + block < count) begins.push_back(count - block);
      words_each = std::max<size_t>(1, block / 64);
      words.resize(begins.size() * words_each);
      Random random(DeriveSeed("rotate", {seed}));
      for (uint64_t& word : words) word = random.Next();
      factor = static_cast<float>(1 / std::sqrt(static_cast<double>(block)));
    }
    const uint64_t* words_of(size_t b) const { return words.data() + b * words_each; }

    size_t block;
    std::vector<size_t> begins;
    size_t words_each = 1;
    std::vector<uint64_t> words;
    float factor = 1;
  };
};

absl::StatusOr<std::unique_ptr<Transform>> MakeRotate(const CodecOptions& options) {
  FEDWATT_RETURN_IF_ERROR(internal::CheckOptionNames("rotate", options));
  return std::make_unique<Rotate>();
}

}  // namespace

namespace internal {

void InstallTransform_rotate(TransformRegistry& registry) { FEDWATT_CHECK(registry.Register("rotate", MakeRotate).ok()); }

}  // namespace internal
}  // namespace fedwatt

#endif  // HWY_ONCE

// sign: one bit a value, and one float32 scale for `block` values.
//
//   scale=mean      s_b = sum |x| / n_b             scaled sign: the one s with the least |x - s sign(x)|^2 (Bernstein et al. 2018, arXiv 1802.04434,
//                                                   with the scale of Karimireddy et al. 2019, arXiv 1901.09847). Biased; use with `ef`.
//   scale=unbiased  s_b = sum x^2 / sum |x|         DRIVE (Vargaftik et al. 2021, arXiv 2105.08339): unbiased over the rotation if x is a
//                                                   uniformly random rotation of the vector, so it stands behind `rotate`, which is nearly that.
//   decoded = s_b where x >= 0, -s_b where x < 0
//
// Options: scale=mean (default) or unbiased. block=N, N in [0, 2^24], default 4096: blocks of N consecutive values whatever their segments, as
// `rotate` makes them; 0: one scale for each segment that has values. |error| <= max |x|.
// Bytes: the scales, then the signs, 1 for x < 0, the first in the lowest bit of its byte; behind the last sign a bit 1 and zeros up to the byte's
// end, so that vectors of other lengths are noticed. 1 + 32 / 4096 bits a value and at most one byte. Sums are in float64, as 8 sums of the places
// equal mod 8, which are then added in order: equal bits on every machine.
// Vectorised, one source for all instruction sets.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "codecs/sign.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace fedwatt::internal {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Adds |values[i]| and values[i]^2 to the sums of i mod 8; `count` is a multiple of 8.
void SumMagnitudesKernel(const float* values, size_t count, double* magnitudes, double* squares) {
#if HWY_TARGET == HWY_SCALAR
  for (size_t i = 0; i < count; ++i) {
    const double value = values[i];
    magnitudes[i % 8] += std::fabs(value);
    squares[i % 8] += value * value;
  }
#else
  const hn::CappedTag<double, 8> dd;
  const hn::Rebind<float, decltype(dd)> df;
  const size_t lanes = hn::Lanes(dd);
  for (size_t j = 0; j < 8; j += lanes) {
    auto magnitude = hn::LoadU(dd, magnitudes + j), square = hn::LoadU(dd, squares + j);
    for (size_t i = j; i < count; i += 8) {
      const auto value = hn::PromoteTo(dd, hn::LoadU(df, values + i));
      magnitude = hn::Add(magnitude, hn::Abs(value));
      square = hn::Add(square, hn::Mul(value, value));
    }
    hn::StoreU(magnitude, dd, magnitudes + j);
    hn::StoreU(square, dd, squares + j);
  }
#endif
}

// Bit i of `signs` tells whether values[i] < 0; `count` is a multiple of 8.
void PackSignsKernel(const float* values, size_t count, uint8_t* signs) {
  const hn::ScalableTag<float> df;
  const size_t lanes = hn::Lanes(df);
  const auto zero = hn::Zero(df);
  size_t i = 0;
  if (lanes >= 8) {
    for (; i + lanes <= count; i += lanes) hn::StoreMaskBits(df, hn::Lt(hn::LoadU(df, values + i), zero), signs + i / 8);
  } else if (lanes == 4) {
    for (; i < count; i += 8) {
      uint8_t bits[16];  // StoreMaskBits may write 8
      hn::StoreMaskBits(df, hn::Lt(hn::LoadU(df, values + i), zero), bits);
      hn::StoreMaskBits(df, hn::Lt(hn::LoadU(df, values + i + 4), zero), bits + 8);
      signs[i / 8] = static_cast<uint8_t>((bits[0] & 15) | bits[8] << 4);
    }
  }
  for (; i < count; i += 8) {
    uint32_t byte = 0;
    for (size_t j = 0; j < 8; ++j) byte |= static_cast<uint32_t>(values[i + j] < 0) << j;
    signs[i / 8] = static_cast<uint8_t>(byte);
  }
}

// out[i] = bit i of `signs` ? -scale : scale; `count` is a multiple of 32, `scale` the bits of a number >= 0.
void UnpackSignsKernel(const uint8_t* signs, size_t count, uint32_t scale, float* out) {
  const hn::CappedTag<float, 32> df;
  const hn::RebindToUnsigned<decltype(df)> du;
  const size_t lanes = hn::Lanes(df);
  const auto scales = hn::Set(du, scale), top = hn::Set(du, 0x80000000u);
  for (size_t i = 0; i < count; i += 32) {
    uint32_t bits;
    std::memcpy(&bits, signs + i / 8, sizeof(bits));
    const auto word = hn::Set(du, bits);
    for (size_t j = 0; j < 32; j += lanes) {
      const auto sign = hn::Shl(word, hn::Sub(hn::Set(du, 31), hn::Iota(du, static_cast<uint32_t>(j))));
      hn::StoreU(hn::BitCast(df, hn::Or(scales, hn::And(sign, top))), df, out + i + j);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace fedwatt::internal
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include <algorithm>
#include <bit>
#include <vector>

#include "codec_support.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/rejection.h"
#include "stage_support.h"

namespace fedwatt {
namespace internal {

HWY_EXPORT(SumMagnitudesKernel);
HWY_EXPORT(PackSignsKernel);
HWY_EXPORT(UnpackSignsKernel);

}  // namespace internal

namespace {

static_assert(std::endian::native == std::endian::little, "scales are copied as they lie");

struct Sums {
  double magnitudes;
  double squares;
};
Sums SumUp(absl::Span<const float> values) {
  double magnitudes[8] = {}, squares[8] = {};
  size_t i = values.size() / 8 * 8;
  HWY_DYNAMIC_DISPATCH(internal::SumMagnitudesKernel)(values.data(), i, magnitudes, squares);
  for (size_t j = 0; i < values.size(); ++i, ++j) {
    const double value = values[i];
    magnitudes[j] += std::fabs(value);
    squares[j] += value * value;
  }
  Sums sums{0, 0};
  for (size_t j = 0; j < 8; ++j) {
    sums.magnitudes += magnitudes[j];
    sums.squares += squares[j];
  }
  return sums;
}

class Sign : public Codec {
 public:
  Sign(bool unbiased, size_t block) : unbiased_(unbiased), block_(block) {}
  std::string_view name() const override { return "sign"; }

  absl::StatusOr<std::string> Encode(absl::Span<const float> values, const CodingContext& context) const override {
    if (values.empty()) return std::string();
    const std::vector<size_t> ends = BlockEnds(values.size(), context.segments);
    const size_t scale_bytes = ends.size() * sizeof(float);
    std::string bytes(scale_bytes + values.size() / 8 + 1, '\0');
    size_t begin = 0;
    for (size_t b = 0; b < ends.size(); ++b) {
      const absl::Span<const float> block = values.subspan(begin, ends[b] - begin);
      const Sums sums = SumUp(block);
      if (!std::isfinite(sums.magnitudes)) {
        return WithRejection(absl::InvalidArgumentError(absl::StrCat("sign: a value in [", begin, ", ", ends[b], ") is not finite")),
                             Rejection::kNotFinite);
      }
      const double scale = sums.magnitudes == 0 ? 0
                           : unbiased_          ? sums.squares / sums.magnitudes
                                                : sums.magnitudes / static_cast<double>(block.size());
      const float rounded = static_cast<float>(scale);
      std::memcpy(bytes.data() + b * sizeof(float), &rounded, sizeof(rounded));
      begin = ends[b];
    }
    auto* const signs = reinterpret_cast<uint8_t*>(bytes.data()) + scale_bytes;
    const size_t i = values.size() / 8 * 8;
    HWY_DYNAMIC_DISPATCH(internal::PackSignsKernel)(values.data(), i, signs);
    uint32_t last = 1u << (values.size() - i);
    for (size_t j = 0; i + j < values.size(); ++j) last |= static_cast<uint32_t>(values[i + j] < 0) << j;
    signs[i / 8] = static_cast<uint8_t>(last);
    return bytes;
  }

  absl::Status Decode(std::string_view bytes, const CodingContext& context, absl::Span<float> out) const override {
    if (out.empty()) return internal::CheckEncodedSize(name(), 0, bytes.size());
    const std::vector<size_t> ends = BlockEnds(out.size(), context.segments);
    const size_t scale_bytes = ends.size() * sizeof(float);
    FEDWATT_RETURN_IF_ERROR(internal::CheckEncodedSize(name(), scale_bytes + out.size() / 8 + 1, bytes.size()));
    const auto* signs = reinterpret_cast<const uint8_t*>(bytes.data()) + scale_bytes;
    if (signs[out.size() / 8] >> (out.size() % 8) != 1) return absl::DataLossError("sign: the signs do not end where the values do");
    size_t i = 0;
    for (size_t b = 0; b < ends.size(); ++b) {
      uint32_t scale;
      std::memcpy(&scale, bytes.data() + b * sizeof(float), sizeof(scale));
      // As bits: refuses NaN, infinity and negative numbers.
      if (scale >= 0x7f800000u) return absl::DataLossError(absl::StrCat("sign: the scale of block ", b, " is not a finite number >= 0"));
      const auto one = [&] { out[i] = std::bit_cast<float>(scale | static_cast<uint32_t>(signs[i / 8] >> (i % 8) & 1) << 31); };
      for (; i < ends[b] && i % 8 != 0; ++i) one();
      const size_t whole = (ends[b] - i) / 32 * 32;
      HWY_DYNAMIC_DISPATCH(internal::UnpackSignsKernel)(signs + i / 8, whole, scale, out.data() + i);
      for (i += whole; i < ends[b]; ++i) one();
    }
    return absl::OkStatus();
  }

  // A value of 0 decodes to the scale, which no mean lifts beyond the largest value but by rounding.
  double ErrorBound(double max_abs) const override { return max_abs * (1 + 0x1p-20); }

 private:
  std::vector<size_t> BlockEnds(size_t count, absl::Span<const Segment> segments) const {
    std::vector<size_t> ends;
    if (block_ == 0) {
      FEDWATT_CHECK(internal::CountValues(segments) == static_cast<int64_t>(count));
      size_t end = 0;
      for (const Segment& segment : segments) {
        if (segment.count() > 0) ends.push_back(end += static_cast<size_t>(segment.count()));
      }
    } else {
      for (size_t end = block_; end < count; end += block_) ends.push_back(end);
      ends.push_back(count);
    }
    return ends;
  }

  const bool unbiased_;
  const size_t block_;
};

absl::StatusOr<std::unique_ptr<Codec>> MakeSign(const CodecOptions& options) {
  FEDWATT_RETURN_IF_ERROR(internal::CheckOptionNames("sign", options, {"scale", "block"}));
  bool unbiased = false;
  if (const auto it = options.find("scale"); it != options.end()) {
    if (it->second != "mean" && it->second != "unbiased") {
      return absl::InvalidArgumentError(absl::StrCat("codec 'sign': scale = '", it->second, "', expected mean or unbiased"));
    }
    unbiased = it->second == "unbiased";
  }
  FEDWATT_ASSIGN_OR_RETURN(int64_t block, internal::IntegerOption("sign", options, "block", 4096, 0, 1 << 24));
  return std::make_unique<Sign>(unbiased, static_cast<size_t>(block));
}

}  // namespace

namespace internal {

void InstallCodec_sign(CodecRegistry& registry) { FEDWATT_CHECK(registry.Register("sign", MakeSign).ok()); }

}  // namespace internal
}  // namespace fedwatt

#endif  // HWY_ONCE

// int8, int4, int2: blocks of `block` values (default 256, the last may be shorter) share one float32 scale; each value is a signed code of
// 8, 4 or 2 bits, with L = 127, 7 or 1 levels on either side of zero.
//
//   scale_b = the smallest float32 >= max |x| / L over block b        (0 for a block of zeros)
//   code_i  = floor(x_i / scale_b + u_i),  u_i uniform in (0, 1)       in [-L, L]
//   decoded = code_i * scale_b
//
// Stochastic rounding (Alistarh et al. 2017, arXiv 1610.02132, section 3.1, with one level set a block): E[decoded] = x up to 2^-33 of a step.
// u_i = (k_i + 1/2) / 2^32, where k_i are the lower and then the upper halves of Random(context.seed).Next(), in coordinate order;
// each block starts with a fresh word.
// |error| < scale_b. Bytes: ceil(n / block) scales, then n codes in two's complement, little-endian, the first in the lowest bits of its byte; places
// left in the last byte hold -L - 1, which is no code. A value takes 1.016, 0.516 or 0.266 bytes.
// Option: block=N, N in [1, 65536].
// Vectorised, one source for all instruction sets; each value is computed alike on all of them.
#include <cstddef>
#include <cstdint>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "codecs/stochastic_uniform.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace fedwatt::internal {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// The largest |x| as float bits, which order like the values do; those of infinity or more when one is not finite.
uint32_t MaxMagnitudeKernel(const float* values, size_t count) {
  const hn::ScalableTag<int32_t> di;
  const hn::Rebind<float, decltype(di)> df;
  const size_t lanes = hn::Lanes(di);
  const auto mask = hn::Set(di, 0x7fffffff);
  auto most = hn::Zero(di);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) most = hn::Max(most, hn::And(hn::BitCast(di, hn::LoadU(df, values + i)), mask));
  int32_t result = hn::GetLane(hn::MaxOfLanes(di, most));
  for (; i < count; ++i) {
    int32_t bits;
    hwy::CopyBytes<sizeof(bits)>(values + i, &bits);
    bits &= 0x7fffffff;
    result = bits > result ? bits : result;
  }
  return static_cast<uint32_t>(result);
}

// codes[i] = floor(values[i] * inverse + (random[i] + 1/2) / 2^32), clamped to [-levels, levels].
void QuantizeKernel(const float* values, size_t count, double inverse, const uint32_t* random, int32_t levels, int8_t* codes) {
  size_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::CappedTag<double, 8> dd;
  const hn::Rebind<uint64_t, decltype(dd)> du64;
  const hn::Rebind<uint32_t, decltype(dd)> du32;
  const hn::Rebind<int32_t, decltype(dd)> di32;
  const hn::Rebind<float, decltype(dd)> df;
  const hn::Rebind<int8_t, decltype(dd)> di8;
  const size_t lanes = hn::Lanes(dd);
  // random | 2^52 as bits is the double 2^52 + random, so that 2^52 - 1/2 less is random + 1/2.
  const auto two52 = hn::Set(du64, uint64_t{0x433} << 52);
  const auto less = hn::Set(dd, 0x1p52 - 0.5), unit = hn::Set(dd, 0x1p-32), shift = hn::Set(dd, 128), inverses = hn::Set(dd, inverse);
  const auto low = hn::Set(di32, 128 - levels), high = hn::Set(di32, 128 + levels), back = hn::Set(di32, 128);
  for (; i + lanes <= count; i += lanes) {
    const auto words = hn::PromoteTo(du64, hn::LoadU(du32, random + i));
    const auto offset = hn::Add(hn::Mul(hn::Sub(hn::BitCast(dd, hn::Or(words, two52)), less), unit), shift);
    const auto scaled = hn::Mul(hn::PromoteTo(dd, hn::LoadU(df, values + i)), inverses);
    // 128 makes the truncation a floor.
    const auto code = hn::DemoteTo(di32, hn::Add(scaled, offset));
    hn::StoreU(hn::DemoteTo(di8, hn::Sub(hn::Min(hn::Max(code, low), high), back)), di8, codes + i);
  }
#endif
  for (; i < count; ++i) {
    const double offset = 128 + (static_cast<double>(random[i]) + 0.5) * 0x1p-32;
    const int32_t code = static_cast<int32_t>(values[i] * inverse + offset) - 128;
    codes[i] = static_cast<int8_t>(code < -levels ? -levels : code > levels ? levels : code);
  }
}

// values[i] = codes[i] * scale.
void DequantizeKernel(const int8_t* codes, size_t count, float scale, float* values) {
  const hn::ScalableTag<float> df;
  const hn::Rebind<int32_t, decltype(df)> di32;
  const hn::Rebind<int8_t, decltype(df)> di8;
  const size_t lanes = hn::Lanes(df);
  const auto scales = hn::Set(df, scale);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto code = hn::PromoteTo(di32, hn::LoadU(di8, codes + i));
    hn::StoreU(hn::Mul(hn::ConvertTo(df, code), scales), df, values + i);
  }
  for (; i < count; ++i) values[i] = static_cast<float>(codes[i]) * scale;
}

// The lowest code, 0 if none is negative.
int32_t LowestCodeKernel(const int8_t* codes, size_t count) {
  const hn::ScalableTag<int8_t> d;
  const size_t lanes = hn::Lanes(d);
  auto lowest = hn::Zero(d);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) lowest = hn::Min(lowest, hn::LoadU(d, codes + i));
  int8_t by_lane[HWY_MAX_BYTES];
  hn::StoreU(lowest, d, by_lane);
  int8_t result = 0;
  for (size_t lane = 0; lane < lanes; ++lane) result = by_lane[lane] < result ? by_lane[lane] : result;
  for (; i < count; ++i) result = codes[i] < result ? codes[i] : result;
  return result;
}

}  // namespace HWY_NAMESPACE
}  // namespace fedwatt::internal
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include <algorithm>
#include <array>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <vector>

#include "absl/strings/numbers.h"
#include "codec_support.h"
#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/rejection.h"
#include "stage_support.h"

namespace fedwatt {
namespace internal {

HWY_EXPORT(MaxMagnitudeKernel);
HWY_EXPORT(QuantizeKernel);
HWY_EXPORT(DequantizeKernel);
HWY_EXPORT(LowestCodeKernel);

}  // namespace internal

namespace {

constexpr uint32_t kInfinity = 0x7f800000u;
constexpr size_t kChunk = 4096;  // codes that are checked and used while they are in the first-level cache

// Codes of `bits` bits each; 8 / bits of them lie in a byte.
void PackCodes(const std::vector<int8_t>& codes, int bits, char* out) {
  const size_t per_byte = static_cast<size_t>(8 / bits);
  const uint32_t mask = (1u << bits) - 1;
  const int8_t filler = static_cast<int8_t>(-(1 << (bits - 1)));
  for (size_t i = 0; i < codes.size(); i += per_byte) {
    uint32_t byte = 0;
    for (size_t j = 0; j < per_byte; ++j) {
      const int8_t code = i + j < codes.size() ? codes[i + j] : filler;
      byte |= (static_cast<uint32_t>(code) & mask) << (static_cast<int>(j) * bits);
    }
    *out++ = static_cast<char>(byte);
  }
}

int8_t UnpackCode(const char* packed, int bits, size_t i) {
  const size_t per_byte = static_cast<size_t>(8 / bits);
  const int shift = 8 - bits - static_cast<int>(i % per_byte) * bits;
  return static_cast<int8_t>(static_cast<int8_t>(static_cast<uint8_t>(packed[i / per_byte]) << shift) >> (8 - bits));
}

// Codes [begin, begin + count). Whole bytes by a table of what each byte holds.
template <int kBits>
void UnpackCodes(const char* packed, size_t begin, size_t count, int8_t* codes) {
  constexpr size_t kPerByte = 8 / kBits;
  static const auto& table = *[] {
    auto* made = new std::array<std::array<int8_t, kPerByte>, 256>;
    for (size_t byte = 0; byte < 256; ++byte) {
      const char held = static_cast<char>(byte);
      for (size_t j = 0; j < kPerByte; ++j) (*made)[byte][j] = UnpackCode(&held, kBits, j);
    }
    return made;
  }();
  const size_t end = begin + count;
  size_t i = begin;
  for (; i < end && i % kPerByte != 0; ++i) *codes++ = UnpackCode(packed, kBits, i);
  for (; i + kPerByte <= end; i += kPerByte, codes += kPerByte)
    std::memcpy(codes, table[static_cast<uint8_t>(packed[i / kPerByte])].data(), kPerByte);
  for (; i < end; ++i) *codes++ = UnpackCode(packed, kBits, i);
}

class StochasticUniform : public Codec {
 public:
  StochasticUniform(std::string_view name, int bits, size_t block) : name_(name), bits_(bits), levels_((1 << (bits - 1)) - 1), block_(block), max_scale_(MaxScale(levels_)) {}
  std::string_view name() const override { return name_; }

  absl::StatusOr<std::string> Encode(absl::Span<const float> values, const CodingContext& context) const override {
    const size_t blocks = BlockCount(values.size());
    std::string bytes(blocks * sizeof(float) + CodeBytes(values.size()), '\0');
    char* const packed = bytes.data() + blocks * sizeof(float);
    std::vector<int8_t> unpacked(bits_ == 8 ? 0 : values.size());
    int8_t* const codes = bits_ == 8 ? reinterpret_cast<int8_t*>(packed) : unpacked.data();
    Random random(context.seed);
    std::vector<uint32_t> halves(std::min(block_, values.size()) + 1);
    for (size_t b = 0; b < blocks; ++b) {
      const size_t begin = b * block_;
      const size_t count = std::min(block_, values.size() - begin);
      const float* in = values.data() + begin;
      const uint32_t most = HWY_DYNAMIC_DISPATCH(internal::MaxMagnitudeKernel)(in, count);
      if (most >= kInfinity) {
        return WithRejection(
            absl::InvalidArgumentError(absl::StrCat(std::string(name_), ": a value in [", begin, ", ", begin + count, ") is not finite")),
            Rejection::kNotFinite);
      }
      const float scale = ScaleFor(std::bit_cast<float>(most));
      std::memcpy(bytes.data() + b * sizeof(float), &scale, sizeof(scale));
      // Drawn for zero blocks as well: a coordinate's random number depends on its place alone.
      for (size_t i = 0; i < count; i += 2) {
        const uint64_t word = random.Next();
        halves[i] = static_cast<uint32_t>(word);
        halves[i + 1] = static_cast<uint32_t>(word >> 32);
      }
      if (scale == 0) continue;
      HWY_DYNAMIC_DISPATCH(internal::QuantizeKernel)(in, count, 1.0 / scale, halves.data(), levels_, codes + begin);
    }
    if (bits_ != 8) PackCodes(unpacked, bits_, packed);
    return bytes;
  }

  absl::Status Decode(std::string_view bytes, const CodingContext& context, absl::Span<float> out) const override {
    return Read(bytes, out.size(), [&](const ValueBlock& block) {
      for (size_t i = 0; i < block.count;) {
        const size_t position = block.begin + i, run = std::min(block_ - position % block_, block.count - i);
        float scale;
        std::memcpy(&scale, bytes.data() + position / block_ * sizeof(float), sizeof(scale));
        HWY_DYNAMIC_DISPATCH(internal::DequantizeKernel)(reinterpret_cast<const int8_t*>(block.data) + i, run, scale, out.data() + position);
        i += run;
      }
      return true;
    });
  }

  bool VisitBlocks(std::string_view bytes, const CodingContext& context, BlockVisitor visit) const override {
    bool good = true;
    return Read(bytes, static_cast<size_t>(internal::CountValues(context.segments)), [&](const ValueBlock& block) { return good = visit(block); }).ok() &&
           good;
  }

  double ErrorBound(double max_abs) const override { return max_abs / levels_ * (1 + 0x1p-20) + 0x1p-149; }

 private:
  // Checks what Encode never writes and shows the codes chunk by chunk, until `visit` returns false.
  absl::Status Read(std::string_view bytes, size_t count, BlockVisitor visit) const {
    const size_t blocks = BlockCount(count);
    const size_t code_bytes = CodeBytes(count);
    FEDWATT_RETURN_IF_ERROR(internal::CheckEncodedSize(name_, blocks * sizeof(float) + code_bytes, bytes.size()));
    const char* const packed = bytes.data() + blocks * sizeof(float);
    for (size_t i = count; i < code_bytes * 8 / static_cast<size_t>(bits_); ++i) {
      if (UnpackCode(packed, bits_, i) != -levels_ - 1) return absl::DataLossError(absl::StrCat(std::string(name_), ": a code beyond the last"));
    }
    for (size_t b = 0; b < blocks; ++b) {
      uint32_t scale;
      std::memcpy(&scale, bytes.data() + b * sizeof(scale), sizeof(scale));
      // As bits: refuses NaN, infinity, negative numbers and scales whose largest code would overflow.
      if (scale > max_scale_) return absl::DataLossError(absl::StrCat(std::string(name_), ": the scale of block ", b, " is not a finite number >= 0"));
    }
    int8_t unpacked[kChunk];
    for (size_t begin = 0; begin < count; begin += kChunk) {
      const size_t in_chunk = std::min(kChunk, count - begin);
      const int8_t* codes = reinterpret_cast<const int8_t*>(packed) + begin;
      if (bits_ != 8) {
        bits_ == 4 ? UnpackCodes<4>(packed, begin, in_chunk, unpacked) : UnpackCodes<2>(packed, begin, in_chunk, unpacked);
        codes = unpacked;
      }
      if (const int lowest = HWY_DYNAMIC_DISPATCH(internal::LowestCodeKernel)(codes, in_chunk); lowest < -levels_) {
        const size_t at = begin + static_cast<size_t>(std::find(codes, codes + in_chunk, static_cast<int8_t>(lowest)) - codes);
        return absl::DataLossError(absl::StrCat(std::string(name_), ": code ", lowest, " in block ", at / block_));
      }
      if (!visit({.kind = ValueBlock::Kind::kCodes,
                  .begin = begin,
                  .count = in_chunk,
                  .data = reinterpret_cast<const char*>(codes),
                  .scales = bytes.data() + begin / block_ * sizeof(float),
                  .per_scale = block_,
                  .skipped = begin % block_})) {
        break;
      }
    }
    return absl::OkStatus();
  }
  static uint32_t MaxScale(int levels) {
    float scale = FLT_MAX / static_cast<float>(levels);
    while (!std::isfinite(scale * static_cast<float>(levels))) scale = std::nextafter(scale, 0.0f);
    while (std::isfinite(std::nextafter(scale, INFINITY) * static_cast<float>(levels))) scale = std::nextafter(scale, INFINITY);
    return std::bit_cast<uint32_t>(scale);
  }
  float ScaleFor(float max_abs) const {
    const double levels = levels_;
    float scale = static_cast<float>(max_abs / levels);
    if (scale * levels < max_abs) scale = std::nextafter(scale, FLT_MAX);
    // So that levels * scale stays finite; costs at most two ulps at the very end of float's range.
    return std::min(scale, std::nextafter(FLT_MAX / static_cast<float>(levels_), 0.0f));
  }
  size_t BlockCount(size_t values) const { return (values + block_ - 1) / block_; }
  size_t CodeBytes(size_t values) const { return (values * static_cast<size_t>(bits_) + 7) / 8; }

  const std::string_view name_;  // a literal
  const int bits_;
  const int levels_;
  const size_t block_;
  // The largest scale whose largest value is finite, as float bits.
  const uint32_t max_scale_;
};

void Install(const char* name, int bits, CodecRegistry& registry) {
  const auto make = [name, bits](const CodecOptions& options) -> absl::StatusOr<std::unique_ptr<Codec>> {
    FEDWATT_RETURN_IF_ERROR(internal::CheckOptionNames(name, options, {"block"}));
    int block = 256;
    if (auto it = options.find("block"); it != options.end()) {
      if (!absl::SimpleAtoi(it->second, &block) || block < 1 || block > 65536) {
        return absl::InvalidArgumentError(absl::StrCat("codec '", name, "': block = '", it->second, "', expected [1, 65536]"));
      }
    }
    return std::make_unique<StochasticUniform>(name, bits, static_cast<size_t>(block));
  };
  FEDWATT_CHECK(registry.Register(name, make).ok());
}

}  // namespace

namespace internal {

void InstallCodec_int8(CodecRegistry& registry) { Install("int8", 8, registry); }
void InstallCodec_int4(CodecRegistry& registry) { Install("int4", 4, registry); }
void InstallCodec_int2(CodecRegistry& registry) { Install("int2", 2, registry); }

}  // namespace internal
}  // namespace fedwatt

#endif  // HWY_ONCE

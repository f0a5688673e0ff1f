// int8, int4, int2: blocks of `block` values (default 256, the last may be shorter) share one float32 scale; each value is a signed code of
// 8, 4 or 2 bits, with L = 127, 7 or 1 levels on either side of zero.
//
//   scale_b = the smallest float32 >= max |x| / L over block b        (0 for a block of zeros)
//   code_i  = floor(x_i / scale_b + u_i),  u_i uniform in (0, 1)       in [-L, L]
//   decoded = code_i * scale_b
//
// Stochastic rounding (Alistarh et al. 2017, arXiv 1610.02132, section 3.1, with one level set a block): E[decoded] = x up to 2^-33 of a step.
// u_i = (k_i + 1/2) / 2^32, where the k_i of a block are the next words of 16 generators taking turns; each block starts with the first of them. Their
// states are 4 words each, the halves of Random(context.seed).Next(), lower first: the first words of all 16, then the second ones, and so on.
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

// The next `rows` words of each of 16 generators, xoshiro128++ 1.0 (Blackman, Vigna 2019, public domain algorithm), row by row.
void RandomWordsKernel(uint32_t* state, size_t rows, uint32_t* words) {
  const hn::CappedTag<uint32_t, 16> d;
  for (size_t lane = 0; lane < 16; lane += hn::Lanes(d)) {
    auto s0 = hn::LoadU(d, state + lane), s1 = hn::LoadU(d, state + 16 + lane), s2 = hn::LoadU(d, state + 32 + lane), s3 = hn::LoadU(d, state + 48 + lane);
    for (size_t row = 0; row < rows; ++row) {
      hn::StoreU(hn::Add(hn::RotateRight<25>(hn::Add(s0, s3)), s0), d, words + row * 16 + lane);
      const auto t = hn::ShiftLeft<9>(s1);
      s2 = hn::Xor(s2, s0);
      s3 = hn::Xor(s3, s1);
      s1 = hn::Xor(s1, s2);
      s0 = hn::Xor(s0, s3);
      s2 = hn::Xor(s2, t);
      s3 = hn::RotateRight<21>(s3);
    }
    hn::StoreU(s0, d, state + lane);
    hn::StoreU(s1, d, state + 16 + lane);
    hn::StoreU(s2, d, state + 32 + lane);
    hn::StoreU(s3, d, state + 48 + lane);
  }
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

// `count` bytes of 2 or 4 codes each, between them and the codes one by one. The codes of a byte are a word of `Wide`, which is small enough for a signed
// one when packed.
template <typename Wide, int kBits>
void Pack(const int8_t* codes, size_t count, uint8_t* packed) {
  constexpr size_t kPerByte = sizeof(Wide);
  size_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::ScalableTag<Wide> d;
  const hn::RebindToSigned<decltype(d)> di;
  const hn::Rebind<uint8_t, decltype(d)> d8;
  const size_t lanes = hn::Lanes(d);
  const auto mask = hn::Set(d, (1u << kBits) - 1);
  for (; i + lanes <= count; i += lanes) {
    const auto word = hn::LoadU(d, reinterpret_cast<const Wide*>(codes + i * kPerByte));
    auto byte = hn::And(word, mask);
    byte = hn::Or(byte, hn::And(hn::ShiftRight<8 - kBits>(word), hn::ShiftLeft<kBits>(mask)));
    if constexpr (kPerByte == 4) {
      byte = hn::Or(byte, hn::And(hn::ShiftRight<16 - 2 * kBits>(word), hn::ShiftLeft<2 * kBits>(mask)));
      byte = hn::Or(byte, hn::And(hn::ShiftRight<24 - 3 * kBits>(word), hn::ShiftLeft<3 * kBits>(mask)));
    }
    hn::StoreU(hn::DemoteTo(d8, hn::BitCast(di, byte)), d8, packed + i);
  }
#endif
  for (; i < count; ++i) {
    uint32_t byte = 0;
    for (size_t j = 0; j < kPerByte; ++j) byte |= (static_cast<uint32_t>(codes[i * kPerByte + j]) & ((1u << kBits) - 1)) << (j * kBits);
    packed[i] = static_cast<uint8_t>(byte);
  }
}

template <typename Wide, int kBits>
void Unpack(const uint8_t* packed, size_t count, int8_t* codes) {
  constexpr size_t kPerByte = sizeof(Wide);
  constexpr int8_t kSign = 1 << (kBits - 1);
  size_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::ScalableTag<Wide> d;
  const hn::Repartition<int8_t, decltype(d)> d8;
  const hn::Rebind<uint8_t, decltype(d)> du8;
  const size_t lanes = hn::Lanes(d);
  const auto mask = hn::Set(d, (1u << kBits) - 1);
  const auto sign = hn::Set(d8, kSign);
  for (; i + lanes <= count; i += lanes) {
    const auto byte = hn::PromoteTo(d, hn::LoadU(du8, packed + i));
    auto word = hn::Or(hn::And(byte, mask), hn::ShiftLeft<8>(hn::And(hn::ShiftRight<kBits>(byte), mask)));
    if constexpr (kPerByte == 4) {
      word = hn::Or(word, hn::ShiftLeft<16>(hn::And(hn::ShiftRight<2 * kBits>(byte), mask)));
      word = hn::Or(word, hn::ShiftLeft<24>(hn::ShiftRight<3 * kBits>(byte)));
    }
    hn::StoreU(hn::Sub(hn::Xor(hn::BitCast(d8, word), sign), sign), d8, codes + i * kPerByte);
  }
#endif
  for (; i < count; ++i) {
    for (size_t j = 0; j < kPerByte; ++j) {
      const int32_t code = packed[i] >> (j * kBits) & ((1 << kBits) - 1);
      codes[i * kPerByte + j] = static_cast<int8_t>((code ^ kSign) - kSign);
    }
  }
}

void PackKernel(const int8_t* codes, size_t count, int32_t bits, uint8_t* packed) {
  bits == 4 ? Pack<uint16_t, 4>(codes, count, packed) : Pack<uint32_t, 2>(codes, count, packed);
}
void UnpackKernel(const uint8_t* packed, size_t count, int32_t bits, int8_t* codes) {
  bits == 4 ? Unpack<uint16_t, 4>(packed, count, codes) : Unpack<uint32_t, 2>(packed, count, codes);
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
#include "kernels.h"
#include "stage_support.h"

namespace fedwatt {
namespace internal {

HWY_EXPORT(RandomWordsKernel);
HWY_EXPORT(QuantizeKernel);
HWY_EXPORT(DequantizeKernel);
HWY_EXPORT(LowestCodeKernel);
HWY_EXPORT(PackKernel);
HWY_EXPORT(UnpackKernel);

}  // namespace internal

namespace {

constexpr uint32_t kInfinity = 0x7f800000u;
constexpr size_t kChunk = 4096;  // codes that are checked and used while they are in the first-level cache

// Codes of `bits` bits each; 8 / bits of them lie in a byte.
void PackCodes(const std::vector<int8_t>& codes, int bits, char* out) {
  const size_t per_byte = static_cast<size_t>(8 / bits), whole = codes.size() / per_byte;
  auto* const packed = reinterpret_cast<uint8_t*>(out);
  HWY_DYNAMIC_DISPATCH(internal::PackKernel)(codes.data(), whole, bits, packed);
  if (whole * per_byte == codes.size()) return;
  int8_t last[4];
  std::fill(std::begin(last), std::end(last), static_cast<int8_t>(-(1 << (bits - 1))));  // the filler
  std::copy(codes.begin() + static_cast<std::ptrdiff_t>(whole * per_byte), codes.end(), last);
  HWY_DYNAMIC_DISPATCH(internal::PackKernel)(last, 1, bits, packed + whole);
}

// Codes [begin, begin + count), begin at a whole byte; up to 3 more are written.
void UnpackCodes(const char* packed, int bits, size_t begin, size_t count, int8_t* codes) {
  const size_t per_byte = static_cast<size_t>(8 / bits);
  HWY_DYNAMIC_DISPATCH(internal::UnpackKernel)(reinterpret_cast<const uint8_t*>(packed) + begin / per_byte, (count + per_byte - 1) / per_byte, bits, codes);
}

class RandomWords {
 public:
  static constexpr size_t kLanes = 16;
  explicit RandomWords(uint64_t seed) {
    Random random(seed);
    for (size_t i = 0; i < 4 * kLanes; i += 2) {
      const uint64_t both = random.Next();
      state_[i] = static_cast<uint32_t>(both);
      state_[i + 1] = static_cast<uint32_t>(both >> 32);
    }
  }
  // Writes `count` words, and up to kLanes - 1 more.
  void Fill(size_t count, uint32_t* words) { HWY_DYNAMIC_DISPATCH(internal::RandomWordsKernel)(state_, (count + kLanes - 1) / kLanes, words); }

 private:
  uint32_t state_[4 * kLanes];
};

class StochasticUniform : public Codec {
 public:
  StochasticUniform(std::string_view name, int bits, size_t block)
      : name_(name), bits_(bits), levels_((1 << (bits - 1)) - 1), block_(block), max_scale_(MaxScale(levels_)) {}
  std::string_view name() const override { return name_; }

  absl::StatusOr<std::string> Encode(absl::Span<const float> values, const CodingContext& context) const override {
    const size_t blocks = BlockCount(values.size());
    std::string bytes(blocks * sizeof(float) + CodeBytes(values.size()), '\0');
    char* const packed = bytes.data() + blocks * sizeof(float);
    std::vector<int8_t> unpacked(bits_ == 8 ? 0 : values.size());
    int8_t* const codes = bits_ == 8 ? reinterpret_cast<int8_t*>(packed) : unpacked.data();
    RandomWords random(context.seed);
    std::vector<uint32_t> words(std::min(block_, values.size()) + RandomWords::kLanes);
    for (size_t b = 0; b < blocks; ++b) {
      const size_t begin = b * block_;
      const size_t count = std::min(block_, values.size() - begin);
      const float* in = values.data() + begin;
      const uint32_t most = internal::MaxMagnitudeBits({in, count});
      if (most >= kInfinity) {
        return WithRejection(
            absl::InvalidArgumentError(absl::StrCat(std::string(name_), ": a value in [", begin, ", ", begin + count, ") is not finite")),
            Rejection::kNotFinite);
      }
      const float scale = ScaleFor(std::bit_cast<float>(most));
      std::memcpy(bytes.data() + b * sizeof(float), &scale, sizeof(scale));
      // Drawn for zero blocks as well: a coordinate's random number depends on its place alone.
      random.Fill(count, words.data());
      if (scale == 0) continue;
      HWY_DYNAMIC_DISPATCH(internal::QuantizeKernel)(in, count, 1.0 / scale, words.data(), levels_, codes + begin);
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
    const size_t per_byte = static_cast<size_t>(8 / bits_);
    if (count % per_byte != 0) {
      int8_t last[4];
      UnpackCodes(packed, bits_, count / per_byte * per_byte, 1, last);
      for (size_t i = count % per_byte; i < per_byte; ++i) {
        if (last[i] != -levels_ - 1) return absl::DataLossError(absl::StrCat(std::string(name_), ": a code beyond the last"));
      }
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
        UnpackCodes(packed, bits_, begin, in_chunk, unpacked);
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

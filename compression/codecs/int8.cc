// int8: blocks of `block` values (default 256, the last may be shorter) share one float32 scale; each value is one signed byte.
//
//   scale_b = the smallest float32 >= max |x| / 127 over block b        (0 for a block of zeros)
//   code_i  = floor(x_i / scale_b + u_i),  u_i uniform in (0, 1)         in [-127, 127]
//   decoded = code_i * scale_b
//
// Stochastic rounding (Alistarh et al. 2017, arXiv 1610.02132, section 3.1, with one level set a block): E[decoded] = x up to 2^-33 of a step.
// u_i = (k_i + 1/2) / 2^32, where k_i are the lower and then the upper halves of Random(context.seed).Next(), in coordinate order;
// each block starts with a fresh word.
// |error| < scale_b. Bytes: ceil(n / block) scales, then n codes, little-endian: 1.016 bytes a value. -128 is never written.
// Option: block=N, N in [1, 65536].
#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "absl/strings/numbers.h"
#include "codec_support.h"
#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/rejection.h"

namespace fedwatt {
namespace {

constexpr uint32_t kMagnitude = 0x7fffffffu;
constexpr uint32_t kInfinity = 0x7f800000u;

// The largest |x| as float bits, which order like the values do; kInfinity or more when one is not finite.
uint32_t MaxMagnitude(const float* values, size_t count) {
  int32_t most = 0;
  for (size_t i = 0; i < count; ++i) most = std::max(most, static_cast<int32_t>(std::bit_cast<uint32_t>(values[i]) & kMagnitude));
  return static_cast<uint32_t>(most);
}

float ScaleFor(float max_abs) {
  float scale = static_cast<float>(max_abs / 127.0);
  if (scale * 127.0 < max_abs) scale = std::nextafter(scale, FLT_MAX);
  // So that 127 * scale stays finite; costs at most two ulps at the very end of float's range.
  return std::min(scale, std::nextafter(FLT_MAX / 127, 0.0f));
}

class Int8 : public Codec {
 public:
  explicit Int8(size_t block) : block_(block) {}
  std::string_view name() const override { return "int8"; }

  absl::StatusOr<std::string> Encode(absl::Span<const float> values, const CodingContext& context) const override {
    const size_t blocks = BlockCount(values.size());
    std::string bytes(blocks * sizeof(float) + values.size(), '\0');
    auto* codes = reinterpret_cast<int8_t*>(bytes.data() + blocks * sizeof(float));
    Random random(context.seed);
    std::vector<double> offsets(block_ + 1);
    for (size_t b = 0; b < blocks; ++b) {
      const size_t begin = b * block_;
      const size_t count = std::min(block_, values.size() - begin);
      const float* in = values.data() + begin;
      const uint32_t most = MaxMagnitude(in, count);
      if (most >= kInfinity) {
        return WithRejection(absl::InvalidArgumentError(absl::StrCat("int8: a value in [", begin, ", ", begin + count, ") is not finite")),
                             Rejection::kNotFinite);
      }
      const float scale = ScaleFor(std::bit_cast<float>(most));
      std::memcpy(bytes.data() + b * sizeof(float), &scale, sizeof(scale));
      // Drawn for zero blocks as well: a coordinate's random number depends on its place alone.
      for (size_t i = 0; i < count; i += 2) {
        const uint64_t word = random.Next();
        // 128 makes the truncation below a floor.
        offsets[i] = 128 + (static_cast<double>(static_cast<uint32_t>(word)) + 0.5) * 0x1p-32;
        offsets[i + 1] = 128 + (static_cast<double>(word >> 32) + 0.5) * 0x1p-32;
      }
      if (scale == 0) continue;
      const double inverse = 1.0 / scale;
      for (size_t i = 0; i < count; ++i) {
        const int32_t code = static_cast<int32_t>(in[i] * inverse + offsets[i]) - 128;
        codes[begin + i] = static_cast<int8_t>(std::clamp(code, -127, 127));
      }
    }
    return bytes;
  }

  absl::Status Decode(std::string_view bytes, const CodingContext& context, absl::Span<float> out) const override {
    const size_t blocks = BlockCount(out.size());
    FEDWATT_RETURN_IF_ERROR(internal::CheckEncodedSize(name(), blocks * sizeof(float) + out.size(), bytes.size()));
    const auto* codes = reinterpret_cast<const int8_t*>(bytes.data() + blocks * sizeof(float));
    for (size_t b = 0; b < blocks; ++b) {
      float scale;
      std::memcpy(&scale, bytes.data() + b * sizeof(float), sizeof(scale));
      // One comparison refuses NaN, infinity, negative numbers and scales whose largest code would overflow.
      if (std::bit_cast<uint32_t>(scale) > kInfinity || !std::isfinite(scale * 127)) {
        return absl::DataLossError(absl::StrCat("int8: the scale of block ", b, " is not a finite number >= 0"));
      }
      const size_t begin = b * block_;
      const size_t count = std::min(block_, out.size() - begin);
      int lowest = 0;
      for (size_t i = 0; i < count; ++i) {
        const int code = codes[begin + i];
        lowest = std::min(lowest, code);
        out[begin + i] = static_cast<float>(code) * scale;
      }
      if (lowest < -127) return absl::DataLossError(absl::StrCat("int8: code -128 in block ", b));
    }
    return absl::OkStatus();
  }

  double ErrorBound(double max_abs) const override { return max_abs / 127 * (1 + 0x1p-20) + 0x1p-149; }

 private:
  size_t BlockCount(size_t values) const { return (values + block_ - 1) / block_; }

  const size_t block_;
};

absl::StatusOr<std::unique_ptr<Codec>> MakeInt8(const CodecOptions& options) {
  FEDWATT_RETURN_IF_ERROR(internal::CheckOptionNames("int8", options, {"block"}));
  int block = 256;
  if (auto it = options.find("block"); it != options.end()) {
    if (!absl::SimpleAtoi(it->second, &block) || block < 1 || block > 65536) {
      return absl::InvalidArgumentError(absl::StrCat("codec 'int8': block = '", it->second, "', expected [1, 65536]"));
    }
  }
  return std::make_unique<Int8>(static_cast<size_t>(block));
}

}  // namespace

namespace internal {

void InstallCodec_int8(CodecRegistry& registry) { FEDWATT_CHECK(registry.Register("int8", MakeInt8).ok()); }

}  // namespace internal
}  // namespace fedwatt

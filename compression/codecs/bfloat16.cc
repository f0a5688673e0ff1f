// bfloat16: the upper half of each float32, rounded to nearest, ties to even; 2 bytes a value, little-endian. A finite value beyond
// bfloat16's largest becomes that largest, never infinity; NaN stays NaN (quiet).
//
// |error| <= 2^-8 |value| (7 stored significand bits and a hidden one), or 2^-134 for subnormals.
#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

#include "codec_support.h"
#include "fedwatt/base/status_macros.h"
#include "stage_support.h"

namespace fedwatt {
namespace {

inline uint16_t ToBfloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t rounded = (magnitude + 0x7fffu + ((magnitude >> 16) & 1u)) >> 16;
  const uint32_t finite = std::min(rounded, 0x7f7fu);
  const uint32_t special = magnitude > 0x7f800000u ? 0x7fc0u : 0x7f80u;
  return static_cast<uint16_t>(sign | (magnitude >= 0x7f800000u ? special : finite));
}

class Bfloat16 : public Codec {
 public:
  std::string_view name() const override { return "bfloat16"; }

  absl::StatusOr<std::string> Encode(absl::Span<const float> values, const CodingContext& context) const override {
    std::string bytes(values.size() * sizeof(uint16_t), '\0');
    char* to = bytes.data();
    for (size_t i = 0; i < values.size(); ++i) {
      const uint16_t code = ToBfloat16(values[i]);
      std::memcpy(to + i * sizeof(code), &code, sizeof(code));
    }
    return bytes;
  }

  absl::Status Decode(std::string_view bytes, const CodingContext& context, absl::Span<float> out) const override {
    FEDWATT_RETURN_IF_ERROR(internal::CheckEncodedSize(name(), out.size() * sizeof(uint16_t), bytes.size()));
    const char* from = bytes.data();
    for (size_t i = 0; i < out.size(); ++i) {
      uint16_t code;
      std::memcpy(&code, from + i * sizeof(code), sizeof(code));
      out[i] = std::bit_cast<float>(static_cast<uint32_t>(code) << 16);
    }
    return absl::OkStatus();
  }

  bool VisitBlocks(std::string_view bytes, const CodingContext& context, BlockVisitor visit) const override {
    const size_t count = static_cast<size_t>(internal::CountValues(context.segments));
    return bytes.size() == count * sizeof(uint16_t) && visit({.kind = ValueBlock::Kind::kBfloat16, .count = count, .data = bytes.data()});
  }

  double ErrorBound(double max_abs) const override { return std::max(max_abs * 0x1p-8, 0x1p-134); }
};

}  // namespace

namespace internal {

void InstallCodec_bfloat16(CodecRegistry& registry) {
  FEDWATT_CHECK(registry
                    .Register("bfloat16",
                              [](const CodecOptions& options) -> absl::StatusOr<std::unique_ptr<Codec>> {
                                FEDWATT_RETURN_IF_ERROR(CheckOptionNames("bfloat16", options));
                                return std::make_unique<Bfloat16>();
                              })
                    .ok());
}

}  // namespace internal
}  // namespace fedwatt

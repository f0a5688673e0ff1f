// float32: the values themselves, 4 bytes each, little-endian. Lossless, NaN included: whether a value is acceptable is for the
// guard behind the decoder to say.
#include <cstring>

#include "codec_support.h"
#include "fedwatt/base/status_macros.h"
#include "stage_support.h"

namespace fedwatt {
namespace {

class Float32 : public Codec {
 public:
  std::string_view name() const override { return "float32"; }

  absl::StatusOr<std::string> Encode(absl::Span<const float> values, const CodingContext& context) const override {
    return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  }

  absl::Status Decode(std::string_view bytes, const CodingContext& context, absl::Span<float> out) const override {
    FEDWATT_RETURN_IF_ERROR(internal::CheckEncodedSize(name(), out.size() * sizeof(float), bytes.size()));
    if (!out.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
    return absl::OkStatus();
  }

  bool VisitBlocks(std::string_view bytes, const CodingContext& context, BlockVisitor visit) const override {
    const size_t count = static_cast<size_t>(internal::CountValues(context.segments));
    return bytes.size() == count * sizeof(float) && visit({.kind = ValueBlock::Kind::kFloat32, .count = count, .data = bytes.data()});
  }

  double ErrorBound(double max_abs) const override { return 0; }
};

}  // namespace

namespace internal {

void InstallCodec_float32(CodecRegistry& registry) {
  FEDWATT_CHECK(registry
                    .Register("float32",
                              [](const CodecOptions& options) -> absl::StatusOr<std::unique_ptr<Codec>> {
                                FEDWATT_RETURN_IF_ERROR(CheckOptionNames("float32", options));
                                return std::make_unique<Float32>();
                              })
                    .ok());
}

}  // namespace internal
}  // namespace fedwatt

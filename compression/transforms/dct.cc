// dct: each tensor whose values become smaller in sum of magnitudes is replaced by the cosine transform of its rows (fedwatt/compression/block_dct.h), the
// others pass unchanged. What a quantizer of one step costs follows that sum: for `dithered`, bits times variance is proportional to its square, and
// weights of images' pixels gain a factor of 2.5.
//
// Side information: one bit a segment, ceil(segments / 8) bytes, lowest bit first. Decoding gives whole vectors and costs the inverse transform.
#include <cmath>
#include <vector>

#include "codec_support.h"
#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/compression/block_dct.h"
#include "fedwatt/compression/transform.h"

namespace fedwatt {
namespace {

// A transform that hardly helps spreads what is sparse; it must earn its place.
constexpr double kLeastGain = 0.95;

double SumOfMagnitudes(absl::Span<const float> values) {
  double sum = 0;
  for (float value : values) sum += std::fabs(value);
  return sum;
}

class Dct : public Transform {
 public:
  std::string_view name() const override { return "dct"; }

  absl::Status Forward(SegmentedValues& data, const CodingContext& context, std::string& side) const override {
    std::string bits((context.segments.size() + 7) / 8, '\0');
    std::vector<float> moved;
    size_t offset = 0;
    for (size_t i = 0; i < context.segments.size(); ++i) {
      const Segment& segment = context.segments[i];
      absl::Span<float> values = absl::MakeSpan(data.values).subspan(offset, static_cast<size_t>(segment.count()));
      offset += values.size();
      if (segment.columns < 2) continue;
      moved.assign(values.begin(), values.end());
      ForwardBlockDct(segment.rows, segment.columns, absl::MakeSpan(moved));
      if (SumOfMagnitudes(moved) >= kLeastGain * SumOfMagnitudes(values)) continue;
      std::copy(moved.begin(), moved.end(), values.begin());
      bits[i / 8] = static_cast<char>(bits[i / 8] | (1 << (i % 8)));
    }
    side += bits;
    return absl::OkStatus();
  }

  absl::Status Inverse(std::string_view side, const CodingContext& context, InnerDecoder inner, DecodedValues& out) const override {
    if (side.size() != (context.segments.size() + 7) / 8) {
      return absl::DataLossError(absl::StrCat("dct: ", side.size(), " bytes of side information for ", context.segments.size(), " segments"));
    }
    out.is_sparse = false;
    FEDWATT_RETURN_IF_ERROR(inner(context.segments, out.dense));
    size_t offset = 0;
    for (size_t i = 0; i < context.segments.size(); ++i) {
      const Segment& segment = context.segments[i];
      absl::Span<float> values = absl::MakeSpan(out.dense).subspan(offset, static_cast<size_t>(segment.count()));
      offset += values.size();
      if ((side[i / 8] >> (i % 8) & 1) == 0) continue;
      InverseBlockDct(segment.rows, segment.columns, values);
      // Finite coefficients may add up to more than float32 holds.
      for (float value : values) {
        if (!std::isfinite(value)) return absl::DataLossError("dct: a value is not finite");
      }
    }
    return absl::OkStatus();
  }
};

absl::StatusOr<std::unique_ptr<Transform>> MakeDct(const CodecOptions& options) {
  FEDWATT_RETURN_IF_ERROR(internal::CheckOptionNames("dct", options));
  return std::make_unique<Dct>();
}

}  // namespace

namespace internal {

void InstallTransform_dct(TransformRegistry& registry) { FEDWATT_CHECK(registry.Register("dct", MakeDct).ok()); }

}  // namespace internal
}  // namespace fedwatt

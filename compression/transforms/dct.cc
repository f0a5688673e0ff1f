// dct: each tensor whose values become smaller in sum of magnitudes is replaced by the cosine transform of its rows, as lines or as pictures, whichever suits it
// (fedwatt/compression/block_dct.h); the others pass unchanged. What a quantizer of one step costs follows that sum: for `dithered`, bits times variance is
// proportional to its square, and weights of images' pixels gain a factor of 6 in a first round and of 2 later.
//
// Side information: one byte a segment, its DctShape. Decoding gives whole vectors and costs the inverse transform.
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

class Dct : public Transform {
 public:
  std::string_view name() const override { return "dct"; }

  absl::Status Forward(SegmentedValues& data, const CodingContext& context, std::string& side) const override {
    size_t offset = 0;
    for (const Segment& segment : context.segments) {
      absl::Span<float> values = absl::MakeSpan(data.values).subspan(offset, static_cast<size_t>(segment.count()));
      offset += values.size();
      const DctShape shape = ChooseDct(segment.rows, segment.columns, values, kLeastGain);
      ForwardDct(shape, segment.rows, segment.columns, values);
      side.push_back(static_cast<char>(shape));
    }
    return absl::OkStatus();
  }

  absl::Status Inverse(std::string_view side, const CodingContext& context, InnerDecoder inner, DecodedValues& out) const override {
    if (side.size() != context.segments.size()) {
      return absl::DataLossError(absl::StrCat("dct: ", side.size(), " bytes of side information for ", context.segments.size(), " segments"));
    }
    for (size_t i = 0; i < side.size(); ++i) {
      if (!IsDctShape(static_cast<DctShape>(side[i]), context.segments[i].columns)) {
        return absl::DataLossError(absl::StrCat("dct: no shape ", static_cast<int>(static_cast<DctShape>(side[i])), " for rows of ", context.segments[i].columns));
      }
    }
    out.is_sparse = false;
    FEDWATT_RETURN_IF_ERROR(inner(context.segments, out.dense));
    size_t offset = 0;
    for (size_t i = 0; i < context.segments.size(); ++i) {
      const Segment& segment = context.segments[i];
      absl::Span<float> values = absl::MakeSpan(out.dense).subspan(offset, static_cast<size_t>(segment.count()));
      offset += values.size();
      const DctShape shape = static_cast<DctShape>(side[i]);
      if (shape == kNoDct) continue;
      InverseDct(shape, segment.rows, segment.columns, values);
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

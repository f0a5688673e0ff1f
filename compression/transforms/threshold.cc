// threshold: keeps the values with |x| >= multiple * root of the mean square over all segments; zeros never.
//
// So the number of values follows their distribution: few of a heavy-tailed update, more of a flat one (hard-threshold sparsifier: Sahu et al. 2021,
// arXiv 2108.00951). |x - kept(x)|^2 <= min(1, multiple^2) |x|^2. Biased: use with `ef`.
//
// Option: multiple=M, M in (0, 1000], default 3. Inner segments, side information and cost: as `top_k`.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <vector>

#include "codec_support.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/compression/transform.h"
#include "kept_places.h"
#include "kernels.h"
#include "stage_support.h"

namespace fedwatt {
namespace {

class Threshold : public Transform {
 public:
  explicit Threshold(double multiple) : multiple_(multiple) {}
  std::string_view name() const override { return "threshold"; }
  bool sparse() const override { return true; }

  absl::Status Forward(SegmentedValues& data, const CodingContext& context, std::string& side) const override {
    if (data.values.empty()) return absl::OkStatus();
    const double limit = multiple_ * std::sqrt(internal::SumOfSquares(data.values) / static_cast<double>(data.values.size()));
    // The smallest float32 that is not below the limit, and at least what keeps out zeros.
    float threshold = std::max(static_cast<float>(std::min<double>(limit, FLT_MAX)), FLT_TRUE_MIN);
    if (threshold < limit) threshold = std::nextafter(threshold, FLT_MAX);
    std::vector<uint32_t> places(data.values.size() + internal::kPlacePadding);
    places.resize(internal::FindAtLeast(data.values, threshold, places.data()));
    if (limit > FLT_MAX) places.clear();
    FEDWATT_RETURN_IF_ERROR(internal::PutPlaces(context.segments, places, side));
    internal::KeepPlaces(places, data);
    return absl::OkStatus();
  }

  absl::Status Inverse(std::string_view side, const CodingContext& context, InnerDecoder inner, DecodedValues& out) const override {
    std::vector<uint32_t> places;
    FEDWATT_RETURN_IF_ERROR(internal::TakePlaces(name(), side, context.segments, internal::CountValues(context.segments), places));
    return internal::DecodePlaces(context.segments, std::move(places), inner, out);
  }

 private:
  const double multiple_;
};

absl::StatusOr<std::unique_ptr<Transform>> MakeThreshold(const CodecOptions& options) {
  FEDWATT_RETURN_IF_ERROR(internal::CheckOptionNames("threshold", options, {"multiple"}));
  FEDWATT_ASSIGN_OR_RETURN(double multiple, internal::NumberOption("threshold", options, "multiple", 3, 1e-9, 1000));
  return std::make_unique<Threshold>(multiple);
}

}  // namespace

namespace internal {

void InstallTransform_threshold(TransformRegistry& registry) { FEDWATT_CHECK(registry.Register("threshold", MakeThreshold).ok()); }

}  // namespace internal
}  // namespace fedwatt

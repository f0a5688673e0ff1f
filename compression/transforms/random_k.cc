// random_k: keeps k = ceil(fraction * n) values at places that both ends draw from the seed; nothing is sent about them.
//
//   scale=unbiased (default): decoded = x * n / k at the places, 0 elsewhere: E[decoded] = x, variance (n / k - 1) x^2
//                             (Wangni et al. 2018, arXiv 1710.09854, section 2, with equal probabilities; Konecny et al. 2016, arXiv 1610.05492,
//                             "random mask")
//   scale=none:               decoded = x at the places; biased, a contraction by 1 - k / n on average: for use with `ef`, whose residual an enlarged
//                             value would make grow instead of fade
//
// Places: every set of k is equally likely (Floyd's algorithm, Bentley and Floyd 1987, Commun. ACM 30(9)) with
// Random(DeriveSeed("random_k", {context.seed})); of k > n / 2 the set left out is drawn.
// Options: fraction=F, F in (0, 1], default 0.1; scale. Inner segments: one row of kept values for each segment that has any.
// Cost: min(k, n - k) random numbers and a pass over n bits.
#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <vector>

#include "codec_support.h"
#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/compression/transform.h"
#include "kept_places.h"
#include "stage_support.h"

namespace fedwatt {
namespace {

// Ascending.
std::vector<uint32_t> DrawPlaces(uint64_t seed, uint64_t count, uint64_t k) {
  const bool draw_others = k > count / 2;
  const uint64_t drawn = draw_others ? count - k : k;
  std::vector<uint64_t> bits((count + 63) / 64);
  const auto test = [&](uint64_t i) { return (bits[i / 64] >> (i % 64) & 1) != 0; };
  Random random(DeriveSeed("random_k", {seed}));
  for (uint64_t last = count - drawn; last < count; ++last) {
    const uint64_t place = random.Below(last + 1);
    const uint64_t added = test(place) ? last : place;
    bits[added / 64] |= uint64_t{1} << (added % 64);
  }
  std::vector<uint32_t> places;
  places.reserve(k);
  for (size_t word = 0; word < bits.size(); ++word) {
    uint64_t left = draw_others ? ~bits[word] : bits[word];
    if (draw_others && word + 1 == bits.size() && count % 64 != 0) left &= (uint64_t{1} << (count % 64)) - 1;
    for (; left != 0; left &= left - 1) places.push_back(static_cast<uint32_t>(word * 64) + static_cast<uint32_t>(std::countr_zero(left)));
  }
  return places;
}

class RandomK : public Transform {
 public:
  RandomK(double fraction, bool unbiased) : fraction_(fraction), unbiased_(unbiased) {}
  std::string_view name() const override { return "random_k"; }
  bool sparse() const override { return true; }

  absl::Status Forward(SegmentedValues& data, const CodingContext& context, std::string& side) const override {
    internal::KeepPlaces(PlacesOf(context), data);
    return absl::OkStatus();
  }

  absl::Status Inverse(std::string_view side, const CodingContext& context, InnerDecoder inner, DecodedValues& out) const override {
    if (!side.empty()) return absl::DataLossError(absl::StrCat("random_k: ", side.size(), " bytes of side information, expected none"));
    std::vector<uint32_t> places = PlacesOf(context);
    const size_t k = places.size();
    FEDWATT_RETURN_IF_ERROR(internal::DecodePlaces(context.segments, std::move(places), inner, out));
    if (unbiased_ && k > 0) {
      const double factor = static_cast<double>(internal::CountValues(context.segments)) / static_cast<double>(k);
      for (float& value : out.sparse.values) value = static_cast<float>(std::clamp<double>(value * factor, -FLT_MAX, FLT_MAX));
    }
    return absl::OkStatus();
  }

 private:
  std::vector<uint32_t> PlacesOf(const CodingContext& context) const {
    const int64_t count = internal::CountValues(context.segments);
    const int64_t k = std::min(count, static_cast<int64_t>(std::ceil(fraction_ * static_cast<double>(count))));
    return DrawPlaces(context.seed, static_cast<uint64_t>(count), static_cast<uint64_t>(k));
  }

  const double fraction_;
  const bool unbiased_;
};

absl::StatusOr<std::unique_ptr<Transform>> MakeRandomK(const CodecOptions& options) {
  FEDWATT_RETURN_IF_ERROR(internal::CheckOptionNames("random_k", options, {"fraction", "scale"}));
  FEDWATT_ASSIGN_OR_RETURN(double fraction, internal::NumberOption("random_k", options, "fraction", 0.1, 1e-9, 1));
  bool unbiased = true;
  if (const auto it = options.find("scale"); it != options.end()) {
    if (it->second != "unbiased" && it->second != "none") {
      return absl::InvalidArgumentError(absl::StrCat("stage 'random_k': scale = '", it->second, "', expected unbiased or none"));
    }
    unbiased = it->second == "unbiased";
  }
  return std::make_unique<RandomK>(fraction, unbiased);
}

}  // namespace

namespace internal {

void InstallTransform_random_k(TransformRegistry& registry) { FEDWATT_CHECK(registry.Register("random_k", MakeRandomK).ok()); }

}  // namespace internal
}  // namespace fedwatt

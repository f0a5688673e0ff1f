// top_k: keeps the k = ceil(fraction * n) values of largest magnitude, over all segments together; of equal ones those that come first. Zeros are
// never kept, so that a vector with fewer other values keeps these.
//
// Contraction |x - top_k(x)|^2 <= (1 - k / n) |x|^2 (Stich et al. 2018, arXiv 1809.07599, lemma A.1). Biased: use with `ef`.
// "ef,top_k:fraction=0.01,sign:block=0" is sparse ternary compression with one magnitude a tensor (Sattler et al. 2019, arXiv 1903.02891, algorithm
// 1; theirs has one threshold a tensor as well).
//
// Option: fraction=F, F in (0, 1], default 0.01. Inner segments: one row of kept values for each segment that has any.
// Side information: the places, coded like a vector of ones (fedwatt/compression/symbol_coder.h); 8.1 bits each where 1 % lie anywhere.
// Cost: two passes over the values, the second vectorised; decoding: as the kept values.
#include <algorithm>
#include <bit>
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

// Magnitudes order like their bits, of which the upper 15 make a histogram.
constexpr int kBinShift = 16;
uint32_t MagnitudeBits(float value) { return std::bit_cast<uint32_t>(value) & 0x7fffffffu; }

std::vector<uint32_t> LargestPlaces(absl::Span<const float> values, size_t k) {
  std::vector<uint32_t> bins(size_t{1} << (31 - kBinShift));
  for (float value : values) ++bins[MagnitudeBits(value) >> kBinShift];
  // The bin in which the k-th largest lies, and how many lie above it.
  size_t bin = bins.size(), above = 0;
  while (bin > 0 && above + bins[bin - 1] < k) above += bins[--bin];
  bin = bin > 0 ? bin - 1 : 0;
  const uint32_t least = std::max(static_cast<uint32_t>(bin) << kBinShift, 1u);  // 1: the smallest number that is not zero

  std::vector<uint32_t> places(values.size() + internal::kPlacePadding);
  places.resize(internal::FindAtLeast(values, std::bit_cast<float>(least), places.data()));
  if (places.size() <= k) return places;

  // Of those found, the lowest bin's share that still has room; among equals the first.
  std::vector<uint32_t> contenders;
  for (uint32_t place : places) {
    const uint32_t bits = MagnitudeBits(values[place]);
    if (bits >> kBinShift == bin) contenders.push_back(bits);
  }
  const size_t room = k - (places.size() - contenders.size());
  std::nth_element(contenders.begin(), contenders.begin() + static_cast<std::ptrdiff_t>(room - 1), contenders.end(), std::greater<>());
  const uint32_t threshold = contenders[room - 1];
  size_t ties = room - static_cast<size_t>(std::count_if(contenders.begin(), contenders.end(), [&](uint32_t bits) { return bits > threshold; }));
  size_t kept = 0;
  for (uint32_t place : places) {
    const uint32_t bits = MagnitudeBits(values[place]);
    const bool keep = bits > threshold || (bits == threshold && ties > 0);
    ties -= keep && bits == threshold;
    places[kept] = place;
    kept += keep;
  }
  places.resize(kept);
  return places;
}

class TopK : public Transform {
 public:
  explicit TopK(double fraction) : fraction_(fraction) {}
  std::string_view name() const override { return "top_k"; }
  bool sparse() const override { return true; }

  absl::Status Forward(SegmentedValues& data, const CodingContext& context, std::string& side) const override {
    if (data.values.empty()) return absl::OkStatus();
    const std::vector<uint32_t> places = LargestPlaces(data.values, static_cast<size_t>(Most(static_cast<int64_t>(data.values.size()))));
    FEDWATT_RETURN_IF_ERROR(internal::PutPlaces(context.segments, places, side));
    internal::KeepPlaces(places, data);
    return absl::OkStatus();
  }

  absl::Status Inverse(std::string_view side, const CodingContext& context, InnerDecoder inner, DecodedValues& out) const override {
    std::vector<uint32_t> places;
    FEDWATT_RETURN_IF_ERROR(internal::TakePlaces(name(), side, context.segments, Most(internal::CountValues(context.segments)), places));
    return internal::DecodePlaces(context.segments, std::move(places), inner, out);
  }

 private:
  int64_t Most(int64_t count) const { return std::min(count, static_cast<int64_t>(std::ceil(fraction_ * static_cast<double>(count)))); }

  const double fraction_;
};

absl::StatusOr<std::unique_ptr<Transform>> MakeTopK(const CodecOptions& options) {
  FEDWATT_RETURN_IF_ERROR(internal::CheckOptionNames("top_k", options, {"fraction"}));
  FEDWATT_ASSIGN_OR_RETURN(double fraction, internal::NumberOption("top_k", options, "fraction", 0.01, 1e-9, 1));
  return std::make_unique<TopK>(fraction);
}

}  // namespace

namespace internal {

void InstallTransform_top_k(TransformRegistry& registry) { FEDWATT_CHECK(registry.Register("top_k", MakeTopK).ok()); }

}  // namespace internal
}  // namespace fedwatt

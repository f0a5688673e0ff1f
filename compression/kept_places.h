// What the sparsifiers share: the kept values become a vector of their own, and come back to their places.
#ifndef FEDWATT_COMPRESSION_KEPT_PLACES_H_
#define FEDWATT_COMPRESSION_KEPT_PLACES_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "fedwatt/compression/transform.h"

namespace fedwatt::internal {

// Segments of the values at `places`, which ascend: one row for each of `segments` that keeps any.
std::vector<Segment> SegmentsOfPlaces(absl::Span<const Segment> segments, absl::Span<const uint32_t> places);

// Leaves of `data` the values at `places`, which ascend.
void KeepPlaces(absl::Span<const uint32_t> places, SegmentedValues& data);

// The inverse: asks `inner` for the values at `places`. What comes out is sparse.
absl::Status DecodePlaces(absl::Span<const Segment> segments, std::vector<uint32_t> places, InnerDecoder inner, DecodedValues& out);

// Appends ascending places to `side`, as EncodeSymbols writes a vector of that many ones. No places make no bytes.
absl::Status PutPlaces(absl::Span<const Segment> segments, const std::vector<uint32_t>& places, std::string& side);

// All of `side` as PutPlaces wrote it, at most `most` places. Errors: DATA_LOSS  something else
absl::Status TakePlaces(std::string_view transform, std::string_view side, absl::Span<const Segment> segments, int64_t most,
                        std::vector<uint32_t>& places);

}  // namespace fedwatt::internal

#endif  // FEDWATT_COMPRESSION_KEPT_PLACES_H_

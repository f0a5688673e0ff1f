#include "kept_places.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/compression/symbol_coder.h"
#include "stage_support.h"

namespace fedwatt::internal {

std::vector<Segment> SegmentsOfPlaces(absl::Span<const Segment> segments, absl::Span<const uint32_t> places) {
  std::vector<Segment> kept;
  int64_t end = 0;
  size_t i = 0;
  for (const Segment& segment : segments) {
    end += segment.count();
    const size_t first = i;
    while (i < places.size() && places[i] < end) ++i;
    if (i > first) kept.push_back({1, static_cast<int64_t>(i - first)});
  }
  return kept;
}

void KeepPlaces(absl::Span<const uint32_t> places, SegmentedValues& data) {
  data.segments = SegmentsOfPlaces(data.segments, places);
  for (size_t i = 0; i < places.size(); ++i) data.values[i] = data.values[places[i]];
  data.values.resize(places.size());
}

absl::Status DecodePlaces(absl::Span<const Segment> segments, std::vector<uint32_t> places, InnerDecoder inner, DecodedValues& out) {
  out.is_sparse = true;
  FEDWATT_RETURN_IF_ERROR(inner(SegmentsOfPlaces(segments, places), out.sparse.values));
  FEDWATT_CHECK(out.sparse.values.size() == places.size());
  out.sparse.indices = std::move(places);
  return absl::OkStatus();
}

absl::Status PutPlaces(absl::Span<const Segment> segments, const std::vector<uint32_t>& places, std::string& side) {
  absl::StatusOr<std::string> coded = EncodeSymbols(CountsOf(segments), {places, std::vector<int32_t>(places.size(), 1)});
  FEDWATT_RETURN_IF_ERROR(coded.status());
  side += *coded;
  return absl::OkStatus();
}

absl::Status TakePlaces(std::string_view transform, std::string_view side, absl::Span<const Segment> segments, int64_t most,
                        std::vector<uint32_t>& places) {
  SparseSymbols symbols;
  FEDWATT_RETURN_IF_ERROR(DecodeSymbols(side, CountsOf(segments), most, symbols));
  for (int32_t symbol : symbols.symbols) {
    if (symbol != 1) return absl::DataLossError(absl::StrCat(std::string(transform), ": symbol ", symbol, " among the places"));
  }
  places = std::move(symbols.indices);
  return absl::OkStatus();
}

}  // namespace fedwatt::internal

#include "fedwatt/compression/kept_channels.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/base/varint.h"
#include "fedwatt/compression/symbol_coder.h"
#include "fedwatt/model/layout.h"
#include "fedwatt/model/submodel.h"

namespace fedwatt {
namespace {

constexpr size_t kFewRanges = 16;  // as they are, these take no more than a packet has room for

}  // namespace

std::string PackRanges(absl::Span<const ChannelRange> ranges) {
  if (ranges.size() <= kFewRanges) return "";
  SparseSymbols kept;
  for (const ChannelRange& range : ranges) {
    for (int64_t channel = range.begin; channel < range.end; ++channel) kept.indices.push_back(static_cast<uint32_t>(channel));
  }
  kept.symbols.assign(kept.indices.size(), 1);
  const int64_t end = ranges.back().end;
  std::string packed;
  PutVarint(static_cast<uint64_t>(end), packed);
  const absl::StatusOr<std::string> coded = EncodeSymbols({end}, kept);
  FEDWATT_CHECK(coded.ok());  // ranges of a group, which is part of a layout
  packed += *coded;
  return end <= kMostChannelsPerByte * static_cast<int64_t>(packed.size()) ? packed : "";
}

absl::StatusOr<std::vector<ChannelRange>> UnpackRanges(std::string_view packed) {
  const int64_t most = std::min(ParameterLayout::kMaxValueCount, kMostChannelsPerByte * static_cast<int64_t>(packed.size()));
  FEDWATT_ASSIGN_OR_RETURN(const uint64_t end, TakeVarint(packed));
  if (end < 1 || end > static_cast<uint64_t>(most)) return absl::DataLossError(absl::StrCat("packed channels: the last of ", end, ", expected [1, ", most, "]"));
  SparseSymbols kept;
  FEDWATT_RETURN_IF_ERROR(DecodeSymbols(packed, {static_cast<int64_t>(end)}, static_cast<int64_t>(end), kept));
  if (kept.indices.empty() || kept.indices.back() + uint64_t{1} != end) return absl::DataLossError("packed channels: the last one is not kept");
  for (const int32_t symbol : kept.symbols) {
    if (symbol != 1) return absl::DataLossError(absl::StrCat("packed channels: symbol ", symbol, ", expected 1"));
  }
  return ToRanges(std::vector<int64_t>(kept.indices.begin(), kept.indices.end()));
}

int64_t PackedBytes(const KeptChannels& kept) {
  int64_t bytes = 0;
  for (const auto& [group, ranges] : kept) bytes += static_cast<int64_t>(PackRanges(ranges).size());
  return bytes;
}

}  // namespace fedwatt

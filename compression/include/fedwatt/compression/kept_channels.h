// Many channels, or single weights, that a model keeps, in few bytes.
#ifndef FEDWATT_COMPRESSION_KEPT_CHANNELS_H_
#define FEDWATT_COMPRESSION_KEPT_CHANNELS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "fedwatt/model/channels.h"

namespace fedwatt {

// The end of the last range as LEB128, then, by EncodeSymbols, ones at all channels of the ranges, which are as in KeptChannels. About the binary entropy of the kept
// share for each channel. Empty where it is not worth it: few ranges, or long ones.
std::string PackRanges(absl::Span<const ChannelRange> ranges);

// The inverse. The bytes may be hostile: memory is at most a multiple of kMostChannelsPerByte times theirs.
// Errors: DATA_LOSS  not what PackRanges makes
absl::StatusOr<std::vector<ChannelRange>> UnpackRanges(std::string_view packed);
inline constexpr int64_t kMostChannelsPerByte = 1 << 10;

// What the packed groups of a plan take, of all that names what a model keeps: part of the payload that its client downloads.
int64_t PackedBytes(const KeptChannels& kept);

}  // namespace fedwatt

#endif  // FEDWATT_COMPRESSION_KEPT_CHANNELS_H_

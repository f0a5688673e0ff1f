// The envelope of every saved state in this room: what made it, for which layout, and a checksum.
#ifndef FEDWATT_AGGREGATION_SAVED_STATE_H_
#define FEDWATT_AGGREGATION_SAVED_STATE_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "fedwatt/base/digest.h"

namespace fedwatt::internal {

// "FWST", version (u16), kind length (u8), kind, layout digest (32), body, CRC32C over all of it (u32).
std::string SealState(std::string_view kind, const Digest& layout_digest, std::string_view body);

// The body, borrowed from `state`.
// Errors: DATA_LOSS  damaged; INVALID_ARGUMENT  of another kind or layout
absl::StatusOr<std::string_view> OpenState(std::string_view kind, const Digest& layout_digest, std::string_view state);

}  // namespace fedwatt::internal

#endif  // FEDWATT_AGGREGATION_SAVED_STATE_H_

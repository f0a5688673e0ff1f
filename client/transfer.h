// Models down and updates up, over as many connections as it takes. Private to the room.
#ifndef FEDWATT_CLIENT_TRANSFER_H_
#define FEDWATT_CLIENT_TRANSFER_H_

#include <stop_token>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "fedwatt/base/digest.h"
#include "link.h"

namespace fedwatt::internal {

// Errors of both: CANCELLED  `stop` was asked; NOT_FOUND  session or blob unknown; ABORTED  attempt not wanted; others are final.

// `total_bytes` has been checked against a limit. `transferred` counts the payload bytes that came, repeated ones included.
absl::StatusOr<std::string> Download(Link& link, Retrier& retrier, const std::string& session_id, const Digest& digest, int64_t total_bytes,
                                     absl::Duration stall_timeout, std::stop_token stop, int64_t* transferred);

absl::Status Upload(Link& link, Retrier& retrier, const std::string& session_id, const std::string& attempt_id, std::string_view update,
                    const Digest& digest, absl::Duration stall_timeout, std::stop_token stop);

}  // namespace fedwatt::internal

#endif  // FEDWATT_CLIENT_TRANSFER_H_

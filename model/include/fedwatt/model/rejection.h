// Why an attempt did not count: the fixed list of the run record's `reason`, carried inside statuses.
#ifndef FEDWATT_MODEL_REJECTION_H_
#define FEDWATT_MODEL_REJECTION_H_

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace fedwatt {

// Numbers are on the wire; never renumber.
enum class Rejection : uint8_t {
  kGarbage = 1,         // not a container at all, or a checksum fails
  kTruncated = 2,       // a container that ends too early
  kOversize = 3,        // more bytes than the plan allows
  kWrongLayout = 4,     // names another layout than the plan's
  kWrongCodec = 5,      // encoded by another pipeline than the plan's, or not decodable by it
  kNotFinite = 6,       // NaN or infinity
  kValueTooLarge = 7,   // a value beyond max_abs
  kNormTooLarge = 8,    // longer than max_norm
  kBadWeight = 9,       // example_count outside [1, max_example_count]
  kDuplicate = 10,      // this attempt delivered already, with other bytes
  kLate = 11,           // after the round was closed
  kUnknownAttempt = 12, // never issued, or issued to somebody else
  kDigestMismatch = 13, // the bytes received are not those the report names
  kClientError = 14,    // the client itself said that it failed
  kDisconnected = 15,   // no sign of life
  kWithdrawn = 16,      // conditions on the device no longer held
  kNotNeeded = 17,      // the round had enough
};

// "garbage", "truncated", "oversize", "wrong_layout", ...: the run record's spelling.
std::string_view RejectionName(Rejection rejection);
std::vector<Rejection> AllRejections();

// `status` marked with a reason; the reason survives Annotate().
absl::Status WithRejection(absl::Status status, Rejection rejection);
std::optional<Rejection> RejectionOf(const absl::Status& status);

}  // namespace fedwatt

#endif  // FEDWATT_MODEL_REJECTION_H_

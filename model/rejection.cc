#include "fedwatt/model/rejection.h"

#include <string>

#include "absl/strings/cord.h"

namespace fedwatt {
namespace {

constexpr char kPayloadUrl[] = "type.fedwatt/rejection";

}  // namespace

std::string_view RejectionName(Rejection rejection) {
  switch (rejection) {
    case Rejection::kGarbage: return "garbage";
    case Rejection::kTruncated: return "truncated";
    case Rejection::kOversize: return "oversize";
    case Rejection::kWrongLayout: return "wrong_layout";
    case Rejection::kWrongCodec: return "wrong_codec";
    case Rejection::kNotFinite: return "not_finite";
    case Rejection::kValueTooLarge: return "value_too_large";
    case Rejection::kNormTooLarge: return "norm_too_large";
    case Rejection::kBadWeight: return "bad_weight";
    case Rejection::kDuplicate: return "duplicate";
    case Rejection::kLate: return "late";
    case Rejection::kUnknownAttempt: return "unknown_attempt";
    case Rejection::kDigestMismatch: return "digest_mismatch";
    case Rejection::kClientError: return "client_error";
    case Rejection::kDisconnected: return "disconnected";
    case Rejection::kWithdrawn: return "withdrawn";
    case Rejection::kNotNeeded: return "not_needed";
  }
  return "unknown";
}

std::vector<Rejection> AllRejections() {
  std::vector<Rejection> all;
  for (uint8_t number = 1; number <= static_cast<uint8_t>(Rejection::kNotNeeded); ++number) {
    all.push_back(static_cast<Rejection>(number));
  }
  return all;
}

absl::Status WithRejection(absl::Status status, Rejection rejection) {
  std::string_view name = RejectionName(rejection);
  status.SetPayload(kPayloadUrl, absl::Cord(absl::string_view(name.data(), name.size())));
  return status;
}

std::optional<Rejection> RejectionOf(const absl::Status& status) {
  absl::optional<absl::Cord> payload = status.GetPayload(kPayloadUrl);
  if (!payload.has_value()) return std::nullopt;
  const std::string name(*payload);
  for (Rejection rejection : AllRejections()) {
    if (RejectionName(rejection) == name) return rejection;
  }
  return std::nullopt;
}

}  // namespace fedwatt

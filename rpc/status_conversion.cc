#include "fedwatt/base/text.h"
#include "fedwatt/rpc/status_conversion.h"

#include <string>

#include "absl/strings/cord.h"
#include "absl/types/optional.h"
#include "fedwatt/model/rejection.h"
#include "fedwatt/rpc/conversion.h"

namespace fedwatt {
namespace {

constexpr char kRetryUrl[] = "fedwatt/retry-windows";
// gRPC's default limit for all trailers together is 8 KiB, and the message stands in them twice.
constexpr size_t kMaxMessageBytes = 1024;

}  // namespace

absl::Status WithRetry(absl::Status status, const v1::RetryWindows& retry) {
  if (!status.ok()) status.SetPayload(kRetryUrl, absl::Cord(retry.SerializeAsString()));
  return status;
}

std::optional<v1::RetryWindows> RetryOf(const absl::Status& status) {
  absl::optional<absl::Cord> payload = status.GetPayload(kRetryUrl);
  v1::RetryWindows retry;
  if (!payload.has_value() || !retry.ParseFromString(std::string(*payload))) return std::nullopt;
  return retry;
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const auto code = static_cast<grpc::StatusCode>(status.code());
  const std::string message = TruncateUtf8({status.message().data(), status.message().size()}, kMaxMessageBytes);
  v1::ErrorDetail detail;
  if (std::optional<Rejection> rejection = RejectionOf(status)) detail.set_rejection(ToProto(*rejection));
  if (std::optional<v1::RetryWindows> retry = RetryOf(status)) *detail.mutable_retry() = *retry;
  if (detail.ByteSizeLong() == 0) return grpc::Status(code, message);
  v1::StatusDetails details;
  details.set_code(static_cast<int32_t>(code));
  details.set_message(message);
  details.add_details()->PackFrom(detail);
  return grpc::Status(code, message, details.SerializeAsString());
}

absl::Status FromGrpcStatus(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  absl::Status result(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  v1::StatusDetails details;
  if (status.error_details().empty() || !details.ParseFromString(status.error_details())) return result;
  for (const google::protobuf::Any& any : details.details()) {
    v1::ErrorDetail detail;
    if (!any.UnpackTo(&detail)) continue;
    if (absl::StatusOr<Rejection> rejection = FromProto(detail.rejection()); rejection.ok()) {
      result = WithRejection(std::move(result), *rejection);
    }
    if (detail.has_retry()) result = WithRetry(std::move(result), detail.retry());
  }
  return result;
}

bool IsTransient(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kCancelled: return true;
    default: return false;
  }
}

}  // namespace fedwatt

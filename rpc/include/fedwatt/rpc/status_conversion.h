// The only place where gRPC's status and Abseil's meet.
#ifndef FEDWATT_RPC_STATUS_CONVERSION_H_
#define FEDWATT_RPC_STATUS_CONVERSION_H_

#include <optional>

#include "absl/status/status.h"
#include "fedwatt/v1/error.pb.h"
#include "grpcpp/support/status.h"

namespace fedwatt {

// The rejection (WithRejection) and the retry windows (WithRetry) of `status` travel in the details. A message beyond 1024 bytes is cut.
grpc::Status ToGrpcStatus(const absl::Status& status);

// Undoes ToGrpcStatus. A status that another program made, or details that do not parse, keep code and message alone.
absl::Status FromGrpcStatus(const grpc::Status& status);

// `status` with the time to come again; survives Annotate().
absl::Status WithRetry(absl::Status status, const v1::RetryWindows& retry);
std::optional<v1::RetryWindows> RetryOf(const absl::Status& status);

// True for codes after which the same call, with the same request_id, is worth repeating.
bool IsTransient(const absl::Status& status);

}  // namespace fedwatt

#endif  // FEDWATT_RPC_STATUS_CONVERSION_H_

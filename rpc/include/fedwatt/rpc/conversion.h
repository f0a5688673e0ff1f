// Messages to the types of the rooms below, and back. What comes from the wire is checked: an unspecified or unknown enum value, a digest
// of another length or a span that is no span is INVALID_ARGUMENT, naming the field.
#ifndef FEDWATT_RPC_CONVERSION_H_
#define FEDWATT_RPC_CONVERSION_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "fedwatt/energy/phase_tracker.h"
#include "fedwatt/energy/quantities.h"
#include "fedwatt/model/plan.h"
#include "fedwatt/model/rejection.h"
#include "fedwatt/rpc/security.h"
#include "fedwatt/v1/energy.pb.h"
#include "fedwatt/v1/error.pb.h"
#include "fedwatt/v1/operator.pb.h"
#include "fedwatt/v1/plan.pb.h"
#include "google/protobuf/timestamp.pb.h"

namespace fedwatt {

// Infinite spans become the longest that the message holds (10,000 years) and come back as infinite.
google::protobuf::Duration ToProto(absl::Duration span);
absl::StatusOr<absl::Duration> FromProto(const google::protobuf::Duration& span);
google::protobuf::Timestamp ToProto(absl::Time time);
absl::StatusOr<absl::Time> FromProto(const google::protobuf::Timestamp& time);

v1::RejectionReason ToProto(Rejection rejection);
absl::StatusOr<Rejection> FromProto(v1::RejectionReason reason);
v1::EnergyTier ToProto(EnergyTier tier);
absl::StatusOr<EnergyTier> FromProto(v1::EnergyTier tier);
v1::Phase ToProto(Phase phase);
absl::StatusOr<Phase> FromProto(v1::Phase phase);

v1::Role ToProto(Peer::Role role);  // of kDevice, kOperator, kReadOnly
absl::StatusOr<Peer::Role> FromProto(v1::Role role);  // unspecified: kDevice

// Times are cut to whole microseconds; a reading's window comes back as its phase's wall time.
google::protobuf::RepeatedPtrField<v1::PhaseSpan> ToProto(const std::vector<PhaseSpan>& spans);
// Also INVALID_ARGUMENT: a phase twice, negative times or joules, joules outside their own interval or without an origin.
absl::StatusOr<std::vector<PhaseSpan>> FromProto(const google::protobuf::RepeatedPtrField<v1::PhaseSpan>& spans);

v1::Plan ToProto(const Plan& plan);
// What the packed groups in it take on the wire; as PackedBytes() of the channels themselves.
int64_t PackedBytes(const v1::ArchitectureSpec& architecture);
// The result has passed ValidatePlan().
absl::StatusOr<Plan> FromProto(const v1::Plan& plan);

}  // namespace fedwatt

#endif  // FEDWATT_RPC_CONVERSION_H_

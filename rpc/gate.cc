#include "fedwatt/rpc/gate.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"
#include "grpcpp/security/auth_context.h"

namespace fedwatt {
namespace {

constexpr size_t kMaxJudged = 4096;  // some 1.5 kB each

std::string AddressOf(const grpc::ServerContextBase& context) {
  std::string peer = context.peer();
  if (const size_t colon = peer.rfind(':'); colon != std::string::npos && colon > peer.find(':')) peer.resize(colon);
  return peer;
}

bool Allows(Peer::Role role, Access access) {
  if (access == Access::kAnybody || role == Peer::Role::kInsecure) return true;
  switch (role) {
    case Peer::Role::kDevice: return access == Access::kClient || access == Access::kEnrolled;
    case Peer::Role::kReadOnly: return access == Access::kLook || access == Access::kEnrolled;
    case Peer::Role::kOperator: return access == Access::kLook || access == Access::kOperate || access == Access::kEnrolled;
    case Peer::Role::kLocal: return access != Access::kEnrolled;  // the coordinator renews it
    default: return false;
  }
}

std::string_view Needed(Access access) {
  switch (access) {
    case Access::kEnrolled: return "an enrolled certificate";
    case Access::kClient: return "role client";
    case Access::kLook: return "role read_only or operator, or the coordinator's security directory";
    default: return "role operator, or the coordinator's security directory";
  }
}

}  // namespace

absl::StatusOr<Peer> Gate::Identify(const grpc::ServerContextBase& context) {
  const std::shared_ptr<const grpc::AuthContext> proven = context.auth_context();
  const std::vector<grpc::string_ref> certificates =
      proven == nullptr ? std::vector<grpc::string_ref>() : proven->FindPropertyValues("x509_pem_cert");
  if (certificates.empty()) return Peer{};
  const std::string_view pem(certificates[0].data(), certificates[0].size());
  {
    absl::MutexLock lock(&mutex_);
    if (const auto known = judged_.find(pem); known != judged_.end()) return known->second;
  }
  FEDWATT_ASSIGN_OR_RETURN(Peer peer, directory_->Judge(pem));
  absl::MutexLock lock(&mutex_);
  if (judged_.size() >= kMaxJudged) judged_.clear();
  judged_.emplace(pem, peer);
  return peer;
}

absl::Status Gate::CheckNow(const Peer& peer) const {
  if (directory_ == nullptr || peer.role == Peer::Role::kAnonymous) return absl::OkStatus();
  const absl::Time now = clock_->Now();
  const auto refuse = [&](std::string_view reason, std::string_view why) {
    return RefusalStatus(absl::StatusCode::kUnauthenticated, reason, absl::StrCat("client certificate of '", peer.name, "': ", std::string(why)));
  };
  if (directory_->IsRevoked(peer.name)) return refuse("revoked", "revoked by an operator");
  if (now > peer.not_after) {
    return refuse("expired", absl::StrCat("expired at ", absl::FormatTime(peer.not_after, absl::UTCTimeZone()), "; enrol again with a new token"));
  }
  if (now < peer.not_before) return refuse("not_yet_valid", absl::StrCat("not valid before ", absl::FormatTime(peer.not_before, absl::UTCTimeZone())));
  return absl::OkStatus();
}

Caller Gate::Admit(const grpc::ServerContextBase& context, std::string_view method, Access access) {
  Caller caller{{}, std::string(method), AddressOf(context), absl::OkStatus()};
  if (directory_ == nullptr) {
    caller.peer.role = Peer::Role::kInsecure;
    return caller;
  }
  absl::StatusOr<Peer> peer = Identify(context);
  if (access == Access::kAnybody) {
    // A certificate neither helps nor hinders: enrolment goes by the token.
    if (peer.ok() && CheckNow(*peer).ok()) caller.peer = *std::move(peer);
  } else if (!peer.ok()) {
    caller.verdict = peer.status();
  } else {
    caller.peer = *std::move(peer);
    caller.verdict = CheckNow(caller.peer);
    if (caller.verdict.ok() && caller.peer.role == Peer::Role::kAnonymous) {
      caller.verdict = RefusalStatus(absl::StatusCode::kUnauthenticated, "no_certificate", "no client certificate; enrol first, or use the coordinator's security directory");
    } else if (caller.verdict.ok() && !Allows(caller.peer.role, access)) {
      caller.verdict = RefusalStatus(absl::StatusCode::kPermissionDenied, "role",
                               absl::StrCat(caller.method, ": needs ", std::string(Needed(access)), "; the certificate of '", caller.peer.name, "' has role ",
                                            std::string(RoleName(caller.peer.role))));
    }
  }
  return caller;
}

absl::Status Gate::StillAdmitted(const Caller& caller) const { return CheckNow(caller.peer); }

void Gate::Answered(const Caller& caller, const absl::Status& status) {
  if (status.code() != absl::StatusCode::kUnauthenticated && status.code() != absl::StatusCode::kPermissionDenied) return;
  const std::string reason = RefusalReason(status);
  audit_->Refusal({"refused", reason.empty() ? "denied" : reason, caller.method, std::string(RoleName(caller.peer.role)), caller.peer.name, caller.address,
                   std::string(status.message())});
}

void Gate::Done(const Caller& caller, std::string_view event, std::string_view detail) {
  audit_->Action({std::string(event), "", caller.method, std::string(RoleName(caller.peer.role)), caller.peer.name, caller.address, std::string(detail)});
}

}  // namespace fedwatt

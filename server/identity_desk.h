// Certificates and tokens: what clients and operators ask of the security directory. Private to the room.
#ifndef FEDWATT_SERVER_IDENTITY_DESK_H_
#define FEDWATT_SERVER_IDENTITY_DESK_H_

#include <map>
#include <string>

#include "absl/status/status.h"
#include "fedwatt/rpc/gate.h"
#include "fedwatt/rpc/security.h"
#include "fedwatt/v1/coordinator.pb.h"
#include "fedwatt/v1/operator.pb.h"

namespace fedwatt::internal {

// Owned by the loop's thread. What it does, and what it refuses by the caller's token, stands in the audit log when it answers.
class IdentityDesk {
 public:
  // `security` null: no TLS, everything is FAILED_PRECONDITION. Both must outlive the desk.
  IdentityDesk(SecurityDirectory* security, Gate* gate) : security_(security), gate_(gate) {}

  absl::Status Enrol(const Caller& caller, const v1::EnrolRequest& request, v1::EnrolResponse* response);
  absl::Status Renew(const Caller& caller, const v1::RenewRequest& request, v1::RenewResponse* response);
  absl::Status IssueToken(const Caller& caller, const v1::IssueTokenRequest& request, v1::IssueTokenResponse* response);
  absl::Status Revoke(const Caller& caller, const v1::RevokeRequest& request);

 private:
  SecurityDirectory* const security_;
  Gate* const gate_;
  std::map<std::string, v1::IssueTokenResponse> issued_tokens_;  // by request_id
};

}  // namespace fedwatt::internal

#endif  // FEDWATT_SERVER_IDENTITY_DESK_H_

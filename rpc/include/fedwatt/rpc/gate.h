// The one place where the coordinator decides who may call what, and where refusals get their line in the audit log.
#ifndef FEDWATT_RPC_GATE_H_
#define FEDWATT_RPC_GATE_H_

#include <map>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "fedwatt/base/clock.h"
#include "fedwatt/rpc/audit_log.h"
#include "fedwatt/rpc/security.h"
#include "grpcpp/server_context.h"

namespace fedwatt {

// What a call needs.
enum class Access {
  kAnybody,   // Enrol
  kEnrolled,  // Renew: whoever has a certificate of its own
  kClient,    // taking part
  kLook,      // status, clients, rounds
  kOperate,   // what changes the run or lets somebody in
};

// A call and who makes it.
struct Caller {
  Peer peer;
  std::string method;   // "CheckIn"
  std::string address;  // without port, as gRPC writes it: "ipv4:192.0.2.7"
  absl::Status verdict;  // not OK: refused, UNAUTHENTICATED or PERMISSION_DENIED
};

// Certificates are judged at each call and not in the handshake: so that revocation, expiry and roles bind connections that exist, the caller hears why it is refused,
// and the audit log knows the call and the address (docs/adr/2026-11-25-judge-certificates-at-each-call.md).
//
// Thread-safe.
class Gate {
 public:
  // `directory` null: no TLS, everybody is let in as kInsecure. All are borrowed and must outlive the gate.
  Gate(const SecurityDirectory* directory, AuditLog* audit, const Clock* clock) : directory_(directory), audit_(audit), clock_(clock) {}

  // Judges a call; what it refuses still has to be passed to Answered.
  Caller Admit(const grpc::ServerContextBase& context, std::string_view method, Access access);
  // The same caller in the midst of a stream: refused once it is revoked or its certificate has expired.
  absl::Status StillAdmitted(const Caller& caller) const;
  // To be told of every answer: refusals get their line.
  void Answered(const Caller& caller, const absl::Status& status);
  // An action that succeeded. `detail` is for people.
  void Done(const Caller& caller, std::string_view event, std::string_view detail);

 private:
  absl::StatusOr<Peer> Identify(const grpc::ServerContextBase& context);
  absl::Status CheckNow(const Peer& peer) const;

  const SecurityDirectory* const directory_;
  AuditLog* const audit_;
  const Clock* const clock_;
  absl::Mutex mutex_;
  std::map<std::string, Peer, std::less<>> judged_ ABSL_GUARDED_BY(mutex_);  // certificates that our authority signed, by their PEM
};

}  // namespace fedwatt

#endif  // FEDWATT_RPC_GATE_H_

// TLS that needs no thought: a folder that the coordinator fills at its first start and that clients read.
#ifndef FEDWATT_RPC_SECURITY_H_
#define FEDWATT_RPC_SECURITY_H_

#include <openssl/types.h>

#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "fedwatt/base/clock.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/security/server_credentials.h"

namespace fedwatt {

// What one end needs to speak TLS. All PEM.
struct TlsIdentity {
  std::string ca_pem;
  std::string certificate_pem;  // with its chain; empty together with key_pem for a client that has none yet
  std::string key_pem;
  std::string signing_key_pem;  // of the coordinator's manifests, public; "" where it is not known
};

std::shared_ptr<grpc::ChannelCredentials> ClientCredentials(const TlsIdentity& identity);
std::shared_ptr<grpc::ChannelCredentials> InsecureClientCredentials();
std::shared_ptr<grpc::ServerCredentials> InsecureServerCredentials();

// Who calls. Made by Gate (gate.h), which judges certificates.
struct Peer {
  enum class Role {
    kInsecure,   // this coordinator runs without TLS: client and operator
    kAnonymous,  // nothing proven: may only Enrol
    kDevice,     // an enrolled device: client
    kReadOnly,   // an enrolled person or program that looks: status, clients, rounds
    kOperator,   // an enrolled operator; no client
    kLocal,      // holder of the security directory: client and operator
  };
  Role role = Role::kAnonymous;
  std::string name;  // the certificate's common name; "" for the first two
  absl::Time not_before = absl::InfinitePast(), not_after = absl::InfiniteFuture();  // of the certificate
};
std::string_view RoleName(Peer::Role role);  // "client", "read_only", "operator", "local", "anonymous", "insecure"
// One of kDevice, kReadOnly, kOperator. Errors: INVALID_ARGUMENT
absl::StatusOr<Peer::Role> ParseRole(std::string_view name);

// A refusal with the word by which the audit log knows it.
absl::Status RefusalStatus(absl::StatusCode code, std::string_view reason, std::string_view message);
// "" where `status` is none.
std::string RefusalReason(const absl::Status& status);

// A key and a request for its certificate.
struct SigningRequest {
  std::string key_pem;  // EC P-256
  std::string csr_pem;
};
absl::StatusOr<SigningRequest> MakeSigningRequest();

struct EnrolmentToken {
  std::string text;         // "<secret>.<CA fingerprint>", 32 hexadecimal digits each
  absl::Time expiry_time;
};
// The two halves; `text` may be the secret alone, with an empty fingerprint. Errors: INVALID_ARGUMENT
struct TokenParts {
  std::string secret;
  std::string ca_fingerprint;
};
absl::StatusOr<TokenParts> ParseToken(std::string_view text);

struct EnrolledCertificate {
  std::string client_id;  // "device-", "operator-" or "reader-" and 32 hexadecimal digits: the certificate's common name
  std::string certificate_pem;
  std::string ca_pem;
  std::string signing_key_pem;
};

// Of every certificate but the authority's. Each is renewed, with no operator, once a third of this is left.
inline constexpr absl::Duration kCertificateLifetime = absl::Hours(24 * 365);

// The coordinator's security directory. Files, the folder 0700, keys and tokens 0600:
//
//   ca.crt.pem, ca.key.pem          the authority, 10 years
//   server.pem                      key and certificate of the coordinator in one file, so that no reload sees half of a new pair; for localhost,
//                                   127.0.0.1, ::1, the host's name and the extra names
//   client.pem                      likewise the shared identity "local" of clients and operators that can read the folder
//   signing.key.pem, signing.pub.pem  Ed25519, signs manifests (manifest.h)
//   release                         the newest epoch of release numbers
//   enrolment_token                 one token for `fedwatt enrol`, replaced by CreateOrOpen once it is used or has expired
//   tokens                          hashes of all tokens, their expiry, role and use
//   enrolled/<name>.crt.pem         what was signed
//   revoked                         names that are refused from now on
//   lock, ready                     `ready` is written last: a folder without it is unfinished
//
// Thread-safe, and safe against other processes with the same folder; the files are the only state.
class SecurityDirectory {
 public:
  // Makes what is missing; several processes may start at once, one of them does the work. `extra_names`: host names or IP addresses
  // that clients will use. `clock` must outlive the object.
  // Errors: PERMISSION_DENIED, RESOURCE_EXHAUSTED  the folder cannot be written; DATA_LOSS  a file in it is damaged;
  //         INVALID_ARGUMENT  lifetime outside [1 s, 3650 days]; DEADLINE_EXCEEDED  another process holds its lock for more than 30 s
  static absl::StatusOr<std::unique_ptr<SecurityDirectory>> CreateOrOpen(const std::string& path, const std::vector<std::string>& extra_names,
                                                                         const Clock* clock = &RealClock(),
                                                                         absl::Duration certificate_lifetime = kCertificateLifetime);

  const std::string& path() const { return path_; }
  // As of CreateOrOpen; its CA never changes.
  const TlsIdentity& server_identity() const { return server_; }
  // Names and addresses in the server's certificate, sorted.
  const std::vector<std::string>& server_names() const { return server_names_; }

  // For the listening port. Every client's certificate is asked for and none is verified here (only that its owner has its key): Gate judges it at each call.
  // Reads server.pem again within about a second of its renewal; connections that exist stay.
  std::shared_ptr<grpc::ServerCredentials> ServerCredentials() const;

  // Renews the server's and the local certificate when a third of their life is left, and reads `revoked` again if it changed. To be called about
  // once a second; costs a stat when there is nothing to do. Returns the names that were revoked since the last call.
  // Errors: DATA_LOSS  `revoked` is damaged (what was known stays); ALREADY_EXISTS  another process is at it: try again; the files'
  absl::StatusOr<std::vector<std::string>> Maintain();
  // New keys and certificates for server and local client now, with the old names.
  absl::Status RenewNow();

  // The key that signs manifests, private. Errors: the file's
  absl::StatusOr<std::string> SigningKeyPem() const;
  // Of release numbers, for a coordinator that starts: greater than any before, and at least the time in Unix seconds. Errors: DATA_LOSS  the file is damaged; the file's
  absl::StatusOr<int64_t> NextEpoch();

  // `role`: what the holder's certificate will allow, one of kDevice, kReadOnly, kOperator.
  // Errors: INVALID_ARGUMENT  lifetime outside (0, 30 days], or another role
  absl::StatusOr<EnrolmentToken> IssueToken(absl::Duration lifetime, Peer::Role role = Peer::Role::kDevice);

  // Signs a device's request, once a token; the same (token, request_id, csr_pem) again gets the same certificate until the token expires.
  // Errors: PERMISSION_DENIED  token unknown, expired or used; INVALID_ARGUMENT  the request is no valid PKCS#10 for an EC P-256 key
  absl::StatusOr<EnrolledCertificate> Enrol(std::string_view token, std::string_view request_id, std::string_view csr_pem);
  // A new certificate for a name that was enrolled; the old one stays good until it expires.
  // Errors: FAILED_PRECONDITION  never enrolled here; INVALID_ARGUMENT  as above
  absl::StatusOr<EnrolledCertificate> Renew(const std::string& name, std::string_view csr_pem);

  // From now on nobody is let in by this name, with any certificate, for good; Maintain makes it so in other processes. A repeat changes nothing.
  // Errors: NOT_FOUND  nothing was enrolled by this name here (the message lists some that were)
  absl::Status Revoke(const std::string& name);
  bool IsRevoked(const std::string& name) const;

  // Who holds a certificate, by our authority's signature alone: time and revocation are not looked at. Errors: UNAUTHENTICATED  a refusal
  absl::StatusOr<Peer> Judge(std::string_view certificate_pem) const;

 private:
  struct Stamp {  // of a file: what differs when it was replaced
    int64_t inode = 0, bytes = -1, changed_ns = 0;
    friend bool operator==(const Stamp&, const Stamp&) = default;
  };
  SecurityDirectory(std::string path, const Clock* clock, absl::Duration lifetime) : path_(std::move(path)), clock_(clock), lifetime_(lifetime) {}
  absl::StatusOr<EnrolmentToken> IssueTokenLocked(absl::Duration lifetime, Peer::Role role);
  absl::StatusOr<EnrolledCertificate> SignLocked(const std::string& name, EVP_PKEY* key);
  absl::Status RenewLeaves(bool all);
  absl::StatusOr<std::vector<std::string>> ReadRevoked();

  const std::string path_;
  const Clock* const clock_;
  const absl::Duration lifetime_;
  TlsIdentity server_;
  std::vector<std::string> server_names_;
  mutable absl::Mutex mutex_;
  absl::Time renew_at_ ABSL_GUARDED_BY(mutex_);
  Stamp revoked_stamp_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> revoked_ ABSL_GUARDED_BY(mutex_);
};

// When a certificate should be renewed: a third of its life before its end. Errors: DATA_LOSS  no certificate
absl::StatusOr<absl::Time> RenewalTime(std::string_view certificate_pem);
absl::StatusOr<absl::Time> ExpiryTime(std::string_view certificate_pem);

// The client's identity in a folder: a security directory, or what WriteIdentity left. Waits up to `wait` for a folder that a coordinator is
// just making. Errors: NOT_FOUND  still not there, with what to do; PERMISSION_DENIED; DATA_LOSS  damaged
absl::StatusOr<TlsIdentity> ReadClientIdentity(const std::string& path, absl::Duration wait);

// The common name in the identity's certificate: "local" or a client id. Errors: DATA_LOSS
absl::StatusOr<std::string> IdentityName(const TlsIdentity& identity);

// Writes an enrolled identity: ca.crt.pem, signing.pub.pem where known, client.pem (0600), ready; folder 0700. Over an older one: after a crash the old or the new one is there.
absl::Status WriteIdentity(const std::string& path, const TlsIdentity& identity);

}  // namespace fedwatt

#endif  // FEDWATT_RPC_SECURITY_H_

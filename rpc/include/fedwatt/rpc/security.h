// TLS that needs no thought: a folder that the coordinator fills at its first start and that clients read.
#ifndef FEDWATT_RPC_SECURITY_H_
#define FEDWATT_RPC_SECURITY_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "fedwatt/base/clock.h"
#include "grpcpp/security/auth_context.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/security/server_credentials.h"

namespace fedwatt {

// What one end needs to speak TLS. All PEM.
struct TlsIdentity {
  std::string ca_pem;
  std::string certificate_pem;  // with its chain; empty together with key_pem for a client that has none yet
  std::string key_pem;
};

std::shared_ptr<grpc::ChannelCredentials> ClientCredentials(const TlsIdentity& identity);
// Client certificates are asked for and verified, but a client may have none (Enrol): see PeerOf.
std::shared_ptr<grpc::ServerCredentials> ServerCredentials(const TlsIdentity& identity);
std::shared_ptr<grpc::ChannelCredentials> InsecureClientCredentials();
std::shared_ptr<grpc::ServerCredentials> InsecureServerCredentials();

// Who calls, by its certificate.
struct Peer {
  enum class Role {
    kInsecure,   // no TLS on this connection
    kAnonymous,  // TLS without a client certificate: may only Enrol
    kDevice,     // an enrolled device
    kLocal,      // holder of the security directory: client and operator
  };
  Role role = Role::kAnonymous;
  std::string name;  // the certificate's common name; "" for the first two
};
// `context` is ServerContextBase::auth_context(); null counts as insecure.
Peer PeerOf(const grpc::AuthContext* context);

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
  std::string client_id;  // "device-<32 hexadecimal digits>", the certificate's common name
  std::string certificate_pem;
  std::string ca_pem;
};

// The coordinator's security directory. Files, the folder 0700, keys and tokens 0600:
//
//   ca.crt.pem, ca.key.pem          the authority, 10 years
//   server.crt.pem, server.key.pem  for localhost, 127.0.0.1, ::1, the host's name and the extra names; renewed by CreateOrOpen
//   client.crt.pem, client.key.pem  the shared identity "local" of clients and operators that can read the folder
//   enrolment_token                 one token for `fedwatt enrol`, replaced by CreateOrOpen once it is used or has expired
//   tokens                          hashes of all tokens, their expiry and use
//   enrolled/<client id>.crt.pem    what was signed
//   lock, ready                     `ready` is written last: a folder without it is unfinished
//
// Thread-safe, and safe against other processes with the same folder; the files are the only state.
class SecurityDirectory {
 public:
  // Makes what is missing; several processes may start at once, one of them does the work. `extra_names`: host names or IP addresses
  // that clients will use. `clock` must outlive the object.
  // Errors: PERMISSION_DENIED, RESOURCE_EXHAUSTED  the folder cannot be written; DATA_LOSS  a file in it is damaged;
  //         DEADLINE_EXCEEDED  another process holds its lock for more than 30 s
  static absl::StatusOr<std::unique_ptr<SecurityDirectory>> CreateOrOpen(const std::string& path, const std::vector<std::string>& extra_names,
                                                                         const Clock* clock = &RealClock());

  const std::string& path() const { return path_; }
  // As of CreateOrOpen.
  const TlsIdentity& server_identity() const { return server_; }
  // Names and addresses in the server's certificate, sorted.
  const std::vector<std::string>& server_names() const { return server_names_; }

  // Errors: INVALID_ARGUMENT  lifetime outside (0, 30 days]
  absl::StatusOr<EnrolmentToken> IssueToken(absl::Duration lifetime);

  // Signs a device's request, once a token; the same (token, request_id, csr_pem) again gets the same certificate until the token expires.
  // Errors: PERMISSION_DENIED  token unknown, expired or used; INVALID_ARGUMENT  the request is no valid PKCS#10 for an EC P-256 key
  absl::StatusOr<EnrolledCertificate> Enrol(std::string_view token, std::string_view request_id, std::string_view csr_pem);

 private:
  SecurityDirectory(std::string path, const Clock* clock) : path_(std::move(path)), clock_(clock) {}
  absl::StatusOr<EnrolmentToken> IssueTokenLocked(absl::Duration lifetime);

  std::string path_;
  const Clock* clock_;
  TlsIdentity server_;
  std::vector<std::string> server_names_;
};

// The client's identity in a folder: a security directory, or what WriteIdentity left. Waits up to `wait` for a folder that a coordinator is
// just making. Errors: NOT_FOUND  still not there, with what to do; PERMISSION_DENIED; DATA_LOSS  damaged
absl::StatusOr<TlsIdentity> ReadClientIdentity(const std::string& path, absl::Duration wait);

// The common name in the identity's certificate: "local" or a client id. Errors: DATA_LOSS
absl::StatusOr<std::string> IdentityName(const TlsIdentity& identity);

// Writes an enrolled identity: ca.crt.pem, client.crt.pem, client.key.pem, ready; folder 0700, key 0600.
absl::Status WriteIdentity(const std::string& path, const TlsIdentity& identity);

}  // namespace fedwatt

#endif  // FEDWATT_RPC_SECURITY_H_

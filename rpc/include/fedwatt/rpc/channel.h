// Channels and servers with the limits that docs/protocol.md promises.
#ifndef FEDWATT_RPC_CHANNEL_H_
#define FEDWATT_RPC_CHANNEL_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "fedwatt/rpc/security.h"
#include "grpcpp/channel.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/server_builder.h"

namespace fedwatt {

struct HostPort {
  std::string host;  // without brackets
  int port = 0;
};
// "host:port", "127.0.0.1:port" or "[::1]:port". Errors: INVALID_ARGUMENT
absl::StatusOr<HostPort> ParseAddress(std::string_view address);

// A channel with its own connection. Connects lazily and by itself again, at most 2 s after a failure. A loopback address bypasses any
// HTTP proxy of the environment.
// Errors: INVALID_ARGUMENT  bad address
absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(const std::string& address,
                                                           const std::shared_ptr<grpc::ChannelCredentials>& credentials);

// Message caps (4 MiB), small flow-control windows, keepalive, no shared ports.
void ApplyServerLimits(grpc::ServerBuilder& builder);

// Tries one plain connection and, with `identity`, one TLS handshake, and says in words what is wrong: nobody listens, the host has no
// address (each address tried is named), the peer speaks no TLS, another CA, or a certificate that names others (found and expected names).
// OK when the handshake works. Blocks for at most about `timeout` an address. `identity` null: TLS is not tried.
absl::Status DiagnoseConnection(const std::string& address, const TlsIdentity* identity, absl::Duration timeout);

// Learns the CA of a server for enrolment: accepts only a certificate whose SHA-256 starts with `fingerprint` (32 hexadecimal digits, from
// the token). Errors: UNAVAILABLE  no connection; PERMISSION_DENIED  the server showed no such CA (the token is another server's)
absl::StatusOr<std::string> FetchCa(const std::string& address, std::string_view fingerprint, absl::Duration timeout);

}  // namespace fedwatt

#endif  // FEDWATT_RPC_CHANNEL_H_

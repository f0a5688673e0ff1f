#include "fedwatt/rpc/channel.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "certificates.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/support/channel_arguments.h"

namespace fedwatt {
namespace {

constexpr int kMaxMessageBytes = 4 << 20;
constexpr int kStreamWindowBytes = 64 << 10;
constexpr int kHandshakeTimeoutMs = 20000;  // a slow device or link needs seconds
constexpr int kKeepaliveMs = 20000;
constexpr int kKeepaliveTimeoutMs = 10000;

bool IsLoopback(const std::string& host) { return host == "localhost" || host == "::1" || host.rfind("127.", 0) == 0; }

// Connects to one address within `timeout`. The descriptor is left blocking, with `timeout` on reads and writes.
absl::StatusOr<int> Connect(const addrinfo& address, absl::Duration timeout) {
  int fd = ::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return ErrnoStatus(errno, "socket");
  const timeval limit = absl::ToTimeval(timeout);
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));  // bounds connect() as well
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  if (::connect(fd, address.ai_addr, address.ai_addrlen) == 0) return fd;
  const int error = errno == EINPROGRESS ? ETIMEDOUT : errno;
  ::close(fd);
  return absl::UnavailableError(std::strerror(error));
}

// Tries each address of the host; the error names them all.
absl::StatusOr<int> ConnectToAny(const HostPort& target, absl::Duration timeout) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (int error = ::getaddrinfo(target.host.c_str(), absl::StrCat(target.port).c_str(), &hints, &found); error != 0) {
    return absl::UnavailableError(absl::StrCat("host ", target.host, " has no address: ", ::gai_strerror(error)));
  }
  absl::Cleanup freer = [found] { ::freeaddrinfo(found); };
  std::vector<std::string> tried;
  for (const addrinfo* address = found; address != nullptr; address = address->ai_next) {
    absl::StatusOr<int> fd = Connect(*address, timeout);
    if (fd.ok()) return fd;
    char text[NI_MAXHOST] = "?";
    ::getnameinfo(address->ai_addr, address->ai_addrlen, text, sizeof(text), nullptr, 0, NI_NUMERICHOST);
    tried.push_back(absl::StrCat(text, " port ", target.port, ": ", std::string(fd.status().message())));
  }
  return absl::UnavailableError(absl::StrJoin(tried, "; "));
}

// One TLS handshake without verification; verification follows on the certificates, so that it can be explained.
struct Handshake {
  std::unique_ptr<SSL_CTX, internal::Freer<SSL_CTX_free>> context;
  std::unique_ptr<SSL, internal::Freer<SSL_free>> ssl;
};

absl::StatusOr<Handshake> ShakeHands(const HostPort& target, absl::Duration timeout) {
  FEDWATT_ASSIGN_OR_RETURN(int fd, ConnectToAny(target, timeout));
  absl::Cleanup closer = [fd] { ::close(fd); };
  Handshake result;
  result.context.reset(SSL_CTX_new(TLS_client_method()));
  SSL_CTX_set_min_proto_version(result.context.get(), TLS1_2_VERSION);
  result.ssl.reset(SSL_new(result.context.get()));
  static constexpr unsigned char kAlpn[] = {2, 'h', '2'};
  SSL_set_alpn_protos(result.ssl.get(), kAlpn, sizeof(kAlpn));
  SSL_set_tlsext_host_name(result.ssl.get(), target.host.c_str());
  SSL_set_fd(result.ssl.get(), fd);
  const bool ok = SSL_connect(result.ssl.get()) == 1 && SSL_get0_peer_certificate(result.ssl.get()) != nullptr;
  ERR_clear_error();
  if (!ok) {
    return absl::UnavailableError(absl::StrCat(target.host, " port ", target.port, " answers, but does not speak TLS (started with --insecure?)"));
  }
  return result;
}

}  // namespace

absl::StatusOr<HostPort> ParseAddress(std::string_view address) {
  const absl::Status bad = absl::InvalidArgumentError(absl::StrCat("address '", std::string(address), "': expected host:port or [::1]:port"));
  const size_t colon = address.rfind(':');
  if (colon == std::string_view::npos) return bad;
  std::string_view host = address.substr(0, colon);
  const bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  HostPort result;
  result.host = std::string(host);
  const bool number = absl::SimpleAtoi(std::string(address.substr(colon + 1)), &result.port);
  if (host.empty() || (!bracketed && host.find(':') != std::string_view::npos) || host.find('/') != std::string_view::npos || !number ||
      result.port < 0 || result.port > 65535) {
    return bad;
  }
  return result;
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(const std::string& address,
                                                           const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  FEDWATT_ASSIGN_OR_RETURN(HostPort target, ParseAddress(address));
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  arguments.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kStreamWindowBytes);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200);
  // In spite of its name this is the time a connection attempt gets, TLS handshake included: a slow device or link needs seconds.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 10000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  // Two clients in one process must not share a connection: each counts its own bytes and may have its own identity.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  if (IsLoopback(target.host)) arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel(address, credentials, arguments);
}

void ApplyServerLimits(grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // Connections that do not shake hands keep their place no longer; gRPC's default is two minutes.
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeTimeoutMs);
  // One process may speak for a thousand partitions; nobody needs more calls at once on one connection.
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 4096);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kStreamWindowBytes);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  // Clients ping each 20 s; the default of five minutes would have them disconnected for it.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kKeepaliveMs / 2);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
}

absl::Status DiagnoseConnection(const std::string& address, const TlsIdentity* identity, absl::Duration timeout) {
  FEDWATT_ASSIGN_OR_RETURN(HostPort target, ParseAddress(address));
  if (identity == nullptr) {
    FEDWATT_ASSIGN_OR_RETURN(int fd, ConnectToAny(target, timeout));
    ::close(fd);
    return absl::OkStatus();
  }
  FEDWATT_ASSIGN_OR_RETURN(Handshake handshake, ShakeHands(target, timeout));
  X509* certificate = SSL_get0_peer_certificate(handshake.ssl.get());
  FEDWATT_ASSIGN_OR_RETURN(internal::CertificatePtr ca, internal::CertificateFromPem(identity->ca_pem));
  std::unique_ptr<X509_STORE, internal::Freer<X509_STORE_free>> store(X509_STORE_new());
  std::unique_ptr<X509_STORE_CTX, internal::Freer<X509_STORE_CTX_free>> verification(X509_STORE_CTX_new());
  X509_STORE_add_cert(store.get(), ca.get());
  X509_STORE_CTX_init(verification.get(), store.get(), certificate, nullptr);
  if (X509_verify_cert(verification.get()) != 1) {
    const char* reason = X509_verify_cert_error_string(X509_STORE_CTX_get_error(verification.get()));
    ERR_clear_error();
    return absl::UnauthenticatedError(absl::StrCat("the server at ", address, " is not of this federation (", reason,
                                                   "); its security directory is another one, or was made anew: enrol again"));
  }
  if (X509_check_ip_asc(certificate, target.host.c_str(), 0) != 1 && X509_check_host(certificate, target.host.c_str(), 0, 0, nullptr) != 1) {
    return absl::UnauthenticatedError(absl::StrCat("the server's certificate does not name '", target.host, "'; it names ",
                                                   absl::StrJoin(internal::NamesOf(certificate), ", "),
                                                   ". Use one of these, or start the server with the name added to server.names"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> FetchCa(const std::string& address, std::string_view fingerprint, absl::Duration timeout) {
  FEDWATT_ASSIGN_OR_RETURN(HostPort target, ParseAddress(address));
  FEDWATT_ASSIGN_OR_RETURN(Handshake handshake, ShakeHands(target, timeout));
  STACK_OF(X509)* chain = SSL_get_peer_cert_chain(handshake.ssl.get());
  for (int i = 0; i < sk_X509_num(chain); ++i) {
    X509* certificate = sk_X509_value(chain, i);
    if (!fingerprint.empty() && internal::Fingerprint(certificate).rfind(fingerprint, 0) == 0) return internal::CertificateToPem(certificate);
  }
  return absl::PermissionDeniedError(absl::StrCat("the server at ", address, " showed no CA that fits the token; the token is another server's"));
}

}  // namespace fedwatt

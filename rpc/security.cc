#include "fedwatt/rpc/security.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "certificates.h"
#include "fedwatt/base/digest.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/rpc/chunks.h"

namespace fedwatt {
namespace {

using internal::CertificatePtr;
using internal::CertificateSpec;
using internal::CertificateUse;
using internal::KeyPtr;

constexpr int64_t kMaxFileBytes = 1 << 20;
constexpr absl::Duration kDay = absl::Hours(24);
constexpr absl::Duration kAuthorityLifetime = absl::Hours(24 * 3650);
constexpr absl::Duration kLeafLifetime = absl::Hours(24 * 730);
constexpr absl::Duration kDeviceLifetime = absl::Hours(24 * 365);
constexpr absl::Duration kRenewBefore = absl::Hours(24 * 30);
constexpr absl::Duration kFirstTokenLifetime = absl::Hours(24 * 7);
constexpr absl::Duration kLockPatience = absl::Seconds(30);
constexpr absl::Duration kPollInterval = absl::Milliseconds(50);
constexpr char kReadyText[] = "fedwatt security 1\n";
constexpr size_t kHalfTokenDigits = 32;

std::string File(const std::string& folder, std::string_view name) { return absl::StrCat(folder, "/", std::string(name)); }

bool Exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

// Another process needs the lock for milliseconds only, so polling is enough.
absl::StatusOr<FileLock> LockFolder(const std::string& folder) {
  const absl::Duration start = RealClock().Monotonic();
  for (;;) {
    absl::StatusOr<FileLock> lock = FileLock::Acquire(File(folder, "lock"));
    if (lock.ok() || lock.status().code() != absl::StatusCode::kAlreadyExists) return lock;
    if (RealClock().Monotonic() - start > kLockPatience) {
      return absl::DeadlineExceededError(absl::StrCat("security directory: ", std::string(lock.status().message())));
    }
    absl::SleepFor(kPollInterval);
  }
}

absl::StatusOr<std::string> Read(const std::string& folder, std::string_view name) {
  return ReadFile(File(folder, name), kMaxFileBytes);
}

struct Authority {
  KeyPtr key;
  CertificatePtr certificate;
  std::string pem;
};

absl::StatusOr<Authority> ReadAuthority(const std::string& folder) {
  Authority authority;
  FEDWATT_ASSIGN_OR_RETURN(std::string key, Read(folder, "ca.key.pem"));
  FEDWATT_ASSIGN_OR_RETURN(authority.pem, Read(folder, "ca.crt.pem"));
  auto parsed_key = internal::KeyFromPem(key);
  if (!parsed_key.ok()) return Annotate(parsed_key.status(), File(folder, "ca.key.pem"));
  auto certificate = internal::CertificateFromPem(authority.pem);
  if (!certificate.ok()) return Annotate(certificate.status(), File(folder, "ca.crt.pem"));
  authority.key = *std::move(parsed_key);
  authority.certificate = *std::move(certificate);
  return authority;
}

// A day back: the clocks of devices are not exact.
CertificateSpec Spec(std::string name, CertificateUse use, absl::Time now, absl::Duration lifetime) {
  return CertificateSpec{std::move(name), use, {}, now - kDay, now + lifetime};
}

absl::Status MakeAuthority(const std::string& folder, absl::Time now) {
  FEDWATT_ASSIGN_OR_RETURN(KeyPtr key, internal::GenerateKey());
  // A name of its own, so that two federations' authorities are told apart.
  CertificateSpec spec = Spec(absl::StrCat("Fedwatt CA ", RandomId().substr(0, 8)), CertificateUse::kAuthority, now, kAuthorityLifetime);
  FEDWATT_ASSIGN_OR_RETURN(CertificatePtr certificate, internal::Sign(spec, key.get(), nullptr, key.get()));
  FEDWATT_ASSIGN_OR_RETURN(std::string key_pem, internal::KeyToPem(key.get()));
  FEDWATT_ASSIGN_OR_RETURN(std::string pem, internal::CertificateToPem(certificate.get()));
  FEDWATT_RETURN_IF_ERROR(WriteFileAtomically(File(folder, "ca.key.pem"), key_pem, 0600));
  return WriteFileAtomically(File(folder, "ca.crt.pem"), pem, 0644);
}

// `stem` is "server" or "client". The chain carries the CA, so that a device with a token can learn it from the handshake.
absl::Status MakeLeaf(const std::string& folder, const Authority& authority, const std::string& stem, const CertificateSpec& spec) {
  FEDWATT_ASSIGN_OR_RETURN(KeyPtr key, internal::GenerateKey());
  FEDWATT_ASSIGN_OR_RETURN(CertificatePtr certificate, internal::Sign(spec, key.get(), authority.certificate.get(), authority.key.get()));
  FEDWATT_ASSIGN_OR_RETURN(std::string key_pem, internal::KeyToPem(key.get()));
  FEDWATT_ASSIGN_OR_RETURN(std::string pem, internal::CertificateToPem(certificate.get()));
  FEDWATT_RETURN_IF_ERROR(WriteFileAtomically(File(folder, stem + ".key.pem"), key_pem, 0600));
  return WriteFileAtomically(File(folder, stem + ".crt.pem"), pem + authority.pem, 0644);
}

// True when the certificate is there, lives long enough and names all of `names`.
bool LeafIsGood(const std::string& folder, const std::string& stem, const std::vector<std::string>& names, absl::Time now) {
  absl::StatusOr<std::string> pem = Read(folder, stem + ".crt.pem");
  absl::StatusOr<std::string> key = Read(folder, stem + ".key.pem");
  if (!pem.ok() || !key.ok() || !internal::KeyFromPem(*key).ok()) return false;
  absl::StatusOr<CertificatePtr> certificate = internal::CertificateFromPem(*pem);
  if (!certificate.ok() || internal::NotAfter(certificate->get()) < now + kRenewBefore) return false;
  std::vector<std::string> found = internal::NamesOf(certificate->get());
  return std::includes(found.begin(), found.end(), names.begin(), names.end());
}

// ---- Tokens. One line each: "<SHA-256 of the secret> <expiry, Unix seconds> [<client id> <SHA-256 of the request>]".

struct TokenLine {
  std::string hash;
  absl::Time expiry_time;
  std::string client_id;  // "" while unused
  std::string request_hash;
};

absl::StatusOr<std::vector<TokenLine>> ReadTokens(const std::string& folder) {
  absl::StatusOr<std::string> text = Read(folder, "tokens");
  if (text.status().code() == absl::StatusCode::kNotFound) return std::vector<TokenLine>();
  FEDWATT_RETURN_IF_ERROR(text.status());
  std::vector<TokenLine> tokens;
  for (absl::string_view line : absl::StrSplit(*text, '\n', absl::SkipEmpty())) {
    std::vector<std::string> fields = absl::StrSplit(line, ' ');
    int64_t expiry = 0;
    if ((fields.size() != 2 && fields.size() != 4) || fields[0].size() != 64 || !absl::SimpleAtoi(fields[1], &expiry)) {
      return absl::DataLossError(absl::StrCat(File(folder, "tokens"), ": line ", tokens.size() + 1, " is damaged"));
    }
    fields.resize(4);
    tokens.push_back({fields[0], absl::FromUnixSeconds(expiry), fields[2], fields[3]});
  }
  return tokens;
}

absl::Status WriteTokens(const std::string& folder, const std::vector<TokenLine>& tokens) {
  std::string text;
  for (const TokenLine& token : tokens) {
    absl::StrAppend(&text, token.hash, " ", absl::ToUnixSeconds(token.expiry_time));
    if (!token.client_id.empty()) absl::StrAppend(&text, " ", token.client_id, " ", token.request_hash);
    absl::StrAppend(&text, "\n");
  }
  return WriteFileAtomically(File(folder, "tokens"), text, 0600);
}

bool IsHex(absl::string_view text, size_t digits) {
  return text.size() == digits && std::all_of(text.begin(), text.end(), [](char c) { return absl::ascii_isxdigit(c) && !absl::ascii_isupper(c); });
}

absl::Status CheckIdentity(const std::string& folder, const TlsIdentity& identity) {
  auto ca = internal::CertificateFromPem(identity.ca_pem);
  if (!ca.ok()) return Annotate(ca.status(), File(folder, "ca.crt.pem"));
  auto certificate = internal::CertificateFromPem(identity.certificate_pem);
  if (!certificate.ok()) return Annotate(certificate.status(), absl::StrCat("certificate in ", folder));
  auto key = internal::KeyFromPem(identity.key_pem);
  if (!key.ok()) return Annotate(key.status(), absl::StrCat("key in ", folder));
  if (X509_check_private_key(certificate->get(), key->get()) != 1) {
    return absl::DataLossError(absl::StrCat(folder, ": the key does not belong to the certificate"));
  }
  return absl::OkStatus();
}

absl::StatusOr<TlsIdentity> ReadIdentity(const std::string& folder, const std::string& stem) {
  TlsIdentity identity;
  FEDWATT_ASSIGN_OR_RETURN(identity.ca_pem, Read(folder, "ca.crt.pem"));
  FEDWATT_ASSIGN_OR_RETURN(identity.certificate_pem, Read(folder, stem + ".crt.pem"));
  FEDWATT_ASSIGN_OR_RETURN(identity.key_pem, Read(folder, stem + ".key.pem"));
  FEDWATT_RETURN_IF_ERROR(CheckIdentity(folder, identity));
  return identity;
}

std::vector<std::string> ServerNames(const std::vector<std::string>& extra_names) {
  std::set<std::string> names(extra_names.begin(), extra_names.end());
  names.insert({"127.0.0.1", "::1", "localhost"});
  char host[256] = {};
  if (::gethostname(host, sizeof(host) - 1) == 0 && host[0] != '\0') names.insert(host);
  names.erase("");
  // Wildcard addresses are for listening; nobody connects to them by name.
  names.erase("0.0.0.0");
  names.erase("::");
  return {names.begin(), names.end()};
}

}  // namespace

std::shared_ptr<grpc::ChannelCredentials> ClientCredentials(const TlsIdentity& identity) {
  return grpc::SslCredentials({identity.ca_pem, identity.key_pem, identity.certificate_pem});
}

std::shared_ptr<grpc::ServerCredentials> ServerCredentials(const TlsIdentity& identity) {
  grpc::SslServerCredentialsOptions options(GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_root_certs = identity.ca_pem;
  options.pem_key_cert_pairs.push_back({identity.key_pem, identity.certificate_pem});
  return grpc::SslServerCredentials(options);
}

std::shared_ptr<grpc::ChannelCredentials> InsecureClientCredentials() { return grpc::InsecureChannelCredentials(); }
std::shared_ptr<grpc::ServerCredentials> InsecureServerCredentials() { return grpc::InsecureServerCredentials(); }

Peer PeerOf(const grpc::AuthContext* context) {
  if (context == nullptr) return {Peer::Role::kInsecure, ""};
  std::vector<grpc::string_ref> type = context->FindPropertyValues("transport_security_type");
  if (type.empty() || type[0] != "ssl") return {Peer::Role::kInsecure, ""};
  std::vector<grpc::string_ref> names = context->FindPropertyValues("x509_common_name");
  if (!context->IsPeerAuthenticated() || names.size() != 1) return {Peer::Role::kAnonymous, ""};
  std::string name(names[0].data(), names[0].size());
  // Only our CA signs, and it gives every enrolled device a name that starts with "device-".
  return {name == "local" ? Peer::Role::kLocal : Peer::Role::kDevice, std::move(name)};
}

absl::StatusOr<SigningRequest> MakeSigningRequest() {
  SigningRequest request;
  FEDWATT_ASSIGN_OR_RETURN(KeyPtr key, internal::GenerateKey());
  FEDWATT_ASSIGN_OR_RETURN(request.key_pem, internal::KeyToPem(key.get()));
  FEDWATT_ASSIGN_OR_RETURN(request.csr_pem, internal::MakeRequestPem(key.get()));
  return request;
}

absl::StatusOr<TokenParts> ParseToken(std::string_view text) {
  std::vector<std::string> parts = absl::StrSplit(absl::StripAsciiWhitespace(absl::string_view(text.data(), text.size())), '.');
  if (parts.size() > 2 || !IsHex(parts[0], kHalfTokenDigits) || (parts.size() == 2 && !IsHex(parts[1], kHalfTokenDigits))) {
    return absl::InvalidArgumentError("enrolment token: expected 32 hexadecimal digits, a dot and 32 more, as in the file enrolment_token");
  }
  parts.resize(2);
  return TokenParts{parts[0], parts[1]};
}

absl::StatusOr<std::unique_ptr<SecurityDirectory>> SecurityDirectory::CreateOrOpen(const std::string& path,
                                                                                   const std::vector<std::string>& extra_names,
                                                                                   const Clock* clock) {
  FEDWATT_RETURN_IF_ERROR(MakeDirectories(path, 0700));
  FEDWATT_ASSIGN_OR_RETURN(FileLock lock, LockFolder(path));
  const absl::Time now = clock->Now();
  if (!Exists(File(path, "ready"))) {
    if (::chmod(path.c_str(), 0700) != 0) return ErrnoStatus(errno, absl::StrCat("setting the mode of ", path));
    FEDWATT_RETURN_IF_ERROR(MakeAuthority(path, now));
    // Left over from a start that was interrupted; they belong to another authority.
    for (const char* name : {"server.crt.pem", "client.crt.pem", "tokens", "enrolment_token"}) ::unlink(File(path, name).c_str());
  }
  FEDWATT_RETURN_IF_ERROR(MakeDirectories(File(path, "enrolled"), 0700));
  FEDWATT_ASSIGN_OR_RETURN(Authority authority, ReadAuthority(path));

  CertificateSpec server = Spec("fedwatt-server", CertificateUse::kServer, now, kLeafLifetime);
  server.names = ServerNames(extra_names);
  if (!LeafIsGood(path, "server", server.names, now)) {
    // Names that an earlier start asked for stay.
    if (absl::StatusOr<std::string> pem = Read(path, "server.crt.pem"); pem.ok()) {
      if (absl::StatusOr<CertificatePtr> old = internal::CertificateFromPem(*pem); old.ok()) {
        for (const std::string& name : internal::NamesOf(old->get())) server.names.push_back(name);
        std::sort(server.names.begin(), server.names.end());
        server.names.erase(std::unique(server.names.begin(), server.names.end()), server.names.end());
      }
    }
    FEDWATT_RETURN_IF_ERROR(MakeLeaf(path, authority, "server", server));
  }
  if (!LeafIsGood(path, "client", {}, now)) {
    FEDWATT_RETURN_IF_ERROR(MakeLeaf(path, authority, "client", Spec("local", CertificateUse::kClient, now, kLeafLifetime)));
  }

  std::unique_ptr<SecurityDirectory> directory(new SecurityDirectory(path, clock));
  FEDWATT_ASSIGN_OR_RETURN(directory->server_, ReadIdentity(path, "server"));
  FEDWATT_ASSIGN_OR_RETURN(CertificatePtr certificate, internal::CertificateFromPem(directory->server_.certificate_pem));
  directory->server_names_ = internal::NamesOf(certificate.get());

  bool token_is_good = false;
  if (absl::StatusOr<std::string> text = Read(path, "enrolment_token"); text.ok()) {
    FEDWATT_ASSIGN_OR_RETURN(std::vector<TokenLine> tokens, ReadTokens(path));
    absl::StatusOr<TokenParts> parts = ParseToken(*text);
    for (const TokenLine& token : tokens) {
      token_is_good |= parts.ok() && token.hash == Sha256(parts->secret).Hex() && token.client_id.empty() && token.expiry_time > now;
    }
  }
  if (!token_is_good) {
    FEDWATT_ASSIGN_OR_RETURN(EnrolmentToken token, directory->IssueTokenLocked(kFirstTokenLifetime));
    FEDWATT_RETURN_IF_ERROR(WriteFileAtomically(File(path, "enrolment_token"), token.text + "\n", 0600));
  }
  if (!Exists(File(path, "ready"))) FEDWATT_RETURN_IF_ERROR(WriteFileAtomically(File(path, "ready"), kReadyText, 0644));
  return directory;
}

absl::StatusOr<EnrolmentToken> SecurityDirectory::IssueToken(absl::Duration lifetime) {
  if (lifetime <= absl::ZeroDuration() || lifetime > 30 * kDay) {
    return absl::InvalidArgumentError(absl::StrCat("token lifetime: expected (0, 30 days], got ", absl::FormatDuration(lifetime)));
  }
  FEDWATT_ASSIGN_OR_RETURN(FileLock lock, LockFolder(path_));
  return IssueTokenLocked(lifetime);
}

absl::StatusOr<EnrolmentToken> SecurityDirectory::IssueTokenLocked(absl::Duration lifetime) {
  FEDWATT_ASSIGN_OR_RETURN(std::vector<TokenLine> tokens, ReadTokens(path_));
  FEDWATT_ASSIGN_OR_RETURN(CertificatePtr ca, internal::CertificateFromPem(server_.ca_pem));
  const absl::Time now = clock_->Now();
  // Expired tokens can do nothing any more; dropping them keeps the file small.
  std::erase_if(tokens, [now](const TokenLine& token) { return token.expiry_time <= now; });
  const std::string secret = RandomId();
  EnrolmentToken token{absl::StrCat(secret, ".", internal::Fingerprint(ca.get()).substr(0, kHalfTokenDigits)), now + lifetime};
  tokens.push_back({Sha256(secret).Hex(), token.expiry_time, "", ""});
  FEDWATT_RETURN_IF_ERROR(WriteTokens(path_, tokens));
  return token;
}

absl::StatusOr<EnrolledCertificate> SecurityDirectory::Enrol(std::string_view token, std::string_view request_id, std::string_view csr_pem) {
  absl::StatusOr<TokenParts> parts = ParseToken(token);
  if (!parts.ok()) return absl::PermissionDeniedError(parts.status().message());
  FEDWATT_ASSIGN_OR_RETURN(KeyPtr key, internal::KeyOfRequest(csr_pem));
  const std::string hash = Sha256(parts->secret).Hex();
  const std::string request_hash = Sha256(absl::StrCat(std::string(request_id), "\n", std::string(csr_pem))).Hex();

  FEDWATT_ASSIGN_OR_RETURN(FileLock lock, LockFolder(path_));
  FEDWATT_ASSIGN_OR_RETURN(std::vector<TokenLine> tokens, ReadTokens(path_));
  auto line = std::find_if(tokens.begin(), tokens.end(), [&](const TokenLine& candidate) { return candidate.hash == hash; });
  if (line == tokens.end()) return absl::PermissionDeniedError("enrolment token: unknown to this coordinator");
  const absl::Time now = clock_->Now();
  if (line->expiry_time <= now) {
    return absl::PermissionDeniedError(absl::StrCat("enrolment token: expired at ", absl::FormatTime(line->expiry_time, absl::UTCTimeZone())));
  }
  FEDWATT_ASSIGN_OR_RETURN(Authority authority, ReadAuthority(path_));
  EnrolledCertificate enrolled;
  enrolled.ca_pem = authority.pem;
  if (!line->client_id.empty()) {
    if (line->request_hash != request_hash) return absl::PermissionDeniedError("enrolment token: used already");
    enrolled.client_id = line->client_id;
    FEDWATT_ASSIGN_OR_RETURN(enrolled.certificate_pem, Read(path_, absl::StrCat("enrolled/", line->client_id, ".crt.pem")));
    return enrolled;
  }
  enrolled.client_id = absl::StrCat("device-", RandomId());
  FEDWATT_ASSIGN_OR_RETURN(CertificatePtr certificate,
                           internal::Sign(Spec(enrolled.client_id, CertificateUse::kClient, now, kDeviceLifetime), key.get(),
                                          authority.certificate.get(), authority.key.get()));
  FEDWATT_ASSIGN_OR_RETURN(enrolled.certificate_pem, internal::CertificateToPem(certificate.get()));
  // The certificate first: a crash before the token is marked leaves only a file that nobody was given.
  FEDWATT_RETURN_IF_ERROR(
      WriteFileAtomically(File(path_, absl::StrCat("enrolled/", enrolled.client_id, ".crt.pem")), enrolled.certificate_pem, 0644));
  line->client_id = enrolled.client_id;
  line->request_hash = request_hash;
  FEDWATT_RETURN_IF_ERROR(WriteTokens(path_, tokens));
  return enrolled;
}

absl::StatusOr<TlsIdentity> ReadClientIdentity(const std::string& path, absl::Duration wait) {
  const absl::Duration start = RealClock().Monotonic();
  while (!Exists(File(path, "ready"))) {
    if (RealClock().Monotonic() - start >= wait) {
      return absl::NotFoundError(absl::StrCat("security directory ", path, ": not there", wait > absl::ZeroDuration() ? absl::StrCat(" after ", absl::FormatDuration(wait)) : "",
                                              "; the coordinator makes it at its first start. On another machine run `fedwatt enrol --server "
                                              "ADDRESS --token TOKEN` with the token from the coordinator's ", path, "/enrolment_token"));
    }
    absl::SleepFor(kPollInterval);
  }
  return ReadIdentity(path, "client");
}

absl::StatusOr<std::string> IdentityName(const TlsIdentity& identity) {
  FEDWATT_ASSIGN_OR_RETURN(CertificatePtr certificate, internal::CertificateFromPem(identity.certificate_pem));
  char name[256] = {};
  if (X509_NAME_get_text_by_NID(X509_get_subject_name(certificate.get()), NID_commonName, name, sizeof(name)) < 1) {
    return absl::DataLossError("the certificate has no common name");
  }
  return std::string(name);
}

absl::Status WriteIdentity(const std::string& path, const TlsIdentity& identity) {
  FEDWATT_RETURN_IF_ERROR(CheckIdentity(path, identity));
  FEDWATT_RETURN_IF_ERROR(MakeDirectories(path, 0700));
  FEDWATT_RETURN_IF_ERROR(WriteFileAtomically(File(path, "client.key.pem"), identity.key_pem, 0600));
  FEDWATT_RETURN_IF_ERROR(WriteFileAtomically(File(path, "client.crt.pem"), identity.certificate_pem));
  FEDWATT_RETURN_IF_ERROR(WriteFileAtomically(File(path, "ca.crt.pem"), identity.ca_pem));
  return WriteFileAtomically(File(path, "ready"), kReadyText);
}

}  // namespace fedwatt

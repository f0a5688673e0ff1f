#include "fedwatt/rpc/security.h"

#include <openssl/err.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "certificates.h"
#include "fedwatt/base/digest.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/base/text.h"
#include "fedwatt/rpc/chunks.h"
#include "fedwatt/rpc/manifest.h"
#include "grpcpp/security/tls_certificate_provider.h"
#include "grpcpp/security/tls_credentials_options.h"

namespace fedwatt {
namespace {

using internal::CertificatePtr;
using internal::CertificateSpec;
using internal::CertificateUse;
using internal::KeyPtr;

constexpr int64_t kMaxFileBytes = 1 << 20;
constexpr absl::Duration kDay = absl::Hours(24);
constexpr absl::Duration kAuthorityLifetime = absl::Hours(24 * 3650);
constexpr absl::Duration kFirstTokenLifetime = absl::Hours(24 * 7);
constexpr absl::Duration kLockPatience = absl::Seconds(30);
constexpr absl::Duration kPollInterval = absl::Milliseconds(50);
constexpr char kReadyText[] = "fedwatt security 1\n";
constexpr size_t kHalfTokenDigits = 32;
constexpr char kRefusalUrl[] = "fedwatt.refusal";
constexpr unsigned kReloadSeconds = 1;

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

// A new key and its certificate with the chain, which carries the CA so that a device with a token can learn it from the handshake.
absl::StatusOr<std::string> MakeLeaf(const Authority& authority, const CertificateSpec& spec) {
  FEDWATT_ASSIGN_OR_RETURN(KeyPtr key, internal::GenerateKey());
  FEDWATT_ASSIGN_OR_RETURN(CertificatePtr certificate, internal::Sign(spec, key.get(), authority.certificate.get(), authority.key.get()));
  FEDWATT_ASSIGN_OR_RETURN(std::string key_pem, internal::KeyToPem(key.get()));
  FEDWATT_ASSIGN_OR_RETURN(std::string pem, internal::CertificateToPem(certificate.get()));
  return key_pem + pem + authority.pem;
}

absl::Time RenewalTimeOf(X509* certificate) {
  const absl::Time end = internal::NotAfter(certificate);
  return end - (end - (internal::NotBefore(certificate) + kDay)) / 3;
}

// When the leaf in `bundle` should be renewed; InfinitePast where it is missing, unusable, or lacks one of `names`.
absl::Time LeafRenewal(const absl::StatusOr<std::string>& bundle, const std::vector<std::string>& names) {
  if (!bundle.ok()) return absl::InfinitePast();
  absl::StatusOr<KeyPtr> own = internal::KeyFromPem(*bundle);
  absl::StatusOr<CertificatePtr> certificate = internal::CertificateFromPem(*bundle);
  if (!own.ok() || !certificate.ok() || X509_check_private_key(certificate->get(), own->get()) != 1) {
    ERR_clear_error();
    return absl::InfinitePast();
  }
  std::vector<std::string> found = internal::NamesOf(certificate->get());
  return std::includes(found.begin(), found.end(), names.begin(), names.end()) ? RenewalTimeOf(certificate->get()) : absl::InfinitePast();
}

// ---- Names. What a certificate allows is said by how its common name begins; only our authority signs.

struct RolePrefix {
  Peer::Role role;
  absl::string_view name, prefix;
};
constexpr RolePrefix kRoles[] = {
    {Peer::Role::kDevice, "client", "device-"}, {Peer::Role::kReadOnly, "read_only", "reader-"}, {Peer::Role::kOperator, "operator", "operator-"}};

const RolePrefix* FindRole(Peer::Role role) {
  for (const RolePrefix& candidate : kRoles) {
    if (candidate.role == role) return &candidate;
  }
  return nullptr;
}

// ---- Tokens. One line each: "<SHA-256 of the secret> <expiry, Unix seconds> [<role>] [<client id> <SHA-256 of the request>]"; no role: client.

struct TokenLine {
  std::string hash;
  absl::Time expiry_time;
  Peer::Role role = Peer::Role::kDevice;
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
    TokenLine token;
    int64_t expiry = 0;
    bool ok = fields.size() >= 2 && fields.size() <= 5 && fields[0].size() == 64 && absl::SimpleAtoi(fields[1], &expiry);
    if (ok && fields.size() % 2 == 1) {
      absl::StatusOr<Peer::Role> role = ParseRole(fields[2]);
      ok = role.ok();
      token.role = role.value_or(token.role);
      fields.erase(fields.begin() + 2);
    }
    if (!ok) return absl::DataLossError(absl::StrCat(File(folder, "tokens"), ": line ", tokens.size() + 1, " is damaged"));
    token.hash = fields[0];
    token.expiry_time = absl::FromUnixSeconds(expiry);
    if (fields.size() == 4) {
      token.client_id = fields[2];
      token.request_hash = fields[3];
    }
    tokens.push_back(std::move(token));
  }
  return tokens;
}

absl::Status WriteTokens(const std::string& folder, const std::vector<TokenLine>& tokens) {
  std::string text;
  for (const TokenLine& token : tokens) {
    absl::StrAppend(&text, token.hash, " ", absl::ToUnixSeconds(token.expiry_time), " ", FindRole(token.role)->name);
    if (!token.client_id.empty()) absl::StrAppend(&text, " ", token.client_id, " ", token.request_hash);
    absl::StrAppend(&text, "\n");
  }
  return WriteFileAtomically(File(folder, "tokens"), text, 0600);
}

bool IsHex(absl::string_view text, size_t digits) {
  return text.size() == digits && std::all_of(text.begin(), text.end(), [](char c) { return absl::ascii_isxdigit(c) && !absl::ascii_isupper(c); });
}

// What a certificate's name allows; nothing where it is none of ours.
std::optional<Peer::Role> RoleOf(absl::string_view name) {
  if (name == "local") return Peer::Role::kLocal;
  for (const RolePrefix& role : kRoles) {
    if (absl::StartsWith(name, role.prefix) && IsHex(name.substr(role.prefix.size()), 32)) return role.role;
  }
  return std::nullopt;
}

// `revoked`: one name a line, sorted. Errors: DATA_LOSS
absl::StatusOr<std::set<std::string>> ReadRevocations(const std::string& folder) {
  absl::StatusOr<std::string> text = Read(folder, "revoked");
  if (text.status().code() == absl::StatusCode::kNotFound) return std::set<std::string>();
  FEDWATT_RETURN_IF_ERROR(text.status());
  std::set<std::string> names;
  for (absl::string_view line : absl::StrSplit(*text, '\n', absl::SkipEmpty())) {
    if (!RoleOf(line).has_value()) return absl::DataLossError(absl::StrCat(File(folder, "revoked"), ": line ", names.size() + 1, " is damaged"));
    names.emplace(line);
  }
  return names;
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

// From `name`, which holds key and chain.
absl::StatusOr<TlsIdentity> ReadIdentity(const std::string& folder, const std::string& name) {
  TlsIdentity identity;
  FEDWATT_ASSIGN_OR_RETURN(identity.ca_pem, Read(folder, "ca.crt.pem"));
  FEDWATT_ASSIGN_OR_RETURN(const std::string bundle, Read(folder, name));
  absl::StatusOr<std::string> signing_key = Read(folder, "signing.pub.pem");
  if (signing_key.ok()) {
    identity.signing_key_pem = *std::move(signing_key);
  } else if (signing_key.status().code() != absl::StatusCode::kNotFound) {
    return signing_key.status();
  }
  const size_t certificates = std::min(bundle.find("-----BEGIN CERTIFICATE-----"), bundle.size());
  identity.key_pem = bundle.substr(0, certificates);
  identity.certificate_pem = bundle.substr(certificates);
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

std::shared_ptr<grpc::ChannelCredentials> InsecureClientCredentials() { return grpc::InsecureChannelCredentials(); }
std::shared_ptr<grpc::ServerCredentials> InsecureServerCredentials() { return grpc::InsecureServerCredentials(); }

std::string_view RoleName(Peer::Role role) {
  if (const RolePrefix* found = FindRole(role); found != nullptr) return {found->name.data(), found->name.size()};
  return role == Peer::Role::kLocal ? "local" : role == Peer::Role::kInsecure ? "insecure" : "anonymous";
}

absl::StatusOr<Peer::Role> ParseRole(std::string_view name) {
  for (const RolePrefix& role : kRoles) {
    if (role.name == absl::string_view(name.data(), name.size())) return role.role;
  }
  return absl::InvalidArgumentError(absl::StrCat("role: expected client, operator or read_only, got '", std::string(name.substr(0, 40)), "'"));
}

absl::Status RefusalStatus(absl::StatusCode code, std::string_view reason, std::string_view message) {
  absl::Status status(code, absl::string_view(message.data(), message.size()));
  status.SetPayload(kRefusalUrl, absl::Cord(absl::string_view(reason.data(), reason.size())));
  return status;
}

std::string RefusalReason(const absl::Status& status) {
  const auto payload = status.GetPayload(kRefusalUrl);
  return payload.has_value() ? std::string(*payload) : "";
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
                                                                                   const Clock* clock, absl::Duration certificate_lifetime) {
  if (certificate_lifetime < absl::Seconds(1) || certificate_lifetime > 3650 * kDay) {
    return absl::InvalidArgumentError(
        absl::StrCat("certificate lifetime: expected [1 s, 3650 days], got ", absl::FormatDuration(certificate_lifetime)));
  }
  FEDWATT_RETURN_IF_ERROR(MakeDirectories(path, 0700));
  FEDWATT_ASSIGN_OR_RETURN(FileLock lock, LockFolder(path));
  const absl::Time now = clock->Now();
  if (!Exists(File(path, "ready"))) {
    if (::chmod(path.c_str(), 0700) != 0) return ErrnoStatus(errno, absl::StrCat("setting the mode of ", path));
    FEDWATT_RETURN_IF_ERROR(MakeAuthority(path, now));
    // Left over from a start that was interrupted; they belong to another authority.
    for (const char* name : {"server.pem", "client.pem", "tokens", "enrolment_token", "revoked"}) ::unlink(File(path, name).c_str());
  }
  FEDWATT_RETURN_IF_ERROR(MakeDirectories(File(path, "enrolled"), 0700));
  if (!Exists(File(path, "signing.pub.pem"))) {
    FEDWATT_ASSIGN_OR_RETURN(SigningKey signing, MakeSigningKey());
    FEDWATT_RETURN_IF_ERROR(WriteFileAtomically(File(path, "signing.key.pem"), signing.private_pem, 0600));
    FEDWATT_RETURN_IF_ERROR(WriteFileAtomically(File(path, "signing.pub.pem"), signing.public_pem, 0644));
  }

  std::unique_ptr<SecurityDirectory> directory(new SecurityDirectory(path, clock, certificate_lifetime));
  directory->server_names_ = ServerNames(extra_names);
  FEDWATT_RETURN_IF_ERROR(directory->RenewLeaves(/*all=*/false));
  FEDWATT_ASSIGN_OR_RETURN(directory->server_, ReadIdentity(path, "server.pem"));
  FEDWATT_ASSIGN_OR_RETURN(CertificatePtr certificate, internal::CertificateFromPem(directory->server_.certificate_pem));
  directory->server_names_ = internal::NamesOf(certificate.get());
  FEDWATT_RETURN_IF_ERROR(directory->ReadRevoked().status());

  bool token_is_good = false;
  if (absl::StatusOr<std::string> text = Read(path, "enrolment_token"); text.ok()) {
    FEDWATT_ASSIGN_OR_RETURN(std::vector<TokenLine> tokens, ReadTokens(path));
    absl::StatusOr<TokenParts> parts = ParseToken(*text);
    for (const TokenLine& token : tokens) {
      token_is_good |= parts.ok() && token.hash == Sha256(parts->secret).Hex() && token.client_id.empty() && token.expiry_time > now;
    }
  }
  if (!token_is_good) {
    FEDWATT_ASSIGN_OR_RETURN(EnrolmentToken token, directory->IssueTokenLocked(kFirstTokenLifetime, Peer::Role::kDevice));
    FEDWATT_RETURN_IF_ERROR(WriteFileAtomically(File(path, "enrolment_token"), token.text + "\n", 0600));
  }
  if (!Exists(File(path, "ready"))) FEDWATT_RETURN_IF_ERROR(WriteFileAtomically(File(path, "ready"), kReadyText, 0644));
  return directory;
}

absl::Status SecurityDirectory::RenewLeaves(bool all) {
  FEDWATT_ASSIGN_OR_RETURN(Authority authority, ReadAuthority(path_));
  const absl::Time now = clock_->Now();
  const auto keep = [&](const char* file, const CertificateSpec& spec) -> absl::StatusOr<absl::Time> {
    const absl::Time due = LeafRenewal(Read(path_, file), spec.names);
    if (!all && due > now) return due;
    FEDWATT_ASSIGN_OR_RETURN(std::string leaf, MakeLeaf(authority, spec));
    FEDWATT_RETURN_IF_ERROR(WriteFileAtomically(File(path_, file), leaf, 0600));
    return LeafRenewal(leaf, {});
  };
  CertificateSpec server = Spec("fedwatt-server", CertificateUse::kServer, now, lifetime_);
  server.names = server_names_;
  if (LeafRenewal(Read(path_, "server.pem"), server.names) == absl::InfinitePast()) {
    // Names that an earlier start asked for stay.
    if (absl::StatusOr<CertificatePtr> old = internal::CertificateFromPem(Read(path_, "server.pem").value_or("")); old.ok()) {
      std::set<std::string> names(server.names.begin(), server.names.end());
      for (std::string& name : internal::NamesOf(old->get())) names.insert(std::move(name));
      server.names.assign(names.begin(), names.end());
    }
  }
  FEDWATT_ASSIGN_OR_RETURN(absl::Time server_due, keep("server.pem", server));
  FEDWATT_ASSIGN_OR_RETURN(absl::Time local_due, keep("client.pem", Spec("local", CertificateUse::kClient, now, lifetime_)));
  absl::MutexLock lock(&mutex_);
  renew_at_ = std::min(server_due, local_due);
  return absl::OkStatus();
}

absl::Status SecurityDirectory::RenewNow() {
  FEDWATT_ASSIGN_OR_RETURN(FileLock lock, LockFolder(path_));
  return RenewLeaves(/*all=*/true);
}

absl::StatusOr<std::vector<std::string>> SecurityDirectory::Maintain() {
  bool renew;
  {
    absl::MutexLock lock(&mutex_);
    renew = renew_at_ <= clock_->Now();
  }
  if (renew) {
    FEDWATT_ASSIGN_OR_RETURN(FileLock lock, FileLock::Acquire(File(path_, "lock")));
    FEDWATT_RETURN_IF_ERROR(RenewLeaves(/*all=*/false));
  }
  return ReadRevoked();
}

absl::StatusOr<std::vector<std::string>> SecurityDirectory::ReadRevoked() {
  struct stat info;
  Stamp stamp;
  if (::stat(File(path_, "revoked").c_str(), &info) == 0) {
    stamp = {static_cast<int64_t>(info.st_ino), static_cast<int64_t>(info.st_size), info.st_ctim.tv_sec * 1'000'000'000 + info.st_ctim.tv_nsec};
  } else if (errno != ENOENT) {
    return ErrnoStatus(errno, File(path_, "revoked"));
  }
  absl::MutexLock lock(&mutex_);
  if (stamp == revoked_stamp_) return std::vector<std::string>();
  std::vector<std::string> news;
  if (stamp.bytes >= 0) {
    FEDWATT_ASSIGN_OR_RETURN(std::set<std::string> names, ReadRevocations(path_));
    for (const std::string& name : names) {
      // Nobody comes back: what the file lost since is still refused here, until the next start.
      if (revoked_.insert(name).second) news.push_back(name);
    }
  }
  revoked_stamp_ = stamp;
  return news;
}

absl::Status SecurityDirectory::Revoke(const std::string& name) {
  FEDWATT_ASSIGN_OR_RETURN(FileLock lock, LockFolder(path_));
  if (!RoleOf(name).has_value() || *RoleOf(name) == Peer::Role::kLocal || !Exists(File(path_, absl::StrCat("enrolled/", name, ".crt.pem")))) {
    return absl::NotFoundError(absl::StrCat(OneLine(TruncateUtf8(name, 64)), ": nothing was enrolled by this name in ", path_,
                                            "; `fedwatt keys show` lists what was", name == "local" ? ". Who holds 'local' can read the authority's key: make a new "
                                            "security directory and enrol anew" : ""));
  }
  FEDWATT_ASSIGN_OR_RETURN(std::set<std::string> names, ReadRevocations(path_));
  if (!names.insert(name).second) return absl::OkStatus();
  return WriteFileAtomically(File(path_, "revoked"), absl::StrCat(absl::StrJoin(names, "\n"), "\n"), 0600);
}

bool SecurityDirectory::IsRevoked(const std::string& name) const {
  absl::MutexLock lock(&mutex_);
  return revoked_.contains(name);
}

std::shared_ptr<grpc::ServerCredentials> SecurityDirectory::ServerCredentials() const {
  const std::string file = File(path_, "server.pem");
  auto provider = std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(file, file, kReloadSeconds);
  grpc::experimental::TlsServerCredentialsOptions options(provider);
  options.watch_identity_key_cert_pairs();
  options.set_cert_request_type(GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_BUT_DONT_VERIFY);
  return grpc::experimental::TlsServerCredentials(options);
}

absl::StatusOr<Peer> SecurityDirectory::Judge(std::string_view certificate_pem) const {
  const auto refuse = [](std::string_view reason, std::string_view why) {
    return RefusalStatus(absl::StatusCode::kUnauthenticated, reason, absl::StrCat("client certificate: ", std::string(why)));
  };
  absl::StatusOr<CertificatePtr> certificate = internal::CertificateFromPem(certificate_pem);
  if (!certificate.ok()) return refuse("unreadable", "cannot be read");
  FEDWATT_ASSIGN_OR_RETURN(CertificatePtr authority, internal::CertificateFromPem(server_.ca_pem));
  if (const int error = internal::VerifyClient(certificate->get(), authority.get()); error != X509_V_OK) {
    if (error == X509_V_ERR_INVALID_PURPOSE) return refuse("wrong_use", "is not one for clients");
    return refuse("unknown_authority", absl::StrCat("not signed by this coordinator's authority (", X509_verify_cert_error_string(error), "); enrol here"));
  }
  Peer peer;
  peer.name = internal::CommonNameOf(certificate->get());
  peer.not_before = internal::NotBefore(certificate->get());
  peer.not_after = internal::NotAfter(certificate->get());
  const std::optional<Peer::Role> role = RoleOf(peer.name);
  if (!role.has_value()) return refuse("wrong_name", absl::StrCat("its name '", OneLine(TruncateUtf8(peer.name, 64)), "' is none that this coordinator gives"));
  peer.role = *role;
  return peer;
}

absl::StatusOr<std::string> SecurityDirectory::SigningKeyPem() const { return Read(path_, "signing.key.pem"); }

absl::StatusOr<int64_t> SecurityDirectory::NextEpoch() {
  FEDWATT_ASSIGN_OR_RETURN(FileLock lock, LockFolder(path_));
  int64_t last = 0;
  if (absl::StatusOr<std::string> text = Read(path_, "release"); text.ok()) {
    if (!absl::SimpleAtoi(absl::StripAsciiWhitespace(*text), &last) || last < 0) return absl::DataLossError(absl::StrCat(File(path_, "release"), ": not a number"));
  } else if (text.status().code() != absl::StatusCode::kNotFound) {
    return text.status();
  }
  // By the time, too, so that a folder that was restored from a backup goes on above what it had reached.
  const int64_t next = std::max(last + 1, absl::ToUnixSeconds(clock_->Now()));
  FEDWATT_RETURN_IF_ERROR(WriteFileAtomically(File(path_, "release"), absl::StrCat(next, "\n"), 0644));
  return next;
}

absl::StatusOr<EnrolmentToken> SecurityDirectory::IssueToken(absl::Duration lifetime, Peer::Role role) {
  if (FindRole(role) == nullptr) return absl::InvalidArgumentError("token role: expected client, operator or read_only");
  if (lifetime <= absl::ZeroDuration() || lifetime > 30 * kDay) {
    return absl::InvalidArgumentError(absl::StrCat("token lifetime: expected (0, 30 days], got ", absl::FormatDuration(lifetime)));
  }
  FEDWATT_ASSIGN_OR_RETURN(FileLock lock, LockFolder(path_));
  return IssueTokenLocked(lifetime, role);
}

absl::StatusOr<EnrolmentToken> SecurityDirectory::IssueTokenLocked(absl::Duration lifetime, Peer::Role role) {
  FEDWATT_ASSIGN_OR_RETURN(std::vector<TokenLine> tokens, ReadTokens(path_));
  FEDWATT_ASSIGN_OR_RETURN(CertificatePtr ca, internal::CertificateFromPem(server_.ca_pem));
  const absl::Time now = clock_->Now();
  // Expired tokens can do nothing any more; dropping them keeps the file small.
  std::erase_if(tokens, [now](const TokenLine& token) { return token.expiry_time <= now; });
  const std::string secret = RandomId();
  EnrolmentToken token{absl::StrCat(secret, ".", internal::Fingerprint(ca.get()).substr(0, kHalfTokenDigits)), now + lifetime};
  tokens.push_back({Sha256(secret).Hex(), token.expiry_time, role, "", ""});
  FEDWATT_RETURN_IF_ERROR(WriteTokens(path_, tokens));
  return token;
}

absl::StatusOr<EnrolledCertificate> SecurityDirectory::Enrol(std::string_view token, std::string_view request_id, std::string_view csr_pem) {
  absl::StatusOr<TokenParts> parts = ParseToken(token);
  const auto refuse = [](std::string_view reason, std::string_view why) {
    return RefusalStatus(absl::StatusCode::kPermissionDenied, reason, absl::StrCat("enrolment token: ", std::string(why)));
  };
  if (!parts.ok()) return refuse("token_unknown", "expected 32 hexadecimal digits, a dot and 32 more");
  FEDWATT_ASSIGN_OR_RETURN(KeyPtr key, internal::KeyOfRequest(csr_pem));
  const std::string hash = Sha256(parts->secret).Hex();
  const std::string request_hash = Sha256(absl::StrCat(std::string(request_id), "\n", std::string(csr_pem))).Hex();

  FEDWATT_ASSIGN_OR_RETURN(FileLock lock, LockFolder(path_));
  FEDWATT_ASSIGN_OR_RETURN(std::vector<TokenLine> tokens, ReadTokens(path_));
  auto line = std::find_if(tokens.begin(), tokens.end(), [&](const TokenLine& candidate) { return candidate.hash == hash; });
  if (line == tokens.end()) return refuse("token_unknown", "unknown to this coordinator");
  const absl::Time now = clock_->Now();
  if (line->expiry_time <= now) {
    return refuse("token_expired", absl::StrCat("expired at ", absl::FormatTime(line->expiry_time, absl::UTCTimeZone())));
  }
  if (!line->client_id.empty()) {
    if (line->request_hash != request_hash) return refuse("token_used", "used already");
    EnrolledCertificate enrolled{line->client_id, "", server_.ca_pem, server_.signing_key_pem};
    FEDWATT_ASSIGN_OR_RETURN(enrolled.certificate_pem, Read(path_, absl::StrCat("enrolled/", line->client_id, ".crt.pem")));
    return enrolled;
  }
  // The certificate first: a crash before the token is marked leaves only a file that nobody was given.
  FEDWATT_ASSIGN_OR_RETURN(EnrolledCertificate enrolled, SignLocked(absl::StrCat(FindRole(line->role)->prefix, RandomId()), key.get()));
  line->client_id = enrolled.client_id;
  line->request_hash = request_hash;
  FEDWATT_RETURN_IF_ERROR(WriteTokens(path_, tokens));
  return enrolled;
}

absl::StatusOr<EnrolledCertificate> SecurityDirectory::SignLocked(const std::string& name, EVP_PKEY* key) {
  FEDWATT_ASSIGN_OR_RETURN(Authority authority, ReadAuthority(path_));
  EnrolledCertificate enrolled{name, "", authority.pem, server_.signing_key_pem};
  FEDWATT_ASSIGN_OR_RETURN(CertificatePtr certificate, internal::Sign(Spec(name, CertificateUse::kClient, clock_->Now(), lifetime_), key,
                                                                      authority.certificate.get(), authority.key.get()));
  FEDWATT_ASSIGN_OR_RETURN(enrolled.certificate_pem, internal::CertificateToPem(certificate.get()));
  FEDWATT_RETURN_IF_ERROR(WriteFileAtomically(File(path_, absl::StrCat("enrolled/", name, ".crt.pem")), enrolled.certificate_pem, 0644));
  return enrolled;
}

absl::StatusOr<EnrolledCertificate> SecurityDirectory::Renew(const std::string& name, std::string_view csr_pem) {
  FEDWATT_ASSIGN_OR_RETURN(KeyPtr key, internal::KeyOfRequest(csr_pem));
  FEDWATT_ASSIGN_OR_RETURN(FileLock lock, LockFolder(path_));
  const std::optional<Peer::Role> role = RoleOf(name);
  if (!role.has_value() || *role == Peer::Role::kLocal || !Exists(File(path_, absl::StrCat("enrolled/", name, ".crt.pem")))) {
    return absl::FailedPreconditionError(absl::StrCat("renewal: '", name, "' was not enrolled here"));
  }
  return SignLocked(name, key.get());
}

absl::StatusOr<absl::Time> RenewalTime(std::string_view certificate_pem) {
  FEDWATT_ASSIGN_OR_RETURN(CertificatePtr certificate, internal::CertificateFromPem(certificate_pem));
  return RenewalTimeOf(certificate.get());
}

absl::StatusOr<absl::Time> ExpiryTime(std::string_view certificate_pem) {
  FEDWATT_ASSIGN_OR_RETURN(CertificatePtr certificate, internal::CertificateFromPem(certificate_pem));
  return internal::NotAfter(certificate.get());
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
  return ReadIdentity(path, "client.pem");
}

absl::StatusOr<std::string> IdentityName(const TlsIdentity& identity) {
  FEDWATT_ASSIGN_OR_RETURN(CertificatePtr certificate, internal::CertificateFromPem(identity.certificate_pem));
  std::string name = internal::CommonNameOf(certificate.get());
  if (name.empty()) return absl::DataLossError("the certificate has no common name");
  return name;
}

absl::Status WriteIdentity(const std::string& path, const TlsIdentity& identity) {
  FEDWATT_RETURN_IF_ERROR(CheckIdentity(path, identity));
  FEDWATT_RETURN_IF_ERROR(MakeDirectories(path, 0700));
  FEDWATT_RETURN_IF_ERROR(WriteFileAtomically(File(path, "ca.crt.pem"), identity.ca_pem));
  if (!identity.signing_key_pem.empty()) FEDWATT_RETURN_IF_ERROR(WriteFileAtomically(File(path, "signing.pub.pem"), identity.signing_key_pem));
  FEDWATT_RETURN_IF_ERROR(WriteFileAtomically(File(path, "client.pem"), identity.key_pem + identity.certificate_pem, 0600));
  return WriteFileAtomically(File(path, "ready"), kReadyText);
}

}  // namespace fedwatt

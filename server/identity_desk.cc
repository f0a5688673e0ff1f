#include "identity_desk.h"

#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/base/text.h"
#include "fedwatt/rpc/conversion.h"

namespace fedwatt::internal {
namespace {

constexpr size_t kMaxIdBytes = 128;
constexpr size_t kMaxRequestBytes = 16 << 10;
constexpr size_t kRememberedTokens = 1000;

absl::Status CheckRequestId(const std::string& id) {
  if (!id.empty() && id.size() <= kMaxIdBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("request_id: expected [1, ", kMaxIdBytes, "] bytes, got ", id.size()));
}

absl::Status CheckCsr(const std::string& csr_pem) {
  if (csr_pem.size() <= kMaxRequestBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("csr_pem: longer than ", kMaxRequestBytes, " bytes"));
}

absl::Status NoTls() { return absl::FailedPreconditionError("this coordinator runs without TLS (--insecure)"); }

}  // namespace

absl::Status IdentityDesk::Enrol(const Caller& caller, const v1::EnrolRequest& request, v1::EnrolResponse* response) {
  if (security_ == nullptr) return NoTls();
  if (request.token().size() > kMaxIdBytes) return absl::InvalidArgumentError("enrol: token longer than 128 bytes");
  FEDWATT_RETURN_IF_ERROR(CheckCsr(request.csr_pem()));
  FEDWATT_RETURN_IF_ERROR(CheckRequestId(request.request_id()));
  FEDWATT_ASSIGN_OR_RETURN(EnrolledCertificate enrolled, security_->Enrol(request.token(), request.request_id(), request.csr_pem()));
  response->set_certificate_chain_pem(enrolled.certificate_pem);
  response->set_ca_pem(enrolled.ca_pem);
  response->set_client_id(enrolled.client_id);
  response->set_signing_key_pem(enrolled.signing_key_pem);
  const std::string called = request.client_name().empty() ? "" : absl::StrCat(" calls itself ", OneLine(TruncateUtf8(request.client_name(), 128)));
  gate_->Done(caller, "enrolled", absl::StrCat(enrolled.client_id, called));
  return absl::OkStatus();
}

absl::Status IdentityDesk::Renew(const Caller& caller, const v1::RenewRequest& request, v1::RenewResponse* response) {
  if (security_ == nullptr) return NoTls();
  FEDWATT_RETURN_IF_ERROR(CheckCsr(request.csr_pem()));
  FEDWATT_ASSIGN_OR_RETURN(EnrolledCertificate renewed, security_->Renew(caller.peer.name, request.csr_pem()));
  response->set_certificate_chain_pem(renewed.certificate_pem);
  gate_->Done(caller, "renewed", renewed.client_id);
  return absl::OkStatus();
}

absl::Status IdentityDesk::IssueToken(const Caller& caller, const v1::IssueTokenRequest& request, v1::IssueTokenResponse* response) {
  if (security_ == nullptr) return NoTls();
  FEDWATT_RETURN_IF_ERROR(CheckRequestId(request.request_id()));
  if (auto known = issued_tokens_.find(request.request_id()); known != issued_tokens_.end()) {
    *response = known->second;
    return absl::OkStatus();
  }
  absl::Duration lifetime = absl::Hours(24);
  if (request.has_lifetime_duration()) {
    FEDWATT_ASSIGN_OR_RETURN(lifetime, FromProto(request.lifetime_duration()));
  }
  FEDWATT_ASSIGN_OR_RETURN(Peer::Role role, FromProto(request.role()));
  FEDWATT_ASSIGN_OR_RETURN(EnrolmentToken token, security_->IssueToken(lifetime, role));
  response->set_token(token.text);
  *response->mutable_expiry_time() = ToProto(token.expiry_time);
  if (issued_tokens_.size() >= kRememberedTokens) issued_tokens_.clear();
  issued_tokens_.emplace(request.request_id(), *response);
  gate_->Done(caller, "token_issued", absl::StrCat("role ", std::string(RoleName(role)), ", until ", absl::FormatTime(token.expiry_time, absl::UTCTimeZone())));
  return absl::OkStatus();
}

absl::Status IdentityDesk::Revoke(const Caller& caller, const v1::RevokeRequest& request) {
  if (security_ == nullptr) return NoTls();
  if (request.name().empty() || request.name().size() > kMaxIdBytes) return absl::InvalidArgumentError("name: expected [1, 128] bytes");
  FEDWATT_RETURN_IF_ERROR(security_->Revoke(request.name()));
  FEDWATT_RETURN_IF_ERROR(security_->Maintain().status());
  gate_->Done(caller, "revoked", request.name());
  return absl::OkStatus();
}

}  // namespace fedwatt::internal

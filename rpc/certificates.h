// X.509 by OpenSSL 3: keys, certificates, requests. Private to the room. Functions are thread-safe.
#ifndef FEDWATT_RPC_CERTIFICATES_H_
#define FEDWATT_RPC_CERTIFICATES_H_

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace fedwatt::internal {

template <auto kFree>
struct Freer {
  template <typename T>
  void operator()(T* object) const { kFree(object); }
};
using KeyPtr = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;
using CertificatePtr = std::unique_ptr<X509, Freer<X509_free>>;
using RequestPtr = std::unique_ptr<X509_REQ, Freer<X509_REQ_free>>;
using BioPtr = std::unique_ptr<BIO, Freer<BIO_free_all>>;

// INTERNAL with OpenSSL's first queued reason; empties the queue.
absl::Status OpenSslError(std::string_view what);

absl::StatusOr<KeyPtr> GenerateKey();  // EC P-256
absl::StatusOr<std::string> KeyToPem(EVP_PKEY* key);
absl::StatusOr<KeyPtr> KeyFromPem(std::string_view pem);  // Errors: DATA_LOSS
absl::StatusOr<std::string> CertificateToPem(X509* certificate);
absl::StatusOr<CertificatePtr> CertificateFromPem(std::string_view pem);  // the first one. Errors: DATA_LOSS
std::string Fingerprint(X509* certificate);                              // SHA-256 of the DER, 64 hexadecimal digits

enum class CertificateUse { kAuthority, kServer, kClient };
struct CertificateSpec {
  std::string common_name;
  CertificateUse use = CertificateUse::kClient;
  std::vector<std::string> names;  // DNS names and IP addresses
  absl::Time not_before, not_after;
};
// `issuer` null: self-signed.
absl::StatusOr<CertificatePtr> Sign(const CertificateSpec& spec, EVP_PKEY* subject_key, X509* issuer, EVP_PKEY* issuer_key);

absl::StatusOr<std::string> MakeRequestPem(EVP_PKEY* key);
// The request's key, after checking its signature and kind. Errors: INVALID_ARGUMENT
absl::StatusOr<KeyPtr> KeyOfRequest(std::string_view csr_pem);

// DNS names and IP addresses of the subject, sorted.
std::vector<std::string> NamesOf(X509* certificate);
absl::Time NotBefore(X509* certificate);
absl::Time NotAfter(X509* certificate);
std::string CommonNameOf(X509* certificate);  // "" where there is none, or several

// X509_V_OK, or OpenSSL's reason why `certificate` is none that `authority` signed for clients. Time is not looked at.
int VerifyClient(X509* certificate, X509* authority);

}  // namespace fedwatt::internal

#endif  // FEDWATT_RPC_CERTIFICATES_H_

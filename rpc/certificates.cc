#include "certificates.h"

#include <arpa/inet.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <ctime>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt::internal {
namespace {

BioPtr ReadBio(std::string_view text) { return BioPtr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))); }

std::string BioText(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return std::string(data, static_cast<size_t>(size));
}

bool IsIpAddress(const std::string& name) {
  in6_addr scratch;
  return ::inet_pton(AF_INET, name.c_str(), &scratch) == 1 || ::inet_pton(AF_INET6, name.c_str(), &scratch) == 1;
}

bool AddExtension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  std::unique_ptr<X509_EXTENSION, Freer<X509_EXTENSION_free>> extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
  return extension != nullptr && X509_add_ext(certificate, extension.get(), -1) == 1;
}

}  // namespace

absl::Status OpenSslError(std::string_view what) {
  char reason[256] = "no reason given";
  if (unsigned long error = ERR_get_error(); error != 0) ERR_error_string_n(error, reason, sizeof(reason));
  ERR_clear_error();
  return absl::InternalError(absl::StrCat(std::string(what), ": ", reason));
}

absl::StatusOr<KeyPtr> GenerateKey() {
  KeyPtr key(EVP_EC_gen("P-256"));
  if (key == nullptr) return OpenSslError("making a key");
  return key;
}

absl::StatusOr<std::string> KeyToPem(EVP_PKEY* key) {
  BioPtr bio(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_PKCS8PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) != 1) return OpenSslError("writing a key");
  return BioText(bio.get());
}

absl::StatusOr<KeyPtr> KeyFromPem(std::string_view pem) {
  KeyPtr key(PEM_read_bio_PrivateKey(ReadBio(pem).get(), nullptr, nullptr, nullptr));
  ERR_clear_error();
  if (key == nullptr) return absl::DataLossError("not a private key in PEM");
  return key;
}

absl::StatusOr<std::string> CertificateToPem(X509* certificate) {
  BioPtr bio(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_X509(bio.get(), certificate) != 1) return OpenSslError("writing a certificate");
  return BioText(bio.get());
}

absl::StatusOr<CertificatePtr> CertificateFromPem(std::string_view pem) {
  CertificatePtr certificate(PEM_read_bio_X509(ReadBio(pem).get(), nullptr, nullptr, nullptr));
  ERR_clear_error();
  if (certificate == nullptr) return absl::DataLossError("not a certificate in PEM");
  return certificate;
}

std::string Fingerprint(X509* certificate) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  FEDWATT_CHECK(X509_digest(certificate, EVP_sha256(), digest, &size) == 1);
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(digest), size));
}

absl::StatusOr<CertificatePtr> Sign(const CertificateSpec& spec, EVP_PKEY* subject_key, X509* issuer, EVP_PKEY* issuer_key) {
  CertificatePtr certificate(X509_new());
  X509* x = certificate.get();
  if (issuer == nullptr) issuer = x;
  unsigned char serial[16];
  bool ok = RAND_bytes(serial, sizeof(serial)) == 1;
  serial[0] = (serial[0] & 0x7f) | 0x40;  // positive, and always 16 bytes
  std::unique_ptr<BIGNUM, Freer<BN_free>> number(BN_bin2bn(serial, sizeof(serial), nullptr));
  ok = ok && X509_set_version(x, X509_VERSION_3) == 1 && BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(x)) != nullptr;
  ok = ok && ASN1_TIME_set(X509_getm_notBefore(x), absl::ToTimeT(spec.not_before)) != nullptr;
  ok = ok && ASN1_TIME_set(X509_getm_notAfter(x), absl::ToTimeT(spec.not_after)) != nullptr;
  X509_NAME* subject = X509_get_subject_name(x);
  auto add_name = [subject](const char* field, const std::string& text) {
    return X509_NAME_add_entry_by_txt(subject, field, MBSTRING_UTF8, reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()),
                                      -1, 0) == 1;
  };
  ok = ok && add_name("O", "Fedwatt") && add_name("CN", spec.common_name);
  ok = ok && X509_set_issuer_name(x, X509_get_subject_name(issuer)) == 1 && X509_set_pubkey(x, subject_key) == 1;
  const bool authority = spec.use == CertificateUse::kAuthority;
  ok = ok && AddExtension(x, issuer, NID_basic_constraints, authority ? "critical,CA:TRUE,pathlen:0" : "critical,CA:FALSE");
  ok = ok && AddExtension(x, issuer, NID_key_usage, authority ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature");
  ok = ok && AddExtension(x, issuer, NID_subject_key_identifier, "hash");
  ok = ok && AddExtension(x, issuer, NID_authority_key_identifier, "keyid:always");
  if (!authority) ok = ok && AddExtension(x, issuer, NID_ext_key_usage, spec.use == CertificateUse::kServer ? "serverAuth" : "clientAuth");
  if (!spec.names.empty()) {
    // Built as a structure: a configuration string would let a name with a comma smuggle in others.
    std::unique_ptr<GENERAL_NAMES, Freer<GENERAL_NAMES_free>> names(GENERAL_NAMES_new());
    for (const std::string& name : spec.names) {
      GENERAL_NAME* general = a2i_GENERAL_NAME(nullptr, nullptr, nullptr, IsIpAddress(name) ? GEN_IPADD : GEN_DNS,
                                               const_cast<char*>(name.c_str()), 0);
      ok = ok && general != nullptr && sk_GENERAL_NAME_push(names.get(), general) > 0;
    }
    ok = ok && X509_add1_ext_i2d(x, NID_subject_alt_name, names.get(), 0, X509V3_ADD_DEFAULT) == 1;
  }
  ok = ok && X509_sign(x, issuer_key, EVP_sha256()) > 0;
  if (!ok) return OpenSslError(absl::StrCat("making the certificate of ", spec.common_name));
  return certificate;
}

absl::StatusOr<std::string> MakeRequestPem(EVP_PKEY* key) {
  RequestPtr request(X509_REQ_new());
  BioPtr bio(BIO_new(BIO_s_mem()));
  if (X509_REQ_set_version(request.get(), X509_REQ_VERSION_1) != 1 || X509_REQ_set_pubkey(request.get(), key) != 1 ||
      X509_REQ_sign(request.get(), key, EVP_sha256()) <= 0 || PEM_write_bio_X509_REQ(bio.get(), request.get()) != 1) {
    return OpenSslError("making a signing request");
  }
  return BioText(bio.get());
}

absl::StatusOr<KeyPtr> KeyOfRequest(std::string_view csr_pem) {
  constexpr size_t kMaxBytes = 16 << 10;
  if (csr_pem.size() > kMaxBytes) return absl::InvalidArgumentError(absl::StrCat("signing request: ", csr_pem.size(), " bytes, at most ", kMaxBytes));
  RequestPtr request(PEM_read_bio_X509_REQ(ReadBio(csr_pem).get(), nullptr, nullptr, nullptr));
  KeyPtr key(request == nullptr ? nullptr : X509_REQ_get_pubkey(request.get()));
  const bool genuine = key != nullptr && X509_REQ_verify(request.get(), key.get()) == 1;
  char group[64] = {};
  size_t length = 0;
  const bool p256 = genuine && EVP_PKEY_get_group_name(key.get(), group, sizeof(group), &length) == 1 && std::string_view(group) == "prime256v1";
  ERR_clear_error();
  if (!genuine) return absl::InvalidArgumentError("signing request: not a PKCS#10 request in PEM, or its signature is wrong");
  if (!p256) return absl::InvalidArgumentError("signing request: the key is not EC P-256");
  return key;
}

std::vector<std::string> NamesOf(X509* certificate) {
  std::vector<std::string> result;
  std::unique_ptr<GENERAL_NAMES, Freer<GENERAL_NAMES_free>> names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type == GEN_DNS) {
      result.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.dNSName)),
                          static_cast<size_t>(ASN1_STRING_length(name->d.dNSName)));
    } else if (name->type == GEN_IPADD) {
      const int size = ASN1_STRING_length(name->d.iPAddress);
      char text[INET6_ADDRSTRLEN];
      if ((size == 4 || size == 16) &&
          ::inet_ntop(size == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(name->d.iPAddress), text, sizeof(text)) != nullptr) {
        result.emplace_back(text);
      }
    }
  }
  std::sort(result.begin(), result.end());
  return result;
}

namespace {
absl::Time TimeOf(const ASN1_TIME* time, absl::Time otherwise) {
  std::tm parts{};
  return ASN1_TIME_to_tm(time, &parts) == 1 ? absl::FromTM(parts, absl::UTCTimeZone()) : otherwise;
}
}  // namespace

absl::Time NotBefore(X509* certificate) { return TimeOf(X509_get0_notBefore(certificate), absl::InfiniteFuture()); }
absl::Time NotAfter(X509* certificate) { return TimeOf(X509_get0_notAfter(certificate), absl::InfinitePast()); }

std::string CommonNameOf(X509* certificate) {
  X509_NAME* subject = X509_get_subject_name(certificate);
  const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0) return "";
  unsigned char* text = nullptr;
  const int size = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
  if (size < 0) {
    ERR_clear_error();
    return "";
  }
  std::string name(reinterpret_cast<const char*>(text), static_cast<size_t>(size));
  OPENSSL_free(text);
  return name;
}

int VerifyClient(X509* certificate, X509* authority) {
  std::unique_ptr<X509_STORE, Freer<X509_STORE_free>> store(X509_STORE_new());
  std::unique_ptr<X509_STORE_CTX, Freer<X509_STORE_CTX_free>> verification(X509_STORE_CTX_new());
  int error = X509_V_ERR_UNSPECIFIED;
  if (X509_STORE_add_cert(store.get(), authority) == 1 && X509_STORE_CTX_init(verification.get(), store.get(), certificate, nullptr) == 1 &&
      X509_STORE_CTX_set_purpose(verification.get(), X509_PURPOSE_SSL_CLIENT) == 1) {
    X509_STORE_CTX_set_flags(verification.get(), X509_V_FLAG_NO_CHECK_TIME);
    const bool ok = X509_verify_cert(verification.get()) == 1;
    error = X509_STORE_CTX_get_error(verification.get());
    if (ok != (error == X509_V_OK)) error = X509_V_ERR_UNSPECIFIED;
  }
  ERR_clear_error();
  return error;
}

}  // namespace fedwatt::internal

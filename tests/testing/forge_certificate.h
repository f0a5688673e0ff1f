// Certificates that no coordinator would give.
#ifndef FEDWATT_TESTS_TESTING_FORGE_CERTIFICATE_H_
#define FEDWATT_TESTS_TESTING_FORGE_CERTIFICATE_H_

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <string>

#include "absl/time/time.h"
#include "fedwatt/base/file.h"
#include "fedwatt/rpc/security.h"

namespace fedwatt::testing {

// What nobody but the holder of the authority's key could make: a certificate for any name, time and use.
inline TlsIdentity Forge(const std::string& security, const std::string& name, absl::Time not_before, absl::Time not_after, const char* use = "clientAuth") {
  const auto bio = [](const std::string& text) { return BIO_new_mem_buf(text.data(), static_cast<int>(text.size())); };
  const std::string ca_pem = ReadFile(security + "/ca.crt.pem").value_or(""), ca_key_pem = ReadFile(security + "/ca.key.pem").value_or("");
  X509* ca = PEM_read_bio_X509(bio(ca_pem), nullptr, nullptr, nullptr);
  EVP_PKEY* ca_key = PEM_read_bio_PrivateKey(bio(ca_key_pem), nullptr, nullptr, nullptr);
  const std::string key_pem = MakeSigningRequest()->key_pem;
  EVP_PKEY* key = PEM_read_bio_PrivateKey(bio(key_pem), nullptr, nullptr, nullptr);
  X509* x = X509_new();
  X509_set_version(x, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(x), 7);
  ASN1_TIME_set(X509_getm_notBefore(x), absl::ToTimeT(not_before));
  ASN1_TIME_set(X509_getm_notAfter(x), absl::ToTimeT(not_after));
  X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_UTF8, reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  X509_set_issuer_name(x, X509_get_subject_name(ca));
  X509_set_pubkey(x, key);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, NID_ext_key_usage, use);
  X509_add_ext(x, extension, -1);
  X509_sign(x, ca_key, EVP_sha256());
  BIO* out = BIO_new(BIO_s_mem());
  PEM_write_bio_X509(out, x);
  char* data = nullptr;
  const long size = BIO_get_mem_data(out, &data);
  TlsIdentity identity{ca_pem, std::string(data, static_cast<size_t>(size)), key_pem};
  BIO_free(out);
  X509_EXTENSION_free(extension);
  X509_free(x);
  X509_free(ca);
  EVP_PKEY_free(ca_key);
  EVP_PKEY_free(key);
  return identity;
}

}  // namespace fedwatt::testing

#endif  // FEDWATT_TESTS_TESTING_FORGE_CERTIFICATE_H_

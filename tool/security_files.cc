#include "security_files.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt::tool {
namespace {

constexpr int64_t kMaxFileBytes = 1 << 20;

std::string CommonName(X509* certificate) {
  char name[256] = {};
  X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name, sizeof(name));
  return name;
}

std::vector<std::string> AlternativeNames(X509* certificate) {
  std::vector<std::string> names;
  std::unique_ptr<GENERAL_NAMES, decltype(&GENERAL_NAMES_free)> found(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)), GENERAL_NAMES_free);
  for (int i = 0; i < sk_GENERAL_NAME_num(found.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(found.get(), i);
    const ASN1_STRING* text = name->type == GEN_DNS ? name->d.dNSName : name->type == GEN_IPADD ? name->d.iPAddress : nullptr;
    if (text == nullptr) continue;
    const unsigned char* bytes = ASN1_STRING_get0_data(text);
    const int length = ASN1_STRING_length(text);
    char address[INET6_ADDRSTRLEN] = {};
    if (name->type == GEN_DNS)
      names.emplace_back(reinterpret_cast<const char*>(bytes), length);
    else if (::inet_ntop(length == 4 ? AF_INET : AF_INET6, bytes, address, sizeof(address)) != nullptr)
      names.emplace_back(address);
  }
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<SecurityFile> Describe(const std::string& directory, const std::string& name) {
  const std::string path = name == "." ? directory : absl::StrCat(directory, "/", name);
  struct stat info;
  if (::stat(path.c_str(), &info) != 0) return ErrnoStatus(errno, path);
  SecurityFile file;
  file.name = name;
  file.mode = static_cast<int>(info.st_mode & 07777);
  file.secret = S_ISDIR(info.st_mode) || absl::EndsWith(name, ".key.pem") || name == "server.pem" || name == "client.pem" || name == "revoked" || name == "tokens" || name == "enrolment_token";
  if (absl::EndsWith(name, ".crt.pem") || name == "server.pem" || name == "client.pem") {
    absl::StatusOr<CertificateFacts> certificate = ReadCertificate(path);
    if (certificate.ok())
      file.certificate = *certificate;
    else
      file.problem = std::string(certificate.status().message());
  }
  return file;
}

}  // namespace

absl::StatusOr<CertificateFacts> ReadCertificate(const std::string& path) {
  FEDWATT_ASSIGN_OR_RETURN(std::string pem, ReadFile(path, kMaxFileBytes));
  std::unique_ptr<BIO, decltype(&BIO_free_all)> bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), BIO_free_all);
  std::unique_ptr<X509, decltype(&X509_free)> certificate(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr), X509_free);
  std::tm expiry = {};
  if (certificate == nullptr || ASN1_TIME_to_tm(X509_get0_notAfter(certificate.get()), &expiry) != 1) {
    ERR_clear_error();
    return absl::DataLossError(absl::StrCat(path, ": no certificate in it"));
  }
  return CertificateFacts{CommonName(certificate.get()), AlternativeNames(certificate.get()),
                          absl::FromTM(expiry, absl::UTCTimeZone())};
}

absl::StatusOr<std::vector<SecurityFile>> ListSecurityFiles(const std::string& directory) {
  std::vector<std::string> names = {"."};
  for (const char* folder : {"", "enrolled/"}) {
    std::error_code error;
    std::filesystem::directory_iterator entry(absl::StrCat(directory, "/", folder), error), end;
    if (error && *folder == '\0') return ErrnoStatus(error.value(), directory);
    for (; !error && entry != end; entry.increment(error)) names.push_back(folder + entry->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  std::vector<SecurityFile> files;
  for (const std::string& name : names) {
    FEDWATT_ASSIGN_OR_RETURN(files.emplace_back(), Describe(directory, name));
  }
  return files;
}

}  // namespace fedwatt::tool

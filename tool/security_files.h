// What lies in a security directory, without any key material.
#ifndef FEDWATT_TOOL_SECURITY_FILES_H_
#define FEDWATT_TOOL_SECURITY_FILES_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace fedwatt::tool {

struct CertificateFacts {
  std::string subject;             // common name
  std::vector<std::string> names;  // DNS names and IP addresses that it stands for
  absl::Time not_after;
};
// The first certificate of a PEM file. Errors: as ReadFile; DATA_LOSS  no certificate in it
absl::StatusOr<CertificateFacts> ReadCertificate(const std::string& path);

struct SecurityFile {
  std::string name;     // relative to the directory; "." is the directory itself
  int mode = 0;         // permission bits
  bool secret = false;  // keys, tokens and the directory: nobody but the owner may read them
  std::optional<CertificateFacts> certificate;
  std::string problem;  // why a certificate could not be read

  bool exposed() const { return secret && (mode & 077) != 0; }
};

// The directory, its files and those in enrolled/, sorted. Errors: NOT_FOUND; PERMISSION_DENIED; INVALID_ARGUMENT  no directory
absl::StatusOr<std::vector<SecurityFile>> ListSecurityFiles(const std::string& directory);

}  // namespace fedwatt::tool

#endif  // FEDWATT_TOOL_SECURITY_FILES_H_

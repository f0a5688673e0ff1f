#include "release_guard.h"

#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "fedwatt/base/digest.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt::internal {
namespace {

constexpr int64_t kMaxFileBytes = 4096;

}  // namespace

// The file: "<SHA-256 of the pinned key> <number>". Numbers of another key mean nothing.
absl::Status ReleaseGuard::Load() {
  if (loaded_ || path_.empty()) return absl::OkStatus();
  absl::StatusOr<std::string> text = ReadFile(path_, kMaxFileBytes);
  if (text.status().code() != absl::StatusCode::kNotFound) {
    FEDWATT_RETURN_IF_ERROR(text.status());
    const std::vector<std::string> fields = absl::StrSplit(absl::StripAsciiWhitespace(*text), ' ');
    int64_t newest = 0;
    if (fields.size() != 2 || fields[0].size() != 64 || !absl::SimpleAtoi(fields[1], &newest) || newest < 1) {
      return absl::DataLossError(absl::StrCat(path_, ": not a release number; remove it to take what the coordinator says next"));
    }
    if (fields[0] == Sha256(key_).Hex()) newest_ = newest;
  }
  loaded_ = true;
  return absl::OkStatus();
}

absl::Status ReleaseGuard::CheckManifest(const v1::Plan& plan, const std::string& model_digest, const v1::ManifestSignature& manifest) {
  if (key_.empty()) return absl::UnauthenticatedError("manifest: this identity has no signing key pinned (signing.pub.pem); enrol anew");
  FEDWATT_RETURN_IF_ERROR(Load());
  FEDWATT_RETURN_IF_ERROR(VerifyManifest(key_, plan, model_digest, manifest));
  const int64_t number = manifest.release_number();
  if (number < newest_ || number < 1) {
    return absl::FailedPreconditionError(absl::StrCat("manifest: rolled back: release ", number, ", this client has taken ", newest_));
  }
  if (number == newest_) return absl::OkStatus();
  if (!path_.empty()) FEDWATT_RETURN_IF_ERROR(WriteFileAtomically(path_, absl::StrCat(Sha256(key_).Hex(), " ", number, "\n"), 0600));
  newest_ = number;
  return absl::OkStatus();
}

}  // namespace fedwatt::internal

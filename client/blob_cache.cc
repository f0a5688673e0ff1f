#include "blob_cache.h"

#include "absl/strings/str_cat.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt::internal {

absl::StatusOr<std::shared_ptr<const std::string>> BlobCache::Get(const Digest& digest,
                                                                  const std::function<absl::StatusOr<std::string>()>& fetch) {
  absl::MutexLock lock(&mutex_);
  if (!read_disk_ && !path_.empty()) {
    read_disk_ = true;
    if (absl::StatusOr<std::string> stored = ReadFile(path_); stored.ok()) {
      digest_ = Sha256(*stored);
      blob_ = std::make_shared<const std::string>(*std::move(stored));
    }
  }
  if (blob_ != nullptr && digest_ == digest) return blob_;
  FEDWATT_ASSIGN_OR_RETURN(std::string fetched, fetch());
  digest_ = digest;
  blob_ = std::make_shared<const std::string>(std::move(fetched));
  if (!path_.empty()) {
    // Only a cache: training goes on without it.
    if (absl::Status status = WriteFileAtomically(path_, *blob_, 0600); !status.ok()) {
      Log(log_, LogLevel::kWarning, absl::StrCat("the model is not kept: ", std::string(status.message())));
    }
  }
  return blob_;
}

}  // namespace fedwatt::internal

// The last model container, shared by a client's participants. Private to the room.
#ifndef FEDWATT_CLIENT_BLOB_CACHE_H_
#define FEDWATT_CLIENT_BLOB_CACHE_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "fedwatt/base/digest.h"
#include "fedwatt/base/log.h"

namespace fedwatt::internal {

// Thread-safe.
class BlobCache {
 public:
  // `path`: a file that keeps the blob over restarts; "" for none.
  BlobCache(std::string path, LogSink log) : path_(std::move(path)), log_(std::move(log)) {}

  // The blob, from memory, from disk, or by `fetch` (then kept). Only one fetch runs at a time, so that participants who start together
  // fetch once; `fetch` returns soon after its own stop is asked.
  absl::StatusOr<std::shared_ptr<const std::string>> Get(const Digest& digest, const std::function<absl::StatusOr<std::string>()>& fetch);

 private:
  const std::string path_;
  const LogSink log_;
  absl::Mutex mutex_;
  bool read_disk_ ABSL_GUARDED_BY(mutex_) = false;
  Digest digest_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const std::string> blob_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace fedwatt::internal

#endif  // FEDWATT_CLIENT_BLOB_CACHE_H_

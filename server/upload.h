// The bytes of one attempt's update on their way to disk.
#ifndef FEDWATT_SERVER_UPLOAD_H_
#define FEDWATT_SERVER_UPLOAD_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "fedwatt/base/digest.h"
#include "fedwatt/base/disk.h"
#include "fedwatt/model/rejection.h"

namespace fedwatt::internal {

inline constexpr int64_t kMaxChunkBytes = 128 << 10;

// A file that grows in order while its SHA-256 runs along, so that a resumed upload is never read twice. Memory does not grow with the bytes.
// One stream at a time: a newer one takes the place of an older one. Nothing is allocated or written beyond `max_bytes`. The file is removed with
// the object, unless it is kept; its name says what was announced, so that a coordinator that was killed can go on with it. Thread-safe.
class Upload {
 public:
  // Files are `<directory>/<name>.<total bytes>.<SHA-256>.part`; `name` has no dot. `disk` must outlive the upload.
  Upload(std::string directory, std::string name, int64_t max_bytes, Disk& disk = RealDisk())
      : disk_(disk), stem_(directory + "/" + name), max_bytes_(max_bytes) {}
  ~Upload();
  Upload(const Upload&) = delete;

  // The `name` in a file's name; "" where it is none of ours.
  static std::string NameIn(std::string_view file_name);
  // Goes on with a file that an earlier process left, before the first Open(): reads it, and forgets it where it is not what its name says. What was not flushed
  // may have been lost with the machine; the SHA-256 of the whole tells.
  void Resume(const std::string& file_name);
  // The file stays when the object goes.
  void Keep();

  // Opens a stream that starts at `offset` and returns its number for Append.
  // Errors, the reason attached where the attempt is at fault:
  //   INVALID_ARGUMENT     total below 1 or a digest of another length
  //   RESOURCE_EXHAUSTED   total beyond max_bytes: OVERSIZE; or no space on the disk
  //   FAILED_PRECONDITION  offset is not received_bytes(), or total or digest differ from an earlier stream's
  //   ABORTED              closed, with the reason it was closed with
  absl::StatusOr<int64_t> Open(int64_t total_bytes, std::string_view sha256, int64_t offset);

  // Adds a piece. When the last one is in, the whole is compared with the digest; if it does not fit everything is forgotten.
  // Errors: ABORTED              closed, or another stream took this one's place
  //         FAILED_PRECONDITION  a gap or a repeat
  //         RESOURCE_EXHAUSTED   more than the total: OVERSIZE
  //         DATA_LOSS            the CRC32C or the SHA-256 does not fit: DIGEST_MISMATCH
  absl::Status Append(int64_t stream, int64_t offset, std::string_view data, int64_t crc32c);

  // No byte is taken any more. The first reason stays.
  void Close(Rejection reason);

  int64_t received_bytes() const;
  bool whole() const;
  // DATA_LOSS errors so far.
  int64_t damage_count() const;
  // Of the whole; only once whole().
  Digest digest() const;
  // As announced by the first stream that was opened.
  std::optional<Digest> announced_digest() const;
  int64_t total_bytes() const;
  // Only once a stream was opened.
  std::string path() const;

 private:
  // The whole is there: is it what was announced?
  absl::Status CheckWhole() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status ClosedStatus() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Forget() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Disk& disk_;
  const std::string stem_;
  const int64_t max_bytes_;
  mutable absl::Mutex mutex_;
  std::string path_ ABSL_GUARDED_BY(mutex_);
  int file_ ABSL_GUARDED_BY(mutex_) = -1;
  bool keep_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t stream_ ABSL_GUARDED_BY(mutex_) = 0;
  std::optional<Digest> announced_ ABSL_GUARDED_BY(mutex_);
  int64_t total_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t received_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t damage_count_ ABSL_GUARDED_BY(mutex_) = 0;
  Sha256Stream sha256_ ABSL_GUARDED_BY(mutex_);
  bool whole_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<Rejection> closed_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace fedwatt::internal

#endif  // FEDWATT_SERVER_UPLOAD_H_

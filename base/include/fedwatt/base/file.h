// Whole files, durable replacement, and exclusive locks.
#ifndef FEDWATT_BASE_FILE_H_
#define FEDWATT_BASE_FILE_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace fedwatt {

// The whole file. Errors: NOT_FOUND; PERMISSION_DENIED; RESOURCE_EXHAUSTED  larger than `max_bytes`; UNAVAILABLE  other.
absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes = int64_t{1} << 32);

// Writes `data` to a temporary file beside `path`, fsyncs, renames over `path`, fsyncs the folder: after a crash the path
// holds the old or the new bytes, whole. `mode` is the permission of the new file.
// Errors: RESOURCE_EXHAUSTED  no space; PERMISSION_DENIED; NOT_FOUND  no such folder; UNAVAILABLE  other.
absl::Status WriteFileAtomically(const std::string& path, std::string_view data, int mode = 0644);

// Writes all of `data` where the descriptor stands; `path` names it in errors, after which a part may have been written. Errors: the file's
absl::Status WriteAll(int fd, std::string_view data, const std::string& path);
// Makes names that were created, renamed or removed beside `path` durable. Errors: UNAVAILABLE
absl::Status SyncFolderOf(const std::string& path);

// Creates the folder and its parents. `mode` applies to the last one, if it is created here.
absl::Status MakeDirectories(const std::string& path, int mode = 0755);

// An exclusive advisory lock on a file, held for the object's lifetime; the kernel frees it when the process dies.
class FileLock {
 public:
  // Errors: ALREADY_EXISTS  another process holds it (named by pid where known)
  static absl::StatusOr<FileLock> Acquire(const std::string& path);
  FileLock(FileLock&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  FileLock& operator=(FileLock&& other) noexcept;
  ~FileLock();

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  int fd_;
};

// A Status for errno `error`, naming what failed.
absl::Status ErrnoStatus(int error, std::string_view what);

}  // namespace fedwatt

#endif  // FEDWATT_BASE_FILE_H_

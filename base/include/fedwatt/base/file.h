// Whole files, durable replacement, and exclusive locks, on a disk that must outlive them.
#ifndef FEDWATT_BASE_FILE_H_
#define FEDWATT_BASE_FILE_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fedwatt/base/disk.h"

namespace fedwatt {

// The whole file. Errors: NOT_FOUND; PERMISSION_DENIED; RESOURCE_EXHAUSTED  larger than `max_bytes`; UNAVAILABLE  other.
absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes = int64_t{1} << 32, Disk& disk = RealDisk());

// Writes `data` to a temporary file beside `path`, fsyncs, renames over `path`, fsyncs the folder: after a crash the path
// holds the old or the new bytes, whole. `mode` is the permission of the new file.
// Errors: RESOURCE_EXHAUSTED  no space; PERMISSION_DENIED; NOT_FOUND  no such folder; UNAVAILABLE  other.
absl::Status WriteFileAtomically(const std::string& path, std::string_view data, int mode = 0644, Disk& disk = RealDisk());

// Writes the file's bytes once more, where they are, and flushes them. An earlier process may have ended because a flush failed: what it wrote can still be read then, and yet
// the kernel counts it as clean and another flush alone keeps none of it. A file that is not there is none. Errors: UNAVAILABLE
absl::Status FlushAnew(const std::string& path, Disk& disk = RealDisk());

// Makes names that were created, renamed or removed beside `path` durable. Errors: UNAVAILABLE
absl::Status SyncFolderOf(const std::string& path, Disk& disk = RealDisk());

// Creates the folder and its parents, durably. `mode` applies to the last one, if it is created here.
absl::Status MakeDirectories(const std::string& path, int mode = 0755, Disk& disk = RealDisk());

// An exclusive advisory lock on a file, held for the object's lifetime; the kernel frees it when the process dies.
class FileLock {
 public:
  // Errors: ALREADY_EXISTS  another process holds it (named by pid where known)
  static absl::StatusOr<FileLock> Acquire(const std::string& path, Disk& disk = RealDisk());
  FileLock(FileLock&& other) noexcept : disk_(other.disk_), file_(other.file_) { other.file_ = -1; }
  FileLock& operator=(FileLock&& other) noexcept;
  ~FileLock();

 private:
  FileLock(Disk& disk, int file) : disk_(&disk), file_(file) {}
  Disk* disk_;
  int file_;
};

// A Status for errno `error`, naming what failed.
absl::Status ErrnoStatus(int error, std::string_view what);

}  // namespace fedwatt

#endif  // FEDWATT_BASE_FILE_H_

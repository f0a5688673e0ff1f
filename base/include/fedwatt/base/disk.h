// The file system as a dependency: the kernel's for binaries, one that fails and forgets for fault tests.
#ifndef FEDWATT_BASE_DISK_H_
#define FEDWATT_BASE_DISK_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace fedwatt {

// Calls are those of POSIX, and so is what they promise of a crash: bytes are durable after Sync(), names after SyncFolder(). They return 0 or a count, or -errno;
// an interrupted call is repeated. A file is a number that Open() gave. Thread-safe.
class Disk {
 public:
  virtual ~Disk() = default;

  // `flags` as of open(2): O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_EXCL. O_CLOEXEC is always meant.
  virtual int Open(const std::string& path, int flags, int mode = 0) = 0;
  virtual void Close(int file) = 0;
  // At most `size` bytes at `offset`; 0 at the end.
  virtual int64_t Read(int file, char* data, int64_t size, int64_t offset) = 0;
  virtual int64_t Write(int file, const char* data, int64_t size, int64_t offset) = 0;
  virtual int64_t Size(int file) = 0;
  virtual int Truncate(int file, int64_t size) = 0;
  virtual int SetMode(int file, int mode) = 0;
  virtual int Sync(int file) = 0;
  // Exclusive, for as long as the file is open; -EWOULDBLOCK where another holds it.
  virtual int Lock(int file) = 0;
  // The first `size` bytes, which must not shrink, to be read until Unmap(); null where that fails.
  virtual const char* Map(int file, int64_t size) = 0;
  virtual void Unmap(const char* bytes, int64_t size) = 0;

  virtual int SyncFolder(const std::string& path) = 0;
  virtual int Rename(const std::string& from, const std::string& to) = 0;
  virtual int Remove(const std::string& path) = 0;
  virtual int MakeFolder(const std::string& path, int mode) = 0;
  virtual bool IsFolder(const std::string& path) = 0;
  // Of a file. -ENOENT where there is none.
  virtual int64_t FileSize(const std::string& path) = 0;
  // The names in a folder, in no order.
  virtual int List(const std::string& path, std::vector<std::string>* names) = 0;

  // SQLite's name of a file system of its own that lies on this disk; null: SQLite's usual one.
  virtual const char* database_files() const { return nullptr; }
};

// Lives for the whole process.
Disk& RealDisk();

// All of `data`. Errors: as ErrnoStatus
absl::Status WriteAll(Disk& disk, int file, std::string_view data, int64_t offset, const std::string& path);

}  // namespace fedwatt

#endif  // FEDWATT_BASE_DISK_H_

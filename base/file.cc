#include "fedwatt/base/file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "fedwatt/base/failpoint.h"
#include "fedwatt/base/planted.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt {

absl::Status ErrnoStatus(int error, std::string_view what) {
  std::string message = absl::StrCat(std::string(what), ": ", std::strerror(error));
  switch (error) {
    case ENOENT:
    case ENOTDIR: return absl::NotFoundError(message);
    case EACCES:
    case EPERM:
    case EROFS: return absl::PermissionDeniedError(message);
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE: return absl::ResourceExhaustedError(message);
    case EEXIST: return absl::AlreadyExistsError(message);
    default: return absl::UnavailableError(message);
  }
}

absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes, Disk& disk) {
  const int file = disk.Open(path, O_RDONLY);
  if (file < 0) return ErrnoStatus(-file, absl::StrCat("opening ", path));
  absl::Cleanup closer = [&] { disk.Close(file); };
  const int64_t size = disk.Size(file);
  if (size == -EISDIR) return absl::InvalidArgumentError(absl::StrCat(path, " is a folder, expected a file"));
  if (size < 0) return ErrnoStatus(static_cast<int>(-size), absl::StrCat("reading ", path));
  std::string data;
  // sysfs and pipes report no size, so the size is a hint only.
  data.reserve(static_cast<size_t>(std::min(size, max_bytes)));
  char buffer[1 << 16];
  for (;;) {
    const int64_t got = disk.Read(file, buffer, sizeof(buffer), static_cast<int64_t>(data.size()));
    if (got < 0) return ErrnoStatus(static_cast<int>(-got), absl::StrCat("reading ", path));
    if (got == 0) return data;
    if (static_cast<int64_t>(data.size()) + got > max_bytes) {
      return absl::ResourceExhaustedError(absl::StrCat(path, " is larger than ", max_bytes, " bytes"));
    }
    data.append(buffer, static_cast<size_t>(got));
  }
}

absl::Status WriteFileAtomically(const std::string& path, std::string_view data, int mode, Disk& disk) {
  const std::string temporary = absl::StrCat(path, ".tmp.", ::getpid());
  const int file = disk.Open(temporary, O_WRONLY | O_CREAT | O_TRUNC, mode);
  if (file < 0) return ErrnoStatus(-file, absl::StrCat("creating ", temporary));
  const std::string_view half = data.substr(0, data.size() / 2);
  absl::Status status = WriteAll(disk, file, half, 0, temporary);
  if (int error = Failpoint("file_half_written", path); error != 0 && status.ok()) status = ErrnoStatus(error, absl::StrCat("writing ", temporary));
  if (status.ok()) status = WriteAll(disk, file, data.substr(half.size()), static_cast<int64_t>(half.size()), temporary);
  const auto then = [&status](int result, const std::string& what) {
    if (result < 0) status = ErrnoStatus(-result, what);
  };
  if (status.ok()) then(disk.SetMode(file, mode), absl::StrCat("setting the mode of ", temporary));
  if (status.ok() && !FEDWATT_PLANTED(file_not_flushed)) then(disk.Sync(file), absl::StrCat("flushing ", temporary));
  disk.Close(file);
  if (status.ok()) then(disk.Rename(temporary, path), absl::StrCat("renaming to ", path));
  if (!status.ok()) {
    disk.Remove(temporary);
    return status;
  }
  Failpoint("file_renamed", path);
  if (FEDWATT_PLANTED(file_folder_not_flushed)) return absl::OkStatus();
  return SyncFolderOf(path, disk);
}

absl::Status FlushAnew(const std::string& path, Disk& disk) {
  const int file = disk.Open(path, O_RDWR);
  if (file == -ENOENT) return absl::OkStatus();
  if (file < 0) return ErrnoStatus(-file, absl::StrCat("opening ", path));
  absl::Cleanup closer = [&] { disk.Close(file); };
  std::string piece(1 << 18, '\0');
  for (int64_t offset = 0;;) {
    const int64_t got = disk.Read(file, piece.data(), static_cast<int64_t>(piece.size()), offset);
    if (got < 0) return ErrnoStatus(static_cast<int>(-got), absl::StrCat("reading ", path));
    if (got == 0) break;
    FEDWATT_RETURN_IF_ERROR(WriteAll(disk, file, std::string_view(piece).substr(0, static_cast<size_t>(got)), offset, path));
    offset += got;
  }
  const int synced = disk.Sync(file);
  return synced == 0 ? absl::OkStatus() : ErrnoStatus(-synced, absl::StrCat("flushing ", path));
}

absl::Status SyncFolderOf(const std::string& path, Disk& disk) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  const int result = disk.SyncFolder(folder.empty() ? "." : folder);
  return result == 0 ? absl::OkStatus() : ErrnoStatus(-result, absl::StrCat("flushing the folder of ", path));
}

absl::Status MakeDirectories(const std::string& path, int mode, Disk& disk) {
  if (disk.IsFolder(path)) return absl::OkStatus();
  const std::string parent = std::filesystem::path(path).parent_path().string();
  if (!parent.empty() && parent != path && !disk.IsFolder(parent)) FEDWATT_RETURN_IF_ERROR(MakeDirectories(parent, 0777, disk));
  const int result = disk.MakeFolder(path, mode);
  if (result < 0 && result != -EEXIST) return ErrnoStatus(-result, absl::StrCat("creating the folder ", path));
  if (!disk.IsFolder(path)) return absl::AlreadyExistsError(absl::StrCat(path, " exists and is not a folder"));
  if (FEDWATT_PLANTED(folders_not_flushed)) return absl::OkStatus();
  return SyncFolderOf(path, disk);  // what is flushed inside is worth as much as the folder's name
}

absl::StatusOr<FileLock> FileLock::Acquire(const std::string& path, Disk& disk) {
  const int file = disk.Open(path, O_RDWR | O_CREAT, 0600);
  if (file < 0) return ErrnoStatus(-file, absl::StrCat("opening the lock ", path));
  FileLock lock(disk, file);
  if (const int locked = disk.Lock(file); locked < 0) {
    if (locked != -EWOULDBLOCK) return ErrnoStatus(-locked, absl::StrCat("locking ", path));
    char owner[32] = {};
    const int64_t got = disk.Read(file, owner, sizeof(owner) - 1, 0);
    return absl::AlreadyExistsError(absl::StrCat(path, " is locked by another process", got > 0 ? absl::StrCat(" (pid ", owner, ")") : ""));
  }
  // The pid is only a help for messages; the lock itself is the kernel's.
  if (const int cut = disk.Truncate(file, 0); cut < 0) return ErrnoStatus(-cut, absl::StrCat("writing the lock ", path));
  FEDWATT_RETURN_IF_ERROR(WriteAll(disk, file, absl::StrCat(::getpid()), 0, path));
  return lock;
}

FileLock& FileLock::operator=(FileLock&& other) noexcept {
  std::swap(disk_, other.disk_);
  std::swap(file_, other.file_);
  return *this;
}

FileLock::~FileLock() {
  if (file_ >= 0) disk_->Close(file_);
}

}  // namespace fedwatt

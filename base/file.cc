#include "fedwatt/base/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "fedwatt/base/failpoint.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt {
namespace {

}  // namespace

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

absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes) {
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, absl::StrCat("opening ", path));
  absl::Cleanup closer = [fd] { ::close(fd); };
  struct stat info;
  if (::fstat(fd, &info) != 0) return ErrnoStatus(errno, absl::StrCat("reading ", path));
  if (S_ISDIR(info.st_mode)) return absl::InvalidArgumentError(absl::StrCat(path, " is a folder, expected a file"));
  std::string data;
  // sysfs and pipes report no size, so the size is a hint only.
  data.reserve(static_cast<size_t>(std::min<int64_t>(info.st_size, max_bytes)));
  char buffer[1 << 16];
  for (;;) {
    ssize_t got = ::read(fd, buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoStatus(errno, absl::StrCat("reading ", path));
    if (got == 0) return data;
    if (static_cast<int64_t>(data.size()) + got > max_bytes) {
      return absl::ResourceExhaustedError(absl::StrCat(path, " is larger than ", max_bytes, " bytes"));
    }
    data.append(buffer, static_cast<size_t>(got));
  }
}

absl::Status WriteFileAtomically(const std::string& path, std::string_view data, int mode) {
  std::string temporary = absl::StrCat(path, ".tmp.", ::getpid());
  int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
  if (fd < 0) return ErrnoStatus(errno, absl::StrCat("creating ", temporary));
  const std::string_view half = data.substr(0, data.size() / 2);
  absl::Status status = WriteAll(fd, half, temporary);
  if (int error = Failpoint("file_half_written", path); error != 0 && status.ok()) status = ErrnoStatus(error, absl::StrCat("writing ", temporary));
  if (status.ok()) status = WriteAll(fd, data.substr(half.size()), temporary);
  if (status.ok() && ::fchmod(fd, static_cast<mode_t>(mode)) != 0) {
    status = ErrnoStatus(errno, absl::StrCat("setting the mode of ", temporary));
  }
  if (status.ok() && ::fsync(fd) != 0) status = ErrnoStatus(errno, absl::StrCat("flushing ", temporary));
  ::close(fd);
  if (status.ok() && ::rename(temporary.c_str(), path.c_str()) != 0) {
    status = ErrnoStatus(errno, absl::StrCat("renaming to ", path));
  }
  if (!status.ok()) {
    ::unlink(temporary.c_str());
    return status;
  }
  Failpoint("file_renamed", path);
  return SyncFolderOf(path);
}

absl::Status WriteAll(int fd, std::string_view data, const std::string& path) {
  while (!data.empty()) {
    ssize_t written = ::write(fd, data.data(), data.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return ErrnoStatus(errno, absl::StrCat("writing ", path));
    data.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status SyncFolderOf(const std::string& path) {
  absl::Status status;
  std::string folder = std::filesystem::path(path).parent_path().string();
  int folder_fd = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder_fd < 0) return ErrnoStatus(errno, absl::StrCat("opening the folder of ", path));
  if (::fsync(folder_fd) != 0) status = ErrnoStatus(errno, absl::StrCat("flushing the folder of ", path));
  ::close(folder_fd);
  return status;
}

absl::Status MakeDirectories(const std::string& path, int mode) {
  std::error_code error;
  std::filesystem::path target(path);
  if (std::filesystem::is_directory(target, error)) return absl::OkStatus();
  if (target.has_parent_path()) {
    std::filesystem::create_directories(target.parent_path(), error);
    if (error) return ErrnoStatus(error.value(), absl::StrCat("creating the folder above ", path));
  }
  if (::mkdir(path.c_str(), static_cast<mode_t>(mode)) != 0 && errno != EEXIST) {
    return ErrnoStatus(errno, absl::StrCat("creating the folder ", path));
  }
  if (!std::filesystem::is_directory(target, error)) {
    return absl::AlreadyExistsError(absl::StrCat(path, " exists and is not a folder"));
  }
  return absl::OkStatus();
}

absl::StatusOr<FileLock> FileLock::Acquire(const std::string& path) {
  int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return ErrnoStatus(errno, absl::StrCat("opening the lock ", path));
  FileLock lock(fd);
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return ErrnoStatus(errno, absl::StrCat("locking ", path));
    char owner[32] = {};
    ssize_t got = ::pread(fd, owner, sizeof(owner) - 1, 0);
    return absl::AlreadyExistsError(absl::StrCat(path, " is locked by another process",
                                                 got > 0 ? absl::StrCat(" (pid ", owner, ")") : ""));
  }
  std::string pid = absl::StrCat(::getpid());
  // The pid is only a help for messages; the lock itself is the kernel's.
  if (::ftruncate(fd, 0) != 0 || ::pwrite(fd, pid.data(), pid.size(), 0) < 0) {
    return ErrnoStatus(errno, absl::StrCat("writing the lock ", path));
  }
  return lock;
}

FileLock& FileLock::operator=(FileLock&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

FileLock::~FileLock() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace fedwatt

#include "fedwatt/base/disk.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/file.h"

namespace fedwatt {
namespace {

template <typename Call>
auto Repeated(Call call) -> decltype(call()) {
  for (;;) {
    const auto result = call();
    if (result >= 0) return result;
    if (errno != EINTR) return -errno;
  }
}

class KernelDisk : public Disk {
 public:
  int Open(const std::string& path, int flags, int mode) override {
    return Repeated([&] { return ::open(path.c_str(), flags | O_CLOEXEC, static_cast<mode_t>(mode)); });
  }
  void Close(int file) override { ::close(file); }
  int64_t Read(int file, char* data, int64_t size, int64_t offset) override {
    const int64_t got = Repeated([&] { return ::pread(file, data, static_cast<size_t>(size), offset); });
    // Pipes have no offsets.
    return got == -ESPIPE ? Repeated([&] { return ::read(file, data, static_cast<size_t>(size)); }) : got;
  }
  int64_t Write(int file, const char* data, int64_t size, int64_t offset) override {
    return Repeated([&] { return ::pwrite(file, data, static_cast<size_t>(size), offset); });
  }
  int64_t Size(int file) override {
    struct stat info;
    return ::fstat(file, &info) == 0 ? (S_ISDIR(info.st_mode) ? -EISDIR : int64_t{info.st_size}) : -int64_t{errno};
  }
  int Truncate(int file, int64_t size) override {
    return Repeated([&] { return ::ftruncate(file, size); });
  }
  int SetMode(int file, int mode) override { return ::fchmod(file, static_cast<mode_t>(mode)) == 0 ? 0 : -errno; }
  // fdatasync keeps the length, too; what else fsync keeps nobody here reads.
  int Sync(int file) override { return ::fdatasync(file) == 0 ? 0 : -errno; }
  int Lock(int file) override { return ::flock(file, LOCK_EX | LOCK_NB) == 0 ? 0 : -errno; }
  const char* Map(int file, int64_t size) override {
    void* mapped = ::mmap(nullptr, static_cast<size_t>(size), PROT_READ, MAP_PRIVATE, file, 0);
    return mapped == MAP_FAILED ? nullptr : static_cast<const char*>(mapped);
  }
  void Unmap(const char* bytes, int64_t size) override { ::munmap(const_cast<char*>(bytes), static_cast<size_t>(size)); }

  int SyncFolder(const std::string& path) override {
    const int folder = Open(path, O_RDONLY | O_DIRECTORY, 0);
    if (folder < 0) return folder;
    const int result = ::fsync(folder) == 0 ? 0 : -errno;
    ::close(folder);
    return result;
  }
  int Rename(const std::string& from, const std::string& to) override { return ::rename(from.c_str(), to.c_str()) == 0 ? 0 : -errno; }
  int Remove(const std::string& path) override { return ::unlink(path.c_str()) == 0 ? 0 : -errno; }
  int MakeFolder(const std::string& path, int mode) override { return ::mkdir(path.c_str(), static_cast<mode_t>(mode)) == 0 ? 0 : -errno; }
  bool IsFolder(const std::string& path) override {
    std::error_code error;
    return std::filesystem::is_directory(path, error);
  }
  int64_t FileSize(const std::string& path) override {
    struct stat info;
    return ::stat(path.c_str(), &info) == 0 ? int64_t{info.st_size} : -int64_t{errno};
  }
  int List(const std::string& path, std::vector<std::string>* names) override {
    std::error_code error;
    for (auto entry = std::filesystem::directory_iterator(path, error); !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
      names->push_back(entry->path().filename().string());
    }
    return error ? -error.value() : 0;
  }
};

}  // namespace

Disk& RealDisk() {
  static KernelDisk* disk = new KernelDisk;
  return *disk;
}

absl::Status WriteAll(Disk& disk, int file, std::string_view data, int64_t offset, const std::string& path) {
  while (!data.empty()) {
    const int64_t written = disk.Write(file, data.data(), static_cast<int64_t>(data.size()), offset);
    if (written < 0) return ErrnoStatus(static_cast<int>(-written), absl::StrCat("writing ", path));
    data.remove_prefix(static_cast<size_t>(written));
    offset += written;
  }
  return absl::OkStatus();
}

}  // namespace fedwatt

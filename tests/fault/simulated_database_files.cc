// SQLite's file system on a simulated disk. Flushes what SQLite's own one for Unix flushes: files, and the folder of a log that it has created or removed.
#include <sqlite3.h>

#include <fcntl.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/fault/simulated_disk.h"

namespace fedwatt::testing {
namespace {

struct File {
  sqlite3_file base;
  SimulatedDisk* disk;
  int handle;
  bool new_log;  // its name is flushed with it
  std::string* path;
  std::vector<std::unique_ptr<char[]>>* shared;  // the index of the log: one connection, so memory will do
};

File* Of(sqlite3_file* file) { return reinterpret_cast<File*>(file); }
std::string FolderOf(const std::string& path) { return path.substr(0, path.rfind('/')); }
int Code(int64_t result, int otherwise) { return result == -ENOSPC ? SQLITE_FULL : otherwise; }

int Close(sqlite3_file* base) {
  File* file = Of(base);
  file->disk->Close(file->handle);
  delete file->path;
  delete file->shared;
  return SQLITE_OK;
}

int Read(sqlite3_file* base, void* data, int size, sqlite3_int64 offset) {
  const int64_t got = Of(base)->disk->Read(Of(base)->handle, static_cast<char*>(data), size, offset);
  if (got < 0) return SQLITE_IOERR_READ;
  if (got == size) return SQLITE_OK;
  std::memset(static_cast<char*>(data) + got, 0, static_cast<size_t>(size - got));
  return SQLITE_IOERR_SHORT_READ;
}

int Write(sqlite3_file* base, const void* data, int size, sqlite3_int64 offset) {
  for (int64_t done = 0; done < size;) {
    const int64_t written = Of(base)->disk->Write(Of(base)->handle, static_cast<const char*>(data) + done, size - done, offset + done);
    if (written < 0) return Code(written, SQLITE_IOERR_WRITE);
    done += written;
  }
  return SQLITE_OK;
}

int Truncate(sqlite3_file* base, sqlite3_int64 size) { return Of(base)->disk->Truncate(Of(base)->handle, size) == 0 ? SQLITE_OK : SQLITE_IOERR_TRUNCATE; }

int Sync(sqlite3_file* base, int) {
  File* file = Of(base);
  if (file->disk->Sync(file->handle) != 0) return SQLITE_IOERR_FSYNC;
  if (file->new_log) {
    file->disk->SyncFolder(FolderOf(*file->path));  // SQLite does not look at the result either
    file->new_log = false;
  }
  return SQLITE_OK;
}

int FileSize(sqlite3_file* base, sqlite3_int64* size) {
  *size = Of(base)->disk->Size(Of(base)->handle);
  return *size < 0 ? SQLITE_IOERR_FSTAT : SQLITE_OK;
}

int Lock(sqlite3_file*, int) { return SQLITE_OK; }
int CheckReservedLock(sqlite3_file*, int* held) {
  *held = 0;
  return SQLITE_OK;
}
int FileControl(sqlite3_file*, int, void*) { return SQLITE_NOTFOUND; }
int SectorSize(sqlite3_file*) { return 4096; }
int DeviceCharacteristics(sqlite3_file*) { return SQLITE_IOCAP_POWERSAFE_OVERWRITE; }  // as SQLite takes for granted on Unix

int MapShared(sqlite3_file* base, int region, int size, int, void volatile** memory) {
  File* file = Of(base);
  if (file->shared == nullptr) file->shared = new std::vector<std::unique_ptr<char[]>>;
  while (static_cast<int>(file->shared->size()) <= region) file->shared->push_back(std::make_unique<char[]>(static_cast<size_t>(size)));
  *memory = (*file->shared)[static_cast<size_t>(region)].get();
  return SQLITE_OK;
}
int LockShared(sqlite3_file*, int, int, int) { return SQLITE_OK; }
void BarrierShared(sqlite3_file*) {}
int UnmapShared(sqlite3_file* base, int) {
  delete Of(base)->shared;
  Of(base)->shared = nullptr;
  return SQLITE_OK;
}

constexpr sqlite3_io_methods kMethods = {
    .iVersion = 2, .xClose = Close, .xRead = Read, .xWrite = Write, .xTruncate = Truncate, .xSync = Sync, .xFileSize = FileSize, .xLock = Lock, .xUnlock = Lock,
    .xCheckReservedLock = CheckReservedLock, .xFileControl = FileControl, .xSectorSize = SectorSize, .xDeviceCharacteristics = DeviceCharacteristics, .xShmMap = MapShared,
    .xShmLock = LockShared, .xShmBarrier = BarrierShared, .xShmUnmap = UnmapShared, .xFetch = nullptr, .xUnfetch = nullptr};

SimulatedDisk* DiskOf(sqlite3_vfs* vfs) { return static_cast<SimulatedDisk*>(vfs->pAppData); }

int OpenFile(sqlite3_vfs* vfs, const char* path, sqlite3_file* base, int flags, int* out_flags) {
  File* file = Of(base);
  *file = File{};
  if (path == nullptr) return SQLITE_CANTOPEN;  // a temporary file: nothing here is large enough to need one
  SimulatedDisk* disk = DiskOf(vfs);
  const bool create = (flags & SQLITE_OPEN_CREATE) != 0, is_new = disk->FileSize(path) < 0;
  const int handle = disk->Open(path, O_RDWR | (create ? O_CREAT : 0), 0600);
  if (handle < 0) return handle == -ENOSPC ? SQLITE_FULL : SQLITE_CANTOPEN;
  file->base.pMethods = &kMethods;
  file->disk = disk;
  file->handle = handle;
  file->path = new std::string(path);
  file->new_log = is_new && (flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL)) != 0;
  if (out_flags != nullptr) *out_flags = flags;
  return SQLITE_OK;
}

int Delete(sqlite3_vfs* vfs, const char* path, int sync_folder) {
  const int removed = DiskOf(vfs)->Remove(path);
  if (removed == -ENOENT) return SQLITE_IOERR_DELETE_NOENT;
  if (removed < 0) return SQLITE_IOERR_DELETE;
  return sync_folder != 0 && DiskOf(vfs)->SyncFolder(FolderOf(path)) != 0 ? SQLITE_IOERR_DIR_FSYNC : SQLITE_OK;
}

int Access(sqlite3_vfs* vfs, const char* path, int, int* result) {
  *result = DiskOf(vfs)->FileSize(path) >= 0;
  return SQLITE_OK;
}

int FullPathname(sqlite3_vfs*, const char* path, int size, char* out) {
  sqlite3_snprintf(size, out, "%s", path);
  return SQLITE_OK;
}

int Randomness(sqlite3_vfs*, int size, char* out) {
  std::memset(out, 7, static_cast<size_t>(size));
  return size;
}
int Sleep(sqlite3_vfs*, int) { return 0; }
int CurrentTime(sqlite3_vfs*, double* now) {
  *now = 2460000.5;
  return SQLITE_OK;
}
int LastError(sqlite3_vfs*, int, char*) { return 0; }

}  // namespace

// What a disk keeps of SQLite.
struct SimulatedDisk::DatabaseFiles {
  explicit DatabaseFiles(SimulatedDisk* disk) {
    static std::atomic<int64_t> count = 0;
    name = absl::StrCat("fedwatt-simulated-", ++count);
    vfs.iVersion = 1;
    vfs.szOsFile = sizeof(File);
    vfs.mxPathname = 512;
    vfs.zName = name.c_str();
    vfs.pAppData = disk;
    vfs.xOpen = OpenFile;
    vfs.xDelete = Delete;
    vfs.xAccess = Access;
    vfs.xFullPathname = FullPathname;
    vfs.xRandomness = Randomness;
    vfs.xSleep = Sleep;
    vfs.xCurrentTime = CurrentTime;
    vfs.xGetLastError = LastError;
    sqlite3_vfs_register(&vfs, /*makeDflt=*/0);
  }
  ~DatabaseFiles() { sqlite3_vfs_unregister(&vfs); }
  std::string name;
  sqlite3_vfs vfs = {};
};

SimulatedDisk::SimulatedDisk(uint64_t seed) : random_(seed), root_(std::make_shared<Node>()), database_files_(std::make_unique<DatabaseFiles>(this)) { root_->folder = true; }
SimulatedDisk::~SimulatedDisk() = default;

const char* SimulatedDisk::database_files() const { return database_files_->name.c_str(); }

}  // namespace fedwatt::testing

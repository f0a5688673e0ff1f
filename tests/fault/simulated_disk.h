// A disk in memory with a page cache: what was not flushed may be lost, torn or nameless after a loss of power, and calls fail when they are told to. SQLite runs on it
// through a file system of its own. Everything follows from the generator that it is given.
#ifndef FEDWATT_TESTS_FAULT_SIMULATED_DISK_H_
#define FEDWATT_TESTS_FAULT_SIMULATED_DISK_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "fedwatt/base/disk.h"
#include "fedwatt/base/random.h"

namespace fedwatt::testing {

// What is left, after a crash, of what was not flushed.
enum class Loss {
  kNothing,  // all is there: the process died, the kernel did not
  kBytes,    // names are there, bytes are not
  kNames,    // neither
  kTorn,     // of each file some sectors of 512 bytes, of each folder the first few changes
};
inline constexpr Loss kLosses[] = {Loss::kNothing, Loss::kBytes, Loss::kNames, Loss::kTorn};
std::string_view LossName(Loss loss);

// Owned by one thread.
class SimulatedDisk : public Disk {
 public:
  explicit SimulatedDisk(uint64_t seed);
  ~SimulatedDisk() override;

  // From now on nothing changes any more and every call fails, until Restart().
  void Crash() { dead_ = true; }
  bool dead() const { return dead_; }
  void Restart(Loss loss);

  // What the next calls run into; each is counted where it happened.
  struct Faults {
    double sync_fails = 0;    // EIO; what was to be flushed stays in the cache, counts as clean, and never reaches the disk
    double sync_lies = 0;     // returns 0 and does nothing
    double read_fails = 0;    // EIO
    double short_write = 0;   // takes only a part
    bool full = false;        // ENOSPC, where a file would grow or begin
  };
  Faults faults;
  int64_t fault_count() const { return fault_count_; }
  // Called before each call that changes something or flushes; may Crash().
  std::function<void()> before_change;
  int64_t change_count() const { return change_count_; }
  // Where set, false spares the file from `faults`.
  std::function<bool(const std::string& path)> faulty;

  // Flips one bit of what is stored in a file, as a rotting medium does. False where there is no such file or it is empty.
  bool FlipBit(const std::string& path, int64_t bit);
  // All files, sorted.
  std::vector<std::string> Files() const;

  int Open(const std::string& path, int flags, int mode) override;
  void Close(int file) override;
  int64_t Read(int file, char* data, int64_t size, int64_t offset) override;
  int64_t Write(int file, const char* data, int64_t size, int64_t offset) override;
  int64_t Size(int file) override;
  int Truncate(int file, int64_t size) override;
  int SetMode(int file, int mode) override;
  int Sync(int file) override;
  int Lock(int file) override;
  const char* Map(int file, int64_t size) override;
  void Unmap(const char* bytes, int64_t size) override;
  int SyncFolder(const std::string& path) override;
  int Rename(const std::string& from, const std::string& to) override;
  int Remove(const std::string& path) override;
  int MakeFolder(const std::string& path, int mode) override;
  bool IsFolder(const std::string& path) override;
  int64_t FileSize(const std::string& path) override;
  int List(const std::string& path, std::vector<std::string>* names) override;
  const char* database_files() const override;

 private:
  static constexpr int64_t kSector = 512;
  struct Node {
    bool folder = false;
    std::string bytes, stored;       // as seen; as on the medium
    std::set<int64_t> dirty;         // sectors of `bytes` that differ from `stored`
    bool length_dirty = false;
    bool locked = false;
    using Names = std::map<std::string, std::shared_ptr<Node>, std::less<>>;
    Names names, stored_names;
    std::vector<std::pair<std::string, std::shared_ptr<Node>>> changes;  // of names since the last flush; null: gone
  };
  struct Handle {
    std::shared_ptr<Node> node;
    std::string path;
    bool holds_lock = false;
  };
  std::shared_ptr<Node> Find(std::string_view path) const;
  // The folder that holds the last part of `path`; null where there is none.
  std::shared_ptr<Node> FolderOf(std::string_view path, std::string* name) const;
  static void SetName(Node& folder, const std::string& name, std::shared_ptr<Node> node);
  void Touch(Node& node, int64_t begin, int64_t end);
  void Lose(Node& node, Loss loss);
  bool Happens(double probability, const std::string& path);
  // False: the disk is dead.
  bool Change();

  Random random_;
  std::shared_ptr<Node> root_;
  std::map<int, Handle> handles_;
  int next_handle_ = 3;
  bool dead_ = false;
  int64_t fault_count_ = 0, change_count_ = 0;
  std::map<const char*, std::unique_ptr<std::string>> maps_;
  struct DatabaseFiles;
  std::unique_ptr<DatabaseFiles> database_files_;
};

}  // namespace fedwatt::testing

#endif  // FEDWATT_TESTS_FAULT_SIMULATED_DISK_H_

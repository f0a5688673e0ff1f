// What has become of the attempts of the round under way, on disk before anybody is told.
#ifndef FEDWATT_SERVER_JOURNAL_H_
#define FEDWATT_SERVER_JOURNAL_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "fedwatt/base/disk.h"
#include "fedwatt/server/server.h"

namespace fedwatt::internal {

// Where some bytes lie.
struct FileRange {
  std::string path;
  int64_t offset = 0, length = 0;
};

// An append-only file of one round. A record is a head of 40 bytes (magic, lengths, CRC32C of what follows, sequence number, the round, its place in its flush, CRC32C of the head), a
// message and a body, padded to eight bytes; all numbers little-endian. One thread writes: whatever was appended while it flushed goes with the next flush together (group commit).
//
// A tail that was not written in whole, as a crash leaves it, was never acknowledged and is cut off at the next start; sectors of one flush may be missing in any order. Anything
// else that does not verify is damage and named: a bad record with a good one of a later flush behind it, or one without a sector that was never written. Thread-safe where it has a thread.
class Journal {
 public:
  struct Options {
    std::string path;
    int64_t round = 0;
    // A record alone a flush, for comparison.
    bool group = true;
    // How long to wait before the next try when the disk is full.
    absl::Duration retry_after = absl::Seconds(1);
    Disk* disk = &RealDisk();  // must outlive the journal
    // Where set, there is no thread: what would happen on it happens in these tasks.
    Background background;
    // On the journal's thread: a write or a flush failed for good; nothing is durable any more that was not, and nothing will be.
    std::function<void(const absl::Status&)> on_failure;
    // On the journal's thread: there is no space, and later there is again.
    std::function<void(bool full)> on_full;
  };
  struct Record {
    std::string message;
    FileRange body;
  };
  struct Opened {
    std::unique_ptr<Journal> journal;
    std::vector<Record> records;  // that were there
    int64_t torn_bytes = 0;       // that were cut off
  };
  static constexpr int64_t kMaxMessageBytes = 4 << 20, kMaxBodyBytes = 1 << 20;

  // Reads what is there and goes on behind it; creates nothing before the first Append().
  // Errors: DATA_LOSS    damaged: file and offset
  //         UNAVAILABLE  it cannot be read
  static absl::StatusOr<Opened> Open(Options options);
  // Flushes nothing: what was not durable stays so, and its `durable` is not called.
  ~Journal();

  struct Entry {
    std::string message;           // at most kMaxMessageBytes
    std::string body;              // at most kMaxBodyBytes
    std::string file;              // a file that must be durable first, with its name; or ""
    std::function<void()> durable; // called on the journal's thread
  };
  void Append(Entry entry);
  // There was no space at the last try.
  bool full() const { return full_.load(); }

 private:
  explicit Journal(Options options) : options_(std::move(options)), disk_(*options_.disk) {}
  absl::StatusOr<std::vector<Record>> ReadBack(int64_t* torn_bytes);
  void Work();
  // Writes what waits and says so. False: there is no space, to be tried again; `entries` remain.
  enum class Pass { kDone, kFull, kFailed };
  Pass WriteOnce(std::vector<Entry>& entries);
  void TakeWaiting(std::vector<Entry>& entries) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Without a thread.
  void PassSoon(absl::Duration after);
  absl::Status Write(const std::vector<Entry>& entries);

  const Options options_;
  Disk& disk_;
  int file_ = -1;
  int64_t end_ = 0;        // of what is durable
  int64_t next_sequence_ = 1;
  std::atomic<bool> full_ = false;
  absl::Mutex mutex_;
  std::vector<Entry> waiting_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool pass_due_ = false;        // without a thread: a task is on its way
  bool failed_ = false;          // likewise
  std::vector<Entry> under_way_; // likewise: what found no space
  std::shared_ptr<const bool> alive_ = std::make_shared<bool>(true);  // likewise: tasks outlive the journal
  std::jthread thread_;  // last: it uses the rest
};

}  // namespace fedwatt::internal

#endif  // FEDWATT_SERVER_JOURNAL_H_

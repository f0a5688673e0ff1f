// What a coordinator must remember to continue after kill -9.
#ifndef FEDWATT_SERVER_STORE_H_
#define FEDWATT_SERVER_STORE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fedwatt/base/disk.h"
#include "fedwatt/base/file.h"

struct sqlite3;

namespace fedwatt::internal {

struct StoredRound {
  int64_t round = 0;
  bool committed = false;
  std::string model_digest;      // hexadecimal; "" when abandoned
  std::optional<double> accuracy;
  std::string summary;           // v1.RoundSummary, serialised
};

using Entries = std::vector<std::pair<std::string, std::string>>;

// What becomes durable with a round's end, all or nothing.
struct RoundEnd {
  StoredRound round;
  std::string line;                          // of rounds.jsonl, without its end
  const std::string* model_state = nullptr;  // null when abandoned
  Entries memory;                            // as by Remember
  int64_t attempts_file_bytes = 0;           // length of clients.jsonl
  std::vector<std::pair<std::string, std::string>> attempts;  // name to v1.EndedAttempt, serialised: for late questions
};

// OUT/state: an SQLite database (WAL, synchronous=FULL), the model's state of the last committed round, a lock, the journal of the round under way, uploads. A round
// counts from the instant its row is committed; what a crash kept back of it is made good at the next start. Owned by one thread.
class Store {
 public:
  // Creates the folder, takes the lock, starts a new incarnation. `settings` is a text of lines "key=value"; on a restart they must be the
  // stored ones.
  // Errors: ALREADY_EXISTS       another coordinator runs on this folder
  //         FAILED_PRECONDITION  the folder belongs to a run with other settings (named), or of another version of the tables
  //         DATA_LOSS            the database is damaged; UNAVAILABLE  SQLite cannot open it
  static absl::StatusOr<std::unique_ptr<Store>> Open(const std::string& out_directory, const std::string& run_id, const std::string& settings, Disk& disk = RealDisk());
  ~Store();

  // Of the first start, if this is a restart.
  const std::string& run_id() const { return run_id_; }
  // 0 at the first start, then counting.
  int64_t incarnation() const { return incarnation_; }
  // All finished rounds, oldest first.
  const std::vector<StoredRound>& rounds() const { return rounds_; }

  // What rounds.jsonl holds when every finished round is in it.
  absl::StatusOr<std::string> ReadLines() const;
  // The state that the last committed round left, or nullopt before one.
  // Errors: DATA_LOSS  the file that the database names is missing
  absl::StatusOr<std::optional<std::string>> ReadModelState() const;
  // Where that lies; "" before one.
  std::string model_state_path() const { return LastCommitted() == nullptr ? "" : StatePath(LastCommitted()->round); }

  // Writes the state's file, durably, then commits the round and all that goes with it, then removes the file of the round before. May be called again after
  // RESOURCE_EXHAUSTED (no space), which leaves everything as it was.
  absl::Status Finish(const RoundEnd& end);

  // What the engine remembered (Remember), by key.
  const std::map<std::string, std::string>& memory() const { return memory_; }
  // Replaces these entries, all or none, durably.
  absl::Status Remember(const Entries& entries);

  // Sessions by id: their v1.CheckInRequest, serialised. Changes become durable with the next Remember() or Finish(); until then a crash forgets them.
  const std::map<std::string, std::string>& sessions() const { return sessions_; }
  void PutSession(const std::string& id, std::string request) { session_changes_[id] = std::move(request); }
  void DropSession(const std::string& id) { session_changes_[id] = std::nullopt; }

  // Of the newest rounds, at most kRememberedAttempts, oldest round first: v1.EndedAttempt, serialised.
  static constexpr int64_t kRememberedAttempts = 20000;
  absl::StatusOr<std::vector<std::string>> ReadAttempts() const;
  // Length of clients.jsonl at the last finished round.
  int64_t attempts_file_bytes() const { return attempts_file_bytes_; }

  std::string uploads_directory() const { return directory_ + "/uploads"; }
  std::string journal_path(int64_t round) const;
  // Removes the journals of all rounds but this one. What cannot be removed costs disk, not the run.
  void RemoveJournalsExcept(int64_t round) const;

 private:
  Store(std::string directory, FileLock lock, Disk& disk) : disk_(disk), directory_(std::move(directory)), lock_(std::move(lock)) {}
  const StoredRound* LastCommitted() const;  // null before one
  absl::Status Execute(const char* sql) const;
  // Within a transaction.
  absl::Status Insert(const StoredRound& round, const std::string& line);
  absl::Status Insert(const Entries& memory);
  absl::Status Insert(const RoundEnd& end);
  absl::Status ChangeSessions();
  // All or nothing.
  template <typename Body>
  absl::Status Transact(Body body);
  absl::Status Load(const std::string& run_id, const std::string& settings);
  absl::Status SetMeta(const std::string& key, const std::string& value);
  std::string StatePath(int64_t round) const;
  void RemoveExcept(std::string_view prefix, const std::string& path) const;

  Disk& disk_;
  std::string directory_;
  FileLock lock_;
  sqlite3* database_ = nullptr;
  std::string run_id_;
  int64_t incarnation_ = 0;
  std::vector<StoredRound> rounds_;
  std::map<std::string, std::string> memory_, sessions_;
  std::map<std::string, std::optional<std::string>> session_changes_;  // not durable yet; nullopt: gone
  int64_t attempts_file_bytes_ = 0;
};

}  // namespace fedwatt::internal

#endif  // FEDWATT_SERVER_STORE_H_

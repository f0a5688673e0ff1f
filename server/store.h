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

// OUT/state: an SQLite database (WAL, synchronous=FULL), the model's state of the last committed round, a lock, uploads under way. A round counts from the
// instant its row is committed; whatever a crash left behind of a later one goes at the next start, and what it kept back of this one is made good. Owned by one thread.
class Store {
 public:
  // Creates the folder, takes the lock, starts a new incarnation. `settings` is a text of lines "key=value"; on a restart they must be the
  // stored ones.
  // Errors: ALREADY_EXISTS       another coordinator runs on this folder
  //         FAILED_PRECONDITION  the folder belongs to a run with other settings (named), or of another version of the tables
  //         DATA_LOSS            the database is damaged; UNAVAILABLE  SQLite cannot open it
  static absl::StatusOr<std::unique_ptr<Store>> Open(const std::string& out_directory, const std::string& run_id, const std::string& settings);
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

  // Writes the state's file, durably, then commits the round, then removes the file of the round before.
  // `line` is the round's line of rounds.jsonl, without its end.
  absl::Status Commit(const StoredRound& round, const std::string& line, const std::string& model_state);
  absl::Status Abandon(const StoredRound& round, const std::string& line);

  // What the engine remembered (Remember), by key.
  const std::map<std::string, std::string>& memory() const { return memory_; }
  // Replaces these entries, all or none, durably.
  absl::Status Remember(const std::vector<std::pair<std::string, std::string>>& entries);

  std::string uploads_directory() const { return directory_ + "/uploads"; }

 private:
  Store(std::string directory, FileLock lock) : directory_(std::move(directory)), lock_(std::move(lock)) {}
  absl::Status Execute(const char* sql) const;
  absl::Status Insert(const StoredRound& round, const std::string& line);
  absl::Status Load(const std::string& run_id, const std::string& settings);
  absl::Status SetMeta(const std::string& key, const std::string& value);
  std::string StatePath(int64_t round) const;
  void RemoveStatesExcept(int64_t round) const;

  std::string directory_;
  FileLock lock_;
  sqlite3* database_ = nullptr;
  std::string run_id_;
  int64_t incarnation_ = 0;
  std::vector<StoredRound> rounds_;
  std::map<std::string, std::string> memory_;
};

}  // namespace fedwatt::internal

#endif  // FEDWATT_SERVER_STORE_H_

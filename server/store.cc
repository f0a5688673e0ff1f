#include "store.h"

#include <sqlite3.h>

#include <algorithm>
#include <map>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "fedwatt/base/failpoint.h"
#include "fedwatt/base/planted.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt::internal {
namespace {

// Of the tables. A database of another version is refused.
constexpr char kSchema[] = "3";
constexpr int64_t kMaxStateBytes = int64_t{1} << 36;

absl::Status SqliteStatus(sqlite3* database, int code, std::string_view what) {
  std::string message = absl::StrCat("state database: ", std::string(what), ": ", database != nullptr ? sqlite3_errmsg(database) : sqlite3_errstr(code));
  switch (code & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return absl::DataLossError(message);
    case SQLITE_FULL: return absl::ResourceExhaustedError(message);
    case SQLITE_PERM:
    case SQLITE_READONLY: return absl::PermissionDeniedError(message);
    default: return absl::UnavailableError(message);
  }
}

// A prepared statement; columns and parameters count from 0.
class Statement {
 public:
  static absl::StatusOr<Statement> Prepare(sqlite3* database, const char* sql) {
    sqlite3_stmt* raw = nullptr;
    const int code = sqlite3_prepare_v2(database, sql, -1, &raw, nullptr);
    if (code != SQLITE_OK) return SqliteStatus(database, code, sql);
    return Statement(database, raw);
  }
  Statement(Statement&& other) noexcept : database_(other.database_), raw_(std::exchange(other.raw_, nullptr)) {}
  ~Statement() { sqlite3_finalize(raw_); }

  void Bind(int i, int64_t value) { sqlite3_bind_int64(raw_, i + 1, value); }
  void Bind(int i, const std::string& value) {
    sqlite3_bind_blob(raw_, i + 1, value.data(), static_cast<int>(value.size()), SQLITE_TRANSIENT);
  }
  void Bind(int i, const std::optional<double>& value) {
    if (value.has_value()) sqlite3_bind_double(raw_, i + 1, *value);
  }
  // True while there is a row.
  absl::StatusOr<bool> Step() {
    const int code = sqlite3_step(raw_);
    if (code == SQLITE_ROW) return true;
    if (code == SQLITE_DONE) return false;
    return SqliteStatus(database_, code, "reading or writing");
  }
  // For other parameters.
  void Reset() { sqlite3_reset(raw_); }
  int64_t Int(int i) const { return sqlite3_column_int64(raw_, i); }
  std::string Text(int i) const {
    const void* data = sqlite3_column_blob(raw_, i);
    return data == nullptr ? "" : std::string(static_cast<const char*>(data), static_cast<size_t>(sqlite3_column_bytes(raw_, i)));
  }
  std::optional<double> Double(int i) const {
    if (sqlite3_column_type(raw_, i) == SQLITE_NULL) return std::nullopt;
    return sqlite3_column_double(raw_, i);
  }

 private:
  Statement(sqlite3* database, sqlite3_stmt* raw) : database_(database), raw_(raw) {}
  sqlite3* database_;
  sqlite3_stmt* raw_;
};

absl::StatusOr<std::map<std::string, std::string>> ReadPairs(sqlite3* database, const char* sql) {
  FEDWATT_ASSIGN_OR_RETURN(Statement statement, Statement::Prepare(database, sql));
  std::map<std::string, std::string> pairs;
  for (;;) {
    FEDWATT_ASSIGN_OR_RETURN(bool row, statement.Step());
    if (!row) return pairs;
    pairs[statement.Text(0)] = statement.Text(1);
  }
}

std::map<std::string, std::string> ParseLines(const std::string& text) {
  std::map<std::string, std::string> values;
  for (absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const std::pair<std::string, std::string> pair = absl::StrSplit(line, absl::MaxSplits('=', 1));
    values.insert(pair);
  }
  return values;
}

// "" when equal, else what differs.
std::string Difference(const std::string& stored, const std::string& wanted) {
  const std::map<std::string, std::string> before = ParseLines(stored), now = ParseLines(wanted);
  std::vector<std::string> different;
  for (const auto& [key, value] : now) {
    auto it = before.find(key);
    if (it == before.end()) {
      different.push_back(absl::StrCat(key, ": unset before, now ", value));
    } else if (it->second != value) {
      different.push_back(absl::StrCat(key, ": ", it->second, " before, now ", value));
    }
  }
  for (const auto& [key, value] : before) {
    if (!now.contains(key)) different.push_back(absl::StrCat(key, ": ", value, " before, unset now"));
  }
  return absl::StrJoin(different, "; ");
}

}  // namespace

Store::~Store() { sqlite3_close(database_); }

std::string Store::StatePath(int64_t round) const { return absl::StrCat(directory_, "/global-", round, ".state"); }

absl::Status Store::Execute(const char* sql) const {
  const int code = sqlite3_exec(database_, sql, nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : SqliteStatus(database_, code, sql);
}

absl::StatusOr<std::unique_ptr<Store>> Store::Open(const std::string& out_directory, const std::string& run_id, const std::string& settings, Disk& disk) {
  const std::string directory = absl::StrCat(out_directory, "/state");
  // Whoever knows a session's id can speak for its client.
  FEDWATT_RETURN_IF_ERROR(MakeDirectories(directory, 0700, disk));
  absl::StatusOr<FileLock> lock = FileLock::Acquire(absl::StrCat(directory, "/lock"), disk);
  if (!lock.ok()) {
    return Annotate(lock.status(), absl::StrCat("another coordinator runs on ", out_directory));
  }
  std::unique_ptr<Store> store(new Store(directory, *std::move(lock), disk));
  // SQLite takes the log that it finds for flushed.
  if (!FEDWATT_PLANTED(database_log_not_flushed_anew)) FEDWATT_RETURN_IF_ERROR(FlushAnew(absl::StrCat(directory, "/fedwatt.db-wal"), disk));
  const int code = sqlite3_open_v2(absl::StrCat(directory, "/fedwatt.db").c_str(), &store->database_,
                                   SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX, disk.database_files());
  if (code != SQLITE_OK) return SqliteStatus(store->database_, code, "opening");
  FEDWATT_RETURN_IF_ERROR(store->Load(run_id, settings));
  FEDWATT_RETURN_IF_ERROR(MakeDirectories(store->uploads_directory(), 0700, disk));
  return store;
}

template <typename Body>
absl::Status Store::Transact(Body body) {
  FEDWATT_RETURN_IF_ERROR(Execute("BEGIN IMMEDIATE"));
  absl::Cleanup rollback = [this] { (void)Execute("ROLLBACK"); };
  FEDWATT_RETURN_IF_ERROR(body());
  if (int error = Failpoint("database_committing")) return ErrnoStatus(error, "state database: COMMIT");
  FEDWATT_RETURN_IF_ERROR(Execute("COMMIT"));
  std::move(rollback).Cancel();
  return absl::OkStatus();
}

absl::Status Store::Load(const std::string& run_id, const std::string& settings) {
  FEDWATT_RETURN_IF_ERROR(Execute("PRAGMA journal_mode=WAL"));
  FEDWATT_RETURN_IF_ERROR(Execute(FEDWATT_PLANTED(database_not_flushed) ? "PRAGMA synchronous=OFF" : "PRAGMA synchronous=FULL"));
  FEDWATT_RETURN_IF_ERROR(
      Execute("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;"
              "CREATE TABLE IF NOT EXISTS rounds (round INTEGER PRIMARY KEY, committed INTEGER NOT NULL, model_digest BLOB NOT NULL,"
              " accuracy REAL, line BLOB NOT NULL, summary BLOB NOT NULL);"
              "CREATE TABLE IF NOT EXISTS memory (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;"
              "CREATE TABLE IF NOT EXISTS sessions (id BLOB PRIMARY KEY, request BLOB NOT NULL) WITHOUT ROWID;"
              "CREATE TABLE IF NOT EXISTS attempts (round INTEGER NOT NULL, attempt BLOB NOT NULL, ended BLOB NOT NULL, PRIMARY KEY (round, attempt)) WITHOUT ROWID"));
  std::map<std::string, std::string> meta;
  FEDWATT_ASSIGN_OR_RETURN(meta, ReadPairs(database_, "SELECT key, value FROM meta"));
  FEDWATT_RETURN_IF_ERROR(Transact([&]() -> absl::Status {
    if (meta.contains("run_id")) {
      if (meta["schema"] != kSchema) {
        return absl::FailedPreconditionError(absl::StrCat(directory_, " was written by another version of fedwatt-server; finish the run with that one, or give another --out folder"));
      }
      if (std::string difference = Difference(meta["settings"], settings); !difference.empty()) {
        return absl::FailedPreconditionError(
            absl::StrCat(directory_, " belongs to run ", meta["run_id"], " with other settings (", difference,
                         "); continue it with the same ones, or give another --out folder"));
      }
      run_id_ = meta["run_id"];
      if (!absl::SimpleAtoi(meta["incarnation"], &incarnation_)) return absl::DataLossError("state database: bad incarnation");
      if (!absl::SimpleAtoi(meta["attempts_file_bytes"], &attempts_file_bytes_)) return absl::DataLossError("state database: bad attempts_file_bytes");
      ++incarnation_;
    } else {
      run_id_ = run_id;
      FEDWATT_RETURN_IF_ERROR(SetMeta("schema", kSchema));
      FEDWATT_RETURN_IF_ERROR(SetMeta("run_id", run_id));
      FEDWATT_RETURN_IF_ERROR(SetMeta("settings", settings));
      FEDWATT_RETURN_IF_ERROR(SetMeta("attempts_file_bytes", "0"));
    }
    return SetMeta("incarnation", absl::StrCat(incarnation_));
  }));
  FEDWATT_ASSIGN_OR_RETURN(memory_, ReadPairs(database_, "SELECT key, value FROM memory"));
  FEDWATT_ASSIGN_OR_RETURN(sessions_, ReadPairs(database_, "SELECT id, request FROM sessions"));
  FEDWATT_ASSIGN_OR_RETURN(Statement statement,
                           Statement::Prepare(database_, "SELECT round, committed, model_digest, accuracy, summary"
                                                         " FROM rounds ORDER BY round"));
  for (;;) {
    FEDWATT_ASSIGN_OR_RETURN(bool row, statement.Step());
    if (!row) return absl::OkStatus();
    rounds_.push_back({statement.Int(0), statement.Int(1) != 0, statement.Text(2), statement.Double(3), statement.Text(4)});
  }
}

absl::Status Store::Insert(const Entries& memory) {
  FEDWATT_ASSIGN_OR_RETURN(Statement statement, Statement::Prepare(database_, "INSERT OR REPLACE INTO memory VALUES (?, ?)"));
  for (const auto& [key, value] : memory) {
    statement.Bind(0, key);
    statement.Bind(1, value);
    FEDWATT_RETURN_IF_ERROR(statement.Step().status());
    statement.Reset();
  }
  return absl::OkStatus();
}

absl::Status Store::ChangeSessions() {
  FEDWATT_ASSIGN_OR_RETURN(Statement put, Statement::Prepare(database_, "INSERT OR REPLACE INTO sessions VALUES (?, ?)"));
  FEDWATT_ASSIGN_OR_RETURN(Statement drop, Statement::Prepare(database_, "DELETE FROM sessions WHERE id = ?"));
  for (const auto& [id, request] : session_changes_) {
    Statement& statement = request ? put : drop;
    statement.Bind(0, id);
    if (request) statement.Bind(1, *request);
    FEDWATT_RETURN_IF_ERROR(statement.Step().status());
    statement.Reset();
  }
  return absl::OkStatus();
}

absl::Status Store::Remember(const Entries& entries) {
  FEDWATT_RETURN_IF_ERROR(Transact([&]() -> absl::Status {
    FEDWATT_RETURN_IF_ERROR(ChangeSessions());
    return Insert(entries);
  }));
  session_changes_.clear();
  return absl::OkStatus();
}

absl::Status Store::SetMeta(const std::string& key, const std::string& value) {
  FEDWATT_ASSIGN_OR_RETURN(Statement statement, Statement::Prepare(database_, "INSERT OR REPLACE INTO meta VALUES (?, ?)"));
  statement.Bind(0, key);
  statement.Bind(1, value);
  return statement.Step().status();
}

const StoredRound* Store::LastCommitted() const {
  const auto committed = std::find_if(rounds_.rbegin(), rounds_.rend(), [](const StoredRound& round) { return round.committed; });
  return committed == rounds_.rend() ? nullptr : &*committed;
}

absl::StatusOr<std::optional<std::string>> Store::ReadModelState() const {
  const StoredRound* round = LastCommitted();
  if (round == nullptr) return std::optional<std::string>();
  absl::StatusOr<std::string> state = ReadFile(StatePath(round->round), kMaxStateBytes, disk_);
  if (!state.ok()) return absl::DataLossError(absl::StrCat("the model of round ", round->round, " is gone: ", state.status().message()));
  return std::optional<std::string>(*std::move(state));
}

absl::StatusOr<std::string> Store::ReadLines() const {
  FEDWATT_ASSIGN_OR_RETURN(Statement statement, Statement::Prepare(database_, "SELECT line FROM rounds ORDER BY round"));
  std::string lines;
  for (;;) {
    FEDWATT_ASSIGN_OR_RETURN(bool row, statement.Step());
    if (!row) return lines;
    absl::StrAppend(&lines, statement.Text(0), "\n");
  }
}

absl::Status Store::Insert(const StoredRound& round, const std::string& line) {
  FEDWATT_ASSIGN_OR_RETURN(Statement statement, Statement::Prepare(database_, "INSERT OR REPLACE INTO rounds VALUES (?, ?, ?, ?, ?, ?)"));
  statement.Bind(0, round.round);
  statement.Bind(1, int64_t{round.committed});
  statement.Bind(2, round.model_digest);
  statement.Bind(3, round.accuracy);
  statement.Bind(4, line);
  statement.Bind(5, round.summary);
  return statement.Step().status();
}

absl::Status Store::Insert(const RoundEnd& end) {
  FEDWATT_RETURN_IF_ERROR(Insert(end.round, end.line));
  if (!FEDWATT_PLANTED(accounts_not_kept)) FEDWATT_RETURN_IF_ERROR(Insert(end.memory));
  FEDWATT_RETURN_IF_ERROR(SetMeta("attempts_file_bytes", absl::StrCat(end.attempts_file_bytes)));
  FEDWATT_ASSIGN_OR_RETURN(Statement statement, Statement::Prepare(database_, "INSERT OR REPLACE INTO attempts VALUES (?, ?, ?)"));
  for (const auto& [id, ended] : end.attempts) {
    if (FEDWATT_PLANTED(attempts_not_kept)) break;
    statement.Bind(0, end.round.round);
    statement.Bind(1, id);
    statement.Bind(2, ended);
    FEDWATT_RETURN_IF_ERROR(statement.Step().status());
    statement.Reset();
  }
  // Whole rounds, as soon as the newer ones are enough.
  FEDWATT_ASSIGN_OR_RETURN(Statement forget, Statement::Prepare(database_, "DELETE FROM attempts WHERE round < (SELECT round FROM attempts ORDER BY round DESC LIMIT 1 OFFSET ?)"));
  forget.Bind(0, kRememberedAttempts - 1);
  FEDWATT_RETURN_IF_ERROR(forget.Step().status());
  return ChangeSessions();
}

absl::Status Store::Finish(const RoundEnd& end) {
  if (FEDWATT_PLANTED(committed_before_the_model)) FEDWATT_RETURN_IF_ERROR(Transact([&] { return Insert(end); }));
  if (end.model_state != nullptr) FEDWATT_RETURN_IF_ERROR(WriteFileAtomically(StatePath(end.round.round), *end.model_state, 0600, disk_));
  FEDWATT_RETURN_IF_ERROR(Transact([&] { return Insert(end); }));
  Failpoint("round_committed");
  session_changes_.clear();
  rounds_.push_back(end.round);
  // Leftovers of crashes go too.
  if (end.model_state != nullptr) RemoveExcept("global-", StatePath(end.round.round));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> Store::ReadAttempts() const {
  FEDWATT_ASSIGN_OR_RETURN(Statement statement, Statement::Prepare(database_, "SELECT ended FROM attempts ORDER BY round"));
  std::vector<std::string> attempts;
  for (;;) {
    FEDWATT_ASSIGN_OR_RETURN(bool row, statement.Step());
    if (!row) return attempts;
    attempts.push_back(statement.Text(0));
  }
}

std::string Store::journal_path(int64_t round) const { return absl::StrCat(directory_, "/round-", round, ".journal"); }

void Store::RemoveJournalsExcept(int64_t round) const { RemoveExcept("round-", journal_path(round)); }

void Store::RemoveExcept(std::string_view prefix, const std::string& path) const {
  std::vector<std::string> names;
  disk_.List(directory_, &names);
  for (const std::string& name : names) {
    const std::string found = absl::StrCat(directory_, "/", name);
    if (name.rfind(prefix, 0) == 0 && found != path) disk_.Remove(found);
  }
}

}  // namespace fedwatt::internal

// kill -9 at every point that a round's way to disk has: once, and again while it recovers. The models that come out are those of a run that nobody disturbed, to the bit, and
// every update that was acknowledged is in one of them, once.
#include <filesystem>
#include <map>

#include "absl/strings/str_replace.h"
#include "fedwatt/report/run_record.h"
#include "gmock/gmock.h"
#include "tests/server/killable.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt::testing {
namespace {

constexpr int64_t kClients = 3, kRounds = 2;

// How the updates come: inside reports, uploaded and short enough for the journal, or as files.
enum class Way { kInside, kJournal, kFile };

// What the disk has kept of what was not flushed when the machine went down: all of it, as after kill -9; nothing; names and lengths, but sectors of zeros; not even the names.
enum class Disk { kAll, kNothing, kZeros, kNoNames };

struct Cell {
  std::string point;   // as in FEDWATT_FAILPOINTS; round 1 is passed unharmed where it counts
  Way way = Way::kInside;
  std::string second;  // while it recovers; "" for no second crash
  Disk disk = Disk::kAll;
};

std::string PrintName(const ::testing::TestParamInfo<Cell>& info) {
  const Cell& cell = info.param;
  const char *ways[] = {"Inside", "Journal", "File"}, *disks[] = {"", "_Nothing", "_Zeros", "_NoNames"};
  return absl::StrReplaceAll(absl::StrCat(cell.point, "_", ways[static_cast<int>(cell.way)], cell.second.empty() ? "" : "_then_", cell.second, disks[static_cast<int>(cell.disk)]), {{":", "_"}, {"@", "_"}, {"-", "_"}});
}

void PrintTo(const Cell& cell, std::ostream* out) { *out << cell.point << (cell.second.empty() ? "" : " then ") << cell.second; }

class WatchedRun {
 public:
  explicit WatchedRun(Way way) : way_(way), inputs_(way == Way::kFile ? 100'000 : 16) {}

  // Starts the coordinator; the first start finds a port, later ones take it again.
  CoordinatorProcess Start(const std::string& failpoints) {
    std::filesystem::remove(out() + "/address");
    return CoordinatorProcess(FEDWATT_COORDINATOR_PROCESS,
                              {out(), address_.empty() ? "127.0.0.1:0" : address_, absl::StrCat(kClients), absl::StrCat(kRounds), absl::StrCat(inputs_), "update"}, failpoints,
                              folder_.path() + "/log");
  }
  void Join() {
    for (int i = 0; i < 2000 && address_.empty(); ++i) {
      if (absl::StatusOr<std::string> address = ReadFile(out() + "/address"); address.ok()) address_ = address->substr(0, address->find('\n'));
      absl::SleepFor(absl::Milliseconds(10));
    }
    ASSERT_FALSE(address_.empty()) << Log();
    for (int64_t i = 0; i < kClients; ++i) {
      PatientClient::Options options;
      options.address = address_;
      options.partition = i;
      options.count = kClients;
      options.values = LogisticTrainer(inputs_, kClasses).layout().value_count();
      options.inside = way_ == Way::kInside;
      options.may_lose_uploads = true;
      clients_.push_back(std::make_unique<PatientClient>(std::move(options)));
    }
  }
  std::string out() const { return folder_.path() + "/out"; }
  std::string Log() const { return ReadFile(folder_.path() + "/log").value_or("no log"); }
  std::vector<std::unique_ptr<PatientClient>>& clients() { return clients_; }

  // What had not been flushed when the point was passed, as `disk` leaves it. The database flushes each commit itself.
  void LoseWhatWasNotFlushed(const std::string& point, Disk disk) {
    if (disk == Disk::kAll) return;
    const std::string name = point.substr(0, point.find_first_of(":@"));
    const auto lose = [disk](const std::filesystem::path& path, int64_t flushed) {
      const int64_t length = static_cast<int64_t>(std::filesystem::file_size(path));
      ASSERT_GE(length, flushed);
      if (disk == Disk::kNoNames) {
        std::filesystem::remove(path);
        return;
      }
      std::filesystem::resize_file(path, static_cast<uintmax_t>(flushed));
      if (disk == Disk::kZeros) std::filesystem::resize_file(path, static_cast<uintmax_t>(length));
    };
    int lost = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(out() + "/state")) {
      const std::filesystem::path& path = entry.path();
      // Uploads are flushed with their records; their names with the folder.
      if (path.extension() == ".part" && (name == "report_taken" || name == "folding" || name == "upload_hashing")) {
        lose(path, 0);
        ++lost;
      } else if (path.extension() == ".part" && name == "update_synced" && disk == Disk::kNoNames) {
        lose(path, 0);
        ++lost;
      } else if (path.extension() == ".journal" && (name == "journal_appended" || name == "journal_half_written") && point.find(":1") != std::string::npos) {
        lose(path, 0);  // its first record
        ++lost;
      } else if (path.extension() == ".state" && name == "file_renamed" && disk == Disk::kNoNames && path.filename().string().find(point.substr(point.find('@') + 1)) == 0) {
        lose(path, 0);
        ++lost;
      }
    }
    EXPECT_GT(lost, 0) << "nothing was there to be lost";
  }

  // Of the committed rounds.
  std::vector<std::string> Digests() const {
    std::vector<std::string> digests;
    absl::StatusOr<RunRecord> record = ReadRunRecord(out());
    if (!record.ok()) return {record.status().ToString()};
    for (const RoundRecord& round : record->rounds) digests.push_back(round.committed ? round.model_digest : "abandoned");
    return digests;
  }

  // What was promised, whatever happened.
  void CheckPromises() {
    std::map<std::string, int> lines;
    absl::StatusOr<RunRecord> record = ReadRunRecord(out());
    ASSERT_TRUE(record.ok()) << record.status();
    for (const AttemptRecord& attempt : record->attempts) ++lines[absl::StrCat(attempt.attempt, " ", attempt.outcome, " ", attempt.round)];
    std::map<std::string, int> acknowledged;
    for (const std::unique_ptr<PatientClient>& client : clients_) {
      client->Stop();
      EXPECT_THAT(client->complaints(), ::testing::IsEmpty());
      for (const auto& [attempt, rounds] : client->acknowledged()) {
        for (int64_t round : rounds) acknowledged[absl::StrCat(attempt, " accepted ", round)] = 1;
      }
    }
    EXPECT_EQ(lines, acknowledged);
    EXPECT_EQ(acknowledged.size(), static_cast<size_t>(kClients * kRounds));
    for (const RoundRecord& round : record->rounds) EXPECT_EQ(round.clients_completed, kClients);
    // Nothing is left of what the rounds needed.
    for (const auto& entry : std::filesystem::recursive_directory_iterator(out() + "/state")) {
      EXPECT_THAT(entry.path().extension().string(), ::testing::Not(::testing::AnyOf(".journal", ".part"))) << entry.path();
    }
  }

 private:
  const Way way_;
  const int64_t inputs_;
  Folder folder_;
  std::string address_;
  std::vector<std::unique_ptr<PatientClient>> clients_;
};

// Of a run that nobody disturbed.
std::vector<std::string> Undisturbed(Way way) {
  static std::map<Way, std::vector<std::string>> known;
  std::vector<std::string>& digests = known[way];
  if (!digests.empty()) return digests;
  WatchedRun run(way);
  CoordinatorProcess coordinator = run.Start("");
  run.Join();
  EXPECT_EQ(coordinator.Wait(), 0) << run.Log();
  run.CheckPromises();
  digests = run.Digests();
  EXPECT_EQ(digests.size(), static_cast<size_t>(kRounds));
  return digests;
}

class CrashMatrixTest : public ::testing::TestWithParam<Cell> {};

TEST_P(CrashMatrixTest, NothingIsLostOrDoubled) {
  const Cell& cell = GetParam();
  const std::vector<std::string> expected = Undisturbed(cell.way);
  // How many records share a flush is the scheduler's choice, so that a point may not be passed as often as it should; then the run was one more undisturbed one.
  constexpr int kTries = 5;
  for (int i = 0; i < kTries; ++i) {
    WatchedRun run(cell.way);
    const auto ends_by_kill = [&run](CoordinatorProcess& coordinator) {
      const int status = coordinator.Wait();
      EXPECT_TRUE(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)) << status << "\n" << run.Log();
      return status != 0;
    };
    bool killed = true;
    {
      CoordinatorProcess coordinator = run.Start(cell.point);
      run.Join();
      killed = ends_by_kill(coordinator);
    }
    if (killed) run.LoseWhatWasNotFlushed(cell.point, cell.disk);
    if (killed && !cell.second.empty()) {
      CoordinatorProcess coordinator = run.Start(cell.second);
      killed = ends_by_kill(coordinator);
    }
    if (killed) {
      CoordinatorProcess coordinator = run.Start("");
      ASSERT_EQ(coordinator.Wait(), 0) << run.Log();
    }
    EXPECT_EQ(run.Digests(), expected);
    run.CheckPromises();
    if (killed || HasFailure()) return;
  }
  FAIL() << "the point was not passed in " << kTries << " runs";
}

// Counted so that round 2 is hit as well as round 1: three clients a round.
const std::vector<std::pair<std::string, Way>>& Points() {
  static const auto* points = new std::vector<std::pair<std::string, Way>>{
      {"upload_opened:2", Way::kFile},           // C1: after the header of an upload
      {"upload_chunk_written:5", Way::kFile},    // C2: in the middle of one
      {"upload_hashing:4", Way::kJournal},       // C3: its last chunk is there
      {"report_taken:2", Way::kInside},          // C4: the report is in, nothing of it on disk
      {"folding:2", Way::kJournal},              // C14: an update is being added
      {"update_folded:5", Way::kInside},         // C4: it was valid
      {"update_synced:1", Way::kFile},           // C5, C6: its file is flushed under its name
      {"update_folder_synced:1", Way::kFile},    // C7: and so is the folder
      {"journal_half_written:1", Way::kInside},  // C9: a torn record
      {"journal_appended:1", Way::kJournal},     // C8: written, not flushed
      {"journal_synced:1", Way::kInside},        // C10: flushed, nobody told
      {"journal_synced:1", Way::kFile},
      {"update_acknowledged:2", Way::kInside},   // C11: a client was told
      {"update_acknowledged:4", Way::kFile},
      {"round_closed:1", Way::kInside},          // C12, C13: all are in
      {"model_stepped:2", Way::kJournal},        // C14: summed up
      {"round_publishing:2", Way::kInside},
      {"file_half_written@global-1", Way::kInside},  // C20: half of the model's state
      {"file_renamed@global-2", Way::kFile},         // C21: the state is there
      {"database_committing:3", Way::kInside},   // C22: before the commit (the first one opens the run, the second the round)
      {"database_committing:2", Way::kJournal},  // and before anybody is asked
      {"round_committed:1", Way::kInside},       // C23: after it
      {"round_cleared:2", Way::kFile},           // C23: and the journal is gone
  };
  return *points;
}

std::vector<Cell> Cells() {
  std::vector<Cell> cells;
  for (const auto& [point, way] : Points()) {
    cells.push_back({point, way, ""});
    // C24: early, while the state is read; late, when the journal has been read and its updates are being added.
    cells.push_back({point, way, cells.size() % 4 == 1 ? "recovering" : "round_resumed"});
  }
  // Where the round may be over there is none to resume.
  for (Cell& cell : cells) {
    const bool late = cell.point.rfind("update_acknowledged", 0) == 0 || cell.point.rfind("round_cleared", 0) == 0 || cell.point.rfind("round_committed", 0) == 0 || cell.point == "database_committing:2";
    if (cell.second == "round_resumed" && late) cell.second = "recovering";
  }
  // Loss of power, where something had not been flushed.
  const std::vector<std::pair<std::string, Way>> unflushed = {{"report_taken:2", Way::kJournal}, {"folding:2", Way::kFile}, {"journal_half_written:1", Way::kInside}, {"journal_appended:1", Way::kJournal}};
  for (const auto& [point, way] : unflushed) {
    for (const Disk disk : {Disk::kNothing, Disk::kZeros, Disk::kNoNames}) cells.push_back({point, way, disk == Disk::kZeros ? "recovering" : "", disk});
  }
  cells.push_back({"update_synced:1", Way::kFile, "", Disk::kNoNames});
  cells.push_back({"file_renamed@global-1", Way::kInside, "", Disk::kNoNames});
  cells.push_back({"file_renamed@global-2", Way::kFile, "recovering", Disk::kNoNames});
  return cells;
}

INSTANTIATE_TEST_SUITE_P(Points, CrashMatrixTest, ::testing::ValuesIn(Cells()), PrintName);

}  // namespace
}  // namespace fedwatt::testing

// What a loss of power leaves of what was flushed, and of what was not. The disk is simulated, the code is the product's.
#include <fcntl.h>

#include "fedwatt/base/file.h"
#include "fedwatt/report/run_record.h"
#include "gmock/gmock.h"
#include "journal.h"
#include "tests/fault/simulated_disk.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt::testing {
namespace {

using internal::Journal;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

int Create(SimulatedDisk& disk, const std::string& path) { return disk.Open(path, O_RDWR | O_CREAT, 0600); }
void Put(SimulatedDisk& disk, int file, std::string_view bytes, int64_t offset = 0) { ASSERT_EQ(disk.Write(file, bytes.data(), static_cast<int64_t>(bytes.size()), offset), bytes.size()); }
std::string Get(SimulatedDisk& disk, const std::string& path) { return ReadFile(path, 1 << 20, disk).value_or("none"); }

TEST(SimulatedDiskTest, ForgetsWhatWasNotFlushed) {
  for (const Loss loss : kLosses) {
    SimulatedDisk disk(1);
    const int kept = Create(disk, "kept"), nameless = Create(disk, "nameless");
    Put(disk, kept, "old");
    EXPECT_EQ(disk.Sync(kept), 0);
    EXPECT_EQ(disk.SyncFolder(""), 0);
    Put(disk, kept, "new");
    const int late = Create(disk, "late");
    Put(disk, late, "bytes");
    EXPECT_EQ(disk.Sync(late), 0);
    Put(disk, nameless, "bytes");
    disk.Crash();
    EXPECT_LT(disk.Write(kept, "x", 1, 0), 0);
    EXPECT_EQ(Get(disk, "kept"), "none");
    disk.Restart(loss);
    if (loss == Loss::kNothing) {
      EXPECT_EQ(Get(disk, "kept") + Get(disk, "nameless") + Get(disk, "late"), "newbytesbytes");
    } else if (loss == Loss::kBytes) {
      EXPECT_EQ(Get(disk, "kept") + Get(disk, "nameless") + Get(disk, "late"), "oldbytes");
    } else if (loss == Loss::kNames) {
      EXPECT_EQ(Get(disk, "kept") + "/" + Get(disk, "nameless") + "/" + Get(disk, "late"), "old//none");
    } else {
      EXPECT_THAT(Get(disk, "kept"), ::testing::AnyOf("old", "new"));
    }
  }
}

TEST(SimulatedDiskTest, TearsWritesAtSectors) {
  std::set<std::string> seen;
  for (uint64_t seed = 0; seed < 64; ++seed) {
    SimulatedDisk disk(seed);
    const int file = Create(disk, "file");
    Put(disk, file, std::string(1024, 'a'));
    disk.Sync(file);
    disk.SyncFolder("");
    Put(disk, file, std::string(1024, 'b'));
    disk.Restart(Loss::kTorn);
    const std::string left = Get(disk, "file");
    ASSERT_EQ(left.size(), 1024u);
    seen.insert({left[0], left[511], left[512], left[1023]});
  }
  EXPECT_THAT(seen, ElementsAre("aaaa", "aabb", "bbaa", "bbbb"));
}

// Writes "bytes" to "file" and fails to flush them; the file.
int FailToFlush(SimulatedDisk& disk) {
  const int file = Create(disk, "file");
  disk.SyncFolder("");
  Put(disk, file, "bytes");
  disk.faults.sync_fails = 1;
  EXPECT_EQ(disk.Sync(file), -EIO);
  disk.faults = {};
  return file;
}

TEST(SimulatedDiskTest, AFailedFlushLeavesCleanBytesThatAreNotOnDisk) {
  SimulatedDisk disk(1);
  const int file = FailToFlush(disk);
  EXPECT_EQ(Get(disk, "file"), "bytes");
  EXPECT_EQ(disk.Sync(file), 0);
  disk.Restart(Loss::kBytes);
  EXPECT_EQ(Get(disk, "file"), std::string(5, '\0'));
}

TEST(MakeDirectoriesTest, FoldersSurviveALossOfPower) {
  SimulatedDisk disk(1);
  ASSERT_THAT(MakeDirectories("a/b/c", 0700, disk), IsOk());
  disk.Restart(Loss::kNames);
  EXPECT_TRUE(disk.IsFolder("a/b/c"));
}

TEST(FlushAnewTest, KeepsWhatAFailedFlushHadOnlyInMemory) {
  SimulatedDisk disk(1);
  FailToFlush(disk);
  EXPECT_THAT(FlushAnew("file", disk), IsOk());
  EXPECT_THAT(FlushAnew("no such file", disk), IsOk());
  disk.Restart(Loss::kNames);
  EXPECT_EQ(Get(disk, "file"), "bytes");
}

// A journal that is written in tasks, all of them run at once.
class JournalOnDiskTest : public ::testing::Test {
 protected:
  std::vector<std::string> Open() {
    journal_.reset();
    Journal::Options options;
    options.path = "journal";
    options.round = 1;
    options.disk = &*disk_;
    options.background = [this](absl::Duration, std::function<void()> task) { tasks_.push_back(std::move(task)); };
    options.on_failure = [this](const absl::Status& status) { failure_ = status; };
    absl::StatusOr<Journal::Opened> opened = Journal::Open(std::move(options));
    if (!opened.ok()) return {opened.status().ToString()};
    journal_ = std::move(opened->journal);
    std::vector<std::string> messages;
    for (const Journal::Record& record : opened->records) messages.push_back(record.message.substr(0, 1));
    return messages;
  }
  // All in one flush.
  void Append(const std::vector<std::string>& messages) {
    for (const std::string& message : messages) journal_->Append({message, "", "", [this, message] { durable_ += message[0]; }});
    for (auto& task : std::exchange(tasks_, {})) task();
  }

  std::optional<SimulatedDisk> disk_;
  std::vector<std::function<void()>> tasks_;
  std::unique_ptr<Journal> journal_;
  std::string durable_;
  absl::Status failure_;
};

// Sectors reach the disk in any order, so that a record may be missing and the next one of the same flush be there.
TEST_F(JournalOnDiskTest, AFlushThatWasCutOffIsNoDamage) {
  const std::string long_message(700, 'y');
  std::set<std::vector<std::string>> seen;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    disk_.emplace(seed);
    EXPECT_THAT(Open(), IsEmpty());
    Append({"a"});
    EXPECT_EQ(std::exchange(durable_, ""), "a");
    // Dies when all has been written and nothing been flushed.
    int changes = 0;
    disk_->before_change = [&] {
      if (++changes == 3) disk_->Crash();
    };
    Append({"b" + long_message, "c", "d" + long_message, "e"});
    EXPECT_EQ(durable_, "");
    journal_.reset();
    disk_->before_change = {};
    disk_->Restart(Loss::kTorn);
    const std::vector<std::string> left = Open();
    ASSERT_FALSE(left.empty());
    EXPECT_EQ(left[0], "a");
    EXPECT_LE(left[0].size(), 1u) << left[0];
    seen.insert(left);
    // What it says after this is what it will say after the next loss of power.
    Append({"f"});
    EXPECT_EQ(std::exchange(durable_, ""), "f");
    journal_.reset();
    disk_->Restart(Loss::kNames);
    std::vector<std::string> then = left;
    then.push_back("f");
    EXPECT_EQ(Open(), then);
  }
  EXPECT_GT(seen.size(), 2u);
}

// Whoever finds a record in the journal takes it for flushed and says so to its client.
TEST_F(JournalOnDiskTest, WhatIsReadBackIsOnDiskThoughItsFlushHadFailed) {
  disk_.emplace(1);
  EXPECT_THAT(Open(), IsEmpty());
  Append({"a"});
  disk_->faults.sync_fails = 1;
  Append({"b"});
  EXPECT_EQ(durable_, "a");
  EXPECT_THAT(failure_, StatusIs(absl::StatusCode::kDataLoss, ::testing::_));
  disk_->faults = {};
  EXPECT_THAT(Open(), ElementsAre("a", "b"));
  Append({"c"});
  disk_->Restart(Loss::kNames);
  EXPECT_THAT(Open(), ElementsAre("a", "b", "c"));
}

TEST(RunRecordOnDiskTest, LinesThatFoundNoSpaceComeLater) {
  SimulatedDisk disk(1);
  absl::StatusOr<std::unique_ptr<RunRecordWriter>> writer = RunRecordWriter::Open("run", disk);
  ASSERT_THAT(writer.status(), IsOk());
  AttemptRecord attempt;
  attempt.outcome = "accepted";
  const auto write = [&](const std::string& name) {
    attempt.attempt = name;
    return (*writer)->WriteAttempt(attempt);
  };
  EXPECT_THAT(write("first"), IsOk());
  disk.faults.full = true;
  EXPECT_THAT(write("second"), StatusIs(absl::StatusCode::kResourceExhausted, ::testing::_));
  EXPECT_THAT((*writer)->SyncAttempts(), StatusIs(absl::StatusCode::kResourceExhausted, ::testing::_));
  disk.faults.full = false;
  EXPECT_THAT((*writer)->SyncAttempts(), IsOk());
  writer->reset();
  disk.Restart(Loss::kNames);
  absl::StatusOr<std::vector<AttemptRecord>> attempts = ReadAttempts("run", disk);
  ASSERT_THAT(attempts.status(), IsOk());
  ASSERT_EQ(attempts->size(), 2u);
  EXPECT_EQ((*attempts)[1].attempt, "second");
}

}  // namespace
}  // namespace fedwatt::testing

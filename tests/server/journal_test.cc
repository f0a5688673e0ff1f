#include "journal.h"

#include <condition_variable>
#include <mutex>

#include "fedwatt/base/failpoint.h"
#include "fedwatt/base/file.h"
#include "gmock/gmock.h"
#include "tests/server/raw_client.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt::internal {
namespace {

using ::fedwatt::testing::Folder;
using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::HasSubstr;

class JournalTest : public ::testing::Test {
 protected:
  ~JournalTest() override { ArmFailpoints(""); }

  Journal::Options Options() {
    Journal::Options options;
    options.path = path();
    options.round = 7;
    options.retry_after = absl::Milliseconds(5);
    return options;
  }
  std::string path() const { return folder_.path() + "/round-7.journal"; }

  // Appends and waits until all is durable.
  void Write(Journal& journal, const std::vector<std::pair<std::string, std::string>>& records) {
    std::mutex mutex;
    std::condition_variable changed;
    size_t durable = 0;
    for (const auto& [message, body] : records) {
      journal.Append({message, body, "", [&] {
                        std::lock_guard<std::mutex> lock(mutex);
                        ++durable;
                        changed.notify_all();
                      }});
    }
    std::unique_lock<std::mutex> lock(mutex);
    EXPECT_TRUE(changed.wait_for(lock, std::chrono::seconds(30), [&] { return durable == records.size(); }));
  }
  std::vector<std::string> ReadBack() {
    absl::StatusOr<Journal::Opened> opened = Journal::Open(Options());
    if (!opened.ok()) return {opened.status().ToString()};
    torn_ = opened->torn_bytes;
    std::vector<std::string> texts;
    for (const Journal::Record& record : opened->records) {
      const std::string file = *ReadFile(record.body.path);
      texts.push_back(record.message + "/" + file.substr(static_cast<size_t>(record.body.offset), static_cast<size_t>(record.body.length)));
    }
    return texts;
  }

  Folder folder_;
  int64_t torn_ = 0;
};

using Texts = std::vector<std::string>;

TEST_F(JournalTest, ReadsBackWhatWasDurableAndGoesOnBehindIt) {
  for (int start = 0; start < 3; ++start) {
    ASSERT_OK_AND_ASSIGN(Journal::Opened opened, Journal::Open(Options()));
    EXPECT_EQ(opened.records.size(), static_cast<size_t>(2 * start));
    Write(*opened.journal, {{"a", "body"}, {std::string("b\0c", 3), ""}});
  }
  EXPECT_EQ(ReadBack(), (Texts{"a/body", std::string("b\0c/", 4), "a/body", std::string("b\0c/", 4), "a/body", std::string("b\0c/", 4)}));
  EXPECT_EQ(torn_, 0);
}

TEST_F(JournalTest, ATailCutAtAnyByteCostsOnlyWhatWasCut) {
  {
    ASSERT_OK_AND_ASSIGN(Journal::Opened opened, Journal::Open(Options()));
    Write(*opened.journal, {{"first", std::string(50, 'x')}});
    Write(*opened.journal, {{"second", std::string(61, 'y')}});
    Write(*opened.journal, {{"third", ""}});
  }
  const std::string whole = *ReadFile(path());
  ASSERT_EQ(whole.size(), 96u + 112u + 48u);  // 40 + 5 + 50, 40 + 6 + 61, 40 + 5, each rounded up to eights
  for (size_t cut = 0; cut < whole.size(); ++cut) {
    ASSERT_THAT(WriteFileAtomically(path(), whole.substr(0, cut)), IsOk());
    const size_t expected = cut >= 208 ? 2 : cut >= 96 ? 1 : 0;
    const Texts texts = ReadBack();
    ASSERT_EQ(texts.size(), expected) << cut << ": " << (texts.empty() ? "" : texts[0]);
    EXPECT_EQ(torn_, static_cast<int64_t>(cut - (expected == 2 ? 208 : expected == 1 ? 96 : 0)));
  }
}

TEST_F(JournalTest, SectorsThatWereNeverWrittenAreATornTail) {
  {
    ASSERT_OK_AND_ASSIGN(Journal::Opened opened, Journal::Open(Options()));
    Write(*opened.journal, {{"first", std::string(500, 'x')}});
    Write(*opened.journal, {{"second", std::string(3000, 'y')}});
  }
  std::string bytes = *ReadFile(path());
  bytes.replace(1024, 512, std::string(512, '\0'));
  ASSERT_THAT(WriteFileAtomically(path(), bytes), IsOk());
  EXPECT_EQ(ReadBack(), (Texts{"first/" + std::string(500, 'x')}));
  EXPECT_GT(torn_, 3000);
}

TEST_F(JournalTest, AFlippedBitAnywhereIsNamedAndNothingIsAveragedIn) {
  {
    ASSERT_OK_AND_ASSIGN(Journal::Opened opened, Journal::Open(Options()));
    Write(*opened.journal, {{"first", "xxxxxxxxxxx"}});  // 56 bytes in eights: no padding
    Write(*opened.journal, {{"second", "yyyyyyyyyy"}});
  }
  const std::string whole = *ReadFile(path());
  ASSERT_EQ(whole.size(), 112u);
  for (size_t at = 0; at < whole.size(); ++at) {
    if ((at % 56) >= 36 && (at % 56) < 40) continue;  // spare bytes of the heads
    std::string bytes = whole;
    bytes[at] = static_cast<char>(bytes[at] ^ 0x10);
    ASSERT_THAT(WriteFileAtomically(path(), bytes), IsOk());
    EXPECT_THAT(Journal::Open(Options()).status(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr(absl::StrCat(path(), " is damaged at offset ", at < 56 ? 0 : 56)))) << at;
  }
}

TEST_F(JournalTest, AnotherRoundsJournalIsDamage) {
  {
    ASSERT_OK_AND_ASSIGN(Journal::Opened opened, Journal::Open(Options()));
    Write(*opened.journal, {{"first", ""}});
  }
  Journal::Options options = Options();
  options.round = 8;
  EXPECT_THAT(Journal::Open(std::move(options)).status(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("offset 0")));
}

TEST_F(JournalTest, AFullDiskIsWaitedForAndNothingIsLost) {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<bool> full;
  Journal::Options options = Options();
  options.on_full = [&](bool is) {
    std::lock_guard<std::mutex> lock(mutex);
    full.push_back(is);
    changed.notify_all();
  };
  bool durable = false;
  {
    ASSERT_OK_AND_ASSIGN(Journal::Opened opened, Journal::Open(std::move(options)));
    Write(*opened.journal, {{"before", ""}});
    ArmFailpoints("journal_write=ENOSPC:2");  // the second half of a record
    opened.journal->Append({"during", "", "", [&] {
                              std::lock_guard<std::mutex> lock(mutex);
                              durable = true;
                              changed.notify_all();
                            }});
    std::unique_lock<std::mutex> lock(mutex);
    ASSERT_TRUE(changed.wait_for(lock, std::chrono::seconds(30), [&] { return !full.empty(); }));
    EXPECT_TRUE(opened.journal->full());
    EXPECT_FALSE(durable);
    ArmFailpoints("");
    ASSERT_TRUE(changed.wait_for(lock, std::chrono::seconds(30), [&] { return durable; }));
    EXPECT_FALSE(opened.journal->full());
  }
  EXPECT_EQ(full, (std::vector<bool>{true, false}));
  EXPECT_EQ(ReadBack(), (Texts{"before/", "during/"}));
  EXPECT_EQ(torn_, 0);
}

TEST_F(JournalTest, AFailedFlushEndsItAndIsNotTriedAgain) {
  for (const char* point : {"journal_sync=EIO", "update_sync=EIO"}) {
    std::mutex mutex;
    std::condition_variable changed;
    absl::Status failure;
    Journal::Options options = Options();
    options.path = absl::StrCat(path(), point);
    options.on_failure = [&](const absl::Status& status) {
      std::lock_guard<std::mutex> lock(mutex);
      failure = status;
      changed.notify_all();
    };
    const std::string update = folder_.path() + "/update";
    ASSERT_THAT(WriteFileAtomically(update, "bytes"), IsOk());
    ASSERT_OK_AND_ASSIGN(Journal::Opened opened, Journal::Open(std::move(options)));
    ArmFailpoints(point);
    bool durable = false;
    opened.journal->Append({"one", "", update, [&] { durable = true; }});
    {
      std::unique_lock<std::mutex> lock(mutex);
      ASSERT_TRUE(changed.wait_for(lock, std::chrono::seconds(30), [&] { return !failure.ok(); }));
      EXPECT_THAT(failure, StatusIs(absl::StatusCode::kDataLoss, HasSubstr("flushing")));
    }
    ArmFailpoints("");  // a second try would now succeed, and prove nothing
    opened.journal->Append({"two", "", "", [&] { durable = true; }});
    opened.journal.reset();
    EXPECT_FALSE(durable);
  }
}

}  // namespace
}  // namespace fedwatt::internal

#include "fedwatt/energy/ledger.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/file.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using testing::IsOk;
using testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::SizeIs;

LedgerRecord Record(int64_t round) {
  LedgerRecord record{.run_id = "run", .attempt = absl::StrCat("r", round), .client = "c-1", .round = round, .outcome = "completed"};
  record.finished = absl::FromUnixMicros(1'767'225'600'123'456 + round);
  PhaseSpan train{.phase = Phase::kTrain, .wall = absl::Microseconds(1'500'001), .cpu = absl::Microseconds(1'400'000)};
  train.energy.energy = Microjoules(7'654'321);
  train.energy.low = Microjoules(7'000'000);
  train.energy.high = Microjoules(8'000'000);
  train.energy.tier = EnergyTier::kComponent;
  train.energy.source = "rapl";
  train.energy.domain = "package-0";
  record.phases = {train, PhaseSpan{.phase = Phase::kUpload, .wall = absl::Microseconds(3)}};
  record.example_count = 600;
  record.uplink_payload_bytes = 1234;
  record.operational = Micrograms(99);
  return record;
}

class LedgerTest : public ::testing::Test {
 protected:
  LedgerTest() : path_(absl::StrCat(::testing::TempDir(), "/ledger-", getpid(), "-", ::testing::UnitTest::GetInstance()->current_test_info()->name())) {
    std::filesystem::remove(path_);
  }
  ~LedgerTest() override { std::filesystem::remove(path_); }
  std::string Text() const { return *ReadFile(path_); }
  std::string path_;
};

TEST_F(LedgerTest, PayloadIsPinned) {
  EXPECT_EQ(LedgerPayload(Record(1)),
            R"({"run":"run","round":1,"client":"c-1","attempt":"r1","outcome":"completed","finished_us":1767225600123457,"examples":600,)"
            R"("uplink_payload_bytes":1234,"downlink_payload_bytes":0,"uplink_wire_bytes":null,"downlink_wire_bytes":null,"operational_ug":99,)"
            R"("embodied_ug":null,"phases":[{"phase":"train","wall_us":1500001,"cpu_us":1400000,"energy_uj":7654321,"low_uj":7000000,"high_uj":8000000,)"
            R"("tier":"component","source":"rapl","domain":"package-0"},{"phase":"upload","wall_us":3,"cpu_us":0,"energy_uj":null,"low_uj":null,)"
            R"("high_uj":null,"tier":"missing","source":"","domain":""}]})");
  // The first head is the hash of 64 zeros and the payload.
  EXPECT_EQ(NextHead({}, "x").head, Sha256(std::string(64, '0') + "x"));
}

TEST_F(LedgerTest, GoesOnWhereItStopped) {
  LedgerHead last;
  for (int start = 0; start < 3; ++start) {
    ASSERT_OK_AND_ASSIGN(std::unique_ptr<Ledger> ledger, Ledger::Open(path_));
    EXPECT_EQ(ledger->head().sequence, 2 * start);
    for (int i = 0; i < 2; ++i) {
      ASSERT_OK_AND_ASSIGN(LedgerHead head, ledger->Append(Record(2 * start + i)));
      EXPECT_EQ(head.sequence, last.sequence + 1);
      EXPECT_EQ(head.previous, last.head);
      last = head;
    }
  }
  ASSERT_OK_AND_ASSIGN(std::vector<LedgerEntry> entries, ReadLedger(Text(), "file"));
  ASSERT_THAT(entries, SizeIs(6));
  EXPECT_EQ(entries[5].position.head, last.head);
  EXPECT_EQ(entries[3].attempt, "r3");
}

TEST_F(LedgerTest, AnySingleByteThatIsChangedAddedOrTakenAwayIsFound) {
  {
    ASSERT_OK_AND_ASSIGN(std::unique_ptr<Ledger> ledger, Ledger::Open(path_));
    for (int i = 0; i < 3; ++i) ASSERT_THAT(ledger->Append(Record(i)), IsOk());
  }
  const std::string good = Text();
  ASSERT_OK_AND_ASSIGN(const std::vector<LedgerEntry> entries, ReadLedger(good, "file"));
  const Digest anchored = entries.back().position.head;
  const auto found = [&](const std::string& text) {
    absl::StatusOr<std::vector<LedgerEntry>> read = ReadLedger(text, "file");
    return !read.ok() || read->empty() || read->back().position.head != anchored;
  };
  for (size_t i = 0; i < good.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ (1 << bit));
      ASSERT_TRUE(found(bad)) << "byte " << i << ", bit " << bit;
    }
    ASSERT_TRUE(found(good.substr(0, i) + good.substr(i + 1))) << "without byte " << i;
    ASSERT_TRUE(found(good.substr(0, i) + "0" + good.substr(i))) << "one more at " << i;
    ASSERT_TRUE(found(good.substr(0, i))) << "cut at " << i;
  }
}

TEST_F(LedgerTest, CutsOffATornLineAndRefusesADamagedOne) {
  {
    ASSERT_OK_AND_ASSIGN(std::unique_ptr<Ledger> ledger, Ledger::Open(path_));
    for (int i = 0; i < 2; ++i) ASSERT_THAT(ledger->Append(Record(i)), IsOk());
  }
  const std::string good = Text();
  std::ofstream(path_, std::ios::app) << good.substr(0, 100);
  {
    ASSERT_OK_AND_ASSIGN(std::unique_ptr<Ledger> ledger, Ledger::Open(path_));
    EXPECT_EQ(ledger->head().sequence, 2);
  }
  EXPECT_EQ(Text(), good);
  std::string bad = good;
  bad[200] = bad[200] == '1' ? '2' : '1';
  std::ofstream(path_) << bad;
  EXPECT_THAT(Ledger::Open(path_), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("record 1")));
}

}  // namespace
}  // namespace fedwatt

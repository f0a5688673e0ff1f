// What a coordinator does when the disk is full, fails or lies, and what it tells those who ask late.
#include <filesystem>
#include <fstream>

#include "fedwatt/base/failpoint.h"
#include "gmock/gmock.h"
#include "tests/server/killable.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class RecoveryTest : public ::testing::Test {
 protected:
  ~RecoveryTest() override { ArmFailpoints(""); }

  ServerOptions Options(int64_t rounds, const std::string& durability = "update", int64_t clients = 1) {
    ServerOptions options = QuickOptions(out_.path(), clients);
    options.engine.rounds = rounds;
    options.engine.deadline = absl::Minutes(2);
    options.disconnect_grace = absl::Seconds(15);
    options.durability = durability;
    return options;
  }
  std::vector<std::string> Attempts() { return AttemptsOf(out_.path(), 0); }

  Folder out_;
};

TEST_F(RecoveryTest, AnAcknowledgementSaysHowDurableItIs) {
  for (const std::string durability : {"update", "round"}) {
    Folder out;
    ServerOptions options = Options(1, durability);
    options.out_directory = out.path();
    RunningServer server(std::move(options));
    RawClient client(server.address(), 0, 1);
    client.Join();
    client.AwaitTraining();
    ASSERT_OK_AND_ASSIGN(v1::ReportResponse response, client.Report(client.InlineReport(client.GoodUpdate())));
    EXPECT_EQ(response.accepted().durability(), durability);
    EXPECT_EQ(server.Wait().committed_rounds, 1);
  }
}

TEST_F(RecoveryTest, AReportRepeatedAfterCommitAndRestartIsToldItsRound) {
  v1::ReportRequest report;
  {
    RunningServer server(Options(1));
    RawClient client(server.address(), 0, 1);
    client.Join();
    client.AwaitTraining();
    report = client.InlineReport(client.GoodUpdate());
    ASSERT_OK_AND_ASSIGN(v1::ReportResponse response, client.Report(report));
    EXPECT_TRUE(response.has_accepted());
    EXPECT_EQ(server.Wait().committed_rounds, 1);
  }
  RunningServer server(Options(2));
  RawClient client(server.address(), 0, 1);
  client.Join();
  report.set_session_id(client.session());
  ASSERT_OK_AND_ASSIGN(v1::ReportResponse response, client.Report(report));
  EXPECT_EQ(response.accepted().round(), 1) << response.DebugString();
  v1::ReportRequest other = report;
  other.mutable_completed()->set_inline_update("other bytes");
  ASSERT_OK_AND_ASSIGN(response, client.Report(other));
  EXPECT_TRUE(response.duplicate().accepted()) << response.DebugString();
  EXPECT_EQ(response.duplicate().round(), 1);
  client.AwaitTraining();
  ASSERT_OK_AND_ASSIGN(response, client.Report(client.InlineReport(client.GoodUpdate())));
  EXPECT_EQ(response.accepted().round(), 2);
  EXPECT_EQ(server.Wait().committed_rounds, 2);
}

TEST_F(RecoveryTest, AFullDiskRefusesAndGoesOn) {
  RunningServer server(Options(1));
  RawClient client(server.address(), 0, 1);
  client.Join();
  client.AwaitTraining();
  const std::string update = client.GoodUpdate();
  const v1::ReportRequest report = client.CompletedReport(update);

  ArmFailpoints("upload_write=ENOSPC");
  absl::Status refused = client.Upload(update).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted) << refused;
  EXPECT_TRUE(RetryOf(refused).has_value()) << refused;
  EXPECT_FALSE(RejectionOf(refused).has_value()) << refused;  // it is not the update's fault
  ArmFailpoints("");
  ASSERT_THAT(client.Upload(update), IsOk());

  // No space for the journal, and then none for the commit either.
  ArmFailpoints("journal_write=ENOSPC,database_committing=ENOSPC");
  for (int i = 0; i < 2; ++i) {
    refused = client.Report(report).status();
    EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted) << refused;
    EXPECT_TRUE(RetryOf(refused).has_value()) << refused;
  }
  ArmFailpoints("database_committing=ENOSPC");
  absl::StatusOr<v1::ReportResponse> response = refused;
  for (int i = 0; i < 200 && !response.ok(); ++i) {
    response = client.Report(report);
    absl::SleepFor(absl::Milliseconds(100));
  }
  ASSERT_THAT(response, IsOk());
  EXPECT_TRUE(response->has_accepted());
  EXPECT_FALSE(std::filesystem::exists(out_.path() + "/state/global-2.state"));
  EXPECT_EQ(ReadRunRecord(out_.path())->rounds.size(), 0u);
  ArmFailpoints("");
  EXPECT_EQ(server.Wait().committed_rounds, 1);
  EXPECT_THAT(Attempts(), ElementsAre("accepted/"));
}

TEST_F(RecoveryTest, AFullDiskHoldsUpTheFirstRoundAndAStopEndsTheWait) {
  RunningServer server(Options(1));
  ArmFailpoints("database_committing=ENOSPC");
  RawClient client(server.address(), 0, 1);
  client.Join();
  // Nobody is asked before the round is on disk.
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(1500));
  EXPECT_EQ(client.Wait("", &context).status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(server.Stop().status, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("No space")));
}

TEST_F(RecoveryTest, AFailedFlushStopsAcknowledging) {
  // Of two, so that no commit makes durable what the journal could not.
  v1::ReportRequest first, second;
  {
    RunningServer server(Options(1, "update", 2));
    RawClient client(server.address(), 0, 2), other(server.address(), 1, 2);
    client.Join();
    other.Join();
    client.AwaitTraining();
    other.AwaitTraining();
    first = client.InlineReport(client.GoodUpdate());
    second = other.InlineReport(other.GoodUpdate());
    ArmFailpoints("journal_sync=EIO");
    EXPECT_FALSE(client.Report(first).ok());
    EXPECT_THAT(server.Wait().status, StatusIs(absl::StatusCode::kDataLoss, HasSubstr("no update is acknowledged any more")));
  }
  ArmFailpoints("");
  // Started again, it takes the disk for the truth, and its clients go on with the sessions and the reports that they had.
  RunningServer server(Options(1, "update", 2));
  RawClient client(server.address(), 0, 2);
  for (const v1::ReportRequest& report : {first, second}) {
    ASSERT_OK_AND_ASSIGN(v1::ReportResponse response, client.Report(report));
    EXPECT_TRUE(response.has_accepted()) << response.DebugString();
  }
  EXPECT_EQ(server.Wait().committed_rounds, 1);
  EXPECT_THAT(Attempts(), ElementsAre("accepted/"));
}

// A coordinator that was killed when the first of two updates had been acknowledged.
class DamagedUpdateTest : public ::testing::TestWithParam<int64_t> {
 protected:
  std::string out() const { return folder_.path() + "/out"; }
  CoordinatorProcess Start(const std::string& failpoints, const std::string& log) {
    return CoordinatorProcess(FEDWATT_COORDINATOR_PROCESS, {out(), "127.0.0.1:0", "2", "1", absl::StrCat(GetParam()), "update"}, failpoints, log);
  }
  void SetUp() override {
    CoordinatorProcess coordinator = Start("update_acknowledged", folder_.path() + "/first");
    std::string address;
    for (int i = 0; i < 2000 && address.empty(); ++i) {
      if (absl::StatusOr<std::string> text = ReadFile(out() + "/address"); text.ok()) address = text->substr(0, text->find('\n'));
      absl::SleepFor(absl::Milliseconds(10));
    }
    ASSERT_FALSE(address.empty());
    RawClient client(address, 0, 2), other(address, 1, 2);
    client.Join();
    other.Join();
    client.AwaitTraining();
    const std::string update = RawClient::Update(0.25f, *Digest::FromRaw(client.assignment().plan().layout_digest()), "float32", LogisticTrainer(GetParam(), kClasses).layout().value_count());
    (void)client.UploadAndReport(update);  // its answer is the coordinator's last word
    const int status = coordinator.Wait();
    ASSERT_TRUE(WIFSIGNALED(status)) << status;
  }
  // The only file in state/ with this ending.
  std::string FileIn(const std::string& folder, const std::string& ending) {
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      if (entry.path().extension() == ending) return entry.path().string();
    }
    ADD_FAILURE() << "no " << ending << " in " << folder;
    return "";
  }
  void Flip(const std::string& path, int64_t offset) {
    std::string bytes = *ReadFile(path);
    ASSERT_LT(offset, static_cast<int64_t>(bytes.size()));
    bytes[static_cast<size_t>(offset)] = static_cast<char>(bytes[static_cast<size_t>(offset)] ^ 1);
    ASSERT_TRUE(WriteFileAtomically(path, bytes).ok());
  }
  Folder folder_;
};

TEST_P(DamagedUpdateTest, EndsTheRunByName) {
  const bool file = GetParam() > 87'000;
  const std::string path = file ? FileIn(out() + "/state/uploads", ".part") : FileIn(out() + "/state", ".journal");
  Flip(path, 600);
  const std::string log = folder_.path() + "/second";
  CoordinatorProcess coordinator = Start("", log);
  const int status = coordinator.Wait();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 1) << status;
  const std::string said = *ReadFile(log);
  EXPECT_THAT(said, HasSubstr(path));
  EXPECT_THAT(said, HasSubstr(file ? "the update at offset 0" : "is damaged at offset 0"));
  absl::StatusOr<RunRecord> record = ReadRunRecord(out());
  if (record.ok()) EXPECT_THAT(record->rounds, ::testing::IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(JournalAndFile, DamagedUpdateTest, ::testing::Values(64, 100'000));

}  // namespace
}  // namespace fedwatt::testing

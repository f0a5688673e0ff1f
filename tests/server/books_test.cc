// Budgets and ledgers over real calls.
#include "absl/strings/str_replace.h"
#include "fedwatt/base/file.h"
#include "fedwatt/rpc/ledger_conversion.h"
#include "gmock/gmock.h"
#include "tests/server/raw_client.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt::testing {
namespace {

using ::testing::HasSubstr;

void AddTraining(v1::ReportRequest& report, int64_t microjoules, int64_t wall_us = 1000) {
  v1::PhaseSpan& span = *report.add_phases();
  span.set_phase(v1::PHASE_TRAIN);
  span.set_wall_us(wall_us);
  span.set_energy_uj(microjoules);
  span.mutable_energy_origin()->set_tier(v1::ENERGY_TIER_COMPONENT);
  span.mutable_energy_origin()->set_source("rapl");
  span.mutable_energy_origin()->set_domain("package-0");
}

std::string PseudonymOf(const std::string& run, const std::string& client) { return absl::StrCat("c-", Sha256(absl::StrCat(run, "/", client)).Hex().substr(0, 12)); }

// A client that plays `rounds` rounds; `change` may spoil each report before it is sent.
std::vector<AttemptRecord> Play(ServerOptions options, int rounds, const std::function<void(int, v1::ReportRequest&)>& change, RunRecord* run = nullptr) {
  const std::string out = options.out_directory;
  options.engine.rounds = rounds;
  RunningServer server(std::move(options));
  RawClient client(server.address(), 0, 1);
  client.Join();
  for (int i = 0; i < rounds; ++i) {
    client.AwaitTraining();
    v1::ReportRequest report = client.InlineReport(client.GoodUpdate());
    change(i, report);
    EXPECT_THAT(client.Report(report), IsOk());
  }
  EXPECT_THAT(server.Wait().status, IsOk());
  absl::StatusOr<RunRecord> record = ReadRunRecord(out);
  EXPECT_THAT(record, IsOk());
  if (run != nullptr) *run = *record;
  return record->attempts;
}

TEST(DeclinedFitTest, IsRecordedWithItsReason) {
  Folder out;
  const std::vector<AttemptRecord> attempts = Play(QuickOptions(out.path(), 1), 2, [&](int i, v1::ReportRequest& report) {
    if (i > 0) return;
    report.mutable_failed()->set_code(static_cast<int32_t>(absl::StatusCode::kResourceExhausted));
    report.mutable_failed()->set_message("declined: too many parameters");
  });
  ASSERT_EQ(attempts.size(), 2u);
  EXPECT_EQ(attempts[0].outcome, "dropped");
  EXPECT_EQ(attempts[0].reason, "client_error");
  EXPECT_EQ(attempts[0].fit_declined_reason, "declined: too many parameters");
  EXPECT_EQ(attempts[1].fit_declined_reason, std::nullopt);
}

class LedgerReportTest : public ::testing::Test {
 protected:
  void Anchor(v1::ReportRequest& report, int64_t round) {
    report.mutable_ledger()->set_finished_us(1'767'225'600'000'000);
    last_ = NextHead(last_, LedgerPayload(*LedgerRecordOf(report, "run", PseudonymOf("run", "client-0"), round)));
    SetPosition(last_, report.mutable_ledger());
  }
  LedgerHead last_;
  Folder out_;
};

TEST_F(LedgerReportTest, AnchorsHeadsThatFitTheReport) {
  RunRecord run;
  const std::vector<AttemptRecord> attempts = Play(
      QuickOptions(out_.path(), 1), 3,
      [&](int i, v1::ReportRequest& report) {
        AddTraining(report, 1000000 + i);
        Anchor(report, i + 1);
      },
      &run);
  for (const AttemptRecord& attempt : attempts) EXPECT_EQ(attempt.quarantine, "");
  EXPECT_EQ(attempts.at(2).ledger_sequence, 3);
  EXPECT_EQ(attempts.at(2).ledger_head, last_.head.Hex());
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(run.rounds.at(i).ledger_root, LedgerRoot({attempts[i]}));
  EXPECT_EQ(SumRounds(run.rounds).client_energy, Microjoules(3000003));
}

TEST_F(LedgerReportTest, AReportThatIsNotWhatTheLedgerSaysIsQuarantined) {
  RunRecord run;
  const std::vector<AttemptRecord> attempts = Play(
      QuickOptions(out_.path(), 1), 2,
      [&](int i, v1::ReportRequest& report) {
        AddTraining(report, 1000000);
        Anchor(report, i + 1);
        if (i == 0) report.mutable_phases(0)->set_energy_uj(700000);  // told less than booked
      },
      &run);
  EXPECT_EQ(attempts.at(0).quarantine, "ledger_head");
  EXPECT_EQ(attempts.at(1).quarantine, "");
  EXPECT_EQ(run.rounds.at(0).client_energy_quarantined, Microjoules(700000));
  EXPECT_FALSE(run.rounds[0].client_energy.has_value());  // not believed is not zero
  EXPECT_EQ(run.rounds[0].clients_completed, 1);          // the update itself counts
  EXPECT_EQ(SumRounds(run.rounds).client_energy, Microjoules(1000000));
}

TEST_F(LedgerReportTest, AHistoryThatWasRewrittenIsFound) {
  const std::vector<AttemptRecord> attempts = Play(QuickOptions(out_.path(), 1), 4, [&](int i, v1::ReportRequest& report) {
    AddTraining(report, 1000000);
    if (i == 2) last_.head = Sha256("another past");            // as many records, another chain
    if (i == 3) last_ = LedgerHead{};                             // begun anew
    Anchor(report, i + 1);
  });
  EXPECT_EQ(attempts.at(1).quarantine, "");
  EXPECT_EQ(attempts.at(2).quarantine, "ledger_rewritten");
  EXPECT_EQ(attempts.at(3).quarantine, "ledger_rewritten");
}

TEST_F(LedgerReportTest, HostileAnchorsCostOnlyTheJoules) {
  const std::vector<AttemptRecord> attempts = Play(QuickOptions(out_.path(), 1), 4, [&](int i, v1::ReportRequest& report) {
    AddTraining(report, 1000000);
    Anchor(report, i + 1);
    if (i == 0) report.mutable_ledger()->set_head("short");
    if (i == 1) report.mutable_ledger()->set_sequence(INT64_MIN);
    if (i == 2) report.mutable_ledger()->set_operational_ug(-1);
    if (i == 3) report.mutable_ledger()->set_finished_us(INT64_MAX);
  });
  for (const AttemptRecord& attempt : attempts) {
    EXPECT_EQ(attempt.outcome, "accepted");
    EXPECT_THAT(attempt.quarantine, HasSubstr("ledger_"));
  }
}

// One client whose training diverged must not keep everybody from reading the record.
TEST_F(LedgerReportTest, ALossThatDivergedLeavesTheRecordReadable) {
  const double losses[] = {1e20, -1e30, std::nextafter(1e30, 1e31), std::nan(""), 1};
  const std::vector<AttemptRecord> attempts =
      Play(QuickOptions(out_.path(), 1), 5, [&](int i, v1::ReportRequest& report) { report.mutable_completed()->set_mean_loss(losses[i]); });
  std::vector<std::optional<double>> recorded;
  for (const AttemptRecord& attempt : attempts) recorded.push_back(attempt.train_loss);
  EXPECT_THAT(recorded, ::testing::ElementsAre(1e20, -1e30, std::nullopt, std::nullopt, 1));
}

// A number that a report would not print is no reason to forget what was anchored.
TEST_F(LedgerReportTest, HeadsAreRememberedFromARecordWithNumbersThatReportsRefuse) {
  const auto options = [this] {
    ServerOptions made = QuickOptions(out_.path(), 1);
    made.engine.rounds = 100;
    return made;
  };
  const auto report = [this](RawClient& client, int64_t round, double loss) {
    client.AwaitTraining();
    v1::ReportRequest request = client.InlineReport(client.GoodUpdate());
    AddTraining(request, 1000000);
    request.mutable_completed()->set_mean_loss(loss);
    Anchor(request, round);
    ASSERT_THAT(client.Report(request), IsOk());
  };
  {
    RunningServer server(options());
    RawClient client(server.address(), 0, 1);
    client.Join();
    report(client, 1, 2);
    report(client, 2, 1);
    client.AwaitTraining();
    server.Stop();
  }
  const std::string path = out_.path() + "/clients.jsonl";
  ASSERT_OK_AND_ASSIGN(std::string text, ReadFile(path));
  ASSERT_EQ(absl::StrReplaceAll({{"\"train_loss\":2.0", "\"train_loss\":2e30"}}, &text), 1);
  ASSERT_THAT(WriteFileAtomically(path, text), IsOk());
  EXPECT_THAT(ReadRunRecord(out_.path()), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("train_loss")));
  last_ = {};  // the client begins its ledger anew, as if the first two had never been
  {
    RunningServer server(options());
    RawClient client(server.address(), 0, 1);
    client.Join();
    report(client, 4, 1);  // the third was cut short
    client.AwaitTraining();
    server.Stop();
  }
  ASSERT_OK_AND_ASSIGN(const std::vector<AttemptRecord> attempts, ReadAttempts(out_.path()));
  int64_t accepted = 0, rewritten = 0;
  for (const AttemptRecord& attempt : attempts) {
    accepted += attempt.outcome == "accepted";
    rewritten += attempt.quarantine == "ledger_rewritten";
  }
  EXPECT_EQ(accepted, 3);
  EXPECT_EQ(rewritten, 1);
}

TEST(PlausibleReportTest, ImpossibleJoulesAreQuarantined) {
  Folder out;
  ServerOptions options = QuickOptions(out.path(), 1);
  options.engine.budget.max_power = Watts(10);
  RunRecord run;
  const std::vector<AttemptRecord> attempts = Play(
      std::move(options), 4,
      [](int i, v1::ReportRequest& report) {
        AddTraining(report, i == 1 ? 9'000'000'000 : 1'000'000, i == 2 ? 3'600'000'000 : 1000);
        if (i == 3) report.mutable_transfer()->set_uplink_payload_bytes(1);
      },
      &run);
  EXPECT_EQ(attempts.at(0).quarantine, "");
  EXPECT_EQ(attempts.at(1).quarantine, "power_beyond_device");
  EXPECT_EQ(attempts.at(2).quarantine, "wall_beyond_elapsed");
  EXPECT_EQ(attempts.at(3).quarantine, "bytes_differ");
  EXPECT_EQ(SumRounds(run.rounds).quarantines.size(), 3u);
  EXPECT_EQ(SumRounds(run.rounds).client_energy, Microjoules(1'000'000));
}

TEST(BudgetCallsTest, AClientBelowTheFloorIsNotAskedUntilItCharges) {
  Folder out;
  ServerOptions options = QuickOptions(out.path(), 1);
  options.engine.wait_for_clients = 2;
  options.engine.budget.battery_floor = 0.5;
  RunningServer server(std::move(options));
  RawClient low(server.address(), 0, 2), full(server.address(), 1, 2);
  v1::CheckInRequest check_in = low.CheckInMessage();
  check_in.mutable_energy_state()->set_battery_fraction(0.2);
  ASSERT_THAT(low.CheckIn(check_in), IsOk());
  full.Join();
  full.AwaitTraining();
  ASSERT_THAT(full.Report(full.InlineReport(full.GoodUpdate())), IsOk());
  EXPECT_THAT(server.Wait().status, IsOk());
  ASSERT_OK_AND_ASSIGN(RunRecord run, ReadRunRecord(out.path()));
  EXPECT_EQ(run.rounds.at(0).refusals.at("battery_floor"), 1);
  EXPECT_THAT(AttemptsOf(out.path(), 0), ::testing::IsEmpty());
}

TEST(BudgetCallsTest, TheBooksSurviveAKilledCoordinator) {
  Folder out;
  const auto options = [&out] {
    ServerOptions made = QuickOptions(out.path(), 1);
    made.engine.rounds = 100;
    made.engine.deadline = absl::Seconds(10);
    made.engine.budget.max_power = Watts(1);  // 40 J an attempt at most
    made.engine.budget.federation = Joules(100);
    return made;
  };
  {
    RunningServer server(options());
    RawClient client(server.address(), 0, 1);
    client.Join();
    for (int i = 0; i < 10; ++i) {
      client.AwaitTraining();
      v1::ReportRequest report = client.InlineReport(client.GoodUpdate());
      AddTraining(report, 4'000'000);
      ASSERT_THAT(client.Report(report), IsOk());
    }
    client.AwaitTraining();  // one more attempt is under way
    server.Stop();           // it is abandoned; what it had reserved is settled by its length
  }
  RunningServer server(options());
  RawClient client(server.address(), 0, 1);
  client.Join();
  int rounds = 0;
  for (; rounds < 50; ++rounds) {
    absl::StatusOr<v1::WaitForWorkResponse> work = client.Wait();
    ASSERT_THAT(work, IsOk());
    if (work->has_finished()) break;
    client.AwaitTraining();
    v1::ReportRequest report = client.InlineReport(client.GoodUpdate());
    AddTraining(report, 4'000'000);
    ASSERT_THAT(client.Report(report), IsOk());
  }
  EXPECT_THAT(server.Wait().reason, HasSubstr("joules are spent"));
  ASSERT_OK_AND_ASSIGN(RunRecord run, ReadRunRecord(out.path()));
  const RunTotals totals = SumRounds(run.rounds);
  EXPECT_LE(*totals.client_energy, Joules(100 + 40));
  EXPECT_GE(*totals.client_energy, Joules(80));
  EXPECT_LE(rounds, 15);  // with fresh books it would have been 24
}

}  // namespace
}  // namespace fedwatt::testing

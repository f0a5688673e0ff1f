// What a client sends wrong costs that client, is named by its reason, and the round commits with the rest.
#include <cmath>
#include <limits>

#include "gmock/gmock.h"
#include "tests/server/raw_client.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct BadUpdate {
  std::string name;
  Rejection reason;
  std::function<std::string(const RawClient&)> bytes;
  int64_t examples = 10;
};

class BadUpdateTest : public ::testing::TestWithParam<BadUpdate> {};

TEST_P(BadUpdateTest, IsRefusedByNameAndTheRoundCommitsWithTheRest) {
  Folder out;
  RunningServer server(QuickOptions(out.path(), 2));
  RawClient bad(server.address(), 0, 2), good(server.address(), 1, 2);
  bad.Join();
  good.Join();
  bad.AwaitTraining();
  good.AwaitTraining();
  ASSERT_OK_AND_ASSIGN(v1::ReportResponse refused, bad.UploadAndReport(GetParam().bytes(bad), GetParam().examples));
  ASSERT_TRUE(refused.has_rejected()) << refused.DebugString();
  EXPECT_EQ(refused.rejected().reason(), ToProto(GetParam().reason)) << refused.DebugString();
  EXPECT_NE(refused.rejected().message(), "");
  ASSERT_OK_AND_ASSIGN(v1::ReportResponse accepted, good.UploadAndReport(good.GoodUpdate()));
  EXPECT_TRUE(accepted.has_accepted()) << accepted.DebugString();
  EXPECT_EQ(accepted.accepted().durability(), "update");
  const RunOutcome outcome = server.Wait();
  EXPECT_THAT(outcome.status, IsOk());
  EXPECT_EQ(outcome.committed_rounds, 1);
  EXPECT_THAT(AttemptsOf(out.path(), 0), ElementsAre(absl::StrCat("rejected/", std::string(RejectionName(GetParam().reason)))));
  EXPECT_THAT(AttemptsOf(out.path(), 1), ElementsAre("accepted/"));
  ASSERT_OK_AND_ASSIGN(RunRecord record, ReadRunRecord(out.path()));
  EXPECT_EQ(record.rounds[0].clients_rejected, 1);
  EXPECT_EQ(record.rounds[0].clients_completed, 1);
  EXPECT_EQ(record.rounds[0].train_examples, 10);
  EXPECT_DOUBLE_EQ(record.rounds[0].train_loss.value_or(0), 1.5);
}

// The same bytes inside a report are judged like uploaded ones.
TEST_P(BadUpdateTest, IsRefusedByNameInsideAReport) {
  Folder out;
  RunningServer server(QuickOptions(out.path(), 2));
  RawClient bad(server.address(), 0, 2), good(server.address(), 1, 2);
  bad.Join();
  good.Join();
  bad.AwaitTraining();
  good.AwaitTraining();
  ASSERT_OK_AND_ASSIGN(v1::ReportResponse refused, bad.Report(bad.InlineReport(GetParam().bytes(bad), GetParam().examples)));
  EXPECT_EQ(refused.rejected().reason(), ToProto(GetParam().reason)) << refused.DebugString();
  ASSERT_OK_AND_ASSIGN(v1::ReportResponse accepted, good.Report(good.InlineReport(good.GoodUpdate())));
  EXPECT_TRUE(accepted.has_accepted()) << accepted.DebugString();
  EXPECT_EQ(server.Wait().committed_rounds, 1);
  EXPECT_THAT(AttemptsOf(out.path(), 0), ElementsAre(absl::StrCat("rejected/", std::string(RejectionName(GetParam().reason)))));
}

Digest Layout(const RawClient& client) { return *Digest::FromRaw(client.assignment().plan().layout_digest()); }

INSTANTIATE_TEST_SUITE_P(
    All, BadUpdateTest,
    ::testing::Values(
        BadUpdate{"Garbage", Rejection::kGarbage, [](const RawClient&) { return std::string(5000, 'x'); }},
        BadUpdate{"Truncated", Rejection::kTruncated, [](const RawClient& c) { return c.GoodUpdate().substr(0, c.GoodUpdate().size() - 9); }},
        BadUpdate{"WrongLayout", Rejection::kWrongLayout, [](const RawClient&) { return RawClient::Update(1, Sha256("another"), "float32"); }},
        BadUpdate{"WrongCodec", Rejection::kWrongCodec, [](const RawClient& c) { return RawClient::Update(1, Layout(c), "int8"); }},
        BadUpdate{"WrongLength", Rejection::kWrongCodec, [](const RawClient& c) { return RawClient::Update(1, Layout(c), "float32", 14); }},
        BadUpdate{"Nan", Rejection::kNotFinite, [](const RawClient& c) { return c.GoodUpdate(std::nanf("")); }},
        BadUpdate{"Infinite", Rejection::kNotFinite, [](const RawClient& c) { return c.GoodUpdate(std::numeric_limits<float>::infinity()); }},
        BadUpdate{"TooLarge", Rejection::kValueTooLarge, [](const RawClient& c) { return c.GoodUpdate(1000); }},
        BadUpdate{"NoExamples", Rejection::kBadWeight, [](const RawClient& c) { return c.GoodUpdate(); }, 0},
        BadUpdate{"NegativeExamples", Rejection::kBadWeight, [](const RawClient& c) { return c.GoodUpdate(); }, -5},
        BadUpdate{"TooManyExamples", Rejection::kBadWeight, [](const RawClient& c) { return c.GoodUpdate(); }, int64_t{1} << 50}),
    [](const auto& info) { return info.param.name; });

// One bad client and one good one, both with work.
class RefusalTest : public ::testing::Test {
 protected:
  void Start(ServerOptions options) {
    server_.emplace(std::move(options));
    bad_.emplace(server_->address(), 0, 2);
    good_.emplace(server_->address(), 1, 2);
    bad_->Join();
    good_->Join();
    bad_->AwaitTraining();
    good_->AwaitTraining();
  }
  void Start() { Start(QuickOptions(out_.path(), 2)); }
  void FinishWithGood() {
    ASSERT_OK_AND_ASSIGN(v1::ReportResponse accepted, good_->UploadAndReport(good_->GoodUpdate()));
    EXPECT_TRUE(accepted.has_accepted()) << accepted.DebugString();
    EXPECT_EQ(server_->Wait().committed_rounds, 1);
  }

  Folder out_;
  std::optional<RunningServer> server_;
  std::optional<RawClient> bad_, good_;
};

TEST_F(RefusalTest, OversizeIsRefusedBeforeAByteIsTaken) {
  Start();
  v1::UploadHeader header = bad_->HeaderFor("x");
  header.set_total_bytes((1 << 20) + 1);
  absl::Status status = bad_->Upload(header, "x", 1).status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("1048577")));
  EXPECT_EQ(RejectionOf(status), Rejection::kOversize);
  FinishWithGood();
  EXPECT_THAT(AttemptsOf(out_.path(), 0), ElementsAre("rejected/oversize"));
}

TEST_F(RefusalTest, MoreBytesThanAnnouncedAreRefused) {
  Start();
  v1::UploadHeader header = bad_->HeaderFor("short");
  absl::Status status = bad_->Upload(header, "shorter than this", 17).status();
  EXPECT_EQ(RejectionOf(status), Rejection::kOversize) << status;
  FinishWithGood();
  EXPECT_THAT(AttemptsOf(out_.path(), 0), ElementsAre("rejected/oversize"));
}

TEST_F(RefusalTest, ReportedDigestMustBeThatOfTheBytes) {
  Start();
  ASSERT_THAT(bad_->Upload(bad_->GoodUpdate()), IsOk());
  ASSERT_OK_AND_ASSIGN(v1::ReportResponse response, bad_->Report(bad_->CompletedReport(bad_->GoodUpdate(2))));
  EXPECT_EQ(response.rejected().reason(), v1::REJECTION_REASON_DIGEST_MISMATCH);
  FinishWithGood();
  EXPECT_THAT(AttemptsOf(out_.path(), 0), ElementsAre("rejected/digest_mismatch"));
}

TEST_F(RefusalTest, DamagedChunksMayBeSentAgainThreeTimes) {
  Start();
  const std::string update = bad_->GoodUpdate();
  for (int i = 0; i < 4; ++i) {
    absl::Status status = bad_->Upload(bad_->HeaderFor(update), update, static_cast<int64_t>(update.size()), 16 << 10, /*spoil_crc=*/true).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  }
  absl::Status status = bad_->Upload(update).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted) << status;
  EXPECT_EQ(RejectionOf(status), Rejection::kDigestMismatch);
  FinishWithGood();
  EXPECT_THAT(AttemptsOf(out_.path(), 0), ElementsAre("rejected/digest_mismatch"));
}

TEST_F(RefusalTest, ADuplicateIsNamedAndTheFirstOneCounts) {
  Start();
  const std::string update = bad_->GoodUpdate();
  const v1::ReportRequest report = bad_->CompletedReport(update);
  ASSERT_THAT(bad_->Upload(update), IsOk());
  ASSERT_OK_AND_ASSIGN(v1::ReportResponse first, bad_->Report(report));
  EXPECT_TRUE(first.has_accepted());
  // The same report again, as after a lost answer: the same verdict.
  ASSERT_OK_AND_ASSIGN(v1::ReportResponse repeated, bad_->Report(report));
  EXPECT_EQ(repeated.SerializeAsString(), first.SerializeAsString());
  // Another report of the same attempt.
  ASSERT_OK_AND_ASSIGN(v1::ReportResponse second, bad_->Report(bad_->CompletedReport(update)));
  EXPECT_TRUE(second.duplicate().accepted()) << second.DebugString();
  // And other bytes.
  absl::Status upload = bad_->Upload(bad_->GoodUpdate(2)).status();
  EXPECT_EQ(upload.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(RejectionOf(upload), Rejection::kDuplicate);
  FinishWithGood();
  EXPECT_THAT(AttemptsOf(out_.path(), 0), ElementsAre("accepted/", "rejected/duplicate"));
}

TEST_F(RefusalTest, AnAttemptOfSomebodyElseIsUnknown) {
  Start();
  v1::UploadHeader header = bad_->HeaderFor("x");
  header.set_attempt_id(good_->assignment().attempt_id());
  absl::Status status = bad_->Upload(header, "x", 1).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(RejectionOf(status), Rejection::kUnknownAttempt);
  v1::ReportRequest report = bad_->CompletedReport("x");
  report.set_attempt_id("r1-p7-made-up");
  ASSERT_OK_AND_ASSIGN(v1::ReportResponse response, bad_->Report(report));
  EXPECT_EQ(response.rejected().reason(), v1::REJECTION_REASON_UNKNOWN_ATTEMPT);
  ASSERT_THAT(bad_->UploadAndReport(bad_->GoodUpdate()), IsOk());
  FinishWithGood();
  EXPECT_THAT(AttemptsOf(out_.path(), 0), ElementsAre("accepted/"));
}

TEST_F(RefusalTest, WhatComesAfterTheDeadlineIsLate) {
  ServerOptions options = QuickOptions(out_.path(), 2);
  options.engine.deadline = absl::Milliseconds(600);
  options.engine.rounds = 2;
  Start(std::move(options));
  ASSERT_THAT(good_->UploadAndReport(good_->GoodUpdate()), IsOk());
  // The heartbeat of the slow one is told as soon as it is too late.
  ASSERT_OK_AND_ASSIGN(v1::WaitForWorkResponse news, bad_->Wait(bad_->assignment().attempt_id()));
  EXPECT_EQ(news.cancel().reason(), v1::REJECTION_REASON_LATE) << news.DebugString();
  absl::Status upload = bad_->Upload(bad_->GoodUpdate()).status();
  EXPECT_EQ(upload.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(RejectionOf(upload), Rejection::kLate);
  ASSERT_OK_AND_ASSIGN(v1::ReportResponse response, bad_->Report(bad_->CompletedReport("x")));
  EXPECT_EQ(response.late().round(), 1) << response.DebugString();
  v1::StillWantedRequest question;
  question.set_session_id(bad_->session());
  question.set_attempt_id(bad_->assignment().attempt_id());
  grpc::ClientContext context;
  v1::StillWantedResponse wanted;
  ASSERT_TRUE(bad_->stub().StillWanted(&context, question, &wanted).ok());
  EXPECT_EQ(wanted.unwanted().reason(), v1::REJECTION_REASON_LATE);
  server_->Stop();
  EXPECT_EQ(AttemptsOf(out_.path(), 0)[0], "late/late");
}

TEST_F(RefusalTest, ClientErrorsAndWithdrawalsAreNoted) {
  Start();
  v1::ReportRequest report = bad_->CompletedReport("x");
  report.clear_outcome();
  EXPECT_THAT(bad_->Report(report), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("outcome")));
  report.mutable_withdrawn()->set_condition("battery 0.12 below 0.30");
  ASSERT_OK_AND_ASSIGN(v1::ReportResponse response, bad_->Report(report));
  EXPECT_EQ(response.rejected().reason(), v1::REJECTION_REASON_WITHDRAWN);
  FinishWithGood();
  EXPECT_THAT(AttemptsOf(out_.path(), 0), ElementsAre("dropped/withdrawn"));
}

TEST_F(RefusalTest, AReportBeforeItsBytesIsOutOfOrder) {
  Start();
  EXPECT_THAT(bad_->Report(bad_->CompletedReport(bad_->GoodUpdate())), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("0 bytes")));
  ASSERT_OK_AND_ASSIGN(v1::ReportResponse response, bad_->UploadAndReport(bad_->GoodUpdate()));
  EXPECT_TRUE(response.has_accepted());
  FinishWithGood();
}

TEST_F(RefusalTest, NonsenseFiguresInAReportAreRefused) {
  Start();
  ASSERT_THAT(bad_->Upload(bad_->GoodUpdate()), IsOk());
  v1::ReportRequest report = bad_->CompletedReport(bad_->GoodUpdate());
  v1::PhaseSpan* span = report.add_phases();
  span->set_phase(v1::PHASE_TRAIN);
  span->set_wall_us(1'000'000);
  span->mutable_energy_origin()->set_tier(v1::ENERGY_TIER_COMPONENT);
  span->set_energy_uj(std::numeric_limits<int64_t>::max());
  EXPECT_THAT(bad_->Report(report), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("train")));
  span->set_energy_uj(int64_t{100'000'000'000'000'000});  // representable, but a few of them are not
  EXPECT_THAT(bad_->Report(report), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("train")));
  span->set_energy_uj(5'000'000);
  span->set_wall_us(std::numeric_limits<int64_t>::max());
  EXPECT_THAT(bad_->Report(report), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("beyond all measure")));
  span->set_wall_us(1'000'000);
  report.mutable_completed()->set_number_format("float99");
  EXPECT_THAT(bad_->Report(report), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("float99")));
  report.mutable_completed()->set_number_format("bfloat16");
  report.mutable_completed()->set_number_format_reason(std::string(257, 'x'));
  EXPECT_THAT(bad_->Report(report), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("257 bytes")));
  report.mutable_completed()->set_number_format_reason("measured");
  report.mutable_completed()->set_mean_loss(std::nan(""));
  ASSERT_OK_AND_ASSIGN(v1::ReportResponse response, bad_->Report(report));
  EXPECT_TRUE(response.has_accepted());
  FinishWithGood();
  ASSERT_OK_AND_ASSIGN(RunRecord record, ReadRunRecord(out_.path()));
  EXPECT_EQ(record.rounds[0].client_energy, Joules(5));
  EXPECT_EQ(record.rounds[0].client_energy_clients, 1);
  EXPECT_DOUBLE_EQ(record.rounds[0].train_loss.value_or(0), 1.5);
}

// A record that does not read would cost the coordinator its ledger anchors at the next start, and everybody the reports.
TEST_F(RefusalTest, NoClaimedTransferMakesTheRecordUnreadable) {
  Start();
  v1::ReportRequest report = bad_->InlineReport(bad_->GoodUpdate());
  for (int64_t bytes : {int64_t{-1}, std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max()}) {
    report.mutable_transfer()->set_uplink_wire_bytes(bytes);
    EXPECT_THAT(bad_->Report(report), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("uplink_wire_bytes")));
    report.mutable_transfer()->clear_uplink_wire_bytes();
    report.mutable_transfer()->set_downlink_wire_bytes(bytes);
    EXPECT_THAT(bad_->Report(report), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("downlink_wire_bytes")));
    report.mutable_transfer()->clear_downlink_wire_bytes();
    report.mutable_transfer()->set_uplink_header_bytes(bytes);
    EXPECT_THAT(bad_->Report(report), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("uplink_header_bytes")));
    report.mutable_transfer()->clear_uplink_header_bytes();
  }
  report.mutable_transfer()->set_uplink_wire_bytes(1234);
  report.mutable_transfer()->set_downlink_header_bytes(52);
  ASSERT_OK_AND_ASSIGN(v1::ReportResponse response, bad_->Report(report));
  EXPECT_TRUE(response.has_accepted());
  FinishWithGood();
  ASSERT_OK_AND_ASSIGN(RunRecord record, ReadRunRecord(out_.path()));
  EXPECT_EQ(record.attempts[record.attempts[0].partition == 0 ? 0 : 1].uplink_wire_bytes, 1234);
  EXPECT_EQ(record.attempts[record.attempts[0].partition == 0 ? 0 : 1].downlink_header_bytes, 52);
}

TEST_F(RefusalTest, AClientThatHangsUpInMidUploadIsDropped) {
  Start();
  // The heartbeat is held while half of the update arrives; then the device dies.
  grpc::ClientContext heartbeat;
  std::thread waiting([&] { (void)bad_->Wait(bad_->assignment().attempt_id(), &heartbeat); });
  const std::string update = bad_->GoodUpdate();
  ASSERT_OK_AND_ASSIGN(v1::UploadResponse half, bad_->Upload(bad_->HeaderFor(update), update, 50));
  EXPECT_EQ(half.received_bytes(), 50);
  absl::SleepFor(absl::Milliseconds(200));  // the heartbeat is held by now
  heartbeat.TryCancel();
  waiting.join();
  FinishWithGood();
  EXPECT_THAT(AttemptsOf(out_.path(), 0), ElementsAre("dropped/disconnected"));
  ASSERT_OK_AND_ASSIGN(RunRecord record, ReadRunRecord(out_.path()));
  const bool first = record.attempts[0].partition == 0;
  EXPECT_EQ(record.attempts[first ? 0 : 1].uplink_payload_bytes, 50);
  EXPECT_EQ(record.rounds[0].clients_dropped, 1);
}

TEST_F(RefusalTest, AnUpdateInsideAReportIsAnUpdate) {
  Start();
  const std::string update = bad_->GoodUpdate();
  const v1::ReportRequest report = bad_->InlineReport(update);
  ASSERT_OK_AND_ASSIGN(v1::ReportResponse first, bad_->Report(report));
  EXPECT_EQ(first.accepted().round(), 1) << first.DebugString();
  // Again as after a lost answer: the first verdict. With other bytes under the same id: a conflict, and the first bytes count.
  ASSERT_OK_AND_ASSIGN(v1::ReportResponse again, bad_->Report(report));
  EXPECT_EQ(again.SerializeAsString(), first.SerializeAsString());
  v1::ReportRequest changed = report;
  changed.mutable_completed()->set_inline_update(bad_->GoodUpdate(2));
  ASSERT_OK_AND_ASSIGN(again, bad_->Report(changed));
  EXPECT_TRUE(again.duplicate().accepted()) << again.DebugString();
  EXPECT_EQ(again.duplicate().round(), 1);
  // Other bytes under another id are a duplicate, noted once.
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK_AND_ASSIGN(v1::ReportResponse second, bad_->Report(bad_->InlineReport(bad_->GoodUpdate(2))));
    EXPECT_TRUE(second.duplicate().accepted()) << second.DebugString();
  }
  EXPECT_EQ(RejectionOf(bad_->Upload(bad_->GoodUpdate(2)).status()), Rejection::kDuplicate);
  ASSERT_OK_AND_ASSIGN(v1::ReportResponse accepted, good_->Report(good_->InlineReport(update)));
  EXPECT_TRUE(accepted.has_accepted());
  EXPECT_EQ(server_->Wait().committed_rounds, 1);
  EXPECT_THAT(AttemptsOf(out_.path(), 0), ElementsAre("accepted/", "rejected/duplicate"));
  ASSERT_OK_AND_ASSIGN(RunRecord record, ReadRunRecord(out_.path()));
  EXPECT_EQ(record.rounds[0].uplink_payload_bytes, 2 * static_cast<int64_t>(update.size()));
  EXPECT_EQ(record.rounds[0].uplink_dense_bytes, 2 * 4 * (kInputs * kClasses + kClasses));
}

// The model that results must not depend on the way the updates came.
TEST_F(RefusalTest, InsideAReportOrUploadedMakesTheSameModel) {
  std::vector<std::string> digests;
  for (bool inside : {false, true}) {
    Folder out;
    RunningServer server(QuickOptions(out.path(), 1));
    RawClient client(server.address(), 0, 1);
    client.Join();
    client.AwaitTraining();
    const std::string update = client.GoodUpdate(0.375f);
    ASSERT_THAT(inside ? client.Report(client.InlineReport(update)) : client.UploadAndReport(update), IsOk());
    EXPECT_EQ(server.Wait().committed_rounds, 1);
    digests.push_back(ReadRunRecord(out.path())->rounds[0].model_digest);
  }
  EXPECT_EQ(digests[0], digests[1]);
}

TEST_F(RefusalTest, AnUpdateInsideAReportBeyondThePlansLimitIsOversize) {
  ServerOptions options = QuickOptions(out_.path(), 2);
  options.model.plan.limits.max_update_bytes = 150;
  Start(std::move(options));
  ASSERT_OK_AND_ASSIGN(v1::ReportResponse response, bad_->Report(bad_->InlineReport(std::string(151, 'x'))));
  EXPECT_EQ(response.rejected().reason(), v1::REJECTION_REASON_OVERSIZE);
  EXPECT_THAT(response.rejected().message(), HasSubstr("151"));
  FinishWithGood();
  EXPECT_THAT(AttemptsOf(out_.path(), 0), ElementsAre("rejected/oversize"));
}

TEST_F(RefusalTest, MalformedInlineUpdatesLeaveTheAttemptOpen) {
  Start();
  const std::string update = bad_->GoodUpdate();
  EXPECT_THAT(bad_->Report(bad_->InlineReport(std::string((32 << 10) + 1, 'x'))), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("32769")));
  v1::ReportRequest both = bad_->InlineReport(update);
  both.mutable_completed()->set_payload_sha256(Sha256(update).Raw());
  EXPECT_THAT(bad_->Report(both), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("exclude each other")));
  v1::ReportRequest neither = bad_->InlineReport("");
  EXPECT_THAT(bad_->Report(neither), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("0 bytes")));
  // Figures that are refused with it do not spend the bytes.
  v1::ReportRequest odd = bad_->InlineReport(update);
  odd.add_phases();
  EXPECT_THAT(bad_->Report(odd), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("phase")));
  odd.clear_phases();
  ASSERT_OK_AND_ASSIGN(v1::ReportResponse response, bad_->Report(odd));
  EXPECT_TRUE(response.has_accepted()) << response.DebugString();
  FinishWithGood();
}

TEST_F(RefusalTest, AnUpdateIsInsideOrUploadedAndNeverAMixture) {
  Start();
  const std::string update = bad_->GoodUpdate();
  ASSERT_THAT(bad_->Upload(bad_->HeaderFor(update), update, 48), IsOk());
  EXPECT_THAT(bad_->Report(bad_->InlineReport(bad_->GoodUpdate(2))), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("another digest")));
  EXPECT_THAT(bad_->Report(bad_->InlineReport(update)), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("expected 48")));
  ASSERT_THAT(bad_->Upload(bad_->HeaderFor(update, 48), update, static_cast<int64_t>(update.size())), IsOk());
  EXPECT_THAT(bad_->Report(bad_->InlineReport(bad_->GoodUpdate(2))), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("another digest")));
  // The very bytes that were uploaded are no contradiction.
  ASSERT_OK_AND_ASSIGN(v1::ReportResponse response, bad_->Report(bad_->InlineReport(update)));
  EXPECT_TRUE(response.has_accepted()) << response.DebugString();
  FinishWithGood();
  ASSERT_OK_AND_ASSIGN(RunRecord record, ReadRunRecord(out_.path()));
  EXPECT_EQ(record.rounds[0].uplink_payload_bytes, 2 * static_cast<int64_t>(update.size()));
}

// A device that dies before it opens its watch cuts no call.
TEST_F(RefusalTest, AClientThatDiesBeforeItsWatchDoesNotHoldUpTheRound) {
  ServerOptions options = QuickOptions(out_.path(), 2);
  options.watch_after = absl::Milliseconds(500);
  Start(std::move(options));
  const absl::Time start = absl::Now();
  bad_.reset();
  FinishWithGood();
  EXPECT_LT(absl::Now() - start, absl::Seconds(10)) << "the deadline is 20 s";
  EXPECT_THAT(AttemptsOf(out_.path(), 0), ElementsAre("dropped/disconnected"));
}

TEST_F(RefusalTest, AClientThatOpensItsWatchInTimeStays) {
  ServerOptions options = QuickOptions(out_.path(), 2);
  options.watch_after = absl::Milliseconds(500);
  options.hold_duration = absl::Seconds(3);
  Start(std::move(options));
  ASSERT_THAT(good_->Report(good_->InlineReport(good_->GoodUpdate())), IsOk());
  absl::SleepFor(absl::Milliseconds(400));
  ASSERT_OK_AND_ASSIGN(v1::WaitForWorkResponse held, bad_->Wait(bad_->assignment().attempt_id()));
  EXPECT_TRUE(held.has_wait()) << held.DebugString();
  ASSERT_OK_AND_ASSIGN(v1::ReportResponse response, bad_->Report(bad_->InlineReport(bad_->GoodUpdate())));
  EXPECT_TRUE(response.has_accepted()) << response.DebugString();
  EXPECT_EQ(server_->Wait().committed_rounds, 1);
}

}  // namespace
}  // namespace fedwatt::testing

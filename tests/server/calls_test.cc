// Sessions, long polls, transfers, operators.
#include "gmock/gmock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/server/raw_client.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt::testing {
namespace {

TEST(CarbonTest, GramsFollowTheSiteThatTheClientNames) {
  Folder out;
  ServerOptions options = QuickOptions(out.path(), 2);
  absl::StatusOr<CarbonModel> carbon = CarbonModel::Create({*ParseCarbonSite("london g_per_kwh=360 embodied_kg=53 lifetime_years=3")}, {}, IntensityKind::kAverage, std::nullopt);
  ASSERT_TRUE(carbon.ok());
  options.engine.carbon = std::make_shared<const CarbonModel>(*std::move(carbon));
  RunningServer server(std::move(options));
  RawClient london(server.address(), 0, 2), nowhere(server.address(), 1, 2);
  v1::CheckInRequest here = london.CheckInMessage();
  here.mutable_capabilities()->set_site("london");
  ASSERT_TRUE(london.CheckIn(here).ok());
  v1::CheckInRequest there = nowhere.CheckInMessage();
  there.mutable_capabilities()->set_site("atlantis");  // not configured: its grams are not known, and it may train all the same
  ASSERT_TRUE(nowhere.CheckIn(there).ok());
  for (RawClient* client : {&london, &nowhere}) {
    client->AwaitTraining();
    v1::ReportRequest report = client->InlineReport(client->GoodUpdate());
    v1::PhaseSpan& span = *report.add_phases();
    span.set_phase(v1::PHASE_TRAIN);
    span.set_wall_us(1000000);
    span.set_energy_uj(36000000);
    span.mutable_energy_origin()->set_tier(v1::ENERGY_TIER_COMPONENT);
    span.mutable_energy_origin()->set_source("rapl");
    ASSERT_TRUE(client->Report(report).ok());
  }
  EXPECT_TRUE(server.Wait().status.ok());
  absl::StatusOr<RunRecord> run = ReadRunRecord(out.path());
  ASSERT_TRUE(run.ok()) << run.status();
  const CarbonTotals& grams = run->rounds.at(0).client_carbon;
  EXPECT_EQ(grams.operational, Micrograms(3600));  // 36 J are 1e-5 kWh
  EXPECT_EQ(grams.clients, 1);
  EXPECT_EQ(grams.basis, IntensityBasis::kStatic);
  EXPECT_TRUE(grams.embodied.has_value());  // of milliseconds: it may round to nothing, but it is known
  EXPECT_FALSE(run->rounds[0].server_operational.has_value());
}

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(CheckInTest, RefusalsAreAnswers) {
  Folder out;
  ServerOptions options = QuickOptions(out.path(), 3);
  options.partition_count = 3;
  options.max_clients = 2;
  RunningServer server(std::move(options));
  RawClient client(server.address(), 0, 3);
  auto refusal = [&client](const v1::CheckInRequest& request) {
    absl::StatusOr<v1::CheckInResponse> response = client.CheckIn(request);
    EXPECT_THAT(response, IsOk());
    return response->refused().reason();
  };
  v1::CheckInRequest request = client.CheckInMessage();
  request.mutable_protocol()->set_min_version(2);
  request.mutable_protocol()->set_max_version(9);
  EXPECT_EQ(refusal(request), v1::REFUSAL_REASON_VERSION);
  for (int64_t index : {int64_t{-1}, int64_t{3}, int64_t{1} << 40}) {
    request = client.CheckInMessage();
    request.set_partition_index(index);
    EXPECT_EQ(refusal(request), v1::REFUSAL_REASON_PARTITION) << index;
  }
  request = client.CheckInMessage();
  request.set_partition_count(4);
  EXPECT_EQ(refusal(request), v1::REFUSAL_REASON_PARTITION);
  request = client.CheckInMessage();
  request.mutable_capabilities()->add_codecs("morse");
  EXPECT_EQ(refusal(request), v1::REFUSAL_REASON_INCAPABLE);
  request = client.CheckInMessage();
  request.mutable_capabilities()->add_architectures("resnet");
  EXPECT_EQ(refusal(request), v1::REFUSAL_REASON_INCAPABLE);
  request = client.CheckInMessage();
  request.clear_client_id();
  EXPECT_THAT(client.CheckIn(request), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("client_id")));
  request = client.CheckInMessage();
  request.set_client_id(std::string(129, 'x'));
  EXPECT_THAT(client.CheckIn(request), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("129")));

  ASSERT_TRUE(client.CheckIn()->has_accepted());
  ASSERT_TRUE(RawClient(server.address(), 1, 3).CheckIn()->has_accepted());
  EXPECT_EQ(RawClient(server.address(), 2, 3).CheckIn()->refused().reason(), v1::REFUSAL_REASON_BUSY);
}

TEST(CheckInTest, ARepeatedRequestGetsTheSameSession) {
  Folder out;
  RunningServer server(QuickOptions(out.path(), 2));
  RawClient client(server.address(), 0, 2);
  const v1::CheckInRequest request = client.CheckInMessage();
  ASSERT_THAT(client.CheckIn(request), IsOk());
  const std::string session = client.session();
  ASSERT_THAT(client.CheckIn(request), IsOk());
  EXPECT_EQ(client.session(), session);
  EXPECT_EQ(session.size(), 32);
}

TEST(CheckInTest, TwoLiveClientsCannotHoldOnePartition) {
  Folder out;
  RunningServer server(QuickOptions(out.path(), 2));
  RawClient first(server.address(), 0, 2, "first"), second(server.address(), 0, 2, "second");
  ASSERT_TRUE(first.CheckIn()->has_accepted());
  EXPECT_EQ(second.CheckIn()->refused().reason(), v1::REFUSAL_REASON_PARTITION_TAKEN);
}

TEST(CheckInTest, ANewerSessionOfAClientReplacesTheOlderAndItsAttempt) {
  Folder out;
  RunningServer server(QuickOptions(out.path(), 2));
  RawClient old(server.address(), 0, 2), again(server.address(), 0, 2), other(server.address(), 1, 2);
  old.Join();
  other.Join();
  old.AwaitTraining();
  other.AwaitTraining();
  std::thread heartbeat([&] { EXPECT_THAT(old.Wait(old.assignment().attempt_id()), StatusIs(absl::StatusCode::kAborted, HasSubstr("anew"))); });
  absl::SleepFor(absl::Milliseconds(100));
  ASSERT_TRUE(again.CheckIn()->has_accepted());
  heartbeat.join();
  EXPECT_THAT(old.Wait(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("check in")));
  EXPECT_THAT(old.Upload(old.GoodUpdate()), StatusIs(absl::StatusCode::kNotFound, HasSubstr("session")));
  ASSERT_THAT(other.UploadAndReport(other.GoodUpdate()), IsOk());
  EXPECT_EQ(server.Wait().committed_rounds, 1);
  EXPECT_THAT(AttemptsOf(out.path(), 0), ElementsAre("dropped/disconnected"));
}

TEST(WaitForWorkTest, IsHeldThenAnsweredWithWait) {
  Folder out;
  ServerOptions options = QuickOptions(out.path(), 2);
  options.hold_duration = absl::Milliseconds(300);
  RunningServer server(std::move(options));
  RawClient client(server.address(), 0, 2);
  client.Join();
  const absl::Time start = absl::Now();
  ASSERT_OK_AND_ASSIGN(v1::WaitForWorkResponse response, client.Wait());
  EXPECT_TRUE(response.has_wait());
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(290));
}

TEST(WaitForWorkTest, ANewerCallTakesThePlaceOfAnOlder) {
  Folder out;
  RunningServer server(QuickOptions(out.path(), 2));
  RawClient client(server.address(), 0, 2);
  client.Join();
  std::thread older([&] { EXPECT_THAT(client.Wait(), StatusIs(absl::StatusCode::kAborted, HasSubstr("newer"))); });
  absl::SleepFor(absl::Milliseconds(100));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
  (void)client.Wait("", &context);
  older.join();
}

TEST(WaitForWorkTest, WorkIsToldAgainToWhoeverAsks) {
  Folder out;
  RunningServer server(QuickOptions(out.path(), 1));
  RawClient client(server.address(), 0, 1);
  client.Join();
  client.AwaitTraining();
  const std::string attempt = client.assignment().attempt_id();
  client.AwaitTraining();
  EXPECT_EQ(client.assignment().attempt_id(), attempt);
  EXPECT_GT(client.assignment().deadline_duration().seconds(), 5);
  EXPECT_EQ(client.assignment().plan().architecture().name(), "logistic");
}

TEST(WaitForWorkTest, CarriesTheRateOfTheRound) {
  Folder out;
  ServerOptions options = QuickOptions(out.path(), 1);
  options.engine.rounds = 2;
  options.client_learning_rate_at = [](int64_t round) { return 0.5 / static_cast<double>(round); };
  RunningServer server(std::move(options));
  RawClient client(server.address(), 0, 1);
  client.Join();
  for (int round = 1; round <= 2; ++round) {
    client.AwaitTraining();
    EXPECT_EQ(client.assignment().round(), round);
    EXPECT_DOUBLE_EQ(client.assignment().plan().recipe().client_learning_rate(), 0.5 / round);
    ASSERT_THAT(client.UploadAndReport(client.GoodUpdate()), IsOk());
  }
  ASSERT_OK_AND_ASSIGN(v1::WaitForWorkResponse last, client.Wait());
  EXPECT_TRUE(last.finished().succeeded()) << last.DebugString();
}

TEST(WaitForWorkTest, SaysThePlanOnce) {
  Folder out;
  ServerOptions options = QuickOptions(out.path(), 1);
  options.engine.rounds = 2;
  options.client_learning_rate_at = [](int64_t round) { return 0.5 / static_cast<double>(round); };
  RunningServer server(std::move(options));
  RawClient client(server.address(), 0, 1);
  client.Join();
  client.AwaitTraining();
  const v1::TrainAssignment whole = client.assignment();
  EXPECT_EQ(whole.plan_id().size(), 8u);
  EXPECT_FALSE(whole.has_plan_changes());
  // Whoever asks again without it gets it again; a made-up id is no plan that is held.
  client.held_plan_id = std::string(1000, 'x');
  client.AwaitTraining();
  EXPECT_EQ(client.assignment().plan().SerializeAsString(), whole.plan().SerializeAsString());
  ASSERT_THAT(client.UploadAndReport(client.GoodUpdate()), IsOk());
  client.held_plan_id = whole.plan_id();
  client.AwaitTraining();
  EXPECT_FALSE(client.assignment().has_plan());
  EXPECT_EQ(client.assignment().plan_id(), "");
  EXPECT_DOUBLE_EQ(client.assignment().plan_changes().client_learning_rate(), 0.25);
  EXPECT_EQ(client.assignment().plan_changes().uplink_codec(), whole.plan().uplink_codec());
}

v1::TrainAssignment AssignmentFor(const std::string& address, int64_t partition, int64_t count, int64_t max_inline_model_bytes) {
  RawClient client(address, partition, count);
  v1::CheckInRequest request = client.CheckInMessage();
  request.mutable_capabilities()->set_max_inline_model_bytes(max_inline_model_bytes);
  EXPECT_THAT(client.CheckIn(request), IsOk());
  client.AwaitTraining();
  return client.assignment();
}

TEST(InlineModelTest, IsThereForWhoeverWantsOneOfItsLength) {
  std::string model;
  for (int64_t most : {int64_t{0}, int64_t{-1}, int64_t{1} << 40}) {
    Folder own;
    RunningServer server(QuickOptions(own.path(), 1));
    const v1::TrainAssignment assignment = AssignmentFor(server.address(), 0, 1, most);
    EXPECT_EQ(assignment.has_model(), most <= 0) << most;
    if (most <= 0) continue;
    model = assignment.inline_model();
    ASSERT_OK_AND_ASSIGN(ContainerView view, ParseContainer(model, 1 << 20));
    EXPECT_EQ(view.header.kind, ContainerKind::kModel);
    EXPECT_EQ(view.payload.size(), 4u * (kInputs * kClasses + kClasses));
  }
  for (int64_t less : {0, 1}) {
    Folder own;
    RunningServer server(QuickOptions(own.path(), 1));
    const v1::TrainAssignment assignment = AssignmentFor(server.address(), 0, 1, static_cast<int64_t>(model.size()) - less);
    EXPECT_EQ(assignment.inline_model(), less == 0 ? model : "");
    EXPECT_EQ(assignment.model().total_bytes(), less == 0 ? 0 : static_cast<int64_t>(model.size()));
  }
}

TEST(InlineModelTest, IsCountedEachTimeItIsSent) {
  Folder out;
  RunningServer server(QuickOptions(out.path(), 1));
  RawClient client(server.address(), 0, 1);
  v1::CheckInRequest request = client.CheckInMessage();
  request.mutable_capabilities()->set_max_inline_model_bytes(32 << 10);
  ASSERT_OK_AND_ASSIGN(v1::CheckInResponse checked_in, client.CheckIn(request));
  EXPECT_EQ(checked_in.accepted().max_inline_update_bytes(), 32 << 10);
  EXPECT_EQ(checked_in.accepted().watch_after_duration().seconds(), 2);
  EXPECT_TRUE(checked_in.has_retry());
  client.AwaitTraining();
  client.AwaitTraining();
  const int64_t bytes = static_cast<int64_t>(client.assignment().inline_model().size());
  ASSERT_GT(bytes, 0);
  ASSERT_THAT(client.Report(client.InlineReport(client.GoodUpdate())), IsOk());
  server.Wait();
  ASSERT_OK_AND_ASSIGN(RunRecord record, ReadRunRecord(out.path()));
  EXPECT_EQ(record.rounds[0].downlink_payload_bytes, 2 * bytes);
  EXPECT_EQ(record.rounds[0].downlink_dense_bytes, 2 * 4 * (kInputs * kClasses + kClasses));
}

TEST(InlineModelTest, ALargeOneIsNamedWhateverTheClientWants) {
  const LogisticTrainer large(4000, 3);  // 48 KB
  Folder out;
  ServerOptions options = QuickOptions(out.path(), 1);
  options.model.layout = large.layout();
  options.initial_model.assign(static_cast<size_t>(large.layout().value_count()), 0.0f);
  RunningServer server(std::move(options));
  const v1::TrainAssignment assignment = AssignmentFor(server.address(), 0, 1, int64_t{1} << 40);
  EXPECT_EQ(assignment.inline_model(), "");
  EXPECT_GT(assignment.model().total_bytes(), 48000);
}

TEST(DownloadTest, AnyOffsetAndTheWholeDigest) {
  Folder out;
  RunningServer server(QuickOptions(out.path(), 1));
  RawClient client(server.address(), 0, 1);
  client.Join();
  client.AwaitTraining();
  auto download = [&](const std::string& digest, int64_t offset) -> absl::StatusOr<std::string> {
    grpc::ClientContext context;
    v1::DownloadBlobRequest request;
    request.set_session_id(client.session());
    request.set_digest(digest);
    request.set_offset_bytes(offset);
    auto reader = client.stub().DownloadBlob(&context, request);
    v1::DownloadBlobResponse response;
    std::string bytes;
    while (reader->Read(&response)) bytes += response.chunk().data();
    FEDWATT_RETURN_IF_ERROR(FromGrpcStatus(reader->Finish()));
    return bytes;
  };
  const v1::BlobReference& model = client.assignment().model();
  ASSERT_OK_AND_ASSIGN(std::string whole, download(model.digest(), 0));
  EXPECT_EQ(Sha256(whole).Raw(), model.digest());
  EXPECT_EQ(static_cast<int64_t>(whole.size()), model.total_bytes());
  ASSERT_OK_AND_ASSIGN(std::string tail, download(model.digest(), 40));
  EXPECT_EQ(tail, whole.substr(40));
  EXPECT_EQ(*download(model.digest(), model.total_bytes()), "");
  EXPECT_THAT(download(model.digest(), model.total_bytes() + 1), StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("offset")));
  EXPECT_THAT(download(model.digest(), -1), StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("offset")));
  EXPECT_THAT(download(Sha256("x").Raw(), 0), StatusIs(absl::StatusCode::kNotFound, HasSubstr("blob")));
  EXPECT_THAT(download("short", 0), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("32")));
  ASSERT_THAT(client.UploadAndReport(client.GoodUpdate()), IsOk());
  server.Wait();
  ASSERT_OK_AND_ASSIGN(RunRecord record, ReadRunRecord(out.path()));
  EXPECT_EQ(record.rounds[0].downlink_payload_bytes, 2 * model.total_bytes() - 40);
  EXPECT_EQ(record.rounds[0].uplink_payload_bytes, static_cast<int64_t>(client.GoodUpdate().size()));
  EXPECT_EQ(record.rounds[0].uplink_dense_bytes, 4 * (kInputs * kClasses + kClasses));
  EXPECT_GT(record.rounds[0].uplink_wire_bytes.value_or(0), record.rounds[0].uplink_payload_bytes);
}

TEST(UploadCallTest, GoesOnWhereItWasCut) {
  Folder out;
  RunningServer server(QuickOptions(out.path(), 1));
  RawClient client(server.address(), 0, 1);
  client.Join();
  client.AwaitTraining();
  const std::string update = client.GoodUpdate();
  ASSERT_THAT(client.Upload(client.HeaderFor(update), update, 48, 16), IsOk());
  v1::QueryUploadRequest question;
  question.set_session_id(client.session());
  question.set_attempt_id(client.assignment().attempt_id());
  grpc::ClientContext context;
  v1::QueryUploadResponse answer;
  ASSERT_TRUE(client.stub().QueryUpload(&context, question, &answer).ok());
  EXPECT_EQ(answer.received_bytes(), 48);
  EXPECT_THAT(client.Upload(client.HeaderFor(update, 0), update, 16, 16), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("48")));
  EXPECT_THAT(client.Upload(client.HeaderFor(client.GoodUpdate(2), 48), update, 64, 16),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("another digest")));
  ASSERT_THAT(client.Upload(client.HeaderFor(update, 48), update, static_cast<int64_t>(update.size())), IsOk());
  ASSERT_OK_AND_ASSIGN(v1::ReportResponse response, client.Report(client.CompletedReport(update)));
  EXPECT_TRUE(response.has_accepted()) << response.DebugString();
}

TEST(UploadCallTest, WithoutAHeaderIsRefused) {
  Folder out;
  RunningServer server(QuickOptions(out.path(), 1));
  RawClient client(server.address(), 0, 1);
  client.Join();
  grpc::ClientContext context;
  v1::UploadResponse response;
  auto writer = client.stub().Upload(&context, &response);
  v1::UploadRequest message;
  FillChunk("abc", 0, message.mutable_chunk());
  writer->Write(message);
  writer->WritesDone();
  EXPECT_THAT(FromGrpcStatus(writer->Finish()), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("header")));
}

TEST(OperatorTest, SeesAndStopsTheRun) {
  Folder out;
  ServerOptions options = QuickOptions(out.path(), 1);
  options.engine.rounds = 100;
  RunningServer server(std::move(options));
  RawClient client(server.address(), 0, 1);
  client.Join();
  client.AwaitTraining();
  std::unique_ptr<v1::Operator::Stub> operators = v1::Operator::NewStub(client.channel());

  grpc::ClientContext status_context;
  v1::GetStatusResponse status;
  ASSERT_TRUE(operators->GetStatus(&status_context, {}, &status).ok());
  EXPECT_EQ(status.status().state(), v1::RUN_STATE_RUNNING);
  EXPECT_EQ(status.status().round(), 1);
  EXPECT_EQ(status.status().client_count(), 1);
  EXPECT_EQ(status.status().selected_count(), 1);

  grpc::ClientContext list_context;
  v1::ListClientsResponse list;
  ASSERT_TRUE(operators->ListClients(&list_context, {}, &list).ok());
  ASSERT_EQ(list.clients_size(), 1);
  EXPECT_EQ(list.clients(0).attempt_id(), client.assignment().attempt_id());

  grpc::ClientContext watch_context;
  v1::WatchRoundsRequest watch;
  watch.set_from_round(1);
  auto rounds = operators->WatchRounds(&watch_context, watch);
  ASSERT_THAT(client.UploadAndReport(client.GoodUpdate()), IsOk());
  v1::WatchRoundsResponse first;
  ASSERT_TRUE(rounds->Read(&first));
  EXPECT_EQ(first.round().round(), 1);
  EXPECT_TRUE(first.round().committed());
  EXPECT_EQ(first.round().model_digest().size(), 32);

  // After the round under way.
  client.AwaitTraining();
  grpc::ClientContext stop_context;
  v1::StopRunRequest stop;
  stop.set_reason("enough");
  v1::StopRunResponse stopped;
  ASSERT_TRUE(operators->StopRun(&stop_context, stop, &stopped).ok());
  EXPECT_EQ(stopped.status().state(), v1::RUN_STATE_RUNNING);
  ASSERT_THAT(client.UploadAndReport(client.GoodUpdate()), IsOk());
  const RunOutcome outcome = server.Wait();
  EXPECT_EQ(outcome.committed_rounds, 2);
  EXPECT_TRUE(outcome.stopped);
  EXPECT_EQ(outcome.reason, "enough");
  v1::WatchRoundsResponse second;
  ASSERT_TRUE(rounds->Read(&second));
  EXPECT_EQ(second.round().round(), 2);
  EXPECT_FALSE(rounds->Read(&second));
  EXPECT_TRUE(rounds->Finish().ok());
}

TEST(OperatorTest, ThereAreNoTokensWithoutTls) {
  Folder out;
  RunningServer server(QuickOptions(out.path(), 1));
  RawClient client(server.address(), 0, 1);
  grpc::ClientContext context;
  v1::IssueTokenResponse response;
  EXPECT_THAT(FromGrpcStatus(v1::Operator::NewStub(client.channel())->IssueToken(&context, {}, &response)),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("insecure")));
}

TEST(HealthTest, IsServed) {
  Folder out;
  RunningServer server(QuickOptions(out.path(), 1));
  RawClient client(server.address(), 0, 1);
  grpc::ClientContext context;
  grpc::health::v1::HealthCheckRequest request;
  grpc::health::v1::HealthCheckResponse response;
  ASSERT_TRUE(grpc::health::v1::Health::NewStub(client.channel())->Check(&context, request, &response).ok());
  EXPECT_EQ(response.status(), grpc::health::v1::HealthCheckResponse::SERVING);
}

}  // namespace
}  // namespace fedwatt::testing

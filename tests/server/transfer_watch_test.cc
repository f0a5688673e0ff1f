#include "server/transfer_watch.h"

#include "fedwatt/base/file.h"
#include "tests/server/raw_client.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::internal::TransferWatch;
using ::fedwatt::testing::Folder;
using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::QuickOptions;
using ::fedwatt::testing::RawClient;
using ::fedwatt::testing::RunningServer;
using ::fedwatt::testing::StatusIs;
using ::testing::HasSubstr;

class TransferWatchTest : public ::testing::Test {
 protected:
  TransferWatch::Id Begin(const std::string& caller = "a") {
    absl::StatusOr<TransferWatch::Id> id = watch_.Begin(caller, [this] { ++cuts_; });
    EXPECT_THAT(id, IsOk());
    return id.value_or(0);
  }

  VirtualClock clock_;
  TransferWatch watch_{{.min_bytes_per_second = 100, .grace = absl::Seconds(10), .max_transfers = 3, .max_of_one_caller = 2}, &clock_};
  int cuts_ = 0;
};

TEST_F(TransferWatchTest, ASilentStreamIsCutOnceAfterTheGrace) {
  Begin();
  clock_.Advance(absl::Seconds(9));
  EXPECT_EQ(watch_.Sweep(), 0);
  clock_.Advance(absl::Seconds(1));
  EXPECT_EQ(watch_.Sweep(), 1);
  EXPECT_EQ(watch_.Sweep(), 0);
  EXPECT_EQ(cuts_, 1);
  EXPECT_EQ(watch_.cut_count(), 1);
}

// 100 bytes/s keep it alive for ever; 50 bytes/s cost half a second a second of the 10.
TEST_F(TransferWatchTest, TheFloorDecidesHowLongATrickleLasts) {
  const TransferWatch::Id at_floor = Begin("a"), below = Begin("b");
  int64_t ended_after = 0;
  for (int64_t second = 1; second <= 100; ++second) {
    clock_.Advance(absl::Seconds(1));
    watch_.Moved(at_floor, 100);
    watch_.Moved(below, 50);
    if (watch_.Sweep() == 1) ended_after = second;
  }
  EXPECT_EQ(cuts_, 1);
  EXPECT_EQ(ended_after, 20);
}

TEST_F(TransferWatchTest, WhatWasFastOnceEarnsNoMoreThanTheGrace) {
  const TransferWatch::Id id = Begin();
  watch_.Moved(id, int64_t{1} << 40);
  clock_.Advance(absl::Seconds(10));
  EXPECT_EQ(watch_.Sweep(), 1);
}

TEST_F(TransferWatchTest, TooManyOfOneOrOfAllAreRefusedUntilSomeEnd) {
  const TransferWatch::Id first = Begin("a");
  Begin("a");
  EXPECT_THAT(watch_.Begin("a", [] {}), StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("2 transfers of this client")));
  Begin("b");
  EXPECT_THAT(watch_.Begin("c", [] {}), StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("3 transfers are under way")));
  EXPECT_EQ(watch_.refused_count(), 2);
  watch_.End(first);
  watch_.End(first);
  Begin("c");
  EXPECT_THAT(watch_.Begin("a", [] {}), StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("3 transfers")));
}

TEST_F(TransferWatchTest, AStreamMayEndWhileItIsCut) {
  TransferWatch::Id id = 0;
  id = *watch_.Begin("a", [&] {
    watch_.End(id);
    ++cuts_;
  });
  Begin("a");
  clock_.Advance(absl::Seconds(10));
  EXPECT_EQ(watch_.Sweep(), 2);
  EXPECT_EQ(cuts_, 2);
  Begin("a");
}

TEST(TransferLimitsTest, SilentStreamsEndAndTheRestAreServed) {
  Folder out;
  ServerOptions options = QuickOptions(out.path(), 1);
  options.transfers.min_bytes_per_second = 1000;
  options.transfers.grace = absl::Milliseconds(500);
  RunningServer server(std::move(options));
  RawClient client(server.address(), 0, 1);
  client.Join();
  client.AwaitTraining();
  // One says nothing at all, one not more than its header.
  grpc::ClientContext silent, hung;
  v1::UploadResponse unused, answer;
  const auto nothing = client.stub().Upload(&silent, &unused);
  const std::string update = client.GoodUpdate();
  const auto header_only = client.stub().Upload(&hung, &answer);
  v1::UploadRequest message;
  *message.mutable_header() = client.HeaderFor(update);
  ASSERT_TRUE(header_only->Write(message));
  EXPECT_THAT(FromGrpcStatus(nothing->Finish()), StatusIs(absl::StatusCode::kCancelled, ::testing::_));
  EXPECT_THAT(FromGrpcStatus(header_only->Finish()), StatusIs(absl::StatusCode::kCancelled, ::testing::_));
  // The attempt is none the worse for it.
  ASSERT_THAT(client.Upload(update), IsOk());
  ASSERT_OK_AND_ASSIGN(v1::ReportResponse response, client.Report(client.CompletedReport(update)));
  EXPECT_TRUE(response.has_accepted()) << response.DebugString();
  server.Stop();
  EXPECT_THAT(*ReadFile(out.path() + "/audit.log"), HasSubstr("cut for moving too little"));
}

TEST(TransferLimitsTest, TooManyStreamsAreRefusedWithAWindow) {
  Folder out;
  ServerOptions options = QuickOptions(out.path(), 1);
  options.transfers.max_transfers = 1;
  options.transfers.max_of_one_caller = 1;
  RunningServer server(std::move(options));
  RawClient client(server.address(), 0, 1);
  client.Join();
  client.AwaitTraining();
  const std::string update = client.GoodUpdate();
  grpc::ClientContext first;
  v1::UploadResponse unused;
  const auto held = client.stub().Upload(&first, &unused);
  v1::UploadRequest message;
  *message.mutable_header() = client.HeaderFor(update);
  ASSERT_TRUE(held->Write(message));
  // Until the first one has reached the coordinator, others may find the place free.
  absl::Status refused;
  for (int i = 0; i < 1000 && refused.ok(); ++i) refused = client.Upload(client.HeaderFor(update), update, 0).status();
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("busy")));
  EXPECT_TRUE(RetryOf(refused).has_value());
  first.TryCancel();
  held->Finish().ok();
  absl::Status served = absl::ResourceExhaustedError("");
  for (int i = 0; i < 1000 && absl::IsResourceExhausted(served); ++i) served = client.Upload(update).status();
  EXPECT_THAT(served, IsOk());
}

TEST(TransferLimitsTest, AreChecked) {
  Folder out;
  ServerOptions options = QuickOptions(out.path(), 1);
  options.transfers.grace = absl::ZeroDuration();
  EXPECT_THAT(Server::Create(std::move(options)), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("transfers")));
}

}  // namespace
}  // namespace fedwatt

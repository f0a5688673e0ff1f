// What a coordinator leaves behind is enough to go on.
#include <sqlite3.h>

#include <fstream>

#include "fedwatt/base/failpoint.h"
#include "fedwatt/base/file.h"
#include "gmock/gmock.h"
#include "store.h"
#include "tests/server/raw_client.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt::testing {
namespace {

using ::testing::HasSubstr;

// Takes part in `rounds` rounds and returns the digest of the model that the last one began with.
std::string Play(RawClient& client, int rounds) {
  std::string digest;
  for (int i = 0; i < rounds; ++i) {
    client.AwaitTraining();
    digest = client.assignment().model().digest();
    absl::StatusOr<v1::ReportResponse> response = client.UploadAndReport(client.GoodUpdate());
    EXPECT_TRUE(response.ok() && response->has_accepted()) << response.status();
  }
  return digest;
}

ServerOptions Options(const std::string& out, int64_t rounds) {
  ServerOptions options = QuickOptions(out, 1);
  options.engine.rounds = rounds;
  return options;
}

// A whole run of one client.
void PlayRun(const std::string& out, int rounds) {
  RunningServer server(Options(out, rounds));
  RawClient client(server.address(), 0, 1);
  client.Join();
  Play(client, rounds);
  EXPECT_EQ(server.Wait().committed_rounds, rounds);
}

std::vector<std::string> Digests(const std::string& out) {
  std::vector<std::string> digests;
  const absl::StatusOr<RunRecord> record = ReadRunRecord(out);
  if (!record.ok()) return {record.status().ToString()};
  for (const RoundRecord& round : record->rounds) digests.push_back(round.model_digest);
  return digests;
}

TEST(RestartTest, GoesOnWithTheNextRoundAndTheSameModel) {
  Folder whole, parts;
  PlayRun(whole.path(), 4);
  PlayRun(parts.path(), 2);
  ServerOptions options = Options(parts.path(), 4);
  options.engine.run_id = "another";
  options.initial_model.assign(options.initial_model.size(), 7.0f);  // not looked at any more
  RunningServer server(std::move(options));
  EXPECT_EQ(server.server().run_id(), "run");
  RawClient client(server.address(), 0, 1);
  client.Join();
  client.AwaitTraining();
  EXPECT_EQ(client.assignment().round(), 3);
  EXPECT_EQ(client.assignment().plan().run_id(), "run");
  Play(client, 2);
  EXPECT_EQ(server.Wait().committed_rounds, 4);
  EXPECT_EQ(Digests(parts.path()), Digests(whole.path()));
  ASSERT_OK_AND_ASSIGN(RunRecord record, ReadRunRecord(parts.path()));
  EXPECT_EQ(record.rounds.size(), 4);
  EXPECT_NE(record.attempts[0].attempt, record.attempts[2].attempt);
}

TEST(RestartTest, AFinishedRunIsFinishedAtOnce) {
  Folder out;
  for (int start = 0; start < 2; ++start) {
    RunningServer server(Options(out.path(), 1));
    if (start == 0) {
      RawClient client(server.address(), 0, 1);
      client.Join();
      Play(client, 1);
    }
    EXPECT_EQ(server.Wait().committed_rounds, 1);
  }
  EXPECT_EQ(ReadRunRecord(out.path())->rounds.size(), 1);
}

TEST(RestartTest, ALineOfARoundThatWasNotCommittedIsCutOff) {
  Folder out;
  PlayRun(out.path(), 1);
  // Lines of a round that the database does not know.
  ASSERT_OK_AND_ASSIGN(std::string lines, ReadFile(out.path() + "/rounds.jsonl"));
  std::ofstream(out.path() + "/rounds.jsonl", std::ios::app) << lines << lines.substr(0, 20);
  RunningServer server(Options(out.path(), 2));
  RawClient client(server.address(), 0, 1);
  client.Join();
  Play(client, 1);
  EXPECT_EQ(server.Wait().committed_rounds, 2);
  ASSERT_OK_AND_ASSIGN(RunRecord record, ReadRunRecord(out.path()));
  ASSERT_EQ(record.rounds.size(), 2);
  EXPECT_EQ(record.rounds[1].round, 2);
}

TEST(RestartTest, ALineThatACrashKeptBackIsMadeGood) {
  Folder out;
  PlayRun(out.path(), 2);
  // As if the coordinator had been killed between the commit of round 2 and its line, or while it wrote it.
  ASSERT_OK_AND_ASSIGN(const std::string lines, ReadFile(out.path() + "/rounds.jsonl"));
  const size_t second = lines.find('\n') + 1;
  for (const size_t size : {second, second + 20, lines.size() - 1, size_t{0}}) {
    std::filesystem::resize_file(out.path() + "/rounds.jsonl", size);
    RunningServer server(Options(out.path(), 2));
    EXPECT_EQ(server.Wait().committed_rounds, 2);
    ASSERT_OK_AND_ASSIGN(const std::string restored, ReadFile(out.path() + "/rounds.jsonl"));
    EXPECT_EQ(restored, lines);
  }
}

TEST(RestartTest, OtherSettingsAreRefusedByName) {
  Folder out;
  { RunningServer server(Options(out.path(), 1)); }
  ServerOptions options = Options(out.path(), 1);
  options.model.plan.seed = 99;
  options.model.plan.uplink_codec = "int8";
  EXPECT_THAT(Server::Create(std::move(options)), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("compression.uplink: float32 before, now int8; seed")));
  EXPECT_THAT(Server::Create(Options(out.path(), 1)), IsOk());
}

TEST(RestartTest, ASecondCoordinatorOnOneFolderIsRefused) {
  Folder out;
  RunningServer server(Options(out.path(), 1));
  EXPECT_THAT(Server::Create(Options(out.path(), 1)), StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("another coordinator")));
}

TEST(RestartTest, TheRecordOfAnotherKindOfRunIsNotTouched) {
  Folder out;
  std::ofstream(out.path() + "/rounds.jsonl") << "{}\n";
  EXPECT_THAT(Server::Create(Options(out.path(), 1)), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("another --out")));
  EXPECT_EQ(*ReadFile(out.path() + "/rounds.jsonl"), "{}\n");
}

TEST(ServerTest, AnUnknownDurabilityIsRefusedInWords) {
  Folder out;
  ServerOptions options = Options(out.path(), 1);
  options.durability = "always";
  EXPECT_THAT(Server::Create(std::move(options)), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expected 'update' or 'round', got 'always'")));
}

TEST(ServerTest, ATakenPortIsNamed) {
  Folder out, other;
  RunningServer server(Options(out.path(), 1));
  ServerOptions options = Options(other.path(), 1);
  options.listen = server.address();
  EXPECT_THAT(Server::Create(std::move(options)), StatusIs(absl::StatusCode::kUnavailable, HasSubstr(server.address())));
}

TEST(ServerTest, StopsInOrder) {
  Folder out;
  ServerOptions options = Options(out.path(), 5);
  options.farewell_duration = absl::Seconds(10);
  RunningServer server(std::move(options));
  RawClient client(server.address(), 0, 1);
  client.Join();
  Play(client, 1);
  client.AwaitTraining();
  std::thread waiting([&] {
    absl::StatusOr<v1::WaitForWorkResponse> news = client.Wait(client.assignment().attempt_id());
    ASSERT_THAT(news, IsOk());
    EXPECT_EQ(news->cancel().reason(), v1::REJECTION_REASON_NOT_NEEDED) << news->DebugString();
    news = client.Wait();
    ASSERT_THAT(news, IsOk());
    EXPECT_FALSE(news->finished().succeeded());
    EXPECT_EQ(news->finished().reason(), "stopped");
  });
  absl::SleepFor(absl::Milliseconds(100));
  const RunOutcome outcome = server.Stop();
  waiting.join();
  EXPECT_TRUE(outcome.stopped);
  EXPECT_EQ(outcome.committed_rounds, 1);
  ASSERT_OK_AND_ASSIGN(RunRecord record, ReadRunRecord(out.path()));
  EXPECT_EQ(record.summary->run_id, "run");
  EXPECT_EQ(record.rounds.size(), 2);
  EXPECT_FALSE(record.rounds[1].committed);
}

internal::RoundEnd End(internal::StoredRound round, std::string line, const std::string* state) {
  internal::RoundEnd end;
  end.round = std::move(round);
  end.line = std::move(line);
  end.model_state = state;
  return end;
}

TEST(StoreTest, RemembersRoundsAndTheLastModel) {
  Folder out;
  const std::string one = "model one", two("two\0two", 7);
  {
    ASSERT_OK_AND_ASSIGN(auto store, internal::Store::Open(out.path(), "a", "x=1\n"));
    EXPECT_EQ(store->incarnation(), 0);
    EXPECT_EQ(*store->ReadModelState(), std::nullopt);
    EXPECT_EQ(store->attempts_file_bytes(), 0);
    ASSERT_THAT(store->Finish(End({1, true, "aa", 0.5, "s1"}, "{1}", &one)), IsOk());
    ASSERT_THAT(store->Finish(End({2, true, "bb", std::nullopt, "s2"}, "{2}", &two)), IsOk());
    ASSERT_THAT(store->Finish(End({3, false, "bb", std::nullopt, ""}, "{3}", nullptr)), IsOk());
  }
  ASSERT_OK_AND_ASSIGN(auto store, internal::Store::Open(out.path(), "b", "x=1\n"));
  EXPECT_EQ(store->run_id(), "a");
  EXPECT_EQ(store->incarnation(), 1);
  EXPECT_EQ(**store->ReadModelState(), two);
  ASSERT_EQ(store->rounds().size(), 3);
  EXPECT_EQ(store->rounds()[0].accuracy, 0.5);
  EXPECT_EQ(store->rounds()[1].accuracy, std::nullopt);
  EXPECT_EQ(store->rounds()[1].summary, "s2");
  EXPECT_FALSE(store->rounds()[2].committed);
  EXPECT_EQ(*store->ReadLines(), "{1}\n{2}\n{3}\n");
  EXPECT_FALSE(std::filesystem::exists(out.path() + "/state/global-1.state"));
}

TEST(StoreTest, WhatGoesWithARoundIsThereWithItOrNotAtAll) {
  Folder out;
  const std::string state = "model";
  {
    ASSERT_OK_AND_ASSIGN(auto store, internal::Store::Open(out.path(), "a", ""));
    store->PutSession("s1", "request one");
    store->PutSession("s2", "request two");
    ASSERT_THAT(store->Remember({{"#round", "open"}}), IsOk());
    store->DropSession("s2");
    store->PutSession("s3", "request three");
    internal::RoundEnd end = End({1, true, "aa", 0.5, "s"}, "{1}", &state);
    end.memory = {{"#accounts", "1 2 3 4"}};
    end.attempts_file_bytes = 77;
    end.attempts = {{"r1-p0", "zero"}, {"r1-p1", "one"}};
    for (const char* error : {"database_committing=ENOSPC", "file_half_written=ENOSPC"}) {
      ArmFailpoints(error);
      EXPECT_THAT(store->Finish(end), StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("No space"))) << error;
      ArmFailpoints("");
      ASSERT_OK_AND_ASSIGN(std::vector<std::string> none, store->ReadAttempts());
      EXPECT_TRUE(none.empty());
      EXPECT_TRUE(store->rounds().empty());
    }
    ASSERT_THAT(store->Finish(end), IsOk());  // what found no space is done again
  }
  ASSERT_OK_AND_ASSIGN(auto store, internal::Store::Open(out.path(), "a", ""));
  EXPECT_EQ(store->memory(), (std::map<std::string, std::string>{{"#accounts", "1 2 3 4"}, {"#round", "open"}}));
  EXPECT_EQ(store->sessions(), (std::map<std::string, std::string>{{"s1", "request one"}, {"s3", "request three"}}));
  EXPECT_EQ(store->attempts_file_bytes(), 77);
  ASSERT_OK_AND_ASSIGN(std::vector<std::string> attempts, store->ReadAttempts());
  EXPECT_THAT(attempts, ::testing::ElementsAre("zero", "one"));
}

TEST(StoreTest, TablesOfAnotherVersionAreRefused) {
  Folder out;
  ASSERT_THAT(internal::Store::Open(out.path(), "a", ""), IsOk());
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open((out.path() + "/state/fedwatt.db").c_str(), &database), SQLITE_OK);
  EXPECT_EQ(sqlite3_exec(database, "DELETE FROM meta WHERE key = CAST('schema' AS BLOB)", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(database);
  EXPECT_THAT(internal::Store::Open(out.path(), "a", ""), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("another version")));
}

TEST(StoreTest, ADamagedOrMissingStateIsDataLoss) {
  Folder out;
  {
    ASSERT_OK_AND_ASSIGN(auto store, internal::Store::Open(out.path(), "a", ""));
    const std::string one = "model one";
    ASSERT_THAT(store->Finish(End({1, true, "aa", 0.5, "s1"}, "{1}", &one)), IsOk());
  }
  std::filesystem::remove(out.path() + "/state/global-1.state");
  {
    ASSERT_OK_AND_ASSIGN(auto store, internal::Store::Open(out.path(), "a", ""));
    EXPECT_THAT(store->ReadModelState(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("round 1")));
  }
  std::ofstream(out.path() + "/state/fedwatt.db") << std::string(8192, 'x');
  EXPECT_THAT(internal::Store::Open(out.path(), "a", ""), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("state database")));
}

}  // namespace
}  // namespace fedwatt::testing

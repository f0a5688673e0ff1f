// The verbs that talk to a coordinator, against one that answers from a script.
#include <signal.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "fedwatt/base/clock.h"
#include "fedwatt/base/hash_chain.h"
#include "fedwatt/rpc/channel.h"
#include "fedwatt/rpc/conversion.h"
#include "fedwatt/rpc/security.h"
#include "fedwatt/rpc/status_conversion.h"
#include "fedwatt/v1/coordinator.grpc.pb.h"
#include "fedwatt/v1/operator.grpc.pb.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "tests/testing/status_matchers.h"
#include "tests/tool/run_tool.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::ExpectUsage;
using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::Outcome;
using ::fedwatt::testing::ToolTest;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

int Mode(const std::string& path) {
  struct stat info;
  return ::stat(path.c_str(), &info) == 0 ? static_cast<int>(info.st_mode & 07777) : -1;
}

// A run of two rounds.
class ScriptedOperator : public v1::Operator::Service {
 public:
  absl::Duration clock_offset;
  std::atomic<bool> finished{false};
  bool tells_end = true;  // the last message of WatchRounds has no round
  bool endless = false;   // WatchRounds ends only when the caller goes
  std::atomic<int> watching{0};
  v1::StopRunRequest stopped;
  absl::Duration lifetime;

  void Fill(v1::RunStatus& status) {
    status.set_run_id("run-1");
    status.set_state(finished ? v1::RUN_STATE_FINISHED : v1::RUN_STATE_RUNNING);
    if (finished) status.set_reason("all rounds done");
    status.set_round(2);
    status.set_round_count(5);
    status.set_committed_round_count(1);
    status.set_client_count(1);
    status.set_wait_for_client_count(1);
    status.set_best_accuracy(0.625);
    *status.mutable_start_time() = ToProto(absl::Now() - absl::Minutes(3));
    *status.mutable_server_time() = ToProto(absl::Now() + clock_offset);
    status.set_server_version("9.8.7");
  }
  grpc::Status GetStatus(grpc::ServerContext*, const v1::GetStatusRequest*, v1::GetStatusResponse* response) override {
    Fill(*response->mutable_status());
    return grpc::Status::OK;
  }
  grpc::Status ListClients(grpc::ServerContext*, const v1::ListClientsRequest*, v1::ListClientsResponse* response) override {
    v1::ClientStatus* client = response->add_clients();
    client->set_pseudonym("client-3");
    client->set_partition_index(3);
    client->set_connected(true);
    client->set_accepted_count(4);
    *client->mutable_silent_duration() = ToProto(absl::Milliseconds(250));
    client->set_meter_name("cpu_time");
    client->set_meter_tier(v1::ENERGY_TIER_GENERIC);
    return grpc::Status::OK;
  }
  grpc::Status WatchRounds(grpc::ServerContext* context, const v1::WatchRoundsRequest* request,
                           grpc::ServerWriter<v1::WatchRoundsResponse>* writer) override {
    finished = false;
    for (int64_t number = std::max<int64_t>(request->from_round(), 1); number <= 2; ++number) {
      v1::WatchRoundsResponse response;
      v1::RoundSummary& round = *response.mutable_round();
      round.set_round(number);
      round.set_committed(true);
      *round.mutable_start_time() = ToProto(absl::Now());
      *round.mutable_wall_duration() = ToProto(absl::Milliseconds(1500));
      round.set_selected_count(3);
      round.set_completed_count(3);
      round.set_eval_accuracy(0.25 * static_cast<double>(number));
      round.set_uplink_payload_bytes(1000000);
      round.set_uplink_dense_bytes(4000000);
      round.set_client_energy_uj(2500000);
      round.set_client_energy_tier(v1::ENERGY_TIER_GENERIC);
      Fill(*response.mutable_status());
      writer->Write(response);
    }
    ++watching;
    while (endless && !context->IsCancelled()) absl::SleepFor(absl::Milliseconds(10));
    v1::WatchRoundsResponse end;
    finished = true;
    Fill(*end.mutable_status());
    if (tells_end) writer->Write(end);
    return grpc::Status::OK;
  }
  grpc::Status StopRun(grpc::ServerContext*, const v1::StopRunRequest* request, v1::StopRunResponse* response) override {
    stopped = *request;
    Fill(*response->mutable_status());
    return grpc::Status::OK;
  }
  grpc::Status IssueToken(grpc::ServerContext*, const v1::IssueTokenRequest* request, v1::IssueTokenResponse* response) override {
    lifetime = FromProto(request->lifetime_duration()).value_or(absl::ZeroDuration());
    absl::StatusOr<EnrolmentToken> token = security->IssueToken(lifetime);
    if (!token.ok()) return ToGrpcStatus(token.status());
    response->set_token(token->text);
    *response->mutable_expiry_time() = ToProto(token->expiry_time);
    return grpc::Status::OK;
  }

  SecurityDirectory* security = nullptr;
};

class SigningCoordinator : public v1::Coordinator::Service {
 public:
  grpc::Status Enrol(grpc::ServerContext*, const v1::EnrolRequest* request, v1::EnrolResponse* response) override {
    name = request->client_name();
    absl::StatusOr<EnrolledCertificate> enrolled = security->Enrol(request->token(), request->request_id(), request->csr_pem());
    if (!enrolled.ok()) return ToGrpcStatus(enrolled.status());
    response->set_client_id(enrolled->client_id);
    response->set_certificate_chain_pem(enrolled->certificate_pem);
    response->set_ca_pem(enrolled->ca_pem);
    return grpc::Status::OK;
  }

  SecurityDirectory* security = nullptr;
  std::string name;
};

class NetworkTest : public ToolTest {
 protected:
  void SetUp() override {
    ToolTest::SetUp();
    ASSERT_OK_AND_ASSIGN(security_, SecurityDirectory::CreateOrOpen(Path("security"), {}));
    operator_.security = coordinator_.security = security_.get();
    grpc::ServerBuilder builder;
    ApplyServerLimits(builder);
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", security_->ServerCredentials(), &port);
    builder.RegisterService(&operator_);
    builder.RegisterService(&coordinator_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    address_ = absl::StrCat("127.0.0.1:", port);
  }
  void TearDown() override {
    if (server_) server_->Shutdown(std::chrono::system_clock::now());
    ToolTest::TearDown();
  }
  // With the way to the coordinator; security is found beside the working folder.
  Outcome Ask(std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), {"--server", address_});
    return Run(std::move(arguments));
  }

  std::unique_ptr<SecurityDirectory> security_;
  ScriptedOperator operator_;
  SigningCoordinator coordinator_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

TEST_F(NetworkTest, ShowsTheStatus) {
  const Outcome text = Ask({"status"});
  ASSERT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("2 of 5, 1 committed"));
  EXPECT_THAT(text.out, HasSubstr("best 0.6250, target -"));
  EXPECT_THAT(text.out, HasSubstr("client-3"));
  const Outcome outcome = Ask({"status", "--format", "json", "--security-directory", Path("security")});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const nlohmann::json json = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(json["run"]["state"], "running");
  EXPECT_EQ(json["run"]["best_accuracy"], 0.625);
  EXPECT_TRUE(json["run"]["target_accuracy"].is_null());
  EXPECT_EQ(json["clients"][0]["partition"], 3);
  EXPECT_EQ(json["clients"][0]["tier"], "generic");
}

TEST_F(NetworkTest, WatchesUntilTheRunEnds) {
  const Outcome text = Ask({"watch"});
  ASSERT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("0.2500"));
  EXPECT_THAT(text.out, HasSubstr("0.5000"));
  EXPECT_EQ(text.err, "run run-1 finished: all rounds done\n");
  operator_.tells_end = false;
  EXPECT_EQ(Ask({"watch"}).err, "run run-1 finished: all rounds done\n");
  const Outcome later = Ask({"watch", "--from", "2", "--format", "json"});
  ASSERT_EQ(later.code, 0) << later.err;
  const nlohmann::json json = nlohmann::json::parse(later.out);  // one line only
  EXPECT_EQ(json["round"], 2);
  EXPECT_EQ(json["eval_accuracy"], 0.5);
  EXPECT_EQ(json["client_energy_uj"], 2500000);
  EXPECT_TRUE(json["train_loss"].is_null());
}

TEST_F(NetworkTest, LeavesTheRunAloneOnInterrupt) {
  operator_.endless = true;
  const pid_t pid = Start({"watch", "--format", "json", "--server", address_});
  while (operator_.watching == 0) absl::SleepFor(absl::Milliseconds(10));
  while (ReadFile(Path("stdout")).value_or("").find("\"round\":2") == std::string::npos) absl::SleepFor(absl::Milliseconds(10));
  ASSERT_EQ(::kill(pid, SIGINT), 0);
  const Outcome outcome = Await(pid);
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.err, "");
  EXPECT_TRUE(operator_.stopped.request_id().empty());
}

TEST_F(NetworkTest, StopsTheRun) {
  const Outcome outcome = Ask({"stop", "--now", "--reason", "tea time"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "running\n");
  EXPECT_EQ(operator_.stopped.reason(), "tea time");
  EXPECT_TRUE(operator_.stopped.abandon_round());
}

TEST_F(NetworkTest, EnrolsWithAFreshToken) {
  const Outcome token = Ask({"keys", "token", "--lifetime", "2h"});
  ASSERT_EQ(token.code, 0) << token.err;
  EXPECT_EQ(operator_.lifetime, absl::Hours(2));
  EXPECT_EQ(token.out.size(), 66u);  // 32 + 1 + 32 digits and the line end
  EXPECT_THAT(token.err, Not(HasSubstr(token.out.substr(0, 32))));

  const Outcome enrolled =
      Run({"enrol", "--server", address_, "--token", "-", "--directory", "device", "--name", "kitchen"}, token.out);
  ASSERT_EQ(enrolled.code, 0) << enrolled.err;
  EXPECT_THAT(enrolled.out, StartsWith("device-"));
  EXPECT_EQ(coordinator_.name, "kitchen");
  EXPECT_EQ(Mode(Path("device")), 0700);
  EXPECT_EQ(Mode(Path("device/client.pem")), 0600);

  const Outcome shown = Run({"keys", "show", "device"});
  EXPECT_THAT(shown.out, HasSubstr(enrolled.out.substr(0, enrolled.out.size() - 1)));

  EXPECT_EQ(Run({"enrol", "--server", address_, "--token", "-", "--directory", "device"}, token.out).code,
            3);  // an identity is there
  EXPECT_EQ(Run({"enrol", "--server", address_, "--token", "-", "--directory", "other"}, token.out).code,
            5);  // the token is used
  EXPECT_FALSE(std::filesystem::exists(Path("other/client.pem")));
}

TEST_F(NetworkTest, DoctorComparesClocks) {
  operator_.clock_offset = absl::Hours(1);
  const Outcome outcome = Ask({"doctor", "--format", "json", "--set", "server.listen=127.0.0.1:0"});
  EXPECT_EQ(outcome.code, 0) << outcome.out;
  std::map<std::string, nlohmann::json> checks;
  const nlohmann::json json = nlohmann::json::parse(outcome.out);
  for (const auto& check : json["checks"]) checks[check["name"]] = check;
  EXPECT_EQ(checks["server"]["verdict"], "ok");
  EXPECT_THAT(checks["server run"]["detail"].get<std::string>(), HasSubstr("9.8.7"));
  EXPECT_EQ(checks["server clock"]["verdict"], "warn");
  EXPECT_THAT(checks["server clock"]["detail"].get<std::string>(), HasSubstr("ahead"));

  operator_.clock_offset = -absl::Hours(48);
  EXPECT_EQ(Ask({"doctor", "--set", "server.listen=127.0.0.1:0"}).code, 3);
}

TEST_F(NetworkTest, KnowsAnotherFederation) {
  ASSERT_THAT(SecurityDirectory::CreateOrOpen(Path("other"), {}).status(), IsOk());
  const Outcome outcome = Ask({"status", "--security-directory", "other"});
  EXPECT_EQ(outcome.code, 5) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("not of this federation"));
  EXPECT_EQ(Ask({"doctor", "--security-directory", "other", "--set", "server.listen=127.0.0.1:0"}).code, 3);
}

class KeysTest : public ToolTest {};

TEST_F(KeysTest, InitMakesAClosedDirectory) {
  const Outcome outcome = Run({"keys", "init", "security", "--names", "example.org,192.0.2.7"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(Mode(Path("security")), 0700);
  for (const char* secret : {"ca.key.pem", "server.pem", "client.pem", "enrolment_token", "tokens"}) {
    EXPECT_EQ(Mode(Path("security") + "/" + secret), 0600) << secret;
    ASSERT_OK_AND_ASSIGN(std::string text, ReadFile(Path("security") + "/" + secret));
    EXPECT_THAT(outcome.out + outcome.err, Not(HasSubstr(text.substr(0, 40)))) << secret;
  }
  EXPECT_THAT(outcome.out, HasSubstr("example.org"));
  EXPECT_THAT(outcome.out, HasSubstr("192.0.2.7"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("PRIVATE KEY")));
  EXPECT_THAT(outcome.out, Not(HasSubstr("too open")));
  EXPECT_EQ(outcome.err, "an enrolment token is there\n");

  ASSERT_OK_AND_ASSIGN(std::string ca, ReadFile(Path("security/ca.crt.pem")));
  EXPECT_EQ(Run({"keys", "init", "security"}).code, 0);
  EXPECT_EQ(ReadFile(Path("security/ca.crt.pem")).value_or(""), ca);  // made once
}

TEST_F(KeysTest, RenewMakesNewCertificatesOfTheOldNames) {
  ASSERT_EQ(Run({"keys", "init", "security", "--names", "example.org"}).code, 0);
  std::map<std::string, std::string> before;
  for (const char* file : {"server.pem", "client.pem", "ca.crt.pem"}) before[file] = *ReadFile(Path("security/") + file);
  const Outcome outcome = Run({"keys", "renew", "security"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  EXPECT_THAT(outcome.err, Not(HasSubstr("PRIVATE KEY")));
  EXPECT_NE(*ReadFile(Path("security/server.pem")), before["server.pem"]);
  EXPECT_NE(*ReadFile(Path("security/client.pem")), before["client.pem"]);
  EXPECT_EQ(*ReadFile(Path("security/ca.crt.pem")), before["ca.crt.pem"]);
  EXPECT_THAT(Run({"keys", "show", "security"}).out, HasSubstr("example.org"));
}

TEST_F(KeysTest, ShowTellsOpenFiles) {
  ASSERT_EQ(Run({"keys", "init", "security"}).code, 0);
  std::filesystem::remove(Path("security/enrolment_token"));
  ::chmod(Path("security/server.pem").c_str(), 0640);
  const Outcome outcome = Run({"keys", "show", "security", "--format", "json"});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const nlohmann::json json = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(json["token_present"], false);
  std::map<std::string, nlohmann::json> files;
  for (const auto& file : json["files"]) files[file["file"]] = file;
  EXPECT_EQ(files["server.pem"]["too_open"], true);
  EXPECT_EQ(files["server.pem"]["mode"], "0640");
  EXPECT_EQ(files["client.pem"]["too_open"], false);
  EXPECT_EQ(files["client.pem"]["subject"], "local");
  EXPECT_EQ(files["server.pem"]["names"].size() >= 3, true);
  EXPECT_EQ(Run({"doctor", "--set", "server.listen=127.0.0.1:0"}).code, 3);  // it looks at ./security
}

TEST_F(KeysTest, DoctorFindsExpiredCertificates) {
  // Leaves live for 365 days, the authority for 10 years.
  const VirtualClock clock(absl::Now() - absl::Hours(24 * 800));
  ASSERT_THAT(SecurityDirectory::CreateOrOpen(Path("security"), {}, &clock).status(), IsOk());
  const Outcome outcome = Run({"doctor", "--format", "json", "--set", "server.listen=127.0.0.1:0"});
  EXPECT_EQ(outcome.code, 3);
  std::map<std::string, std::string> verdicts;
  const nlohmann::json json = nlohmann::json::parse(outcome.out);
  for (const auto& check : json["checks"]) verdicts[check["name"]] = check["verdict"];
  EXPECT_EQ(verdicts["security server.pem"], "fail");
  EXPECT_EQ(verdicts["security client.pem"], "fail");
  EXPECT_EQ(verdicts["security ca.crt.pem"], "ok");
}

TEST_F(KeysTest, AnAuditLogIsVerified) {
  ASSERT_OK_AND_ASSIGN(auto log, HashChainFile::Open(Path("audit.log")));
  ASSERT_THAT(log->Append("{\"event\":\"started\"}", false).status(), IsOk());
  const std::string first = log->head().head.Hex();
  ASSERT_THAT(log->Append("{\"event\":\"refused\"}", false).status(), IsOk());
  Outcome outcome = Run({"audit-log", "verify", "audit.log"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out, log->head().head.Hex() + "\n");
  outcome = Run({"audit-log", "verify", "audit.log", "--contains", first});
  EXPECT_EQ(outcome.code, 0);
  const std::string whole = *ReadFile(Path("audit.log"));
  ASSERT_THAT(WriteFileAtomically(Path("audit.log"), whole.substr(0, whole.find('\n') + 1)), IsOk());
  outcome = Run({"audit-log", "verify", "audit.log", "--contains", log->head().head.Hex()});
  EXPECT_NE(outcome.code, 0);
  EXPECT_THAT(outcome.err, HasSubstr("cut off"));
  std::string changed = whole;
  changed[70] ^= 1;
  ASSERT_THAT(WriteFileAtomically(Path("audit.log"), changed), IsOk());
  outcome = Run({"audit-log", "verify", "audit.log"});
  EXPECT_NE(outcome.code, 0);
  EXPECT_THAT(outcome.err, HasSubstr("record 1"));
}

TEST_F(KeysTest, RefusesWrongUsage) {
  ExpectUsage(Run({"keys"}), "a verb is missing; see fedwatt keys --help");
  ExpectUsage(Run({"keys", "shwo", "x"}), "did you mean 'show'?");
  ExpectUsage(Run({"keys", "init"}), "DIR");
  ExpectUsage(Run({"keys", "token", "--lifetime", "31d"}), "31d");
  ExpectUsage(Run({"keys", "token", "--lifetime", "721h"}), "720h");
  ExpectUsage(Run({"enrol", "--server", "localhost:1"}), "--");
  ExpectUsage(Run({"enrol", "--server", "localhost:1", "--token", "-", "--directory", "d"}), "no token");
  ExpectUsage(Run({"status", "--insecure", "--security-directory", "d"}), "--insecure");
  ExpectUsage(Run({"watch", "--from", "-1"}), "--from");
  EXPECT_EQ(Run({"keys", "show", "absent"}).code, 3);
  EXPECT_EQ(Run({"enrol", "--server", "localhost:1", "--token", "short", "--directory", "d"}).code, 3);
}

TEST_F(KeysTest, SaysWhatCannotBeReached) {
  const Outcome unreachable = Run({"status", "--server", "127.0.0.1:1", "--insecure"});
  EXPECT_EQ(unreachable.code, 7);
  EXPECT_EQ(unreachable.out, "");
  EXPECT_THAT(unreachable.err, HasSubstr("127.0.0.1:1"));
  EXPECT_EQ(unreachable.err.find('\n'), unreachable.err.size() - 1) << unreachable.err;
  EXPECT_EQ(Run({"watch", "--server", "127.0.0.1:1", "--insecure"}).code, 7);
  EXPECT_EQ(Run({"stop", "--server", "127.0.0.1:1", "--insecure"}).code, 7);
  EXPECT_EQ(Run({"keys", "token", "--server", "127.0.0.1:1", "--insecure"}).code, 7);
  EXPECT_EQ(Run({"status", "--server", "nonsense", "--insecure"}).code, 3);
  const Outcome keyless = Run({"status", "--server", "127.0.0.1:1"});
  EXPECT_EQ(keyless.code, 3);
  EXPECT_THAT(keyless.err, HasSubstr("fedwatt enrol"));
}

}  // namespace
}  // namespace fedwatt

// Nobody has to do anything for a certificate to be renewed, and no call fails for it.
#include <atomic>
#include <filesystem>

#include "federation.h"
#include "fedwatt/base/hash_chain.h"
#include "fedwatt/rpc/manifest.h"
#include "fedwatt/rpc/security.h"
#include "tests/testing/forge_certificate.h"

namespace fedwatt::testing {
namespace {

using ::testing::HasSubstr;

// The holder asks for the state on `channel`; the server's certificate goes to `shown`.
absl::Status Look(const std::shared_ptr<grpc::Channel>& channel, std::string* shown) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  v1::GetStatusResponse response;
  absl::Status status = FromGrpcStatus(v1::Operator::NewStub(channel)->GetStatus(&context, {}, &response));
  if (status.ok()) {
    const auto certificates = context.auth_context()->FindPropertyValues("x509_pem_cert");
    if (!certificates.empty()) shown->assign(certificates[0].data(), certificates[0].size());
  }
  return status;
}

TEST(RenewalTest, RotationUnderLoadFailsNoCall) {
  Folder out;
  RunningServer server(FederationOptions(out.path()));
  ASSERT_OK_AND_ASSIGN(TlsIdentity local, ReadClientIdentity(out.path() + "/security", absl::Seconds(5)));
  const auto dial = [&] { return *MakeChannel(server.address(), ClientCredentials(local)); };
  std::atomic<bool> over = false;
  std::atomic<int> calls = 0, failures = 0;
  const auto load = [&](bool new_connections) {
    std::shared_ptr<grpc::Channel> channel = dial();
    std::string shown;
    while (!over) {
      if (new_connections) channel = dial();
      absl::Status status = Look(channel, &shown);
      ++calls;
      if (status.ok()) continue;
      ++failures;
      ADD_FAILURE() << status;
    }
  };
  std::jthread old_connection(load, false), new_connections(load, true);
  ASSERT_OK_AND_ASSIGN(auto directory, SecurityDirectory::CreateOrOpen(out.path() + "/security", {}));
  std::string before, shown;
  ASSERT_THAT(Look(dial(), &before), IsOk());
  for (int rotation = 0; rotation < 3; ++rotation) {
    ASSERT_THAT(directory->RenewNow(), IsOk());
    const absl::Time patience = absl::Now() + absl::Seconds(60);
    do {
      ASSERT_THAT(Look(dial(), &shown), IsOk());
    } while (shown == before && absl::Now() < patience);
    EXPECT_NE(shown, before) << "rotation " << rotation << " was not taken up";
    before = shown;
  }
  over = true;
  old_connection.join();
  new_connections.join();
  EXPECT_EQ(failures, 0);
  EXPECT_GT(calls, 10);
  RecordProperty("calls", calls);
}

TEST(RenewalTest, ADeviceRenewsItsOwnWhenItIsDue) {
  Folder out;
  ServerOptions options = FederationOptions(out.path());
  const std::string security = options.security_directory;
  RunningServer server(std::move(options));
  ASSERT_OK_AND_ASSIGN(auto directory, SecurityDirectory::CreateOrOpen(security, {}));
  ASSERT_OK_AND_ASSIGN(EnrolmentToken token, directory->IssueToken(absl::Hours(1)));
  ASSERT_OK_AND_ASSIGN(SigningRequest signing, MakeSigningRequest());
  ASSERT_OK_AND_ASSIGN(EnrolledCertificate enrolled, directory->Enrol(token.text, "r", signing.csr_pem));
  // As it would be 20 days of 30 later.
  const absl::Time now = absl::Now();
  TlsIdentity due = Forge(security, enrolled.client_id, now - absl::Hours(24 * 21), now + absl::Hours(24 * 9));
  due.signing_key_pem = enrolled.signing_key_pem;
  const std::string identity = out.path() + "/device";
  ASSERT_THAT(WriteIdentity(identity, due), IsOk());

  ClientOptions mine = OptionsFor(server.address(), out.path(), {0});
  mine.connection.security_directory = identity;
  RunningClient device(std::move(mine)), others(OptionsFor(server.address(), out.path(), {1, 2, 3}));
  EXPECT_THAT(device.Wait(), IsOk());
  EXPECT_THAT(others.Wait(), IsOk());
  EXPECT_EQ(server.Wait().committed_rounds, 4);

  ASSERT_OK_AND_ASSIGN(TlsIdentity renewed, ReadClientIdentity(identity, absl::ZeroDuration()));
  EXPECT_NE(renewed.certificate_pem, due.certificate_pem);
  EXPECT_NE(renewed.key_pem, due.key_pem);
  EXPECT_EQ(renewed.signing_key_pem, enrolled.signing_key_pem);
  EXPECT_EQ(*IdentityName(renewed), enrolled.client_id);
  EXPECT_GT(*RenewalTime(renewed.certificate_pem), now + absl::Hours(24));
  ASSERT_OK_AND_ASSIGN(std::string text, ReadFile(out.path() + "/audit.log"));
  ASSERT_OK_AND_ASSIGN(std::vector<ChainEntry> lines, ReadHashChain(text, "audit.log"));
  int renewals = 0;
  for (const ChainEntry& line : lines) {
    EXPECT_THAT(line.payload, ::testing::Not(HasSubstr("\"refused\"")));
    renewals += line.payload.find("\"event\":\"renewed\"") != std::string::npos;
  }
  EXPECT_EQ(renewals, 1);
}

TEST(RenewalTest, ClientsTakeOverWhatTheCoordinatorRenewedInTheFolder) {
  Folder out;
  ServerOptions options = FederationOptions(out.path());
  const std::string security = options.security_directory;
  RunningServer server(std::move(options));
  const absl::Time now = absl::Now();
  // A folder of its own, so that the coordinator does not notice first.
  const std::string copy = out.path() + "/copy";
  ASSERT_THAT(WriteIdentity(copy, Forge(security, "local", now - absl::Hours(24 * 21), now + absl::Hours(24 * 9))), IsOk());
  ClientOptions mine = OptionsFor(server.address(), out.path(), {0});
  mine.connection.security_directory = copy;
  std::atomic<bool> renewed = false;
  mine.log = [&renewed](LogLevel, std::string_view message) {
    if (message == "certificate of 'local' renewed") renewed = true;
  };
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Client> client, Client::Create(std::move(mine)));
  ASSERT_OK_AND_ASSIGN(TlsIdentity local, ReadClientIdentity(security, absl::ZeroDuration()));
  ASSERT_THAT(WriteIdentity(copy, local), IsOk());
  RunningClient others(OptionsFor(server.address(), out.path(), {1, 2, 3}));
  EXPECT_THAT(client->Run({}), IsOk());
  EXPECT_TRUE(renewed);
  EXPECT_THAT(others.Wait(), IsOk());
  EXPECT_EQ(server.Wait().committed_rounds, 4);
}

// A coordinator that does not hold the pinned key gets no work from the client, whatever certificate it has.
TEST(SigningTest, AClientThatPinsAnotherKeyTrainsNothing) {
  Folder out;
  ServerOptions options = FederationOptions(out.path());
  options.engine.clients_per_round = kMembers;
  options.engine.quorum = 0.75;
  const std::string security = options.security_directory;
  RunningServer server(std::move(options));
  ASSERT_OK_AND_ASSIGN(TlsIdentity identity, ReadClientIdentity(security, absl::Seconds(5)));
  ASSERT_OK_AND_ASSIGN(SigningKey other, MakeSigningKey());
  identity.signing_key_pem = other.public_pem;
  const std::string wary = out.path() + "/wary";
  ASSERT_THAT(WriteIdentity(wary, identity), IsOk());
  ClientOptions mine = OptionsFor(server.address(), out.path(), {0});
  mine.connection.security_directory = wary;
  RunningClient refuses(std::move(mine)), others(OptionsFor(server.address(), out.path(), {1, 2, 3}));
  ASSERT_OK_AND_ASSIGN(ClientSummary summary, refuses.Wait());
  EXPECT_EQ(summary.accepted_count, 0);
  EXPECT_THAT(others.Wait(), IsOk());
  EXPECT_EQ(server.Wait().committed_rounds, 4);
  ASSERT_OK_AND_ASSIGN(RunRecord record, ReadRunRecord(out.path()));
  int told = 0;
  for (const AttemptRecord& attempt : record.attempts) {
    if (attempt.partition != 0) continue;
    EXPECT_NE(attempt.outcome, "completed");
    told += attempt.reason == "client_error";
  }
  EXPECT_GT(told, 0);
}

TEST(SigningTest, NumbersGrowOverRestartsOfTheCoordinator) {
  Folder out, state;
  for (int start = 0; start < 2; ++start) {
    ServerOptions options = FederationOptions(out.path() + "/" + std::to_string(start));
    options.security_directory = out.path() + "/security";
    RunningServer server(std::move(options));
    ClientOptions mine = OptionsFor(server.address(), out.path(), {0, 1, 2, 3});
    mine.state_directory = state.path();
    RunningClient client(std::move(mine));
    ASSERT_OK_AND_ASSIGN(ClientSummary summary, client.Wait());
    EXPECT_EQ(summary.accepted_count, 12);
    EXPECT_EQ(server.Wait().committed_rounds, 4);
  }
  // Once it knows of a newer one, what an older start signed is refused: here by a number from the future.
  for (int64_t partition = 0; partition < kMembers; ++partition) {
    const std::string path = absl::StrCat(state.path(), "/release-", partition);
    ASSERT_OK_AND_ASSIGN(std::string text, ReadFile(path));
    ASSERT_THAT(WriteFileAtomically(path, text.substr(0, 65) + std::to_string(int64_t{1} << 61) + "\n"), IsOk());
  }
  ServerOptions options = FederationOptions(out.path() + "/2");
  options.security_directory = out.path() + "/security";
  options.engine.deadline = absl::Seconds(3);
  options.engine.rounds = 1;
  std::stop_source stop;
  RunningServer server(std::move(options));
  std::atomic<int> rolled_back = 0;
  ClientOptions mine = OptionsFor(server.address(), out.path(), {0, 1, 2, 3});
  mine.state_directory = state.path();
  mine.log = [&](LogLevel, std::string_view message) {
    if (message.find("rolled back") != std::string_view::npos && ++rolled_back == 3) stop.request_stop();
  };
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Client> client, Client::Create(std::move(mine)));
  client->Run(stop.get_token()).IgnoreError();
  EXPECT_GE(rolled_back, 3);
}

}  // namespace
}  // namespace fedwatt::testing

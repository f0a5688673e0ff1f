// Who is let in, over real gRPC: everybody who should not be is refused with a reason and leaves one line in the audit log.
#include <future>

#include "fedwatt/base/file.h"
#include "fedwatt/base/hash_chain.h"
#include "grpcpp/generic/generic_stub.h"
#include "raw_client.h"
#include "tests/testing/forge_certificate.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A line of the audit log; "" for what it does not say.
struct Line {
  std::string payload;
  std::string operator[](std::string_view key) const {
    const std::string start = absl::StrCat("\"", std::string(key), "\":\"");
    const size_t at = payload.find(start);
    return at == std::string::npos ? "" : payload.substr(at + start.size(), payload.find('"', at + start.size()) - at - start.size());
  }
};

class IdentityTest : public ::testing::Test {
 protected:
  void SetUp() override {
    options_ = QuickOptions(out_.path(), 1);
    options_.insecure = false;
    options_.security_directory = Security();
    server_.emplace(std::move(options_));
    ASSERT_OK_AND_ASSIGN(local_, ReadClientIdentity(Security(), absl::Seconds(5)));
    anonymous_.ca_pem = local_.ca_pem;
  }
  std::string Security() const { return out_.path() + "/security"; }
  std::shared_ptr<grpc::Channel> Dial(const TlsIdentity& identity) { return *MakeChannel(server_->address(), ClientCredentials(identity)); }

  absl::Status CheckIn(const TlsIdentity& identity, const std::string& id = "me") { return CheckIn(Dial(identity), id); }
  absl::Status CheckIn(const std::shared_ptr<grpc::Channel>& channel, const std::string& id, std::string* session = nullptr) {
    grpc::ClientContext context;
    v1::CheckInRequest request;
    request.set_request_id(RandomId());
    request.set_client_id(id);
    request.set_partition_count(1);
    request.mutable_protocol()->set_min_version(1);
    request.mutable_protocol()->set_max_version(1);
    v1::CheckInResponse response;
    absl::Status status = FromGrpcStatus(v1::Coordinator::NewStub(channel)->CheckIn(&context, request, &response));
    if (session != nullptr) *session = response.accepted().session_id();
    return status;
  }
  absl::StatusOr<std::string> Token(const TlsIdentity& identity, v1::Role role = v1::ROLE_UNSPECIFIED, const std::string& request_id = RandomId()) {
    grpc::ClientContext context;
    v1::IssueTokenRequest request;
    request.set_request_id(request_id);
    request.set_role(role);
    v1::IssueTokenResponse response;
    absl::Status status = FromGrpcStatus(v1::Operator::NewStub(Dial(identity))->IssueToken(&context, request, &response));
    return status.ok() ? absl::StatusOr<std::string>(response.token()) : status;
  }
  struct Enrolled {
    std::string name;
    TlsIdentity identity;
  };
  absl::StatusOr<Enrolled> Enrol(const std::string& token, const TlsIdentity& as) {
    const SigningRequest signing = *MakeSigningRequest();
    v1::EnrolRequest request;
    request.set_request_id(RandomId());
    request.set_token(token);
    request.set_csr_pem(signing.csr_pem);
    v1::EnrolResponse response;
    grpc::ClientContext context;
    absl::Status status = FromGrpcStatus(v1::Coordinator::NewStub(Dial(as))->Enrol(&context, request, &response));
    if (!status.ok()) return status;
    return Enrolled{response.client_id(), {response.ca_pem(), response.certificate_chain_pem(), signing.key_pem}};
  }
  Enrolled MustEnrol(v1::Role role = v1::ROLE_UNSPECIFIED) {
    absl::StatusOr<std::string> token = Token(local_, role);
    EXPECT_THAT(token, IsOk());
    absl::StatusOr<Enrolled> enrolled = Enrol(token.value_or(""), anonymous_);
    EXPECT_THAT(enrolled, IsOk());
    return enrolled.value_or(Enrolled());
  }
  absl::Status Revoke(const std::string& name, const TlsIdentity& as) {
    grpc::ClientContext context;
    v1::RevokeRequest request;
    request.set_name(name);
    v1::RevokeResponse response;
    return FromGrpcStatus(v1::Operator::NewStub(Dial(as))->Revoke(&context, request, &response));
  }
  absl::Status Look(const TlsIdentity& identity) {
    grpc::ClientContext context;
    v1::GetStatusResponse response;
    return FromGrpcStatus(v1::Operator::NewStub(Dial(identity))->GetStatus(&context, {}, &response));
  }
  absl::Status StopRun(const TlsIdentity& identity) {
    grpc::ClientContext context;
    v1::StopRunRequest request;
    request.set_request_id(RandomId());
    v1::StopRunResponse response;
    return FromGrpcStatus(v1::Operator::NewStub(Dial(identity))->StopRun(&context, request, &response));
  }
  absl::StatusOr<TlsIdentity> Renew(const TlsIdentity& identity) {
    const SigningRequest signing = *MakeSigningRequest();
    grpc::ClientContext context;
    v1::RenewRequest request;
    request.set_csr_pem(signing.csr_pem);
    v1::RenewResponse response;
    absl::Status status = FromGrpcStatus(v1::Coordinator::NewStub(Dial(identity))->Renew(&context, request, &response));
    if (!status.ok()) return status;
    return TlsIdentity{identity.ca_pem, response.certificate_chain_pem(), signing.key_pem};
  }
  std::vector<Line> AuditLines() {
    std::vector<Line> lines;
    absl::StatusOr<std::vector<ChainEntry>> entries = ReadHashChain(ReadFile(out_.path() + "/audit.log").value_or(""), "audit.log");
    EXPECT_THAT(entries.status(), IsOk());
    for (const ChainEntry& entry : entries.value_or(std::vector<ChainEntry>())) lines.push_back({entry.payload});
    return lines;
  }
  // What was refused since `from`, as "reason method role".
  std::vector<std::string> Refused(size_t from = 0) {
    std::vector<std::string> refused;
    const std::vector<Line> lines = AuditLines();
    for (size_t i = from; i < lines.size(); ++i) {
      const Line& line = lines[i];
      if (line["event"] != "refused") continue;
      EXPECT_THAT(line["address"], HasSubstr("127.0.0.1"));
      refused.push_back(absl::StrCat(line["reason"], " ", line["method"], " ", line["role"]));
    }
    return refused;
  }

  Folder out_;
  ServerOptions options_;
  std::optional<RunningServer> server_;
  TlsIdentity local_, anonymous_;
};

TEST_F(IdentityTest, EveryWrongIdentityIsRefusedWithItsReasonAndOneLine) {
  const absl::Time now = absl::Now();
  const std::string name = "device-0123456789abcdef0123456789abcdef";
  ASSERT_OK_AND_ASSIGN(auto other, SecurityDirectory::CreateOrOpen(out_.path() + "/other", {}));
  ASSERT_OK_AND_ASSIGN(TlsIdentity stranger, ReadClientIdentity(other->path(), absl::ZeroDuration()));
  stranger.ca_pem = local_.ca_pem;
  const Enrolled device = MustEnrol(), revoked = MustEnrol(), reader = MustEnrol(v1::ROLE_READ_ONLY);
  const size_t before = AuditLines().size();
  const auto refused = [](std::string_view words) { return StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr(std::string(words))); };
  const auto denied = [](std::string_view words) { return StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr(std::string(words))); };

  EXPECT_THAT(CheckIn(anonymous_), refused("no client certificate"));
  EXPECT_THAT(CheckIn(stranger), refused("authority"));
  EXPECT_THAT(CheckIn(Forge(Security(), name, now - absl::Hours(48), now - absl::Hours(1))), refused("expired at"));
  EXPECT_THAT(CheckIn(Forge(Security(), name, now + absl::Hours(1), now + absl::Hours(48))), refused("not valid before"));
  EXPECT_THAT(CheckIn(Forge(Security(), "mallory", now - absl::Hours(1), now + absl::Hours(1))), refused("its name 'mallory'"));
  EXPECT_THAT(CheckIn(Forge(Security(), name, now - absl::Hours(1), now + absl::Hours(1), "serverAuth")), refused("not one for clients"));
  EXPECT_THAT(Revoke(revoked.name, local_), IsOk());
  EXPECT_THAT(CheckIn(revoked.identity, revoked.name), refused("revoked"));
  EXPECT_THAT(CheckIn(device.identity, "somebody else"), denied("the certificate is for"));
  EXPECT_THAT(CheckIn(reader.identity, reader.name), denied("needs role client"));
  EXPECT_THAT(StopRun(reader.identity), denied("needs role operator"));
  EXPECT_THAT(StopRun(device.identity), denied("needs role operator"));
  EXPECT_THAT(Look(device.identity), denied("needs role read_only"));
  EXPECT_THAT(Token(anonymous_).status(), refused("no client certificate"));
  EXPECT_THAT(Revoke(reader.name, device.identity), denied("role"));
  EXPECT_THAT(Renew(local_).status(), denied("enrolled"));
  EXPECT_THAT(Renew(revoked.identity).status(), refused("revoked"));
  ASSERT_OK_AND_ASSIGN(std::string token, Token(local_));
  EXPECT_THAT(Enrol(token, anonymous_), IsOk());
  EXPECT_THAT(Enrol(token, anonymous_).status(), denied("used already"));
  EXPECT_THAT(Enrol(std::string(32, '0'), anonymous_).status(), denied("unknown"));

  EXPECT_THAT(Refused(before),
              ElementsAre("no_certificate CheckIn anonymous", "unknown_authority CheckIn anonymous", "expired CheckIn client", "not_yet_valid CheckIn client",
                          "wrong_name CheckIn anonymous", "wrong_use CheckIn anonymous", "revoked CheckIn client", "wrong_client_id CheckIn client",
                          "role CheckIn read_only", "role StopRun read_only", "role StopRun client", "role GetStatus client",
                          "no_certificate IssueToken anonymous", "role Revoke client", "role Renew local", "revoked Renew client",
                          "token_used Enrol anonymous", "token_unknown Enrol anonymous"));
  // No line holds the secret of a token.
  EXPECT_THAT(ReadFile(out_.path() + "/audit.log").value_or(""), ::testing::Not(HasSubstr(token.substr(0, 32))));
}

// A service that forgets to ask the gate would be open to everybody.
TEST_F(IdentityTest, EveryMethodAsksTheGate) {
  grpc::GenericStub stub(Dial(anonymous_));
  std::vector<std::string> expected;
  for (const auto* service : {v1::EnrolRequest::descriptor()->file()->service(0), v1::IssueTokenRequest::descriptor()->file()->service(0)}) {
    for (int i = 0; i < service->method_count(); ++i) {
      const std::string& name = service->method(i)->name();
      grpc::ClientContext context;
      grpc::CompletionQueue queue;
      auto call = stub.PrepareCall(&context, absl::StrCat("/", service->full_name(), "/", name), &queue);
      const auto wait = [&] {
        void* tag = nullptr;
        bool ok = false;
        EXPECT_TRUE(queue.Next(&tag, &ok));
      };
      call->StartCall(nullptr);
      wait();
      const grpc::Slice nothing;
      call->WriteLast(grpc::ByteBuffer(&nothing, 1), grpc::WriteOptions(), nullptr);
      wait();
      grpc::Status status;
      call->Finish(&status, nullptr);
      wait();
      if (name == "Enrol") {
        EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << status.error_message();
      } else {
        EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAUTHENTICATED) << name << ": " << status.error_message();
        expected.push_back(absl::StrCat("no_certificate ", name, " anonymous"));
      }
    }
  }
  EXPECT_GE(expected.size(), 15u);
  EXPECT_THAT(Refused(), ::testing::ElementsAreArray(expected));
}

TEST_F(IdentityTest, RolesMayDoWhatTheyAreFor) {
  const Enrolled device = MustEnrol(v1::ROLE_CLIENT), reader = MustEnrol(v1::ROLE_READ_ONLY), boss = MustEnrol(v1::ROLE_OPERATOR);
  EXPECT_THAT(Look(reader.identity), IsOk());
  EXPECT_THAT(Look(boss.identity), IsOk());
  EXPECT_THAT(CheckIn(device.identity, device.name), IsOk());
  EXPECT_THAT(Token(boss.identity), IsOk());
  EXPECT_THAT(Revoke(device.name, boss.identity), IsOk());
  EXPECT_THAT(Token(local_, static_cast<v1::Role>(9)).status(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("role")));
  ASSERT_OK_AND_ASSIGN(std::string once, Token(local_, v1::ROLE_CLIENT, "same"));
  ASSERT_OK_AND_ASSIGN(std::string again, Token(local_, v1::ROLE_CLIENT, "same"));
  EXPECT_EQ(once, again);
  EXPECT_THAT(StopRun(boss.identity), IsOk());
  std::vector<std::string> actions;
  for (const Line& line : AuditLines()) {
    if (line["event"] != "refused" && line["role"] == "operator") actions.push_back(line["event"]);
  }
  EXPECT_THAT(actions, ElementsAre("token_issued", "revoked", "stop_asked"));
}

TEST_F(IdentityTest, RevocationHitsOpenConnectionsAndStreams) {
  const Enrolled device = MustEnrol();
  const std::shared_ptr<grpc::Channel> channel = Dial(device.identity);
  std::string session;
  ASSERT_THAT(CheckIn(channel, device.name, &session), IsOk());
  auto stub = v1::Coordinator::NewStub(channel);
  v1::WaitForWorkRequest wait;
  wait.set_session_id(session);
  v1::WaitForWorkResponse work;
  {
    grpc::ClientContext context;
    ASSERT_THAT(FromGrpcStatus(stub->WaitForWork(&context, wait, &work)), IsOk());
    ASSERT_TRUE(work.has_train());
  }
  // An upload that was let in and has not ended.
  grpc::ClientContext uploading;
  v1::UploadResponse uploaded;
  auto upload = stub->Upload(&uploading, &uploaded);
  const std::string container(300000, 'x');
  v1::UploadRequest message;
  message.mutable_header()->set_session_id(session);
  message.mutable_header()->set_attempt_id(work.train().attempt_id());
  message.mutable_header()->set_total_bytes(static_cast<int64_t>(container.size()));
  message.mutable_header()->set_sha256(Sha256(container).Raw());
  ASSERT_TRUE(upload->Write(message));
  const auto piece = [&](int64_t offset) {
    v1::UploadRequest chunk;
    FillChunk(container, offset, chunk.mutable_chunk());
    return chunk;
  };
  ASSERT_TRUE(upload->Write(piece(0)));
  {
    v1::QueryUploadRequest query;
    query.set_session_id(session);
    query.set_attempt_id(work.train().attempt_id());
    v1::QueryUploadResponse received;
    while (received.received_bytes() == 0) {
      grpc::ClientContext context;
      ASSERT_THAT(FromGrpcStatus(stub->QueryUpload(&context, query, &received)), IsOk());
    }
  }
  // In another process, by the folder alone.
  ASSERT_OK_AND_ASSIGN(auto directory, SecurityDirectory::CreateOrOpen(Security(), {}));
  ASSERT_THAT(directory->Revoke(device.name), IsOk());
  const absl::Time asked = absl::Now();
  absl::Status status;
  while (status.ok() && absl::Now() - asked < absl::Seconds(60)) {
    grpc::ClientContext context;
    v1::StillWantedRequest still;
    still.set_session_id(session);
    still.set_attempt_id(work.train().attempt_id());
    v1::StillWantedResponse wanted;
    status = FromGrpcStatus(stub->StillWanted(&context, still, &wanted));
  }
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("revoked")));
  RecordProperty("seconds", absl::StrCat(absl::ToDoubleSeconds(absl::Now() - asked)));
  upload->Write(piece(kChunkBytes));
  EXPECT_THAT(FromGrpcStatus(upload->Finish()), StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("revoked")));
  {
    grpc::ClientContext context;
    v1::ReportRequest report;
    v1::ReportResponse verdict;
    EXPECT_THAT(FromGrpcStatus(stub->Report(&context, report, &verdict)), StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("revoked")));
  }
  EXPECT_THAT(Refused(), AllOf(::testing::Contains("revoked StillWanted client"), ::testing::Contains("revoked Upload client"),
                               ::testing::Contains("revoked Report client")));
  const std::vector<Line> lines = AuditLines();
  EXPECT_TRUE(std::any_of(lines.begin(), lines.end(), [&](const Line& line) {
    return line["event"] == "revoked" && line["detail"].find(device.name) == 0;
  }));
}

TEST_F(IdentityTest, RenewalGivesANewKeyUnderTheOldName) {
  const Enrolled device = MustEnrol();
  ASSERT_OK_AND_ASSIGN(TlsIdentity next, Renew(device.identity));
  EXPECT_THAT(CheckIn(next, device.name), IsOk());
  EXPECT_THAT(CheckIn(device.identity, device.name), IsOk());  // until it expires
  ASSERT_OK_AND_ASSIGN(TlsIdentity third, Renew(next));
  EXPECT_EQ(*IdentityName(third), device.name);
  // The name is what is revoked, so no renewal outlives it.
  EXPECT_THAT(Revoke(device.name, local_), IsOk());
  for (const TlsIdentity& identity : {device.identity, next, third}) {
    EXPECT_THAT(CheckIn(identity, device.name), StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("revoked")));
  }
}

}  // namespace
}  // namespace fedwatt::testing

// Real handshakes between gRPC ends on loopback.
#include <unistd.h>

#include <filesystem>

#include "fedwatt/base/file.h"
#include "fedwatt/rpc/channel.h"
#include "fedwatt/rpc/gate.h"
#include "fedwatt/rpc/security.h"
#include "fedwatt/rpc/socket_byte_counter.h"
#include "fedwatt/rpc/status_conversion.h"
#include "fedwatt/v1/coordinator.grpc.pb.h"
#include "grpcpp/server.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

// Tells a caller who it is.
class MirrorService : public v1::Coordinator::Service {
 public:
  std::optional<Gate> gate;

 private:
  grpc::Status StillWanted(grpc::ServerContext* context, const v1::StillWantedRequest*, v1::StillWantedResponse*) override {
    const Caller caller = gate->Admit(*context, "StillWanted", Access::kClient);
    gate->Answered(caller, caller.verdict);
    if (!caller.verdict.ok()) return ToGrpcStatus(caller.verdict);
    return grpc::Status(grpc::StatusCode::ABORTED, std::string(RoleName(caller.peer.role)) + " " + caller.peer.name);
  }
  grpc::Status QueryUpload(grpc::ServerContext*, const v1::QueryUploadRequest*, v1::QueryUploadResponse* response) override {
    response->set_received_bytes(7);
    return grpc::Status::OK;
  }
  // 1 MiB in chunks.
  grpc::Status DownloadBlob(grpc::ServerContext*, const v1::DownloadBlobRequest*, grpc::ServerWriter<v1::DownloadBlobResponse>* writer) override {
    v1::DownloadBlobResponse response;
    response.mutable_chunk()->set_data(std::string(128 << 10, 'x'));
    for (int i = 0; i < 8; ++i) writer->Write(response);
    return grpc::Status::OK;
  }
};

class TlsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string base = ::testing::TempDir() + "fedwatt-tls-XXXXXX";
    ASSERT_NE(::mkdtemp(base.data()), nullptr);
    base_ = base;
    ASSERT_OK_AND_ASSIGN(directory_, SecurityDirectory::CreateOrOpen(base_ + "/security", {}));
    ASSERT_OK_AND_ASSIGN(audit_, AuditLog::Open(base_ + "/audit.log", &RealClock(), nullptr));
    service_.gate.emplace(directory_.get(), audit_.get(), &RealClock());
  }
  void TearDown() override {
    if (server_) server_->Shutdown(std::chrono::system_clock::now());
    std::filesystem::remove_all(base_);
  }
  void Serve(const std::shared_ptr<grpc::ServerCredentials>& credentials, const std::string& host = "127.0.0.1") {
    grpc::ServerBuilder builder;
    ApplyServerLimits(builder);
    builder.AddListeningPort(host + ":0", credentials, &port_);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    ASSERT_GT(port_, 0);
  }
  // "<role number> <name>", or the error.
  absl::Status WhoAmI(const std::string& host, const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
    absl::StatusOr<std::shared_ptr<grpc::Channel>> channel = MakeChannel(host + ":" + std::to_string(port_), credentials);
    if (!channel.ok()) return channel.status();
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
    v1::StillWantedResponse response;
    return FromGrpcStatus(v1::Coordinator::NewStub(*channel)->StillWanted(&context, {}, &response));
  }

  std::string base_;
  std::unique_ptr<SecurityDirectory> directory_;
  std::unique_ptr<AuditLog> audit_;
  MirrorService service_;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
};

TEST_F(TlsTest, RolesFollowCertificates) {
  Serve(directory_->ServerCredentials());
  ASSERT_OK_AND_ASSIGN(TlsIdentity local, ReadClientIdentity(directory_->path(), absl::ZeroDuration()));
  EXPECT_EQ(WhoAmI("127.0.0.1", ClientCredentials(local)), absl::AbortedError("local local"));
  EXPECT_EQ(WhoAmI("localhost", ClientCredentials(local)), absl::AbortedError("local local"));
  EXPECT_THAT(WhoAmI("127.0.0.1", ClientCredentials({local.ca_pem, "", ""})), StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("no client certificate")));

  ASSERT_OK_AND_ASSIGN(SigningRequest request, MakeSigningRequest());
  ASSERT_OK_AND_ASSIGN(std::string token, ReadFile(directory_->path() + "/enrolment_token"));
  ASSERT_OK_AND_ASSIGN(EnrolledCertificate device, directory_->Enrol(token, "r", request.csr_pem));
  EXPECT_EQ(WhoAmI("127.0.0.1", ClientCredentials({device.ca_pem, device.certificate_pem, request.key_pem})),
            absl::AbortedError("client " + device.client_id));
}

TEST_F(TlsTest, StrangersAreRefused) {
  Serve(directory_->ServerCredentials());
  ASSERT_OK_AND_ASSIGN(auto other, SecurityDirectory::CreateOrOpen(base_ + "/other", {}));
  ASSERT_OK_AND_ASSIGN(TlsIdentity stranger, ReadClientIdentity(other->path(), absl::ZeroDuration()));
  ASSERT_OK_AND_ASSIGN(TlsIdentity local, ReadClientIdentity(directory_->path(), absl::ZeroDuration()));
  EXPECT_EQ(WhoAmI("127.0.0.1", ClientCredentials(stranger)).code(), absl::StatusCode::kUnavailable);
  // Right CA to trust, wrong certificate to show.
  EXPECT_THAT(WhoAmI("127.0.0.1", ClientCredentials({directory_->server_identity().ca_pem, stranger.certificate_pem, stranger.key_pem})),
              StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("not signed by this coordinator's authority")));
  // Another's certificate without its key does not even get through the handshake.
  EXPECT_FALSE(WhoAmI("127.0.0.1", ClientCredentials({local.ca_pem, local.certificate_pem, stranger.key_pem})).ok());
  EXPECT_EQ(WhoAmI("127.0.0.1", InsecureClientCredentials()).code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(DiagnoseConnection("127.0.0.1:" + std::to_string(port_), &stranger, absl::Seconds(5)),
              StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("not of this federation")));
}

TEST_F(TlsTest, InsecureMustBeInsecureOnBothEnds) {
  service_.gate.emplace(nullptr, audit_.get(), &RealClock());
  Serve(InsecureServerCredentials());
  EXPECT_EQ(WhoAmI("127.0.0.1", InsecureClientCredentials()), absl::AbortedError("insecure "));
  ASSERT_OK_AND_ASSIGN(TlsIdentity local, ReadClientIdentity(directory_->path(), absl::ZeroDuration()));
  EXPECT_EQ(WhoAmI("127.0.0.1", ClientCredentials(local)).code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(DiagnoseConnection("127.0.0.1:" + std::to_string(port_), &local, absl::Seconds(5)),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("does not speak TLS")));
}

TEST_F(TlsTest, Ipv6Works) {
  if (!std::filesystem::exists("/proc/net/if_inet6")) GTEST_SKIP() << "no IPv6 here";
  grpc::ServerBuilder builder;
  builder.AddListeningPort("[::1]:0", directory_->ServerCredentials(), &port_);
  builder.RegisterService(&service_);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr || port_ == 0) GTEST_SKIP() << "::1 cannot be bound here";
  ASSERT_OK_AND_ASSIGN(TlsIdentity local, ReadClientIdentity(directory_->path(), absl::ZeroDuration()));
  EXPECT_EQ(WhoAmI("[::1]", ClientCredentials(local)), absl::AbortedError("local local"));
}

TEST_F(TlsTest, DiagnosisNamesWhatIsWrong) {
  Serve(directory_->ServerCredentials());
  ASSERT_OK_AND_ASSIGN(TlsIdentity local, ReadClientIdentity(directory_->path(), absl::ZeroDuration()));
  const std::string port = std::to_string(port_);
  EXPECT_THAT(DiagnoseConnection("127.0.0.1:" + port, &local, absl::Seconds(5)), IsOk());
  EXPECT_THAT(DiagnoseConnection("localhost:" + port, nullptr, absl::Seconds(5)), IsOk());
  // 127.0.0.2 reaches the same machine under a name that the certificate lacks.
  server_->Shutdown();
  Serve(directory_->ServerCredentials(), "0.0.0.0");
  EXPECT_THAT(DiagnoseConnection("127.0.0.2:" + std::to_string(port_), &local, absl::Seconds(5)),
              StatusIs(absl::StatusCode::kUnauthenticated, AllOf(HasSubstr("does not name '127.0.0.2'"), HasSubstr("127.0.0.1, "), HasSubstr("localhost"))));
  server_->Shutdown();
  server_.reset();
  EXPECT_THAT(DiagnoseConnection("127.0.0.1:" + std::to_string(port_), &local, absl::Seconds(5)),
              StatusIs(absl::StatusCode::kUnavailable, AllOf(HasSubstr("127.0.0.1 port"), HasSubstr("refused"))));
  EXPECT_THAT(DiagnoseConnection("no-such-host.invalid:1", nullptr, absl::Seconds(5)),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("has no address")));
}

TEST_F(TlsTest, TheTokenLeadsToTheCa) {
  Serve(directory_->ServerCredentials());
  ASSERT_OK_AND_ASSIGN(std::string text, ReadFile(directory_->path() + "/enrolment_token"));
  ASSERT_OK_AND_ASSIGN(TokenParts token, ParseToken(text));
  const std::string address = "127.0.0.1:" + std::to_string(port_);
  ASSERT_OK_AND_ASSIGN(std::string ca, FetchCa(address, token.ca_fingerprint, absl::Seconds(5)));
  EXPECT_EQ(ca, directory_->server_identity().ca_pem);
  EXPECT_THAT(FetchCa(address, std::string(32, '0'), absl::Seconds(5)), StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("another server")));
  EXPECT_THAT(FetchCa(address, "", absl::Seconds(5)), StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("")));
}

TEST_F(TlsTest, BytesOnTheWireAreCounted) {
  Serve(directory_->ServerCredentials());
  ASSERT_OK_AND_ASSIGN(TlsIdentity local, ReadClientIdentity(directory_->path(), absl::ZeroDuration()));
  ASSERT_OK_AND_ASSIGN(auto channel, MakeChannel("127.0.0.1:" + std::to_string(port_), ClientCredentials(local)));
  SocketByteCounter client = SocketByteCounter::ToPeerPort(port_);
  SocketByteCounter server = SocketByteCounter::OnLocalPort(port_);
  std::optional<WireBytes> start = client.Read();
  if (!start.has_value()) GTEST_SKIP() << "the kernel does not count";
  EXPECT_EQ(start->received, 0);
  auto stub = v1::Coordinator::NewStub(channel);
  auto download = [&] {
    grpc::ClientContext context;
    auto reader = stub->DownloadBlob(&context, {});
    v1::DownloadBlobResponse response;
    while (reader->Read(&response)) {
    }
    ASSERT_TRUE(reader->Finish().ok());
  };
  download();
  std::optional<WireBytes> first = client.Read();
  std::optional<WireBytes> served = server.Read();
  download();
  std::optional<WireBytes> second = client.Read();
  ASSERT_TRUE(first && second && served);
  if (first->received == 0) GTEST_SKIP() << "the kernel reports zeros";
  // 1 MiB of payload plus at most 3 % of TLS records, frames and acknowledgements; the first time a handshake as well.
  EXPECT_GT(first->received, 1 << 20);
  EXPECT_LT(first->received, (1 << 20) * 1.03 + 8192);
  EXPECT_GT(second->received - first->received, 1 << 20);
  EXPECT_LT(second->received - first->received, (1 << 20) * 1.03);
  EXPECT_GT(first->sent, 0);
  // What one end received the other had sent, and little more: a busy machine sends some segments twice, loopback or not.
  EXPECT_GE(served->sent, first->received);
  EXPECT_LT(served->sent, first->received * 1.1);
}

TEST(ParseAddressTest, AcceptsHostsAndBothFamilies) {
  ASSERT_OK_AND_ASSIGN(HostPort address, ParseAddress("[::1]:8443"));
  EXPECT_EQ(address.host, "::1");
  EXPECT_EQ(address.port, 8443);
  ASSERT_OK_AND_ASSIGN(address, ParseAddress("coordinator.example:1"));
  EXPECT_EQ(address.host, "coordinator.example");
  for (const char* bad : {"", "host", "host:", ":1", "host:70000", "host:-1", "host:x", "::1:80", "http://host:80", "[]:1"}) {
    EXPECT_THAT(ParseAddress(bad), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expected host:port"))) << bad;
  }
}

}  // namespace
}  // namespace fedwatt

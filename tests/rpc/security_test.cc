#include "fedwatt/rpc/security.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "absl/strings/str_split.h"
#include "fedwatt/base/digest.h"
#include "fedwatt/base/file.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::HasSubstr;

class SecurityTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string base = ::testing::TempDir() + "fedwatt-security-XXXXXX";
    ASSERT_NE(::mkdtemp(base.data()), nullptr);
    base_ = base;
    path_ = base + "/security";
  }
  void TearDown() override { std::filesystem::remove_all(base_); }

  static int Mode(const std::string& path) {
    struct stat info;
    return ::stat(path.c_str(), &info) == 0 ? static_cast<int>(info.st_mode & 07777) : -1;
  }
  std::string Token() {
    absl::StatusOr<std::string> text = ReadFile(path_ + "/enrolment_token");
    EXPECT_THAT(text, IsOk());
    return text.value_or("");
  }

  std::string base_, path_;
};

X509* Parse(const std::string& pem) {
  BIO* bio = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
  X509* certificate = PEM_read_bio_X509(bio, nullptr, nullptr, nullptr);
  BIO_free(bio);
  return certificate;
}

// Verification by OpenSSL itself, for a purpose.
bool Verifies(const std::string& pem, const std::string& ca_pem, int purpose) {
  X509* certificate = Parse(pem);
  X509* ca = Parse(ca_pem);
  X509_STORE* store = X509_STORE_new();
  X509_STORE_add_cert(store, ca);
  X509_STORE_CTX* context = X509_STORE_CTX_new();
  X509_STORE_CTX_init(context, store, certificate, nullptr);
  X509_STORE_CTX_set_purpose(context, purpose);
  const bool ok = X509_verify_cert(context) == 1;
  X509_STORE_CTX_free(context);
  X509_STORE_free(store);
  X509_free(ca);
  X509_free(certificate);
  return ok;
}

TEST_F(SecurityTest, FilesAndModes) {
  ASSERT_OK_AND_ASSIGN(auto directory, SecurityDirectory::CreateOrOpen(path_, {}));
  EXPECT_EQ(Mode(path_), 0700);
  for (const char* secret : {"ca.key.pem", "server.pem", "client.pem", "enrolment_token", "tokens"}) {
    EXPECT_EQ(Mode(path_ + "/" + secret), 0600) << secret;
  }
  EXPECT_NE(Mode(path_ + "/ready"), -1);
  // The token itself is kept in one place only.
  ASSERT_OK_AND_ASSIGN(std::string tokens, ReadFile(path_ + "/tokens"));
  EXPECT_THAT(tokens, ::testing::Not(HasSubstr(Token().substr(0, 32))));
}

TEST_F(SecurityTest, CertificatesVerifyForTheirUseAndNames) {
  ASSERT_OK_AND_ASSIGN(auto directory, SecurityDirectory::CreateOrOpen(path_, {"coordinator.example", "192.0.2.7"}));
  const TlsIdentity& server = directory->server_identity();
  EXPECT_TRUE(Verifies(server.certificate_pem, server.ca_pem, X509_PURPOSE_SSL_SERVER));
  EXPECT_FALSE(Verifies(server.certificate_pem, server.ca_pem, X509_PURPOSE_SSL_CLIENT));
  X509* certificate = Parse(server.certificate_pem);
  char host[256] = {};
  ASSERT_EQ(::gethostname(host, sizeof(host) - 1), 0);
  for (const char* name : {"localhost", "coordinator.example", static_cast<const char*>(host)}) {
    EXPECT_EQ(X509_check_host(certificate, name, 0, 0, nullptr), 1) << name;
  }
  for (const char* address : {"127.0.0.1", "::1", "192.0.2.7"}) EXPECT_EQ(X509_check_ip_asc(certificate, address, 0), 1) << address;
  EXPECT_EQ(X509_check_host(certificate, "other.example", 0, 0, nullptr), 0);
  EXPECT_EQ(X509_check_ip_asc(certificate, "192.0.2.8", 0), 0);
  X509_free(certificate);

  ASSERT_OK_AND_ASSIGN(TlsIdentity client, ReadClientIdentity(path_, absl::ZeroDuration()));
  EXPECT_TRUE(Verifies(client.certificate_pem, client.ca_pem, X509_PURPOSE_SSL_CLIENT));
  EXPECT_FALSE(Verifies(client.certificate_pem, client.ca_pem, X509_PURPOSE_SSL_SERVER));
}

TEST_F(SecurityTest, ReopeningKeepsIdentityAndTokenAndAddsNames) {
  ASSERT_OK_AND_ASSIGN(auto first, SecurityDirectory::CreateOrOpen(path_, {"a.example"}));
  const std::string token = Token();
  ASSERT_OK_AND_ASSIGN(auto second, SecurityDirectory::CreateOrOpen(path_, {}));
  EXPECT_EQ(second->server_identity().certificate_pem, first->server_identity().certificate_pem);
  EXPECT_EQ(Token(), token);
  ASSERT_OK_AND_ASSIGN(auto third, SecurityDirectory::CreateOrOpen(path_, {"b.example"}));
  EXPECT_THAT(third->server_names(), ::testing::IsSupersetOf({"a.example", "b.example", "localhost"}));
  EXPECT_EQ(third->server_identity().ca_pem, first->server_identity().ca_pem);
}

TEST_F(SecurityTest, ANameWithACommaIsOneName) {
  absl::StatusOr<std::unique_ptr<SecurityDirectory>> directory = SecurityDirectory::CreateOrOpen(path_, {"x.example,DNS:evil.example"});
  if (!directory.ok()) return;
  X509* certificate = Parse((*directory)->server_identity().certificate_pem);
  EXPECT_EQ(X509_check_host(certificate, "evil.example", 0, 0, nullptr), 0);
  X509_free(certificate);
}

TEST_F(SecurityTest, RenewsBeforeExpiry) {
  VirtualClock clock(absl::Now() - absl::Hours(24 * 300));
  ASSERT_OK_AND_ASSIGN(auto old, SecurityDirectory::CreateOrOpen(path_, {}, &clock));
  ASSERT_OK_AND_ASSIGN(auto renewed, SecurityDirectory::CreateOrOpen(path_, {}));
  EXPECT_NE(renewed->server_identity().certificate_pem, old->server_identity().certificate_pem);
  EXPECT_EQ(renewed->server_identity().ca_pem, old->server_identity().ca_pem);
}

TEST_F(SecurityTest, TokenEnrolsOneDevice) {
  ASSERT_OK_AND_ASSIGN(auto directory, SecurityDirectory::CreateOrOpen(path_, {}));
  ASSERT_OK_AND_ASSIGN(SigningRequest request, MakeSigningRequest());
  ASSERT_OK_AND_ASSIGN(SigningRequest other, MakeSigningRequest());
  const std::string token = Token();
  ASSERT_OK_AND_ASSIGN(EnrolledCertificate enrolled, directory->Enrol(token, "r1", request.csr_pem));
  EXPECT_THAT(enrolled.client_id, ::testing::MatchesRegex("device-[0-9a-f]{32}"));
  EXPECT_TRUE(Verifies(enrolled.certificate_pem, enrolled.ca_pem, X509_PURPOSE_SSL_CLIENT));
  // A lost answer is given again, after a restart too; nobody else gets one.
  ASSERT_OK_AND_ASSIGN(auto restarted, SecurityDirectory::CreateOrOpen(path_, {}));
  ASSERT_OK_AND_ASSIGN(EnrolledCertificate again, restarted->Enrol(token, "r1", request.csr_pem));
  EXPECT_EQ(again.certificate_pem, enrolled.certificate_pem);
  EXPECT_EQ(again.client_id, enrolled.client_id);
  EXPECT_THAT(restarted->Enrol(token, "r2", request.csr_pem), StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("used already")));
  EXPECT_THAT(restarted->Enrol(token, "r1", other.csr_pem), StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("used already")));
  // The next start left a fresh token.
  EXPECT_NE(Token(), token);
  EXPECT_THAT(restarted->Enrol(Token(), "r3", other.csr_pem), IsOk());

  // The identity can be stored and read like a security directory.
  const std::string identity_path = base_ + "/identity";
  ASSERT_THAT(WriteIdentity(identity_path, {enrolled.ca_pem, enrolled.certificate_pem, request.key_pem}), IsOk());
  EXPECT_EQ(Mode(identity_path + "/client.pem"), 0600);
  EXPECT_THAT(ReadClientIdentity(identity_path, absl::ZeroDuration()), IsOk());
  EXPECT_THAT(WriteIdentity(base_ + "/wrong", {enrolled.ca_pem, enrolled.certificate_pem, other.key_pem}),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("does not belong")));
}

TEST_F(SecurityTest, TokensExpireAndAreChecked) {
  VirtualClock clock(absl::Now());
  ASSERT_OK_AND_ASSIGN(auto directory, SecurityDirectory::CreateOrOpen(path_, {}, &clock));
  ASSERT_OK_AND_ASSIGN(SigningRequest request, MakeSigningRequest());
  ASSERT_OK_AND_ASSIGN(EnrolmentToken token, directory->IssueToken(absl::Hours(1)));
  clock.Advance(absl::Hours(1));
  EXPECT_THAT(directory->Enrol(token.text, "r", request.csr_pem), StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("expired")));
  for (const char* bad : {"", "short", "0123456789abcdef0123456789abcdeg", "0123456789abcdef0123456789abcdef",
                          "0123456789abcdef0123456789abcdef.0123456789abcdef0123456789abcdef"}) {
    EXPECT_THAT(directory->Enrol(bad, "r", request.csr_pem), StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("token"))) << bad;
  }
  EXPECT_FALSE(directory->IssueToken(absl::ZeroDuration()).ok());
  EXPECT_FALSE(directory->IssueToken(-absl::Hours(1)).ok());
  EXPECT_FALSE(directory->IssueToken(absl::InfiniteDuration()).ok());
  EXPECT_THAT(directory->IssueToken(absl::Hours(24 * 30)), IsOk());
}

TEST_F(SecurityTest, HostileRequestsDoNotSpendTheToken) {
  ASSERT_OK_AND_ASSIGN(auto directory, SecurityDirectory::CreateOrOpen(path_, {}));
  ASSERT_OK_AND_ASSIGN(SigningRequest request, MakeSigningRequest());
  std::string forged = request.csr_pem;
  // One base64 digit inside the signature.
  char& digit = forged[forged.size() - 60];
  digit = digit == 'A' ? 'B' : 'A';
  for (const std::string& csr : {std::string(), std::string("garbage"), forged, std::string(100000, 'A'), request.key_pem}) {
    EXPECT_THAT(directory->Enrol(Token(), "r", csr), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("signing request")));
  }
  EXPECT_THAT(directory->Enrol(Token(), "r", request.csr_pem), IsOk());
}

TEST_F(SecurityTest, ManyCreatorsMakeOne) {
  // Processes, because the lock is between processes.
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    pid_t child = ::fork();
    if (child == 0) {
      const bool client = i % 2 == 1;
      const bool ok = client ? ReadClientIdentity(path_, absl::Seconds(20)).ok() : SecurityDirectory::CreateOrOpen(path_, {}).ok();
      ::_exit(ok ? 0 : 1);
    }
    children.push_back(child);
  }
  for (pid_t child : children) {
    int state = 0;
    ::waitpid(child, &state, 0);
    EXPECT_EQ(state, 0);
  }
  ASSERT_OK_AND_ASSIGN(auto directory, SecurityDirectory::CreateOrOpen(path_, {}));
  EXPECT_TRUE(Verifies(directory->server_identity().certificate_pem, directory->server_identity().ca_pem, X509_PURPOSE_SSL_SERVER));
}

TEST_F(SecurityTest, AnInterruptedStartIsDoneAgain) {
  ASSERT_OK_AND_ASSIGN(auto directory, SecurityDirectory::CreateOrOpen(path_, {}));
  std::filesystem::remove(path_ + "/ready");
  EXPECT_THAT(ReadClientIdentity(path_, absl::Milliseconds(100)), StatusIs(absl::StatusCode::kNotFound, HasSubstr("fedwatt enrol")));
  ASSERT_OK_AND_ASSIGN(auto again, SecurityDirectory::CreateOrOpen(path_, {}));
  ASSERT_OK_AND_ASSIGN(TlsIdentity client, ReadClientIdentity(path_, absl::ZeroDuration()));
  EXPECT_TRUE(Verifies(client.certificate_pem, again->server_identity().ca_pem, X509_PURPOSE_SSL_CLIENT));
}

TEST_F(SecurityTest, DamageIsNamed) {
  ASSERT_OK_AND_ASSIGN(auto directory, SecurityDirectory::CreateOrOpen(path_, {}));
  ASSERT_THAT(WriteFileAtomically(path_ + "/ca.key.pem", "garbage"), IsOk());
  EXPECT_THAT(SecurityDirectory::CreateOrOpen(path_, {}), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("ca.key.pem")));
}

TEST_F(SecurityTest, ServerAndLocalAreRenewedWhileRunning) {
  VirtualClock clock(absl::Now());
  ASSERT_OK_AND_ASSIGN(auto directory, SecurityDirectory::CreateOrOpen(path_, {"a.example"}, &clock, absl::Hours(30)));
  const auto bytes = [&](const char* name) { return ReadFile(path_ + "/" + name).value_or(""); };
  const std::string server = bytes("server.pem"), local = bytes("client.pem"), ca = bytes("ca.crt.pem");
  clock.Advance(absl::Hours(19));
  ASSERT_THAT(directory->Maintain().status(), IsOk());
  EXPECT_EQ(bytes("server.pem"), server);
  clock.Advance(absl::Hours(2));
  ASSERT_THAT(directory->Maintain().status(), IsOk());
  EXPECT_NE(bytes("server.pem"), server);
  EXPECT_NE(bytes("client.pem"), local);
  EXPECT_EQ(bytes("ca.crt.pem"), ca);
  EXPECT_EQ(Mode(path_ + "/server.pem"), 0600);
  X509* certificate = Parse(bytes("server.pem"));
  EXPECT_EQ(X509_check_host(certificate, "a.example", 0, 0, nullptr), 1);
  X509_free(certificate);
  EXPECT_FALSE(SecurityDirectory::CreateOrOpen(path_, {}, &clock, absl::ZeroDuration()).ok());
  EXPECT_FALSE(SecurityDirectory::CreateOrOpen(path_, {}, &clock, absl::InfiniteDuration()).ok());
}

TEST_F(SecurityTest, RolesStandInTheTokenAndTheName) {
  ASSERT_OK_AND_ASSIGN(auto directory, SecurityDirectory::CreateOrOpen(path_, {}));
  ASSERT_OK_AND_ASSIGN(SigningRequest request, MakeSigningRequest());
  const std::pair<Peer::Role, std::string> roles[] = {
      {Peer::Role::kDevice, "device-"}, {Peer::Role::kOperator, "operator-"}, {Peer::Role::kReadOnly, "reader-"}};
  for (const auto& [role, prefix] : roles) {
    ASSERT_OK_AND_ASSIGN(EnrolmentToken token, directory->IssueToken(absl::Hours(1), role));
    ASSERT_OK_AND_ASSIGN(EnrolledCertificate enrolled, directory->Enrol(token.text, "r", request.csr_pem));
    EXPECT_THAT(enrolled.client_id, ::testing::StartsWith(prefix));
    ASSERT_OK_AND_ASSIGN(Peer peer, directory->Judge(enrolled.certificate_pem));
    EXPECT_EQ(peer.role, role);
    EXPECT_EQ(peer.name, enrolled.client_id);
  }
  EXPECT_FALSE(directory->IssueToken(absl::Hours(1), Peer::Role::kLocal).ok());
  // Files of before roles were there hold client tokens.
  ASSERT_OK_AND_ASSIGN(std::string tokens, ReadFile(path_ + "/tokens"));
  const std::string secret(32, 'a');
  ASSERT_THAT(WriteFileAtomically(path_ + "/tokens", tokens + Sha256(secret).Hex() + " 99999999999\n", 0600), IsOk());
  ASSERT_OK_AND_ASSIGN(EnrolledCertificate old, directory->Enrol(secret, "r", request.csr_pem));
  EXPECT_THAT(old.client_id, ::testing::StartsWith("device-"));
  ASSERT_THAT(WriteFileAtomically(path_ + "/tokens", std::string(64, '0') + " 1 king\n", 0600), IsOk());
  EXPECT_THAT(directory->Enrol(secret, "r", request.csr_pem), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("tokens: line 1")));
}

TEST_F(SecurityTest, RevocationIsForGoodAndSeenByOthers) {
  ASSERT_OK_AND_ASSIGN(auto directory, SecurityDirectory::CreateOrOpen(path_, {}));
  ASSERT_OK_AND_ASSIGN(SigningRequest request, MakeSigningRequest());
  ASSERT_OK_AND_ASSIGN(EnrolledCertificate enrolled, directory->Enrol(Token(), "r", request.csr_pem));
  ASSERT_OK_AND_ASSIGN(auto other, SecurityDirectory::CreateOrOpen(path_, {}));
  EXPECT_FALSE(directory->IsRevoked(enrolled.client_id));
  for (const char* unknown : {"local", "device-0", "../ca.crt", "device-00000000000000000000000000000000", ""}) {
    EXPECT_THAT(other->Revoke(unknown), StatusIs(absl::StatusCode::kNotFound, HasSubstr("nothing was enrolled"))) << unknown;
  }
  ASSERT_THAT(other->Revoke(enrolled.client_id), IsOk());
  ASSERT_THAT(other->Revoke(enrolled.client_id), IsOk());
  ASSERT_OK_AND_ASSIGN(std::vector<std::string> news, directory->Maintain());
  EXPECT_THAT(news, ::testing::ElementsAre(enrolled.client_id));
  EXPECT_TRUE(directory->IsRevoked(enrolled.client_id));
  ASSERT_OK_AND_ASSIGN(news, directory->Maintain());
  EXPECT_THAT(news, ::testing::IsEmpty());
  // Damage is named, and lets nobody back in.
  ASSERT_THAT(WriteFileAtomically(path_ + "/revoked", "nonsense\n", 0600), IsOk());
  EXPECT_THAT(directory->Maintain().status(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("revoked: line 1")));
  EXPECT_TRUE(directory->IsRevoked(enrolled.client_id));
  EXPECT_THAT(SecurityDirectory::CreateOrOpen(path_, {}), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("revoked")));
}

TEST_F(SecurityTest, RenewalKeepsTheName) {
  ASSERT_OK_AND_ASSIGN(auto directory, SecurityDirectory::CreateOrOpen(path_, {}));
  ASSERT_OK_AND_ASSIGN(SigningRequest first, MakeSigningRequest());
  ASSERT_OK_AND_ASSIGN(SigningRequest second, MakeSigningRequest());
  ASSERT_OK_AND_ASSIGN(EnrolledCertificate enrolled, directory->Enrol(Token(), "r", first.csr_pem));
  ASSERT_OK_AND_ASSIGN(EnrolledCertificate renewed, directory->Renew(enrolled.client_id, second.csr_pem));
  EXPECT_EQ(renewed.client_id, enrolled.client_id);
  EXPECT_THAT(WriteIdentity(base_ + "/identity", {renewed.ca_pem, renewed.certificate_pem, second.key_pem}), IsOk());
  EXPECT_FALSE(directory->Renew("local", second.csr_pem).ok());
  EXPECT_FALSE(directory->Renew("device-00000000000000000000000000000000", second.csr_pem).ok());
  EXPECT_FALSE(directory->Renew(enrolled.client_id, "garbage").ok());
  ASSERT_OK_AND_ASSIGN(absl::Time due, RenewalTime(renewed.certificate_pem));
  EXPECT_LT(absl::AbsDuration(due - (absl::Now() + kCertificateLifetime * 2 / 3)), absl::Hours(1));
}

}  // namespace
}  // namespace fedwatt

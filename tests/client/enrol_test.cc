#include "fedwatt/client/enrol.h"

#include <filesystem>

#include "fake_coordinator.h"
#include "fedwatt/base/file.h"
#include "fedwatt/client/client.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::HasSubstr;

class EnrolTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string base = ::testing::TempDir() + "fedwatt-enrol-XXXXXX";
    ASSERT_NE(::mkdtemp(base.data()), nullptr);
    base_ = base;
    ASSERT_OK_AND_ASSIGN(directory_, SecurityDirectory::CreateOrOpen(base_ + "/security", {}));
    fake_.security = directory_.get();
    ASSERT_TRUE(fake_.Start(directory_->ServerCredentials()));
  }
  void TearDown() override {
    fake_.Stop();
    std::filesystem::remove_all(base_);
  }
  std::string Token() { return ReadFile(base_ + "/security/enrolment_token").value_or(""); }
  ClientOptions Options(const std::string& directory) {
    ExampleStore store;
    store.input_shape = {1};
    store.inputs = std::vector<float>(1, 0.5f);
    store.labels = {0};
    store.output_count = 1;
    ClientOptions options;
    options.connection = {fake_.address(), "the test", directory};
    options.connection.security_wait = absl::Milliseconds(100);
    options.partitions = {{0, *Dataset::Create(std::move(store))}};
    options.trainer_factory = [](const ArchitectureSpec&) { return absl::UnimplementedError("never trains"); };
    options.meter = "none";
    return options;
  }

  std::string base_;
  std::unique_ptr<SecurityDirectory> directory_;
  testing::FakeCoordinator fake_;
};

TEST_F(EnrolTest, TokenBecomesAnIdentityThatWorks) {
  fake_.rounds = 0;
  ASSERT_OK_AND_ASSIGN(std::string id, EnrolIdentity({fake_.address(), Token(), base_ + "/device", "phone"}));
  ASSERT_OK_AND_ASSIGN(auto client, Client::Create(Options(base_ + "/device")));
  EXPECT_EQ(client->client_id(), id);
  ASSERT_OK_AND_ASSIGN(ClientSummary summary, client->Run({}));
  EXPECT_EQ(summary.reason, "all rounds done");
  EXPECT_EQ(fake_.seen().check_ins[0].client_id(), id);
  EXPECT_THAT(EnrolIdentity({fake_.address(), Token(), base_ + "/device"}), StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("device")));
  EXPECT_THAT(EnrolIdentity({fake_.address(), Token(), base_ + "/second"}), StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("used already")));
}

TEST_F(EnrolTest, SameDirectoryJustWorks) {
  fake_.rounds = 0;
  ASSERT_OK_AND_ASSIGN(auto client, Client::Create(Options(base_ + "/security")));
  EXPECT_THAT(client->Run({}), IsOk());
}

TEST_F(EnrolTest, TokenOfAnotherServerIsRefusedBeforeAnythingIsSent) {
  ASSERT_OK_AND_ASSIGN(auto other, SecurityDirectory::CreateOrOpen(base_ + "/other", {}));
  ASSERT_OK_AND_ASSIGN(EnrolmentToken token, other->IssueToken(absl::Hours(1)));
  EXPECT_THAT(EnrolIdentity({fake_.address(), token.text, base_ + "/device"}), StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr("another server")));
  EXPECT_THAT(EnrolIdentity({fake_.address(), "nonsense", base_ + "/device"}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("token")));
  EXPECT_FALSE(std::filesystem::exists(base_ + "/device"));
}

TEST_F(EnrolTest, ForeignIdentityStopsAtOnceWithWords) {
  ASSERT_OK_AND_ASSIGN(auto other, SecurityDirectory::CreateOrOpen(base_ + "/other", {}));
  ASSERT_OK_AND_ASSIGN(auto client, Client::Create(Options(base_ + "/other")));
  EXPECT_THAT(client->Run({}), StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("not of this federation")));
}

TEST_F(EnrolTest, NoIdentitySaysWhatToDo) {
  EXPECT_THAT(Client::Create(Options(base_ + "/nowhere")), StatusIs(absl::StatusCode::kNotFound, HasSubstr("fedwatt enrol")));
}

}  // namespace
}  // namespace fedwatt

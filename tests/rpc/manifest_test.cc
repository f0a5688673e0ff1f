#include "fedwatt/rpc/manifest.h"

#include "fedwatt/rpc/security.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::HasSubstr;

v1::Plan SomePlan() {
  v1::Plan plan;
  plan.set_run_id("run");
  plan.mutable_architecture()->set_name("mlp_2nn");
  (*plan.mutable_architecture()->mutable_options())["a"] = "1";
  (*plan.mutable_architecture()->mutable_options())["b"] = "2";
  plan.mutable_recipe()->set_client_learning_rate(0.05);
  plan.set_uplink_codec("int8");
  return plan;
}

TEST(ManifestTest, TheBytesAreFixed) {
  EXPECT_EQ(ManifestBytes(0x0102, Sha256("p"), Sha256("m")), std::string("fedwatt manifest 1\0\2\1\0\0\0\0\0\0", 27) + Sha256("p").Raw() + Sha256("m").Raw());
}

TEST(ManifestTest, AnythingElseThanWhatWasSignedIsRefused) {
  ASSERT_OK_AND_ASSIGN(SigningKey key, MakeSigningKey());
  ASSERT_OK_AND_ASSIGN(SigningKey other, MakeSigningKey());
  ASSERT_OK_AND_ASSIGN(auto signer, ManifestSigner::Create(key.private_pem, 7));
  const v1::Plan plan = SomePlan();
  v1::TrainAssignment assignment;
  assignment.set_round(3);
  assignment.set_model_digest(Sha256("model").Raw());
  ASSERT_THAT(signer->Sign(plan, &assignment), IsOk());
  const v1::ManifestSignature good = assignment.manifest();
  EXPECT_EQ(good.release_number(), (int64_t{7} << 24) + 3);
  EXPECT_EQ(good.signature().size(), 64u);
  EXPECT_THAT(VerifyManifest(key.public_pem, plan, assignment.model_digest(), good), IsOk());

  const auto refused = StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("manifest"));
  EXPECT_THAT(VerifyManifest(key.public_pem, plan, assignment.model_digest(), {}), StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("not signed")));
  EXPECT_THAT(VerifyManifest(other.public_pem, plan, assignment.model_digest(), good), refused);
  EXPECT_THAT(VerifyManifest(key.public_pem, plan, Sha256("another").Raw(), good), refused);
  EXPECT_THAT(VerifyManifest(key.public_pem, plan, "short", good), refused);
  for (int i = 0; i < 4; ++i) {
    v1::Plan changed = plan;
    if (i == 0) changed.set_run_id("rum");
    if (i == 1) changed.mutable_recipe()->set_client_learning_rate(0.051);
    if (i == 2) (*changed.mutable_architecture()->mutable_options())["b"] = "3";
    if (i == 3) changed.mutable_architecture()->set_archive_digest(std::string(32, 'x'));
    EXPECT_THAT(VerifyManifest(key.public_pem, changed, assignment.model_digest(), good), refused) << i;
  }
  v1::ManifestSignature wrong = good;
  wrong.set_release_number(good.release_number() + 1);
  EXPECT_THAT(VerifyManifest(key.public_pem, plan, assignment.model_digest(), wrong), refused);
  for (size_t i = 0; i < 64; ++i) {
    wrong = good;
    (*wrong.mutable_signature())[i] ^= 1;
    EXPECT_THAT(VerifyManifest(key.public_pem, plan, assignment.model_digest(), wrong), refused) << i;
  }
  for (size_t size : {1, 63, 65, 100000}) {
    wrong.set_signature(std::string(size, 'x'));
    EXPECT_THAT(VerifyManifest(key.public_pem, plan, assignment.model_digest(), wrong), refused) << size;
  }
}

TEST(ManifestTest, NumbersNeverFall) {
  ASSERT_OK_AND_ASSIGN(SigningKey key, MakeSigningKey());
  ASSERT_OK_AND_ASSIGN(auto signer, ManifestSigner::Create(key.private_pem, 1));
  int64_t last = 0;
  for (int64_t round : {int64_t{1}, int64_t{5}, int64_t{4}, int64_t{1} << 40}) {
    v1::EvaluateAssignment assignment;
    assignment.set_round(round);
    assignment.set_model_digest(std::string(32, 'm'));
    ASSERT_THAT(signer->Sign(SomePlan(), &assignment), IsOk());
    EXPECT_GE(assignment.manifest().release_number(), last);
    last = assignment.manifest().release_number();
  }
  EXPECT_LT(last, int64_t{2} << 24);
}

TEST(ManifestTest, OtherKeysAreNamed) {
  ASSERT_OK_AND_ASSIGN(SigningRequest ec, MakeSigningRequest());
  EXPECT_THAT(ManifestSigner::Create(ec.key_pem, 1).status(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("Ed25519")));
  EXPECT_FALSE(ManifestSigner::Create("", 1).ok());
  ASSERT_OK_AND_ASSIGN(SigningKey key, MakeSigningKey());
  EXPECT_FALSE(ManifestSigner::Create(key.private_pem, 0).ok());
  EXPECT_FALSE(ManifestSigner::Create(key.private_pem, int64_t{1} << 40).ok());
  for (const std::string& bad : {std::string(), std::string("garbage"), key.private_pem, ec.csr_pem}) {
    EXPECT_THAT(VerifyManifest(bad, SomePlan(), std::string(32, 'm'), {}), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("pinned")));
  }
}

}  // namespace
}  // namespace fedwatt

#include "client/release_guard.h"

#include <unistd.h>

#include <filesystem>

#include "fedwatt/base/file.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt::internal {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::HasSubstr;

class ReleaseGuardTest : public ::testing::Test {
 protected:
  ReleaseGuardTest() : key_(*MakeSigningKey()), path_(::testing::TempDir() + "fedwatt-release-" + std::to_string(::getpid())) { plan_.set_run_id("run"); }
  ~ReleaseGuardTest() override { std::filesystem::remove(path_); }

  v1::TrainAssignment Signed(int64_t epoch, int64_t round) {
    v1::TrainAssignment assignment;
    assignment.set_round(round);
    assignment.set_model_digest(std::string(32, 'm'));
    auto signer = *ManifestSigner::Create(key_.private_pem, epoch);
    EXPECT_THAT(signer->Sign(plan_, &assignment), IsOk());
    return assignment;
  }

  const SigningKey key_;
  const std::string path_;
  v1::Plan plan_;
};

TEST_F(ReleaseGuardTest, TakesTheSameAndNewerOnes) {
  ReleaseGuard guard(key_.public_pem, path_);
  for (auto [epoch, round] : {std::pair(5, 1), std::pair(5, 1), std::pair(5, 2), std::pair(6, 1), std::pair(6, 9)}) {
    EXPECT_THAT(guard.Check(plan_, Signed(epoch, round)), IsOk()) << epoch << " " << round;
  }
}

TEST_F(ReleaseGuardTest, RefusesWhatIsOlderAfterARestartToo) {
  const auto rolled_back = StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("rolled back"));
  {
    ReleaseGuard guard(key_.public_pem, path_);
    EXPECT_THAT(guard.Check(plan_, Signed(5, 3)), IsOk());
    EXPECT_THAT(guard.Check(plan_, Signed(5, 2)), rolled_back);
    EXPECT_THAT(guard.Check(plan_, Signed(4, 1000)), rolled_back);
  }
  ReleaseGuard again(key_.public_pem, path_);
  EXPECT_THAT(again.Check(plan_, Signed(5, 2)), rolled_back);
  EXPECT_THAT(again.Check(plan_, Signed(5, 3)), IsOk());
  ReleaseGuard forgetful(key_.public_pem, "");
  EXPECT_THAT(forgetful.Check(plan_, Signed(5, 2)), IsOk());
}

TEST_F(ReleaseGuardTest, ForgedNumbersMoveNothing) {
  ReleaseGuard guard(key_.public_pem, path_);
  v1::TrainAssignment forged = Signed(5, 3);
  forged.mutable_manifest()->set_release_number(int64_t{1} << 61);
  EXPECT_THAT(guard.Check(plan_, forged), StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("signature")));
  EXPECT_THAT(guard.Check(plan_, v1::TrainAssignment()), StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("not signed")));
  EXPECT_THAT(guard.Check(plan_, Signed(5, 3)), IsOk());
}

TEST_F(ReleaseGuardTest, WithoutAPinnedKeyNothingIsTaken) {
  ReleaseGuard guard("", path_);
  EXPECT_THAT(guard.Check(plan_, Signed(5, 3)), StatusIs(absl::StatusCode::kUnauthenticated, HasSubstr("enrol anew")));
}

TEST_F(ReleaseGuardTest, NumbersOfAnotherKeyMeanNothingAndDamageIsNamed) {
  EXPECT_THAT(ReleaseGuard(key_.public_pem, path_).Check(plan_, Signed(900, 1)), IsOk());
  const SigningKey other = *MakeSigningKey();
  v1::TrainAssignment assignment = Signed(1, 1);
  ASSERT_THAT((*ManifestSigner::Create(other.private_pem, 1))->Sign(plan_, &assignment), IsOk());
  EXPECT_THAT(ReleaseGuard(other.public_pem, path_).Check(plan_, assignment), IsOk());
  for (const std::string& bad : {std::string("x"), std::string(64, '0') + " -1", std::string(64, '0') + " 1 2", std::string(5000, '0')}) {
    ASSERT_THAT(WriteFileAtomically(path_, bad), IsOk());
    EXPECT_FALSE(ReleaseGuard(key_.public_pem, path_).Check(plan_, Signed(900, 2)).ok()) << bad;
  }
}

}  // namespace
}  // namespace fedwatt::internal

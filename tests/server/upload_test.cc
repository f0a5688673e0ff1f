#include "upload.h"

#include "fedwatt/base/file.h"
#include "gmock/gmock.h"
#include "tests/server/raw_client.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt::internal {
namespace {

using ::fedwatt::testing::Folder;
using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::HasSubstr;

constexpr int64_t kMax = 1000;

int64_t Crc(std::string_view data) { return static_cast<int64_t>(Crc32c(data)); }

class UploadTest : public ::testing::Test {
 protected:
  Folder folder_;
  Upload upload_{folder_.path() + "/a.part", kMax};
  const std::string data_ = "0123456789";
  const std::string digest_ = Sha256(data_).Raw();
};

TEST_F(UploadTest, CollectsPiecesInOrder) {
  ASSERT_OK_AND_ASSIGN(int64_t stream, upload_.Open(10, digest_, 0));
  ASSERT_THAT(upload_.Append(stream, 0, "0123", Crc("0123")), IsOk());
  EXPECT_FALSE(upload_.whole());
  EXPECT_THAT(upload_.Append(stream, 3, "3", Crc("3")), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("expected 4")));
  EXPECT_THAT(upload_.Append(stream, 5, "5", Crc("5")), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("expected 4")));
  ASSERT_THAT(upload_.Append(stream, 4, "456789", Crc("456789")), IsOk());
  EXPECT_TRUE(upload_.whole());
  EXPECT_EQ(upload_.digest().Raw(), digest_);
  EXPECT_EQ(*ReadFile(upload_.path()), data_);
}

TEST_F(UploadTest, BoundsWhatIsAnnounced) {
  EXPECT_THAT(upload_.Open(0, digest_, 0), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at least 1")));
  EXPECT_THAT(upload_.Open(-1, digest_, 0), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at least 1")));
  EXPECT_EQ(RejectionOf(upload_.Open(kMax + 1, digest_, 0).status()), Rejection::kOversize);
  EXPECT_EQ(RejectionOf(upload_.Open(std::numeric_limits<int64_t>::max(), digest_, 0).status()), Rejection::kOversize);
  EXPECT_THAT(upload_.Open(10, "short", 0), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("32")));
  EXPECT_FALSE(std::filesystem::exists(upload_.path()));
  EXPECT_THAT(upload_.Open(kMax, digest_, 0), IsOk());
}

TEST_F(UploadTest, AWrongWholeIsForgottenAndMayComeAgain) {
  ASSERT_OK_AND_ASSIGN(int64_t stream, upload_.Open(10, digest_, 0));
  absl::Status wrong = upload_.Append(stream, 0, "0123456780", Crc("0123456780"));
  EXPECT_THAT(wrong, StatusIs(absl::StatusCode::kDataLoss, HasSubstr("SHA-256")));
  EXPECT_EQ(RejectionOf(wrong), Rejection::kDigestMismatch);
  EXPECT_EQ(upload_.received_bytes(), 0);
  EXPECT_EQ(upload_.damage_count(), 1);
  ASSERT_THAT(upload_.Append(stream, 0, data_, Crc(data_)), IsOk());
  EXPECT_TRUE(upload_.whole());
}

TEST_F(UploadTest, NothingOfADamagedPieceIsKept) {
  ASSERT_OK_AND_ASSIGN(int64_t stream, upload_.Open(10, digest_, 0));
  EXPECT_THAT(upload_.Append(stream, 0, "0123", Crc("0123") + 1), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("CRC32C")));
  EXPECT_EQ(upload_.received_bytes(), 0);
  EXPECT_THAT(upload_.Append(stream, 0, "", 0), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("0 bytes")));
}

TEST_F(UploadTest, ANewerStreamTakesOver) {
  ASSERT_OK_AND_ASSIGN(int64_t old, upload_.Open(10, digest_, 0));
  ASSERT_THAT(upload_.Append(old, 0, "0123", Crc("0123")), IsOk());
  ASSERT_OK_AND_ASSIGN(int64_t stream, upload_.Open(10, digest_, 4));
  EXPECT_THAT(upload_.Append(old, 4, "4", Crc("4")), StatusIs(absl::StatusCode::kAborted, HasSubstr("newer")));
  EXPECT_THAT(upload_.Append(stream, 4, "456789", Crc("456789")), IsOk());
  EXPECT_TRUE(upload_.whole());
}

TEST_F(UploadTest, AClosedOneTakesNothing) {
  ASSERT_OK_AND_ASSIGN(int64_t stream, upload_.Open(10, digest_, 0));
  upload_.Close(Rejection::kLate);
  upload_.Close(Rejection::kNotNeeded);
  absl::Status status = upload_.Append(stream, 0, data_, Crc(data_));
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(RejectionOf(status), Rejection::kLate);
  EXPECT_EQ(RejectionOf(upload_.Open(10, digest_, 0).status()), Rejection::kLate);
}

TEST(UploadFileTest, GoesWithTheObject) {
  Folder folder;
  const std::string path = folder.path() + "/a.part";
  {
    Upload upload(path, kMax);
    ASSERT_THAT(upload.Open(10, Sha256("x").Raw(), 0), IsOk());
    EXPECT_TRUE(std::filesystem::exists(path));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

}  // namespace
}  // namespace fedwatt::internal

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
  Upload upload_{folder_.path(), "a", kMax};
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

TEST(UploadFileTest, GoesWithTheObjectUnlessItIsKept) {
  Folder folder;
  for (const bool keep : {false, true}) {
    std::string path;
    {
      Upload upload(folder.path(), "r1-p0-abc", kMax);
      ASSERT_THAT(upload.Open(10, Sha256("x").Raw(), 0), IsOk());
      path = upload.path();
      EXPECT_EQ(path, folder.path() + "/r1-p0-abc.10." + Sha256("x").Hex() + ".part");
      EXPECT_EQ(Upload::NameIn(std::filesystem::path(path).filename().string()), "r1-p0-abc");
      EXPECT_TRUE(std::filesystem::exists(path));
      if (keep) upload.Keep();
    }
    EXPECT_EQ(std::filesystem::exists(path), keep);
  }
  EXPECT_EQ(Upload::NameIn("other"), "");
}

// As a process that was killed leaves it.
std::string Leave(const std::string& folder, const std::string& data, const std::string& announced) {
  const std::string name = absl::StrCat("a.10.", Sha256(announced).Hex(), ".part");
  EXPECT_THAT(WriteFileAtomically(folder + "/" + name, data), IsOk());
  return name;
}

TEST(UploadFileTest, GoesOnWhereAnEarlierProcessWasKilled) {
  Folder folder;
  const std::string data = "0123456789";
  Upload upload(folder.path(), "a", kMax);
  upload.Resume(Leave(folder.path(), "01234", data));
  EXPECT_EQ(upload.received_bytes(), 5);
  EXPECT_EQ(upload.announced_digest(), Sha256(data));
  ASSERT_OK_AND_ASSIGN(int64_t stream, upload.Open(10, Sha256(data).Raw(), 5));
  ASSERT_THAT(upload.Append(stream, 5, "56789", Crc("56789")), IsOk());
  EXPECT_TRUE(upload.whole());
  EXPECT_EQ(*ReadFile(upload.path()), data);
}

TEST(UploadFileTest, WhatWasWholeIsWholeAgainAndWhatWasDamagedIsForgotten) {
  Folder folder;
  const std::string data = "0123456789";
  {
    Upload upload(folder.path(), "a", kMax);
    upload.Resume(Leave(folder.path(), data, data));
    EXPECT_TRUE(upload.whole());
  }
  {
    // As after a loss of power: the length is there, the bytes are not.
    Upload upload(folder.path(), "a", kMax);
    upload.Resume(Leave(folder.path(), std::string(10, '\0'), data));
    EXPECT_FALSE(upload.whole());
    EXPECT_EQ(upload.received_bytes(), 0);
    ASSERT_OK_AND_ASSIGN(int64_t stream, upload.Open(10, Sha256(data).Raw(), 0));
    ASSERT_THAT(upload.Append(stream, 0, data, Crc(data)), IsOk());
    EXPECT_TRUE(upload.whole());
  }
  for (const char* name : {"a.0.00.part", "a.x.y.part", "a.2000.00.part", "other"}) {
    Upload upload(folder.path(), "a", kMax);
    upload.Resume(name);
    EXPECT_EQ(upload.received_bytes(), 0);
    EXPECT_EQ(upload.announced_digest(), std::nullopt) << name;
  }
}

}  // namespace
}  // namespace fedwatt::internal

#include "fedwatt/rpc/chunks.h"

#include <set>

#include "fedwatt/base/digest.h"
#include "fedwatt/model/rejection.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::HasSubstr;

std::string Pattern(size_t size) {
  std::string data(size, '\0');
  for (size_t i = 0; i < size; ++i) data[i] = static_cast<char>(i * 31 + i / 251);
  return data;
}

TEST(ChunksTest, CutAndJoinAnyLength) {
  for (int64_t size : {int64_t{1}, kChunkBytes - 1, kChunkBytes, kChunkBytes + 1, 3 * kChunkBytes + 7}) {
    const std::string data = Pattern(static_cast<size_t>(size));
    BlobAssembler assembler(Sha256(data), size);
    int chunks = 0;
    while (!assembler.complete()) {
      v1::Chunk chunk;
      FillChunk(data, assembler.received_bytes(), &chunk);
      ASSERT_THAT(assembler.Add(chunk), IsOk());
      ++chunks;
    }
    EXPECT_EQ(chunks, (size + kChunkBytes - 1) / kChunkBytes);
    ASSERT_OK_AND_ASSIGN(std::string joined, std::move(assembler).Finish());
    EXPECT_EQ(joined, data);
  }
}

TEST(ChunksTest, KeepsNothingOfARefusedPiece) {
  const std::string data = Pattern(1000);
  BlobAssembler assembler(Sha256(data), 1000);
  v1::Chunk good;
  FillChunk(data, 0, &good);

  v1::Chunk bad = good;
  (*bad.mutable_data())[500] ^= 1;
  absl::Status status = assembler.Add(bad);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kDataLoss, HasSubstr("CRC32C")));
  EXPECT_EQ(RejectionOf(status), Rejection::kGarbage);

  bad = good;
  bad.set_offset_bytes(1);
  EXPECT_THAT(assembler.Add(bad), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("starts at 1, expected 0")));
  bad = good;
  bad.clear_data();
  EXPECT_THAT(assembler.Add(bad), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("0 bytes")));
  bad.set_data(std::string(kChunkBytes + 1, 'x'));
  EXPECT_THAT(assembler.Add(bad), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expected [1, ")));
  bad.set_data(std::string(1001, 'x'));
  status = assembler.Add(bad);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("1001 of 1000")));
  EXPECT_EQ(RejectionOf(status), Rejection::kOversize);

  EXPECT_EQ(assembler.received_bytes(), 0);
  EXPECT_THAT(assembler.Add(good), IsOk());
  EXPECT_TRUE(assembler.complete());
}

TEST(ChunksTest, NegativeCrcIsNotAWrappedOne) {
  v1::Chunk chunk;
  FillChunk("x", 0, &chunk);
  chunk.set_crc32c(chunk.crc32c() - (int64_t{1} << 32));
  EXPECT_THAT(CheckChunk(chunk, 0, 1), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("")));
}

TEST(ChunksTest, RefusesTheWrongWhole) {
  v1::Chunk chunk;
  FillChunk("abc", 0, &chunk);
  BlobAssembler other(Sha256("abd"), 3);
  ASSERT_THAT(other.Add(chunk), IsOk());
  absl::Status status = std::move(other).Finish().status();
  EXPECT_EQ(RejectionOf(status), Rejection::kDigestMismatch);
  BlobAssembler incomplete(Sha256("abcd"), 4);
  ASSERT_THAT(incomplete.Add(chunk), IsOk());
  EXPECT_THAT(std::move(incomplete).Finish(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("3 of 4")));
}

TEST(ChunksTest, RandomIdsDiffer) {
  std::set<std::string> ids;
  for (int i = 0; i < 1000; ++i) ids.insert(RandomId());
  EXPECT_EQ(ids.size(), 1000u);
  EXPECT_EQ(ids.begin()->size(), 32u);
}

}  // namespace
}  // namespace fedwatt

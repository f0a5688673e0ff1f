#include "fedwatt/base/digest.h"

#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::StatusIs;
using ::testing::_;

TEST(Crc32cTest, AgreesWithKnownVectors) {
  EXPECT_EQ(Crc32c(""), 0u);
  EXPECT_EQ(Crc32c("123456789"), 0xe3069283u);
  // RFC 3720, section B.4.
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  std::string ascending;
  for (int i = 0; i < 32; ++i) ascending += static_cast<char>(i);
  EXPECT_EQ(Crc32c(ascending), 0x46dd794eu);
}

TEST(Crc32cTest, ContinuesAtEverySplit) {
  const std::string text = "the quick brown fox jumps over the lazy dog";
  for (size_t split = 0; split <= text.size(); ++split) {
    EXPECT_EQ(Crc32c(text.substr(split), Crc32c(text.substr(0, split))), Crc32c(text)) << split;
  }
}

// Bit by bit from the polynomial, at lengths around those where lanes are read side by side.
TEST(Crc32cTest, AgreesWithItsDefinitionAtEveryLength) {
  std::string bytes;
  uint32_t state = 1, expected = 0xffffffffu;
  for (size_t size = 1; size <= 9'300; ++size) {
    state = state * 1664525u + 1013904223u;
    bytes.push_back(static_cast<char>(state >> 24));
    expected ^= state >> 24;
    for (int bit = 0; bit < 8; ++bit) expected = expected >> 1 ^ (expected & 1 ? 0x82f63b78u : 0u);
    if (size % 3072 < 20 || size % 97 == 0) {
      ASSERT_EQ(Crc32c(bytes), ~expected) << size;
    }
  }
  EXPECT_EQ(Crc32c(std::string_view(bytes).substr(5'000), Crc32c(std::string_view(bytes).substr(0, 5'000))), Crc32c(bytes));
}

TEST(Crc32cTest, SeesEveryFlippedBit) {
  std::string text = "fedwatt";
  const uint32_t good = Crc32c(text);
  for (size_t bit = 0; bit < text.size() * 8; ++bit) {
    text[bit / 8] ^= static_cast<char>(1 << (bit % 8));
    EXPECT_NE(Crc32c(text), good) << bit;
    text[bit / 8] ^= static_cast<char>(1 << (bit % 8));
  }
}

TEST(Sha256Test, AgreesWithKnownVectors) {
  EXPECT_EQ(Sha256("").Hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Sha256("abc").Hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Sha256Test, StreamsTheSame) {
  Sha256Stream stream;
  stream.Update("a");
  stream.Update("");
  stream.Update("bc");
  EXPECT_EQ(stream.Finish(), Sha256("abc"));
}

TEST(DigestTest, RoundTripsThroughHexAndRaw) {
  const Digest digest = Sha256("abc");
  EXPECT_EQ(*Digest::FromHex(digest.Hex()), digest);
  EXPECT_EQ(*Digest::FromRaw(digest.Raw()), digest);
}

TEST(DigestTest, RefusesWhatIsNoDigest) {
  const std::string hex = Sha256("abc").Hex();
  EXPECT_THAT(Digest::FromHex(hex.substr(1)), StatusIs(absl::StatusCode::kInvalidArgument, _));
  EXPECT_THAT(Digest::FromHex(hex + "0"), StatusIs(absl::StatusCode::kInvalidArgument, _));
  EXPECT_THAT(Digest::FromHex(std::string(64, 'g')), StatusIs(absl::StatusCode::kInvalidArgument, _));
  EXPECT_THAT(Digest::FromRaw("short"), StatusIs(absl::StatusCode::kInvalidArgument, _));
}

}  // namespace
}  // namespace fedwatt

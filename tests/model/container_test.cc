#include "fedwatt/model/container.h"

#include <cstring>

#include "fedwatt/base/random.h"
#include "fedwatt/model/rejection.h"
#include "tests/golden/golden.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::Golden;
using ::fedwatt::testing::GoldenLayout;
using ::fedwatt::testing::GoldenModel;
using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::_;
using ::testing::HasSubstr;

constexpr int64_t kAnySize = 1 << 20;

std::string Payload() {
  const std::vector<float> values = GoldenModel();
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
}
ContainerHeader ModelHeader() { return {ContainerKind::kModel, "float32", GoldenLayout().digest(), GoldenLayout()}; }
ContainerHeader UpdateHeader() { return {ContainerKind::kUpdate, "float32", GoldenLayout().digest(), {}}; }

// Makes both checksums right again, so that a test reaches what lies behind them.
std::string Reseal(std::string bytes) {
  uint32_t header_bytes;
  std::memcpy(&header_bytes, bytes.data() + 8, 4);
  const uint32_t header_crc = Crc32c(std::string_view(bytes).substr(0, header_bytes - 4));
  std::memcpy(bytes.data() + header_bytes - 4, &header_crc, 4);
  const uint32_t payload_crc = Crc32c(std::string_view(bytes).substr(header_bytes, bytes.size() - header_bytes - 4));
  std::memcpy(bytes.data() + bytes.size() - 4, &payload_crc, 4);
  return bytes;
}

absl::StatusCode CodeOf(std::string_view bytes) { return ParseContainer(bytes, kAnySize).status().code(); }
std::optional<Rejection> ReasonOf(std::string_view bytes) { return RejectionOf(ParseContainer(bytes, kAnySize).status()); }

TEST(ContainerTest, BytesArePinned) {
  EXPECT_EQ(WriteContainer(ModelHeader(), Payload()), Golden("container_model.hex"));
  EXPECT_EQ(WriteContainer(UpdateHeader(), Payload()), Golden("container_update.hex"));
}

TEST(ContainerTest, ReadsTheGoldenFiles) {
  const std::string model = Golden("container_model.hex");
  ASSERT_OK_AND_ASSIGN(ContainerView view, ParseContainer(model, kAnySize));
  EXPECT_EQ(view.header.kind, ContainerKind::kModel);
  EXPECT_EQ(view.header.codec, "float32");
  EXPECT_EQ(view.header.layout, GoldenLayout());
  EXPECT_EQ(view.header.layout_digest, GoldenLayout().digest());
  EXPECT_EQ(view.payload, Payload());
  // A view, not a copy.
  EXPECT_GE(view.payload.data(), model.data());
  EXPECT_LE(view.payload.data() + view.payload.size(), model.data() + model.size());

  const std::string update = Golden("container_update.hex");
  ASSERT_OK_AND_ASSIGN(view, ParseContainer(update, kAnySize));
  EXPECT_EQ(view.header.kind, ContainerKind::kUpdate);
  EXPECT_EQ(view.header.layout_digest, GoldenLayout().digest());
  EXPECT_EQ(view.header.layout.value_count(), 0);
  EXPECT_EQ(view.payload, Payload());
}

TEST(ContainerTest, CarriesEmptyPayloadsAndLongCodecs) {
  ContainerHeader header = UpdateHeader();
  header.codec = std::string(1024, '~');
  const std::string bytes = WriteContainer(header, "");
  ASSERT_OK_AND_ASSIGN(ContainerView view, ParseContainer(bytes, kAnySize));
  EXPECT_EQ(view.header.codec, header.codec);
  EXPECT_EQ(view.payload, "");
}

TEST(ContainerTest, EveryTruncationIsNamedSo) {
  for (const char* name : {"container_model.hex", "container_update.hex"}) {
    const std::string bytes = Golden(name);
    for (size_t size = 0; size < bytes.size(); ++size) {
      const absl::Status status = ParseContainer(std::string_view(bytes).substr(0, size), kAnySize).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << size;
      EXPECT_EQ(RejectionOf(status), Rejection::kTruncated) << size;
    }
  }
}

TEST(ContainerTest, EveryFlippedBitIsSeen) {
  for (const char* name : {"container_model.hex", "container_update.hex"}) {
    std::string bytes = Golden(name);
    for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
      bytes[bit / 8] ^= static_cast<char>(1 << (bit % 8));
      const absl::Status status = ParseContainer(bytes, kAnySize).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << bit;
      // A header length that grew beyond the bytes looks like a truncation; all else is garbage.
      const bool in_header_length = bit / 8 >= 8 && bit / 8 < 12;
      EXPECT_TRUE(RejectionOf(status) == Rejection::kGarbage || (in_header_length && RejectionOf(status) == Rejection::kTruncated)) << bit;
      bytes[bit / 8] ^= static_cast<char>(1 << (bit % 8));
    }
  }
}

TEST(ContainerTest, RefusesGarbageAndTrailingBytes) {
  EXPECT_EQ(ReasonOf("GET / HTTP/1.1\r\n\r\n and some more bytes"), Rejection::kGarbage);
  EXPECT_EQ(ReasonOf("P"), Rejection::kGarbage);
  EXPECT_THAT(ParseContainer(Golden("container_update.hex") + "x", kAnySize),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("1 trailing bytes")));
  EXPECT_EQ(ReasonOf(Golden("container_update.hex") + "x"), Rejection::kGarbage);
  Random random(1);
  for (int i = 0; i < 2000; ++i) {
    std::string bytes(random.Below(200), '\0');
    for (char& c : bytes) c = static_cast<char>(random.Next());
    EXPECT_THAT(ParseContainer(bytes, kAnySize), ::testing::Not(IsOk()));
    // With a plausible prefix, random bytes come further.
    if (bytes.size() > 24) std::memcpy(bytes.data(), "\x89" "FWT\x01\x00\x02\x00", 8);
    EXPECT_THAT(ParseContainer(bytes, kAnySize), ::testing::Not(IsOk()));
  }
}

TEST(ContainerTest, BoundsTheWholeSize) {
  const std::string bytes = Golden("container_update.hex");
  EXPECT_THAT(ParseContainer(bytes, static_cast<int64_t>(bytes.size())), IsOk());
  const absl::Status status = ParseContainer(bytes, static_cast<int64_t>(bytes.size()) - 1).status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("at most")));
  EXPECT_EQ(RejectionOf(status), Rejection::kOversize);
  EXPECT_THAT(ParseContainer("", -1), StatusIs(absl::StatusCode::kResourceExhausted, _));
}

TEST(ContainerTest, RefusesUnknownVersionsAndKindsBehindGoodChecksums) {
  std::string bytes = Golden("container_update.hex");
  ASSERT_EQ(Reseal(bytes), bytes);
  for (auto [offset, value] : {std::pair(4, 2), std::pair(4, 0), std::pair(6, 0), std::pair(6, 4), std::pair(7, 1)}) {
    std::string changed = bytes;
    changed[offset] = static_cast<char>(value);
    EXPECT_EQ(CodeOf(Reseal(changed)), absl::StatusCode::kInvalidArgument) << offset << " " << value;
    EXPECT_EQ(ReasonOf(Reseal(changed)), Rejection::kGarbage);
  }
  // An update that claims to be a model has no layout to read.
  bytes[6] = 1;
  EXPECT_EQ(ReasonOf(Reseal(bytes)), Rejection::kGarbage);
}

TEST(ContainerTest, RefusesBadLengthsBehindGoodChecksums) {
  const std::string good = Golden("container_update.hex");
  for (uint64_t length : {uint64_t{0}, uint64_t{39}, uint64_t{41}, UINT64_MAX, UINT64_MAX - 3}) {
    std::string bytes = good;
    std::memcpy(bytes.data() + 12, &length, 8);
    EXPECT_EQ(ReasonOf(Reseal(bytes)), length < 40 ? Rejection::kGarbage : Rejection::kTruncated) << length;
  }
  for (uint32_t length : {0u, 19u, 23u}) {
    std::string bytes = good;
    std::memcpy(bytes.data() + 8, &length, 4);
    EXPECT_EQ(ReasonOf(bytes), Rejection::kGarbage) << length;
  }
}

TEST(ContainerTest, RefusesBadCodecSpellings) {
  for (char bad : {'\0', ' ', '\n', '\x7f', '\x80'}) {
    std::string bytes = Golden("container_update.hex");
    bytes[54] = bad;
    EXPECT_THAT(ParseContainer(Reseal(bytes), kAnySize), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("codec"))) << int{bad};
  }
  for (uint16_t length : {uint16_t{0}, uint16_t{6}, uint16_t{8}, uint16_t{65535}}) {
    std::string bytes = Golden("container_update.hex");
    std::memcpy(bytes.data() + 52, &length, 2);
    EXPECT_EQ(ReasonOf(Reseal(bytes)), Rejection::kGarbage) << length;
  }
}

TEST(ContainerTest, RefusesBadLayoutsBehindGoodChecksums) {
  const std::string good = Golden("container_model.hex");
  ASSERT_EQ(Reseal(good), good);
  // The digest names another layout than the entries.
  std::string bytes = good;
  bytes[20] ^= 1;
  EXPECT_THAT(ParseContainer(Reseal(bytes), kAnySize), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("digest")));
  // Entry count and first name length, at offsets 61 and 65: a few billion must not be allocated.
  for (size_t offset : {size_t{61}, size_t{65}}) {
    for (uint32_t value : {0u, 1u, 3u, 5u, 1000u, UINT32_MAX}) {
      bytes = good;
      std::memcpy(bytes.data() + offset, &value, 4);
      EXPECT_EQ(ReasonOf(Reseal(bytes)), Rejection::kGarbage) << offset << " " << value;
    }
  }
  // Every single byte of the header's fields changed, checksum made right: refused, never a crash. The codec may change its letters.
  for (size_t i = 20; i + 44 + 4 < good.size(); ++i) {
    if (i >= 54 && i < 61) continue;
    bytes = good;
    bytes[i] = static_cast<char>(~bytes[i]);
    EXPECT_EQ(ReasonOf(Reseal(bytes)), Rejection::kGarbage) << i;
  }
}

}  // namespace
}  // namespace fedwatt

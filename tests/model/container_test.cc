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

// Where an update's fields begin, behind a length of one byte, and a model's, behind one of two.
constexpr size_t kUpdateFields = 7, kModelFields = 8;

// Makes the checksum right again, so that a test reaches what lies behind it.
std::string Reseal(std::string bytes) {
  const uint32_t crc = Crc32c(std::string_view(bytes).substr(0, bytes.size() - 4));
  std::memcpy(bytes.data() + bytes.size() - 4, &crc, 4);
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
  EXPECT_TRUE(view.IsFor(GoldenLayout().digest()) && view.IsBy("float32"));
  EXPECT_FALSE(view.IsFor(Sha256("another")) || view.IsBy("float3"));
  EXPECT_EQ(view.payload, Payload());
  // A view, not a copy.
  EXPECT_GE(view.payload.data(), model.data());
  EXPECT_LE(view.payload.data() + view.payload.size(), model.data() + model.size());

  const std::string update = Golden("container_update.hex");
  ASSERT_OK_AND_ASSIGN(view, ParseContainer(update, kAnySize));
  EXPECT_EQ(view.header.kind, ContainerKind::kUpdate);
  EXPECT_TRUE(view.IsFor(GoldenLayout().digest()) && view.IsBy("float32"));
  EXPECT_FALSE(view.IsFor(Sha256("another")) || view.IsBy("float3") || view.IsBy(""));
  EXPECT_EQ(view.header.layout.value_count(), 0);
  EXPECT_EQ(view.payload, Payload());
}

TEST(ContainerTest, CarriesEmptyPayloadsAndLongCodecs) {
  for (ContainerHeader header : {ModelHeader(), UpdateHeader()}) {
    header.codec = std::string(1024, '~');
    const std::string bytes = WriteContainer(header, "");
    ASSERT_OK_AND_ASSIGN(ContainerView view, ParseContainer(bytes, kAnySize));
    EXPECT_TRUE(view.IsBy(header.codec));
    EXPECT_EQ(view.payload, "");
  }
}

TEST(ContainerTest, TellsThePayloadsSizeFromTheWholes) {
  // Around the sizes at which the length takes another byte: 2^7 and 2^14, six of them the tags'.
  for (size_t size : {0, 1, 40, 120, 121, 122, 123, 1000, 16376, 16377, 16378, 16379, 100'000}) {
    EXPECT_EQ(PayloadBytes(static_cast<int64_t>(WriteContainer(UpdateHeader(), std::string(size, 'x')).size())), static_cast<int64_t>(size));
  }
  for (int64_t size : {-1, 0, 16, 17}) EXPECT_EQ(PayloadBytes(size), 0) << size;
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
      // A length that grew beyond the bytes looks like a truncation; all else is garbage.
      const bool in_length = bit / 8 == 6 || bit / 8 == 7;
      EXPECT_TRUE(RejectionOf(status) == Rejection::kGarbage || (in_length && RejectionOf(status) == Rejection::kTruncated)) << bit;
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
    if (bytes.size() > 24) std::memcpy(bytes.data(), "\x89" "FWT\x02\x02", 6);
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
  for (auto [offset, value] : {std::pair(4, 1), std::pair(4, 0), std::pair(5, 0), std::pair(5, 4)}) {
    std::string changed = bytes;
    changed[offset] = static_cast<char>(value);
    EXPECT_EQ(CodeOf(Reseal(changed)), absl::StatusCode::kInvalidArgument) << offset << " " << value;
    EXPECT_EQ(ReasonOf(Reseal(changed)), Rejection::kGarbage);
  }
  // An update that claims to be a model has no layout to read.
  bytes[5] = 1;
  EXPECT_EQ(ReasonOf(Reseal(bytes)), Rejection::kGarbage);
}

TEST(ContainerTest, RefusesBadLengthsBehindGoodChecksums) {
  const std::string good = Golden("container_update.hex");
  const auto with = [&good](std::string_view length) { return Reseal(good.substr(0, 6) + std::string(length) + good.substr(7)); };
  ASSERT_EQ(with("\x2e"), good);
  for (std::string_view length : {std::string_view("\0", 1), std::string_view("\x2d")}) EXPECT_EQ(ReasonOf(with(length)), Rejection::kGarbage);
  for (std::string_view length : {"\x2f", "\x7f", "\xff\x7f", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"}) EXPECT_EQ(ReasonOf(with(length)), Rejection::kTruncated);
  // Not the shortest spelling, and one beyond 64 bits.
  EXPECT_EQ(ReasonOf(with(std::string_view("\xae\0", 2))), Rejection::kGarbage);
  EXPECT_EQ(ReasonOf(with("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02")), Rejection::kGarbage);
  // No room for the tags.
  for (size_t size = 0; size < 6; ++size) {
    EXPECT_EQ(ReasonOf(Reseal(good.substr(0, 6) + static_cast<char>(size) + std::string(size + 4, 'x'))), Rejection::kGarbage) << size;
  }
}

TEST(ContainerTest, RefusesBadCodecSpellings) {
  for (char bad : {'\0', ' ', '\n', '\x7f', '\x80'}) {
    std::string bytes = Golden("container_model.hex");
    bytes[kModelFields + 34] = bad;
    EXPECT_THAT(ParseContainer(Reseal(bytes), kAnySize), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("codec"))) << int{bad};
  }
  for (uint16_t length : {uint16_t{0}, uint16_t{6}, uint16_t{8}, uint16_t{65535}}) {
    std::string bytes = Golden("container_model.hex");
    std::memcpy(bytes.data() + kModelFields + 32, &length, 2);
    EXPECT_EQ(ReasonOf(Reseal(bytes)), Rejection::kGarbage) << length;
  }
}

TEST(ContainerTest, NoticesAnotherLayoutOrCodecByTheTags) {
  for (size_t i = kUpdateFields; i < kUpdateFields + 6; ++i) {
    std::string bytes = Golden("container_update.hex");
    bytes[i] ^= 1;
    bytes = Reseal(bytes);
    ASSERT_OK_AND_ASSIGN(ContainerView view, ParseContainer(bytes, kAnySize));
    EXPECT_EQ(view.IsFor(GoldenLayout().digest()), i >= kUpdateFields + 4);
    EXPECT_EQ(view.IsBy("float32"), i < kUpdateFields + 4);
  }
}

TEST(ContainerTest, RefusesBadLayoutsBehindGoodChecksums) {
  const std::string good = Golden("container_model.hex");
  ASSERT_EQ(Reseal(good), good);
  // The digest names another layout than the entries.
  std::string bytes = good;
  bytes[kModelFields] ^= 1;
  EXPECT_THAT(ParseContainer(Reseal(bytes), kAnySize), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("digest")));
  // Entry count and first name length: a few billion must not be allocated.
  for (size_t offset : {kModelFields + 41, kModelFields + 45}) {
    for (uint32_t value : {0u, 1u, 3u, 5u, 1000u, UINT32_MAX}) {
      bytes = good;
      std::memcpy(bytes.data() + offset, &value, 4);
      EXPECT_EQ(ReasonOf(Reseal(bytes)), Rejection::kGarbage) << offset << " " << value;
    }
  }
  // Every single byte of the fields changed, checksum made right: refused, never a crash. The codec may change its letters.
  for (size_t i = kModelFields; i + 40 + 4 < good.size(); ++i) {
    if (i >= kModelFields + 34 && i < kModelFields + 41) continue;
    bytes = good;
    bytes[i] = static_cast<char>(~bytes[i]);
    EXPECT_EQ(ReasonOf(Reseal(bytes)), Rejection::kGarbage) << i;
  }
}

}  // namespace
}  // namespace fedwatt

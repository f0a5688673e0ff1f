#include "fedwatt/compression/packer.h"

#include <zstd.h>

#include "fedwatt/base/random.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::StatusIs;
using ::testing::_;
using ::testing::HasSubstr;

absl::StatusOr<std::unique_ptr<Packer>> MakeZstd(CodecOptions options = {}) { return (*Packers().Find("zstd"))(options); }

TEST(ZstdTest, IsAPlainFrameOfTheLibrary) {
  const std::string text = "abcabcabcabcabcabcabcabcabcabc";
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Packer> packer, MakeZstd());
  ASSERT_OK_AND_ASSIGN(std::string packed, packer->Pack(text));
  EXPECT_LT(packed.size(), text.size());
  std::string unpacked(text.size(), '\0');
  EXPECT_EQ(ZSTD_decompress(unpacked.data(), unpacked.size(), packed.data(), packed.size()), text.size());
  EXPECT_EQ(unpacked, text);
}

TEST(ZstdTest, HigherLevelsPackTighter) {
  Random random(1);
  std::string text;
  for (int i = 0; i < 20'000; ++i) text += static_cast<char>('a' + random.Below(3) * random.Below(4));
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Packer> fast, MakeZstd({{"level", "1"}}));
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Packer> tight, MakeZstd({{"level", "19"}}));
  EXPECT_LT(tight->Pack(text)->size(), fast->Pack(text)->size());
  EXPECT_EQ(*fast->Unpack(*tight->Pack(text), 20'000), text);
}

TEST(ZstdTest, RefusesFramesThatPackNeverMakes) {
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Packer> packer, MakeZstd());
  ASSERT_OK_AND_ASSIGN(std::string packed, packer->Pack("some text, some text, some text"));
  std::string empty(100, '\0');
  empty.resize(ZSTD_compress(empty.data(), empty.size(), "", 0, 3));
  const std::string skippable("\x50\x2a\x4d\x18\x01\0\0\0x", 9);
  EXPECT_THAT(packer->Unpack(empty, 100), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("0 bytes")));
  EXPECT_THAT(packer->Unpack(packed + empty, 100), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("not alone")));
  EXPECT_THAT(packer->Unpack(packed + packed, 100), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("not alone")));
  EXPECT_THAT(packer->Unpack(packed + skippable, 100), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("not alone")));
  EXPECT_THAT(packer->Unpack(skippable, 100), StatusIs(absl::StatusCode::kDataLoss, _));
  EXPECT_THAT(packer->Unpack(skippable + packed, 100), StatusIs(absl::StatusCode::kDataLoss, _));
  EXPECT_THAT(packer->Unpack("plain text", 100), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("no frame")));
}

TEST(ZstdTest, RefusesFramesWithoutASize) {
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Packer> packer, MakeZstd());
  std::string packed(200, '\0');
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 0);
  packed.resize(ZSTD_compress2(context, packed.data(), packed.size(), "some text", 9));
  ZSTD_freeCCtx(context);
  EXPECT_THAT(packer->Unpack(packed, 100), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("content size")));
}

TEST(ZstdTest, AClaimTakesNoMemory) {
  // Magic number; single segment with an 8-byte size of 2^40; one raw last block of a byte.
  const std::string claim("\x28\xb5\x2f\xfd\xe0\0\0\0\0\0\x01\0\0\x09\0\0x", 17);
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Packer> packer, MakeZstd());
  EXPECT_THAT(packer->Unpack(claim, size_t{1} << 41), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("1099511627776 bytes out of 17")));
  EXPECT_THAT(packer->Unpack(claim, 1 << 20), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("expected [1, 1048576]")));
}

TEST(ZstdTest, RefusesBadOptions) {
  for (const char* level : {"0", "20", "-1", "", "3.5", "high"}) {
    EXPECT_THAT(MakeZstd({{"level", level}}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("level"))) << level;
  }
}

}  // namespace
}  // namespace fedwatt

#include <bit>
#include <cfloat>
#include <cmath>
#include <cstring>

#include "fedwatt/compression/codec.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

uint16_t Code(float value) {
  const std::unique_ptr<Codec> codec = *MakeCodec("bfloat16");
  const std::string bytes = *codec->Encode({&value, 1}, {{}, 0, 0});
  uint16_t code;
  std::memcpy(&code, bytes.data(), 2);
  return code;
}
float FromBits(uint32_t bits) { return std::bit_cast<float>(bits); }

TEST(Bfloat16Test, RoundsToNearestWithTiesToEven) {
  EXPECT_EQ(Code(1.0f), 0x3f80);
  EXPECT_EQ(Code(-2.0f), 0xc000);
  EXPECT_EQ(Code(FromBits(0x3f807fff)), 0x3f80);  // just below the tie
  EXPECT_EQ(Code(FromBits(0x3f808000)), 0x3f80);  // a tie, to even: down
  EXPECT_EQ(Code(FromBits(0x3f808001)), 0x3f81);  // just above
  EXPECT_EQ(Code(FromBits(0x3f818000)), 0x3f82);  // a tie, to even: up
  EXPECT_EQ(Code(FromBits(0xbf818000)), 0xbf82);  // the same for negative numbers
  EXPECT_EQ(Code(FromBits(0x3fffffff)), 0x4000);  // carries into the exponent
}

TEST(Bfloat16Test, KeepsZerosSubnormalsAndSpecials) {
  EXPECT_EQ(Code(0.0f), 0x0000);
  EXPECT_EQ(Code(-0.0f), 0x8000);
  EXPECT_EQ(Code(FLT_TRUE_MIN), 0x0000);
  EXPECT_EQ(Code(FromBits(0x00018000)), 0x0002);
  EXPECT_EQ(Code(INFINITY), 0x7f80);
  EXPECT_EQ(Code(-INFINITY), 0xff80);
  EXPECT_EQ(Code(NAN) & 0x7fff, 0x7fc0);
  // A NaN whose payload sits in the lower half must not become infinity.
  EXPECT_EQ(Code(FromBits(0x7f800001)), 0x7fc0);
}

TEST(Bfloat16Test, SaturatesInsteadOfOverflowing) {
  EXPECT_EQ(Code(FLT_MAX), 0x7f7f);
  EXPECT_EQ(Code(-FLT_MAX), 0xff7f);
}

}  // namespace
}  // namespace fedwatt

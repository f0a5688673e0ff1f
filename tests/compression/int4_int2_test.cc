// What the narrow codes add to int8: packing, and codes that no encoder makes.
#include <cfloat>
#include <cmath>
#include <cstring>

#include "fedwatt/base/random.h"
#include "fedwatt/compression/codec.h"
#include "hwy/targets.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::HasSubstr;

std::string Raw(float scale, std::initializer_list<int> bytes) {
  std::string raw(reinterpret_cast<const char*>(&scale), 4);
  for (int byte : bytes) raw += static_cast<char>(byte);
  return raw;
}

std::string Encode(const char* spec, const std::vector<float>& values) {
  const Segment segment{1, static_cast<int64_t>(values.size())};
  return *(*MakeCodec(spec))->Encode(values, {absl::MakeConstSpan(&segment, 1), 7, 1});
}

absl::Status Decode(const char* spec, std::string_view bytes, std::vector<float>& out) {
  const Segment segment{1, static_cast<int64_t>(out.size())};
  return (*MakeCodec(spec))->Decode(bytes, {absl::MakeConstSpan(&segment, 1), 7, 1}, absl::MakeSpan(out));
}

TEST(Int4Test, PacksTwoCodesAByteAndMarksTheEnd) {
  // Whole steps of 1/2 survive any seed: 7, -7, 1, 0, -1 and the filler -8.
  const std::vector<float> values = {3.5f, -3.5f, 0.5f, 0, -0.5f};
  const std::string bytes = Encode("int4", values);
  EXPECT_EQ(bytes, Raw(0.5f, {0x97, 0x01, 0x8f}));
  std::vector<float> decoded(5);
  ASSERT_THAT(Decode("int4", bytes, decoded), IsOk());
  EXPECT_EQ(decoded, values);
}

TEST(Int2Test, PacksFourCodesAByteAndMarksTheEnd) {
  // 1, -1, 0, 0 | -1, then the filler -2 three times.
  const std::vector<float> values = {0.75f, -0.75f, 0, 0, -0.75f};
  const std::string bytes = Encode("int2", values);
  EXPECT_EQ(bytes, Raw(0.75f, {0b00'00'11'01, 0b10'10'10'11}));
  std::vector<float> decoded(5);
  ASSERT_THAT(Decode("int2", bytes, decoded), IsOk());
  EXPECT_EQ(decoded, values);
}

TEST(Int4Test, BlocksNeedNotEndWithBytes) {
  std::vector<float> values;
  for (int i = 0; i < 10; ++i) values.push_back(i % 3 == 0 ? static_cast<float>(7 << (i / 3)) : 0.0f);
  const std::string bytes = Encode("int4:block=3", values);
  EXPECT_EQ(bytes.size(), 4 * 4 + 5u);
  std::vector<float> decoded(10);
  ASSERT_THAT(Decode("int4:block=3", bytes, decoded), IsOk());
  EXPECT_EQ(decoded, values);
}

TEST(Int4Test, SizesAreWhatTheHeadOfTheFileSays) {
  EXPECT_EQ(Encode("int8", std::vector<float>(256 * 8, 1.0f)).size(), 8 * (4 + 256u));
  EXPECT_EQ(Encode("int4", std::vector<float>(256 * 8, 1.0f)).size(), 8 * (4 + 128u));
  EXPECT_EQ(Encode("int2", std::vector<float>(256 * 8, 1.0f)).size(), 8 * (4 + 64u));
}

TEST(Int4Test, GivesEqualBitsWhateverTheVectors) {
  for (const char* spec : {"int8", "int4:block=37", "int2:block=1001"}) {
    for (size_t count : {1, 7, 64, 1000, 3001}) {
      Random random(count);
      std::vector<float> values(count), first(count), decoded(count);
      for (float& value : values) value = static_cast<float>(random.Normal() * 1e-3);
      std::string bytes;
      for (const auto target : hwy::SupportedAndGeneratedTargets()) {
        hwy::SetSupportedTargetsForTest(target);
        hwy::GetChosenTarget().Update(hwy::SupportedTargets());
        if (bytes.empty()) {
          bytes = Encode(spec, values);
          ASSERT_THAT(Decode(spec, bytes, first), IsOk());
        }
        EXPECT_EQ(Encode(spec, values), bytes) << spec << " " << hwy::TargetName(target);
        ASSERT_THAT(Decode(spec, bytes, decoded), IsOk());
        EXPECT_EQ(decoded, first) << spec << " " << hwy::TargetName(target);
      }
      hwy::SetSupportedTargetsForTest(0);
      hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    }
  }
}

TEST(Int4Test, DecodeRefusesCodesThatEncodeNeverMakes) {
  std::vector<float> one(1), two(2);
  EXPECT_THAT(Decode("int4", Raw(1, {0x88}), two), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("code -8 in block 0")));
  EXPECT_THAT(Decode("int4", Raw(1, {0x87}), one), IsOk());
  EXPECT_THAT(Decode("int4", Raw(1, {0x07}), one), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("beyond the last")));
  EXPECT_THAT(Decode("int2", Raw(1, {0b10'10'10'10}), one), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("code -2 in block 0")));
  EXPECT_THAT(Decode("int2", Raw(1, {0b10'00'10'01}), one), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("beyond the last")));
  for (float bad : {NAN, INFINITY, -1.0f, -0.0f, FLT_MAX / 6}) {
    EXPECT_THAT(Decode("int4", Raw(bad, {0x81}), one), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("scale"))) << bad;
  }
}

}  // namespace
}  // namespace fedwatt

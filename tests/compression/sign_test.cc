#include <cfloat>
#include <cmath>
#include <cstring>

#include "fedwatt/base/random.h"
#include "fedwatt/compression/codec.h"
#include "fedwatt/model/rejection.h"
#include "hwy/targets.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::_;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Segments = std::vector<Segment>;

std::string Raw(std::initializer_list<float> scales, std::initializer_list<int> bytes) {
  std::string raw;
  for (float scale : scales) raw.append(reinterpret_cast<const char*>(&scale), 4);
  for (int byte : bytes) raw += static_cast<char>(byte);
  return raw;
}

absl::StatusOr<std::string> Encode(const char* spec, const std::vector<float>& values, const Segments& segments) {
  return (*MakeCodec(spec))->Encode(values, {segments, 7, 1});
}

absl::Status Decode(const char* spec, std::string_view bytes, const Segments& segments, std::vector<float>& out) {
  return (*MakeCodec(spec))->Decode(bytes, {segments, 7, 1}, absl::MakeSpan(out));
}

TEST(SignTest, MeanScaleIsTheMeanMagnitude) {
  // (1 + 2 + 3 + 0) / 4 = 1.5; only -2 is negative, and a bit 1 follows the four signs.
  const std::vector<float> values = {1, -2, 3, 0};
  ASSERT_OK_AND_ASSIGN(std::string bytes, Encode("sign", values, {{2, 2}}));
  EXPECT_EQ(bytes, Raw({1.5f}, {0b0001'0010}));
  std::vector<float> decoded(4);
  ASSERT_THAT(Decode("sign", bytes, {{2, 2}}, decoded), IsOk());
  EXPECT_THAT(decoded, ElementsAre(1.5f, -1.5f, 1.5f, 1.5f));
}

TEST(SignTest, UnbiasedScaleIsSquaresOverMagnitudes) {
  // (1 + 9 + 16) / (1 + 3 + 4) = 3.25
  ASSERT_OK_AND_ASSIGN(std::string bytes, Encode("sign:scale=unbiased", {1, -3, 4}, {{1, 3}}));
  EXPECT_EQ(bytes, Raw({3.25f}, {0b1010}));
}

TEST(SignTest, BlocksAreOfPlacesAndSegmentsOnDemand) {
  const std::vector<float> values = {1, 3, -5, 7, -9};
  const Segments segments = {{1, 1}, {1, 0}, {2, 2}};
  ASSERT_OK_AND_ASSIGN(std::string by_place, Encode("sign:block=2", values, segments));
  EXPECT_EQ(by_place, Raw({2, 6, 9}, {0b110100}));
  ASSERT_OK_AND_ASSIGN(std::string by_segment, Encode("sign:block=0", values, segments));
  EXPECT_EQ(by_segment, Raw({1, 6}, {0b110100}));
  std::vector<float> decoded(5);
  ASSERT_THAT(Decode("sign:block=0", by_segment, segments, decoded), IsOk());
  EXPECT_THAT(decoded, ElementsAre(1, 6, -6, 6, -6));
  ASSERT_THAT(Decode("sign:block=2", by_place, segments, decoded), IsOk());
  EXPECT_THAT(decoded, ElementsAre(2, 2, -6, 6, -9));
}

TEST(SignTest, SpendsOneBitAValueAndAScaleABlock) {
  for (size_t count : {1, 7, 8, 9, 4095, 4096, 4097, 100'000}) {
    ASSERT_OK_AND_ASSIGN(std::string bytes, Encode("sign", std::vector<float>(count, 1.0f), {{1, static_cast<int64_t>(count)}}));
    EXPECT_EQ(bytes.size(), (count + 4095) / 4096 * 4 + count / 8 + 1) << count;
  }
}

TEST(SignTest, MeanScaleIsTheBestOne) {
  Random random(4);
  std::vector<float> values(500);
  for (float& value : values) value = static_cast<float>(random.Normal());
  const Segments segments = {{1, 500}};
  std::vector<float> decoded(500);
  ASSERT_OK_AND_ASSIGN(std::string bytes, Encode("sign", values, segments));
  ASSERT_THAT(Decode("sign", bytes, segments, decoded), IsOk());
  const auto error = [&](double factor) {
    double sum = 0;
    for (size_t i = 0; i < 500; ++i) sum += (decoded[i] * factor - values[i]) * (decoded[i] * factor - values[i]);
    return sum;
  };
  EXPECT_LT(error(1), error(0.99));
  EXPECT_LT(error(1), error(1.01));
  // Of a normal vector, the share 1 - 2 / pi of the energy is lost.
  double energy = 0;
  for (float value : values) energy += static_cast<double>(value) * value;
  EXPECT_NEAR(error(1) / energy, 1 - 2 / M_PI, 0.05);
}

TEST(SignTest, GivesEqualBitsWhateverTheVectors) {
  for (const char* spec : {"sign", "sign:scale=unbiased:block=37", "sign:block=0"}) {
    for (size_t count : {1, 8, 31, 33, 40, 64, 1000, 5003}) {
      Random random(count);
      std::vector<float> values(count), decoded(count);
      for (float& value : values) value = random.Below(9) == 0 ? -0.0f : static_cast<float>(random.Normal());
      const Segments segments = {{1, static_cast<int64_t>(count / 3)}, {1, static_cast<int64_t>(count - count / 3)}};
      std::string bytes;
      for (const auto target : hwy::SupportedAndGeneratedTargets()) {
        hwy::SetSupportedTargetsForTest(target);
        hwy::GetChosenTarget().Update(hwy::SupportedTargets());
        ASSERT_OK_AND_ASSIGN(std::string again, Encode(spec, values, segments));
        if (bytes.empty()) bytes = again;
        EXPECT_EQ(again, bytes) << spec << " " << hwy::TargetName(target);
        ASSERT_THAT(Decode(spec, bytes, segments, decoded), IsOk());
        for (size_t i = 0; i < count; ++i) ASSERT_EQ(std::signbit(decoded[i]), values[i] < 0) << i << " " << hwy::TargetName(target);
      }
      hwy::SetSupportedTargetsForTest(0);
      hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    }
  }
}

TEST(SignTest, RefusesWhatEncodeNeverMakes) {
  std::vector<float> three(3);
  for (float bad : {NAN, -NAN, INFINITY, -INFINITY, -1.0f, -0.0f}) {
    EXPECT_THAT(Decode("sign", Raw({bad}, {0b1000}), {{1, 3}}, three), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("scale of block 0"))) << bad;
  }
  EXPECT_THAT(Decode("sign", Raw({FLT_MAX}, {0b1000}), {{1, 3}}, three), IsOk());
  for (int signs : {0b0000, 0b0100, 0b11000, 0b10000, 0b1001000}) {
    EXPECT_THAT(Decode("sign", Raw({1}, {signs}), {{1, 3}}, three), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("do not end"))) << signs;
  }
  std::vector<float> eight(8);
  EXPECT_THAT(Decode("sign", Raw({1}, {0xff, 0x01}), {{1, 8}}, eight), IsOk());
  EXPECT_THAT(Decode("sign", Raw({1}, {0xff, 0x00}), {{1, 8}}, eight), StatusIs(absl::StatusCode::kDataLoss, _));
  EXPECT_THAT(Decode("sign", Raw({1}, {0xff}), {{1, 8}}, eight), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("expected 6")));
}

TEST(SignTest, EncodeRefusesWhatIsNotFinite) {
  for (float bad : {NAN, INFINITY, -INFINITY}) {
    const absl::Status status = Encode("sign:block=2", {1, 1, 1, bad, 1}, {{1, 5}}).status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("[2, 4)")));
    EXPECT_EQ(RejectionOf(status), Rejection::kNotFinite);
  }
}

TEST(SignTest, RefusesBadOptions) {
  for (const char* spec :
       {"sign:scale=", "sign:scale=best", "sign:block=-1", "sign:block=", "sign:block=16777217", "sign:block=1.5", "sign:clip=2"}) {
    EXPECT_THAT(MakeCodec(spec), StatusIs(absl::StatusCode::kInvalidArgument, _)) << spec;
  }
}

}  // namespace
}  // namespace fedwatt

#include <cfloat>
#include <cmath>
#include <cstring>
#include <limits>

#include "fedwatt/compression/codec.h"
#include "fedwatt/model/rejection.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Int8Test : public ::testing::Test {
 protected:
  std::string Encode(const std::vector<float>& values) { return *codec_->Encode(values, context_); }
  absl::Status Decode(std::string_view bytes, std::vector<float>& out) { return codec_->Decode(bytes, context_, absl::MakeSpan(out)); }
  static float Scale(const std::string& bytes, size_t block) {
    float scale;
    std::memcpy(&scale, bytes.data() + 4 * block, 4);
    return scale;
  }
  static std::string Raw(float scale, std::initializer_list<int> codes) {
    std::string bytes(reinterpret_cast<const char*>(&scale), 4);
    for (int code : codes) bytes += static_cast<char>(code);
    return bytes;
  }

  const CodingContext context_{{}, 7, 1};
  const std::unique_ptr<Codec> codec_ = *MakeCodec("int8");
};

TEST_F(Int8Test, WholeStepsAreExactWhateverTheSeed) {
  // The largest magnitude is 127 steps of 1/4, so that every value is a whole number of steps.
  const std::vector<float> values = {31.75f, -31.75f, 0.0f, 0.25f, -0.25f, 16.0f};
  const std::string bytes = Encode(values);
  EXPECT_EQ(Scale(bytes, 0), 0.25f);
  EXPECT_EQ(bytes, Raw(0.25f, {127, -127, 0, 1, -1, 64}));
  std::vector<float> decoded(6);
  ASSERT_THAT(Decode(bytes, decoded), IsOk());
  EXPECT_EQ(decoded, values);
}

TEST_F(Int8Test, EachBlockHasItsOwnScale) {
  std::vector<float> values(257, 1.27f);
  values[256] = 1e-3f;
  const std::string bytes = Encode(values);
  EXPECT_EQ(bytes.size(), 2 * 4 + 257u);
  EXPECT_FLOAT_EQ(Scale(bytes, 0), 0.01f);
  EXPECT_FLOAT_EQ(Scale(bytes, 1), 1e-3f / 127);
  EXPECT_GE(Scale(bytes, 1) * 127.0, 1e-3f);
}

TEST_F(Int8Test, SubnormalAndZeroBlocksDecode) {
  for (float tiny : {FLT_TRUE_MIN, 100 * FLT_TRUE_MIN, 128 * FLT_TRUE_MIN, FLT_MIN}) {
    std::vector<float> decoded(2, NAN);
    ASSERT_THAT(Decode(Encode({tiny, -tiny}), decoded), IsOk());
    EXPECT_NEAR(decoded[0], tiny, codec_->ErrorBound(tiny));
    EXPECT_NEAR(decoded[1], -tiny, codec_->ErrorBound(tiny));
  }
  EXPECT_EQ(Encode({0.0f, -0.0f}), Raw(0, {0, 0}));
}

TEST_F(Int8Test, EncodeRefusesWhatIsNotFinite) {
  for (float bad : {NAN, -NAN, INFINITY, -INFINITY}) {
    std::vector<float> values(600, 1.0f);
    values[599] = bad;
    const absl::Status status = codec_->Encode(values, context_).status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("[512, 600)")));
    EXPECT_EQ(RejectionOf(status), Rejection::kNotFinite);
  }
}

TEST_F(Int8Test, DecodeRefusesScalesAndCodesThatEncodeNeverMakes) {
  std::vector<float> decoded(1);
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), INFINITY, -INFINITY, -1.0f, -0.0f, FLT_MAX, FLT_MAX / 126}) {
    EXPECT_THAT(Decode(Raw(bad, {1}), decoded), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("scale of block 0"))) << bad;
  }
  EXPECT_THAT(Decode(Raw(1, {-128}), decoded), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("-128")));
  EXPECT_THAT(Decode(Raw(1, {-127}), decoded), IsOk());
  EXPECT_THAT(decoded, ElementsAre(-127.0f));
}

}  // namespace
}  // namespace fedwatt

#include <cfloat>
#include <cmath>
#include <cstring>
#include <limits>

#include "fedwatt/base/random.h"
#include "fedwatt/compression/codec.h"
#include "fedwatt/compression/symbol_coder.h"
#include "fedwatt/model/rejection.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::_;
using ::testing::HasSubstr;

std::vector<float> Noise(size_t count, double scale, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random.Normal() * scale);
  return values;
}

class EcsqTest : public ::testing::Test {
 protected:
  // One segment unless `segments` says otherwise.
  CodingContext Context(size_t count) {
    one_ = {1, static_cast<int64_t>(count)};
    return {segments_.empty() ? absl::MakeConstSpan(&one_, 1) : absl::MakeConstSpan(segments_), 1, 1};
  }
  std::string Encode(const std::string& spec, const std::vector<float>& values) {
    absl::StatusOr<std::string> bytes = (*MakeCodec(spec))->Encode(values, Context(values.size()));
    EXPECT_THAT(bytes, IsOk());
    return bytes.value_or("");
  }
  std::vector<float> RoundTrip(const std::string& spec, const std::vector<float>& values) {
    std::vector<float> decoded(values.size(), NAN);
    EXPECT_THAT((*MakeCodec(spec))->Decode(Encode(spec, values), Context(values.size()), absl::MakeSpan(decoded)), IsOk());
    return decoded;
  }
  static float Step(const std::string& bytes) {
    float step;
    std::memcpy(&step, bytes.data(), 4);
    return step;
  }

  Segment one_;
  std::vector<Segment> segments_;
};

TEST_F(EcsqTest, RoundsToTheNearestHalvesAwayFromZero) {
  EXPECT_EQ(RoundTrip("ecsq:step=0.5", {0.0f, 0.24f, 0.25f, 0.74f, 0.75f, 1.3f, -0.24f, -0.25f, -0.75f, 100.1f}),
            (std::vector<float>{0.0f, 0.0f, 0.5f, 0.5f, 1.0f, 1.5f, 0.0f, -0.5f, -1.0f, 100.0f}));
}

TEST_F(EcsqTest, DeadzoneWidensEveryStepDownwards) {
  // floor(|x| + 1/4): zero up to 3/4, then one more at each 3/4.
  EXPECT_EQ(RoundTrip("ecsq:step=1:deadzone=0.75", {0.74f, 0.75f, 1.7f, 1.75f, -0.74f, -0.75f}),
            (std::vector<float>{0.0f, 1.0f, 1.0f, 2.0f, 0.0f, -1.0f}));
  EXPECT_EQ(RoundTrip("ecsq:step=1:deadzone=1", {0.99f, 1.0f, -1.99f, 2.0f}), (std::vector<float>{0.0f, 1.0f, -1.0f, 2.0f}));
}

TEST_F(EcsqTest, TheStepTravels) {
  // Mean square (9 + 16) / 4, so a root of 2.5.
  const std::string bytes = Encode("ecsq:multiple=0.5", {3, 0, 0, -4});
  EXPECT_EQ(Step(bytes), 1.25f);
  EXPECT_EQ(RoundTrip("ecsq:multiple=0.5", {3, 0, 0, -4}), (std::vector<float>{2.5f, 0, 0, -3.75f}));
  EXPECT_EQ(Step(Encode("ecsq:step=0.1", {1, 2})), 0.1f);
  // Any ecsq decodes what any other made.
  std::vector<float> decoded(4);
  EXPECT_THAT((*MakeCodec("ecsq:rate=1"))->Decode(bytes, Context(4), absl::MakeSpan(decoded)), IsOk());
  EXPECT_EQ(decoded[0], 2.5f);
}

TEST_F(EcsqTest, AllZeroSymbolsAreFourBytes) {
  EXPECT_EQ(Encode("ecsq", {0, 0, 0}), std::string(4, '\0'));
  EXPECT_EQ(Encode("ecsq:step=10", {1, -2, 3}), std::string(4, '\0'));
  EXPECT_EQ(RoundTrip("ecsq:rate=1", {0, 0, 0}), (std::vector<float>{0, 0, 0}));
}

TEST_F(EcsqTest, SegmentsAreAllCoded) {
  segments_ = {{2, 3}, {1, 1}, {10, 20}};
  std::vector<float> values = Noise(207, 1, 2);
  const std::vector<float> decoded = RoundTrip("ecsq:step=0.25", values);
  for (size_t i = 0; i < values.size(); ++i) EXPECT_EQ(decoded[i], std::copysign(std::floor(std::fabs(values[i]) * 4 + 0.5f) / 4, values[i])) << i;
}

TEST_F(EcsqTest, DecodeSparseGivesTheNonZerosOfDecode) {
  const std::vector<float> values = Noise(5000, 1, 3);
  const std::unique_ptr<Codec> codec = *MakeCodec("ecsq:step=3");
  const std::vector<float> dense = RoundTrip("ecsq:step=3", values);
  SparseValues sparse;
  ASSERT_TRUE(codec->sparse());
  ASSERT_THAT(codec->DecodeSparse(Encode("ecsq:step=3", values), Context(5000), sparse), IsOk());
  std::vector<float> scattered(5000, 0.0f);
  ASSERT_EQ(sparse.indices.size(), sparse.values.size());
  for (size_t i = 0; i < sparse.indices.size(); ++i) {
    EXPECT_NE(sparse.values[i], 0);
    scattered[sparse.indices[i]] = sparse.values[i];
  }
  EXPECT_EQ(scattered, dense);
}

TEST_F(EcsqTest, RateIsMetFromBelow) {
  const std::vector<float> values = Noise(50'000, 0.01, 4);
  for (double rate : {0.005, 0.03, 0.3, 1.0, 4.0, 10.0}) {
    const std::string bytes = Encode(absl::StrCat("ecsq:rate=", rate), values);
    const double bits = static_cast<double>(bytes.size()) * 8 / 50'000;
    EXPECT_LE(bits, rate * 1.02 + 0.005) << rate;
    EXPECT_GE(bits, rate * 0.97 - 0.002) << rate;
  }
}

TEST_F(EcsqTest, DistortionIsMetTightly) {
  const std::vector<float> values = Noise(20'000, 3, 5);
  double power = 0;
  for (float value : values) power += static_cast<double>(value) * value;
  for (double distortion : {1e-6, 0.01, 0.1, 0.5, 0.9}) {
    const std::vector<float> decoded = RoundTrip(absl::StrCat("ecsq:distortion=", distortion), values);
    double error = 0;
    for (size_t i = 0; i < values.size(); ++i) error += std::pow(static_cast<double>(values[i]) - decoded[i], 2);
    EXPECT_LE(error / power, distortion);
    EXPECT_GE(error / power, 0.98 * distortion);
  }
}

TEST_F(EcsqTest, OneStepServesAllSegments) {
  // Reverse water-filling: a layer whose deviation is a tenth of the step gets no bits at all.
  segments_ = {{1, 10'000}, {1, 10'000}};
  std::vector<float> values = Noise(10'000, 1, 6);
  for (float value : Noise(10'000, 0.1, 7)) values.push_back(value);
  const std::vector<float> decoded = RoundTrip("ecsq:step=1", values);
  EXPECT_EQ(std::vector<float>(decoded.begin() + 10'000, decoded.end()), std::vector<float>(10'000, 0.0f));
}

TEST_F(EcsqTest, RefusesStepsTooSmallForItsSymbols) {
  const std::unique_ptr<Codec> codec = *MakeCodec("ecsq:step=0.001");
  std::vector<float> values = {1, 20'000};
  EXPECT_THAT(codec->Encode(values, Context(2)), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("steps")));
  values[1] = 0.001f * kMaxSymbol * (1 - 1e-6f);
  EXPECT_THAT(codec->Encode(values, Context(2)), IsOk());
  for (float bad : {INFINITY, -INFINITY}) {
    values[1] = bad;
    const absl::Status status = codec->Encode(values, Context(2)).status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("finite")));
    EXPECT_EQ(RejectionOf(status), Rejection::kNotFinite);
  }
}

TEST_F(EcsqTest, DecodedValuesAreFiniteAtTheEndOfFloat) {
  const std::vector<float> decoded = RoundTrip(absl::StrCat("ecsq:step=", 0.6 * FLT_MAX), {FLT_MAX, -FLT_MAX});
  EXPECT_EQ(decoded, (std::vector<float>{FLT_MAX, -FLT_MAX}));
}

TEST_F(EcsqTest, RefusesHostileSteps) {
  std::string bytes = Encode("ecsq:step=1", {1, 2, 3});
  std::vector<float> decoded(3);
  const std::unique_ptr<Codec> codec = *MakeCodec("ecsq");
  for (float step : {0.0f, -0.0f, -1.0f, INFINITY, -INFINITY, NAN}) {
    std::memcpy(bytes.data(), &step, 4);
    EXPECT_THAT(codec->Decode(bytes, Context(3), absl::MakeSpan(decoded)), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("step"))) << step;
  }
  const float one = 1;
  std::memcpy(bytes.data(), &one, 4);
  EXPECT_THAT(codec->Decode(bytes.substr(0, 4), Context(3), absl::MakeSpan(decoded)), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("step")));
}

TEST(EcsqOptionsTest, OneTargetWithinItsRange) {
  for (const char* good : {"ecsq", "ecsq:step=1e-30", "ecsq:multiple=0.1", "ecsq:rate=0.005", "ecsq:rate=16", "ecsq:distortion=1",
                           "ecsq:deadzone=0.5", "ecsq:deadzone=1:rate=1"}) {
    EXPECT_THAT(MakeCodec(good), IsOk()) << good;
  }
  for (const char* bad : {"ecsq:step=0", "ecsq:step=-1", "ecsq:step=nan", "ecsq:step=inf", "ecsq:step=", "ecsq:step=1x", "ecsq:multiple=0",
                          "ecsq:rate=0.004", "ecsq:rate=17", "ecsq:distortion=0", "ecsq:distortion=1.1", "ecsq:deadzone=0.4", "ecsq:deadzone=1.1",
                          "ecsq:step=1:multiple=3", "ecsq:rate=1:distortion=0.1"}) {
    EXPECT_THAT(MakeCodec(bad), StatusIs(absl::StatusCode::kInvalidArgument, _)) << bad;
  }
}

}  // namespace
}  // namespace fedwatt

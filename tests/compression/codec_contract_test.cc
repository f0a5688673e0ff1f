// What every registered codec promises. A new codec is found here with no edit, but needs its golden file.
#include <cfloat>
#include <cmath>

#include "fedwatt/base/random.h"
#include "fedwatt/compression/codec.h"
#include "tests/golden/golden.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::Golden;
using ::fedwatt::testing::GoldenVector;
using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::_;
using ::testing::Not;

class CodecContractTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(codec_, MakeCodec(GetParam()));
  }

  std::string Encode(const std::vector<float>& values, uint64_t seed = 42) {
    const Segment segment{1, static_cast<int64_t>(values.size())};
    absl::StatusOr<std::string> bytes = codec_->Encode(values, {absl::MakeConstSpan(&segment, 1), seed, 1});
    EXPECT_THAT(bytes, IsOk());
    return bytes.value_or("");
  }
  absl::Status Decode(std::string_view bytes, std::vector<float>& out, uint64_t seed = 42) {
    const Segment segment{1, static_cast<int64_t>(out.size())};
    return codec_->Decode(bytes, {absl::MakeConstSpan(&segment, 1), seed, 1}, absl::MakeSpan(out));
  }
  static std::vector<float> Noise(size_t size, double scale, uint64_t seed) {
    Random random(seed);
    std::vector<float> values(size);
    for (float& value : values) value = static_cast<float>(random.Normal() * scale);
    return values;
  }

  std::unique_ptr<Codec> codec_;
};

TEST_P(CodecContractTest, IsNamedAsRegistered) { EXPECT_EQ(codec_->name(), GetParam()); }

TEST_P(CodecContractTest, BytesArePinned) {
  EXPECT_EQ(Encode(GoldenVector()), Golden("codec_" + GetParam() + ".hex"));
}

TEST_P(CodecContractTest, RoundTripStaysWithinTheErrorBound) {
  for (size_t size : {1, 2, 3, 255, 256, 257, 1000}) {
    for (double scale : {1e-42, 1e-38, 1e-6, 1.0, 1e6, 1e37}) {
      std::vector<float> values = Noise(size, scale, size);
      values[size / 2] = 0;
      double max_abs = 0;
      for (float value : values) max_abs = std::max<double>(max_abs, std::fabs(value));
      std::vector<float> decoded(size, NAN);
      ASSERT_THAT(Decode(Encode(values), decoded), IsOk());
      for (size_t i = 0; i < size; ++i) {
        ASSERT_LE(std::fabs(static_cast<double>(decoded[i]) - values[i]), codec_->ErrorBound(max_abs)) << values[i] << " of " << max_abs;
      }
    }
  }
}

TEST_P(CodecContractTest, SurvivesTheEndsOfFloat) {
  const std::vector<float> values = {FLT_MAX, -FLT_MAX, FLT_MIN, -FLT_MIN, FLT_TRUE_MIN, -FLT_TRUE_MIN, 0.0f, -0.0f};
  std::vector<float> decoded(values.size(), NAN);
  ASSERT_THAT(Decode(Encode(values), decoded), IsOk());
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_TRUE(std::isfinite(decoded[i])) << values[i];
    EXPECT_LE(std::fabs(static_cast<double>(decoded[i]) - values[i]), codec_->ErrorBound(FLT_MAX)) << values[i];
  }
}

TEST_P(CodecContractTest, ZerosStayZerosAndAnEmptyVectorIsNoBytes) {
  std::vector<float> decoded(300, NAN);
  ASSERT_THAT(Decode(Encode(std::vector<float>(300, 0.0f)), decoded), IsOk());
  EXPECT_EQ(decoded, std::vector<float>(300, 0.0f));
  std::vector<float> nothing;
  EXPECT_EQ(Encode({}), "");
  EXPECT_THAT(Decode("", nothing), IsOk());
  EXPECT_THAT(Decode("x", nothing), StatusIs(absl::StatusCode::kDataLoss, _));
}

TEST_P(CodecContractTest, IsDeterministic) {
  const std::vector<float> values = Noise(1000, 1, 1);
  EXPECT_EQ(Encode(values), Encode(values));
  std::vector<float> first(1000), second(1000);
  ASSERT_THAT(Decode(Encode(values), first), IsOk());
  ASSERT_THAT(Decode(Encode(values), second), IsOk());
  EXPECT_EQ(first, second);
}

// The mean of 4,000 decodings of one value differs from it by at most 4.5 standard errors: 12 values and a normal tail of 7e-6 a value
// make a false alarm of 1e-4 for an unbiased codec; seeds are fixed. A codec that rounds deterministically is held to its bound.
TEST_P(CodecContractTest, StochasticCodecsAreUnbiased) {
  const std::vector<float> values = {1.0f, -1.0f, 0.999f, 0.5f, 0.25f, 0.1f, 0.003f, -0.003f, -0.37f, 1e-5f, -0.8f, 0.0f};
  if (Encode(values, 1) == Encode(values, 2)) GTEST_SKIP() << "not stochastic";
  const int trials = 4000;
  std::vector<double> sum(values.size()), squares(values.size());
  for (int t = 0; t < trials; ++t) {
    std::vector<float> decoded(values.size());
    ASSERT_THAT(Decode(Encode(values, t), decoded, t), IsOk());
    for (size_t i = 0; i < values.size(); ++i) {
      const double error = static_cast<double>(decoded[i]) - values[i];
      sum[i] += error;
      squares[i] += error * error;
    }
  }
  const double step = codec_->ErrorBound(1);
  for (size_t i = 0; i < values.size(); ++i) {
    // Two-point rounding of a value this near a level may show no spread at all; a fraction p of a step has deviation sqrt(p) steps.
    const double deviation = std::max(std::sqrt(squares[i] / trials), step * std::sqrt(1.0 / trials));
    EXPECT_LE(std::fabs(sum[i] / trials), 4.5 * deviation / std::sqrt(trials)) << values[i];
  }
}

TEST_P(CodecContractTest, RefusesEveryOtherLength) {
  const std::vector<float> values = Noise(300, 1, 3);
  const std::string bytes = Encode(values);
  std::vector<float> decoded(values.size());
  for (size_t size = 0; size < bytes.size(); ++size) {
    ASSERT_THAT(Decode(std::string_view(bytes).substr(0, size), decoded), StatusIs(absl::StatusCode::kDataLoss, _)) << size;
  }
  EXPECT_THAT(Decode(bytes + '\0', decoded), StatusIs(absl::StatusCode::kDataLoss, _));
  for (size_t size : {0, 1, 299, 301, 600}) {
    decoded.assign(size, 0);
    EXPECT_THAT(Decode(bytes, decoded), StatusIs(absl::StatusCode::kDataLoss, _)) << size;
  }
}

// Either a status or values, never a crash or a write outside: guards stand on both sides of the output.
TEST_P(CodecContractTest, BearsRandomBytes) {
  const size_t size = 300;
  const size_t encoded = Encode(std::vector<float>(size, 1.0f)).size();
  Random random(9);
  std::vector<float> guarded(size + 2);
  const Segment segment{1, size};
  for (int trial = 0; trial < 500; ++trial) {
    std::string bytes(trial % 2 == 0 ? encoded : random.Below(2 * encoded), '\0');
    for (char& c : bytes) c = static_cast<char>(random.Next());
    guarded.front() = guarded.back() = 12345;
    const absl::Status status = codec_->Decode(bytes, {absl::MakeConstSpan(&segment, 1), 1, 1}, absl::MakeSpan(guarded).subspan(1, size));
    EXPECT_TRUE(status.ok() || status.code() == absl::StatusCode::kDataLoss) << status;
    EXPECT_EQ(guarded.front(), 12345);
    EXPECT_EQ(guarded.back(), 12345);
  }
}

TEST_P(CodecContractTest, RefusesUnknownOptions) {
  EXPECT_THAT(MakeCodec(GetParam() + ":nonsense=1"), StatusIs(absl::StatusCode::kInvalidArgument, _));
}

INSTANTIATE_TEST_SUITE_P(Registered, CodecContractTest, ::testing::ValuesIn(Codecs().Names()), [](const auto& info) { return info.param; });

}  // namespace
}  // namespace fedwatt

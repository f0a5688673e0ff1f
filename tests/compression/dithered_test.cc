#include <cfloat>
#include <cmath>
#include <cstring>

#include "fedwatt/base/random.h"
#include "fedwatt/compression/codec.h"
#include "fedwatt/compression/symbol_coder.h"
#include "fedwatt/model/rejection.h"
#include "hwy/targets.h"
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

// The thresholds as the head of the codec's file describes them.
uint64_t Mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}
std::vector<double> Thresholds(size_t count, uint64_t seed) {
  const uint64_t golden = 0x9e3779b97f4a7c15u;
  std::vector<double> thresholds((count + 255) / 256 * 256);
  for (uint64_t b = 0; b * 256 < count; ++b) {
    const uint64_t h = Mix(Mix(seed + golden) + (b + 1) * golden);
    const uint64_t a = 2 * (h % 128) + 1, c = h / 128 % 256;
    const double v = (static_cast<double>(h >> 40) + 0.5) / (1 << 24);
    for (uint64_t k = 0; k < 256; ++k) thresholds[b * 256 + (a * k + c) % 256] = (static_cast<double>(k) + v) / 256;
  }
  thresholds.resize(count);
  return thresholds;
}

CodingContext ContextOf(const Segment& segment, uint64_t seed) { return {absl::MakeConstSpan(&segment, 1), seed, 1}; }

TEST(DitheredTest, RoundsAtTheDocumentedThresholds) {
  for (size_t count : {1, 255, 256, 257, 3000}) {
    for (double scale : {0.01, 1.0, 30.0}) {
      const Segment segment{1, static_cast<int64_t>(count)};
      const std::vector<float> values = Noise(count, scale, count);
      const std::unique_ptr<Codec> codec = *MakeCodec("dithered:step=0.75");
      ASSERT_OK_AND_ASSIGN(std::string bytes, codec->Encode(values, ContextOf(segment, 9)));
      std::vector<float> decoded(count, NAN);
      ASSERT_THAT(codec->Decode(bytes, ContextOf(segment, 9), absl::MakeSpan(decoded)), IsOk());
      const std::vector<double> thresholds = Thresholds(count, 9);
      for (size_t i = 0; i < count; ++i) {
        const double magnitude = std::floor(std::fabs(values[i]) / 0.75 + 1 - thresholds[i]) * 0.75;
        ASSERT_EQ(decoded[i], static_cast<float>(values[i] < 0 ? -magnitude : magnitude)) << i;
      }
    }
  }
}

TEST(DitheredTest, EachBlockHasEachRankOnce) {
  // So a value of 3/8 steps everywhere rounds up in 96 places of each block, whatever the seed, give or take the block's offset.
  const std::vector<float> values(2560, 0.375f);
  const Segment segment{1, 2560};
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const std::unique_ptr<Codec> codec = *MakeCodec("dithered:step=1");
    ASSERT_OK_AND_ASSIGN(std::string bytes, codec->Encode(values, ContextOf(segment, seed)));
    std::vector<float> decoded(2560);
    ASSERT_THAT(codec->Decode(bytes, ContextOf(segment, seed), absl::MakeSpan(decoded)), IsOk());
    for (size_t b = 0; b < 10; ++b) {
      float sum = 0;
      for (size_t i = 0; i < 256; ++i) sum += decoded[b * 256 + i];
      EXPECT_NEAR(sum, 96, 1) << seed << " " << b;
    }
  }
}

// Over 20,000 seeds the mean error of a value p steps high has a deviation of sqrt(p (1 - p) / 20000) steps; six values at 4.5 of them make a false
// alarm of 4e-5. The variance within 5 % is four of its own deviations or more.
TEST(DitheredTest, IsUnbiasedWithTheVarianceOfStochasticRounding) {
  const std::vector<float> values = {0.1f, -0.5f, 0.9f, -1.3f, 2.75f, 0.25f};
  const Segment segment{1, 6};
  const std::unique_ptr<Codec> codec = *MakeCodec("dithered:step=1");
  const int trials = 20'000;
  std::vector<double> sum(6), squares(6);
  for (int seed = 0; seed < trials; ++seed) {
    std::vector<float> decoded(6);
    ASSERT_OK_AND_ASSIGN(std::string bytes, codec->Encode(values, ContextOf(segment, seed)));
    ASSERT_THAT(codec->Decode(bytes, ContextOf(segment, seed), absl::MakeSpan(decoded)), IsOk());
    for (size_t i = 0; i < 6; ++i) {
      const double error = static_cast<double>(decoded[i]) - values[i];
      sum[i] += error;
      squares[i] += error * error;
    }
  }
  for (size_t i = 0; i < 6; ++i) {
    const double fraction = std::fabs(values[i]) - std::floor(std::fabs(values[i]));
    const double variance = fraction * (1 - fraction);
    EXPECT_LE(std::fabs(sum[i]) / trials, 4.5 * std::sqrt(variance / trials)) << values[i];
    EXPECT_NEAR(squares[i] / trials, variance, 0.05 * variance) << values[i];
  }
}

TEST(DitheredTest, KnownThresholdsMakePlacesCheap) {
  // Laplace values at a step of 27 mean magnitudes: independent thresholds would cost the entropy of the places at 1/27.
  Random random(1);
  std::vector<float> values(200'000);
  for (float& value : values) {
    const double u = random.Uniform() - 0.5;
    value = static_cast<float>(std::copysign(std::log(1 - 2 * std::fabs(u)), u));
  }
  const Segment segment{1, 200'000};
  ASSERT_OK_AND_ASSIGN(std::string bytes, (*MakeCodec("dithered:step=27"))->Encode(values, ContextOf(segment, 1)));
  const double p = 1.0 / 27, independent = 200'000.0 / 8 * (p - p * std::log2(p) - (1 - p) * std::log2(1 - p));
  EXPECT_LE(static_cast<double>(bytes.size()), 0.52 * independent);
}

TEST(DitheredTest, SameBytesOnEveryInstructionSet) {
  const std::vector<float> values = Noise(5000, 1, 3);
  const Segment segment{1, 5000};
  for (const char* spec : {"dithered:step=0.1", "dithered", "ecsq:step=0.3", "ecsq"}) {
    std::string first;
    for (int64_t target : hwy::SupportedAndGeneratedTargets()) {
      hwy::SetSupportedTargetsForTest(target);
      hwy::GetChosenTarget().Update(hwy::SupportedTargets());
      ASSERT_OK_AND_ASSIGN(std::string bytes, (*MakeCodec(spec))->Encode(values, ContextOf(segment, 1)));
      if (first.empty()) first = bytes;
      EXPECT_EQ(bytes, first) << spec << " " << hwy::TargetName(target);
      hwy::SetSupportedTargetsForTest(0);
      hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    }
  }
}

TEST(DitheredTest, DecodeSparseGivesTheNonZerosOfDecode) {
  const std::vector<float> values = Noise(5001, 1, 3);
  const Segment segments[] = {{50, 100}, {1, 1}};
  const CodingContext context{segments, 4, 1};
  const std::unique_ptr<Codec> codec = *MakeCodec("dithered:step=9");
  ASSERT_OK_AND_ASSIGN(std::string bytes, codec->Encode(values, context));
  std::vector<float> dense(5001), scattered(5001, 0.0f);
  ASSERT_THAT(codec->Decode(bytes, context, absl::MakeSpan(dense)), IsOk());
  SparseValues sparse;
  ASSERT_TRUE(codec->sparse());
  ASSERT_THAT(codec->DecodeSparse(bytes, context, sparse), IsOk());
  ASSERT_EQ(sparse.indices.size(), sparse.values.size());
  for (size_t i = 0; i < sparse.indices.size(); ++i) {
    EXPECT_NE(sparse.values[i], 0);
    EXPECT_EQ(scattered[sparse.indices[i]], 0) << "twice";
    scattered[sparse.indices[i]] = sparse.values[i];
  }
  EXPECT_EQ(scattered, dense);
}

TEST(DitheredTest, AnotherSeedIsNoticed) {
  const std::vector<float> values = Noise(1000, 1, 3);
  const Segment segment{1, 1000};
  const std::unique_ptr<Codec> codec = *MakeCodec("dithered");
  ASSERT_OK_AND_ASSIGN(std::string bytes, codec->Encode(values, ContextOf(segment, 1)));
  std::vector<float> decoded(1000);
  EXPECT_THAT(codec->Decode(bytes, ContextOf(segment, 2), absl::MakeSpan(decoded)), StatusIs(absl::StatusCode::kDataLoss, _));
}

TEST(DitheredTest, RefusesSymbolsWhereThereAreNoPlaces) {
  // A hand-made message for 3 values: all 256 ranks of the block hold a symbol.
  const int64_t counts[] = {1, 1, 1, 1, 2, 2, 4, 4, 8, 8, 32, 64, 128};
  const Segment segment{1, 3};
  int refused = 0;
  for (uint32_t rank = 0; rank < 256; ++rank) {
    const float step = 1;
    ASSERT_OK_AND_ASSIGN(std::string symbols, EncodeSymbols(counts, {{rank}, {1}}, Mix(5) + 3));
    const std::string bytes = std::string(reinterpret_cast<const char*>(&step), 4) + symbols;
    std::vector<float> decoded(3);
    const absl::Status status = (*MakeCodec("dithered"))->Decode(bytes, ContextOf(segment, 5), absl::MakeSpan(decoded));
    if (status.ok()) continue;
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kDataLoss, HasSubstr("beyond the last")));
    ++refused;
  }
  EXPECT_EQ(refused, 253);
}

TEST(DitheredTest, RefusesStepsTooSmallAndValuesThatAreNotFinite) {
  const Segment segment{1, 2};
  const std::unique_ptr<Codec> codec = *MakeCodec("dithered:step=0.001");
  std::vector<float> values = {1, 20'000};
  EXPECT_THAT(codec->Encode(values, ContextOf(segment, 1)), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("steps")));
  values[1] = -INFINITY;
  const absl::Status status = codec->Encode(values, ContextOf(segment, 1)).status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("finite")));
  EXPECT_EQ(RejectionOf(status), Rejection::kNotFinite);
}

TEST(DitheredTest, OptionsAreEitherStepOrMultiple) {
  EXPECT_THAT(MakeCodec("dithered:multiple=30"), IsOk());
  for (const char* bad : {"dithered:step=0", "dithered:step=-1", "dithered:step=nan", "dithered:multiple=0", "dithered:step=1:multiple=1",
                          "dithered:rate=1"}) {
    EXPECT_THAT(MakeCodec(bad), StatusIs(absl::StatusCode::kInvalidArgument, _)) << bad;
  }
}

}  // namespace
}  // namespace fedwatt

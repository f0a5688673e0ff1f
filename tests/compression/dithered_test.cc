#include <array>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <numeric>

#include "absl/strings/str_cat.h"
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

using Counts = std::vector<int64_t>;

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
  const Segment segment{50, 100};
  for (const char* spec : {"dithered:step=0.1", "dithered", "dithered:scales=1", "ecsq:step=0.3", "ecsq"}) {
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
  // Hand-made messages for 3 values at a scale of one step: of the 256 ranks of the only block 3 have places. Classes of places are then the levels
  // of the ranks' half octaves, the lowest four of them -18, -15, -13 and -12, which are one.
  const Counts counts = {4, 2, 2, 4, 4, 8, 8, 16, 16, 32, 32, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  const Segment segment{1, 3};
  int refused = 0;
  for (uint32_t rank = 0; rank < 256; ++rank) {
    const float step = 1;
    ASSERT_OK_AND_ASSIGN(std::string symbols, EncodeSymbols(counts, {{rank}, {1}}, Mix(5) + 3));
    const std::string bytes = std::string(reinterpret_cast<const char*>(&step), 4) + std::string(2, '\0') + symbols;
    std::vector<float> decoded(3);
    const absl::Status status = (*MakeCodec("dithered"))->Decode(bytes, ContextOf(segment, 5), absl::MakeSpan(decoded));
    if (status.ok()) continue;
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kDataLoss, HasSubstr("beyond the last")));
    ++refused;
  }
  EXPECT_EQ(refused, 253);
}

TEST(DitheredTest, RefusesScalesThatNobodyWrites) {
  const std::vector<float> values = Noise(5000, 1, 3);
  const Segment segments[] = {{50, 100}};
  const CodingContext context{segments, 4, 1};
  const std::unique_ptr<Codec> codec = *MakeCodec("dithered:step=9:scales=4");
  ASSERT_OK_AND_ASSIGN(const std::string good, codec->Encode(values, context));
  std::vector<float> decoded(5000);
  ASSERT_THAT(codec->Decode(good, context, absl::MakeSpan(decoded)), IsOk());
  EXPECT_EQ(good[4], 3);  // bands of 4 columns
  for (int width = 0; width < 256; ++width) {
    std::string bytes = good;
    bytes[4] = static_cast<char>(width);
    if (width == 3) continue;
    EXPECT_THAT(codec->Decode(bytes, context, absl::MakeSpan(decoded)), StatusIs(absl::StatusCode::kDataLoss, _)) << width;
  }
  // A period or a length too large, and scales beyond their range: 1 segment, 25 bands and 50 rows.
  std::string bytes = good;
  bytes[5] = 65;
  EXPECT_THAT(codec->Decode(bytes, context, absl::MakeSpan(decoded)), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("period")));
  bytes[5] = good[5];
  bytes[6] = '\x7f';
  EXPECT_THAT(codec->Decode(bytes.substr(0, 100), context, absl::MakeSpan(decoded)), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("truncated")));
  const std::vector<SparseSymbols> beyond = {{{0}, {14}}, {{0}, {-20}}, {{1}, {9}}, {{1, 2}, {-5, -4}}, {{26}, {-9}}, {{75}, {kMaxSymbol}}};
  for (const SparseSymbols& far : beyond) {
    ASSERT_OK_AND_ASSIGN(std::string scales, EncodeSymbols(Counts{1, 25, 50}, far));
    bytes = good.substr(0, 5) + '\1' + static_cast<char>(scales.size()) + scales;
    EXPECT_THAT(codec->Decode(bytes, context, absl::MakeSpan(decoded)), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("a scale is out of range")));
  }
}

// Bands that come back every five, as those of pictures do, cost next to nothing after the first five.
TEST(DitheredTest, BandsAreCodedAgainstThoseOfOnePeriodBefore) {
  const Segment segments[] = {{16, 400}, {16, 400}};
  const CodingContext context{segments, 3, 1};
  Random random(1);
  std::vector<float> periodic(12800), mixed(12800);
  for (size_t band = 0; band < 400; ++band) {
    const int octave = std::array{0, 4, 1, 5, 2}[band % 5], other = static_cast<int>(random.Below(6));
    for (size_t r = 0; r < 2 * 16; ++r) {
      periodic[r * 400 + band] = std::ldexp(1.0f, octave);
      mixed[r * 400 + band] = std::ldexp(1.0f, r < 16 ? octave : other);
    }
  }
  const std::unique_ptr<Codec> codec = *MakeCodec("dithered:step=1000000:scales=1");
  const auto code = [&](const std::vector<float>& values) {
    const std::string bytes = *codec->Encode(values, context);
    std::vector<float> decoded(values.size());
    EXPECT_THAT(codec->Decode(bytes, context, absl::MakeSpan(decoded)), IsOk());
    return bytes;
  };
  const std::string bytes = code(periodic);
  EXPECT_EQ(bytes.substr(4, 3), std::string("\1\5\5"));
  EXPECT_LT(bytes[7], 40);  // of 800 bands and 32 rows
  EXPECT_EQ(code(mixed).substr(4, 3), std::string("\1\5\0", 3));  // noise is best told as it is
}

// Rows and columns of unlike scales: places are ordered by scale, and rounded at the thresholds of that order.
TEST(DitheredTest, MatricesAreOrderedByScale) {
  const Segment segments[] = {{1, 7}, {16, 256}};
  const CodingContext context{segments, 11, 1};
  const size_t count = 7 + 16 * 256;
  // The 8 upper rows are 16 times the lower, columns from 64 on 4 times those before; signs alternate. The vector is the smallest of all.
  std::vector<float> values(count, 0.001f);
  const auto at = [](size_t row, size_t column) { return 7 + row * 256 + column; };
  for (size_t r = 0; r < 16; ++r) {
    for (size_t c = 0; c < 256; ++c) values[at(r, c)] = 0.02f * (r < 8 ? 16 : 1) * (c >= 64 ? 4 : 1) * (c % 2 == 0 ? 1 : -1);
  }
  std::vector<size_t> order;
  for (size_t i = 0; i < 7; ++i) order.push_back(i);
  for (const auto& [rows, columns] : {std::pair{1, 0}, {1, 1}, {0, 0}, {0, 1}}) {  // lower rows first, and in them narrow columns first
    for (size_t r = rows * 8; r < rows * 8 + 8u; ++r) {
      for (size_t c = columns == 0 ? 0 : 64; c < (columns == 0 ? 64 : 256); ++c) order.push_back(at(r, c));
    }
  }
  ASSERT_EQ(order.size(), count);
  const std::vector<double> thresholds = Thresholds(count, 11);
  for (const char* scales : {"1", "4", "16"}) {
    const std::unique_ptr<Codec> codec = *MakeCodec(absl::StrCat("dithered:step=1:scales=", scales));
    ASSERT_OK_AND_ASSIGN(std::string bytes, codec->Encode(values, context));
    std::vector<float> decoded(count, NAN);
    ASSERT_THAT(codec->Decode(bytes, context, absl::MakeSpan(decoded)), IsOk());
    for (size_t place = 0; place < count; ++place) {
      const float value = values[order[place]];
      const double magnitude = std::floor(std::fabs(value) + 1 - thresholds[place]);
      ASSERT_EQ(decoded[order[place]], static_cast<float>(value < 0 ? -magnitude : magnitude)) << scales << " " << place;
    }
  }
}

TEST(DitheredTest, ScalesPayWhereRowsAndColumnsDifferAndAutoFindsOut) {
  Random random(2);
  const Segment segments[] = {{100, 300}, {1, 100}};
  const CodingContext context{segments, 3, 1};
  std::vector<float> uneven = Noise(30'100, 1, 5), even = uneven;
  for (size_t i = 0; i < 30'000; ++i) {
    uneven[i] *= static_cast<float>(std::exp2(static_cast<double>(i / 300 % 5)) * std::exp(-static_cast<double>(i % 300) / 40));
  }
  const auto size = [&](const std::vector<float>& values, const char* scales) {
    const std::unique_ptr<Codec> codec = *MakeCodec(absl::StrCat("dithered:multiple=6:scales=", scales));
    absl::StatusOr<std::string> bytes = codec->Encode(values, context);
    EXPECT_THAT(bytes, IsOk());
    std::vector<float> decoded(values.size());
    EXPECT_THAT(codec->Decode(*bytes, context, absl::MakeSpan(decoded)), IsOk());
    return bytes->size();
  };
  EXPECT_LE(size(uneven, "4"), 0.75 * static_cast<double>(size(uneven, "off")));
  EXPECT_GT(size(even, "1"), size(even, "off"));
  for (const auto& values : {uneven, even}) {
    const size_t least = std::min({size(values, "off"), size(values, "1"), size(values, "4"), size(values, "16")});
    EXPECT_LE(static_cast<double>(size(values, "auto")), 1.02 * static_cast<double>(least));
  }
}

// What `auto` chooses must not depend on how values happen to be rounded, or roundings towards zero would win: here, where widths cost nearly alike,
// by 1.8 % of the magnitudes, nine standard errors over these 600 seeds. 4.5 of them make a false alarm of 7e-6.
TEST(DitheredTest, ChoosingScalesKeepsRoundingsUnbiased) {
  const Segment segment{64, 64};
  std::vector<float> values = Noise(4096, 0.1, 3);
  double expected = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double row = static_cast<double>(i / 64), column = static_cast<double>(i % 64);
    values[i] *= static_cast<float>(std::exp(1.1 * (std::sin(1.7 * row) - column / 32)));
    expected += std::fabs(values[i]);
  }
  const std::unique_ptr<Codec> codec = *MakeCodec("dithered:step=1");
  const int trials = 600;
  double sum = 0, squares = 0;
  for (int seed = 0; seed < trials; ++seed) {
    ASSERT_OK_AND_ASSIGN(std::string bytes, codec->Encode(values, ContextOf(segment, seed)));
    std::vector<float> decoded(4096);
    ASSERT_THAT(codec->Decode(bytes, ContextOf(segment, seed), absl::MakeSpan(decoded)), IsOk());
    double magnitude = 0;
    for (float value : decoded) magnitude += std::fabs(value);
    sum += magnitude - expected;
    squares += (magnitude - expected) * (magnitude - expected);
  }
  EXPECT_LE(std::fabs(sum) / trials, 4.5 * std::sqrt(squares / trials / trials)) << "of " << expected;
}

// Every combination of sizes around the least of a matrix, and of zero rows, columns and segments.
TEST(DitheredTest, MatricesOfAllShapesComeBack) {
  Random random(21);
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<Segment> segments(1 + random.Below(4));
    int64_t count = 0;
    for (Segment& segment : segments) {
      segment = {static_cast<int64_t>(random.Below(3) == 0 ? 1 : 14 + random.Below(100)), static_cast<int64_t>(random.Below(90))};
      count += segment.count();
    }
    if (count == 0) continue;
    std::vector<float> values = Noise(static_cast<size_t>(count), 1, static_cast<uint64_t>(trial));
    size_t i = 0;
    for (const Segment& segment : segments) {
      const double scale = std::exp2(random.Normal() * 4), tilt = random.Uniform() * 0.3;
      const bool none = random.Below(6) == 0;
      for (int64_t r = 0; r < segment.rows; ++r) {
        for (int64_t c = 0; c < segment.columns; ++c, ++i) {
          values[i] *= none || r % 7 == 3 || c % 30 == 29 ? 0 : static_cast<float>(scale * std::exp(-tilt * static_cast<double>(c)));
        }
      }
    }
    const CodingContext context{segments, static_cast<uint64_t>(trial), 1};
    const std::unique_ptr<Codec> codec = *MakeCodec(absl::StrCat("dithered:multiple=", 0.1 + random.Uniform() * 8));
    ASSERT_OK_AND_ASSIGN(std::string bytes, codec->Encode(values, context));
    std::vector<float> decoded(values.size(), NAN);
    ASSERT_THAT(codec->Decode(bytes, context, absl::MakeSpan(decoded)), IsOk());
    float step = 0;
    std::memcpy(&step, bytes.data(), 4);
    for (i = 0; i < values.size(); ++i) {
      if (values[i] == 0 || step == 0) {
        ASSERT_EQ(decoded[i], 0);
        continue;
      }
      ASSERT_EQ(decoded[i], static_cast<float>(std::nearbyint(decoded[i] / static_cast<double>(step)) * step));
      ASSERT_LT(std::fabs(static_cast<double>(decoded[i]) - values[i]), step * (1 + 1e-4)) << i;
    }
    // Damage is noticed or harmless.
    for (int damage = 0; damage < 20; ++damage) {
      std::string bad = bytes;
      bad[random.Below(bad.size())] ^= static_cast<char>(1 << random.Below(8));
      const absl::Status status = codec->Decode(bad, context, absl::MakeSpan(decoded));
      ASSERT_TRUE(status.ok() || status.code() == absl::StatusCode::kDataLoss) << status;
    }
  }
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
                          "dithered:rate=1", "dithered:scales=2", "dithered:scales="}) {
    EXPECT_THAT(MakeCodec(bad), StatusIs(absl::StatusCode::kInvalidArgument, _)) << bad;
  }
}

}  // namespace
}  // namespace fedwatt

// Every instruction set that this machine has against plain C++.
#include "kernels.h"

#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include "fedwatt/base/random.h"
#include "fedwatt/compression/codec.h"
#include "fedwatt/compression/symbol_coder.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "hwy/targets.h"

namespace fedwatt {
namespace {

class KernelsTest : public ::testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override { Choose(GetParam()); }
  void TearDown() override { Choose(0); }
  static void Choose(int64_t target) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }

  static std::vector<float> Values(size_t count, uint64_t seed) {
    Random random(seed);
    std::vector<float> values(count);
    for (float& value : values) {
      value = static_cast<float>(random.Normal());
      if (random.Below(50) == 0) value = 0;
      if (random.Below(200) == 0) value = std::numeric_limits<float>::quiet_NaN();
      if (random.Below(200) == 0) value = -std::numeric_limits<float>::infinity();
      if (random.Below(200) == 0) value = 1e-42f;
    }
    return values;
  }
};

TEST_P(KernelsTest, FindAtLeastFindsWhatPlainCodeFinds) {
  for (size_t count : {0, 1, 3, 4, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 255, 256, 1000}) {
    for (float threshold : {0.0f, 1e-42f, 0.5f, 1.0f, 2.5f, 100.0f}) {
      const std::vector<float> values = Values(count, count + 1);
      std::vector<uint32_t> expected, places(count + internal::kPlacePadding, 77);
      for (size_t i = 0; i < count; ++i) {
        if (std::fabs(values[i]) >= threshold) expected.push_back(static_cast<uint32_t>(i));
      }
      places.resize(internal::FindAtLeast(values, threshold, places.data()));
      ASSERT_EQ(places, expected) << count << " " << threshold;
    }
  }
}

TEST_P(KernelsTest, RoundRankedRoundsAsPlainCodeDoes) {
  Random random(4);
  for (size_t count : {1, 5, 16, 44, 100, 255, 256}) {
    for (int trial = 0; trial < 50; ++trial) {
      const std::vector<float> values = Values(count, static_cast<uint64_t>(trial));
      const uint32_t multiplier = static_cast<uint32_t>(random.Below(128) * 2 + 1), addend = static_cast<uint32_t>(random.Below(256));
      const double offset = random.Uniform();
      const float step = static_cast<float>(random.Uniform() * 4);
      std::vector<uint32_t> ranks(count + internal::kPlacePadding, 77);
      std::vector<int32_t> symbols(ranks.size(), 77);
      const size_t found = internal::RoundRanked(values, multiplier, addend, offset, step, ranks.data(), symbols.data());
      std::vector<int32_t> expected(256), by_rank(256);
      bool fits = true;
      for (size_t i = 0; i < count; ++i) {
        const uint32_t rank = (multiplier * static_cast<uint32_t>(i) + addend) % 256;
        const double magnitude = std::fabs(values[i]) / static_cast<double>(step) + (1 - (rank + offset) / 256);
        fits &= std::isnan(magnitude) || magnitude < kMaxSymbol + 1.0;
        if (fits && !std::isnan(magnitude)) expected[rank] = static_cast<int32_t>(magnitude) * (values[i] < 0 ? -1 : 1);
      }
      ASSERT_EQ(found != SIZE_MAX, fits) << count;
      if (!fits) continue;
      ASSERT_LE(found, count);
      for (size_t i = 0; i < found; ++i) by_rank[ranks[i]] = symbols[i];
      ASSERT_EQ(by_rank, expected) << count;
    }
  }
}

TEST_P(KernelsTest, RoundRankedSaysWhatIsTooLarge) {
  std::vector<float> values(20, 1.0f);
  uint32_t ranks[20 + internal::kPlacePadding];
  int32_t symbols[20 + internal::kPlacePadding];
  EXPECT_EQ(internal::RoundRanked(values, 1, 0, 0.5, 1, ranks, symbols), 20u);
  values[17] = -static_cast<float>(kMaxSymbol);  // rounded up or down, still one
  EXPECT_EQ(internal::RoundRanked(values, 1, 0, 0.5, 1, ranks, symbols), 20u);
  EXPECT_EQ(symbols[17], -kMaxSymbol);
  for (float large : {static_cast<float>(kMaxSymbol) + 1, -INFINITY}) {
    values[17] = large;
    EXPECT_EQ(internal::RoundRanked(values, 1, 0, 0.5, 1, ranks, symbols), SIZE_MAX) << large;
  }
}

TEST_P(KernelsTest, LookAtSymbolsSeesWhatIsWrongWhereverItStands) {
  for (size_t count : {0, 1, 2, 8, 9, 16, 17, 18, 33, 100}) {
    std::vector<uint32_t> indices(count);
    std::vector<int32_t> symbols(count);
    for (size_t i = 0; i < count; ++i) {
      indices[i] = static_cast<uint32_t>(3 * i) + (i >= 5 ? 0x7fffff00u : 0);  // beyond the middle of the range, too
      symbols[i] = i % 2 == 0 ? 1 : -1;
    }
    const auto look = [&] { return internal::LookAtSymbols(indices, symbols); };
    EXPECT_TRUE(look().good && look().units && look().escapes == 0) << count;
    for (size_t i = 0; i < count; ++i) {
      const int32_t symbol = symbols[i];
      for (const auto& [value, good, units, escapes] : {std::tuple(0, false, false, 0u), {kMaxSymbol, true, false, 1u}, {-kMaxSymbol, true, false, 1u},
                                                        {kMaxSymbol + 1, false, false, 1u}, {std::numeric_limits<int32_t>::min(), false, false, 1u},
                                                        {5, true, false, 1u}, {-4, true, false, 0u}, {-1, true, true, 0u}}) {
        symbols[i] = value;
        const internal::SymbolFacts facts = look();
        EXPECT_EQ(facts.good, good) << i << " of " << count << " " << value;
        EXPECT_EQ(facts.units, units) << i << " of " << count << " " << value;
        if (good) {
          EXPECT_EQ(facts.escapes, escapes) << i << " of " << count << " " << value;
        }
      }
      symbols[i] = symbol;
      if (i == 0) continue;
      const uint32_t index = indices[i];
      for (uint32_t bad : {indices[i - 1], indices[i - 1] / 2, 0u}) {
        indices[i] = bad;
        EXPECT_FALSE(look().good) << i << " of " << count;
      }
      indices[i] = index;
    }
  }
}

TEST_P(KernelsTest, SumOfSquaresHasTheDocumentedOrder) {
  for (size_t count : {0, 1, 31, 32, 33, 100, 1000, 4096}) {
    Random random(count);
    std::vector<float> values(count);
    double parts[32] = {}, expected = 0;
    for (size_t i = 0; i < count; ++i) {
      values[i] = static_cast<float>(random.Normal() * std::pow(10, random.Normal() * 4));
      parts[i % 32] += static_cast<double>(values[i]) * values[i];
    }
    for (double part : parts) expected += part;
    EXPECT_EQ(internal::SumOfSquares(values), expected) << count;
  }
}

TEST_P(KernelsTest, AddMagnitudesAddsByRowAndByColumn) {
  for (size_t count : {0, 1, 31, 32, 33, 100, 1000}) {
    Random random(count);
    std::vector<float> values(count);
    std::vector<double> columns(count, 0.5), expected_columns(count);
    double parts[32] = {}, expected = 0;
    for (size_t i = 0; i < count; ++i) {
      values[i] = static_cast<float>(random.Normal() * std::pow(10, random.Normal() * 4));
      parts[i % 32] += std::fabs(values[i]);
      expected_columns[i] = 0.5 + std::fabs(values[i]);
    }
    for (double part : parts) expected += part;
    EXPECT_EQ(internal::AddMagnitudes(values, absl::MakeSpan(columns)), expected) << count;
    EXPECT_EQ(columns, expected_columns);
    EXPECT_EQ(internal::AddMagnitudes(values, {}), expected) << count;
  }
}

TEST_P(KernelsTest, MaxMagnitudeBitsSeesTheLargestAndWhatIsNotFinite) {
  for (size_t count : {0, 1, 3, 7, 16, 31, 32, 33, 100, 1000}) {
    std::vector<float> values(count, -0.5f);
    EXPECT_EQ(internal::MaxMagnitudeBits(values), count == 0 ? 0 : 0x3f000000u);
    for (size_t at = 0; at < count; at += 1 + at / 10) {
      values[at] = -2;
      ASSERT_EQ(internal::MaxMagnitudeBits(values), 0x40000000u) << at << " of " << count;
      ASSERT_TRUE(internal::AllFinite(values));
      for (float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::quiet_NaN()}) {
        values[at] = bad;
        ASSERT_FALSE(internal::AllFinite(values)) << at << " of " << count;
      }
      values[at] = -0.5f;
    }
  }
}

// The codecs that bring kernels of their own: the same bytes and the same values as on the best target.
TEST_P(KernelsTest, QuantizersCodeAlikeOnEveryTarget) {
  for (const char* spec : {"int8", "int8:block=7", "int4", "int4:block=33", "int2", "int2:block=1000", "sign", "ternary"}) {
    const std::unique_ptr<Codec> codec = *MakeCodec(spec);
    for (int64_t count : {1, 2, 3, 5, 255, 257, 4095, 9001}) {
      Random random(static_cast<uint64_t>(count));
      std::vector<float> values(static_cast<size_t>(count)), decoded(values.size()), expected(values.size());
      for (float& value : values) value = static_cast<float>(random.Normal());
      const Segment segment{1, count};
      const CodingContext context{absl::MakeConstSpan(&segment, 1), 7, 1};
      Choose(0);
      const std::string bytes = *codec->Encode(values, context);
      ASSERT_TRUE(codec->Decode(bytes, context, absl::MakeSpan(expected)).ok());
      Choose(GetParam());
      ASSERT_EQ(*codec->Encode(values, context), bytes) << spec << " " << count;
      ASSERT_TRUE(codec->Decode(bytes, context, absl::MakeSpan(decoded)).ok());
      ASSERT_EQ(decoded, expected) << spec << " " << count;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, KernelsTest, ::testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         [](const auto& info) { return std::string(hwy::TargetName(info.param)); });

}  // namespace
}  // namespace fedwatt

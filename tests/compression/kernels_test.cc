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

TEST_P(KernelsTest, MultipliesMatricesAsPlainCodeDoes) {
  constexpr size_t kLanes = internal::kMatrixLanes;
  Random random(9);
  for (size_t side : {1, 2, 3, 4, 5, 7, 8, 28, 33}) {
    std::vector<double> left(side * side), in(side * side * kLanes), out(in.size() + 1, 77), expected(in.size());
    for (double& value : left) value = random.Normal();
    for (double& value : in) value = random.Normal();
    for (size_t row = 0; row < side; ++row) {
      for (size_t column = 0; column < side; ++column) {
        for (size_t lane = 0; lane < kLanes; ++lane) {
          double sum = 0;
          for (size_t j = 0; j < side; ++j) sum += left[row * side + j] * in[(j * side + column) * kLanes + lane];
          expected[(column * side + row) * kLanes + lane] = sum;
        }
      }
    }
    internal::MultiplyAndTranspose(left.data(), side, in.data(), out.data());
    EXPECT_EQ(out.back(), 77);
    out.pop_back();
    ASSERT_EQ(out, expected) << side;
  }
}

TEST_P(KernelsTest, RoundRankedRoundsAsPlainCodeDoes) {
  constexpr uint32_t kClasses[] = {1, 1, 1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 32, 32, 64, 64};  // of ranks
  Random random(4);
  for (size_t count : {1, 5, 16, 44, 100, 255, 256, 257, 1000, 64 * 256}) {
    for (int trial = 0; trial < (count > 1000 ? 3 : 40); ++trial) {
      std::vector<float> values = Values(count, static_cast<uint64_t>(trial));
      if (trial % 2 == 0) {  // in one of so many something is too large
        for (float& value : values) value = std::isinf(value) ? 1 : value;
      }
      const size_t blocks = (count + 255) / 256;
      std::vector<internal::RankThresholds> thresholds(blocks);
      for (internal::RankThresholds& its : thresholds) {
        its = {static_cast<uint32_t>(random.Below(128) * 2 + 1), static_cast<uint32_t>(random.Below(256)), random.Uniform()};
      }
      const float step = static_cast<float>(random.Uniform() * 4);
      std::vector<int32_t> out(64 * 256), expected(out.size()), by_rank(out.size());
      size_t good = blocks;
      for (size_t i = 0; i < count; ++i) {
        const auto& [multiplier, addend, offset] = thresholds[i / 256];
        const uint32_t rank = (multiplier * static_cast<uint32_t>(i) + addend) % 256;
        const double magnitude = std::fabs(values[i]) / static_cast<double>(step) + (1 - (rank + offset) / 256);
        if (std::isnan(magnitude)) continue;
        if (magnitude >= kMaxSymbol + 1.0) {
          good = std::min(good, i / 256);
        } else {
          by_rank[i / 256 * 256 + rank] = static_cast<int32_t>(magnitude) * (values[i] < 0 ? -1 : 1);
        }
      }
      ASSERT_EQ(internal::RoundRanked(values, thresholds.data(), step, out.data()), good) << count;
      if (good < blocks) continue;
      uint32_t first = 0;
      for (uint32_t size : kClasses) {
        for (size_t b = 0; b < blocks; ++b) {
          for (uint32_t i = 0; i < size; ++i) expected[64 * first + b * size + i] = by_rank[b * 256 + first + i];
        }
        first += size;
      }
      ASSERT_EQ(out, expected) << count;
    }
  }
}

TEST_P(KernelsTest, RoundRankedSaysWhereAMagnitudeIsTooLarge) {
  std::vector<float> values(300, 1.0f);
  std::vector<int32_t> out(64 * 256);
  const internal::RankThresholds thresholds[] = {{1, 0, 0.5}, {1, 0, 0.5}};
  EXPECT_EQ(internal::RoundRanked(values, thresholds, 1, out.data()), 2u);
  values[273] = -static_cast<float>(kMaxSymbol);  // rounded up or down, still one
  EXPECT_EQ(internal::RoundRanked(values, thresholds, 1, out.data()), 2u);
  EXPECT_EQ(out[64 * 16 + 8 + 1], -kMaxSymbol);  // rank 17: of the class from 16 to 23, in block 1
  for (float large : {static_cast<float>(kMaxSymbol) + 1, -INFINITY}) {
    values[273] = large;
    EXPECT_EQ(internal::RoundRanked(values, thresholds, 1, out.data()), 1u) << large;
  }
  values[3] = INFINITY;
  EXPECT_EQ(internal::RoundRanked(values, thresholds, 1, out.data()), 0u);
}

TEST_P(KernelsTest, TakeSymbolsTakesWhatIsNotZero) {
  for (size_t count : {0, 1, 3, 4, 15, 16, 17, 63, 64, 65, 128, 300, 1000}) {
    for (uint64_t sparsity : {1, 2, 20, 200}) {
      Random random(count + sparsity);
      std::vector<int32_t> symbols(count), expected_symbols;
      std::vector<uint32_t> expected_indices;
      for (size_t i = 0; i < count; ++i) {
        if (random.Below(sparsity) != 0) continue;
        symbols[i] = static_cast<int32_t>(random.Below(5)) - 2;
        if (symbols[i] == 0) continue;
        expected_symbols.push_back(symbols[i]);
        expected_indices.push_back(static_cast<uint32_t>(i) + 77);
      }
      std::vector<uint32_t> indices(count + internal::kPlacePadding);
      std::vector<int32_t> taken(indices.size());
      const size_t found = internal::TakeSymbols(absl::MakeSpan(symbols), 77, indices.data(), taken.data());
      indices.resize(found);
      taken.resize(found);
      ASSERT_EQ(indices, expected_indices) << count;
      ASSERT_EQ(taken, expected_symbols) << count;
      ASSERT_EQ(symbols, std::vector<int32_t>(count)) << count;
    }
  }
}

TEST_P(KernelsTest, CodeOctetsCodesAsPlainCodeDoes) {
  constexpr size_t kStates[] = {7, 3, 6, 2, 5, 1, 4, 0};
  Random random(5);
  for (size_t octets : {0, 1, 2, 1000}) {
    std::vector<uint32_t> operations(octets * internal::kOctet), states(internal::kOctet), words(operations.size() + internal::kOctet), expected_words;
    for (uint32_t& state : states) state = static_cast<uint32_t>((1 << 16) + random.Below((uint64_t{1} << 32) - (1 << 16)));
    std::vector<uint32_t> expected = states;
    for (size_t i = 0; i < operations.size(); ++i) {
      // Rare and frequent symbols, up to one that alone is possible.
      const uint32_t frequency = static_cast<uint32_t>(1 + random.Below(random.Below(2) == 0 ? 4 : 2048));
      const uint32_t start = static_cast<uint32_t>(random.Below(2049 - frequency)), state = static_cast<uint32_t>(kStates[i % internal::kOctet]);
      operations[i] = start << 16 | frequency | state << internal::kStateShift;
      uint64_t x = expected[state];
      if (x / frequency >= uint64_t{1} << 21) {
        expected_words.push_back(static_cast<uint32_t>(x & 0xffff));
        x >>= 16;
      }
      expected[state] = static_cast<uint32_t>(x / frequency * 2048 + x % frequency + start);
    }
    words.resize(internal::CodeOctets(operations, states.data(), words.data()));
    for (uint32_t& word : words) word &= 0xffff;
    EXPECT_EQ(words, expected_words) << octets;
    EXPECT_EQ(states, expected) << octets;
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
    internal::SquareSums sums;
    for (size_t begin = 0; begin < count; begin += 64) sums.Add(absl::MakeSpan(values).subspan(begin, 64));
    EXPECT_EQ(sums.Total(), expected) << count;
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

// The codecs that use kernels: the same bytes and the same values as on the best target.
TEST_P(KernelsTest, QuantizersCodeAlikeOnEveryTarget) {
  for (const char* spec : {"int8", "int8:block=7", "int4", "int4:block=33", "int2", "int2:block=1000", "sign", "ternary", "dithered:multiple=1",
                           "ecsq:multiple=2"}) {
    const std::unique_ptr<Codec> codec = *MakeCodec(spec);
    for (int64_t count : {1, 2, 3, 5, 255, 257, 4095, 9001, 60001}) {  // the last has symbols enough for eight states
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

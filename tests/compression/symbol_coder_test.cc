#include "fedwatt/compression/symbol_coder.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "fedwatt/base/random.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::_;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Counts = std::vector<int64_t>;

int64_t Total(const Counts& counts) { return std::accumulate(counts.begin(), counts.end(), int64_t{0}); }

std::string Encode(const Counts& counts, const SparseSymbols& symbols, uint64_t salt = 0) {
  absl::StatusOr<std::string> bytes = EncodeSymbols(counts, symbols, salt);
  EXPECT_THAT(bytes, IsOk());
  return bytes.value_or("");
}

void ExpectRoundTrip(const Counts& counts, const SparseSymbols& symbols) {
  SparseSymbols decoded;
  ASSERT_THAT(DecodeSymbols(Encode(counts, symbols), counts, Total(counts), decoded), IsOk());
  EXPECT_EQ(decoded.indices, symbols.indices);
  EXPECT_EQ(decoded.symbols, symbols.symbols);
}

// Sum over the segments of their zero-order entropy, in bytes.
double EntropyBytes(const Counts& counts, const SparseSymbols& symbols) {
  double bits = 0;
  size_t next = 0;
  int64_t end = 0;
  for (int64_t count : counts) {
    end += count;
    std::map<int32_t, double> histogram;
    const size_t first = next;
    for (; next < symbols.indices.size() && symbols.indices[next] < end; ++next) histogram[symbols.symbols[next]] += 1;
    if (const double zeros = static_cast<double>(count) - static_cast<double>(next - first); zeros > 0) histogram[0] = zeros;
    for (const auto& [symbol, n] : histogram) bits += n * std::log2(static_cast<double>(count) / n);
  }
  return bits / 8;
}

// Values with these scales, segment by segment, rounded to integers.
SparseSymbols Quantized(const Counts& counts, const std::vector<double>& scales, bool gaussian, uint64_t seed) {
  Random random(seed);
  SparseSymbols symbols;
  uint32_t index = 0;
  for (size_t s = 0; s < counts.size(); ++s) {
    for (int64_t i = 0; i < counts[s]; ++i, ++index) {
      double value = random.Normal();
      if (!gaussian) {
        const double u = random.Uniform() - 0.5;
        value = std::copysign(std::log(1 - 2 * std::fabs(u)), u) * -std::sqrt(0.5);
      }
      const int32_t symbol = static_cast<int32_t>(std::lround(value * scales[s]));
      if (symbol == 0) continue;
      symbols.indices.push_back(index);
      symbols.symbols.push_back(symbol);
    }
  }
  return symbols;
}

TEST(SymbolCoderTest, NoSymbolsAreNoBytes) {
  EXPECT_EQ(Encode({}, {}), "");
  EXPECT_EQ(Encode({0, 1000, 5}, {}), "");
  SparseSymbols decoded{{1}, {2}};
  ASSERT_THAT(DecodeSymbols("", Counts{1000}, 1000, decoded), IsOk());
  EXPECT_TRUE(decoded.indices.empty());
  EXPECT_TRUE(decoded.symbols.empty());
}

TEST(SymbolCoderTest, HandMadeVectorsComeBack) {
  ExpectRoundTrip({1}, {{0}, {1}});
  ExpectRoundTrip({1}, {{0}, {-kMaxSymbol}});
  ExpectRoundTrip({0, 1, 0, 0, 1, 0}, {{0, 1}, {4, -5}});
  ExpectRoundTrip({5, 0, 10}, {{0, 4, 5, 14}, {1, -1, kMaxSymbol, -kMaxSymbol}});
  ExpectRoundTrip({int64_t{1} << 31}, {{0, (1u << 31) - 1}, {3, -4}});
  ExpectRoundTrip({1 << 20, 1 << 20}, {{(1 << 20) - 1, 1 << 20, (1 << 21) - 1}, {5, 6, 7}});
  // Magnitudes on both sides of every bucket's edge.
  SparseSymbols edges;
  for (int32_t power = 1; power < kMaxSymbol; power *= 2) {
    for (int32_t quarter = 4; quarter < 8; ++quarter) {
      for (int32_t beside : {-1, 0, 1}) {
        for (int32_t offset : {0, 5}) {  // symbols as they are, and beyond the escape
          const int64_t magnitude = static_cast<int64_t>(power) * quarter / 4 + beside + offset;
          if (magnitude < 1 || magnitude > kMaxSymbol) continue;
          edges.indices.push_back(static_cast<uint32_t>(edges.indices.size()));
          edges.symbols.push_back(static_cast<int32_t>(edges.indices.size() % 2 == 0 ? magnitude : -magnitude));
        }
      }
    }
  }
  ExpectRoundTrip({static_cast<int64_t>(edges.indices.size())}, edges);
}

TEST(SymbolCoderTest, EveryRunLengthComesBack) {
  // Runs on both sides of every bucket's edge, in contexts from dense to sparse and with jumps between them.
  SparseSymbols symbols;
  uint64_t position = 0;
  for (uint64_t run = 1; run < (1u << 24); run = run * 5 / 4 + 1) {
    for (uint64_t next : {run - 1, run, run + 1, uint64_t{0}, uint64_t{0}, uint64_t{0}, uint64_t{0}}) {
      position += next;
      symbols.indices.push_back(static_cast<uint32_t>(position++));
      symbols.symbols.push_back(position % 3 == 0 ? -1 : 2);
    }
  }
  ExpectRoundTrip({static_cast<int64_t>(position) + 5}, symbols);
}

TEST(SymbolCoderTest, RandomVectorsComeBack) {
  Random random(3);
  for (int trial = 0; trial < 400; ++trial) {
    Counts counts(1 + random.Below(30));
    for (int64_t& count : counts) count = static_cast<int64_t>(random.Below(uint64_t{1} << random.Below(13)));
    SparseSymbols symbols;
    double density = random.Uniform();
    const int width = static_cast<int>(random.Below(25));
    for (uint32_t i = 0; i < static_cast<uint32_t>(Total(counts)); ++i) {
      if (random.Below(200) == 0) density = std::pow(random.Uniform(), 4);
      if (random.Uniform() >= density) continue;
      const int32_t magnitude = std::max(1, static_cast<int32_t>(random.Below(uint64_t{1} << random.Below(static_cast<uint64_t>(width) + 1))));
      symbols.indices.push_back(i);
      symbols.symbols.push_back(random.Below(2) == 0 ? magnitude : -magnitude);
    }
    ExpectRoundTrip(counts, symbols);
  }
}

TEST(SymbolCoderTest, SizeIsWithinTwoPercentOfTheEntropy) {
  // 0.03 to 2 bits a position, and beyond; layers of unlike sizes and scales.
  const Counts counts = {1'200'000, 400'000, 1'000, 59'000};
  for (bool gaussian : {false, true}) {
    for (double scale : {0.12, 0.15, 0.2, 0.25, 0.33, 0.5, 1.0, 4.0, 60.0}) {
      const std::vector<double> scales = {scale, scale * 0.7, scale * 2, scale * 1.3};
      const SparseSymbols symbols = Quantized(counts, scales, gaussian, 5);
      const double entropy = EntropyBytes(counts, symbols);
      if (entropy < 20'000) continue;
      EXPECT_LE(static_cast<double>(Encode(counts, symbols).size()), 1.02 * entropy) << scale << " gaussian " << gaussian;
    }
  }
}

TEST(SymbolCoderTest, ShortMessagesPayLittle) {
  // 200,000 positions in 16 segments, 1 to 10 kB of entropy: learning and side information are at most 4 bytes a segment + 32, and 2 %.
  Counts counts = {156'800, 200, 40'000, 200, 2'000, 10};
  for (int i = 0; i < 10; ++i) counts.push_back(80);
  for (double scale : {0.125, 0.16, 0.2, 0.25}) {
    const SparseSymbols symbols = Quantized(counts, std::vector<double>(counts.size(), scale), false, 11);
    const double entropy = EntropyBytes(counts, symbols);
    EXPECT_LE(static_cast<double>(Encode(counts, symbols).size()), 1.02 * entropy + 32 + 4 * static_cast<double>(counts.size())) << entropy;
  }
}

TEST(SymbolCoderTest, SideInformationIsAtMostFourBytesASegmentAnd32) {
  // One symbol in each segment, all at the same place: what they say themselves is next to nothing.
  Counts counts(500, 1);
  SparseSymbols symbols;
  for (uint32_t i = 0; i < 500; ++i) {
    symbols.indices.push_back(i);
    symbols.symbols.push_back(1);
  }
  EXPECT_LE(Encode(counts, symbols).size(), 4u * 500 + 32);
  EXPECT_LE(Encode({1000}, {{500}, {1}}).size(), 4u + 32);
}

TEST(SymbolCoderTest, GoesBelowTheEntropyWhereNeighboursAreAlike) {
  // A density that drifts within one segment, and signs that come in rows of 64.
  Random random(6);
  SparseSymbols drifting, rows;
  for (uint32_t i = 0; i < 400'000; ++i) {
    const double density = 0.1 + 0.098 * std::sin(i / 3000.0);
    if (random.Uniform() < density) {
      drifting.indices.push_back(i);
      drifting.symbols.push_back(random.Below(2) == 0 ? 1 : -1);
    }
    if (random.Uniform() < 0.1) {
      rows.indices.push_back(i);
      rows.symbols.push_back(i / 640 % 2 == 0 ? 1 : -1);
    }
  }
  EXPECT_LE(static_cast<double>(Encode({400'000}, drifting).size()), 0.95 * EntropyBytes({400'000}, drifting));
  EXPECT_LE(static_cast<double>(Encode({400'000}, rows).size()), 0.88 * EntropyBytes({400'000}, rows));
}

TEST(SymbolCoderTest, RefusesSymbolsThatAreNotSparse) {
  const Counts counts = {10, 10};
  for (const SparseSymbols& bad : std::vector<SparseSymbols>{{{3, 3}, {1, 1}},
                                                             {{4, 3}, {1, 1}},
                                                             {{20}, {1}},
                                                             {{3, 25}, {1, 1}},
                                                             {{12, 3}, {1, 1}},
                                                             {{3}, {0}},
                                                             {{3}, {kMaxSymbol + 1}},
                                                             {{3}, {-kMaxSymbol - 1}},
                                                             {{3}, {INT32_MIN}},
                                                             {{3}, {}},
                                                             {{}, {1}}}) {
    EXPECT_THAT(EncodeSymbols(counts, bad), StatusIs(absl::StatusCode::kInvalidArgument, _)) << ::testing::PrintToString(bad.indices);
  }
  EXPECT_THAT(EncodeSymbols({}, {{0}, {1}}), StatusIs(absl::StatusCode::kInvalidArgument, _));
  EXPECT_THAT(EncodeSymbols(Counts{-1}, {}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("-1")));
  EXPECT_THAT(EncodeSymbols(Counts{int64_t{1} << 31, 1}, {}), StatusIs(absl::StatusCode::kInvalidArgument, _));
}

TEST(SymbolCoderTest, NoticesOtherSegmentsAndAnotherSalt) {
  const Counts counts = {100, 200, 300};
  const SparseSymbols symbols = Quantized(counts, {0.3, 0.3, 0.3}, false, 1);
  const std::string bytes = Encode(counts, symbols, 7);
  SparseSymbols decoded;
  EXPECT_THAT(DecodeSymbols(bytes, counts, 600, decoded, 7), IsOk());
  EXPECT_THAT(DecodeSymbols(bytes, counts, 600, decoded, 8), StatusIs(absl::StatusCode::kDataLoss, _));
  for (const Counts& other : std::vector<Counts>{{100, 200, 301}, {100, 200}, {600}, {100, 200, 300, 1}, {100, 200, 300, 0}, {200, 100, 300}, {}}) {
    EXPECT_THAT(DecodeSymbols(bytes, other, 1000, decoded, 7), StatusIs(absl::StatusCode::kDataLoss, _)) << ::testing::PrintToString(other);
  }
  const int64_t count = static_cast<int64_t>(symbols.indices.size());
  EXPECT_THAT(DecodeSymbols(bytes, counts, count, decoded, 7), IsOk());
  EXPECT_THAT(DecodeSymbols(bytes, counts, count - 1, decoded, 7), StatusIs(absl::StatusCode::kDataLoss, _));
}

TEST(SymbolCoderTest, RefusesTruncatedAndLongerBytes) {
  for (double scale : {0.2, 3.0, 50.0}) {
    const Counts counts = {500, 10, 3000};
    const SparseSymbols symbols = Quantized(counts, {scale, scale, scale}, true, 2);
    const std::string bytes = Encode(counts, symbols);
    SparseSymbols decoded;
    for (size_t size = 1; size < bytes.size(); ++size) {
      ASSERT_THAT(DecodeSymbols(std::string_view(bytes).substr(0, size), counts, 3510, decoded), StatusIs(absl::StatusCode::kDataLoss, _)) << size;
      ASSERT_THAT(DecodeSymbols(std::string_view(bytes).substr(size), counts, 3510, decoded), StatusIs(absl::StatusCode::kDataLoss, _)) << size;
    }
    EXPECT_THAT(DecodeSymbols(bytes + '\0', counts, 3510, decoded), StatusIs(absl::StatusCode::kDataLoss, _));
    EXPECT_THAT(DecodeSymbols('\0' + bytes, counts, 3510, decoded), StatusIs(absl::StatusCode::kDataLoss, _));
  }
}

// Whatever the decoder accepts is sparse as promised, and none of it crashes. A flipped raw bit may make another valid message; noise never is one.
TEST(SymbolCoderTest, BearsDamageAndRandomBytes) {
  Random random(8);
  const Counts counts = {1000, 0, 3, 4000};
  const std::string good = Encode(counts, Quantized(counts, {0.4, 1, 1, 0.4}, false, 3));
  int damaged_accepted = 0;
  for (int trial = 0; trial < 20'000; ++trial) {
    std::string bytes = good;
    if (trial % 2 == 0) {
      bytes[random.Below(bytes.size())] ^= static_cast<char>(1 << random.Below(8));
    } else {
      bytes.resize(random.Below(200));
      for (char& c : bytes) c = static_cast<char>(random.Next());
      if (bytes.empty()) continue;
    }
    SparseSymbols decoded;
    const absl::Status status = DecodeSymbols(bytes, counts, 5003, decoded);
    if (!status.ok()) {
      ASSERT_EQ(status.code(), absl::StatusCode::kDataLoss);
      continue;
    }
    ASSERT_EQ(trial % 2, 0);
    ++damaged_accepted;
    ASSERT_THAT(EncodeSymbols(counts, decoded), IsOk());
  }
  EXPECT_LE(damaged_accepted, 500);
}

TEST(SymbolCoderTest, ClaimsHoldNoMemory) {
  // All ones of raw bits claim as much as can be claimed; the decoder must give up having read what there is.
  for (size_t size : {1, 8, 20, 1000}) {
    SparseSymbols decoded;
    EXPECT_THAT(DecodeSymbols(std::string(size, '\xff'), Counts{int64_t{1} << 31}, int64_t{1} << 31, decoded), StatusIs(absl::StatusCode::kDataLoss, _));
    EXPECT_LE(decoded.indices.capacity(), 1u << 20);
    EXPECT_THAT(DecodeSymbols(std::string(size, '\0'), Counts{int64_t{1} << 31}, int64_t{1} << 31, decoded), StatusIs(absl::StatusCode::kDataLoss, _));
    EXPECT_LE(decoded.indices.capacity(), 1u << 20);
  }
}

}  // namespace
}  // namespace fedwatt

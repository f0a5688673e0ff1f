#include "fedwatt/compression/symbol_coder.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>
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

std::string Encode(const Counts& counts, const SparseSymbols& symbols, uint64_t salt = 0, const Counts& rows = {}) {
  absl::StatusOr<std::string> bytes = EncodeSymbols(counts, symbols, salt, rows);
  EXPECT_THAT(bytes, IsOk());
  return bytes.value_or("");
}

void ExpectRoundTrip(const Counts& counts, const SparseSymbols& symbols, const Counts& rows = {}) {
  SparseSymbols decoded;
  ASSERT_THAT(DecodeSymbols(Encode(counts, symbols, 0, rows), counts, Total(counts), decoded, 0, rows), IsOk());
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

// Values of which each is like the one before and the ones above, in rows of `row`: what is coded densely.
SparseSymbols Smooth(const Counts& counts, double scale, int64_t row, uint64_t seed) {
  Random random(seed);
  SparseSymbols symbols;
  std::vector<double> above(static_cast<size_t>(row));
  double left = 0;
  for (uint32_t i = 0; i < static_cast<uint32_t>(Total(counts)); ++i) {
    double& up = above[i % above.size()];
    left = 0.55 * left + 0.4 * up + (i % above.size() < 5 ? 0.01 : 0.4) * random.Normal();
    up = left;
    const int32_t symbol = static_cast<int32_t>(std::lround(left * scale));
    if (symbol == 0) continue;
    symbols.indices.push_back(i);
    symbols.symbols.push_back(symbol);
  }
  return symbols;
}

// Whether bytes say that symbols are coded densely: their last bit of all.
bool IsDense(const std::string& bytes) { return !bytes.empty() && static_cast<uint8_t>(bytes.back()) >= 128; }

// A second implementation of the decoder, as slow and plain as the description of the bytes at the head of symbol_coder.cc.
class Reference {
 public:
  // nullopt where the bytes are not what an encoder makes. `counts` are all positive.
  static std::optional<SparseSymbols> Decode(const std::string& bytes, const Counts& counts, int64_t max_symbols, const Counts& rows = {}) {
    Reference reference(bytes);
    return reference.Run(counts, max_symbols, rows);
  }

 private:
  struct Frequencies {
    std::vector<uint64_t> counts, shares;  // in 32nds of a symbol; of 2,048
    uint64_t due = 0;

    static uint64_t Sum(const std::vector<uint64_t>& numbers) { return std::accumulate(numbers.begin(), numbers.end(), uint64_t{0}); }
    void Build() {
      const uint64_t possible = counts.size() - static_cast<uint64_t>(std::count(counts.begin(), counts.end(), 0u)), total = Sum(counts);
      shares.clear();
      for (uint64_t count : counts) shares.push_back((count > 0) + count * (((2048 - possible) << 32) / total) / (uint64_t{1} << 32));
      shares[static_cast<size_t>(std::max_element(counts.begin(), counts.end()) - counts.begin())] += 2048 - Sum(shares);
      if (total > 32768 * 32) {
        for (uint64_t& count : counts) count = (count + 1) / 2;
      }
      due = Sum(counts) + std::clamp<uint64_t>(Sum(counts) / 4, 8 * 32, 8192 * 32);
    }
  };
  struct Context {
    uint64_t half_octave, table, shift;
    explicit Context(uint64_t mean256) {
      const double v = static_cast<double>(mean256) + 77;
      const double octave = std::floor(std::log2(v));
      const bool upper = v >= std::exp2(octave) * 1.375;
      half_octave = static_cast<uint64_t>(2 * (octave - 6)) + upper;
      table = octave <= 10 ? half_octave : 10 + upper;
      shift = octave <= 10 ? 0 : static_cast<uint64_t>(octave) - 10;
    }
  };

  explicit Reference(const std::string& bytes) : bytes_(bytes) {
    const uint64_t ratios[12] = {1285, 6494, 14732, 22651, 30490, 37767, 44048, 49152, 53399, 56559, 52953, 56361};
    for (uint64_t ratio : ratios) {
      Frequencies geometric;
      std::vector<uint64_t> share(40);
      uint64_t left = uint64_t{1} << 40;
      for (uint64_t units = 0; units < 896; ++units) {
        share[Bucket(units)] += left - left * ratio / 65536;
        left = left * ratio / 65536;
      }
      share[39] = left;
      for (uint64_t part : share) geometric.counts.push_back(1 + part * 48 * 32 / (uint64_t{1} << 40));
      geometric.Build();
      runs_.push_back(geometric);
      escapes_.push_back(geometric);
    }
  }

  static size_t Bucket(uint64_t units) {  // by searching
    size_t bucket = 39;
    while (Base(bucket) > units) --bucket;
    return bucket;
  }
  static uint64_t Base(size_t bucket) { return bucket < 16 ? bucket : (4 + (bucket - 16) % 4) << Extra(bucket); }
  static uint64_t Extra(size_t bucket) { return bucket < 16 ? 0 : 2 + (bucket - 16) / 4; }

  uint64_t Bits(uint64_t count) {
    uint64_t value = 0;
    for (; count > 0; --count, ++bit_) {
      const size_t byte = bit_ / 8;
      const bool there = byte < bytes_.size();
      value = value * 2 + (there ? static_cast<uint8_t>(bytes_[bytes_.size() - 1 - byte]) >> (7 - bit_ % 8) & 1 : 0);
    }
    return value;
  }
  uint64_t Word() {
    uint64_t value = 0;
    for (int i = 0; i < 2; ++i, ++byte_) value += byte_ < bytes_.size() ? static_cast<uint64_t>(static_cast<uint8_t>(bytes_[byte_])) << (8 * i) : 0;
    return value;
  }
  size_t Symbol(Frequencies& table, size_t state) {
    const uint64_t slot = states_[state] % 2048;
    uint64_t start = 0;
    size_t symbol = 0;
    while (start + table.shares[symbol] <= slot) start += table.shares[symbol++];
    states_[state] = table.shares[symbol] * (states_[state] / 2048) + slot - start;
    if (states_[state] < 65536) states_[state] = states_[state] * 65536 + Word();
    table.counts[symbol] += 32;
    return symbol;
  }
  uint64_t Number(std::vector<Frequencies>& tables, const Context& context, size_t state, size_t* bucket_out = nullptr) {
    const size_t bucket = Symbol(tables[context.table], state);
    if (bucket_out != nullptr) *bucket_out = bucket;
    return bucket == 39 ? Bits(32) : (Base(bucket) << context.shift) + Bits(Extra(bucket) + context.shift);
  }
  void Learn(std::vector<Frequencies>& tables) {
    for (Frequencies& table : tables) {
      if (Frequencies::Sum(table.counts) >= table.due) table.Build();
    }
  }

  static uint64_t Mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

  // Towards minus infinity.
  static int64_t Divide(int64_t number, int64_t by) { return number >= 0 ? number / by : -((-number + by - 1) / by); }

  // The tables of one large segment: what a code stands for is told by the expectation and the symbol before.
  struct Dense {
    std::vector<Frequencies> tables[8], escapes;
    std::vector<uint64_t> since[8];
    uint64_t escape_mean256 = 4 * 256;
  };
  Dense FreshDense() const {
    const uint64_t ratios[8] = {1964, 5851, 11137, 20658, 33726, 46184, 55039, 60688};
    Dense dense;
    dense.escapes = escapes_;
    for (size_t e = 0; e < 8; ++e) {
      Frequencies table;
      table.counts.assign(33, 0);
      uint64_t left = (2 * ratios[e] << 40) / (65536 + ratios[e]);
      table.counts[0] = 1 + ((uint64_t{1} << 40) - left) * 256 / (uint64_t{1} << 40);
      for (size_t m = 1; m <= kEscapes[e]; ++m) {
        const uint64_t rest = m < kEscapes[e] ? left * ratios[e] / 65536 : 0;
        table.counts[2 * m - 1] = table.counts[2 * m] = 1 + (left - rest) * 128 / (uint64_t{1} << 40);
        left = rest;
      }
      table.Build();
      dense.tables[e].assign(11, table);
      dense.since[e].assign(11, 0);
    }
    return dense;
  }
  static constexpr uint64_t kEscapes[8] = {3, 3, 4, 5, 7, 10, 14, 16};

  // The positions of one segment in the order of coding, then what stands at each.
  bool ReadDense(int64_t positions, int64_t row, Dense& dense, std::vector<int32_t>& values) {
    const int64_t rows = row > 0 ? (positions + row - 1) / row : 1;
    const bool columns = rows >= 4;
    const int64_t length = columns ? (rows + 3) / 4 * row : (positions + 3) / 4;
    std::vector<int64_t> strip_means(4, 256), column_means(static_cast<size_t>(columns ? row : 1)), before(4, 0);
    values.assign(static_cast<size_t>(positions), 0);
    for (int64_t step = 0; step < length; ++step) {
      int64_t& column_mean = column_means[columns ? static_cast<size_t>(step % row) : 0];
      if (!columns || step < row) column_mean = std::accumulate(strip_means.begin(), strip_means.end(), int64_t{0}) / 4;
      const int64_t expected_by_column = column_mean;
      int64_t sum = 0;
      for (size_t strip = 0; strip < 4; ++strip) {
        const int64_t position = static_cast<int64_t>(strip) * length + step;
        if (position >= positions) continue;
        const double expected = static_cast<double>((strip_means[strip] + expected_by_column) / 2) / 256;
        size_t e = 0;
        while (e < 7 && expected >= std::exp2(static_cast<double>(e) - 3)) ++e;
        const size_t context = static_cast<size_t>(std::clamp<int64_t>(before[strip], -5, 5) + 5);
        Frequencies& table = dense.tables[e][context];
        const uint64_t built = Frequencies::Sum(table.counts) - 32 * dense.since[e][context];
        const size_t code = Symbol(table, strip);
        if (++dense.since[e][context] >= std::clamp<uint64_t>(built / 128, 4, 1024)) {
          table.Build();
          dense.since[e][context] = 0;
        }
        int64_t magnitude = static_cast<int64_t>(code + 1) / 2;
        if (magnitude == static_cast<int64_t>(kEscapes[e])) {
          const Context scale(dense.escape_mean256);
          Frequencies& escapes = dense.escapes[scale.table];
          const uint64_t beyond = Number(dense.escapes, scale, 4 + strip);
          if (Frequencies::Sum(escapes.counts) >= escapes.due) escapes.Build();
          if (beyond > static_cast<uint64_t>(kMaxSymbol - magnitude)) return false;
          dense.escape_mean256 = static_cast<uint64_t>(
              static_cast<int64_t>(dense.escape_mean256) + Divide(static_cast<int64_t>(beyond * 256) - static_cast<int64_t>(dense.escape_mean256), 16));
          magnitude += static_cast<int64_t>(beyond);
        }
        before[strip] = code % 2 == 1 ? magnitude : -magnitude;
        values[static_cast<size_t>(position)] = static_cast<int32_t>(before[strip]);
        const int64_t counted = std::min<int64_t>(magnitude, 16);
        strip_means[strip] += Divide(256 * counted - strip_means[strip], 32);
        sum += counted;
      }
      column_mean = expected_by_column + Divide(64 * sum - expected_by_column, 8);
    }
    return true;
  }

  std::optional<SparseSymbols> Run(const Counts& counts, int64_t max_symbols, const Counts& rows) {
    const bool dense = Bits(1) == 1;
    const uint64_t adaptation = dense ? 0 : Bits(2);
    const bool nearness = !dense && Bits(1) == 1, units = !dense && Bits(1) == 1;
    const uint64_t magnitude_ratios[3] = {19661, 7864, 1966};
    for (int t = 0; t < 18; ++t) {
      Frequencies signs;
      uint64_t left = uint64_t{1} << 40;
      for (int s = 0; s < 10; s += 2) {
        const uint64_t rest = s < 8 ? left * magnitude_ratios[t / 6] / 65536 : 0;
        const uint64_t count = units ? (s == 0 ? 4 * 32 : 0) : 1 + (left - rest) * 4 * 32 / (uint64_t{1} << 40);
        signs.counts.insert(signs.counts.end(), 2, count);
        left = rest;
      }
      signs.Build();
      signs_.push_back(signs);
    }
    std::vector<int64_t> numbers;
    int64_t before = 1, positions_before = 16;
    for (int64_t positions : counts) {
      int64_t zeros = 0;
      while (Bits(1) == 0) {
        if (++zeros > 80) return std::nullopt;
      }
      int64_t width = zeros % 2 == 0 ? zeros / 2 : -(zeros + 1) / 2;
      for (int64_t predicted = positions * before / positions_before; predicted > 0; predicted /= 2) ++width;
      if (width < 0 || width > 32) return std::nullopt;
      numbers.push_back(width == 0 ? 0 : (int64_t{1} << (width - 1)) + static_cast<int64_t>(Bits(static_cast<uint64_t>(width) - 1)));
      if (numbers.back() > positions) return std::nullopt;
      before = numbers.back();
      positions_before = positions;
    }
    const int64_t total = std::accumulate(numbers.begin(), numbers.end(), int64_t{0});
    if (total == 0 || total > max_symbols) return std::nullopt;
    const size_t half = dense || total >= 16384 ? 4 : total >= 2048 ? 2 : 1;
    for (size_t i = 0; i < 2 * half; ++i) {
      const uint64_t low = Word();
      states_.push_back(Word() * 65536 + low);
    }

    SparseSymbols out;
    uint64_t escape_mean256 = 4 * 256, groups = 0, next_check = 4;
    size_t previous_sign = 0;
    int64_t begin = 0;
    Dense model = FreshDense();
    for (size_t s = 0; dense && s < counts.size(); ++s) {
      if (counts[s] >= 4096 && numbers[s] > 0) model = FreshDense();
      std::vector<int32_t> values;
      if (numbers[s] > 0 && !ReadDense(counts[s], rows.empty() ? 0 : rows[s], model, values)) return std::nullopt;
      if (std::count_if(values.begin(), values.end(), [](int32_t value) { return value != 0; }) != numbers[s]) return std::nullopt;
      for (size_t i = 0; i < values.size(); ++i) {
        if (values[i] == 0) continue;
        out.indices.push_back(static_cast<uint32_t>(begin) + static_cast<uint32_t>(i));
        out.symbols.push_back(values[i]);
      }
      begin += counts[s];
    }
    for (size_t s = 0; !dense && s < counts.size(); ++s) {
      int64_t position = begin - 1;
      begin += counts[s];
      if (numbers[s] == 0) continue;
      int64_t mean256 = (counts[s] - numbers[s]) * 256 / numbers[s];
      for (int64_t done = 0; done < numbers[s];) {
        const Context context(static_cast<uint64_t>(mean256));
        int64_t runs = 0;
        size_t place = 0;
        for (; place < 4 && done < numbers[s]; ++place, ++done) {
          size_t bucket = 0;
          const uint64_t run = Number(runs_, context, place % half, &bucket);
          const size_t density = context.half_octave <= 4 ? 0 : context.half_octave <= 7 ? 1 : 2;
          const size_t near = !nearness || bucket == 0 ? 0 : bucket <= 3 ? 1 : 2;
          const size_t code = Symbol(signs_[density * 6 + near * 2 + previous_sign], half + place % half);
          previous_sign = code % 2;
          int64_t magnitude = static_cast<int64_t>(code / 2) + 1;
          if (magnitude == 5) {
            const uint64_t beyond = Number(escapes_, Context(escape_mean256), half + place % half);
            // Towards minus infinity.
            const int64_t change = static_cast<int64_t>(beyond * 256) - static_cast<int64_t>(escape_mean256);
            escape_mean256 = static_cast<uint64_t>(static_cast<int64_t>(escape_mean256) + (change >= 0 ? change / 16 : -((-change + 15) / 16)));
            magnitude += static_cast<int64_t>(beyond);
            if (magnitude > kMaxSymbol) return std::nullopt;
          }
          runs += static_cast<int64_t>(run);
          position += static_cast<int64_t>(run) + 1;
          if (position >= begin) return std::nullopt;
          out.indices.push_back(static_cast<uint32_t>(position));
          out.symbols.push_back(static_cast<int32_t>(previous_sign == 1 ? -magnitude : magnitude));
        }
        if (adaptation > 0 && place == 4) {
          const int64_t change = runs * 256 - 4 * mean256, weight = int64_t{4} << adaptation;
          mean256 += change >= 0 ? change / weight : -((-change + weight - 1) / weight);
        }
        if (++groups >= next_check) {
          next_check += std::clamp<uint64_t>(groups / 4, 4, 64);
          Learn(runs_);
          Learn(escapes_);
          Learn(signs_);
        }
      }
    }
    uint64_t hash = Mix(0) + counts.size();
    for (int64_t count : counts) hash = Mix(hash + 0x9e3779b97f4a7c15u + static_cast<uint64_t>(count));
    for (int64_t row : rows) hash = Mix(hash + 0x9e3779b97f4a7c15u + static_cast<uint64_t>(row));
    hash = Mix(hash);
    for (size_t i = 0; i < states_.size(); ++i) {
      if (states_[i] != 65536 + (hash >> (16 * (i % 4))) % 65536) return std::nullopt;
    }
    while (bit_ % 8 != 0) {
      if (Bits(1) != 0) return std::nullopt;
    }
    if (byte_ + bit_ / 8 != bytes_.size()) return std::nullopt;
    return out;
  }

  const std::string& bytes_;
  size_t byte_ = 0, bit_ = 0;
  std::vector<uint64_t> states_;
  std::vector<Frequencies> runs_, escapes_, signs_;
};

TEST(SymbolCoderTest, AgreesWithThePlainDecoder) {
  Random random(12);
  int accepted = 0;
  for (int trial = 0; trial < 300; ++trial) {
    Counts counts(1 + random.Below(6));
    for (int64_t& count : counts) count = static_cast<int64_t>(1 + random.Below(trial % 20 == 0 ? 60'000 : 3'000));
    std::vector<double> scales(counts.size(), std::exp(random.Normal() * 1.2 - 1));
    SparseSymbols symbols = Quantized(counts, scales, trial % 2 == 0, static_cast<uint64_t>(trial));
    if (trial % 3 == 0) {
      for (int32_t& symbol : symbols.symbols) symbol = symbol > 0 ? 1 : -1;
    }
    if (trial % 5 == 0) {  // long runs and jumps of density
      SparseSymbols thinned;
      for (size_t i = 0; i < symbols.indices.size(); ++i) {
        if (i / 300 % 2 == 0 && i % 97 != 0) continue;
        thinned.indices.push_back(symbols.indices[i]);
        thinned.symbols.push_back(i % 11 == 0 ? symbols.symbols[i] * 1000 : symbols.symbols[i]);
      }
      symbols = thinned;
    }
    if (symbols.indices.empty()) continue;
    std::string bytes = Encode(counts, symbols);
    for (int damage = 0; damage < 12; ++damage) {
      if (damage > 0) bytes[random.Below(bytes.size())] ^= static_cast<char>(1 << random.Below(8));
      if (damage == 6) bytes.resize(bytes.size() - random.Below(std::min<size_t>(bytes.size(), 4)));
      if (bytes.empty()) break;
      const std::optional<SparseSymbols> expected = Reference::Decode(bytes, counts, Total(counts));
      SparseSymbols decoded;
      const absl::Status status = DecodeSymbols(bytes, counts, Total(counts), decoded);
      ASSERT_EQ(status.ok(), expected.has_value()) << status << " trial " << trial << " damage " << damage;
      if (damage == 0) {
        ASSERT_THAT(status, IsOk());
        ASSERT_EQ(decoded.indices, symbols.indices);
        ASSERT_EQ(decoded.symbols, symbols.symbols);
      }
      if (!status.ok()) continue;
      ++accepted;
      ASSERT_EQ(decoded.indices, expected->indices);
      ASSERT_EQ(decoded.symbols, expected->symbols);
    }
  }
  EXPECT_GE(accepted, 290);
}

TEST(SymbolCoderTest, AgreesWithThePlainDecoderWhereSymbolsAreDense) {
  Random random(13);
  int accepted = 0, dense = 0;
  for (int trial = 0; trial < 60; ++trial) {
    // Rows that fit and rows that don't, more and less than four of them, segments beside the large ones.
    const int64_t row = 1 + static_cast<int64_t>(random.Below(trial % 4 == 0 ? 3000 : 100));
    Counts counts = {4096 + static_cast<int64_t>(random.Below(6000)), static_cast<int64_t>(1 + random.Below(300)), row * (1 + static_cast<int64_t>(random.Below(9)))};
    Counts rows = {row, 1 + static_cast<int64_t>(random.Below(400)), row};
    if (trial % 5 == 0) rows.clear();
    SparseSymbols symbols = Smooth(counts, std::exp(random.Normal() + 1.5), row, static_cast<uint64_t>(trial));
    if (trial % 7 == 0) {
      for (size_t i = 0; i < symbols.symbols.size(); i += 37) symbols.symbols[i] = static_cast<int32_t>(random.Below(1 << 20)) - kMaxSymbol;
    }
    if (symbols.indices.empty()) continue;
    std::string bytes = Encode(counts, symbols, 0, rows);
    dense += IsDense(bytes);
    for (int damage = 0; damage < 8; ++damage) {
      if (damage > 0) bytes[random.Below(bytes.size())] ^= static_cast<char>(1 << random.Below(8));
      if (damage == 5) bytes.resize(bytes.size() - random.Below(4));
      const std::optional<SparseSymbols> expected = Reference::Decode(bytes, counts, Total(counts), rows);
      SparseSymbols decoded;
      const absl::Status status = DecodeSymbols(bytes, counts, Total(counts), decoded, 0, rows);
      ASSERT_EQ(status.ok(), expected.has_value()) << status << " trial " << trial << " damage " << damage;
      if (damage == 0) {
        ASSERT_THAT(status, IsOk());
        ASSERT_EQ(decoded.indices, symbols.indices);
        ASSERT_EQ(decoded.symbols, symbols.symbols);
      }
      if (!status.ok()) continue;
      ++accepted;
      ASSERT_EQ(decoded.indices, expected->indices);
      ASSERT_EQ(decoded.symbols, expected->symbols);
    }
  }
  EXPECT_GE(accepted, 55);
  EXPECT_GE(dense, 30);
}

TEST(SymbolCoderTest, NeighboursTellWhereFewSymbolsAreZero) {
  const Counts counts = {60'000, 100, 20'000}, rows = {300, 100, 200};
  for (double scale : {1.0, 3.0, 12.0}) {
    const SparseSymbols symbols = Smooth(counts, scale, 300, 1);
    const std::string bytes = Encode(counts, symbols, 0, rows);
    EXPECT_TRUE(IsDense(bytes)) << scale;
    EXPECT_LE(static_cast<double>(bytes.size()), 0.93 * EntropyBytes(counts, symbols)) << scale;
    SparseSymbols decoded;
    ASSERT_THAT(DecodeSymbols(bytes, counts, 80'100, decoded, 0, rows), IsOk());
    EXPECT_EQ(decoded.symbols, symbols.symbols);
    // Another shape of the same segments is noticed, as is a bound on the symbols.
    EXPECT_THAT(DecodeSymbols(bytes, counts, 80'100, decoded, 0, Counts{200, 100, 200}), StatusIs(absl::StatusCode::kDataLoss, _));
    EXPECT_THAT(DecodeSymbols(bytes, counts, 80'100, decoded), StatusIs(absl::StatusCode::kDataLoss, _));
    EXPECT_THAT(DecodeSymbols(bytes, counts, static_cast<int64_t>(symbols.symbols.size()) - 1, decoded, 0, rows), StatusIs(absl::StatusCode::kDataLoss, _));
    for (size_t size = bytes.size() - 40; size < bytes.size(); ++size) {
      ASSERT_THAT(DecodeSymbols(std::string_view(bytes).substr(0, size), counts, 80'100, decoded, 0, rows), StatusIs(absl::StatusCode::kDataLoss, _));
      ASSERT_THAT(DecodeSymbols(std::string_view(bytes).substr(bytes.size() - size), counts, 80'100, decoded, 0, rows),
                  StatusIs(absl::StatusCode::kDataLoss, _));
    }
  }
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
  const Counts vast = {int64_t{1} << 31};
  for (size_t size : {1, 8, 20, 1000}) {
    SparseSymbols decoded;
    EXPECT_THAT(DecodeSymbols(std::string(size, '\xff'), vast, vast[0], decoded), StatusIs(absl::StatusCode::kDataLoss, _));
    EXPECT_LE(decoded.indices.capacity(), 1u << 20);
    EXPECT_THAT(DecodeSymbols(std::string(size, '\0'), vast, vast[0], decoded), StatusIs(absl::StatusCode::kDataLoss, _));
    EXPECT_LE(decoded.indices.capacity(), 1u << 20);
  }
}

}  // namespace
}  // namespace fedwatt

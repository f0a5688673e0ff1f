// Bytes: the words of the range coder forwards, then the raw bits backwards from the last byte. Both ends know where they must meet.
//
// Raw bits, most significant first:
//   2   adaptation: 0 the density of a segment is its mean, or 1-3: followed within it, a run weighing 2^-3, 2^-4, 2^-5
//   for each segment that has positions: its number of symbols K. With e = bit width of K, the difference of e to what the density of the segment
//   before predicts (1/16 for the first), as 0, -1, 1, -2, .. -> 0, 1, 2, 3, .. in unary; then the e - 1 bits of K below its leading one
//   then what the symbols below add
//
// Symbols are coded in groups of 4 within a segment; a group has one context, a half octave of the expected run m:
//
//   h = 2 * log2(m + 0.3) in whole steps;  unit = 2^max(0, floor(log2(m + 0.3)) - 2)
//   run    = bucket(run / unit) from table min(h, ..) of 12, then the raw bits that place the run inside the bucket
//   symbol = +-1 .. +-4 or an escape of either sign, from a table chosen by h (3 classes), by the run (4 classes) and by the sign before it
//   escape: |symbol| - 5 coded like a run, with tables and an expectation of its own, which is followed at a weight of 2^-4
//   m      = the mean run of the segment; where adaptation is on, m += (mean run of the last group - m) * 4 * weight
//
// A geometric law loses less than 0.1 % by the units and buckets. Each table starts from the geometric law in the middle of its context, held as
// firmly as 24 symbols would hold it, and counts what it codes; it is rebuilt once its counts grew by half. Frequencies have 11 bits.
//
// The coder has 2 states of 32 bits, 4 when there are 2,048 symbols or more: they take turns, half of them for runs and half for symbols. A state
// starts as 2^16 + 16 bits of a hash of the segment counts and the salt, and the decoder must find it there again: a checksum for free.
#include "fedwatt/compression/symbol_coder.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt {
namespace {

static_assert(std::endian::native == std::endian::little, "words are loaded as they lie");

constexpr int kPrecision = 11;
constexpr uint32_t kScale = 1u << kPrecision;
constexpr uint32_t kLowest = 1u << 16;  // of a state between two symbols
constexpr int64_t kMaxPositions = int64_t{1} << 31;
constexpr int64_t kFourStates = 2048;
constexpr int kGroup = 4;

constexpr int kRunAlphabet = 40;
constexpr uint32_t kRunEscape = kRunAlphabet - 1;  // followed by 32 raw bits
constexpr int kRunTables = 12;
constexpr int kSignAlphabet = 10;
constexpr int kSignTables = 3 * 4 * 2;
constexpr int kEscapeMagnitude = 5;

// Counts are in 32nds of a symbol, so that a prior can weigh less than one.
constexpr uint32_t kOne = 32;
constexpr uint32_t kRunPrior = 24 * kOne;
constexpr uint32_t kSignPrior = 8 * kOne;

// std::bit_width, whose return type library versions disagree about.
int BitWidth(uint64_t value) { return 64 - std::countl_zero(value); }

uint64_t Mix(uint64_t z) {  // the finalizer of SplitMix64
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

uint64_t HashCounts(absl::Span<const int64_t> counts, uint64_t salt) {
  uint64_t hash = Mix(salt) + counts.size();
  for (int64_t count : counts) hash = Mix(hash + 0x9e3779b97f4a7c15u + static_cast<uint64_t>(count));
  return Mix(hash);
}

// A frequency table that learns. Slots map a state's low bits to a symbol.
struct Table {
  uint8_t slots[kScale];
  uint32_t entries[kRunAlphabet];  // start << 16 | frequency
  uint32_t counts[kRunAlphabet];
  uint32_t alphabet;
  uint32_t seen;      // symbols since the tables were built
  uint32_t next;      // how many make it worth building again

  void Build() {
    uint64_t total = 0;
    uint32_t largest = 0;
    for (uint32_t s = 0; s < alphabet; ++s) {
      total += counts[s];
      if (counts[s] > counts[largest]) largest = s;
    }
    // Everything stays possible: one slot each, the rest by share.
    const uint64_t factor = (static_cast<uint64_t>(kScale - alphabet) << 32) / total;
    uint32_t frequencies[kRunAlphabet];
    uint32_t left = kScale;
    for (uint32_t s = 0; s < alphabet; ++s) {
      frequencies[s] = 1 + static_cast<uint32_t>((counts[s] * factor) >> 32);
      left -= frequencies[s];
    }
    frequencies[largest] += left;
    uint32_t start = 0;
    for (uint32_t s = 0; s < alphabet; ++s) {
      entries[s] = start << 16 | frequencies[s];
      std::memset(slots + start, static_cast<int>(s), frequencies[s]);
      start += frequencies[s];
    }
    seen = 0;
    next = static_cast<uint32_t>(std::clamp<uint64_t>(total / (2 * kOne), 16, 8192));
    // Forget slowly: what is long past counts less, and counts stay far from overflow.
    if (total > (uint64_t{1} << 15) * kOne) {
      for (uint32_t s = 0; s < alphabet; ++s) counts[s] = (counts[s] + 1) / 2;
    }
  }

  void Count(uint32_t s) {
    counts[s] += kOne;
    ++seen;
  }
};

// Bucket of a number of units: 0-15 alone, then four to an octave; kRunEscape holds the rest.
uint32_t BucketOf(uint64_t units) {
  if (units < 16) return static_cast<uint32_t>(units);
  const int width = BitWidth(units);
  return static_cast<uint32_t>(std::min<uint64_t>(16 + (width - 5) * 4 + ((units >> (width - 3)) & 3), kRunEscape));
}

struct Buckets {
  uint32_t base[kRunAlphabet];
  uint8_t extra[kRunAlphabet];
};
constexpr Buckets MakeBuckets() {
  Buckets buckets{};
  for (uint32_t s = 0; s < kRunAlphabet; ++s) {
    buckets.extra[s] = static_cast<uint8_t>(s < 16 ? 0 : 2 + (s - 16) / 4);
    buckets.base[s] = s < 16 ? s : (4 + (s - 16) % 4) << buckets.extra[s];
  }
  return buckets;
}
constexpr Buckets kBuckets = MakeBuckets();

// The context of numbers whose expectation is mean256 / 256.
struct Scale {
  uint32_t half_octave;  // 0 at a mean of 0; 4 at 0.7; 8 at 3.7
  uint32_t table;        // of kRunTables
  int shift;             // unit = 2^shift
};
Scale ScaleOf(uint64_t mean256) {
  const uint64_t v = mean256 + 77;
  const int e = BitWidth(v) - 1;  // >= 6
  const uint32_t upper = ((v >> (e - 3)) & 7) >= 3;
  const uint32_t half_octave = static_cast<uint32_t>(2 * (e - 6)) + upper;
  if (e <= 10) return {half_octave, half_octave, 0};
  return {half_octave, 10 + upper, e - 10};
}

// What both ends learn.
struct Model {
  Table runs[kRunTables];
  Table escapes[kRunTables];
  Table signs[kSignTables];
  uint64_t escape_mean256 = 4 * 256;
  uint32_t previous_sign = 0;
  uint32_t groups = 0;
  uint32_t next_check = 4;

  Table& SignTable(const Scale& scale, uint64_t run) {
    const uint32_t density = scale.half_octave <= 4 ? 0 : scale.half_octave <= 7 ? 1 : 2;
    const uint32_t near = static_cast<uint32_t>(std::min(BitWidth(run + 1), 4) - 1);
    return signs[(density * 4 + near) * 2 + previous_sign];
  }
  void FollowEscape(uint64_t value) {
    escape_mean256 = static_cast<uint64_t>(static_cast<int64_t>(escape_mean256) +
                                           ((static_cast<int64_t>(value << 8) - static_cast<int64_t>(escape_mean256)) >> 4));
  }
  // Looked at seldom enough to cost nothing, often enough for short messages.
  void EndGroup() {
    if (++groups < next_check) return;
    next_check += std::clamp(groups / 4, 4u, 64u);
    const auto learn = [](Table* tables, int count) {
      for (int t = 0; t < count; ++t) {
        if (tables[t].seen >= tables[t].next) tables[t].Build();
      }
    };
    learn(runs, kRunTables);
    learn(escapes, kRunTables);
    learn(signs, kSignTables);
  }
};

// P(n + 1) / P(n) of the geometric law in the middle of each context, in 2^-16.
constexpr uint32_t kRatios[kRunTables] = {1285, 6494, 14732, 22651, 30490, 37767, 44048, 49152, 53399, 56559, 52953, 56361};
// P(|symbol| > n) / P(|symbol| > n - 1), for dense, middling and sparse contexts.
constexpr uint32_t kMagnitudeRatios[3] = {19661, 7864, 1966};

void StartGeometric(uint32_t ratio, Table& table) {
  table.alphabet = kRunAlphabet;
  uint64_t share[kRunAlphabet] = {};
  uint64_t left = uint64_t{1} << 40;  // P(n >= units)
  for (uint64_t units = 0; units < kBuckets.base[kRunEscape]; ++units) {
    const uint64_t rest = (left * ratio) >> 16;
    share[BucketOf(units)] += left - rest;
    left = rest;
  }
  share[kRunEscape] = left;
  for (int s = 0; s < kRunAlphabet; ++s) table.counts[s] = 1 + static_cast<uint32_t>((share[s] * kRunPrior) >> 40);
  table.Build();
}

void StartSigns(uint32_t ratio, Table& table) {
  table.alphabet = kSignAlphabet;
  uint64_t left = uint64_t{1} << 40;
  for (int s = 0; s < kSignAlphabet; s += 2) {
    const uint64_t rest = s + 2 < kSignAlphabet ? (left * ratio) >> 16 : 0;
    table.counts[s] = table.counts[s + 1] = 1 + static_cast<uint32_t>(((left - rest) * kSignPrior / 2) >> 40);
    left = rest;
  }
  table.Build();
}

const Model& FreshModel() {
  static const Model& model = *[] {
    auto* made = new Model();
    for (int t = 0; t < kRunTables; ++t) {
      StartGeometric(kRatios[t], made->runs[t]);
      StartGeometric(kRatios[t], made->escapes[t]);
    }
    for (int t = 0; t < kSignTables; ++t) StartSigns(kMagnitudeRatios[t / 8], made->signs[t]);
    return made;
  }();
  return model;
}

uint64_t SegmentMean256(int64_t positions, int64_t symbols) {
  return (static_cast<uint64_t>(positions - symbols) << 8) / static_cast<uint64_t>(symbols);
}

// The expectation of a run within one segment.
struct Density {
  Density(uint64_t mean256, int adaptation) : mean256(mean256), scale(ScaleOf(mean256)), weight_log2(adaptation + 2) {}
  void EndGroup(uint64_t runs) {
    const int64_t mean = static_cast<int64_t>(mean256);
    mean256 = static_cast<uint64_t>(mean + ((static_cast<int64_t>(runs << 8) - 4 * mean) >> weight_log2));
    scale = ScaleOf(mean256);
  }
  uint64_t mean256;
  Scale scale;
  int weight_log2;
};

// ---- Encoding

// Most significant bit first; the bytes are reversed in the end.
class BitWriter {
 public:
  void Put(uint64_t value, int count) {
    if (count > 32) {
      Put(value >> 32, count - 32);
      value &= 0xffffffffu;
      count = 32;
    }
    pending_ = pending_ << count | value;
    pending_count_ += count;
    while (pending_count_ >= 8) {
      pending_count_ -= 8;
      bytes_.push_back(static_cast<char>(pending_ >> pending_count_));
    }
  }
  std::string FinishReversed() {
    if (pending_count_ > 0) bytes_.push_back(static_cast<char>(pending_ << (8 - pending_count_)));
    std::reverse(bytes_.begin(), bytes_.end());
    return std::move(bytes_);
  }

 private:
  std::string bytes_;
  uint64_t pending_ = 0;
  int pending_count_ = 0;
};

void PutCount(int64_t positions, int64_t symbols, int predicted_width, BitWriter& bits) {
  const int width = BitWidth(static_cast<uint64_t>(symbols));
  const int difference = width - predicted_width;
  const int zigzag = difference >= 0 ? 2 * difference : -2 * difference - 1;
  for (int i = 0; i < zigzag; ++i) bits.Put(0, 1);
  bits.Put(1, 1);
  if (width > 1) bits.Put(static_cast<uint64_t>(symbols) & ((uint64_t{1} << (width - 1)) - 1), width - 1);
}

// Bit width of the number of symbols at the density of the segment before.
class WidthPredictor {
 public:
  int Predict(int64_t positions) const {
    return BitWidth(static_cast<uint64_t>(positions) * static_cast<uint64_t>(symbols_) / static_cast<uint64_t>(positions_));
  }
  void Follow(int64_t positions, int64_t symbols) {
    positions_ = positions;
    symbols_ = symbols;
  }

 private:
  int64_t positions_ = 16, symbols_ = 1;  // both at most 2^31: products fit
};

// One segment's part of SparseSymbols.
struct SegmentSymbols {
  int64_t begin;  // first position
  int64_t positions;
  size_t first;   // of the symbols
  size_t count;
};

// What the range coder is to write, in the order of reading.
class OperationSink {
 public:
  OperationSink(size_t symbols, BitWriter& bits) : bits_(bits) { operations_.reserve(2 * symbols + symbols / 8); }
  void Symbol(const Table& table, uint32_t symbol, uint32_t state) { operations_.push_back({table.entries[symbol], state}); }
  void Bits(uint64_t value, int count) { bits_.Put(value, count); }

  // Words in the order of reading, after the states.
  std::string Finish(uint64_t check, int state_count) const {
    uint32_t states[4];
    for (int i = 0; i < state_count; ++i) states[i] = kLowest + static_cast<uint16_t>(check >> (16 * i));
    std::vector<uint16_t> words;
    words.reserve(operations_.size() / 2 + 16);
    for (size_t i = operations_.size(); i-- > 0;) {
      const uint32_t frequency = operations_[i].entry & 0xffff, start = operations_[i].entry >> 16;
      uint32_t& x = states[operations_[i].state];
      if (x >= static_cast<uint64_t>(frequency) << (32 - kPrecision)) {
        words.push_back(static_cast<uint16_t>(x));
        x >>= 16;
      }
      x = (x / frequency << kPrecision) + x % frequency + start;
    }
    for (int i = state_count; i-- > 0;) {
      words.push_back(static_cast<uint16_t>(states[i] >> 16));
      words.push_back(static_cast<uint16_t>(states[i]));
    }
    std::reverse(words.begin(), words.end());
    std::string bytes(words.size() * 2, '\0');
    std::memcpy(bytes.data(), words.data(), bytes.size());
    return bytes;
  }

 private:
  struct Operation {
    uint32_t entry;
    uint32_t state;
  };
  std::vector<Operation> operations_;
  BitWriter& bits_;
};

// Adds up what the operations would cost, in 2^-8 bits.
class CostSink {
 public:
  void Symbol(const Table& table, uint32_t symbol, uint32_t) { cost_ += Costs()[table.entries[symbol] & 0xffff]; }
  void Bits(uint64_t, int count) { cost_ += static_cast<uint64_t>(count) << 8; }
  uint64_t cost() const { return cost_; }

 private:
  // 256 * -log2(frequency / kScale), by squaring: integers alone, so that every machine chooses alike.
  static const std::array<uint16_t, kScale + 1>& Costs() {
    static const auto costs = [] {
      std::array<uint16_t, kScale + 1> made{};
      for (uint32_t f = 1; f <= kScale; ++f) {
        const int width = BitWidth(f) - 1;
        uint64_t mantissa = (static_cast<uint64_t>(f) << 31) >> width;  // in [2^31, 2^32)
        uint32_t log = static_cast<uint32_t>(width) << 8;
        for (uint32_t bit = 128; bit > 0; bit >>= 1) {
          mantissa = (mantissa * mantissa) >> 31;
          if (mantissa >> 32) {
            mantissa >>= 1;
            log += bit;
          }
        }
        made[f] = static_cast<uint16_t>((kPrecision << 8) - log);
      }
      return made;
    }();
    return costs;
  }
  uint64_t cost_ = 0;
};

template <typename Sink>
void PutNumber(Table* tables, const Scale& scale, uint64_t number, uint32_t state, Sink& sink) {
  Table& table = tables[scale.table];
  const uint32_t bucket = BucketOf(number >> scale.shift);
  sink.Symbol(table, bucket, state);
  table.Count(bucket);
  if (bucket == kRunEscape) return sink.Bits(number, 32);
  const int extra = kBuckets.extra[bucket] + scale.shift;
  if (extra > 0) sink.Bits(number & ((uint64_t{1} << extra) - 1), extra);
}

// Codes the first `fraction` / 2^16 of each segment.
template <typename Sink>
void PutSymbols(absl::Span<const SegmentSymbols> segments, const SparseSymbols& symbols, int adaptation, int state_count, uint64_t fraction, Sink& sink) {
  auto model = std::make_unique<Model>(FreshModel());
  const uint32_t half = static_cast<uint32_t>(state_count / 2);
  for (const SegmentSymbols& segment : segments) {
    if (segment.count == 0) continue;
    Density density(SegmentMean256(segment.positions, static_cast<int64_t>(segment.count)), adaptation);
    const size_t end = segment.first + ((segment.count * fraction) >> 16);
    int64_t position = segment.begin - 1;
    for (size_t i = segment.first; i < end;) {
      const size_t group_end = std::min(i + kGroup, end);
      uint64_t runs = 0;
      const bool whole = group_end - i == kGroup;
      for (uint32_t place = 0; i < group_end; ++i, ++place) {
        const uint64_t run = static_cast<uint64_t>(symbols.indices[i] - position - 1);
        position = symbols.indices[i];
        runs += run;
        const uint32_t turn = place & (half - 1);
        PutNumber(model->runs, density.scale, run, turn, sink);
        Table& table = model->SignTable(density.scale, run);
        const int32_t symbol = symbols.symbols[i];
        const uint32_t magnitude = static_cast<uint32_t>(symbol < 0 ? -symbol : symbol), sign = symbol < 0;
        const uint32_t code = 2 * (std::min<uint32_t>(magnitude, kEscapeMagnitude) - 1) + sign;
        sink.Symbol(table, code, half + turn);
        table.Count(code);
        model->previous_sign = sign;
        if (magnitude >= kEscapeMagnitude) {
          PutNumber(model->escapes, ScaleOf(model->escape_mean256), magnitude - kEscapeMagnitude, half + turn, sink);
          model->FollowEscape(magnitude - kEscapeMagnitude);
        }
      }
      if (adaptation > 0 && whole) density.EndGroup(runs);
      model->EndGroup();
    }
  }
}

// ---- Decoding

// Reads most significant bits first, from the last byte towards the front. At least 8 bytes lie before every byte read.
class BitReader {
 public:
  explicit BitReader(const char* end) : end_(end) {}
  uint64_t Get(int count) {  // count in [0, 57]
    uint64_t window;
    std::memcpy(&window, end_ - 8 - (position_ >> 3), 8);
    window = window << (position_ & 7) >> 1;
    position_ += static_cast<uint64_t>(count);
    return window >> (63 - count);
  }
  uint64_t position() const { return position_; }

 private:
  const char* end_;
  uint64_t position_ = 0;
};

absl::Status Damaged(const absl::AlphaNum& what) { return absl::DataLossError(absl::StrCat("symbols: ", what)); }

// Errors: DATA_LOSS  a number that no segment of this size has
absl::StatusOr<int64_t> TakeCount(int64_t positions, int predicted_width, BitReader& bits) {
  int zigzag = 0;
  while (bits.Get(1) == 0) {
    if (++zigzag > 80) return Damaged("a count has no end");
  }
  const int width = predicted_width + (zigzag % 2 == 0 ? zigzag / 2 : -(zigzag + 1) / 2);
  if (width < 0 || width > 32) return Damaged("a count is out of range");
  const int64_t count = width == 0 ? 0 : static_cast<int64_t>(uint64_t{1} << (width - 1) | bits.Get(width - 1));
  if (count > positions) return Damaged(absl::StrCat(count, " symbols in ", positions, " positions"));
  return count;
}

class Decoder {
 public:
  Decoder(const char* words, const char* end) : word_(words), bits_(end) {}

  BitReader& bits() { return bits_; }
  // Bytes between the two readers; negative when they have passed each other.
  int64_t left(const char* end) const { return end - static_cast<int64_t>((bits_.position() + 7) / 8) - word_; }

  void Start(int state_count) {
    for (int i = 0; i < state_count; ++i) {
      std::memcpy(&states_[i], word_, 4);
      word_ += 4;
    }
  }
  bool Ends(uint64_t check, int state_count) const {
    for (int i = 0; i < state_count; ++i) {
      if (states_[i] != kLowest + static_cast<uint16_t>(check >> (16 * i))) return false;
    }
    return true;
  }

  uint32_t Symbol(Table& table, uint32_t state) {
    uint32_t& x = states_[state];
    const uint32_t slot = x & (kScale - 1);
    const uint32_t symbol = table.slots[slot];
    const uint32_t entry = table.entries[symbol];
    uint32_t next = (entry & 0xffff) * (x >> kPrecision) + slot - (entry >> 16);
    uint16_t word;
    std::memcpy(&word, word_, 2);
    const bool refill = next < kLowest;
    next = refill ? next << 16 | word : next;
    word_ += refill ? 2 : 0;
    x = next;
    table.Count(symbol);
    return symbol;
  }

  uint64_t Number(Table* tables, const Scale& scale, uint32_t state) {
    const uint32_t bucket = Symbol(tables[scale.table], state);
    if (bucket == kRunEscape) return bits_.Get(32);
    return (static_cast<uint64_t>(kBuckets.base[bucket]) << scale.shift) + bits_.Get(kBuckets.extra[bucket] + scale.shift);
  }

 private:
  const char* word_;
  BitReader bits_;
  uint32_t states_[4] = {kLowest, kLowest, kLowest, kLowest};
};

}  // namespace

absl::StatusOr<std::string> EncodeSymbols(absl::Span<const int64_t> segment_counts, const SparseSymbols& symbols, uint64_t salt) {
  if (symbols.indices.size() != symbols.symbols.size()) {
    return absl::InvalidArgumentError(absl::StrCat(symbols.indices.size(), " indices of ", symbols.symbols.size(), " symbols"));
  }
  const size_t count = symbols.indices.size();
  std::vector<SegmentSymbols> segments;
  int64_t begin = 0;
  size_t next = 0;
  for (int64_t positions : segment_counts) {
    if (positions < 0 || positions > kMaxPositions - begin) {
      return absl::InvalidArgumentError(absl::StrCat("segment of ", positions, " positions, expected [0, 2^31] in all"));
    }
    const size_t first = next;
    if (positions > 0) {
      const auto from = symbols.indices.begin() + static_cast<std::ptrdiff_t>(next);
      next = static_cast<size_t>(std::lower_bound(from, symbols.indices.end(), begin + positions) - symbols.indices.begin());
      segments.push_back({begin, positions, first, next - first});
    }
    begin += positions;
  }
  bool ascending = true, in_range = true;
  for (size_t i = 0; i < count; ++i) {
    ascending &= i == 0 || symbols.indices[i] > symbols.indices[i - 1];
    in_range &= symbols.symbols[i] != 0 && symbols.symbols[i] <= kMaxSymbol && symbols.symbols[i] >= -kMaxSymbol;
  }
  if (!ascending || next != count) return absl::InvalidArgumentError(absl::StrCat("indices are not ascending below ", begin));
  if (!in_range) return absl::InvalidArgumentError(absl::StrCat("a symbol is 0 or beyond ", kMaxSymbol));
  if (count == 0) return std::string();

  // The adaptation that suits a sample best.
  constexpr size_t kSample = 4096;
  const uint64_t fraction = count <= kSample ? 1 << 16 : (uint64_t{kSample} << 16) / count;
  const int state_count = static_cast<int64_t>(count) >= kFourStates ? 4 : 2;
  int adaptation = 0;
  uint64_t least = UINT64_MAX;
  for (int candidate = 0; candidate < 4; ++candidate) {
    CostSink cost;
    PutSymbols(segments, symbols, candidate, state_count, fraction, cost);
    if (cost.cost() < least) {
      least = cost.cost();
      adaptation = candidate;
    }
  }

  BitWriter bits;
  bits.Put(static_cast<uint64_t>(adaptation), 2);
  WidthPredictor predictor;
  for (const SegmentSymbols& segment : segments) {
    PutCount(segment.positions, static_cast<int64_t>(segment.count), predictor.Predict(segment.positions), bits);
    predictor.Follow(segment.positions, static_cast<int64_t>(segment.count));
  }
  OperationSink operations(count, bits);
  PutSymbols(segments, symbols, adaptation, state_count, 1 << 16, operations);
  return operations.Finish(HashCounts(segment_counts, salt), state_count) + bits.FinishReversed();
}

absl::Status DecodeSymbols(std::string_view bytes, absl::Span<const int64_t> segment_counts, int64_t max_symbols, SparseSymbols& out,
                           uint64_t salt) {
  out.indices.clear();
  out.symbols.clear();
  int64_t total_positions = 0;
  for (int64_t positions : segment_counts) {
    if (positions < 0 || positions > kMaxPositions - total_positions) return Damaged("more than 2^31 positions");
    total_positions += positions;
  }
  if (bytes.empty()) return absl::OkStatus();

  // Zeros on both sides, so that a group may be read before it is known to be there.
  constexpr size_t kPadding = 128;
  std::vector<char> padded(bytes.size() + 2 * kPadding);
  std::memcpy(padded.data() + kPadding, bytes.data(), bytes.size());
  const char* const begin = padded.data() + kPadding;
  const char* const end = begin + bytes.size();
  Decoder decoder(begin, end);
  BitReader& bits = decoder.bits();

  const int adaptation = static_cast<int>(bits.Get(2));
  std::vector<int64_t> counts;
  WidthPredictor predictor;
  int64_t count = 0;
  for (int64_t positions : segment_counts) {
    if (positions == 0) continue;
    if (decoder.left(end) < 0) return Damaged("the counts are truncated");
    FEDWATT_ASSIGN_OR_RETURN(int64_t symbols, TakeCount(positions, predictor.Predict(positions), bits));
    predictor.Follow(positions, symbols);
    counts.push_back(symbols);
    count += symbols;
  }
  if (count == 0 || count > max_symbols) return Damaged(absl::StrCat(count, " of them, expected [1, ", max_symbols, "]"));
  const int state_count = count >= kFourStates ? 4 : 2;
  const uint32_t half = static_cast<uint32_t>(state_count / 2);
  if (decoder.left(end) < 4 * state_count) return Damaged("the states are truncated");
  decoder.Start(state_count);

  // Grows with what was read: a symbol may cost next to nothing, but a claim alone holds no memory.
  const size_t step = std::max<size_t>(bytes.size(), 4096);
  auto model = std::make_unique<Model>(FreshModel());
  int64_t segment_begin = 0;
  size_t written = 0, room = 0, next_segment = 0;
  for (int64_t positions : segment_counts) {
    if (positions == 0) continue;
    const int64_t symbols = counts[next_segment++];
    const int64_t segment_end = segment_begin + positions;
    if (symbols > 0) {
      Density density(SegmentMean256(positions, symbols), adaptation);
      int64_t position = segment_begin - 1;
      for (int64_t done = 0; done < symbols;) {
        const int group = static_cast<int>(std::min<int64_t>(kGroup, symbols - done));
        if (room - written < kGroup) {
          room = std::min(static_cast<size_t>(count), written + std::max(written, step)) + kGroup;
          out.indices.resize(room);
          out.symbols.resize(room);
        }
        uint64_t runs = 0;
        for (uint32_t place = 0; place < static_cast<uint32_t>(group); ++place) {
          const uint32_t turn = place & (half - 1);
          const uint64_t run = decoder.Number(model->runs, density.scale, turn);
          runs += run;
          position += static_cast<int64_t>(run) + 1;
          const uint32_t code = decoder.Symbol(model->SignTable(density.scale, run), half + turn);
          uint64_t magnitude = code / 2 + 1;
          const int32_t sign = code & 1;
          if (magnitude == kEscapeMagnitude) {
            const uint64_t beyond = decoder.Number(model->escapes, ScaleOf(model->escape_mean256), half + turn);
            model->FollowEscape(beyond);
            magnitude += beyond;
            if (magnitude > kMaxSymbol) return Damaged("a symbol is too large");
          }
          model->previous_sign = static_cast<uint32_t>(sign);
          out.indices[written] = static_cast<uint32_t>(position);
          out.symbols[written] = (static_cast<int32_t>(magnitude) ^ -sign) + sign;
          ++written;
        }
        if (position >= segment_end || decoder.left(end) < 0) return Damaged("truncated, or a symbol stands outside its segment");
        if (adaptation > 0 && group == kGroup) density.EndGroup(runs);
        model->EndGroup();
        done += group;
      }
    }
    segment_begin = segment_end;
  }
  if (!decoder.Ends(HashCounts(segment_counts, salt), state_count)) return Damaged("they do not end as they began: damaged, or made for other segments");
  const uint64_t bits_read = bits.position();
  if (decoder.left(end) != 0 || bits.Get(static_cast<int>(-bits_read & 7)) != 0) return Damaged("bytes are left over");
  out.indices.resize(written);
  out.symbols.resize(written);
  return absl::OkStatus();
}

}  // namespace fedwatt

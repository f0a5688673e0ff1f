// Bytes: the states of the range coder and its words of 16 bits forwards, then the raw bits backwards from the last byte, filled up with zeros. Both
// ends know where they must meet.
//
// Raw bits, most significant first:
//   1   whether symbols are coded densely
//   then, unless they are:
//   2   adaptation: 0 the density of a segment is its mean, or 1-3: followed within it, a run weighing 2^-3, 2^-4, 2^-5
//   1   nearness: whether signs depend on how near the symbol before is
//   1   units: whether all symbols are +-1
//   for each segment that has positions: its number of symbols K. With e = bit width of K, the difference of e to what the density of the segment
//   before predicts (1/16 for the first), as 0, -1, 1, -2, .. -> 0, 1, 2, 3, .. zeros and a one; then the e - 1 bits of K below its leading one
//   then what the symbols below add
//
// Sparsely, symbols are coded in groups of 4 within a segment; a group has one context, a half octave of the expected run m:
//
//   h = 2 * log2(m + 0.3) in whole steps;  unit = 2^max(0, floor(log2(m + 0.3)) - 2)
//   run    = bucket(run / unit) from table min(h, ..) of 12, then the raw bits that place the run inside the bucket
//   symbol = +-1 .. +-4 or an escape of either sign, from a table chosen by h (3 classes), by the run's bucket (3) and by the sign before it
//   escape: |symbol| - 5 coded like a run, with tables and an expectation of its own, which is followed at a weight of 2^-4
//   m      = the mean run of the segment; where adaptation is on, m += (mean run of the last group - m) * 4 * weight
//
// Densely, every position of a segment that has symbols is coded, zeros too. Four strips of a segment take turns: a quarter of its rows each, rounded up,
// or, where there are less than four rows, of its positions. A code is 0 for 0, 2 m - 1 for m and 2 m for -m up to the escape M, which is followed by
// |symbol| - M as above. Its table is chosen by the symbol before in the strip, held within +-5, and by the magnitude that is expected: e = (r + c) / 2, r
// the mean in the strip, which each magnitude moves at a weight of 2^-5, c that of the column, which the mean of the four moves at a weight of 2^-3.
// In a first row and where there are no rows, c is the mean of the four r; r starts at 1; magnitudes count up to 16. Classes are octaves, e < 1/8 to
// e >= 8, each with an M of its own, kDenseEscapes. A table is rebuilt once its counts grew by a quarter, by 4 to 1,024 symbols. All tables start anew
// at segments of 4,096 positions or more.
//
// Expectations are whole 256ths. A geometric law loses less than 0.1 % by the units and buckets. Each table starts from the geometric law in the
// middle of its context, held as firmly as 48 symbols would hold it (8 for signs and densely coded ones), and counts what it codes; it is rebuilt once
// its counts grew by a quarter, which is looked at after groups 4, 8, 12, .. and more seldom later. Frequencies have 11 bits.
//
// The coder (rANS) has 2 states of 32 bits, 4 from 2,048 symbols on, 8 from 16,384 and for dense symbols: the places of a group, or the strips, take
// turns, the first half of the states for runs or densely coded symbols, the other for sparse symbols and for what follows escapes. A state starts as
// 2^16 + 16 bits of a hash of the segment counts, the row lengths and the salt, and the decoder must find it there again: a checksum for free.
#include "fedwatt/compression/symbol_coder.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"
#include "kernels.h"

namespace fedwatt {
namespace {

static_assert(std::endian::native == std::endian::little, "words are loaded as they lie");

constexpr int kPrecision = internal::kPrecision;
constexpr uint32_t kScale = 1u << kPrecision;
constexpr uint32_t kLowest = 1u << 16;  // of a state between two symbols
constexpr int64_t kMaxPositions = int64_t{1} << 31;
constexpr int kMaxStates = 8;
int StateCount(int64_t symbols) { return symbols >= 16384 ? 8 : symbols >= 2048 ? 4 : 2; }
uint32_t StartOf(uint64_t check, int state) {
  return kLowest + (static_cast<uint32_t>(check >> (16 * (state & 3))) & 0xffff);
}
constexpr int kGroup = 4;
constexpr int kAdaptations = 4;

constexpr int kRunAlphabet = 40;
constexpr uint32_t kRunEscape = kRunAlphabet - 1;  // followed by 32 raw bits
constexpr int kRunTables = 12;
constexpr int kSignAlphabet = 10;
constexpr int kNears = 3;
constexpr int kDensities = 3;
constexpr int kSignTables = kDensities * kNears * 2;
using internal::kEscapeMagnitude;

// Counts are in 32nds of a symbol, so that a prior can weigh less than one.
constexpr uint32_t kOne = 32;
constexpr uint32_t kForget = (1u << 15) * kOne;
constexpr uint32_t kRunPrior = 48 * kOne;
constexpr uint32_t kSignPrior = 8 * kOne;

// std::bit_width, whose return type library versions disagree about.
int BitWidth(uint64_t value) { return 64 - std::countl_zero(value); }

uint64_t Mix(uint64_t z) {  // the finalizer of SplitMix64
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

uint64_t HashCounts(absl::Span<const int64_t> counts, absl::Span<const int64_t> row_lengths, uint64_t salt) {
  uint64_t hash = Mix(salt) + counts.size();
  for (int64_t count : counts) hash = Mix(hash + 0x9e3779b97f4a7c15u + static_cast<uint64_t>(count));
  for (int64_t length : row_lengths) hash = Mix(hash + 0x9e3779b97f4a7c15u + static_cast<uint64_t>(length));
  return Mix(hash);
}

// A frequency table that learns. Slots, which a decoder alone has, map a state's low bits to a symbol. Aligned so that an index is a shift and an
// addition away.
template <uint32_t kAlphabet, bool kDecodes>
struct alignas(kDecodes ? 256 : 32) Table {
  uint8_t slots[kDecodes ? kScale : 1];
  uint32_t entries[kAlphabet];  // start << 16 | frequency
  uint32_t counts[kAlphabet];
  uint32_t due;  // sum of the counts that makes it worth building again

  uint32_t Total() const {
    uint32_t total = 0;
    for (uint32_t count : counts) total += count;
    return total;
  }

  void Build() {
    uint32_t total = Total();
    const uint32_t largest = static_cast<uint32_t>(std::max_element(counts, counts + kAlphabet) - counts);
    // What was possible stays possible: one slot each, the rest by share.
    const uint32_t possible = kAlphabet - static_cast<uint32_t>(std::count(counts, counts + kAlphabet, 0u));
    const uint64_t factor = (static_cast<uint64_t>(kScale - possible) << 32) / total;
    uint32_t frequencies[kAlphabet];
    uint32_t left = kScale;
    for (uint32_t s = 0; s < kAlphabet; ++s) {
      frequencies[s] = (counts[s] > 0) + static_cast<uint32_t>((counts[s] * factor) >> 32);
      left -= frequencies[s];
    }
    frequencies[largest] += left;
    uint32_t start = 0;
    for (uint32_t s = 0; s < kAlphabet; ++s) {
      entries[s] = start << 16 | frequencies[s];
      if constexpr (kDecodes) std::memset(slots + start, static_cast<int>(s), frequencies[s]);
      start += frequencies[s];
    }
    // Forget slowly: what is long past counts less, and counts stay far from overflow.
    if (total > kForget) {
      for (uint32_t& count : counts) count = (count + 1) / 2;
      total = Total();
    }
    due = total + std::clamp(total / 4, 8 * kOne, 8192 * kOne);
  }
};

template <bool kDecodes>
using RunTable = Table<kRunAlphabet, kDecodes>;
template <bool kDecodes>
using SignTable = Table<kSignAlphabet, kDecodes>;

// Bucket of a number of units: 0-15 alone, then four to an octave; kRunEscape holds the rest.
constexpr uint32_t LargeBucketOf(uint64_t units) {
  const int width = 64 - std::countl_zero(units);
  return static_cast<uint32_t>(std::min<uint64_t>(16 + static_cast<uint64_t>(width - 5) * 4 + ((units >> (width - 3)) & 3), kRunEscape));
}
// Of those below 2^8, which most are, without a branch that is anybody's guess.
constexpr std::array<uint8_t, 256> kBucketOf = [] {
  std::array<uint8_t, 256> buckets{};
  for (uint32_t units = 0; units < buckets.size(); ++units) buckets[units] = static_cast<uint8_t>(units < 16 ? units : LargeBucketOf(units));
  return buckets;
}();
inline uint32_t BucketOf(uint64_t units) { return units < kBucketOf.size() ? kBucketOf[units] : LargeBucketOf(units); }

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
constexpr int kMostRaw = 57;  // raw bits that are written or read at once
// Up to this shift those of a group are no more.
constexpr int kNarrowShift = kMostRaw / kGroup - kBuckets.extra[kRunEscape - 1];

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

// Which sign table of a density, by the bucket of the run since the symbol before: 0, 1-3, or more; twice that, to which the sign before is added.
constexpr std::array<uint8_t, kRunAlphabet> kNear = [] {
  std::array<uint8_t, kRunAlphabet> near{};
  for (size_t bucket = 0; bucket < kRunAlphabet; ++bucket) near[bucket] = bucket == 0 ? 0 : bucket < 4 ? 2 : 4;
  return near;
}();
// What the codes of a sign table stand for; the last two are escapes.
constexpr int32_t kSymbols[kSignAlphabet] = {1, -1, 2, -2, 3, -3, 4, -4, kEscapeMagnitude, -kEscapeMagnitude};

// The code of symbol - 1 + kEscapeMagnitude, of those that are no escapes.
constexpr std::array<uint8_t, 2 * kEscapeMagnitude - 1> kCodeOf = [] {
  std::array<uint8_t, 2 * kEscapeMagnitude - 1> codes{};
  for (uint8_t code = 0; code < kSignAlphabet - 2; ++code) codes[static_cast<size_t>(kSymbols[code] + kEscapeMagnitude - 1)] = code;
  return codes;
}();

// What both ends learn.
template <bool kDecodes>
struct Model {
  RunTable<kDecodes> runs[kRunTables];
  RunTable<kDecodes> escapes[kRunTables];
  SignTable<kDecodes> signs[kSignTables];
  uint64_t escape_mean256 = 4 * 256;
  uint32_t previous_sign = 0;
  uint32_t near_mask = 0;  // 7 where nearness counts
  uint32_t groups = 0;
  uint32_t next_check = 4;
  uint64_t touched = 0;  // a bit for each table that may have counted since the last check: runs, escapes, signs

  // Those of one density; kNear[] & near_mask and previous_sign choose among them.
  SignTable<kDecodes>* SignTables(const Scale& scale) { return signs + Density(scale) * kNears * 2; }
  // Before a group of such runs.
  void BeginGroup(const Scale& scale) { touched |= uint64_t{1} << scale.table | uint64_t{(1 << kNears * 2) - 1} << (2 * kRunTables + Density(scale) * kNears * 2); }
  void FollowEscape(uint64_t value) {
    touched |= uint64_t{((1 << kRunTables) - 1)} << kRunTables;
    escape_mean256 = static_cast<uint64_t>(static_cast<int64_t>(escape_mean256) +
                                           ((static_cast<int64_t>(value << 8) - static_cast<int64_t>(escape_mean256)) >> 4));
  }
  // Looked at seldom enough to cost nothing, often enough for short messages.
  void EndGroup() {
    if (++groups >= next_check) [[unlikely]] Learn();
  }
  [[gnu::noinline]] void Learn() {
    next_check += std::clamp(groups / 4, 4u, 64u);
    for (; touched != 0; touched &= touched - 1) {
      const int table = std::countr_zero(touched);
      if (table < kRunTables) {
        Learn(runs[table]);
      } else if (table < 2 * kRunTables) {
        Learn(escapes[table - kRunTables]);
      } else {
        Learn(signs[table - 2 * kRunTables]);
      }
    }
  }

 private:
  static int Density(const Scale& scale) { return scale.half_octave <= 4 ? 0 : scale.half_octave <= 7 ? 1 : 2; }
  static void Learn(auto& table) {
    if (table.Total() >= table.due) table.Build();
  }
};
static_assert(2 * kRunTables + kSignTables <= 64);

// P(n + 1) / P(n) of the geometric law in the middle of each context, in 2^-16.
constexpr uint32_t kRatios[kRunTables] = {1285, 6494, 14732, 22651, 30490, 37767, 44048, 49152, 53399, 56559, 52953, 56361};
// P(|symbol| > n) / P(|symbol| > n - 1), for dense, middling and sparse contexts.
constexpr uint32_t kMagnitudeRatios[3] = {19661, 7864, 1966};

template <bool kDecodes>
void StartGeometric(uint32_t ratio, RunTable<kDecodes>& table) {
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

template <bool kDecodes>
void StartSigns(uint32_t ratio, bool units, SignTable<kDecodes>& table) {
  if (units) {
    std::fill(std::begin(table.counts), std::end(table.counts), 0);
    table.counts[0] = table.counts[1] = kSignPrior / 2;
    return table.Build();
  }
  uint64_t left = uint64_t{1} << 40;
  for (int s = 0; s < kSignAlphabet; s += 2) {
    const uint64_t rest = s + 2 < kSignAlphabet ? (left * ratio) >> 16 : 0;
    table.counts[s] = table.counts[s + 1] = 1 + static_cast<uint32_t>(((left - rest) * kSignPrior / 2) >> 40);
    left = rest;
  }
  table.Build();
}

template <bool kDecodes>
const Model<kDecodes>* StartModel(bool units) {
  auto* made = new Model<kDecodes>();
  for (int t = 0; t < kRunTables; ++t) {
    StartGeometric(kRatios[t], made->runs[t]);
    StartGeometric(kRatios[t], made->escapes[t]);
  }
  for (int t = 0; t < kSignTables; ++t) StartSigns(kMagnitudeRatios[t / (kNears * 2)], units, made->signs[t]);
  return made;
}

// What a message says about all of it.
struct Mode {
  int adaptation = 0;     // [0, 4)
  bool nearness = false;  // whether signs depend on how near the symbol before is
  bool units = false;     // whether all symbols are +-1
};

template <bool kDecodes>
std::unique_ptr<Model<kDecodes>> MakeModel(const Mode& mode) {
  static const Model<kDecodes>* const fresh[2] = {StartModel<kDecodes>(false), StartModel<kDecodes>(true)};
  auto model = std::make_unique_for_overwrite<Model<kDecodes>>();
  std::memcpy(model.get(), fresh[mode.units], sizeof(*model));
  model->near_mask = mode.nearness ? 7 : 0;
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

// ---- Dense symbols

constexpr int kStrips = 4;
constexpr int kDenseAlphabet = 33;
constexpr int kExpectations = 8;
constexpr int32_t kMostBefore = 5;
constexpr int kBefore = 2 * kMostBefore + 1;
constexpr int32_t kMostCounted = 16;  // magnitude, for expectations
// No position costs less than a table's largest frequency does, 2,042 of 2,048.
constexpr int64_t kMostDensePositionsPerByte = 2048;
// Dense decoding costs by the position, sparse by the symbol: it must have enough of them, and be worth it.
constexpr int64_t kDensePositions = 4096;
constexpr size_t kDenseShare = 6;  // positions for each symbol
constexpr double kDenseGain = 0.98;

constexpr int32_t kDenseEscapes[kExpectations] = {3, 3, 4, 5, 7, 10, 14, 16};

template <bool kDecodes>
struct DenseTable : Table<kDenseAlphabet, kDecodes> {
  uint32_t left;  // symbols until it is built again
  void Rebuild() {
    this->Build();
    left = std::clamp(this->Total() / (4 * kOne), 4u, 1024u);
  }
};

template <bool kDecodes>
struct DenseModel {
  DenseTable<kDecodes> tables[kExpectations][kBefore];
  RunTable<kDecodes> escapes[kRunTables];
  uint64_t escape_mean256 = 4 * 256;

  RunTable<kDecodes>& EscapeTable() { return escapes[ScaleOf(escape_mean256).table]; }
  void EndEscape(RunTable<kDecodes>& table, uint64_t value) {
    if (table.Total() >= table.due) table.Build();
    escape_mean256 = static_cast<uint64_t>(static_cast<int64_t>(escape_mean256) +
                                           ((static_cast<int64_t>(value << 8) - static_cast<int64_t>(escape_mean256)) >> 4));
  }
};

// P(|symbol| > n) / P(|symbol| > n - 1), n > 0, of the two-sided geometric law in the middle of each class of expectation, in 2^-16.
constexpr uint32_t kDenseRatios[kExpectations] = {1964, 5851, 11137, 20658, 33726, 46184, 55039, 60688};

template <bool kDecodes>
void StartDense(uint32_t expectation, DenseTable<kDecodes>& table) {
  const uint64_t ratio = kDenseRatios[expectation];
  const int32_t escape = kDenseEscapes[expectation];
  std::fill(std::begin(table.counts), std::end(table.counts), 0);
  uint64_t left = (2 * ratio << 40) / ((1 << 16) + ratio);
  table.counts[0] = 1 + static_cast<uint32_t>((((uint64_t{1} << 40) - left) * kSignPrior) >> 40);
  for (int32_t m = 1; m <= escape; ++m) {
    const uint64_t rest = m < escape ? (left * ratio) >> 16 : 0;
    table.counts[2 * m - 1] = table.counts[2 * m] = 1 + static_cast<uint32_t>(((left - rest) * kSignPrior / 2) >> 40);
    left = rest;
  }
  table.Rebuild();
}

template <bool kDecodes>
const DenseModel<kDecodes>& FreshDenseModel() {
  static const DenseModel<kDecodes>* const fresh = [] {
    auto* made = new DenseModel<kDecodes>();
    for (uint32_t e = 0; e < kExpectations; ++e) {
      for (DenseTable<kDecodes>& table : made->tables[e]) StartDense(e, table);
    }
    for (int t = 0; t < kRunTables; ++t) StartGeometric(kRatios[t], made->escapes[t]);
    return made;
  }();
  return *fresh;
}

// The statistics of a large segment are its own.
template <bool kDecodes>
void StartSegment(int64_t positions, DenseModel<kDecodes>& model) {
  if (positions >= kDensePositions) std::memcpy(&model, &FreshDenseModel<kDecodes>(), sizeof(model));
}

// How a segment is walked: at each step one position of each strip, `length` apart, and all of one column.
class Strips {
 public:
  Strips(int64_t positions, int64_t row_length) : positions_(positions) {
    const int64_t rows = row_length > 0 ? (positions + row_length - 1) / row_length : 1;
    has_columns_ = rows >= kStrips;
    length_ = has_columns_ ? (rows + kStrips - 1) / kStrips * row_length : (positions + kStrips - 1) / kStrips;
    if (has_columns_) columns_.resize(static_cast<size_t>(row_length));
  }

  int64_t length() const { return length_; }
  // Steps at which all strips have a position.
  int64_t whole_steps() const { return std::max<int64_t>(positions_ - (kStrips - 1) * length_, 0); }
  int64_t position(int strip, int64_t step) const { return strip * length_ + step; }
  bool has(int strip, int64_t step) const { return position(strip, step) < positions_; }

  // What the step's column expects.
  int32_t Begin() {
    column_expectation_ = (rows_[0] + rows_[1] + rows_[2] + rows_[3]) >> 2;
    if (has_columns_ && !first_row_) column_expectation_ = columns_[column_];
    sum_ = 0;
    return column_expectation_;
  }
  uint32_t Expectation(int strip, int32_t column_expectation) const {
    const int32_t e = (rows_[strip] + column_expectation) >> 1;
    return static_cast<uint32_t>(std::min(BitWidth(static_cast<uint64_t>(e) | 16) - 5, kExpectations - 1));
  }
  uint32_t before(int strip) const { return before_[strip]; }
  void Follow(int strip, int32_t symbol) {
    const int32_t magnitude = std::min(std::abs(symbol), kMostCounted);
    rows_[strip] += ((magnitude << 8) - rows_[strip]) >> 5;
    before_[strip] = static_cast<uint32_t>(std::clamp(symbol, -kMostBefore, kMostBefore) + kMostBefore);
    sum_ += magnitude;
  }
  void End() {
    if (!has_columns_) return;
    columns_[column_] = column_expectation_ + (((sum_ << 6) - column_expectation_) >> 3);
    if (++column_ < columns_.size()) return;
    column_ = 0;
    first_row_ = false;
  }

 private:
  const int64_t positions_;
  int64_t length_;
  bool has_columns_;
  bool first_row_ = true;
  size_t column_ = 0;
  std::vector<int32_t> columns_;
  int32_t rows_[kStrips] = {256, 256, 256, 256};
  uint32_t before_[kStrips] = {kMostBefore, kMostBefore, kMostBefore, kMostBefore};
  int32_t column_expectation_ = 0;
  int32_t sum_ = 0;
};

// ---- Encoding

// Most significant bits first, from the last byte towards the front.
class BitWriter {
 public:
  void Put(uint64_t value, int count) {  // count in [0, kMostRaw]
    if (count > 32) {
      Put(value >> 32, count - 32);
      value &= 0xffffffffu;
      count = 32;
    }
    pending_ = pending_ << count | value;
    pending_count_ += count;
    if (pending_count_ >= 32) {
      pending_count_ -= 32;
      words_.push_back(static_cast<uint32_t>(pending_ >> pending_count_));
    }
  }
  void Append(std::string& out) const {
    const int tail = (pending_count_ + 7) / 8;
    const size_t before = out.size();
    out.resize(before + static_cast<size_t>(tail) + 4 * words_.size());
    const uint64_t last = pending_ << (8 * tail - pending_count_);
    std::memcpy(out.data() + before, &last, static_cast<size_t>(tail));
    char* at = out.data() + out.size();
    for (uint32_t word : words_) std::memcpy(at -= 4, &word, 4);
  }

 private:
  std::vector<uint32_t> words_;
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
  int64_t row_length;  // 0: no rows
  size_t first;        // of the symbols
  size_t count;
};

// What the range coder is to write. The coder works backwards, so operations lie in memory from the last that is read to the first.
class OperationSink {
 public:
  // At most `operations` symbols.
  OperationSink(size_t operations, BitWriter& bits)
      : operations_(std::make_unique_for_overwrite<uint32_t[]>(operations)),
        end_(operations_.get() + operations),
        next_(end_),
        group_(end_),
        bits_(bits) {}
  // Takes symbols until it is given back to Take(): a copy, so that it can live in registers.
  class Writer {
   public:
    explicit Writer(uint32_t* next) : next_(next) {}
    template <typename Table>
    void Symbol(const Table& table, uint32_t symbol, uint32_t state) {
      *--next_ = table.entries[symbol] | state << internal::kStateShift;
    }
    uint32_t* next() const { return next_; }

   private:
    uint32_t* next_;
  };
  Writer writer() const { return Writer(next_); }
  void Take(const Writer& writer) { next_ = writer.next(); }
  // Likewise, after each group of sparse symbols; `whole`: of kGroup of them.
  void TakeGroup(const Writer& writer, bool whole) {
    Take(writer);
    const size_t count = static_cast<size_t>(group_ - next_);
    const bool octet = whole && count == internal::kOctet;  // no escape
    if (octet != stretches_.back().octets) [[unlikely]] stretches_.push_back({octet, 0});
    stretches_.back().operations += count;
    group_ = next_;
  }
  void Bits(uint64_t value, int count) { bits_.Put(value, count); }

  // The states, then the words in the order of reading.
  std::string Finish(uint64_t check, int state_count) {
    FEDWATT_CHECK(next_ >= operations_.get());
    if (state_count != kMaxStates) stretches_.clear();
    const size_t grouped = stretches_.empty() ? 0 : static_cast<size_t>(end_ - group_);
    if (const size_t rest = static_cast<size_t>(end_ - next_) - grouped; rest > 0) stretches_.push_back({false, rest});

    uint32_t states[kMaxStates];
    for (int i = 0; i < state_count; ++i) states[i] = StartOf(check, i);
    const auto words = std::make_unique_for_overwrite<uint32_t[]>(static_cast<size_t>(end_ - next_) + internal::kOctet);
    uint32_t* word = words.get();
    const uint32_t* next = next_;
    for (auto stretch = stretches_.rbegin(); stretch != stretches_.rend(); ++stretch) {
      word += stretch->octets ? internal::CodeOctets({next, stretch->operations}, states, word) : Code({next, stretch->operations}, states, word);
      next += stretch->operations;
    }

    std::string bytes(static_cast<size_t>(state_count) * sizeof(uint32_t) + static_cast<size_t>(word - words.get()) * sizeof(uint16_t), '\0');
    std::memcpy(bytes.data(), states, static_cast<size_t>(state_count) * sizeof(uint32_t));
    for (char* out = bytes.data() + static_cast<size_t>(state_count) * sizeof(uint32_t); word != words.get(); out += sizeof(uint16_t)) {
      const uint16_t low = static_cast<uint16_t>(*--word);
      std::memcpy(out, &low, sizeof(low));
    }
    return bytes;
  }

 private:
  struct Stretch {
    bool octets;
    size_t operations;
  };

  // Any operations, as internal::CodeOctets does octets.
  static size_t Code(absl::Span<const uint32_t> operations, uint32_t* states, uint32_t* words) {
    const std::array<uint64_t, kScale + 1>& reciprocals = Reciprocals();
    size_t written = 0;
    for (const uint32_t operation : operations) {
      const uint32_t frequency = operation & 0xffff, start = operation >> 16 & (kScale - 1);
      uint32_t& state = states[operation >> internal::kStateShift];
      // No branch, as in the decoder.
      const uint32_t spill = state >= static_cast<uint64_t>(frequency) << (32 - kPrecision);
      words[written] = state;
      written += spill;
      const uint32_t x = state >> (16 * spill);
      const uint32_t quotient = static_cast<uint32_t>((static_cast<unsigned __int128>(reciprocals[frequency]) * (uint64_t{x} + 1)) >> 64);
      state = x + quotient * (kScale - frequency) + start;  // quotient * kScale + x mod frequency + start
    }
    return written;
  }

  // r = floor((2^64 - 1) / frequency), so that floor(x / frequency) = floor((x + 1) * r / 2^64) for all x < 2^32: the product falls short of
  // (x + 1) / frequency by less than 2^-20, and that is where floor needs it to be.
  static const std::array<uint64_t, kScale + 1>& Reciprocals() {
    static const auto reciprocals = [] {
      std::array<uint64_t, kScale + 1> made{};
      for (uint64_t f = 1; f <= kScale; ++f) made[f] = ~uint64_t{0} / f;
      return made;
    }();
    return reciprocals;
  }

  const std::unique_ptr<uint32_t[]> operations_;
  uint32_t* const end_;
  uint32_t* next_;
  uint32_t* group_;  // where the present group began
  std::vector<Stretch> stretches_ = {{true, 0}};
  BitWriter& bits_;
};

// Adds up what the operations would cost, in 2^-8 bits.
class CostSink {
 public:
  class Writer {
   public:
    template <typename Table>
    void Symbol(const Table& table, uint32_t symbol, uint32_t) {
      cost_ += costs_[table.entries[symbol] & 0xffff];
    }
    uint64_t cost() const { return cost_; }

   private:
    const uint16_t* const costs_ = Costs().data();
    uint64_t cost_ = 0;
  };
  Writer writer() const { return Writer(); }
  void Take(const Writer& writer) { cost_ += writer.cost(); }
  void TakeGroup(const Writer& writer, bool) { Take(writer); }
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
void PutNumber(RunTable<false>* tables, const Scale& scale, uint64_t number, uint32_t state, Sink& sink) {
  RunTable<false>& table = tables[scale.table];
  const uint32_t bucket = BucketOf(number >> scale.shift);
  typename Sink::Writer writer = sink.writer();
  writer.Symbol(table, bucket, state);
  sink.Take(writer);
  table.counts[bucket] += kOne;
  if (bucket == kRunEscape) [[unlikely]] {
    return sink.Bits(number, 32);
  }
  const int extra = kBuckets.extra[bucket] + scale.shift;
  if (extra > 0) sink.Bits(number & ((uint64_t{1} << extra) - 1), extra);
}

// Codes the first `fraction` / 2^16 of each segment, with 2 * kHalf states.
template <uint32_t kHalf, typename Sink>
[[gnu::noinline]] void PutSymbolsBy(absl::Span<const SegmentSymbols> segments, const SparseSymbols& symbols, const Mode& mode, uint64_t fraction, Sink& sink) {
  const std::unique_ptr<Model<false>> model = MakeModel<false>(mode);
  const uint32_t near_mask = model->near_mask;
  uint32_t previous_sign = 0;
  for (const SegmentSymbols& segment : segments) {
    if (segment.count == 0) continue;
    Density density(SegmentMean256(segment.positions, static_cast<int64_t>(segment.count)), mode.adaptation);
    const size_t end = segment.first + ((segment.count * fraction) >> 16);
    uint32_t position = static_cast<uint32_t>(segment.begin);
    for (size_t i = segment.first; i < end; i += kGroup) {
      const uint32_t count = static_cast<uint32_t>(std::min<size_t>(end - i, kGroup));
      const uint32_t group_begin = position;
      const uint32_t* const indices = symbols.indices.data() + i;
      const int32_t* const values = symbols.symbols.data() + i;
      const int shift = density.scale.shift;
      RunTable<false>& runs = model->runs[density.scale.table];
      SignTable<false>* const sign_tables = model->SignTables(density.scale);
      model->BeginGroup(density.scale);
      const auto put = [&](uint32_t place, uint32_t bucket, uint32_t code, typename Sink::Writer& writer) __attribute__((always_inline)) {
        writer.Symbol(runs, bucket, place % kHalf);
        runs.counts[bucket] += kOne;
        SignTable<false>& signs = sign_tables[(kNear[bucket] & near_mask) + previous_sign];
        writer.Symbol(signs, code, kHalf + place % kHalf);
        signs.counts[code] += kOne;
        previous_sign = code & 1;
      };
      // Nearly all groups are whole, without an escape, and with raw bits that fit into one word.
      uint32_t run[kGroup];
      uint32_t uncommon = count < kGroup || shift > kNarrowShift;
      for (uint32_t place = 0; place < count; ++place) {
        run[place] = indices[place] - position;
        position = indices[place] + 1;
        const uint32_t code = static_cast<uint32_t>(values[place] + kEscapeMagnitude - 1);
        uncommon |= run[place] >> shift >> 8 | (code | (uint32_t{kCodeOf.size() - 1} - code)) >> 31;
      }
      if (uncommon == 0) [[likely]] {
        typename Sink::Writer writer = sink.writer();
        uint64_t raw = 0;
        int raw_count = 0;
        const auto one = [&](uint32_t place) __attribute__((always_inline)) {
          const uint32_t bucket = kBucketOf[run[place] >> shift];
          put(place, bucket, kCodeOf[static_cast<uint32_t>(values[place] + kEscapeMagnitude - 1)], writer);
          const int width = kBuckets.extra[bucket] + shift;
          raw = raw << width | (run[place] & ((1u << width) - 1));
          raw_count += width;
        };
        one(0);
        one(1);
        one(2);
        one(3);
        sink.Bits(raw, raw_count);
        sink.TakeGroup(writer, true);
      } else {
        for (uint32_t place = 0; place < count; ++place) {
          const uint32_t zeros = run[place], bucket = BucketOf(zeros >> shift);
          const int32_t magnitude = std::abs(values[place]);
          typename Sink::Writer writer = sink.writer();
          put(place, bucket, static_cast<uint32_t>(2 * (std::min(magnitude, kEscapeMagnitude) - 1) + (values[place] < 0)), writer);
          sink.Take(writer);
          sink.Bits(bucket == kRunEscape ? zeros : zeros & ((uint64_t{1} << (kBuckets.extra[bucket] + shift)) - 1),
                    bucket == kRunEscape ? 32 : kBuckets.extra[bucket] + shift);
          if (magnitude < kEscapeMagnitude) continue;
          const uint64_t beyond = static_cast<uint64_t>(magnitude - kEscapeMagnitude);
          PutNumber(model->escapes, ScaleOf(model->escape_mean256), beyond, kHalf + place % kHalf, sink);
          model->FollowEscape(beyond);
        }
        sink.TakeGroup(sink.writer(), count == kGroup);
      }
      if (mode.adaptation > 0 && count == kGroup) density.EndGroup(position - group_begin - kGroup);
      model->EndGroup();
    }
  }
}

template <typename Sink>
void PutSymbols(absl::Span<const SegmentSymbols> segments, const SparseSymbols& symbols, const Mode& mode, int state_count, uint64_t fraction, Sink& sink) {
  const auto put = state_count == 8 ? PutSymbolsBy<4, Sink> : state_count == 4 ? PutSymbolsBy<2, Sink> : PutSymbolsBy<1, Sink>;
  put(segments, symbols, mode, fraction, sink);
}

void PutDense(absl::Span<const SegmentSymbols> segments, const SparseSymbols& symbols, OperationSink& sink) {
  const auto model = std::make_unique<DenseModel<false>>(FreshDenseModel<false>());
  std::vector<int32_t> values;
  for (const SegmentSymbols& segment : segments) {
    if (segment.count == 0) continue;
    values.assign(static_cast<size_t>(segment.positions), 0);
    for (size_t i = segment.first; i < segment.first + segment.count; ++i) values[symbols.indices[i] - static_cast<size_t>(segment.begin)] = symbols.symbols[i];
    StartSegment(segment.positions, *model);
    Strips strips(segment.positions, segment.row_length);
    for (int64_t step = 0; step < strips.length(); ++step) {
      const int32_t column = strips.Begin();
      for (int strip = 0; strip < kStrips && strips.has(strip, step); ++strip) {
        const int32_t symbol = values[static_cast<size_t>(strips.position(strip, step))], magnitude = std::abs(symbol);
        const uint32_t expectation = strips.Expectation(strip, column);
        const int32_t escape = kDenseEscapes[expectation], coded = std::min(magnitude, escape);
        DenseTable<false>& table = model->tables[expectation][strips.before(strip)];
        const uint32_t code = static_cast<uint32_t>(2 * coded - (symbol > 0));
        OperationSink::Writer writer = sink.writer();
        writer.Symbol(table, code, static_cast<uint32_t>(strip));
        sink.Take(writer);
        table.counts[code] += kOne;
        if (--table.left == 0) table.Rebuild();
        if (coded == escape) {
          RunTable<false>& escapes = model->EscapeTable();
          const uint64_t beyond = static_cast<uint64_t>(magnitude - escape);
          PutNumber(model->escapes, ScaleOf(model->escape_mean256), beyond, static_cast<uint32_t>(kStrips + strip), sink);
          model->EndEscape(escapes, beyond);
        }
        strips.Follow(strip, symbol);
      }
      strips.End();
    }
  }
}

// ---- Decoding

// Reads most significant bits first, from the last byte towards the front. At least 8 bytes lie before every byte read.
class BitReader {
 public:
  explicit BitReader(const char* end) : end_(end) {}
  // The next bits, at the top; 57 of them are good.
  uint64_t Peek() const {
    uint64_t window;
    std::memcpy(&window, end_ - 8 - (position_ >> 3), 8);
    return window << (position_ & 7);
  }
  void Skip(int count) { position_ += static_cast<uint64_t>(count); }
  // `count` in [0, 63].
  static uint64_t Top(uint64_t window, int count) { return window >> 1 >> (63 - count); }
  uint64_t Get(int count) {  // count in [0, 57]
    const uint64_t window = Peek();
    Skip(count);
    return Top(window, count);
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

// Where the decoder stands. A local variable whose members are indexed by constants alone, so that all of it lives in registers.
struct Cursor {
  uint32_t states[kMaxStates];
  const char* word;
  BitReader bits;

  // Bytes between the two readers; negative when they have passed each other.
  int64_t left(const char* end) const { return end - static_cast<int64_t>((bits.position() + 7) / 8) - word; }

  void Start(int state_count) {
    for (int i = 0; i < state_count; ++i) {
      std::memcpy(&states[i], word, 4);
      word += 4;
    }
  }
  bool Ends(uint64_t check, int state_count) const {
    for (int i = 0; i < state_count; ++i) {
      if (states[i] != StartOf(check, i)) return false;
    }
    return true;
  }

  template <int kState, typename Table>
  [[gnu::always_inline]] uint32_t Symbol(Table& table) {
    const uint32_t x = states[kState], slot = x & (kScale - 1);
    const uint32_t symbol = table.slots[slot];
    const uint32_t entry = table.entries[symbol];
    const uint32_t next = (entry & 0xffff) * (x >> kPrecision) + slot - (entry >> 16);
    uint16_t two;
    std::memcpy(&two, word, 2);
    // No branch: whether a word is due is anybody's guess.
    const uint32_t refill = next < kLowest, mask = 0 - refill;
    states[kState] = next ^ ((next ^ (next << 16 | two)) & mask);
    word += 2 * refill;
    table.counts[symbol] += kOne;
    return symbol;
  }
};

// The symbols of one segment.
class SegmentReader {
 public:
  SegmentReader(int64_t begin, int64_t positions, int64_t symbols, int adaptation)
      : position_(begin - 1),
        end_(begin + positions),
        left_(symbols),
        adaptation_(adaptation),
        density_(SegmentMean256(positions, symbols), adaptation) {}

  int64_t left() const { return left_; }

  // Reads `count` symbols: all that are left, or a multiple of kGroup. Returns whether all is well; gives up where the bytes end.
  template <int kHalf>
  bool Read(int64_t count, const char* bytes_end, Model<true>& model, Cursor& shared, uint32_t* indices, int32_t* symbols) {
    Cursor cursor = shared;
    int64_t position = position_;
    uint32_t previous_sign = model.previous_sign;
    const uint32_t near_mask = model.near_mask;
    bool fits = true;
    while (count > 0) {
      const int64_t group_begin = position;
      const int shift = density_.scale.shift;
      RunTable<true>& run_table = model.runs[density_.scale.table];
      SignTable<true>* const sign_tables = model.SignTables(density_.scale);
      model.BeginGroup(density_.scale);
      uint64_t window = cursor.bits.Peek();
      const auto one = [&]<int kPlace>() __attribute__((always_inline)) {
        constexpr int kTurn = kPlace % kHalf;
        const uint32_t bucket = cursor.Symbol<kTurn>(run_table);
        SignTable<true>& sign_table = sign_tables[(kNear[bucket] & near_mask) + previous_sign];
        const uint32_t code = cursor.Symbol<kHalf + kTurn>(sign_table);
        uint64_t run = static_cast<uint64_t>(kBuckets.base[bucket]) << shift;
        if (bucket != kRunEscape && shift <= kNarrowShift) [[likely]] {
          const int width = kBuckets.extra[bucket] + shift;
          run += BitReader::Top(window, width);
          window <<= width;
          cursor.bits.Skip(width);
        } else {
          run = bucket == kRunEscape ? cursor.bits.Get(32) : run + cursor.bits.Get(kBuckets.extra[bucket] + shift);
          window = cursor.bits.Peek();
        }
        position += static_cast<int64_t>(run) + 1;
        previous_sign = code & 1;
        int32_t symbol = kSymbols[code];
        if (code >= kSignAlphabet - 2) [[unlikely]] {
          const Scale scale = ScaleOf(model.escape_mean256);
          RunTable<true>& escapes = model.escapes[scale.table];
          const uint32_t part = cursor.Symbol<kHalf + kTurn>(escapes);
          uint64_t beyond = part == kRunEscape ? cursor.bits.Get(32)
                                                     : (static_cast<uint64_t>(kBuckets.base[part]) << scale.shift) +
                                                           cursor.bits.Get(kBuckets.extra[part] + scale.shift);
          fits &= beyond <= static_cast<uint64_t>(kMaxSymbol - kEscapeMagnitude);
          beyond = std::min<uint64_t>(beyond, kMaxSymbol);  // refused in the end; nothing may overflow until then
          model.FollowEscape(beyond);
          symbol += previous_sign ? -static_cast<int32_t>(beyond) : static_cast<int32_t>(beyond);
          window = cursor.bits.Peek();
        }
        *indices++ = static_cast<uint32_t>(position);
        *symbols++ = symbol;
      };
      one.template operator()<0>();
      if (count >= kGroup) [[likely]] {
        one.template operator()<1>();
        one.template operator()<2>();
        one.template operator()<3>();
        if (adaptation_ > 0) density_.EndGroup(static_cast<uint64_t>(position - group_begin - kGroup));
      } else {
        if (count > 1) one.template operator()<1>();
        if (count > 2) one.template operator()<2>();
      }
      const int64_t read = std::min<int64_t>(count, kGroup);
      count -= read;
      left_ -= read;
      if (position >= end_ || cursor.left(bytes_end) < 0) [[unlikely]] return false;
      model.EndGroup();
    }
    position_ = position;
    model.previous_sign = previous_sign;
    shared = cursor;
    return fits;
  }

 private:
  int64_t position_;
  const int64_t end_;
  int64_t left_;
  const int adaptation_;
  Density density_;
};

// Densely coded symbols; `counts` of the segments that have positions.
absl::Status ReadDense(absl::Span<const int64_t> segment_counts, absl::Span<const int64_t> row_lengths, absl::Span<const int64_t> counts, size_t byte_count,
                       const char* bytes_end, Cursor& shared, SparseSymbols& out) {
  int64_t coded = 0, total = 0, most = 0;
  size_t next = 0;
  for (int64_t positions : segment_counts) {
    if (positions == 0) continue;
    total += counts[next];
    if (counts[next++] == 0) continue;
    coded += positions;
    most = std::max(most, positions);
  }
  if (coded / kMostDensePositionsPerByte > static_cast<int64_t>(byte_count)) return Damaged(absl::StrCat(coded, " positions in ", byte_count, " bytes"));
  const auto model = std::make_unique<DenseModel<true>>(FreshDenseModel<true>());
  const auto values = std::make_unique_for_overwrite<int32_t[]>(static_cast<size_t>(most));
  out.indices.resize(static_cast<size_t>(total) + 1);
  out.symbols.resize(static_cast<size_t>(total) + 1);
  Cursor cursor = shared;
  bool fits = true;
  size_t written = 0;
  int64_t begin = 0;
  next = 0;
  for (size_t segment = 0; segment < segment_counts.size(); ++segment) {
    const int64_t positions = segment_counts[segment];
    const int64_t count = positions == 0 ? 0 : counts[next++];
    if (count == 0) {
      begin += positions;
      continue;
    }
    StartSegment(positions, *model);
    Strips strips(positions, row_lengths.empty() ? 0 : row_lengths[segment]);
    const auto one = [&]<int kStrip>(int64_t step, int32_t column) __attribute__((always_inline)) {
      const uint32_t expectation = strips.Expectation(kStrip, column);
      DenseTable<true>& table = model->tables[expectation][strips.before(kStrip)];
      const uint32_t code = cursor.Symbol<kStrip>(table);
      if (--table.left == 0) [[unlikely]] table.Rebuild();
      int32_t magnitude = static_cast<int32_t>(code + 1) >> 1;
      if (magnitude == kDenseEscapes[expectation]) [[unlikely]] {
        const Scale scale = ScaleOf(model->escape_mean256);
        RunTable<true>& escapes = model->escapes[scale.table];
        const uint32_t part = cursor.Symbol<kStrips + kStrip>(escapes);
        uint64_t beyond = part == kRunEscape ? cursor.bits.Get(32)
                                             : (static_cast<uint64_t>(kBuckets.base[part]) << scale.shift) +
                                                   cursor.bits.Get(kBuckets.extra[part] + scale.shift);
        fits &= beyond <= static_cast<uint64_t>(kMaxSymbol - magnitude);
        beyond = std::min<uint64_t>(beyond, kMaxSymbol);  // refused in the end; nothing may overflow until then
        model->EndEscape(escapes, beyond);
        magnitude += static_cast<int32_t>(beyond);
      }
      const int32_t symbol = (code & 1) != 0 ? magnitude : -magnitude;
      values[static_cast<size_t>(strips.position(kStrip, step))] = symbol;
      strips.Follow(kStrip, symbol);
    };
    int64_t step = 0;
    for (; step < strips.whole_steps(); ++step) {
      const int32_t column = strips.Begin();
      one.template operator()<0>(step, column);
      one.template operator()<1>(step, column);
      one.template operator()<2>(step, column);
      one.template operator()<3>(step, column);
      strips.End();
      if (cursor.left(bytes_end) < 0) [[unlikely]] return Damaged("truncated");
    }
    for (; step < strips.length(); ++step) {
      const int32_t column = strips.Begin();
      if (strips.has(0, step)) one.template operator()<0>(step, column);
      if (strips.has(1, step)) one.template operator()<1>(step, column);
      if (strips.has(2, step)) one.template operator()<2>(step, column);
      strips.End();
      if (cursor.left(bytes_end) < 0) [[unlikely]] return Damaged("truncated");
    }
    int64_t found = 0;
    for (int64_t i = 0; i < positions; ++i) found += values[static_cast<size_t>(i)] != 0;
    if (found != count) return Damaged(absl::StrCat(found, " symbols in a segment, expected ", count));
    // No branch, as whether a position is zero is anybody's guess; hence one element of room behind the last.
    for (int64_t i = 0; i < positions; ++i) {
      const int32_t symbol = values[static_cast<size_t>(i)];
      out.indices[written] = static_cast<uint32_t>(begin + i);
      out.symbols[written] = symbol;
      written += symbol != 0;
    }
    begin += positions;
  }
  out.indices.resize(written);
  out.symbols.resize(written);
  shared = cursor;
  return fits ? absl::OkStatus() : Damaged("a symbol is too large");
}

}  // namespace

absl::StatusOr<std::string> EncodeSymbols(absl::Span<const int64_t> segment_counts, const SparseSymbols& symbols, uint64_t salt,
                                          absl::Span<const int64_t> row_lengths) {
  FEDWATT_CHECK(row_lengths.empty() || row_lengths.size() == segment_counts.size());
  if (symbols.indices.size() != symbols.symbols.size()) {
    return absl::InvalidArgumentError(absl::StrCat(symbols.indices.size(), " indices of ", symbols.symbols.size(), " symbols"));
  }
  const size_t count = symbols.indices.size();
  std::vector<SegmentSymbols> segments;
  int64_t begin = 0;
  size_t next = 0;
  for (size_t segment = 0; segment < segment_counts.size(); ++segment) {
    const int64_t positions = segment_counts[segment];
    if (positions < 0 || positions > kMaxPositions - begin) {
      return absl::InvalidArgumentError(absl::StrCat("segment of ", positions, " positions, expected [0, 2^31] in all"));
    }
    const size_t first = next;
    if (positions > 0) {
      const auto from = symbols.indices.begin() + static_cast<std::ptrdiff_t>(next);
      next = static_cast<size_t>(std::lower_bound(from, symbols.indices.end(), begin + positions) - symbols.indices.begin());
      segments.push_back({begin, positions, row_lengths.empty() ? 0 : row_lengths[segment], first, next - first});
    }
    begin += positions;
  }
  const internal::SymbolFacts facts = internal::LookAtSymbols(symbols.indices, symbols.symbols);
  if (!facts.good || next != count) {
    return absl::InvalidArgumentError(absl::StrCat("indices are not ascending below ", begin, ", or a symbol is 0 or beyond ", kMaxSymbol));
  }
  if (count == 0) return std::string();

  // The mode that suits a sample best.
  constexpr size_t kSample = 4096;
  const uint64_t fraction = count <= kSample ? 1 << 16 : (uint64_t{kSample} << 16) / count;
  const int state_count = StateCount(static_cast<int64_t>(count));
  Mode mode;
  mode.units = facts.units;
  uint64_t least = UINT64_MAX;
  const auto attempt = [&](Mode candidate) {
    CostSink cost;
    PutSymbols(segments, symbols, candidate, state_count, fraction, cost);
    if (cost.cost() >= least) return;
    least = cost.cost();
    mode = candidate;
  };
  for (int adaptation = 0; adaptation < kAdaptations; ++adaptation) attempt({adaptation, false, mode.units});
  attempt({mode.adaptation, true, mode.units});

  const uint64_t check = HashCounts(segment_counts, row_lengths, salt);
  const auto put_counts = [&](BitWriter& bits) {
    WidthPredictor predictor;
    for (const SegmentSymbols& segment : segments) {
      PutCount(segment.positions, static_cast<int64_t>(segment.count), predictor.Predict(segment.positions), bits);
      predictor.Follow(segment.positions, static_cast<int64_t>(segment.count));
    }
  };
  BitWriter bits;
  bits.Put(0, 1);
  bits.Put(static_cast<uint64_t>(mode.adaptation), 2);
  bits.Put(mode.nearness, 1);
  bits.Put(mode.units, 1);
  put_counts(bits);
  OperationSink operations(2 * count + facts.escapes, bits);  // a run, a symbol, and perhaps how far it escapes
  PutSymbols(segments, symbols, mode, state_count, 1 << 16, operations);
  std::string bytes = operations.Finish(check, state_count);
  bits.Append(bytes);

  if (begin < kDensePositions || count < static_cast<size_t>(begin) / kDenseShare) return bytes;
  BitWriter dense_bits;
  dense_bits.Put(1, 1);
  put_counts(dense_bits);
  OperationSink dense_operations(static_cast<size_t>(begin) + count, dense_bits);
  PutDense(segments, symbols, dense_operations);
  std::string dense = dense_operations.Finish(check, kMaxStates);
  dense_bits.Append(dense);
  return static_cast<double>(dense.size()) < kDenseGain * static_cast<double>(bytes.size()) ? dense : bytes;
}

absl::Status DecodeSymbols(std::string_view bytes, absl::Span<const int64_t> segment_counts, int64_t max_symbols, SparseSymbols& out,
                           uint64_t salt, absl::Span<const int64_t> row_lengths) {
  FEDWATT_CHECK(row_lengths.empty() || row_lengths.size() == segment_counts.size());
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
  Cursor cursor{{}, begin, BitReader(end)};

  const bool dense = cursor.bits.Get(1) == 1;
  Mode mode;
  if (!dense) mode = {static_cast<int>(cursor.bits.Get(2)), cursor.bits.Get(1) == 1, cursor.bits.Get(1) == 1};
  std::vector<int64_t> counts;
  WidthPredictor predictor;
  int64_t count = 0;
  for (int64_t positions : segment_counts) {
    if (positions == 0) continue;
    if (cursor.left(end) < 0) return Damaged("the counts are truncated");
    FEDWATT_ASSIGN_OR_RETURN(int64_t symbols, TakeCount(positions, predictor.Predict(positions), cursor.bits));
    predictor.Follow(positions, symbols);
    counts.push_back(symbols);
    count += symbols;
  }
  if (count == 0 || count > max_symbols) return Damaged(absl::StrCat(count, " of them, expected [1, ", max_symbols, "]"));
  const int state_count = dense ? kMaxStates : StateCount(count);
  if (cursor.left(end) < 4 * state_count) return Damaged("the states are truncated");
  cursor.Start(state_count);
  const auto finish = [&]() -> absl::Status {
    if (!cursor.Ends(HashCounts(segment_counts, row_lengths, salt), state_count)) {
      return Damaged("they do not end as they began: damaged, or made for other segments");
    }
    const uint64_t bits_read = cursor.bits.position();
    if (cursor.left(end) != 0 || cursor.bits.Get(static_cast<int>(-bits_read & 7)) != 0) return Damaged("bytes are left over");
    return absl::OkStatus();
  };
  if (dense) {
    FEDWATT_RETURN_IF_ERROR(ReadDense(segment_counts, row_lengths, counts, bytes.size(), end, cursor, out));
    return finish();
  }

  // Grows with what was read: a symbol may cost next to nothing, but a claim alone holds no memory.
  const size_t step = std::max<size_t>(bytes.size() * 8, 4096);
  const std::unique_ptr<Model<true>> model = MakeModel<true>(mode);
  int64_t segment_begin = 0;
  size_t written = 0, room = 0, next_segment = 0;
  for (int64_t positions : segment_counts) {
    if (positions == 0) continue;
    const int64_t symbols = counts[next_segment++];
    if (symbols > 0) {
      SegmentReader reader(segment_begin, positions, symbols, mode.adaptation);
      while (reader.left() > 0) {
        if (room - written < kGroup) {
          room = std::min(static_cast<size_t>(count), written + std::max(written, step)) + kGroup;
          out.indices.resize(room);
          out.symbols.resize(room);
        }
        int64_t chunk = static_cast<int64_t>((room - written) / kGroup * kGroup);
        chunk = std::min(chunk, reader.left());
        uint32_t* const indices = out.indices.data() + written;
        int32_t* const values = out.symbols.data() + written;
        const bool good = state_count == 8   ? reader.Read<4>(chunk, end, *model, cursor, indices, values)
                          : state_count == 4 ? reader.Read<2>(chunk, end, *model, cursor, indices, values)
                                             : reader.Read<1>(chunk, end, *model, cursor, indices, values);
        if (!good) return Damaged("truncated, or a symbol is too large or stands outside its segment");
        written += static_cast<size_t>(chunk);
      }
    }
    segment_begin += positions;
  }
  FEDWATT_RETURN_IF_ERROR(finish());
  out.indices.resize(written);
  out.symbols.resize(written);
  return absl::OkStatus();
}

}  // namespace fedwatt

// dithered: unbiased rounding to multiples of one step, with thresholds that both ends know, which makes the places of the non-zeros cheap.
//
//   symbol_i = sign(x_i) * floor(|x_i| / S + 1 - t_i),  t_i uniform in (0, 1)
//   decoded  = symbol_i * S
//
// With |x| / S = m + f, floor(m + f + 1 - t) is m + 1 where t <= f and m otherwise, so E[decoded] = x. Variance: f * (1 - f) * S^2, which is
// |x| * (S - |x|) for |x| < S. That is plain stochastic rounding; what is gained lies in t: a place with a small t is likely to be non-zero, one
// with a large t hardly ever. The decoder knows t, so that places are coded class by class of t, each class at a density of its own. On updates of a
// small network that halves the bits at equal variance. Thresholds shared by both ends: dithered quantization (Ziv 1985, IEEE Trans. Inf. Theory
// 31(3)), in federated learning QUIC-FL (Ben Basat et al. 2022, arXiv 2205.13341); stochastic rounding of most values to zero is the optimal
// unbiased sparsification of Wangni et al. (2018, arXiv 1710.09854) with one threshold for all.
//
// Thresholds. In a block b of 256 consecutive places, place p has rank k where p = (a_b * k + c_b) mod 256, and t = (k + v_b) / 256. Of
// h = Mix(Mix(seed + g) + (b + 1) * g), g = 0x9e3779b97f4a7c15, Mix the finalizer of SplitMix64: a_b = 2 * (h mod 2^7) + 1, c_b = bits 7-14 of h,
// v_b = (bits 40-63 of h + 1/2) / 2^24. So each t is uniform on midpoints of 2^32 cells, and a block has one t in each 256th of (0, 1): rounding
// errors inside a block partly cancel.
//
// Scales. How likely a place is depends on t * S / s, s the usual magnitude around it. The message says s in octaves: once for all values, or for
// each segment, and for segments that are matrices (16 rows and columns or more, 4,096 values or more) also for each row and each band of columns
// against the segment's mean. Places are then ordered by s: groups (segment, class of row, class of column) by ascending s, rows before columns
// inside a group. Blocks are cut from that order; the scale of a block is that of its first place. The order depends on the values alone, the
// thresholds on the seed alone: roundings stay unbiased.
//
// Options, one of: step=S > 0; multiple=M, S = M * root of the mean square of all values, default 3. |error| < S. scales=auto, or off (one scale for
// all values), or 1, 4 or 16, columns in a band. auto takes what coded thresholds of another seed best; 4 untried above 2^19 values.
//
// Bytes, the first four alone where all symbols are zero:
//   float32  S; 0 where all symbols are zero
//   uint8    0, then int8: log2 of the scale / S; or log2 of the columns in a band + 1, then of each matrix a uint8, its period, [0, 64], then
//            LEB128: length of the scales, and the scales:
//            EncodeSymbols with three segments: log2(scale / S) of each segment, against the segment before (-5 before the first); log2 of each
//            band against its segment, less that of the band one period before in the matrix, or where there is none of the band before (0 before the
//            first of all), or less nothing where the period is 0; log2 of each row against its segment. Rows of pictures, and their cosines,
//            have bands that resemble those of the picture's row above.
//   EncodeSymbols with a segment for each class of places, by u = 2 * log2(t * S / s) rounded and held within [-12, 10], ascending. A rank k of a
//            block of scale s has t = (k + 1/2) / 256, whereby ranks of equal half octave, kClasses below, share a class. Within a class:
//            scales ascending, classes of ranks ascending, blocks, ranks. Ranks of the last block whose places do not exist hold zeros.
// Cost: one vectorised pass to find what is not zero, five where `auto` tries; decoding: as the symbols.
#include <algorithm>
#include <array>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <numeric>
#include <utility>
#include <vector>

#include "codec_support.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/base/varint.h"
#include "kernels.h"
#include "stage_support.h"
#include "step_support.h"

namespace fedwatt {
namespace {

constexpr uint32_t kBlock = internal::kRanks;
// Sizes of the classes of ranks, half octaves: powers of two that add up to kBlock.
constexpr std::array<uint32_t, 16> kClasses = {1, 1, 1, 1, 2, 2, 4, 4, 8, 8, 16, 16, 32, 32, 64, 64};
// 2 * log2((k + 1/2) / 256) of the middle rank of each, rounded.
constexpr std::array<int, 16> kClassLevels = {-18, -15, -13, -12, -11, -10, -9, -8, -7, -6, -5, -4, -3, -2, -1, 0};
constexpr int kLowestClass = -12, kHighestClass = 10;
constexpr int kPlaceClasses = kHighestClass - kLowestClass + 1;
// log2 of a scale / S; beyond, all places are alike.
constexpr int kLowestScale = -24, kHighestScale = 8;
// log2 of a row's or column's scale against its segment's.
constexpr int kRelativeScale = 8;
constexpr int kFirstScale = -5;

constexpr int64_t kLeastSide = 16, kLeastMatrix = 4096;
constexpr int kBandLog2s[] = {0, 2, 4};
constexpr int64_t kSmall = 1 << 16;  // values up to which `auto` tries all widths: more take longer than the half percent of bytes is worth
constexpr int kUntriedBandLog2 = 2;
constexpr int64_t kMaxPeriod = 64;

constexpr std::array<uint32_t, kClasses.size()> kFirstRanks = [] {  // of each class
  std::array<uint32_t, kClasses.size()> first{};
  for (uint32_t c = 1; c < kClasses.size(); ++c) first[c] = first[c - 1] + kClasses[c - 1];
  return first;
}();

constexpr bool AreRankClasses() {
  for (uint32_t c = 0; c < kClasses.size(); ++c) {
    for (uint32_t rank = kFirstRanks[c]; rank < kFirstRanks[c] + kClasses[c]; ++rank) {
      const int width_log2 = internal::RankWidthLog2(rank);
      if (kClasses[c] != 1u << width_log2 || rank >> width_log2 << width_log2 != kFirstRanks[c]) return false;
    }
  }
  return true;
}
static_assert(AreRankClasses(), "RoundRanked writes class by class");

uint64_t Mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// The thresholds of one block.
class Dither {
 public:
  explicit Dither(uint64_t seed) : key_(Mix(seed + kGolden)) {}
  struct Block {
    uint32_t multiplier;  // a
    uint32_t addend;      // c
    uint64_t hash;
    // k of a place: inverse * (place - addend) mod 256.
    uint32_t inverse() const {
      uint32_t x = multiplier;  // right in 3 bits; each step doubles them
      x *= 2 - multiplier * x;
      x *= 2 - multiplier * x;
      return x & 255;
    }
    double offset() const { return (static_cast<double>(hash >> 40) + 0.5) * 0x1p-24; }
  };
  Block At(uint64_t block) const {
    const uint64_t hash = Mix(key_ + (block + 1) * kGolden);
    return {static_cast<uint32_t>(2 * (hash & 127) + 1), static_cast<uint32_t>(hash >> 7 & 255), hash};
  }

 private:
  static constexpr uint64_t kGolden = 0x9e3779b97f4a7c15u;
  uint64_t key_;
};

// What a message says of the scales.
struct Scales {
  int band_log2 = -1;         // -1: one scale for all values
  std::vector<int> segments;  // log2(scale / S); the only one where there is one for all
  std::vector<int> periods;   // of the matrices, in bands; says how bands are coded, not what they are
  std::vector<int> bands;     // of the matrices, one after the other
  std::vector<int> rows;
};

bool IsMatrix(const Segment& segment) {
  return segment.rows >= kLeastSide && segment.columns >= kLeastSide && segment.count() >= kLeastMatrix;
}

int64_t BandCount(const Segment& segment, int band_log2) { return (segment.columns + (int64_t{1} << band_log2) - 1) >> band_log2; }

// log2 of a ratio, rounded; by exponent and comparison alone, so the same on every machine.
int Octave(double ratio, int low, int high) {
  if (!(ratio > 0)) return low;
  return std::clamp(std::ilogb(std::min(ratio, 1e300) * 1.4142135623730951), low, high);
}

// The sums that scales are made from, and that of squares: in one sweep, since each by itself would wait for memory.
struct Magnitudes {
  Magnitudes(absl::Span<const float> values, absl::Span<const Segment> segments) {
    constexpr size_t kStretch = 4096;  // values that stay in the first-level cache; a multiple of 32
    internal::SquareSums sums;
    size_t begin = 0, squared = 0;
    const auto add = [&](size_t count, absl::Span<double> its_columns) {
      const size_t end = std::min((begin + count + kStretch - 1) / kStretch * kStretch, values.size());
      if (end > squared) sums.Add(values.subspan(squared, end - squared));
      squared = std::max(squared, end);
      begin += count;
      return internal::AddMagnitudes(values.subspan(begin - count, count), its_columns);
    };
    for (const Segment& segment : segments) {
      const size_t first_column = columns.size();
      const bool matrix = IsMatrix(segment);
      if (matrix) columns.resize(first_column + static_cast<size_t>(segment.columns));
      double total = 0;
      for (int64_t r = 0; matrix && r < segment.rows; ++r) {
        rows.push_back(add(static_cast<size_t>(segment.columns), absl::MakeSpan(columns).subspan(first_column)));
        total += rows.back();
      }
      if (!matrix) total = add(static_cast<size_t>(segment.count()), {});
      totals.push_back(total);
      all += total;
    }
    squares = sums.Total();
  }

  std::vector<double> totals, rows, columns;  // rows and columns of matrices alone
  double all = 0;
  double squares = 0;
};

Scales MakeScales(const Magnitudes& magnitudes, absl::Span<const Segment> segments, double step, int band_log2) {
  Scales scales;
  scales.band_log2 = band_log2;
  if (band_log2 < 0) {
    const double count = static_cast<double>(internal::CountValues(segments));
    scales.segments.push_back(Octave(magnitudes.all / count / step, kLowestScale, kHighestScale));
    return scales;
  }
  size_t next_row = 0, next_column = 0;
  for (size_t i = 0; i < segments.size(); ++i) {
    const Segment& segment = segments[i];
    const double mean = magnitudes.totals[i] / static_cast<double>(std::max<int64_t>(segment.count(), 1));
    scales.segments.push_back(Octave(mean / step, kLowestScale, kHighestScale));
    if (!IsMatrix(segment)) continue;
    scales.periods.push_back(1);
    for (int64_t b = 0; b < BandCount(segment, band_log2); ++b) {
      const int64_t begin = b << band_log2, end = std::min(segment.columns, (b + 1) << band_log2);
      double sum = 0;
      for (int64_t c = begin; c < end; ++c) sum += magnitudes.columns[next_column++];
      scales.bands.push_back(Octave(sum / static_cast<double>((end - begin) * segment.rows) / mean, -kRelativeScale, kRelativeScale));
    }
    for (int64_t r = 0; r < segment.rows; ++r) {
      scales.rows.push_back(
          Octave(magnitudes.rows[next_row++] / static_cast<double>(segment.columns) / mean, -kRelativeScale, kRelativeScale));
    }
  }
  return scales;
}

void PutInt(int value, int64_t index, SparseSymbols& symbols) {
  if (value == 0) return;
  symbols.indices.push_back(static_cast<uint32_t>(index));
  symbols.symbols.push_back(value);
}

// How many scales there are of each kind: segments, bands, rows.
std::array<int64_t, 3> ScaleCounts(absl::Span<const Segment> segments, int band_log2) {
  std::array<int64_t, 3> counts = {static_cast<int64_t>(segments.size()), 0, 0};
  for (const Segment& segment : segments) {
    if (!IsMatrix(segment)) continue;
    counts[1] += BandCount(segment, band_log2);
    counts[2] += segment.rows;
  }
  return counts;
}

// What band `b` of a matrix that begins at `begin` is coded against; all before it are known.
int Expected(const std::vector<int>& bands, int64_t begin, int64_t b, int64_t period) {
  if (period == 0) return 0;
  const int64_t at = begin + b - (b >= period ? period : 1);
  return at >= 0 ? bands[static_cast<size_t>(at)] : 0;
}

// The periods that leave the least to say.
void ChoosePeriods(absl::Span<const Segment> segments, Scales& scales) {
  int64_t begin = 0;
  size_t matrix = 0;
  for (const Segment& segment : segments) {
    if (scales.band_log2 < 0 || !IsMatrix(segment)) continue;
    const int64_t count = BandCount(segment, scales.band_log2);
    int64_t least = INT64_MAX;
    for (int64_t period = 0; period <= std::min(kMaxPeriod, count - 1); ++period) {
      int64_t cost = 0;
      for (int64_t b = 0; b < count; ++b) cost += std::abs(scales.bands[static_cast<size_t>(begin + b)] - Expected(scales.bands, begin, b, period));
      if (cost >= least) continue;
      least = cost;
      scales.periods[matrix] = static_cast<int>(period);
    }
    begin += count;
    ++matrix;
  }
}

absl::StatusOr<std::string> EncodeScales(const Scales& scales, absl::Span<const Segment> segments) {
  if (scales.band_log2 < 0) return std::string{'\0', static_cast<char>(scales.segments[0])};
  SparseSymbols symbols;
  int64_t index = 0;
  int before = kFirstScale;
  for (int scale : scales.segments) {
    PutInt(scale - before, index++, symbols);
    before = scale;
  }
  int64_t begin = 0;
  size_t matrix = 0;
  for (const Segment& segment : segments) {
    if (!IsMatrix(segment)) continue;
    const int64_t count = BandCount(segment, scales.band_log2), period = scales.periods[matrix++];
    for (int64_t b = 0; b < count; ++b) PutInt(scales.bands[static_cast<size_t>(begin + b)] - Expected(scales.bands, begin, b, period), index++, symbols);
    begin += count;
  }
  for (int scale : scales.rows) PutInt(scale, index++, symbols);
  FEDWATT_ASSIGN_OR_RETURN(std::string coded, EncodeSymbols(ScaleCounts(segments, scales.band_log2), symbols));
  std::string bytes(1, static_cast<char>(scales.band_log2 + 1));
  for (int period : scales.periods) bytes.push_back(static_cast<char>(period));
  PutVarint(coded.size(), bytes);
  return bytes + coded;
}

absl::Status Damaged(const char* what) { return absl::DataLossError(absl::StrCat("dithered: ", what)); }

// Takes what EncodeScales wrote off the front. Errors: DATA_LOSS
absl::StatusOr<Scales> TakeScales(std::string_view& bytes, absl::Span<const Segment> segments) {
  if (bytes.size() < 2) return Damaged("the scales are truncated");
  Scales scales;
  scales.band_log2 = static_cast<int8_t>(bytes[0]) - 1;
  bytes.remove_prefix(1);
  if (scales.band_log2 == -1) {
    scales.segments.push_back(static_cast<int8_t>(bytes[0]));
    bytes.remove_prefix(1);
    if (scales.segments[0] < kLowestScale || scales.segments[0] > kHighestScale) return Damaged("a scale is out of range");
    return scales;
  }
  if (std::find(std::begin(kBandLog2s), std::end(kBandLog2s), scales.band_log2) == std::end(kBandLog2s)) return Damaged("bands of an unknown width");
  for (const Segment& segment : segments) {
    if (!IsMatrix(segment)) continue;
    if (bytes.empty() || static_cast<uint8_t>(bytes[0]) > kMaxPeriod) return Damaged("the periods are truncated or out of range");
    scales.periods.push_back(static_cast<uint8_t>(bytes[0]));
    bytes.remove_prefix(1);
  }
  FEDWATT_ASSIGN_OR_RETURN(uint64_t size, TakeVarint(bytes));
  if (size > bytes.size()) return Damaged("the scales are truncated");
  const auto counts = ScaleCounts(segments, scales.band_log2);
  SparseSymbols symbols;
  FEDWATT_RETURN_IF_ERROR(DecodeSymbols(bytes.substr(0, size), counts, counts[0] + counts[1] + counts[2], symbols));
  bytes.remove_prefix(size);
  size_t next = 0;
  uint32_t index = 0;
  bool good = true;
  const auto take = [&](int expected, int low, int high, std::vector<int>& out) {
    int64_t scale = expected;
    if (next < symbols.indices.size() && symbols.indices[next] == index) scale += symbols.symbols[next++];
    ++index;
    good &= scale >= low && scale <= high;
    out.push_back(static_cast<int>(std::clamp<int64_t>(scale, low, high)));
  };
  for (int64_t i = 0; i < counts[0]; ++i) take(i == 0 ? kFirstScale : scales.segments.back(), kLowestScale, kHighestScale, scales.segments);
  size_t matrix = 0;
  for (const Segment& segment : segments) {
    if (!IsMatrix(segment)) continue;
    const int64_t begin = static_cast<int64_t>(scales.bands.size()), period = scales.periods[matrix++];
    for (int64_t b = 0; b < BandCount(segment, scales.band_log2); ++b) {
      take(Expected(scales.bands, begin, b, period), -kRelativeScale, kRelativeScale, scales.bands);
    }
  }
  for (int64_t i = 0; i < counts[2]; ++i) take(0, -kRelativeScale, kRelativeScale, scales.rows);
  if (!good) return Damaged("a scale is out of range");
  return scales;
}

// The order in which places are coded: groups of places that are a choice of rows times a choice of columns.
class Order {
 public:
  struct Group {
    int scale;
    uint32_t begin;    // of its places in this order
    uint32_t count;    // places
    uint32_t columns;  // in the group
    uint32_t offset;   // of its segment's first value
    uint32_t stride;   // columns of the segment
    const uint32_t* row_list;     // null: all of them, as they lie
    const uint32_t* column_list;  // likewise

    uint32_t value(uint32_t place) const {
      const uint32_t at = place - begin;
      if (row_list == nullptr) return offset + at;
      const uint32_t row = at / columns;
      return offset + row_list[row] * stride + column_list[at - row * columns];
    }
  };

  Order(const Scales& scales, absl::Span<const Segment> segments) : band_log2_(scales.band_log2) {
    const uint32_t all = static_cast<uint32_t>(internal::CountValues(segments));
    if (scales.band_log2 < 0) {
      groups_.push_back({scales.segments[0], 0, all, all, 0, all, nullptr, nullptr});
    } else {
      const auto counts = ScaleCounts(segments, 0);
      rows_.reserve(static_cast<size_t>(counts[2]));
      columns_.reserve(static_cast<size_t>(counts[1]));
      uint32_t offset = 0;
      size_t next_band = 0, next_row = 0;
      for (size_t i = 0; i < segments.size(); ++i) {
        AddSegment(segments[i], scales, scales.segments[i], offset, next_band, next_row);
        offset += static_cast<uint32_t>(segments[i].count());
      }
      std::stable_sort(groups_.begin(), groups_.end(), [](const Group& a, const Group& b) { return a.scale < b.scale; });
    }
    uint32_t begin = 0;
    for (Group& group : groups_) {
      group.begin = begin;
      begin += group.count;
    }
    block_groups_.resize((all + kBlock - 1) / kBlock);
    uint32_t g = 0;
    for (uint32_t b = 0; b < block_groups_.size(); ++b) {
      while (b * kBlock >= groups_[g].begin + groups_[g].count) ++g;
      block_groups_[b] = g;
    }
  }

  const std::vector<Group>& groups() const { return groups_; }
  uint32_t block_count() const { return static_cast<uint32_t>(block_groups_.size()); }
  int scale(uint32_t block) const { return groups_[block_groups_[block]].scale; }
  bool plain() const { return groups_.size() == 1; }
  // Where the place `place` of a block lies among the values; `place` exists.
  uint32_t value(uint32_t block, uint32_t place) const {
    place += block * kBlock;
    const Group* group = &groups_[block_groups_[block]];
    while (place >= group->begin + group->count) ++group;
    return group->value(place);
  }

  std::vector<float> Gather(absl::Span<const float> values) const {
    std::vector<float> ordered(values.size());
    float* out = ordered.data();
    for (const Group& group : groups_) {
      if (group.row_list == nullptr) {
        out = std::copy_n(values.data() + group.offset, group.count, out);
        continue;
      }
      for (uint32_t r = 0; r < group.count / group.columns; ++r) {
        const float* row = values.data() + group.offset + group.row_list[r] * group.stride;
        uint32_t c = 0;
        // Whole bands at once; only the last of a row may be narrower.
        if (band_log2_ == 2) {
          for (; c + 4 <= group.columns && group.column_list[c + 3] == group.column_list[c] + 3; c += 4, out += 4) {
            std::memcpy(out, row + group.column_list[c], 4 * sizeof(float));
          }
        }
        for (; c < group.columns; ++c) *out++ = row[group.column_list[c]];
      }
    }
    return ordered;
  }

 private:
  void AddSegment(const Segment& segment, const Scales& scales, int scale, uint32_t offset, size_t& next_band, size_t& next_row) {
    const uint32_t count = static_cast<uint32_t>(segment.count()), stride = static_cast<uint32_t>(segment.columns);
    if (count == 0) return;
    if (!IsMatrix(segment)) {
      groups_.push_back({scale, 0, count, count, offset, count, nullptr, nullptr});
      return;
    }
    const int* const row_scales = scales.rows.data() + next_row;
    const int* const band_scales = scales.bands.data() + next_band;
    next_row += static_cast<size_t>(segment.rows);
    next_band += static_cast<size_t>(BandCount(segment, scales.band_log2));
    const size_t first_row = rows_.size(), first_column = columns_.size();
    const Begins row_begins = Sort(static_cast<uint32_t>(segment.rows), [&](uint32_t r) { return row_scales[r]; }, rows_);
    const Begins column_begins = Sort(stride, [&](uint32_t c) { return band_scales[c >> scales.band_log2]; }, columns_);
    for (size_t i = 0; i < kRelativeScales; ++i) {
      const uint32_t rows = row_begins[i + 1] - row_begins[i];
      for (size_t j = 0; rows > 0 && j < kRelativeScales; ++j) {
        const uint32_t columns = column_begins[j + 1] - column_begins[j];
        if (columns == 0) continue;
        const int sum = scale + static_cast<int>(i + j) - 2 * kRelativeScale;
        groups_.push_back({std::clamp(sum, kLowestScale, kHighestScale), 0, rows * columns, columns, offset, stride,
                           rows_.data() + first_row + row_begins[i], columns_.data() + first_column + column_begins[j]});
      }
    }
  }

  // Appends 0 to count - 1 in order of scale, then of number; returns where each scale begins.
  static constexpr size_t kRelativeScales = 2 * kRelativeScale + 1;
  using Begins = std::array<uint32_t, kRelativeScales + 1>;
  template <typename ScaleOf>
  static Begins Sort(uint32_t count, const ScaleOf& scale_of, std::vector<uint32_t>& out) {
    Begins begins{};
    for (uint32_t i = 0; i < count; ++i) ++begins[static_cast<size_t>(scale_of(i) + kRelativeScale + 1)];
    std::partial_sum(begins.begin(), begins.end(), begins.begin());
    Begins next = begins;
    const size_t first = out.size();
    out.resize(first + count);
    for (uint32_t i = 0; i < count; ++i) out[first + next[static_cast<size_t>(scale_of(i) + kRelativeScale)]++] = i;
    return begins;
  }

  const int band_log2_;
  std::vector<uint32_t> rows_, columns_;  // of the matrices, by class; never reallocated
  std::vector<Group> groups_;
  std::vector<uint32_t> block_groups_;  // of each block's first place
};

// The classes of places, as runs of blocks of one scale and ranks of one class.
class Classes {
 public:
  struct Run {
    uint32_t first_block;
    uint32_t rank_class;
    uint32_t begin;  // among all places of all classes
    uint32_t count;
  };

  explicit Classes(const Order& order) {
    std::array<uint32_t, kHighestScale - kLowestScale + 2> first{};  // block of each scale
    for (uint32_t b = 0; b < order.block_count(); ++b) ++first[static_cast<size_t>(order.scale(b) - kLowestScale + 1)];
    std::partial_sum(first.begin(), first.end(), first.begin());
    uint32_t begin = 0;
    for (int u = kLowestClass; u <= kHighestClass; ++u) {
      const uint32_t class_begin = begin;
      for (int scale = kLowestScale; scale <= kHighestScale; ++scale) {
        const size_t s = static_cast<size_t>(scale - kLowestScale);
        const uint32_t blocks = first[s + 1] - first[s];
        if (blocks == 0) continue;
        for (uint32_t c = 0; c < kClasses.size(); ++c) {
          if (std::clamp(kClassLevels[c] - 2 * scale, kLowestClass, kHighestClass) != u) continue;
          run_of_[s][c] = static_cast<uint16_t>(runs_.size());
          runs_.push_back({first[s], c, begin, blocks * kClasses[c]});
          begin += runs_.back().count;
        }
      }
      counts_[static_cast<size_t>(u - kLowestClass)] = begin - class_begin;
    }
  }

  const std::vector<Run>& runs() const { return runs_; }
  uint32_t run(int scale, uint32_t rank_class) const { return run_of_[static_cast<size_t>(scale - kLowestScale)][rank_class]; }
  absl::Span<const int64_t> counts() const { return counts_; }

 private:
  std::vector<Run> runs_;
  std::array<std::array<uint16_t, kClasses.size()>, kHighestScale - kLowestScale + 1> run_of_{};
  std::array<int64_t, kPlaceClasses> counts_{};
};

// Classes alone do not tell vectors of 300 and 301 values apart, and another seed's thresholds would fit any symbols.
uint64_t Salt(uint64_t count, uint64_t seed) { return Mix(seed) + count; }

class Dithered : public Codec {
 public:
  // `bands`: the widths to try, as log2; -1 is one scale for all values.
  Dithered(bool relative, double target, std::vector<int> bands) : relative_(relative), target_(target), bands_(std::move(bands)) {}
  std::string_view name() const override { return "dithered"; }
  bool sparse() const override { return true; }
  bool refuses_not_finite() const override { return true; }

  absl::StatusOr<std::string> Encode(absl::Span<const float> values, const CodingContext& context) const override {
    const int64_t count = static_cast<int64_t>(values.size());
    FEDWATT_CHECK(internal::CountValues(context.segments) == count);
    if (values.empty()) return std::string();
    if (count > kMaxCount) return absl::InvalidArgumentError(absl::StrCat("dithered: ", count, " values, expected at most ", kMaxCount));
    const Magnitudes magnitudes(values, context.segments);
    const float step = internal::StepOf(relative_ ? target_ * std::sqrt(magnitudes.squares / static_cast<double>(values.size())) : target_);
    if (!std::isfinite(magnitudes.all)) return internal::RefuseNotFinite(name(), values);  // float64 holds the sum of any finite float32
    const auto scales = [&](int band_log2) { return MakeScales(magnitudes, context.segments, step, band_log2); };
    const auto encode = [&](int band_log2) {
      Scales chosen = scales(band_log2);
      ChoosePeriods(context.segments, chosen);
      return EncodeAt(values, context, step, magnitudes.all, chosen);
    };
    if (bands_.size() == 1) return encode(bands_[0]);
    if (!std::any_of(context.segments.begin(), context.segments.end(), IsMatrix)) return encode(-1);
    if (count > kSmall) return encode(kUntriedBandLog2);
    // Tried with other thresholds than those that count: a choice by what these make would favour roundings towards zero. All widths expect the same
    // sum of magnitudes; by chance they differ, so what is compared is bytes for each.
    const CodingContext trial{context.segments, Mix(~context.seed), context.round};
    int best = -1;
    double least = DBL_MAX;
    for (int band_log2 : bands_) {
      int64_t magnitude = 0;
      FEDWATT_ASSIGN_OR_RETURN(std::string bytes, EncodeAt(values, trial, step, magnitudes.all, scales(band_log2), &magnitude));
      const double cost = static_cast<double>(bytes.size()) / static_cast<double>(std::max<int64_t>(magnitude, 1));
      if (cost >= least) continue;
      least = cost;
      best = band_log2;
    }
    return encode(best);
  }

  absl::Status Decode(std::string_view bytes, const CodingContext& context, absl::Span<float> out) const override {
    return internal::DecodeBySparse(*this, bytes, context, out);
  }

  absl::Status DecodeSparse(std::string_view bytes, const CodingContext& context, SparseValues& out) const override {
    const int64_t count = internal::CountValues(context.segments);
    SparseSymbols symbols;
    symbols.indices = std::move(out.indices);  // its memory
    symbols.indices.clear();
    out.values.clear();
    if (count > kMaxCount) return Damaged("too many values");
    float step = 0;
    FEDWATT_RETURN_IF_ERROR(internal::TakeStep(name(), bytes, count, step));
    if (step == 0) {
      out.indices = std::move(symbols.indices);
      return absl::OkStatus();
    }
    FEDWATT_ASSIGN_OR_RETURN(const Scales scales, TakeScales(bytes, context.segments));
    const Order order(scales, context.segments);
    const Classes classes(order);
    FEDWATT_RETURN_IF_ERROR(
        DecodeSymbols(bytes, classes.counts(), count, symbols, Salt(static_cast<uint64_t>(count), context.seed)));
    if (symbols.indices.empty()) return Damaged("a step without symbols");

    // What a block's places need, once: most blocks are met in most classes.
    const Dither dither(context.seed);
    std::vector<uint16_t> blocks(order.block_count());
    for (size_t b = 0; b < blocks.size(); ++b) {
      const Dither::Block block = dither.At(b);
      blocks[b] = static_cast<uint16_t>(block.multiplier << 8 | block.addend);
    }
    const uint32_t last_block = order.block_count() - 1, in_last = static_cast<uint32_t>(count) - last_block * kBlock;
    out.values.resize(symbols.symbols.size());
    const bool plain = order.plain();
    size_t i = 0;
    for (const Classes::Run& run : classes.runs()) {
      const uint32_t size = kClasses[run.rank_class], first_rank = kFirstRanks[run.rank_class];
      const int width = std::countr_zero(size);
      for (; i < symbols.indices.size() && symbols.indices[i] - run.begin < run.count; ++i) {
        const uint32_t index = symbols.indices[i] - run.begin;
        const uint32_t block = run.first_block + (index >> width), rank = first_rank + (index & (size - 1));
        const uint32_t place = ((blocks[block] >> 8) * rank + blocks[block]) & (kBlock - 1);
        if (block == last_block && place >= in_last) return Damaged("a symbol stands beyond the last value");
        symbols.indices[i] = plain ? block * kBlock + place : order.value(block, place);
        out.values[i] = internal::DecodeSymbol(symbols.symbols[i], step);
      }
    }
    out.indices = std::move(symbols.indices);
    return absl::OkStatus();
  }

  double ErrorBound(double max_abs) const override {
    return internal::StepOf(relative_ ? target_ * max_abs : target_) * (1 + 0x1p-20) + FLT_TRUE_MIN;
  }

 private:
  static constexpr int64_t kMaxCount = (int64_t{1} << 31) - kBlock;

  // `sum` is that of the values' magnitudes. `magnitude`, unless null, grows by that of the symbols'.
  absl::StatusOr<std::string> EncodeAt(absl::Span<const float> values, const CodingContext& context, float step, double sum, const Scales& scales,
                                       int64_t* magnitude = nullptr) const {
    const Order order(scales, context.segments);
    const Classes classes(order);
    SparseSymbols symbols;
    FEDWATT_RETURN_IF_ERROR(Round(values, order, classes, context.seed, step, sum / step, symbols));
    if (magnitude != nullptr) {
      for (int32_t symbol : symbols.symbols) *magnitude += std::abs(symbol);
    }
    if (symbols.indices.empty()) return internal::PutStep(0);
    FEDWATT_ASSIGN_OR_RETURN(std::string coded_scales, EncodeScales(scales, context.segments));
    FEDWATT_ASSIGN_OR_RETURN(std::string coded, EncodeSymbols(classes.counts(), symbols, Salt(values.size(), context.seed)));
    return absl::StrCat(internal::PutStep(step), coded_scales, coded);
  }

  // About `expected` symbols are not zero.
  absl::Status Round(absl::Span<const float> given, const Order& order, const Classes& classes, uint64_t seed, float step, double expected,
                     SparseSymbols& symbols) const {
    std::vector<float> ordered;
    if (!order.plain()) ordered = order.Gather(given);
    const absl::Span<const float> values = order.plain() ? given : absl::MakeConstSpan(ordered);

    // Batch by batch of blocks of one scale, and in each of class by class of ranks: a piece of a run.
    constexpr uint32_t kBatch = internal::kRankedBlocks;
    struct Piece {
      uint32_t run;
      size_t count;
    };
    std::vector<Piece> pieces;
    SparseSymbols found;
    size_t count = 0;
    std::vector<uint32_t> run_counts(classes.runs().size());
    std::vector<int32_t> batch(kBatch * kBlock);
    internal::RankThresholds thresholds[kBatch];
    const Dither dither(seed);
    for (uint32_t begin = 0, end; begin < order.block_count(); begin = end) {
      const int scale = order.scale(begin);
      for (end = begin; end < order.block_count() && end < begin + kBatch && order.scale(end) == scale; ++end) {
        const Dither::Block block = dither.At(end);
        thresholds[end - begin] = {block.inverse(), 0u - block.inverse() * block.addend, block.offset()};
      }
      const absl::Span<const float> its_values = values.subspan(size_t{begin} * kBlock, size_t{end - begin} * kBlock);
      const size_t rounded = internal::RoundRanked(its_values, thresholds, step, batch.data());
      if (rounded != end - begin) return Refuse(its_values.subspan(rounded * kBlock, kBlock), step);
      const size_t room = count + its_values.size() + internal::kPlacePadding;
      if (found.indices.size() < room) {
        const size_t size = std::max(room + static_cast<size_t>(std::min(expected, static_cast<double>(values.size()))), 2 * found.indices.size());
        found.indices.resize(size);
        found.symbols.resize(size);
      }
      for (uint32_t c = 0; c < kClasses.size(); ++c) {
        const uint32_t run = classes.run(scale, c);
        const size_t taken = internal::TakeSymbols(absl::MakeSpan(batch).subspan(kBatch * kFirstRanks[c], (end - begin) * kClasses[c]),
                                                   classes.runs()[run].begin + (begin - classes.runs()[run].first_block) * kClasses[c],
                                                   found.indices.data() + count, found.symbols.data() + count);
        pieces.push_back({run, taken});
        run_counts[run] += static_cast<uint32_t>(taken);
        count += taken;
      }
    }

    symbols.indices.resize(count);
    symbols.symbols.resize(count);
    uint32_t next_of_run = 0;
    for (uint32_t& run : run_counts) next_of_run += std::exchange(run, next_of_run);
    size_t from = 0;
    for (const Piece& piece : pieces) {
      std::copy_n(found.indices.data() + from, piece.count, symbols.indices.data() + run_counts[piece.run]);
      std::copy_n(found.symbols.data() + from, piece.count, symbols.symbols.data() + run_counts[piece.run]);
      run_counts[piece.run] += static_cast<uint32_t>(piece.count);
      from += piece.count;
    }
    return absl::OkStatus();
  }

  absl::Status Refuse(absl::Span<const float> block, float step) const {
    const float largest = *std::max_element(block.begin(), block.end(), [](float a, float b) { return std::fabs(a) < std::fabs(b); });
    return internal::RefuseSymbol(name(), largest, step);
  }

  const bool relative_;
  const double target_;
  const std::vector<int> bands_;
};

absl::StatusOr<std::unique_ptr<Codec>> MakeDithered(const CodecOptions& options) {
  FEDWATT_RETURN_IF_ERROR(internal::CheckOptionNames("dithered", options, {"step", "multiple", "scales"}));
  if (options.count("step") + options.count("multiple") > 1) return absl::InvalidArgumentError("codec 'dithered': either step or multiple, not both");
  bool relative = true;
  double target = 3;
  if (const auto it = options.find("step"); it != options.end()) {
    relative = false;
    FEDWATT_ASSIGN_OR_RETURN(target, internal::ParseOption("dithered", "step", it->second, FLT_TRUE_MIN, FLT_MAX));
  }
  if (const auto it = options.find("multiple"); it != options.end()) {
    FEDWATT_ASSIGN_OR_RETURN(target, internal::ParseOption("dithered", "multiple", it->second, 1e-6, 1e6));
  }
  std::vector<int> bands = {-1, 0, 2, 4};
  if (const auto it = options.find("scales"); it != options.end() && it->second != "auto") {
    if (it->second == "off") {
      bands = {-1};
    } else if (it->second == "1" || it->second == "4" || it->second == "16") {
      bands = {it->second == "1" ? 0 : it->second == "4" ? 2 : 4};
    } else {
      return absl::InvalidArgumentError(absl::StrCat("codec 'dithered': scales = '", it->second, "', expected auto, off, 1, 4 or 16"));
    }
  }
  return std::make_unique<Dithered>(relative, target, std::move(bands));
}

}  // namespace

namespace internal {

void InstallCodec_dithered(CodecRegistry& registry) { FEDWATT_CHECK(registry.Register("dithered", MakeDithered).ok()); }

}  // namespace internal
}  // namespace fedwatt

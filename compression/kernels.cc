#include "kernels.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "step_support.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace fedwatt::internal {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Branchless: at the rates in use about every second vector holds a find, and a guess would be wrong as often as not.
size_t FindAtLeastKernel(const float* values, size_t count, float threshold, uint32_t* places) {
  const hn::ScalableTag<float> df;
  const hn::RebindToUnsigned<decltype(df)> du;
  const size_t lanes = hn::Lanes(df);
  const auto limit = hn::Set(df, threshold);
  const auto stride = hn::Set(du, static_cast<uint32_t>(lanes));
  auto place = hn::Iota(du, 0);
  size_t found = 0, i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto mask = hn::RebindMask(du, hn::Ge(hn::Abs(hn::LoadU(df, values + i)), limit));
    hn::StoreU(hn::Compress(place, mask), du, places + found);
    found += hn::CountTrue(du, mask);
    place = hn::Add(place, stride);
  }
  for (; i < count; ++i) {
    places[found] = static_cast<uint32_t>(i);
    found += std::fabs(values[i]) >= threshold;
  }
  return found;
}

// Candidates are few, and only they are divided: found in float32 by a limit a little low, decided in float64, each operation as plain code would do it.
size_t RoundRankedKernel(const float* values, size_t count, const RankThresholds* blocks, float step, float limit_step, int32_t* out) {
  const hn::ScalableTag<float> df;
  const hn::RebindToUnsigned<decltype(df)> du;
  const hn::RebindToSigned<decltype(df)> di;
  const size_t lanes = hn::Lanes(df);
  const hn::ScalableTag<double> dd;
  const hn::Rebind<float, decltype(dd)> value_tag;
  const hn::Rebind<int32_t, decltype(dd)> symbol_tag;
  const hn::Rebind<uint32_t, decltype(dd)> rank_tag;
  const size_t wide = hn::Lanes(dd);
  const auto low = hn::Set(du, kRanks - 1), stride = hn::Set(du, static_cast<uint32_t>(lanes));
  const auto limit_steps = hn::Set(df, limit_step);
  const auto steps = hn::Set(dd, static_cast<double>(step)), one = hn::Set(dd, 1.0);
  const auto rank_share = hn::Set(dd, 1.0 / kRanks), most = hn::Set(dd, kMaxSymbol + 1.0);  // a power of two: as exact as dividing
  const auto wide_low = hn::Set(rank_tag, kRanks - 1);
  const auto exponent = hn::Set(symbol_tag, 128);
  uint32_t places[kRanks + kPlacePadding], slots[kPlacePadding];
  int32_t symbols[kPlacePadding];
  for (size_t b = 0; b * kRanks < count; ++b, values += kRanks) {
    const size_t size = HWY_MIN(count - b * kRanks, size_t{kRanks});
    const uint32_t multiplier = blocks[b].multiplier, addend = blocks[b].addend;
    const float first_limit = static_cast<float>(blocks[b].offset) * limit_step;
    const auto rank_stride = hn::Set(du, multiplier * static_cast<uint32_t>(lanes));
    const auto first_limits = hn::Set(df, first_limit);
    auto place = hn::Iota(du, 0);
    auto rank = hn::Add(hn::Mul(place, hn::Set(du, multiplier)), hn::Set(du, addend));
    size_t found = 0, i = 0;
    for (; i + lanes <= size; i += lanes) {
      const auto limit = hn::MulAdd(hn::ConvertTo(df, hn::BitCast(di, hn::And(rank, low))), limit_steps, first_limits);
      const auto mask = hn::RebindMask(du, hn::Ge(hn::Abs(hn::LoadU(df, values + i)), limit));
      hn::StoreU(hn::Compress(place, mask), du, places + found);
      found += hn::CountTrue(du, mask);
      place = hn::Add(place, stride);
      rank = hn::Add(rank, rank_stride);
    }
    for (; i < size; ++i) {
      places[found] = static_cast<uint32_t>(i);
      found += std::fabs(values[i]) >= static_cast<float>((multiplier * static_cast<uint32_t>(i) + addend) & (kRanks - 1)) * limit_step + first_limit;
    }

    const auto offsets = hn::Set(dd, blocks[b].offset);
    const auto multipliers = hn::Set(rank_tag, multiplier), addends = hn::Set(rank_tag, addend), block = hn::Set(rank_tag, static_cast<uint32_t>(b));
    // A last vector that is not full says of a place again what was said of it.
    hn::StoreU(hn::Set(rank_tag, places[0]), rank_tag, places + found);
    bool fit = true;
    for (i = 0; i < found; i += wide) {
      const auto at = hn::LoadU(rank_tag, places + i);
      const auto value = hn::GatherIndex(value_tag, values, hn::BitCast(symbol_tag, at));
      const auto its_rank = hn::And(hn::Add(hn::Mul(at, multipliers), addends), wide_low);
      const auto signed_rank = hn::BitCast(symbol_tag, its_rank);
      const auto threshold = hn::Mul(hn::Add(hn::PromoteTo(dd, signed_rank), offsets), rank_share);
      const auto magnitude = hn::Add(hn::Div(hn::PromoteTo(dd, hn::Abs(value)), steps), hn::Sub(one, threshold));
      fit &= hn::AllTrue(dd, hn::Lt(magnitude, most));
      const auto negative = hn::BroadcastSignBit(hn::BitCast(symbol_tag, value));
      const auto symbol = hn::Sub(hn::Xor(hn::DemoteTo(symbol_tag, magnitude), negative), negative);
      // RankWidthLog2() from the exponent of the rank as a float.
      const auto log2 = hn::ShiftRight<23>(hn::BitCast(symbol_tag, hn::ConvertTo(value_tag, signed_rank)));
      const auto width_log2 = hn::BitCast(rank_tag, hn::Max(hn::Sub(log2, exponent), hn::Zero(symbol_tag)));
      const auto first = hn::Shl(hn::Shr(its_rank, width_log2), width_log2);
      const auto slot = hn::Add(hn::Add(hn::Mul(first, hn::Set(rank_tag, kRankedBlocks - 1)), its_rank), hn::Shl(block, width_log2));
      hn::StoreU(slot, rank_tag, slots);
      hn::StoreU(symbol, symbol_tag, symbols);
      for (size_t lane = 0; lane < wide; ++lane) out[slots[lane]] = symbols[lane];
    }
    if (!fit) return b;
  }
  return (count + kRanks - 1) / kRanks;
}

// Four rows at once, so that a loaded value serves four sums that do not wait for each other.
void MultiplyAndTransposeKernel(const double* left, size_t side, const double* in, double* out) {
  const hn::CappedTag<double, kMatrixLanes> d;
  for (size_t lane = 0; lane < kMatrixLanes; lane += hn::Lanes(d)) {
    for (size_t column = 0; column < side; ++column) {
      const double* from = in + column * kMatrixLanes + lane;
      double* to = out + column * side * kMatrixLanes + lane;
      size_t row = 0;
      for (; row + 4 <= side; row += 4) {
        const double* factors = left + row * side;
        auto sum0 = hn::Zero(d), sum1 = sum0, sum2 = sum0, sum3 = sum0;
        for (size_t j = 0; j < side; ++j) {
          const auto value = hn::LoadU(d, from + j * side * kMatrixLanes);
          sum0 = hn::Add(sum0, hn::Mul(hn::Set(d, factors[j]), value));
          sum1 = hn::Add(sum1, hn::Mul(hn::Set(d, factors[side + j]), value));
          sum2 = hn::Add(sum2, hn::Mul(hn::Set(d, factors[2 * side + j]), value));
          sum3 = hn::Add(sum3, hn::Mul(hn::Set(d, factors[3 * side + j]), value));
        }
        hn::StoreU(sum0, d, to + row * kMatrixLanes);
        hn::StoreU(sum1, d, to + (row + 1) * kMatrixLanes);
        hn::StoreU(sum2, d, to + (row + 2) * kMatrixLanes);
        hn::StoreU(sum3, d, to + (row + 3) * kMatrixLanes);
      }
      for (; row < side; ++row) {
        auto sum = hn::Zero(d);
        for (size_t j = 0; j < side; ++j) {
          sum = hn::Add(sum, hn::Mul(hn::Set(d, left[row * side + j]), hn::LoadU(d, from + j * side * kMatrixLanes)));
        }
        hn::StoreU(sum, d, to + row * kMatrixLanes);
      }
    }
  }
}

size_t TakeSymbolsKernel(int32_t* symbols, size_t count, uint32_t first, uint32_t* indices, int32_t* out) {
  const hn::ScalableTag<int32_t> di;
  const hn::RebindToUnsigned<decltype(di)> du;
  const size_t lanes = hn::Lanes(di);
  const auto zero = hn::Zero(di);
  size_t found = 0, i = 0;
  const auto collect = [&](size_t at) HWY_ATTR {
    const auto symbol = hn::LoadU(di, symbols + at);
    const auto mask = hn::Ne(symbol, zero);
    hn::StoreU(zero, di, symbols + at);
    hn::StoreU(hn::Compress(symbol, mask), di, out + found);
    hn::StoreU(hn::Compress(hn::Iota(du, first + static_cast<uint32_t>(at)), hn::RebindMask(du, mask)), du, indices + found);
    found += hn::CountTrue(di, mask);
  };
  for (; i + 4 * lanes <= count; i += 4 * lanes) {
    const auto one = hn::Or(hn::LoadU(di, symbols + i), hn::LoadU(di, symbols + i + lanes));
    const auto other = hn::Or(hn::LoadU(di, symbols + i + 2 * lanes), hn::LoadU(di, symbols + i + 3 * lanes));
    if (hn::AllTrue(di, hn::Eq(hn::Or(one, other), zero))) continue;
    for (size_t j = 0; j < 4; ++j) collect(i + j * lanes);
  }
  for (; i + lanes <= count; i += lanes) collect(i);
  for (; i < count; ++i) {
    indices[found] = first + static_cast<uint32_t>(i);
    out[found] = symbols[i];
    found += std::exchange(symbols[i], 0) != 0;
  }
  return found;
}

// The largest magnitude as float bits, which order like the values do; those of infinity or more when one is not finite.
int32_t MaxMagnitudeBitsKernel(const float* values, size_t count) {
  const hn::ScalableTag<int32_t> di;
  const hn::Rebind<float, decltype(di)> df;
  const size_t lanes = hn::Lanes(di);
  const auto mask = hn::Set(di, 0x7fffffff);
  auto first = hn::Zero(di), second = first;
  size_t i = 0;
  for (; i + 2 * lanes <= count; i += 2 * lanes) {
    first = hn::Max(first, hn::And(hn::BitCast(di, hn::LoadU(df, values + i)), mask));
    second = hn::Max(second, hn::And(hn::BitCast(di, hn::LoadU(df, values + i + lanes)), mask));
  }
  int32_t most = hn::GetLane(hn::MaxOfLanes(di, hn::Max(first, second)));
  for (; i < count; ++i) {
    const int32_t bits = std::bit_cast<int32_t>(values[i]) & 0x7fffffff;
    most = bits > most ? bits : most;
  }
  return most;
}

SymbolFacts LookAtSymbolsKernel(const uint32_t* indices, const int32_t* symbols, size_t count) {
  SymbolFacts facts;
  const hn::ScalableTag<uint32_t> du;
  const hn::RebindToSigned<decltype(du)> di;
  const size_t lanes = hn::Lanes(du);
  const auto zero = hn::Zero(di), one = hn::Set(di, 1), beyond = hn::Set(di, kMaxSymbol + 1), escape = hn::Set(di, kEscapeMagnitude - 1);
  const auto top = hn::Set(du, 0x80000000u);  // signed comparisons, which all targets have
  auto good = hn::Eq(zero, zero), units = good;
  size_t i = 1;
  for (; i + lanes <= count; i += lanes) {
    const auto index = hn::BitCast(di, hn::Xor(hn::LoadU(du, indices + i), top)), before = hn::BitCast(di, hn::Xor(hn::LoadU(du, indices + i - 1), top));
    const auto symbol = hn::LoadU(di, symbols + i);
    const auto magnitude = hn::Max(symbol, hn::Sub(zero, symbol));  // of the least of all, itself: below zero
    good = hn::And(good, hn::And(hn::Gt(index, before), hn::And(hn::Gt(magnitude, zero), hn::Lt(magnitude, beyond))));
    units = hn::And(units, hn::Eq(magnitude, one));
    facts.escapes += hn::CountTrue(di, hn::Gt(magnitude, escape));
  }
  facts.good = hn::AllTrue(di, good);
  facts.units = hn::AllTrue(di, units);
  for (size_t j = 0; j < count; j = j == 0 ? i : j + 1) {
    const int64_t magnitude = std::abs(static_cast<int64_t>(symbols[j]));
    facts.good = facts.good && magnitude > 0 && magnitude <= kMaxSymbol && (j == 0 || indices[j] > indices[j - 1]);
    facts.units = facts.units && magnitude == 1;
    facts.escapes += magnitude >= kEscapeMagnitude;
  }
  return facts;
}

// The eight states of an octet side by side, in the order of its operations and in float64, where all of them are exact: no conversion in what waits for
// the octet before. Adding and subtracting 2^52 rounds to the nearest whole number, so floor(x / f) is what x / f + 1 / 2f - 1 / 2 is rounded to: that lies
// 2^-12 or more from where rounding turns, and a rounded reciprocal errs by less than 2^-30.
size_t CodeOctetsKernel(const uint32_t* operations, size_t count, double* states, uint32_t* words) {
  const uint32_t* const first_word = words;
  const hn::CappedTag<double, kOctet> dd;
  const hn::RebindToUnsigned<decltype(dd)> dw;
  const hn::Rebind<uint32_t, decltype(dd)> du;
  const hn::Rebind<int32_t, decltype(dd)> di;
  const auto frequencies = hn::Set(du, 0xffff), starts = hn::Set(du, (1 << kPrecision) - 1);
  const auto scale = hn::Set(dd, 1 << kPrecision), most = hn::Set(dd, 1u << (32 - kPrecision)), magic = hn::Set(dd, 0x1p52);
  const auto one = hn::Set(dd, 1.0), half = hn::Set(dd, 0.5), shift = hn::Set(dd, 0x1p-16), before_shift = hn::Set(dd, 0x1p-17 - 0.5);
  const auto code = [&](const uint32_t* next, auto& state) HWY_ATTR {
    const auto operation = hn::LoadU(du, next);
    const auto frequency = hn::PromoteTo(dd, hn::BitCast(di, hn::And(operation, frequencies)));
    const auto start = hn::PromoteTo(dd, hn::BitCast(di, hn::And(hn::ShiftRight<16>(operation), starts)));
    const auto reciprocal = hn::Div(one, frequency);
    const auto bias = hn::Sub(hn::Mul(half, reciprocal), half);
    const auto spills = hn::Ge(state, hn::Mul(frequency, most));
    const auto whole = hn::BitCast(di, hn::TruncateTo(du, hn::BitCast(dw, hn::Add(state, magic))));
    const auto spilled = hn::Not(hn::Lt(hn::BitCast(di, hn::ShiftRight<32 - kPrecision>(hn::BitCast(du, whole))), hn::BitCast(di, hn::And(operation, frequencies))));
    hn::StoreU(hn::BitCast(du, hn::Compress(whole, spilled)), du, words);
    words += hn::CountTrue(di, spilled);
    const auto shifted = hn::Sub(hn::Add(hn::MulAdd(state, shift, before_shift), magic), magic);
    const auto x = hn::IfThenElse(spills, shifted, state);
    const auto quotient = hn::Sub(hn::Add(hn::MulAdd(x, reciprocal, bias), magic), magic);
    state = hn::MulAdd(quotient, hn::Sub(scale, frequency), hn::Add(x, start));
  };
#if HWY_TARGET == HWY_SCALAR
  for (size_t i = 0; i < count; ++i) {
    auto state = hn::LoadU(dd, states + i % kOctet);
    code(operations + i, state);
    hn::StoreU(state, dd, states + i % kOctet);
  }
#else
  const size_t lanes = hn::Lanes(dd);
  auto state0 = hn::LoadU(dd, states), state1 = hn::LoadU(dd, states + lanes % kOctet);
  auto state2 = hn::LoadU(dd, states + 2 * lanes % kOctet), state3 = hn::LoadU(dd, states + 3 * lanes % kOctet);
  for (size_t i = 0; i < count; i += kOctet) {
    code(operations + i, state0);
    if (lanes < 8) code(operations + i + lanes, state1);
    if (lanes < 4) {
      code(operations + i + 2 * lanes, state2);
      code(operations + i + 3 * lanes, state3);
    }
  }
  hn::StoreU(state0, dd, states);
  if (lanes < 8) hn::StoreU(state1, dd, states + lanes);
  if (lanes < 4) {
    hn::StoreU(state2, dd, states + 2 * lanes);
    hn::StoreU(state3, dd, states + 3 * lanes);
  }
#endif
  return static_cast<size_t>(words - first_word);
}

// Adds squares or magnitudes to 32 sums of the places equal mod 32, and magnitudes to `columns` unless it is null.
// Four vectors of sums stay in registers; where that is less than all 32, a stretch that fits into the first-level cache is passed several times.
template <bool kSquares>
void AddTo32(const float* values, size_t count, double* sums, double* columns) {
  size_t done = 0;
#if HWY_TARGET != HWY_SCALAR
  constexpr size_t kStretch = 2048;
  const hn::CappedTag<double, 8> dd;
  const hn::Rebind<float, decltype(dd)> df;
  const size_t lanes = hn::Lanes(dd);
  const auto term = [&](size_t i) HWY_ATTR {
    const auto value = hn::LoadU(df, values + i);
    if constexpr (kSquares) {
      const auto wide = hn::PromoteTo(dd, value);
      return hn::Mul(wide, wide);
    } else {
      const auto wide = hn::PromoteTo(dd, hn::Abs(value));
      if (columns != nullptr) hn::StoreU(hn::Add(hn::LoadU(dd, columns + i), wide), dd, columns + i);
      return wide;
    }
  };
  const size_t whole = count / 32 * 32;
  for (size_t begin = 0; begin < whole; begin += kStretch) {
    const size_t end = HWY_MIN(begin + kStretch, whole);
    for (size_t j = 0; j < 32; j += 4 * lanes) {
      auto sum0 = hn::LoadU(dd, sums + j), sum1 = hn::LoadU(dd, sums + j + lanes);
      auto sum2 = hn::LoadU(dd, sums + j + 2 * lanes), sum3 = hn::LoadU(dd, sums + j + 3 * lanes);
      for (size_t i = begin + j; i < end; i += 32) {
        sum0 = hn::Add(sum0, term(i));
        sum1 = hn::Add(sum1, term(i + lanes));
        sum2 = hn::Add(sum2, term(i + 2 * lanes));
        sum3 = hn::Add(sum3, term(i + 3 * lanes));
      }
      hn::StoreU(sum0, dd, sums + j);
      hn::StoreU(sum1, dd, sums + j + lanes);
      hn::StoreU(sum2, dd, sums + j + 2 * lanes);
      hn::StoreU(sum3, dd, sums + j + 3 * lanes);
    }
  }
  for (done = whole; done + lanes <= count; done += lanes) {
    hn::StoreU(hn::Add(hn::LoadU(dd, sums + done - whole), term(done)), dd, sums + done - whole);
  }
#endif
  for (; done < count; ++done) {
    const double value = kSquares ? values[done] : std::fabs(values[done]);
    sums[done % 32] += kSquares ? value * value : value;
    if (columns != nullptr) columns[done] += value;
  }
}

void AddSquaresKernel(const float* values, size_t count, double* sums) { AddTo32<true>(values, count, sums, nullptr); }
void AddMagnitudesKernel(const float* values, size_t count, double* sums, double* columns) { AddTo32<false>(values, count, sums, columns); }

}  // namespace HWY_NAMESPACE
}  // namespace fedwatt::internal
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fedwatt::internal {

HWY_EXPORT(FindAtLeastKernel);
HWY_EXPORT(RoundRankedKernel);
HWY_EXPORT(TakeSymbolsKernel);
HWY_EXPORT(LookAtSymbolsKernel);
HWY_EXPORT(CodeOctetsKernel);
HWY_EXPORT(MultiplyAndTransposeKernel);
HWY_EXPORT(MaxMagnitudeBitsKernel);
HWY_EXPORT(AddSquaresKernel);
HWY_EXPORT(AddMagnitudesKernel);

size_t FindAtLeast(absl::Span<const float> values, float threshold, uint32_t* places) {
  return HWY_DYNAMIC_DISPATCH(FindAtLeastKernel)(values.data(), values.size(), threshold, places);
}

size_t RoundRanked(absl::Span<const float> values, const RankThresholds* blocks, float step, int32_t* out) {
  const float limit_step = static_cast<float>(step * (kCandidateSlack / kRanks));
  return HWY_DYNAMIC_DISPATCH(RoundRankedKernel)(values.data(), values.size(), blocks, step, limit_step, out);
}

size_t TakeSymbols(absl::Span<int32_t> symbols, uint32_t first, uint32_t* indices, int32_t* out) {
  return HWY_DYNAMIC_DISPATCH(TakeSymbolsKernel)(symbols.data(), symbols.size(), first, indices, out);
}

SymbolFacts LookAtSymbols(absl::Span<const uint32_t> indices, absl::Span<const int32_t> symbols) {
  return HWY_DYNAMIC_DISPATCH(LookAtSymbolsKernel)(indices.data(), symbols.data(), symbols.size());
}

size_t CodeOctets(absl::Span<const uint32_t> operations, uint32_t* states, uint32_t* words) {
  constexpr size_t kStates[kOctet] = {7, 3, 6, 2, 5, 1, 4, 0};
  double ordered[kOctet];
  for (size_t i = 0; i < kOctet; ++i) ordered[i] = states[kStates[i]];
  const size_t written = HWY_DYNAMIC_DISPATCH(CodeOctetsKernel)(operations.data(), operations.size(), ordered, words);
  for (size_t i = 0; i < kOctet; ++i) states[kStates[i]] = static_cast<uint32_t>(ordered[i]);
  return written;
}

void MultiplyAndTranspose(const double* left, size_t side, const double* in, double* out) {
  HWY_DYNAMIC_DISPATCH(MultiplyAndTransposeKernel)(left, side, in, out);
}

uint32_t MaxMagnitudeBits(absl::Span<const float> values) {
  return static_cast<uint32_t>(HWY_DYNAMIC_DISPATCH(MaxMagnitudeBitsKernel)(values.data(), values.size()));
}

void SquareSums::Add(absl::Span<const float> values) {
  HWY_DYNAMIC_DISPATCH(AddSquaresKernel)(values.data(), values.size(), sums_);
}

double SquareSums::Total() const {
  double sum = 0;
  for (double part : sums_) sum += part;
  return sum;
}

double SumOfSquares(absl::Span<const float> values) {
  SquareSums sums;
  sums.Add(values);
  return sums.Total();
}

double AddMagnitudes(absl::Span<const float> values, absl::Span<double> columns) {
  double sums[32] = {};
  HWY_DYNAMIC_DISPATCH(AddMagnitudesKernel)(values.data(), values.size(), sums, columns.empty() ? nullptr : columns.data());
  double sum = 0;
  for (double part : sums) sum += part;
  return sum;
}

}  // namespace fedwatt::internal
#endif  // HWY_ONCE

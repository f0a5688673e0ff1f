#include "kernels.h"

#include <algorithm>
#include <bit>
#include <cmath>

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
size_t RoundRankedKernel(const float* values, size_t count, uint32_t multiplier, uint32_t addend, double offset, float step, float limit_step,
                         uint32_t* ranks, int32_t* symbols) {
  const hn::ScalableTag<float> df;
  const hn::RebindToUnsigned<decltype(df)> du;
  const hn::RebindToSigned<decltype(df)> di;
  const size_t lanes = hn::Lanes(df);
  uint32_t* const places = ranks;
  const auto low = hn::Set(du, kRanks - 1), stride = hn::Set(du, static_cast<uint32_t>(lanes)), rank_stride = hn::Set(du, multiplier * static_cast<uint32_t>(lanes));
  const auto offsets = hn::Set(df, static_cast<float>(offset)), limit_steps = hn::Set(df, limit_step);
  auto place = hn::Iota(du, 0);
  auto rank = hn::Add(hn::Mul(place, hn::Set(du, multiplier)), hn::Set(du, addend));
  size_t found = 0, i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto limit = hn::Mul(hn::Add(hn::ConvertTo(df, hn::BitCast(di, hn::And(rank, low))), offsets), limit_steps);
    const auto mask = hn::RebindMask(du, hn::Ge(hn::Abs(hn::LoadU(df, values + i)), limit));
    hn::StoreU(hn::Compress(place, mask), du, places + found);
    found += hn::CountTrue(du, mask);
    place = hn::Add(place, stride);
    rank = hn::Add(rank, rank_stride);
  }
  for (; i < count; ++i) {
    const float limit = (static_cast<float>((multiplier * static_cast<uint32_t>(i) + addend) & (kRanks - 1)) + static_cast<float>(offset)) * limit_step;
    places[found] = static_cast<uint32_t>(i);
    found += std::fabs(values[i]) >= limit;
  }

  const hn::ScalableTag<double> dd;
  const hn::Rebind<float, decltype(dd)> value_tag;
  const hn::Rebind<int32_t, decltype(dd)> symbol_tag;
  const hn::Rebind<uint32_t, decltype(dd)> rank_tag;
  const size_t wide = hn::Lanes(dd);
  const auto steps = hn::Set(dd, static_cast<double>(step)), wide_offsets = hn::Set(dd, offset), one = hn::Set(dd, 1.0);
  const auto rank_share = hn::Set(dd, 1.0 / kRanks), most = hn::Set(dd, kMaxSymbol + 1.0);  // a power of two: as exact as dividing
  const auto multipliers = hn::Set(rank_tag, multiplier), addends = hn::Set(rank_tag, addend), wide_low = hn::Set(rank_tag, kRanks - 1);
  for (size_t pad = 0; pad < wide; ++pad) places[found + pad] = 0;
  bool fit = true;
  for (i = 0; i < found; i += wide) {
    const auto at = hn::LoadU(rank_tag, places + i);
    const auto value = hn::GatherIndex(value_tag, values, hn::BitCast(symbol_tag, at));
    const auto its_rank = hn::And(hn::Add(hn::Mul(at, multipliers), addends), wide_low);
    const auto threshold = hn::Mul(hn::Add(hn::PromoteTo(dd, hn::BitCast(symbol_tag, its_rank)), wide_offsets), rank_share);
    const auto magnitude = hn::Add(hn::Div(hn::PromoteTo(dd, hn::Abs(value)), steps), hn::Sub(one, threshold));
    fit &= hn::AllTrue(dd, hn::Lt(magnitude, most));
    const auto negative = hn::BroadcastSignBit(hn::BitCast(symbol_tag, value));
    const auto symbol = hn::Sub(hn::Xor(hn::DemoteTo(symbol_tag, magnitude), negative), negative);
    hn::StoreU(its_rank, rank_tag, ranks + i);
    hn::StoreU(symbol, symbol_tag, symbols + i);
  }
  return fit ? found : SIZE_MAX;
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

// Adds squares or magnitudes to 32 sums of the places equal mod 32, and magnitudes to `columns` unless it is null. `count` is a multiple of 32.
// Four vectors of sums stay in registers; where that is less than all 32, a stretch that fits into the first-level cache is passed several times.
template <bool kSquares>
void AddTo32(const float* values, size_t count, double* sums, double* columns) {
#if HWY_TARGET == HWY_SCALAR
  for (size_t i = 0; i < count; ++i) {
    const double value = kSquares ? values[i] : std::fabs(values[i]);
    sums[i % 32] += kSquares ? value * value : value;
    if (columns != nullptr) columns[i] += value;
  }
#else
  constexpr size_t kStretch = 2048;
  const hn::CappedTag<double, 8> dd;
  const hn::Rebind<float, decltype(dd)> df;
  const size_t lanes = hn::Lanes(dd);
  for (size_t begin = 0; begin < count; begin += kStretch) {
    const size_t end = count - begin < kStretch ? count : begin + kStretch;
    for (size_t j = 0; j < 32; j += 4 * lanes) {
      auto sum0 = hn::LoadU(dd, sums + j), sum1 = hn::LoadU(dd, sums + j + lanes);
      auto sum2 = hn::LoadU(dd, sums + j + 2 * lanes), sum3 = hn::LoadU(dd, sums + j + 3 * lanes);
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
#endif
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
HWY_EXPORT(LookAtSymbolsKernel);
HWY_EXPORT(MaxMagnitudeBitsKernel);
HWY_EXPORT(AddSquaresKernel);
HWY_EXPORT(AddMagnitudesKernel);

size_t FindAtLeast(absl::Span<const float> values, float threshold, uint32_t* places) {
  return HWY_DYNAMIC_DISPATCH(FindAtLeastKernel)(values.data(), values.size(), threshold, places);
}

size_t RoundRanked(absl::Span<const float> values, uint32_t multiplier, uint32_t addend, double offset, float step, uint32_t* ranks, int32_t* symbols) {
  const float limit_step = static_cast<float>(step * (kCandidateSlack / kRanks));
  return HWY_DYNAMIC_DISPATCH(RoundRankedKernel)(values.data(), values.size(), multiplier, addend, offset, step, limit_step, ranks, symbols);
}

SymbolFacts LookAtSymbols(absl::Span<const uint32_t> indices, absl::Span<const int32_t> symbols) {
  return HWY_DYNAMIC_DISPATCH(LookAtSymbolsKernel)(indices.data(), symbols.data(), symbols.size());
}

uint32_t MaxMagnitudeBits(absl::Span<const float> values) {
  return static_cast<uint32_t>(HWY_DYNAMIC_DISPATCH(MaxMagnitudeBitsKernel)(values.data(), values.size()));
}

double SumOfSquares(absl::Span<const float> values) {
  double sums[32] = {};
  const size_t whole = values.size() / 32 * 32;
  HWY_DYNAMIC_DISPATCH(AddSquaresKernel)(values.data(), whole, sums);
  for (size_t i = whole; i < values.size(); ++i) sums[i - whole] += static_cast<double>(values[i]) * values[i];
  double sum = 0;
  for (double part : sums) sum += part;
  return sum;
}

double AddMagnitudes(absl::Span<const float> values, absl::Span<double> columns) {
  double sums[32] = {};
  const size_t whole = values.size() / 32 * 32;
  HWY_DYNAMIC_DISPATCH(AddMagnitudesKernel)(values.data(), whole, sums, columns.empty() ? nullptr : columns.data());
  for (size_t i = whole; i < values.size(); ++i) {
    sums[i - whole] += std::fabs(values[i]);
    if (!columns.empty()) columns[i] += std::fabs(values[i]);
  }
  double sum = 0;
  for (double part : sums) sum += part;
  return sum;
}

}  // namespace fedwatt::internal
#endif  // HWY_ONCE

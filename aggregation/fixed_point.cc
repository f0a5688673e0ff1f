#include "fixed_point.h"

#include <bit>
#include <cmath>
#include <cstddef>

#include "fedwatt/base/status_macros.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "fixed_point.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#ifndef FEDWATT_AGGREGATION_FIXED_POINT_CONSTANTS
#define FEDWATT_AGGREGATION_FIXED_POINT_CONSTANTS
namespace fedwatt::internal {
namespace {

// Adding 1.5 * 2^52 to a double of magnitude up to 2^51 leaves the rounded integer in its low bits: the hardware rounds halves to even,
// and there is no vector instruction from double to int64 before AVX-512.
constexpr double kShift = 0x1.8p52;
constexpr double kShiftLimit = 0x1p51;
constexpr uint64_t kShiftBits = std::bit_cast<uint64_t>(kShift);
// The same at 32 bits higher, for the upper part of larger numbers.
constexpr double kHighShift = 0x1.8p84;
constexpr int32_t kMagnitude = 0x7fffffff;

}  // namespace
}  // namespace fedwatt::internal
#endif

HWY_BEFORE_NAMESPACE();
namespace fedwatt::internal {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Where the values of a block come from, one by one and as vectors of D.
struct Float32Values {
  const char* data;
  float One(size_t i) const {
    float value;
    hwy::CopyBytes<sizeof(value)>(data + i * sizeof(value), &value);
    return value;
  }
  template <class D>
  hn::Vec<D> Vector(D d, size_t i) const {
    return hn::LoadU(d, reinterpret_cast<const float*>(data + i * sizeof(float)));
  }
};

struct Bfloat16Values {
  const char* data;
  float One(size_t i) const {
    uint16_t upper;
    hwy::CopyBytes<sizeof(upper)>(data + i * sizeof(upper), &upper);
    return std::bit_cast<float>(static_cast<uint32_t>(upper) << 16);
  }
  template <class D>
  hn::Vec<D> Vector(D d, size_t i) const {
    const hn::RebindToUnsigned<D> du;
    const hn::Rebind<uint16_t, D> du16;
    const auto upper = hn::LoadU(du16, reinterpret_cast<const uint16_t*>(data + i * sizeof(uint16_t)));
    return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, upper)));
  }
};

struct CodedValues {
  const char* data;
  float scale;
  float One(size_t i) const { return static_cast<float>(static_cast<int8_t>(data[i])) * scale; }
  template <class D>
  hn::Vec<D> Vector(D d, size_t i) const {
    const hn::RebindToSigned<D> di;
    const hn::Rebind<int8_t, D> di8;
    return hn::Mul(hn::ConvertTo(d, hn::PromoteTo(di, hn::LoadU(di8, reinterpret_cast<const int8_t*>(data + i)))), hn::Set(d, scale));
  }
};

// A product as an integer, modulo 2^64 where it is too large or none. Large: in two parts, the multiple of 2^32 nearest to the product, and the rest,
// which is exact and at most 2^31. The first part is even, so rounding the rest to even rounds the whole to even.
template <bool kLarge>
uint64_t TermOf(double product) {
  if (!kLarge) return std::bit_cast<uint64_t>(product + kShift) - kShiftBits;
  const double high = (product + kHighShift) - kHighShift;
  return ((std::bit_cast<uint64_t>(high * 0x1p-32 + kShift) - kShiftBits) << 32) + (std::bit_cast<uint64_t>((product - high) + kShift) - kShiftBits);
}

// Returns the largest magnitude among the values, as float bits.
template <bool kLarge, bool kSubtract, class Values>
int32_t FoldRun(const Values& values, size_t count, double factor, int64_t* sums) {
  int32_t most = 0;
  size_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::CappedTag<double, 8> dd;
  const hn::RebindToSigned<decltype(dd)> di;
  const hn::Rebind<float, decltype(dd)> df;
  const hn::Rebind<int32_t, decltype(dd)> di32;
  const size_t lanes = hn::Lanes(dd);
  const auto factors = hn::Set(dd, factor), shift = hn::Set(dd, kShift);
  const auto shift_bits = hn::Set(di, static_cast<int64_t>(kShiftBits));
  const auto magnitude = hn::Set(di32, kMagnitude);
  auto mosts = hn::Zero(di32);
  for (; i + lanes <= count; i += lanes) {
    const auto value = values.Vector(df, i);
    mosts = hn::Max(mosts, hn::And(hn::BitCast(di32, value), magnitude));
    const auto product = hn::Mul(hn::PromoteTo(dd, value), factors);
    auto term = hn::Zero(di);
    if (kLarge) {
      const auto high_shift = hn::Set(dd, kHighShift);
      const auto high = hn::Sub(hn::Add(product, high_shift), high_shift);
      const auto upper = hn::Sub(hn::BitCast(di, hn::Add(hn::Mul(high, hn::Set(dd, 0x1p-32)), shift)), shift_bits);
      const auto lower = hn::Sub(hn::BitCast(di, hn::Add(hn::Sub(product, high), shift)), shift_bits);
      term = hn::Add(hn::ShiftLeft<32>(upper), lower);
    } else {
      term = hn::Sub(hn::BitCast(di, hn::Add(product, shift)), shift_bits);
    }
    const auto sum = hn::LoadU(di, sums + i);
    hn::StoreU(kSubtract ? hn::Sub(sum, term) : hn::Add(sum, term), di, sums + i);
  }
  int32_t by_lane[8] = {};
  hn::StoreU(mosts, di32, by_lane);
  for (int32_t lane : by_lane) most = lane > most ? lane : most;
#endif
  for (; i < count; ++i) {
    const float value = values.One(i);
    const int32_t bits = std::bit_cast<int32_t>(value) & kMagnitude;
    most = bits > most ? bits : most;
    const uint64_t term = TermOf<kLarge>(static_cast<double>(value) * factor), sum = static_cast<uint64_t>(sums[i]);
    sums[i] = static_cast<int64_t>(kSubtract ? sum - term : sum + term);
  }
  return most;
}

template <bool kLarge, bool kSubtract>
int32_t FoldBlock(ValueBlock block, double factor, int64_t* sums) {
  if (block.kind == ValueBlock::Kind::kFloat32) return FoldRun<kLarge, kSubtract>(Float32Values{block.data}, block.count, factor, sums);
  if (block.kind == ValueBlock::Kind::kBfloat16) return FoldRun<kLarge, kSubtract>(Bfloat16Values{block.data}, block.count, factor, sums);
  int32_t most = 0;
  while (block.count > 0) {
    const size_t left = block.per_scale - block.skipped, run = left < block.count ? left : block.count;
    CodedValues values{block.data, 0};
    hwy::CopyBytes<sizeof(float)>(block.scales, &values.scale);
    const int32_t run_most = FoldRun<kLarge, kSubtract>(values, run, factor, sums);
    most = run_most > most ? run_most : most;
    sums += run;
    block.RemovePrefix(run);
  }
  return most;
}

int32_t FoldBlockKernel(const ValueBlock& block, double factor, bool large, bool subtract, int64_t* sums) {
  if (subtract) return large ? FoldBlock<true, true>(block, factor, sums) : FoldBlock<false, true>(block, factor, sums);
  return large ? FoldBlock<true, false>(block, factor, sums) : FoldBlock<false, false>(block, factor, sums);
}

int32_t LargestMagnitudeKernel(const float* values, size_t count) {
  const hn::ScalableTag<float> df;
  const hn::RebindToSigned<decltype(df)> di;
  const size_t lanes = hn::Lanes(df);
  const auto magnitude = hn::Set(di, kMagnitude);
  auto mosts = hn::Zero(di);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) mosts = hn::Max(mosts, hn::And(hn::BitCast(di, hn::LoadU(df, values + i)), magnitude));
  int32_t most = hn::GetLane(hn::MaxOfLanes(di, mosts));
  for (; i < count; ++i) {
    const int32_t bits = std::bit_cast<int32_t>(values[i]) & kMagnitude;
    most = bits > most ? bits : most;
  }
  return most;
}

}  // namespace HWY_NAMESPACE
}  // namespace fedwatt::internal
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fedwatt::internal {

HWY_EXPORT(FoldBlockKernel);
HWY_EXPORT(LargestMagnitudeKernel);

float MaxMagnitude(absl::Span<const float> values) {
  // Without its sign a float's bits order as its magnitude does, infinity and NaN on top.
  return std::bit_cast<float>(HWY_DYNAMIC_DISPATCH(LargestMagnitudeKernel)(values.data(), values.size()));
}

void AddScaled(absl::Span<const float> values, double factor, float max_magnitude, absl::Span<int64_t> sums) {
  FEDWATT_CHECK(values.size() == sums.size());
  AddScaledBlock({.count = values.size(), .data = reinterpret_cast<const char*>(values.data())}, factor, max_magnitude, sums.data());
}

void AddScaledAt(absl::Span<const uint32_t> indices, absl::Span<const float> values, double factor, absl::Span<int64_t> sums) {
  FEDWATT_CHECK(indices.size() == values.size());
  // llrint rounds halves to even and is one instruction; the magnitude is below 2^62.
  for (size_t i = 0; i < indices.size(); ++i) sums[indices[i]] += std::llrint(static_cast<double>(values[i]) * factor);
}

float AddScaledBlock(const ValueBlock& block, double factor, double max_magnitude, int64_t* sums) {
  return std::bit_cast<float>(HWY_DYNAMIC_DISPATCH(FoldBlockKernel)(block, factor, max_magnitude * factor > kShiftLimit, false, sums));
}

void SubtractScaledBlock(const ValueBlock& block, double factor, double max_magnitude, int64_t* sums) {
  HWY_DYNAMIC_DISPATCH(FoldBlockKernel)(block, factor, max_magnitude * factor > kShiftLimit, true, sums);
}

}  // namespace fedwatt::internal
#endif  // HWY_ONCE

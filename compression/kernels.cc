#include "kernels.h"

#include <algorithm>
#include <cmath>

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

size_t FindAtLeastRankedKernel(const float* values, size_t count, uint32_t multiplier, uint32_t addend, float offset, float step, uint32_t* places) {
  const hn::ScalableTag<float> df;
  const hn::RebindToUnsigned<decltype(df)> du;
  const hn::RebindToSigned<decltype(df)> di;
  const size_t lanes = hn::Lanes(df);
  const auto stride = hn::Set(du, static_cast<uint32_t>(lanes));
  const auto low = hn::Set(du, 255);
  const auto offsets = hn::Set(df, offset), steps = hn::Set(df, step);
  const auto rank_stride = hn::Set(du, multiplier * static_cast<uint32_t>(lanes));
  auto place = hn::Iota(du, 0);
  auto rank = hn::Add(hn::Mul(place, hn::Set(du, multiplier)), hn::Set(du, addend));
  size_t found = 0, i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto threshold = hn::Mul(hn::Add(hn::ConvertTo(df, hn::BitCast(di, hn::And(rank, low))), offsets), steps);
    const auto mask = hn::RebindMask(du, hn::Ge(hn::Abs(hn::LoadU(df, values + i)), threshold));
    hn::StoreU(hn::Compress(place, mask), du, places + found);
    found += hn::CountTrue(du, mask);
    place = hn::Add(place, stride);
    rank = hn::Add(rank, rank_stride);
  }
  for (; i < count; ++i) {
    const float threshold = (static_cast<float>((multiplier * static_cast<uint32_t>(i) + addend) & 255) + offset) * step;
    places[found] = static_cast<uint32_t>(i);
    found += std::fabs(values[i]) >= threshold;
  }
  return found;
}

void AddSquaresKernel(const float* values, size_t count, double* sums) {
#if HWY_TARGET == HWY_SCALAR
  for (size_t i = 0; i < count; i += 32) {
    for (size_t j = 0; j < 32; ++j) sums[j] += static_cast<double>(values[i + j]) * values[i + j];
  }
#else
  const hn::CappedTag<double, 8> dd;
  const hn::Rebind<float, decltype(dd)> df;
  const size_t lanes = hn::Lanes(dd);
  for (size_t i = 0; i < count; i += 32) {
    for (size_t j = 0; j < 32; j += lanes) {
      const auto value = hn::PromoteTo(dd, hn::LoadU(df, values + i + j));
      hn::StoreU(hn::Add(hn::LoadU(dd, sums + j), hn::Mul(value, value)), dd, sums + j);
    }
  }
#endif
}

// `columns` may be null.
void AddMagnitudesKernel(const float* values, size_t count, double* sums, double* columns) {
#if HWY_TARGET == HWY_SCALAR
  for (size_t i = 0; i < count; i += 32) {
    for (size_t j = 0; j < 32; ++j) {
      const double value = std::fabs(values[i + j]);
      sums[j] += value;
      if (columns != nullptr) columns[i + j] += value;
    }
  }
#else
  const hn::CappedTag<double, 8> dd;
  const hn::Rebind<float, decltype(dd)> df;
  const size_t lanes = hn::Lanes(dd);
  for (size_t i = 0; i < count; i += 32) {
    for (size_t j = 0; j < 32; j += lanes) {
      const auto value = hn::PromoteTo(dd, hn::Abs(hn::LoadU(df, values + i + j)));
      hn::StoreU(hn::Add(hn::LoadU(dd, sums + j), value), dd, sums + j);
      if (columns != nullptr) hn::StoreU(hn::Add(hn::LoadU(dd, columns + i + j), value), dd, columns + i + j);
    }
  }
#endif
}

}  // namespace HWY_NAMESPACE
}  // namespace fedwatt::internal
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace fedwatt::internal {

HWY_EXPORT(FindAtLeastKernel);
HWY_EXPORT(FindAtLeastRankedKernel);
HWY_EXPORT(AddSquaresKernel);
HWY_EXPORT(AddMagnitudesKernel);

size_t FindAtLeast(absl::Span<const float> values, float threshold, uint32_t* places) {
  return HWY_DYNAMIC_DISPATCH(FindAtLeastKernel)(values.data(), values.size(), threshold, places);
}

size_t FindAtLeastRanked(absl::Span<const float> values, uint32_t multiplier, uint32_t addend, float offset, float step, uint32_t* places) {
  return HWY_DYNAMIC_DISPATCH(FindAtLeastRankedKernel)(values.data(), values.size(), multiplier, addend, offset, step, places);
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

#include "rounding.h"

#include <algorithm>
#include <bit>

namespace fedwatt::internal {
namespace {

// Added and taken off again, it leaves the nearest whole number of anything below 2^22.
constexpr float kWhole = 12582912.0f;  // 1.5 * 2^23

float Widen(float value) { return value; }
float Widen(uint16_t bfloat16) { return std::bit_cast<float>(static_cast<uint32_t>(bfloat16) << 16); }

template <typename T>
T Narrow(float value);
template <>
float Narrow<float>(float value) {
  return value;
}
template <>
uint16_t Narrow<uint16_t>(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Floats in the order of these integers, which vectorise where the least and greatest of floats do not.
int32_t Ordered(float value) {
  const int32_t bits = std::bit_cast<int32_t>(value);
  return bits ^ (bits >> 31 & 0x7fffffff);
}
float FromOrdered(int32_t order) { return std::bit_cast<float>(order ^ (order >> 31 & 0x7fffffff)); }

template <typename T>
ActivationRange Range(int64_t count, const T* __restrict values) {
  int32_t low = 0, high = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int32_t order = Ordered(Widen(values[i]));
    low = std::min(low, order);
    high = std::max(high, order);
  }
  return {FromOrdered(low), FromOrdered(high)};
}

template <typename T>
void Round(Affine affine, int64_t count, const T* __restrict values, T* __restrict rounded) {
  const float scale = static_cast<float>(affine.scale), inverse = 1 / scale;
  const float least = static_cast<float>(-affine.zero_point), most = static_cast<float>(255 - affine.zero_point);
  for (int64_t i = 0; i < count; ++i) {
    const float code = Widen(values[i]) * inverse + kWhole - kWhole;
    rounded[i] = Narrow<T>(std::min(std::max(code, least), most) * scale);
  }
}

}  // namespace

void RoundRows(int64_t rows, int64_t columns, const float* __restrict weight, float* __restrict rounded) {
  for (int64_t r = 0; r < rows; ++r, weight += columns, rounded += columns) {
    int32_t bits = 0;  // of the greatest magnitude
    for (int64_t i = 0; i < columns; ++i) bits = std::max(bits, std::bit_cast<int32_t>(weight[i]) & 0x7fffffff);
    const float most = std::bit_cast<float>(bits);
    const float scale = most > 0 ? most / 127 : 1, inverse = 1 / scale;
    for (int64_t i = 0; i < columns; ++i) rounded[i] = (weight[i] * inverse + kWhole - kWhole) * scale;
  }
}

ActivationRange RangeOf(int64_t count, const float* values) { return Range(count, values); }
ActivationRange RangeOf(int64_t count, const uint16_t* values) { return Range(count, values); }
void RoundValues(Affine affine, int64_t count, const float* values, float* rounded) { Round(affine, count, values, rounded); }
void RoundValues(Affine affine, int64_t count, const uint16_t* values, uint16_t* rounded) { Round(affine, count, values, rounded); }

}  // namespace fedwatt::internal

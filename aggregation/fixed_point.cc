#include "fixed_point.h"

#include <bit>
#include <cmath>
#include <cstddef>

#include "fedwatt/base/status_macros.h"

// One source, compiled for three instruction sets; the loader picks. Sanitizers instrument before the loader can pick.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define FEDWATT_CLONES __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define FEDWATT_CLONES
#endif

namespace fedwatt::internal {
namespace {

// Adding 1.5 * 2^52 to a double of magnitude up to 2^51 leaves the rounded integer in its low bits: the hardware rounds halves to even,
// and there is no vector instruction from double to int64 before AVX-512.
constexpr double kShift = 0x1.8p52;
constexpr double kShiftLimit = 0x1p51;
constexpr int64_t kShiftBits = std::bit_cast<int64_t>(kShift);
// The same at 32 bits higher, for the upper part of larger numbers.
constexpr double kHighShift = 0x1.8p84;

FEDWATT_CLONES int32_t MaxMagnitudeBits(const float* values, size_t count) {
  int32_t most = 0;
  for (size_t i = 0; i < count; ++i) {
    const int32_t bits = static_cast<int32_t>(std::bit_cast<uint32_t>(values[i]) & 0x7fffffffu);
    most = bits > most ? bits : most;
  }
  return most;
}

FEDWATT_CLONES void AddSmall(const float* __restrict values, double factor, int64_t* __restrict sums, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    sums[i] += std::bit_cast<int64_t>(static_cast<double>(values[i]) * factor + kShift) - kShiftBits;
  }
}

// In two parts: the multiple of 2^32 nearest to the product, and the rest, which is exact and at most 2^31. The first part is even, so
// rounding the rest to even rounds the whole to even.
FEDWATT_CLONES void AddLarge(const float* __restrict values, double factor, int64_t* __restrict sums, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const double product = static_cast<double>(values[i]) * factor;
    const double high = (product + kHighShift) - kHighShift;
    const int64_t high_part = std::bit_cast<int64_t>(high * 0x1p-32 + kShift) - kShiftBits;
    const int64_t low_part = std::bit_cast<int64_t>((product - high) + kShift) - kShiftBits;
    sums[i] += high_part * (int64_t{1} << 32) + low_part;
  }
}

}  // namespace

float MaxMagnitude(absl::Span<const float> values) {
  // Without its sign a float's bits order as its magnitude does, infinity and NaN on top; integer maxima vectorise.
  return std::bit_cast<float>(MaxMagnitudeBits(values.data(), values.size()));
}

void AddScaled(absl::Span<const float> values, double factor, float max_magnitude, absl::Span<int64_t> sums) {
  FEDWATT_CHECK(values.size() == sums.size());
  auto* add = max_magnitude * factor <= kShiftLimit ? AddSmall : AddLarge;
  add(values.data(), factor, sums.data(), values.size());
}

void AddScaledAt(absl::Span<const uint32_t> indices, absl::Span<const float> values, double factor, absl::Span<int64_t> sums) {
  FEDWATT_CHECK(indices.size() == values.size());
  // llrint rounds halves to even and is one instruction; the magnitude is below 2^62.
  for (size_t i = 0; i < indices.size(); ++i) sums[indices[i]] += std::llrint(static_cast<double>(values[i]) * factor);
}

}  // namespace fedwatt::internal

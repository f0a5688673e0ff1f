#include "fedwatt/compression/block_dct.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <vector>

#include "fedwatt/base/status_macros.h"

namespace fedwatt {
namespace {

constexpr int kLog = 9;
constexpr size_t kMaxBlock = size_t{1} << kLog;
constexpr size_t kLanes = 8;  // rows that go side by side
using Lane = std::array<double, kLanes>;

// factors[log][i] = 1 / (2 cos((i + 1/2) pi / 2^log)), i < 2^(log - 1). Cosines by half angles and angle sums, as a library's may differ in the last bit.
struct Tables {
  std::array<std::vector<double>, kLog + 1> factors;
  Tables() {
    double cos_step = -1, sin_step = 0;  // of the angle pi / 2^log, from pi on
    for (int log = 1; log <= kLog; ++log) {
      // Half angles: pi / 2^log.
      sin_step = std::sqrt((1 - cos_step) / 2);
      cos_step = std::sqrt((1 + cos_step) / 2);
      const double cos_half = std::sqrt((1 + cos_step) / 2), sin_half = std::sqrt((1 - cos_step) / 2);
      double c = cos_half, s = sin_half;  // of (i + 1/2) pi / 2^log
      for (size_t i = 0; i < (size_t{1} << (log - 1)); ++i) {
        factors[static_cast<size_t>(log)].push_back(0.5 / c);
        const double next = c * cos_step - s * sin_step;
        s = s * cos_step + c * sin_step;
        c = next;
      }
    }
  }
};
const Tables& TablesOnce() {
  static const auto* tables = new Tables();
  return *tables;
}

void Forward(Lane* x, Lane* scratch, int log) {
  if (log == 0) return;
  const size_t n = size_t{1} << log, half = n / 2;
  const std::vector<double>& factors = TablesOnce().factors[static_cast<size_t>(log)];
  for (size_t i = 0; i < half; ++i) {
    for (size_t l = 0; l < kLanes; ++l) {
      const double a = x[i][l], b = x[n - 1 - i][l];
      scratch[i][l] = a + b;
      scratch[i + half][l] = (a - b) * factors[i];
    }
  }
  Forward(scratch, x, log - 1);
  Forward(scratch + half, x, log - 1);
  for (size_t i = 0; i < half; ++i) {
    for (size_t l = 0; l < kLanes; ++l) {
      x[2 * i][l] = scratch[i][l];
      x[2 * i + 1][l] = i + 1 < half ? scratch[i + half][l] + scratch[i + half + 1][l] : scratch[i + half][l];
    }
  }
}

void Inverse(Lane* x, Lane* scratch, int log) {
  if (log == 0) return;
  const size_t n = size_t{1} << log, half = n / 2;
  const std::vector<double>& factors = TablesOnce().factors[static_cast<size_t>(log)];
  for (size_t i = 0; i < half; ++i) {
    for (size_t l = 0; l < kLanes; ++l) {
      scratch[i][l] = x[2 * i][l];
      scratch[i + half][l] = i == 0 ? x[1][l] : x[2 * i - 1][l] + x[2 * i + 1][l];
    }
  }
  Inverse(scratch, x, log - 1);
  Inverse(scratch + half, x, log - 1);
  for (size_t i = 0; i < half; ++i) {
    for (size_t l = 0; l < kLanes; ++l) {
      const double a = scratch[i][l], b = scratch[i + half][l] * factors[i];
      x[i][l] = a + b;
      x[n - 1 - i][l] = a - b;
    }
  }
}

template <bool kForward>
void Run(int64_t rows, int64_t columns, absl::Span<float> values) {
  FEDWATT_CHECK(rows >= 0 && columns >= 0 && static_cast<int64_t>(values.size()) == rows * columns);
  std::vector<Lane> block(kMaxBlock), scratch(kMaxBlock);
  for (int64_t row = 0; row < rows; row += kLanes) {
    const size_t lanes = static_cast<size_t>(std::min<int64_t>(kLanes, rows - row));
    for (int64_t column = 0; column < columns;) {
      const size_t n = std::min(kMaxBlock, std::bit_floor(static_cast<size_t>(columns - column)));
      const int log = std::countr_zero(n);
      const double first = std::sqrt(1.0 / static_cast<double>(n)), rest = std::sqrt(2.0 / static_cast<double>(n));
      float* at = values.data() + row * columns + column;
      for (size_t i = 0; i < n; ++i) {
        const double scale = kForward ? 1 : (i == 0 ? first : rest);
        for (size_t l = 0; l < kLanes; ++l) {
          block[i][l] = l < lanes ? static_cast<double>(at[l * static_cast<size_t>(columns) + i]) * scale : 0;
        }
      }
      kForward ? Forward(block.data(), scratch.data(), log) : Inverse(block.data(), scratch.data(), log);
      for (size_t i = 0; i < n; ++i) {
        const double scale = !kForward ? 1 : (i == 0 ? first : rest);
        for (size_t l = 0; l < lanes; ++l) at[l * static_cast<size_t>(columns) + i] = static_cast<float>(block[i][l] * scale);
      }
      column += static_cast<int64_t>(n);
    }
  }
}

}  // namespace

void ForwardBlockDct(int64_t rows, int64_t columns, absl::Span<float> values) { Run<true>(rows, columns, values); }
void InverseBlockDct(int64_t rows, int64_t columns, absl::Span<float> values) { Run<false>(rows, columns, values); }

}  // namespace fedwatt

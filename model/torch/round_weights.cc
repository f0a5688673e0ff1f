#include "round_weights.h"

#include <algorithm>
#include <bit>

namespace fedwatt::internal {

void RoundRows(int64_t rows, int64_t columns, const float* __restrict weight, float* __restrict rounded) {
  // Added and taken off again, it leaves the nearest whole number of anything below 2^22.
  constexpr float kWhole = 12582912.0f;  // 1.5 * 2^23
  for (int64_t r = 0; r < rows; ++r, weight += columns, rounded += columns) {
    int32_t bits = 0;  // of the greatest magnitude: positive floats are ordered as their bits are, and integers vectorise
    for (int64_t i = 0; i < columns; ++i) bits = std::max(bits, std::bit_cast<int32_t>(weight[i]) & 0x7fffffff);
    const float most = std::bit_cast<float>(bits);
    const float scale = most > 0 ? most / 127 : 1, inverse = 1 / scale;
    for (int64_t i = 0; i < columns; ++i) rounded[i] = (weight[i] * inverse + kWhole - kWhole) * scale;
  }
}

}  // namespace fedwatt::internal

// Weights as 8-bit integers will hold them, on plain arrays. Free of LibTorch, so that it can be compiled for speed alone.
#ifndef FEDWATT_MODEL_TORCH_ROUND_WEIGHTS_H_
#define FEDWATT_MODEL_TORCH_ROUND_WEIGHTS_H_

#include <cstdint>

namespace fedwatt::internal {

// For each row of `columns` values: rounded[i] = scale * round(weight[i] / scale), half to even, scale = greatest magnitude of the row / 127 (1 where the row is 0).
// Nothing is clipped, so the gradient of `rounded` serves as that of `weight`.
void RoundRows(int64_t rows, int64_t columns, const float* weight, float* rounded);

}  // namespace fedwatt::internal

#endif  // FEDWATT_MODEL_TORCH_ROUND_WEIGHTS_H_

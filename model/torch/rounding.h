// Values as 8-bit integers will hold them, on plain arrays. Free of LibTorch, so that it can be compiled for speed alone.
#ifndef FEDWATT_MODEL_TORCH_ROUNDING_H_
#define FEDWATT_MODEL_TORCH_ROUNDING_H_

#include <cstdint>

#include "quantized_network.h"

namespace fedwatt::internal {

// For each row of `columns` values: rounded[i] = scale * round(weight[i] / scale), half to even, scale = greatest magnitude of the row / 127 (1 where the row is 0).
// Nothing is clipped, so the gradient of `rounded` serves as that of `weight`.
void RoundRows(int64_t rows, int64_t columns, const float* weight, float* rounded);

// Least and greatest of the values and 0; of bfloat16 values in their bits where the type is uint16_t. Not a number counts as beyond all.
ActivationRange RangeOf(int64_t count, const float* values);
ActivationRange RangeOf(int64_t count, const uint16_t* values);

// rounded[i] = scale * (clamp(round(value[i] / scale) + zero_point, 0, 255) - zero_point), half to even; bfloat16 is rounded once more, to its nearest.
void RoundValues(Affine affine, int64_t count, const float* values, float* rounded);
void RoundValues(Affine affine, int64_t count, const uint16_t* values, uint16_t* rounded);

}  // namespace fedwatt::internal

#endif  // FEDWATT_MODEL_TORCH_ROUNDING_H_

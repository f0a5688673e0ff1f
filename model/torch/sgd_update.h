// The SGD step on plain arrays. Free of LibTorch, so that it can be compiled for speed alone.
#ifndef FEDWATT_MODEL_TORCH_SGD_UPDATE_H_
#define FEDWATT_MODEL_TORCH_SGD_UPDATE_H_

#include <cstdint>

namespace fedwatt::internal {

struct SgdConstants {
  float learning_rate = 0;
  float momentum = 0;
  float weight_decay = 0;
  float proximal_mu = 0;
};

// For each i: d = gradient[i] + weight_decay * parameter[i] + proximal_mu * (parameter[i] - global[i]);
// velocity[i] = momentum * velocity[i] + d; parameter[i] -= learning_rate * velocity[i].
// `velocity` may be null when momentum is 0. Elements are independent: bits do not depend on vector width.
void SgdUpdate(const SgdConstants& constants, int64_t count, const float* gradient, const float* global, float* velocity,
               float* parameter);

// parameter[i] -= learning_rate * direction[i].
void Descend(float learning_rate, int64_t count, const float* direction, float* parameter);

}  // namespace fedwatt::internal

#endif  // FEDWATT_MODEL_TORCH_SGD_UPDATE_H_

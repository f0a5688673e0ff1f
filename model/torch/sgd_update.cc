#include "sgd_update.h"

namespace fedwatt::internal {
namespace {

template <bool kRegularised, bool kMomentum>
void Update(const SgdConstants c, int64_t count, const float* __restrict gradient, const float* __restrict global,
            float* __restrict velocity, float* __restrict parameter) {
  for (int64_t i = 0; i < count; ++i) {
    float d = gradient[i];
    if constexpr (kRegularised) d += c.weight_decay * parameter[i] + c.proximal_mu * (parameter[i] - global[i]);
    if constexpr (kMomentum) velocity[i] = d = c.momentum * velocity[i] + d;
    parameter[i] -= c.learning_rate * d;
  }
}

}  // namespace

void SgdUpdate(const SgdConstants& constants, int64_t count, const float* gradient, const float* global, float* velocity,
               float* parameter) {
  const bool regularised = constants.weight_decay != 0 || constants.proximal_mu != 0;
  const bool momentum = constants.momentum != 0;
  auto* update = regularised ? (momentum ? Update<true, true> : Update<true, false>)
                             : (momentum ? Update<false, true> : Update<false, false>);
  update(constants, count, gradient, global, velocity, parameter);
}

void Descend(float learning_rate, int64_t count, const float* __restrict direction, float* __restrict parameter) {
  for (int64_t i = 0; i < count; ++i) parameter[i] -= learning_rate * direction[i];
}

}  // namespace fedwatt::internal

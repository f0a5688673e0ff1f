// The forward pass of single layers.
#ifndef FEDWATT_MODEL_TORCH_LAYER_OPS_H_
#define FEDWATT_MODEL_TORCH_LAYER_OPS_H_

#include "fedwatt/base/random.h"
#include "fedwatt/model/torch/architecture.h"
#include "pch.h"

namespace fedwatt::internal {

// `x` is [batch, the layer's input shape...], `entries` the tensors that the layer owns, in layout order. `dropout` is where a training
// pass draws from: LibTorch's own dropout uses one generator of the whole process, which would tie models in other threads together.
at::Tensor ApplyLayer(const Layer& layer, const at::Tensor& x, const at::Tensor* entries, bool training, Random& dropout);

}  // namespace fedwatt::internal

#endif  // FEDWATT_MODEL_TORCH_LAYER_OPS_H_

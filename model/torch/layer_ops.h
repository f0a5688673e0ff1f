// The forward pass, layer by layer.
#ifndef FEDWATT_MODEL_TORCH_LAYER_OPS_H_
#define FEDWATT_MODEL_TORCH_LAYER_OPS_H_

#include <utility>
#include <vector>

#include "fedwatt/base/random.h"
#include "network.h"
#include "pch.h"
#include "time_scans.h"

namespace fedwatt::internal {

struct ForwardPass {
  bool training = false;
  // Where dropout draws from: LibTorch's own uses one generator of the whole process, which would tie models in other threads together.
  Random* dropout = nullptr;  // null: only outside of training
  // By layer: [features, head_size], undefined where a layer has none. Null or empty: no layer has any.
  const std::vector<at::Tensor>* features = nullptr;
};

// Layer `index` of the network, which is not the begin or end of a residual. `x` is [batch, the layer's input shape...], or [time_steps * batch, ...];
// `tensors` are all parameters, in layout order.
at::Tensor ApplyLayer(const PlacedNetwork& network, size_t index, const at::Tensor& x, const at::Tensor* tensors, const ForwardPass& pass);

// Of the random features for a model that was trained in so many rounds, as ForwardPass wants them.
std::vector<at::Tensor> FeaturesByLayer(const PlacedNetwork& network, float rounds);

// All layers; `after(index, x)` may replace what layer `index` gives.
template <typename After>
at::Tensor RunLayers(const PlacedNetwork& network, at::Tensor x, const at::Tensor* tensors, const ForwardPass& pass, const After& after) {
  std::vector<at::Tensor> residuals;
  for (size_t i = 0; i < network.layers.size(); ++i) {
    const Layer& layer = network.layers[i].layer;
    if (std::holds_alternative<ResidualBegin>(layer)) {
      residuals.push_back(x);
    } else if (std::holds_alternative<ResidualEnd>(layer)) {
      x = x + (residuals.back().dim() == x.dim() ? residuals.back() : residuals.back().select(1, residuals.back().size(1) - 1));
      residuals.pop_back();
    } else {
      x = ApplyLayer(network, i, x, tensors, pass);
    }
    x = after(i, std::move(x));
  }
  return x;
}

// [time_steps * batch, ...] currents to spikes, which are of the same shape. See LeakyIntegrateAndFire.
at::Tensor Spikes(const at::Tensor& currents, int64_t time_steps, double leak, SpikeFunction function = SpikeFunction::kStep);

// Linear outputs [batch, L, 2 hidden] to states [batch, L, hidden]. See MinGru.
at::Tensor MinGruStates(const at::Tensor& gates);

}  // namespace fedwatt::internal

#endif  // FEDWATT_MODEL_TORCH_LAYER_OPS_H_

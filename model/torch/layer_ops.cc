#include "layer_ops.h"

#include <algorithm>
#include <cmath>

#include <torch/csrc/autograd/custom_function.h>

#include "attention.h"

namespace fedwatt::internal {
namespace {

struct Firing : torch::autograd::Function<Firing> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& currents, int64_t steps, double leak, int64_t function) {
    at::Tensor potentials = at::empty_like(currents), spikes = at::empty_like(currents);
    IntegrateAndFire(static_cast<SpikeFunction>(function), steps, currents.numel() / steps, static_cast<float>(leak), currents.data_ptr<float>(), potentials.data_ptr<float>(),
                     spikes.data_ptr<float>());
    context->save_for_backward({potentials});
    context->saved_data["steps"] = steps;
    context->saved_data["leak"] = leak;
    return spikes;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, torch::autograd::variable_list gradients) {
    const at::Tensor potentials = context->get_saved_variables()[0], own = gradients[0].contiguous();
    const int64_t steps = context->saved_data["steps"].toInt(), width = potentials.numel() / steps;
    at::Tensor carry = at::empty({width}), result = at::empty_like(potentials);
    IntegrateAndFireGradient(steps, width, static_cast<float>(context->saved_data["leak"].toDouble()), potentials.data_ptr<float>(), own.data_ptr<float>(),
                             carry.data_ptr<float>(), result.data_ptr<float>());
    return {result, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

struct MinGruScanning : torch::autograd::Function<MinGruScanning> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& gates) {
    const int64_t batch = gates.size(0), length = gates.size(1), width = gates.size(2) / 2;
    const at::Tensor sigmoids = gates.sigmoid();
    at::Tensor states = at::empty({batch, length, width});
    for (int64_t b = 0; b < batch; ++b) {
      MinGruScan(length, width, gates.data_ptr<float>() + 2 * b * length * width, sigmoids.data_ptr<float>() + 2 * b * length * width,
                 states.data_ptr<float>() + b * length * width);
    }
    context->save_for_backward({gates, sigmoids, states});
    return states;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, torch::autograd::variable_list gradients) {
    const torch::autograd::variable_list saved = context->get_saved_variables();
    const at::Tensor &gates = saved[0], &sigmoids = saved[1], &states = saved[2], own = gradients[0].contiguous();
    const int64_t batch = states.size(0), length = states.size(1), width = states.size(2);
    at::Tensor carry = at::empty({width}), result = at::empty_like(gates);
    for (int64_t b = 0; b < batch; ++b) {
      const int64_t at = b * length * width;
      MinGruScanGradient(length, width, gates.data_ptr<float>() + 2 * at, sigmoids.data_ptr<float>() + 2 * at, states.data_ptr<float>() + at, own.data_ptr<float>() + at,
                         carry.data_ptr<float>(), result.data_ptr<float>() + 2 * at);
    }
    return {result};
  }
};

struct Apply {
  const PlacedLayer& placed;
  size_t index;
  const at::Tensor& x;
  const at::Tensor* entries;
  const ForwardPass& pass;

  at::Tensor operator()(const Flatten&) const { return x.flatten(1); }
  at::Tensor operator()(const Linear&) const { return at::linear(x, entries[0], entries[1]); }
  at::Tensor operator()(const Conv2d& layer) const { return at::conv2d(x, entries[0], entries[1], 1, layer.padding); }
  at::Tensor operator()(const DepthwiseConv2d& layer) const {
    return at::conv2d(x, entries[0], entries[1], layer.stride, layer.padding, 1, /*groups=*/entries[0].size(0));
  }
  at::Tensor operator()(const Relu&) const { return at::relu(x); }
  at::Tensor operator()(const MaxPool2d& layer) const { return at::max_pool2d(x, layer.size); }
  at::Tensor operator()(const GlobalAveragePool&) const { return x.mean({2, 3}); }
  at::Tensor operator()(const Embedding&) const { return at::embedding(entries[0], x); }
  at::Tensor operator()(const Rows&) const { return x.dim() == 3 ? x : x.permute({0, 2, 1, 3}).flatten(2); }
  at::Tensor operator()(const SinusoidalPositions&) const { return x + PositionTable(x.size(1), x.size(2)).to(x.scalar_type()); }
  at::Tensor operator()(const LayerNorm&) const { return at::layer_norm(x, {x.size(-1)}); }
  at::Tensor operator()(const ResidualBegin&) const { return x; }
  at::Tensor operator()(const ResidualEnd&) const { return x; }
  at::Tensor operator()(const LastPosition&) const { return x.select(1, x.size(1) - 1); }

  at::Tensor operator()(const Lstm& layer) const {
    const at::Tensor zeros = at::zeros({1, x.size(0), layer.hidden}, x.options());
    return std::get<0>(at::lstm(x, {zeros, zeros}, {entries, 4}, /*has_biases=*/true, /*num_layers=*/1, /*dropout=*/0, pass.training,
                                /*bidirectional=*/false, /*batch_first=*/true));
  }
  at::Tensor operator()(const Gru& layer) const {
    return std::get<0>(at::gru(x, at::zeros({1, x.size(0), layer.hidden}, x.options()), {entries, 4}, /*has_biases=*/true, /*num_layers=*/1, /*dropout=*/0, pass.training,
                               /*bidirectional=*/false, /*batch_first=*/true));
  }
  at::Tensor operator()(const MinGru&) const { return MinGruStates(at::linear(x, entries[0], entries[1])); }
  at::Tensor operator()(const Attention& layer) const {
    return Attend(layer, x, entries[0], entries[1], pass.features == nullptr || pass.features->empty() ? at::Tensor() : (*pass.features)[index]);
  }

  at::Tensor operator()(const RepeatInTime& layer) const {
    std::vector<int64_t> shape(static_cast<size_t>(x.dim()), 1);
    shape[0] = layer.steps;
    return x.repeat(shape);
  }
  at::Tensor operator()(const LeakyIntegrateAndFire& layer) const { return Spikes(x, placed.input_steps, layer.leak); }
  at::Tensor operator()(const MeanOverTime&) const {
    std::vector<int64_t> shape = x.sizes().vec();
    shape[0] /= placed.input_steps;
    shape.insert(shape.begin(), placed.input_steps);
    return x.reshape(shape).mean(0);
  }

  at::Tensor operator()(const Dropout& layer) const {
    if (!pass.training || layer.rate == 0) return x;
    const uint64_t threshold = static_cast<uint64_t>(std::llround(layer.rate * 4294967296.0));  // of 2^32
    const float kept = static_cast<float>(1 / (1 - layer.rate));
    at::Tensor mask = at::empty(x.sizes(), at::kFloat);
    float* out = mask.data_ptr<float>();
    const int64_t count = mask.numel();
    for (int64_t i = 0; i < count; i += 2) {
      const uint64_t draw = pass.dropout->Next();
      out[i] = (draw & 0xffffffff) < threshold ? 0 : kept;
      if (i + 1 < count) out[i + 1] = (draw >> 32) < threshold ? 0 : kept;
    }
    return x * mask.to(x.scalar_type(), /*non_blocking=*/false, /*copy=*/false, x.suggest_memory_format());
  }
};

}  // namespace

at::Tensor Spikes(const at::Tensor& currents, int64_t time_steps, double leak, SpikeFunction function) {
  return Firing::apply(currents.to(at::kFloat).contiguous(), time_steps, leak, static_cast<int64_t>(function)).to(currents.scalar_type());
}

at::Tensor MinGruStates(const at::Tensor& gates) { return MinGruScanning::apply(gates.to(at::kFloat).contiguous()).to(gates.scalar_type()); }

at::Tensor ApplyLayer(const PlacedNetwork& network, size_t index, const at::Tensor& x, const at::Tensor* tensors, const ForwardPass& pass) {
  const PlacedLayer& placed = network.layers[index];
  return std::visit(Apply{placed, index, x, tensors + placed.first_entry, pass}, placed.layer);
}

std::vector<at::Tensor> FeaturesByLayer(const PlacedNetwork& network, float rounds) {
  std::vector<at::Tensor> by_layer(network.layers.size());
  for (size_t i = 0; i < network.layers.size(); ++i) {
    const auto* attention = std::get_if<Attention>(&network.layers[i].layer);
    const auto* kernel = attention == nullptr ? nullptr : std::get_if<RandomFeatureAttention>(&attention->kernel);
    if (kernel == nullptr) continue;
    const std::vector<float> features = DrawFeatures(*kernel, attention->head_size, i, rounds);
    by_layer[i] = at::empty({kernel->features, attention->head_size});
    std::copy(features.begin(), features.end(), by_layer[i].data_ptr<float>());
  }
  return by_layer;
}

}  // namespace fedwatt::internal

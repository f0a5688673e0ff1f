#include "layer_ops.h"

#include <cmath>

namespace fedwatt::internal {
namespace {

struct Pass {
  const at::Tensor& x;
  const at::Tensor* entries;
  bool training;
  Random& dropout;

  at::Tensor operator()(const Flatten&) const { return x.flatten(1); }
  at::Tensor operator()(const Linear&) const { return at::linear(x, entries[0], entries[1]); }
  at::Tensor operator()(const Conv2d& layer) const { return at::conv2d(x, entries[0], entries[1], 1, layer.padding); }
  at::Tensor operator()(const Relu&) const { return at::relu(x); }
  at::Tensor operator()(const MaxPool2d& layer) const { return at::max_pool2d(x, layer.size); }
  at::Tensor operator()(const Embedding&) const { return at::embedding(entries[0], x); }
  at::Tensor operator()(const Lstm& layer) const {
    const at::Tensor zeros = at::zeros({1, x.size(0), layer.hidden}, x.options());
    return std::get<0>(at::lstm(x, {zeros, zeros}, {entries, 4}, /*has_biases=*/true, /*num_layers=*/1, /*dropout=*/0, training,
                                /*bidirectional=*/false, /*batch_first=*/true));
  }
  at::Tensor operator()(const LastPosition&) const { return x.select(1, x.size(1) - 1); }

  at::Tensor operator()(const Dropout& layer) const {
    if (!training || layer.rate == 0) return x;
    const uint64_t threshold = static_cast<uint64_t>(std::llround(layer.rate * 4294967296.0));  // of 2^32
    const float kept = static_cast<float>(1 / (1 - layer.rate));
    at::Tensor mask = at::empty(x.sizes(), at::kFloat);
    float* out = mask.data_ptr<float>();
    const int64_t count = mask.numel();
    for (int64_t i = 0; i < count; i += 2) {
      const uint64_t draw = dropout.Next();
      out[i] = (draw & 0xffffffff) < threshold ? 0 : kept;
      if (i + 1 < count) out[i + 1] = (draw >> 32) < threshold ? 0 : kept;
    }
    return x * mask.to(x.scalar_type(), /*non_blocking=*/false, /*copy=*/false, x.suggest_memory_format());
  }
};

}  // namespace

at::Tensor ApplyLayer(const Layer& layer, const at::Tensor& x, const at::Tensor* entries, bool training, Random& dropout) {
  return std::visit(Pass{x, entries, training, dropout}, layer);
}

}  // namespace fedwatt::internal

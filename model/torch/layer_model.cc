#include "layer_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "fedwatt/base/random.h"

namespace fedwatt::internal {
namespace {

constexpr int64_t kEvaluationBytes = 16 << 20;  // of the widest activation
constexpr int64_t kMaxEvaluationBatch = 1000;

class LayerModel : public TrainableModel {
 public:
  LayerModel(const ArchitectureSpec& spec, PlacedNetwork network) : spec_(spec), network_(std::move(network)) {
    for (size_t i = 0; i < layout().entries().size(); ++i) {
      tensors_.push_back(at::zeros(layout().entries()[i].shape, at::kFloat).set_requires_grad(true));
      offsets_.push_back(layout().offset(i));
    }
  }

  const ParameterLayout& layout() const override { return network_.layout; }
  std::vector<ChannelGroup> channel_groups() const override { return network_.groups; }
  const Submodel* submodel() const override { return network_.submodel.has_value() ? &*network_.submodel : nullptr; }
  std::optional<std::vector<double>> uses_per_example() const override { return network_.uses; }
  absl::Status CheckData(const Dataset& data) const override { return CheckDataFits(spec_, network_.takes_tokens, data); }

  void Load(absl::Span<const float> values) override {
    for (size_t i = 0; i < tensors_.size(); ++i) {
      std::memcpy(tensors_[i].data_ptr<float>(), values.data() + offsets_[i], tensors_[i].nbytes());
    }
  }
  void Save(absl::Span<float> values) const override {
    for (size_t i = 0; i < tensors_.size(); ++i) {
      std::memcpy(values.data() + offsets_[i], tensors_[i].data_ptr<float>(), tensors_[i].nbytes());
    }
  }

  const std::vector<at::Tensor>& parameters() const override { return tensors_; }
  const std::vector<int64_t>& parameter_offsets() const override { return offsets_; }
  void Seed(uint64_t seed) override { random_ = Random(DeriveSeed("dropout", {seed})); }

  at::Tensor Forward(const at::Tensor& input, bool training) override {
    at::Tensor x = input;
    for (const PlacedLayer& placed : network_.layers) {
      const at::Tensor* entries = tensors_.data() + placed.first_entry;
      x = std::visit([&](const auto& layer) { return Apply(layer, x, entries, training); }, placed.layer);
    }
    return x;
  }

  int64_t evaluation_batch_size() const override {
    return std::clamp<int64_t>(kEvaluationBytes / (4 * network_.peak_values), 1, kMaxEvaluationBatch);
  }
  std::vector<float> InitialValues(uint64_t seed) override { return internal::InitialValues(network_, seed); }

 private:
  at::Tensor Apply(const Flatten&, const at::Tensor& x, const at::Tensor*, bool) { return x.flatten(1); }
  at::Tensor Apply(const Linear&, const at::Tensor& x, const at::Tensor* entries, bool) { return at::linear(x, entries[0], entries[1]); }
  at::Tensor Apply(const Conv2d& layer, const at::Tensor& x, const at::Tensor* entries, bool) {
    return at::conv2d(x, entries[0], entries[1], 1, layer.padding);
  }
  at::Tensor Apply(const Relu&, const at::Tensor& x, const at::Tensor*, bool) { return at::relu(x); }
  at::Tensor Apply(const MaxPool2d& layer, const at::Tensor& x, const at::Tensor*, bool) { return at::max_pool2d(x, layer.size); }
  at::Tensor Apply(const Embedding&, const at::Tensor& x, const at::Tensor* entries, bool) { return at::embedding(entries[0], x); }
  at::Tensor Apply(const Lstm& layer, const at::Tensor& x, const at::Tensor* entries, bool training) {
    const at::Tensor zeros = at::zeros({1, x.size(0), layer.hidden});
    return std::get<0>(at::lstm(x, {zeros, zeros}, {entries, 4}, /*has_biases=*/true, /*num_layers=*/1, /*dropout=*/0, training,
                                /*bidirectional=*/false, /*batch_first=*/true));
  }
  at::Tensor Apply(const LastPosition&, const at::Tensor& x, const at::Tensor*, bool) { return x.select(1, x.size(1) - 1); }

  // LibTorch's own dropout draws from one generator of the whole process, which would tie models in other threads together.
  at::Tensor Apply(const Dropout& layer, const at::Tensor& x, const at::Tensor*, bool training) {
    if (!training || layer.rate == 0) return x;
    const uint64_t threshold = static_cast<uint64_t>(std::llround(layer.rate * 4294967296.0));  // of 2^32
    const float kept = static_cast<float>(1 / (1 - layer.rate));
    at::Tensor mask = at::empty(x.sizes(), at::kFloat);
    float* out = mask.data_ptr<float>();
    const int64_t count = mask.numel();
    for (int64_t i = 0; i < count; i += 2) {
      const uint64_t draw = random_.Next();
      out[i] = (draw & 0xffffffff) < threshold ? 0 : kept;
      if (i + 1 < count) out[i + 1] = (draw >> 32) < threshold ? 0 : kept;
    }
    return x * mask;
  }

  const ArchitectureSpec spec_;
  const PlacedNetwork network_;
  std::vector<at::Tensor> tensors_;
  std::vector<int64_t> offsets_;
  Random random_{0};
};

}  // namespace

std::unique_ptr<TrainableModel> MakeLayerModel(const ArchitectureSpec& spec, PlacedNetwork network) {
  return std::make_unique<LayerModel>(spec, std::move(network));
}

}  // namespace fedwatt::internal

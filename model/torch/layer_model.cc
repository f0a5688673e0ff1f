#include "layer_model.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "fedwatt/base/random.h"
#include "layer_ops.h"

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
      x = ApplyLayer(placed.layer, x, tensors_.data() + placed.first_entry, training, random_);
    }
    return x;
  }

  int64_t evaluation_batch_size() const override {
    return std::clamp<int64_t>(kEvaluationBytes / (4 * network_.peak_values), 1, kMaxEvaluationBatch);
  }
  std::vector<float> InitialValues(uint64_t seed) override { return internal::InitialValues(network_, seed); }

 private:
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

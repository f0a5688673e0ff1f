#include "layer_model.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include <torch/csrc/autograd/custom_function.h>

#include "fedwatt/base/random.h"
#include "fedwatt/model/torch/torch_trainer.h"
#include "layer_ops.h"
#include "quantized_network.h"
#include "rounding.h"

namespace fedwatt::internal {
namespace {

static_assert(sizeof(ActivationRange) == 2 * sizeof(float), "ranges are copied to and from layout entries of shape {2}");

constexpr int64_t kEvaluationBytes = 16 << 20;  // of the widest activation
constexpr int64_t kMaxEvaluationBatch = 1000;

// How far a training step takes the range of an activation back to what it sees. It widens at once: where the greatest logits are clipped, they don't learn.
constexpr float kRangeRate = 0.1f;

uint16_t* Bits(const at::Tensor& bfloat16) { return reinterpret_cast<uint16_t*>(bfloat16.data_ptr<at::BFloat16>()); }

// Gradients pass as if nothing was rounded.
struct Rounding : torch::autograd::Function<Rounding> {
  static at::Tensor forward(torch::autograd::AutogradContext*, const at::Tensor& x, Affine affine) {
    at::Tensor rounded = at::empty_like(x);
    if (x.scalar_type() == at::kBFloat16) {
      RoundValues(affine, x.numel(), Bits(x), Bits(rounded));
    } else {
      RoundValues(affine, x.numel(), x.data_ptr<float>(), rounded.data_ptr<float>());
    }
    return rounded;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*, torch::autograd::variable_list gradients) { return {gradients[0], at::Tensor()}; }
};

class LayerModel : public TrainableModel {
 public:
  LayerModel(const ArchitectureSpec& spec, PlacedNetwork network) : spec_(spec), network_(std::move(network)) {
    const std::vector<LayoutEntry>& entries = layout().entries();
    const size_t parameters = network_.draws_entry.value_or(network_.first_range.value_or(entries.size()));
    for (size_t i = 0; i < parameters; ++i) {
      tensors_.push_back(at::zeros(entries[i].shape, at::kFloat).set_requires_grad(true));
      offsets_.push_back(layout().offset(i));
    }
    spikes_ = std::any_of(network_.layers.begin(), network_.layers.end(),
                          [](const PlacedLayer& placed) { return std::holds_alternative<LeakyIntegrateAndFire>(placed.layer); });
    if (network_.first_range.has_value()) {
      ranges_.resize(entries.size() - *network_.first_range);
      range_offset_ = layout().offset(*network_.first_range);
      sites_ = RoundingSites(network_);
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
    if (!ranges_.empty()) std::memcpy(static_cast<void*>(ranges_.data()), values.data() + range_offset_, ranges_.size() * sizeof(ActivationRange));
    if (network_.draws_entry.has_value()) {
      const float rounds = values[static_cast<size_t>(layout().offset(*network_.draws_entry))];
      if (features_.empty() || rounds != rounds_) features_ = FeaturesByLayer(network_, rounds);
      rounds_ = rounds;
    }
  }
  void Save(absl::Span<float> values) const override {
    for (size_t i = 0; i < tensors_.size(); ++i) {
      std::memcpy(values.data() + offsets_[i], tensors_[i].data_ptr<float>(), tensors_[i].nbytes());
    }
    if (!ranges_.empty()) std::memcpy(values.data() + range_offset_, ranges_.data(), ranges_.size() * sizeof(ActivationRange));
    // Only training saves: the model that comes out was trained one round more.
    if (network_.draws_entry.has_value()) values[static_cast<size_t>(layout().offset(*network_.draws_entry))] = rounds_ + 1;
  }

  const std::vector<at::Tensor>& parameters() const override { return tensors_; }
  const std::vector<int64_t>& parameter_offsets() const override { return offsets_; }

  absl::Status CheckNumberFormat(std::string_view format) const override {
    if (format == "float32") return absl::OkStatus();
    // Rounding would decide who fires.
    if (format == "bfloat16" && spikes_) return CheckFloat32Only(format);
    if (format == "bfloat16") return CheckBfloat16Instructions();
    return CheckFloat32Only(format);
  }
  absl::Status BeginTraining(const TrainingRecipe& recipe) override {
    if (!IsNumberFormat(recipe.number_format) || (spikes_ && recipe.number_format != "float32")) return CheckFloat32Only(recipe.number_format);
    const at::ScalarType type = recipe.number_format == "bfloat16" ? at::kBFloat16 : at::kFloat;
    if (type == at::kFloat && ranges_.empty()) {
      copies_.clear();
    } else if (copies_.empty() || copies_[0].scalar_type() != type) {
      copies_.clear();
      for (const at::Tensor& tensor : tensors_) {
        const at::MemoryFormat format = type == at::kBFloat16 ? ConvolutionFormat(tensor) : at::MemoryFormat::Contiguous;
        copies_.push_back(at::empty(tensor.sizes(), at::TensorOptions(type).memory_format(format)).set_requires_grad(true));
      }
    }
    return absl::OkStatus();
  }
  const std::vector<at::Tensor>& leaves() const override { return copies_.empty() ? tensors_ : copies_; }
  void RefreshLeaves() override {
    at::NoGradGuard no_grad;
    for (size_t i = 0; i < copies_.size(); ++i) {
      const at::Tensor& master = tensors_[i];
      if (ranges_.empty() || master.dim() < 2) {
        copies_[i].copy_(master);
        continue;
      }
      const bool narrow = copies_[i].scalar_type() != at::kFloat;
      const at::Tensor rounded = narrow ? at::empty(master.sizes()) : copies_[i];
      RoundRows(master.size(0), master.numel() / master.size(0), master.data_ptr<float>(), rounded.data_ptr<float>());
      if (narrow) copies_[i].copy_(rounded);
    }
  }

  void Seed(uint64_t seed) override { random_ = Random(DeriveSeed("dropout", {seed})); }

  at::Tensor Forward(const at::Tensor& input, bool training) override {
    const bool with_copies = training && !copies_.empty();
    const std::vector<at::Tensor>& tensors = with_copies ? copies_ : tensors_;
    at::Tensor x = input;
    if (with_copies && !ranges_.empty()) x = RoundActivation(x, 0);
    if (with_copies && !network_.takes_tokens && copies_[0].scalar_type() == at::kBFloat16) {
      x = x.to(at::kBFloat16, /*non_blocking=*/false, /*copy=*/false, ConvolutionFormat(x));
    }
    const ForwardPass pass{training, &random_, &features_};
    return RunLayers(network_, std::move(x), tensors.data(), pass, [&](size_t layer, at::Tensor&& out) {
             return with_copies && !sites_.empty() && sites_[layer] > 0 ? RoundActivation(out, sites_[layer]) : std::move(out);
           }).to(at::kFloat);
  }

  int64_t evaluation_batch_size() const override {
    return std::clamp<int64_t>(kEvaluationBytes / (4 * network_.peak_values), 1, kMaxEvaluationBatch);
  }
  std::vector<float> InitialValues(uint64_t seed) override { return internal::InitialValues(network_, seed); }

 private:
  // Rounds to the 256 values that the site's range allows, after the range has followed what `x` holds.
  at::Tensor RoundActivation(const at::Tensor& x, size_t site) {
    // Any order of the values will do, as long as they lie side by side.
    const at::Tensor dense = x.is_non_overlapping_and_dense() ? x : x.contiguous();
    ActivationRange& range = ranges_[site];
    const ActivationRange seen = dense.scalar_type() == at::kBFloat16 ? RangeOf(dense.numel(), Bits(dense)) : RangeOf(dense.numel(), dense.data_ptr<float>());
    range.low = std::min(seen.low, range.low + kRangeRate * (seen.low - range.low));
    range.high = std::max(seen.high, range.high + kRangeRate * (seen.high - range.high));
    return Rounding::apply(dense, AffineOf(range));
  }

  // Kernels for bfloat16 convolutions want the channels last.
  static at::MemoryFormat ConvolutionFormat(const at::Tensor& tensor) {
    return tensor.dim() == 4 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
  }

  const ArchitectureSpec spec_;
  const PlacedNetwork network_;
  std::vector<at::Tensor> tensors_;  // the parameters
  std::vector<at::Tensor> copies_;   // what training passes compute with; empty where these are the parameters themselves
  // Only where the model is trained for 8-bit integers.
  std::vector<ActivationRange> ranges_;  // by site
  int64_t range_offset_ = 0;             // in the flat vector
  std::vector<size_t> sites_;            // by layer
  std::vector<int64_t> offsets_;
  bool spikes_ = false;
  // Only where the model has random features.
  std::vector<at::Tensor> features_;  // by layer
  float rounds_ = 0;                  // in which the loaded model was trained
  Random random_{0};
};

}  // namespace

std::unique_ptr<TrainableModel> MakeLayerModel(const ArchitectureSpec& spec, PlacedNetwork network) {
  return std::make_unique<LayerModel>(spec, std::move(network));
}

}  // namespace fedwatt::internal

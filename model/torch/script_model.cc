#include "script_model.h"

#include <torch/csrc/jit/runtime/graph_executor.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"
#include "script_channels.h"
#include "script_export.h"
#include "script_tensors.h"

namespace fedwatt::internal {
namespace {

constexpr int64_t kEvaluationBatch = 256;  // what its activations need is unknown

class ScriptModelImpl : public ScriptModel {
 public:
  ScriptModelImpl(const ArchitectureSpec& spec, torch::jit::Module pristine) : spec_(spec), pristine_(std::move(pristine)) {}

  // Names what the archive holds, and refuses what federated training cannot carry.
  absl::Status Inspect() {
    std::vector<LayoutEntry> entries;
    std::map<const void*, std::string> storages;
    const auto add = [&](const std::string& name, const at::Tensor& tensor, EntryKind kind) -> absl::Status {
      if (tensor.layout() != at::kStrided || (tensor.scalar_type() != at::kFloat && kind != EntryKind::kLocal)) {
        return absl::InvalidArgumentError(absl::StrCat("'", name, "' is a tensor of type ", c10::toString(tensor.scalar_type()),
                                                       "; parameters must be float32, buffers float32 or int64"));
      }
      if (tensor.numel() == 0) return absl::InvalidArgumentError(absl::StrCat("'", name, "' has no values"));
      const auto [it, added] = storages.emplace(tensor.storage().data(), name);
      if (!added) {
        return absl::InvalidArgumentError(absl::StrCat("'", it->second, "' and '", name, "' share memory; tied tensors are not supported"));
      }
      entries.push_back({name, tensor.sizes().vec(), kind, kind == EntryKind::kLocal ? Dtype::kInt64 : Dtype::kFloat32});
      return absl::OkStatus();
    };
    for (const auto& parameter : pristine_.named_parameters()) {
      FEDWATT_RETURN_IF_ERROR(add(parameter.name, parameter.value, EntryKind::kParameter));
    }
    for (const auto& buffer : pristine_.named_buffers()) {
      const bool counter = buffer.value.scalar_type() == at::kLong;
      FEDWATT_RETURN_IF_ERROR(add(buffer.name, buffer.value, counter ? EntryKind::kLocal : EntryKind::kAveragedBuffer));
    }
    FEDWATT_ASSIGN_OR_RETURN(layout_, ParameterLayout::Create(std::move(entries)));
    return absl::OkStatus();
  }

  // Becomes the narrower copy that the spec asks for.
  absl::Status Narrow() {
    FEDWATT_ASSIGN_OR_RETURN(submodel_, Submodel::Create(layout_, Channels().groups(), spec_.kept));
    executor_.emplace(channels_->Narrow(spec_.kept), "forward");
    layout_ = submodel_->layout();
    return absl::OkStatus();
  }

  ScriptChannels& Channels() override {
    if (!channels_.has_value()) channels_ = ScriptChannels::Find(pristine_, layout_, spec_.input_shape);
    return *channels_;
  }

  const ParameterLayout& layout() const override { return layout_; }
  const Submodel* submodel() const override { return submodel_.has_value() ? &*submodel_ : nullptr; }
  absl::Status CheckData(const Dataset& data) const override { return CheckDataFits(spec_, data.store().is_tokens(), data); }

  // A fresh copy each time, since an archive may keep any state it likes between calls.
  void Load(absl::Span<const float> values) override {
    module_ = WithValues(pristine_, layout_, values);
    module_.train();
    training_ = true;
    parameters_.clear();
    offsets_.clear();
    for (size_t i = 0; i < layout_.entries().size(); ++i) {
      if (layout_.entries()[i].kind != EntryKind::kParameter) continue;
      const at::Tensor tensor = FindTensor(module_, layout_.entries()[i].name);
      if (!tensor.requires_grad()) continue;  // frozen by its author
      parameters_.push_back(tensor);
      offsets_.push_back(layout_.offset(i));
    }
  }

  void Save(absl::Span<float> values) const override { ReadValues(module_, layout_, values); }

  const std::vector<at::Tensor>& parameters() const override { return parameters_; }
  const std::vector<int64_t>& parameter_offsets() const override { return offsets_; }
  // Foreign graphs draw from LibTorch's one generator; this process has no other model.
  void Seed(uint64_t seed) override { torch::manual_seed(seed); }

  at::Tensor Forward(const at::Tensor& input, bool training) override {
    if (training != training_) {
      module_.train(training);
      training_ = training;
    }
    at::Tensor output;
    try {
      if (executor_.has_value()) {
        torch::jit::Stack stack = ScriptChannels::Inputs(module_, input);
        executor_->run(stack);
        output = stack.back().toTensor();
      } else {
        output = module_.forward({input}).toTensor();
      }
    } catch (const std::exception& error) {
      throw std::invalid_argument(absl::StrCat("the archive's forward failed: ", error.what()));
    }
    if (output.dim() != 2 || output.size(0) != input.size(0) || output.size(1) != spec_.output_count || output.scalar_type() != at::kFloat) {
      std::ostringstream got;
      got << output.scalar_type() << " " << output.sizes();
      throw std::invalid_argument(
          absl::StrCat("the archive's forward must give float32 [", input.size(0), ", ", spec_.output_count, "], got ", got.str()));
    }
    return output;
  }

  int64_t evaluation_batch_size() const override { return kEvaluationBatch; }

  std::vector<float> InitialValues(uint64_t) override {
    const ParameterLayout& whole = submodel_.has_value() ? submodel_->whole() : layout_;
    std::vector<float> values(static_cast<size_t>(whole.value_count()));
    ReadValues(pristine_, whole, absl::MakeSpan(values));
    return submodel_.has_value() ? submodel_->Gather(values) : values;
  }

  using ScriptModel::Archive;
  std::string Archive(absl::Span<const float> values, const std::map<std::string, at::Tensor>& detached) override {
    torch::jit::Module module = WithValues(pristine_, layout_, values);
    for (const auto& [name, value] : detached) SetTensor(module, name, value.detach().set_requires_grad(true));
    if (submodel_.has_value()) module = WithForward(module, channels_->Narrow(spec_.kept));
    module.eval();
    std::ostringstream out;
    module.save(out);
    return std::move(out).str();
  }

  void Detach(absl::Span<const std::string> names) override {
    FEDWATT_CHECK(!submodel_.has_value());
    std::vector<LayoutEntry> left;
    for (const LayoutEntry& entry : layout_.entries()) {
      if (std::find(names.begin(), names.end(), entry.name) == names.end()) {
        left.push_back(entry);
      } else {
        SetTensor(pristine_, entry.name, at::empty({0}));
      }
    }
    absl::StatusOr<ParameterLayout> layout = ParameterLayout::Create(std::move(left));
    FEDWATT_CHECK(layout.ok());
    layout_ = *std::move(layout);
    module_ = torch::jit::Module();
    parameters_.clear();
  }
  void Use(const std::string& name, const at::Tensor& value) override { SetTensor(module_, name, value); }

  ModelProfile Profile() const override { return ScriptChannels::Profile(pristine_, layout_, spec_.input_shape); }

 private:
  const ArchitectureSpec spec_;
  torch::jit::Module pristine_;
  ParameterLayout layout_;
  std::optional<ScriptChannels> channels_;
  // Of a narrower copy.
  std::optional<Submodel> submodel_;
  std::optional<torch::jit::GraphExecutor> executor_;
  torch::jit::Module module_;
  bool training_ = false;
  std::vector<at::Tensor> parameters_;
  std::vector<int64_t> offsets_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ScriptModel>> MakeScriptModel(const ArchitectureSpec& spec, std::string archive) {
  return CatchTorch([&]() -> absl::StatusOr<std::unique_ptr<ScriptModel>> {
    // The optimising executor rewrites a graph after its first runs, and with it the bits of the results.
    torch::jit::setGraphExecutorOptimize(false);
    std::unique_ptr<ScriptModelImpl> model;
    try {
      std::istringstream in(std::move(archive));
      model = std::make_unique<ScriptModelImpl>(spec, torch::jit::load(in, at::kCPU));
    } catch (const std::exception& error) {
      return absl::InvalidArgumentError(absl::StrCat("not a loadable TorchScript archive: ", error.what()));
    }
    FEDWATT_RETURN_IF_ERROR(model->Inspect());
    if (!spec.kept.empty() && !KeepsWeights(spec.kept)) FEDWATT_RETURN_IF_ERROR(model->Narrow());
    return model;
  });
}

}  // namespace fedwatt::internal

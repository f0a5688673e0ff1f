#include "fedwatt/model/torch/torch_trainer.h"

#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"
#include "layer_model.h"
#include "layer_ops.h"
#include "masked_trainer.h"
#include "script_channels.h"

namespace fedwatt {

absl::StatusOr<std::unique_ptr<LocalTrainer>> MakeTorchTrainer(const ArchitectureSpec& spec) {
  FEDWATT_ASSIGN_OR_RETURN(internal::PlacedNetwork network, internal::PlaceNetwork(spec));
  return internal::CatchTorch([&]() -> absl::StatusOr<std::unique_ptr<LocalTrainer>> {
    std::optional<Submodel> mask = network.mask;
    std::unique_ptr<internal::TrainableModel> model = internal::MakeLayerModel(spec, std::move(network));
    return mask.has_value() ? internal::MakeMaskedTrainer(std::move(model), *std::move(mask)) : internal::MakeSgdTrainer(std::move(model));
  });
}

namespace {

// `model` is of network.layout.
absl::StatusOr<std::string> Script(const ArchitectureSpec& spec, const internal::PlacedNetwork& network, const std::vector<float>& model) {
  const ParameterLayout& layout = network.layout;
  return internal::CatchTorch([&]() -> absl::StatusOr<std::string> {
    torch::jit::Module root(spec.name);
    std::map<std::string, torch::jit::Module> submodules;
    for (size_t i = 0; i < layout.entries().size(); ++i) {
      const LayoutEntry& entry = layout.entries()[i];
      if (entry.kind != EntryKind::kParameter) continue;  // activation ranges are of no use in float32
      const size_t dot = entry.name.find('.');
      const std::string owner = entry.name.substr(0, dot);
      auto [it, added] = submodules.try_emplace(owner, owner);
      // The archive holds whole storages, so each parameter gets its own.
      const at::Tensor values =
          at::from_blob(const_cast<float*>(model.data()) + layout.offset(i), entry.shape, at::kFloat).clone().set_requires_grad(true);
      it->second.register_parameter(entry.name.substr(dot + 1), values, /*is_buffer=*/false);
    }
    if (network.draws_entry.has_value()) {
      const std::vector<at::Tensor> features = internal::FeaturesByLayer(network, model[static_cast<size_t>(layout.offset(*network.draws_entry))]);
      for (size_t i = 0; i < features.size(); ++i) {
        if (!features[i].defined()) continue;
        submodules.at(std::get<Attention>(network.layers[i].layer).name).register_parameter("features", features[i], /*is_buffer=*/true);
      }
    }
    for (auto& [name, submodule] : submodules) {
      submodule.register_attribute("training", c10::BoolType::get(), false);  // Python's Module.eval() and .training want it
      root.register_module(name, submodule);
    }
    root.register_attribute("training", c10::BoolType::get(), false);
    root.define(internal::ForwardSource(network));
    std::ostringstream out;
    root.save(out);
    return std::move(out).str();
  });
}

}  // namespace

absl::Status WriteTorchScript(const ArchitectureSpec& spec, absl::Span<const float> model, const std::string& path) {
  FEDWATT_ASSIGN_OR_RETURN(const internal::PlacedNetwork network, internal::PlaceNetwork(spec));
  FEDWATT_ASSIGN_OR_RETURN(const std::vector<float> values, internal::WholeValues(network, model));
  FEDWATT_ASSIGN_OR_RETURN(const std::string bytes, Script(spec, network, values));
  return WriteFileAtomically(path, bytes);
}

absl::StatusOr<ModelProfile> ProfileArchitecture(const ArchitectureSpec& spec) {
  FEDWATT_ASSIGN_OR_RETURN(const internal::PlacedNetwork network, internal::PlaceNetwork(spec));
  // What an operator costs does not depend on the values.
  FEDWATT_ASSIGN_OR_RETURN(std::string bytes, Script(spec, network, std::vector<float>(static_cast<size_t>(network.layout.value_count()))));
  return internal::CatchTorch([&]() -> absl::StatusOr<ModelProfile> {
    std::istringstream in(std::move(bytes));
    return internal::ScriptChannels::Profile(torch::jit::load(in, at::kCPU), network.layout, spec.input_shape);
  });
}

}  // namespace fedwatt

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "dataset_cache.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/torch/torch_trainer.h"
#include "layer_ops.h"
#include "trainable_model.h"

namespace fedwatt {
namespace {

constexpr int64_t kBatch = 250;

// Of one layer's weights and biases, over all steps.
double MacsOf(const internal::PlacedNetwork& network, size_t layer) {
  const size_t end = layer + 1 < network.layers.size() ? network.layers[layer + 1].first_entry : network.layout.entries().size();
  double macs = 0;
  for (size_t i = network.layers[layer].first_entry; i < end; ++i) macs += network.uses[i] * static_cast<double>(network.layout.entries()[i].element_count());
  return macs;
}

std::string NameOf(const internal::PlacedNetwork& network, size_t layer) {
  const std::string& entry = network.layout.entries()[network.layers[layer].first_entry].name;
  return entry.substr(0, entry.find('.'));
}

}  // namespace

absl::StatusOr<SpikeProfile> ProfileSpikes(const ArchitectureSpec& spec, absl::Span<const float> model, const Dataset& data) {
  FEDWATT_ASSIGN_OR_RETURN(const internal::PlacedNetwork network, internal::PlaceNetwork(spec));
  FEDWATT_ASSIGN_OR_RETURN(const std::vector<float> values, internal::WholeValues(network, model));
  const auto spikes = [](const internal::PlacedLayer& placed) { return std::holds_alternative<LeakyIntegrateAndFire>(placed.layer); };
  if (std::none_of(network.layers.begin(), network.layers.end(), spikes)) {
    return absl::UnimplementedError(absl::StrCat("architecture '", spec.name, "' has no spiking neurons"));
  }
  if (data.size() == 0) return absl::InvalidArgumentError("the dataset has no examples");
  FEDWATT_RETURN_IF_ERROR(internal::CheckDataFits(spec, network.takes_tokens, data));
  return internal::CatchTorch([&]() -> absl::StatusOr<SpikeProfile> {
    at::NoGradGuard no_grad;
    std::vector<at::Tensor> tensors;
    for (size_t i = 0; i < network.layout.entries().size(); ++i) {
      tensors.push_back(at::from_blob(const_cast<float*>(values.data()) + network.layout.offset(i), network.layout.entries()[i].shape, at::kFloat));
    }
    SpikeProfile profile;
    std::vector<double> active(network.layers.size(), 0), all(network.layers.size(), 0);  // values that each layer reads
    const at::Tensor inputs = internal::DatasetCache::Shared().Get(data)->inputs;
    for (int64_t begin = 0; begin < data.size(); begin += kBatch) {
      internal::RunLayers(network, inputs.narrow(0, begin, std::min(kBatch, data.size() - begin)), tensors.data(), {}, [&](size_t layer, at::Tensor&& out) {
        if (layer + 1 < network.layers.size() && network.layers[layer + 1].input_steps > 1) {
          active[layer + 1] += static_cast<double>(out.count_nonzero().item<int64_t>());
          all[layer + 1] += static_cast<double>(out.numel());
        }
        return std::move(out);
      });
    }
    for (size_t i = 0; i < network.layers.size(); ++i) {
      const internal::PlacedLayer& placed = network.layers[i];
      if (spikes(placed)) {
        profile.steps = placed.input_steps;
        double neurons = 1;
        for (int64_t size : placed.output_shape) neurons *= static_cast<double>(size);
        profile.neuron_updates += neurons * static_cast<double>(placed.input_steps);
      }
      const double macs = MacsOf(network, i);
      if (macs == 0) continue;
      if (all[i] == 0) {
        profile.analogue_macs += macs;
        continue;
      }
      const double rate = active[i] / all[i];
      profile.macs_per_step += macs / static_cast<double>(placed.input_steps);
      profile.spike_operations += macs * rate;
      profile.layers.push_back({NameOf(network, i), rate});
    }
    return profile;
  });
}

}  // namespace fedwatt

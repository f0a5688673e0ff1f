// Spiking network of leaky integrate-and-fire neurons, trained through time by a surrogate gradient (Neftci et al. 2019, arXiv 1901.09948; see
// LeakyIntegrateAndFire in architecture.h). The input is a constant current over all steps (direct coding), so the first layer is computed once; outputs are the mean over
// time of the last layer, which does not spike. Dense: two hidden layers of `hidden_size`. Convolutional: 5x5 convolutions of 16 and 32 channels, each followed by
// spikes and 2x2 max pooling (1x28x28 inputs). On processors without event-driven hardware each step costs a dense product: see docs/architectures.md.
//
// Options: structure    dense (default), convolutional
//          hidden_size  dense: units of each hidden layer, [1, 65536], 256
//          steps        of time, [1, 64], 4
//          leak         what is left of a potential a step later, [0, 1), 0.9
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/torch/architecture.h"

namespace fedwatt::internal {

void InstallArchitecture_lif_snn(ArchitectureRegistry& registry) {
  auto describe = [](const ArchitectureSpec& spec, OptionReader& options) -> absl::StatusOr<Network> {
    const bool convolutional = options.Choice("structure", {"dense", "convolutional"}) == 1;
    const int64_t hidden = options.Integer("hidden_size", 256, 1, 65536), steps = options.Integer("steps", 4, 1, 64);
    const LeakyIntegrateAndFire fire{options.Fraction("leak", 0.9)};
    Network network;
    network.initialisation = Initialisation::kHeUniformWeights;
    if (convolutional) {
      network.layers = {Conv2d{"conv1", 16, 5, 2}, RepeatInTime{steps}, fire, MaxPool2d{2}, Conv2d{"conv2", 32, 5, 2}, fire, MaxPool2d{2}, Flatten{}};
    } else {
      network.layers = {Flatten{}, Linear{"fc1", hidden}, RepeatInTime{steps}, fire, Linear{"fc2", hidden}, fire};
    }
    network.layers.push_back(Linear{"fc", spec.output_count});
    network.layers.push_back(MeanOverTime{});
    return network;
  };
  FEDWATT_CHECK(registry.Register("lif_snn", describe).ok());
}

}  // namespace fedwatt::internal

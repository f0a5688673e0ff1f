// The "2NN" of McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data", arXiv 1602.05629,
// section 3: two hidden layers of 200 units with ReLU. 784 inputs, 10 classes: 199,210 parameters.
//
// Options: hidden_size  units of each hidden layer, [1, 65536], 200
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/torch/architecture.h"

namespace fedwatt::internal {

void InstallArchitecture_mlp_2nn(ArchitectureRegistry& registry) {
  auto describe = [](const ArchitectureSpec& spec, OptionReader& options) -> absl::StatusOr<Network> {
    const int64_t hidden = options.Integer("hidden_size", 200, 1, 65536);
    return Network{{Flatten{}, Linear{"fc1", hidden}, Relu{}, Linear{"fc2", hidden}, Relu{}, Linear{"fc3", spec.output_count}}};
  };
  FEDWATT_CHECK(registry.Register("mlp_2nn", describe).ok());
}

}  // namespace fedwatt::internal

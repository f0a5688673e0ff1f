// The CNN of McMahan et al. 2017, arXiv 1602.05629, section 3: two 5x5 convolutions (32 and 64 channels, same padding), each followed by
// ReLU and 2x2 max pooling, then 512 units with ReLU. 1x28x28 inputs, 10 classes: 1,663,370 parameters.
//
// Options: hidden_size  units before the output, [1, 65536], 512
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/torch/architecture.h"

namespace fedwatt::internal {

void InstallArchitecture_fedavg_cnn(ArchitectureRegistry& registry) {
  auto describe = [](const ArchitectureSpec& spec, OptionReader& options) -> absl::StatusOr<Network> {
    const int64_t hidden = options.Integer("hidden_size", 512, 1, 65536);
    return Network{{Conv2d{"conv1", 32, 5, 2}, Relu{}, MaxPool2d{2}, Conv2d{"conv2", 64, 5, 2}, Relu{}, MaxPool2d{2}, Flatten{},
                    Linear{"fc1", hidden}, Relu{}, Linear{"fc2", spec.output_count}}};
  };
  FEDWATT_CHECK(registry.Register("fedavg_cnn", describe).ok());
}

}  // namespace fedwatt::internal

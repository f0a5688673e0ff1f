// The small CNN that federated-learning benchmarks call LeNet, after LeCun et al. 1998, "Gradient-Based Learning Applied to Document
// Recognition", with ReLU and max pooling: 5x5 convolutions of 6 and 16 channels without padding, then 120 and 84 units.
// 3x32x32 inputs, 10 classes: 62,006 parameters. No options.
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/torch/architecture.h"

namespace fedwatt::internal {

void InstallArchitecture_lenet(ArchitectureRegistry& registry) {
  auto describe = [](const ArchitectureSpec& spec, OptionReader& options) -> absl::StatusOr<Network> {
    return Network{{Conv2d{"conv1", 6, 5}, Relu{}, MaxPool2d{2}, Conv2d{"conv2", 16, 5}, Relu{}, MaxPool2d{2}, Flatten{},
                    Linear{"fc1", 120}, Relu{}, Linear{"fc2", 84}, Relu{}, Linear{"fc3", spec.output_count}}};
  };
  FEDWATT_CHECK(registry.Register("lenet", describe).ok());
}

}  // namespace fedwatt::internal

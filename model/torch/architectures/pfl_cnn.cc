// The CIFAR-10 network of the pfl-research benchmarks (Granqvist et al. 2024, arXiv 2404.06430): 3x3 convolutions of 32 and 64 channels
// without padding, 2x2 max pooling, dropout, 128 units, dropout; Xavier-uniform weights. 3x32x32 inputs, 10 classes: 1,626,442
// parameters.
//
// Options: hidden_size     units before the output, [1, 65536], 128
//          conv_dropout    rate after pooling, [0, 1), 0.25
//          hidden_dropout  rate after the hidden units, [0, 1), 0.5
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/torch/architecture.h"

namespace fedwatt::internal {

void InstallArchitecture_pfl_cnn(ArchitectureRegistry& registry) {
  auto describe = [](const ArchitectureSpec& spec, OptionReader& options) -> absl::StatusOr<Network> {
    const int64_t hidden = options.Integer("hidden_size", 128, 1, 65536);
    const double conv_dropout = options.Fraction("conv_dropout", 0.25);
    const double hidden_dropout = options.Fraction("hidden_dropout", 0.5);
    return Network{{Conv2d{"conv1", 32, 3}, Relu{}, Conv2d{"conv2", 64, 3}, Relu{}, MaxPool2d{2}, Dropout{conv_dropout}, Flatten{},
                    Linear{"fc1", hidden}, Relu{}, Dropout{hidden_dropout}, Linear{"fc2", spec.output_count}},
                   Initialisation::kXavierUniformWeights};
  };
  FEDWATT_CHECK(registry.Register("pfl_cnn", describe).ok());
}

}  // namespace fedwatt::internal

// Depthwise separable convolutions (Howard et al. 2017, arXiv 1704.04861): a 3x3 kernel a channel, then a 1x1 convolution across channels, which for c channels
// costs about 1/c + 1/9 of the multiply-adds of a 3x3 convolution. One convolution of `channels`, then four separable ones of 2, 4, 8 and 8 times as many, the first
// and the third at stride 2; ReLU after each; the mean of each channel; a linear layer. Without the paper's batch normalisation, whose statistics clients do not share.
//
// Options: channels  of the first convolution, [1, 4096], 16
#include "fedwatt/base/status_macros.h"
#include "absl/strings/str_cat.h"
#include "fedwatt/model/torch/architecture.h"

namespace fedwatt::internal {

void InstallArchitecture_mobile_cnn(ArchitectureRegistry& registry) {
  auto describe = [](const ArchitectureSpec& spec, OptionReader& options) -> absl::StatusOr<Network> {
    const int64_t channels = options.Integer("channels", 16, 1, 4096);
    Network network{{Conv2d{"conv1", channels, 3, 1}, Relu{}}, Initialisation::kHeUniformWeights};
    struct Separable {
      int64_t times, stride;
    };
    int64_t number = 1;
    for (const Separable& block : {Separable{2, 2}, Separable{4, 1}, Separable{8, 2}, Separable{8, 1}}) {
      ++number;
      network.layers.push_back(DepthwiseConv2d{absl::StrCat("depthwise", number), 3, 1, block.stride});
      network.layers.push_back(Relu{});
      network.layers.push_back(Conv2d{absl::StrCat("pointwise", number), block.times * channels, 1, 0});
      network.layers.push_back(Relu{});
    }
    network.layers.push_back(GlobalAveragePool{});
    network.layers.push_back(Linear{"fc", spec.output_count});
    return network;
  };
  FEDWATT_CHECK(registry.Register("mobile_cnn", describe).ok());
}

}  // namespace fedwatt::internal

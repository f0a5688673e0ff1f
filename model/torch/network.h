// A network with its shapes worked out: layout, initial values, channel groups. Free of LibTorch.
#ifndef FEDWATT_MODEL_TORCH_NETWORK_H_
#define FEDWATT_MODEL_TORCH_NETWORK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "fedwatt/model/layout.h"
#include "fedwatt/model/torch/architecture.h"

namespace fedwatt::internal {

struct PlacedLayer {
  Layer layer;
  std::vector<int64_t> input_shape;   // of one example
  std::vector<int64_t> output_shape;
  size_t first_entry = 0;             // of its layout entries, for layers that own some
};

struct PlacedNetwork {
  std::vector<PlacedLayer> layers;
  ParameterLayout layout;
  // Per entry: values are uniform in +-bound, or standard normal where bound is 0.
  std::vector<float> initial_bounds;
  std::vector<ChannelGroup> groups;
  bool takes_tokens = false;
  int64_t peak_values = 0;  // most values one example's activation has between two layers
};

// Finds the architecture, reads its options and places its layers. Errors: as MakeTorchTrainer.
absl::StatusOr<PlacedNetwork> PlaceNetwork(const ArchitectureSpec& spec);

// Drawn from `seed` alone, on any machine.
std::vector<float> InitialValues(const PlacedNetwork& network, uint64_t seed);

// The source of `def forward(self, x)` in evaluation mode.
std::string ForwardSource(const PlacedNetwork& network);

}  // namespace fedwatt::internal

#endif  // FEDWATT_MODEL_TORCH_NETWORK_H_

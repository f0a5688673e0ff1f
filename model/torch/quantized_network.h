// The 8-bit form of a placed network: where activations are rounded, and the source of its forward pass. Free of LibTorch.
#ifndef FEDWATT_MODEL_TORCH_QUANTIZED_NETWORK_H_
#define FEDWATT_MODEL_TORCH_QUANTIZED_NETWORK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "network.h"

namespace fedwatt::internal {

// What a tensor's values lie between; always around 0, so that 0 (padding, ReLU) is exact.
struct ActivationRange {
  float low = 0;
  float high = 0;
};

// value = scale * (code - zero_point), code in [0, 255].
struct Affine {
  double scale = 1;
  int64_t zero_point = 0;
};
Affine AffineOf(ActivationRange range);

// UNIMPLEMENTED, naming the layer, when a layer has no 8-bit form.
absl::Status CheckQuantizable(const PlacedNetwork& network);

// Activations are rounded at sites: the network's input, then the output of each layer with weights, after the ReLU that follows it. Gives, for each
// layer, the site at its output, or 0 where there is none. Only for networks that CheckQuantizable allows.
std::vector<size_t> RoundingSites(const PlacedNetwork& network);
size_t SiteCount(const PlacedNetwork& network);

// Layers with weights, in order.
std::vector<const PlacedLayer*> WeightedLayers(const PlacedNetwork& network);
// Of a layer with weights.
const std::string& NameOf(const PlacedLayer& layer);
// The attribute that holds a layer's packed weight and bias.
std::string PackedName(const PlacedLayer& layer);

// The source of `def forward(self, x)`: float32 in, float32 logits out, 8-bit integers between. `ranges` has one for each site.
std::string QuantizedForwardSource(const PlacedNetwork& network, absl::Span<const ActivationRange> ranges);

}  // namespace fedwatt::internal

#endif  // FEDWATT_MODEL_TORCH_QUANTIZED_NETWORK_H_

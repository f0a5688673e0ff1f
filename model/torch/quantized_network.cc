#include "quantized_network.h"

#include <algorithm>
#include <cmath>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace fedwatt::internal {
namespace {

bool HasWeights(const Layer& layer) { return std::holds_alternative<Linear>(layer) || std::holds_alternative<Conv2d>(layer); }

bool IsRelu(const PlacedNetwork& network, size_t layer) {
  return layer < network.layers.size() && std::holds_alternative<Relu>(network.layers[layer].layer);
}

// What keeps a layer from being computed in integers; null where nothing does.
struct Lacking {
  const char* operator()(const Flatten&) const { return nullptr; }
  const char* operator()(const Linear&) const { return nullptr; }
  const char* operator()(const Conv2d&) const { return nullptr; }
  const char* operator()(const Relu&) const { return nullptr; }
  const char* operator()(const MaxPool2d&) const { return nullptr; }
  const char* operator()(const Dropout&) const { return nullptr; }
  const char* operator()(const DepthwiseConv2d&) const { return "depthwise convolutions"; }
  const char* operator()(const GlobalAveragePool&) const { return "average pooling"; }
  const char* operator()(const Embedding&) const { return "embeddings"; }
  const char* operator()(const Lstm&) const { return "LSTM layers"; }
  const char* operator()(const Gru&) const { return "GRU layers"; }
  const char* operator()(const MinGru&) const { return "minGRU layers"; }
  const char* operator()(const Attention&) const { return "attention"; }
  const char* operator()(const LeakyIntegrateAndFire&) const { return "spiking neurons"; }
  template <typename Other>
  const char* operator()(const Other&) const { return "sequences and time"; }
};

std::string AffineText(ActivationRange range) {
  const Affine affine = AffineOf(range);
  return absl::StrFormat("%.17e, %d", affine.scale, affine.zero_point);
}

}  // namespace

Affine AffineOf(ActivationRange range) {
  const double low = std::min(range.low, 0.0f), high = std::max(range.high, 0.0f);
  const double scale = (high - low) / 255;
  // Below this, kernels that divide by it overflow; a tensor that is 0 throughout has no range at all.
  if (!(scale > 1e-30)) return Affine{};
  return Affine{scale, std::clamp<int64_t>(std::llround(-low / scale), 0, 255)};
}

absl::Status CheckQuantizable(const PlacedNetwork& network) {
  for (const PlacedLayer& placed : network.layers) {
    const char* lacking = std::visit(Lacking(), placed.layer);
    if (lacking != nullptr) return absl::UnimplementedError(absl::StrCat("no int8 form: ", lacking, " are kept in float32 only"));
  }
  return absl::OkStatus();
}

std::vector<size_t> RoundingSites(const PlacedNetwork& network) {
  std::vector<size_t> sites(network.layers.size(), 0);
  size_t next = 1;
  for (size_t i = 0; i < network.layers.size(); ++i) {
    if (HasWeights(network.layers[i].layer)) sites[IsRelu(network, i + 1) ? i + 1 : i] = next++;
  }
  return sites;
}

size_t SiteCount(const PlacedNetwork& network) { return 1 + WeightedLayers(network).size(); }

std::vector<const PlacedLayer*> WeightedLayers(const PlacedNetwork& network) {
  std::vector<const PlacedLayer*> weighted;
  for (const PlacedLayer& placed : network.layers) {
    if (HasWeights(placed.layer)) weighted.push_back(&placed);
  }
  return weighted;
}

const std::string& NameOf(const PlacedLayer& layer) {
  return std::holds_alternative<Linear>(layer.layer) ? std::get<Linear>(layer.layer).name : std::get<Conv2d>(layer.layer).name;
}

std::string PackedName(const PlacedLayer& layer) { return absl::StrCat(NameOf(layer), "_packed"); }

std::string QuantizedForwardSource(const PlacedNetwork& network, absl::Span<const ActivationRange> ranges) {
  const std::vector<size_t> sites = RoundingSites(network);
  // 13 is torch.quint8.
  std::string source = absl::StrCat("def forward(self, x):\n    x = torch.quantize_per_tensor(x, ", AffineText(ranges[0]), ", 13)\n");
  for (size_t i = 0; i < network.layers.size(); ++i) {
    const Layer& layer = network.layers[i].layer;
    std::string line;
    if (HasWeights(layer)) {
      const bool relu = IsRelu(network, i + 1);
      line = absl::StrCat("quantized.", std::holds_alternative<Linear>(layer) ? "linear" : "conv2d", relu ? "_relu" : "", "(x, self.", PackedName(network.layers[i]), ", ",
                          AffineText(ranges[sites[relu ? i + 1 : i]]), ")");
    } else if (std::holds_alternative<Relu>(layer)) {
      if (sites[i] == 0) line = "torch.relu(x)";  // otherwise part of the layer before
    } else if (std::holds_alternative<Flatten>(layer)) {
      line = "torch.flatten(x, 1)";
    } else if (const auto* pool = std::get_if<MaxPool2d>(&layer)) {
      line = absl::StrFormat("torch.max_pool2d(x, [%1$d, %1$d], [%1$d, %1$d], [0, 0], [1, 1], False)", pool->size);
    }
    if (!line.empty()) absl::StrAppend(&source, "    x = ", line, "\n");
  }
  return source + "    return torch.dequantize(x)\n";
}

}  // namespace fedwatt::internal

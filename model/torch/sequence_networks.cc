#include "sequence_networks.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt::internal {

absl::StatusOr<std::vector<Layer>> EmbedSequence(const ArchitectureSpec& spec, int64_t width) {
  if (spec.input_shape.size() > 3) {
    return absl::InvalidArgumentError(absl::StrCat("architecture '", spec.name, "' needs model.input_shape {length} (tokens), {length, inputs} or {channels, height, width}, got {",
                                                   absl::StrJoin(spec.input_shape, ", "), "}"));
  }
  if (spec.input_shape.size() == 1) return std::vector<Layer>{Embedding{"embedding", width}};
  return std::vector<Layer>{Rows{}, Linear{"embedding", width}};
}

void AppendMixing(Layer mixing, Linear out, bool last, std::vector<Layer>& layers) {
  layers.insert(layers.end(), {ResidualBegin{}, LayerNorm{}, std::move(mixing)});
  if (last) layers.push_back(LastPosition{});
  layers.insert(layers.end(), {std::move(out), ResidualEnd{}});
}

void AppendFeedForward(const std::string& name, int64_t width, int64_t hidden, std::vector<Layer>& layers) {
  const std::vector<Layer> half = {ResidualBegin{}, LayerNorm{}, Linear{name + "_in", hidden}, Relu{}, Linear{name + "_out", width}, ResidualEnd{}};
  layers.insert(layers.end(), half.begin(), half.end());
}

absl::StatusOr<Network> Transformer(const ArchitectureSpec& spec, OptionReader& options, const AttentionKernel& kernel) {
  const int64_t width = options.Integer("width", 64, 2, 65536), heads = options.Integer("heads", 4, 1, 1024), blocks = options.Integer("blocks", 2, 1, 256);
  const int64_t hidden = options.Integer("hidden_size", 4 * width, 1, 262144);
  if (width % heads != 0) {
    return absl::InvalidArgumentError(absl::StrCat("architecture '", spec.name, "': option width must be a multiple of heads, got ", width, " and ", heads));
  }
  Network network;
  network.initialisation = Initialisation::kXavierUniformWeights;
  FEDWATT_ASSIGN_OR_RETURN(network.layers, EmbedSequence(spec, width));
  network.layers.push_back(SinusoidalPositions{});
  for (int64_t block = 1; block <= blocks; ++block) {
    const std::string number = absl::StrCat(block);
    AppendMixing(Attention{"attention" + number, heads, width / heads, kernel}, Linear{"mix" + number, width}, /*last=*/block == blocks, network.layers);
    AppendFeedForward("forward" + number, width, hidden, network.layers);
  }
  network.layers.insert(network.layers.end(), {LayerNorm{}, Linear{"fc", spec.output_count}});
  return network;
}

}  // namespace fedwatt::internal

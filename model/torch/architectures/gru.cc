// Two GRU layers (Cho et al. 2014, arXiv 1406.1078, in PyTorch's form) and a linear layer on the last position. Each position waits for the one before. Takes
// tokens, real vectors or an image's rows; channel groups: the embedding and the units of each layer.
//
// Options: width        of the embedding, [1, 65536], 64
//          hidden_size  units of each layer, [1, 65536], 128
#include "fedwatt/base/status_macros.h"
#include "sequence_networks.h"

namespace fedwatt::internal {

void InstallArchitecture_gru(ArchitectureRegistry& registry) {
  auto describe = [](const ArchitectureSpec& spec, OptionReader& options) -> absl::StatusOr<Network> {
    const int64_t width = options.Integer("width", 64, 1, 65536), hidden = options.Integer("hidden_size", 128, 1, 65536);
    Network network;
    FEDWATT_ASSIGN_OR_RETURN(network.layers, EmbedSequence(spec, width));
    const std::vector<Layer> rest = {Gru{"gru1", hidden}, Gru{"gru2", hidden}, LastPosition{}, Linear{"fc", spec.output_count}};
    network.layers.insert(network.layers.end(), rest.begin(), rest.end());
    return network;
  };
  FEDWATT_CHECK(registry.Register("gru", describe).ok());
}

}  // namespace fedwatt::internal

// minGRU (Feng et al. 2024, arXiv 2410.01201): a GRU whose gates read the input only. So all positions share one matrix product, and what is left to do position
// by position is a scan of a few operations a value; to run, the delivered model has a recurrent step. Blocks as in the paper's language model, without its
// convolution: norm, minGRU, linear, then norm, two linear layers; both halves added to what they read. A linear layer reads the last position. Takes
// tokens, real vectors or an image's rows; channel groups: the units of each minGRU and each feed-forward half.
//
// Options: width         of what flows from block to block, [1, 65536], 64
//          hidden_size   units of each minGRU, [1, 65536], 128
//          forward_size  units of the feed-forward half, [1, 262144], 128
//          blocks        [1, 256], 2
#include "fedwatt/base/status_macros.h"
#include "absl/strings/str_cat.h"
#include "sequence_networks.h"

namespace fedwatt::internal {

void InstallArchitecture_min_gru(ArchitectureRegistry& registry) {
  auto describe = [](const ArchitectureSpec& spec, OptionReader& options) -> absl::StatusOr<Network> {
    const int64_t width = options.Integer("width", 64, 1, 65536), hidden = options.Integer("hidden_size", 128, 1, 65536);
    const int64_t forward = options.Integer("forward_size", 128, 1, 262144), blocks = options.Integer("blocks", 2, 1, 256);
    Network network;
    network.initialisation = Initialisation::kXavierUniformWeights;
    FEDWATT_ASSIGN_OR_RETURN(network.layers, EmbedSequence(spec, width));
    for (int64_t block = 1; block <= blocks; ++block) {
      const std::string number = absl::StrCat(block);
      AppendMixing(MinGru{"min_gru" + number, hidden}, Linear{"mix" + number, width}, /*last=*/block == blocks, network.layers);
      AppendFeedForward("forward" + number, width, forward, network.layers);
    }
    network.layers.insert(network.layers.end(), {LayerNorm{}, Linear{"fc", spec.output_count}});
    return network;
  };
  FEDWATT_CHECK(registry.Register("min_gru", describe).ok());
}

}  // namespace fedwatt::internal

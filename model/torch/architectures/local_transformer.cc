// A transformer that looks back `window` positions, and at the first ones of the sequence (after Beltagy et al. 2020, arXiv 2004.05150, causal). Blocks are
// gathered, not masked, so what is out of sight costs nothing: processor time and memory linear in the length. With two blocks the last position reaches back
// two windows. See Transformer in sequence_networks.h for blocks and the other options.
//
// Options: window         positions that one sees, its own included, [1, 65536], 64
//          global_tokens  first positions of the sequence, which all see, [0, 1024], 1
#include "fedwatt/base/status_macros.h"
#include "sequence_networks.h"

namespace fedwatt::internal {

void InstallArchitecture_local_transformer(ArchitectureRegistry& registry) {
  auto describe = [](const ArchitectureSpec& spec, OptionReader& options) {
    LocalAttention kernel;
    kernel.window = options.Integer("window", kernel.window, 1, 65536);
    kernel.global_tokens = options.Integer("global_tokens", kernel.global_tokens, 0, 1024);
    return Transformer(spec, options, kernel);
  };
  FEDWATT_CHECK(registry.Register("local_transformer", describe).ok());
}

}  // namespace fedwatt::internal

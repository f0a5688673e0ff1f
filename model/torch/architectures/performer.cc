// A transformer that approximates softmax attention by positive orthogonal random features (FAVOR+, Choromanski et al. 2021, arXiv 2009.14794): processor time
// and memory linear in the length. All members draw the same features, from the seed and from how many rounds the model was trained in, so they are in step
// without a message; nothing of them is sent or averaged. See Transformer in sequence_networks.h for blocks and the other options.
//
// Options: features       of each head, [1, 4096], 64; twice as many, half the variance
//          redraw_rounds  rounds of training after which they are drawn anew, [0, 1000000], 0 = never
//          feature_seed   [0, 2^53], 0
#include "fedwatt/base/status_macros.h"
#include "sequence_networks.h"

namespace fedwatt::internal {

void InstallArchitecture_performer(ArchitectureRegistry& registry) {
  auto describe = [](const ArchitectureSpec& spec, OptionReader& options) {
    RandomFeatureAttention kernel;
    kernel.features = options.Integer("features", kernel.features, 1, 4096);
    kernel.redraw_rounds = options.Integer("redraw_rounds", kernel.redraw_rounds, 0, 1000000);
    kernel.seed = options.Integer("feature_seed", kernel.seed, 0, int64_t{1} << 53);
    return Transformer(spec, options, kernel);
  };
  FEDWATT_CHECK(registry.Register("performer", describe).ok());
}

}  // namespace fedwatt::internal

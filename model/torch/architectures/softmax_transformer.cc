// The transformer that the others are measured against: exact softmax attention (Vaswani et al. 2017, arXiv 1706.03762, eq. 1), causal. Each query is scored
// against all keys before it, so processor time grows with the square of the length. See Transformer in sequence_networks.h for blocks and options.
#include "fedwatt/base/status_macros.h"
#include "sequence_networks.h"

namespace fedwatt::internal {

void InstallArchitecture_softmax_transformer(ArchitectureRegistry& registry) {
  auto describe = [](const ArchitectureSpec& spec, OptionReader& options) { return Transformer(spec, options, SoftmaxAttention{}); };
  FEDWATT_CHECK(registry.Register("softmax_transformer", describe).ok());
}

}  // namespace fedwatt::internal

// A transformer whose attention is a running sum (Katharopoulos et al. 2020, arXiv 2006.16236, eq. 7, elu + 1): processor time and memory linear in the length;
// the delivered model has a recurrent step of constant memory. See Transformer in sequence_networks.h for blocks and options.
#include "fedwatt/base/status_macros.h"
#include "sequence_networks.h"

namespace fedwatt::internal {

void InstallArchitecture_linear_transformer(ArchitectureRegistry& registry) {
  auto describe = [](const ArchitectureSpec& spec, OptionReader& options) { return Transformer(spec, options, LinearAttention{}); };
  FEDWATT_CHECK(registry.Register("linear_transformer", describe).ok());
}

}  // namespace fedwatt::internal

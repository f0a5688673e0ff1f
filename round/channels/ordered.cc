// The leading channels, so that a narrower model lies within each wider one (Horvath et al. 2021, FjORD, arXiv 2102.13451; Diao et al. 2021, HeteroFL,
// arXiv 2010.01264).
#include "fedwatt/base/status_macros.h"
#include "fedwatt/round/fitting.h"

namespace fedwatt::internal {

void InstallChannelPolicy_ordered(ChannelPolicyRegistry& registry) {
  ChannelPolicy policy{.moves = false, .choose = [](int64_t, int64_t count, int64_t) { return std::vector<ChannelRange>{{0, count}}; }};
  FEDWATT_CHECK(registry.Register("ordered", policy).ok());
}

}  // namespace fedwatt::internal

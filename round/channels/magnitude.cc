// The channels with the strongest signal path: the length of the weights that make a channel times the length of those that read it, which does not change
// when a layer before a ReLU is scaled up and the one behind it down (after Li et al. 2017, arXiv 1608.08710, who look at the making weights only).
#include <cmath>

#include "fedwatt/base/status_macros.h"
#include "fedwatt/round/fitting.h"

namespace fedwatt::internal {

void InstallChannelPolicy_magnitude(ChannelPolicyRegistry& registry) {
  ChannelPolicy policy{.moves = true, .importance = [](const ChannelScore& channel) { return std::sqrt(channel.made * channel.read); }};
  FEDWATT_CHECK(registry.Register("magnitude", policy).ok());
}

}  // namespace fedwatt::internal

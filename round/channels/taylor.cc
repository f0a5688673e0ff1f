// The channels whose loss would be felt most: to first order dropping a channel changes the loss by the sum of weight times gradient over the weights that make
// it, squared here so that signs play no part (Molchanov et al. 2019, arXiv 1906.10771, equation 8). The gradient is the mean of the updates that clients
// sent, as compressed as they come; see ChannelScore::sensitivity.
#include "fedwatt/base/status_macros.h"
#include "fedwatt/round/fitting.h"

namespace fedwatt::internal {

void InstallChannelPolicy_taylor(ChannelPolicyRegistry& registry) {
  ChannelPolicy policy{.moves = true, .importance = [](const ChannelScore& channel) { return channel.sensitivity; }};
  FEDWATT_CHECK(registry.Register("taylor", policy).ok());
}

}  // namespace fedwatt::internal

// A window that advances by one channel a round and wraps around, so that all channels are trained equally often (Alam et al. 2022, FedRolex,
// arXiv 2212.01548, algorithm 1).
#include "fedwatt/base/status_macros.h"
#include "fedwatt/round/fitting.h"

namespace fedwatt::internal {

void InstallChannelPolicy_rolling(ChannelPolicyRegistry& registry) {
  ChannelPolicy policy{.moves = true, .choose = [](int64_t size, int64_t count, int64_t round) {
                         const int64_t begin = (round - 1) % size, end = begin + count;
                         if (end <= size) return std::vector<ChannelRange>{{begin, end}};
                         if (count == size) return std::vector<ChannelRange>{{0, size}};
                         return std::vector<ChannelRange>{{0, end - size}, {begin, size}};
                       }};
  FEDWATT_CHECK(registry.Register("rolling", policy).ok());
}

}  // namespace fedwatt::internal

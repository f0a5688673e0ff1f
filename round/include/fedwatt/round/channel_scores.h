// How much each channel of a model matters, as far as the coordinator can tell from the model and from what clients' updates did to it.
#ifndef FEDWATT_ROUND_CHANNEL_SCORES_H_
#define FEDWATT_ROUND_CHANNEL_SCORES_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "fedwatt/model/channels.h"
#include "fedwatt/model/layout.h"

namespace fedwatt {

// What is known of one channel. Sums run over its coordinates; those by which other entries read it are told apart from those that make it.
struct ChannelScore {
  double made = 0;       // sum of w^2 where it is made; 1 in groups that are only read (single weights)
  double read = 0;       // sum of w^2 where it is read; 1 in groups whose readers are not known
  double sensitivity = 0;  // mean over recent rounds of (sum of w * d where it is made)^2, d the round's mean delta: what dropping it would do to the loss, to first order
  double pull = 0;       // sum of d^2 where it is read, in the last round: how strongly updates ask for more of it

  // Behind `sensitivity`: sums that forget, and how many rounds they stand for.
  double sensitivity_sum = 0, round_weight = 0;
};
// By group, a score for each channel.
using ChannelScores = std::map<std::string, std::vector<ChannelScore>>;

// Brings `scores` up to date with a round: `model` is what clients started from, `delta` the mean of their updates. Both have layout.value_count() values; an
// empty `delta` leaves sensitivity and pull as they are. Groups must suit the layout; scores of other groups, or of another size, are forgotten.
// Sensitivity is Molchanov et al. 2019 (arXiv 1906.10771, equation 8) with the federation's mean delta for the gradient. O(values).
void ScoreChannels(const ParameterLayout& layout, absl::Span<const ChannelGroup> groups, absl::Span<const float> model, absl::Span<const float> delta,
                   ChannelScores& scores);

// Sets to zero what other entries read of some channels, which ascend: the model computes as if they were not there. `model` has layout.value_count() values.
void ZeroReaders(const ParameterLayout& layout, const ChannelGroup& group, absl::Span<const int64_t> channels, absl::Span<float> model);

}  // namespace fedwatt

#endif  // FEDWATT_ROUND_CHANNEL_SCORES_H_

// Where a narrower model lies in the whole one: pure index arithmetic, no training engine.
#ifndef FEDWATT_MODEL_SUBMODEL_H_
#define FEDWATT_MODEL_SUBMODEL_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "fedwatt/model/channels.h"
#include "fedwatt/model/client_update.h"
#include "fedwatt/model/layout.h"

namespace fedwatt {

// The model that is left of a whole one when some channels are dropped. Axes keep their order, so the narrow model's k-th value is the
// k-th covered coordinate of the whole. Immutable; thread-compatible.
class Submodel {
 public:
  // Errors: INVALID_ARGUMENT  a group that `groups` lacks; ranges that are empty, out of order, touching or outside the group; groups that
  //                           do not suit the layout
  static absl::StatusOr<Submodel> Create(ParameterLayout whole, absl::Span<const ChannelGroup> groups, KeptChannels kept);

  const ParameterLayout& whole() const { return whole_; }
  const ParameterLayout& layout() const { return layout_; }
  const KeptChannels& kept() const { return kept_; }
  // Coordinates of the whole model that the narrow one has: sorted, disjoint, not touching.
  absl::Span<const CoordinateRange> covered() const { return covered_; }

  // Lengths are those of whole() and layout().
  void Gather(absl::Span<const float> whole, absl::Span<float> narrow) const;
  std::vector<float> Gather(absl::Span<const float> whole) const;
  // Leaves alone what is not covered.
  void Scatter(absl::Span<const float> narrow, absl::Span<float> whole) const;
  // Zeros where it is not covered.
  std::vector<float> Scatter(absl::Span<const float> narrow) const;
  // Turns coordinates of the narrow model into those of the whole. Each must be less than layout().value_count().
  void ToWhole(absl::Span<uint32_t> indices) const;

 private:
  Submodel() = default;

  ParameterLayout whole_, layout_;
  KeptChannels kept_;
  std::vector<CoordinateRange> covered_;
  std::vector<int64_t> starts_;  // of each covered range, in the narrow model
};

// Single weights as channels: for each parameter of two dimensions or more, "conv1.weight", a group "conv1.weight[]" whose channels are its values, in order.
// Other entries, such as biases, belong to none.
std::vector<ChannelGroup> WeightGroups(const ParameterLayout& layout);
// Whether `kept` speaks of single weights.
bool KeepsWeights(const KeptChannels& kept);

// The groups that are left of `groups` in a model that keeps the channels `kept` of them.
std::vector<ChannelGroup> NarrowGroups(absl::Span<const ChannelGroup> groups, const KeptChannels& kept);
// What a narrower model keeps of the whole that keeps the channels `inner` of a model that itself keeps `outer` of the whole's `groups`. Both must suit them.
KeptChannels KeptOfKept(absl::Span<const ChannelGroup> groups, const KeptChannels& outer, const KeptChannels& inner);
// The channels as ranges; `channels` in order, none twice.
std::vector<ChannelRange> ToRanges(absl::Span<const int64_t> channels);
// And back: all of the group's where `kept` does not name it.
std::vector<int64_t> ChannelsOf(const ChannelGroup& group, const KeptChannels& kept);

}  // namespace fedwatt

#endif  // FEDWATT_MODEL_SUBMODEL_H_

// Which channel each index of a tensor's dimensions carries, and which channels can be dropped only together: the bookkeeping under
// channel_rules. No training engine.
#ifndef FEDWATT_MODEL_TORCH_CHANNEL_FLOW_H_
#define FEDWATT_MODEL_TORCH_CHANNEL_FLOW_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fedwatt/model/channels.h"
#include "fedwatt/model/layout.h"

namespace fedwatt::internal {

// What index i of one dimension carries: a channel, or kInert, which can't be dropped (batch, positions, kernel taps). An empty axis is
// inert throughout.
using Channel = int32_t;
inline constexpr Channel kInert = -1;
using ChannelsOfAxis = std::vector<Channel>;

// What flows through one value of a graph. Tensors have one axis a dimension; lists and tuples have items.
struct Flow {
  std::vector<ChannelsOfAxis> axes;
  std::vector<std::shared_ptr<Flow>> items;
  std::string path;         // of a module, a parameter or a buffer: its dotted name
  bool from_sizes = false;  // a number computed from shapes of tensors: right by itself in a narrower copy
};
using FlowPtr = std::shared_ptr<Flow>;

// Union-find over the indices of all axes of all entries. Owned by one thread.
class ChannelUnion {
 public:
  // New channels for the indices of one axis of an entry; `size` of them.
  ChannelsOfAxis Track(const std::string& entry, int32_t axis, int64_t size);

  // The same channel from now on; one that meets kInert is pinned. `why` names the operator.
  void Join(Channel a, Channel b, const std::string& why);
  // Index by index; where either axis is inert, or they differ in length, the other is pinned.
  void Join(const ChannelsOfAxis& a, const ChannelsOfAxis& b, const std::string& why);
  // Each run of `unit` neighbours is dropped whole.
  void JoinRuns(const ChannelsOfAxis& axis, int64_t unit, const std::string& why);
  // Can never be dropped. The first reason is kept.
  void Pin(const ChannelsOfAxis& axis, const std::string& why);
  // The representative of a channel.
  Channel Find(Channel channel) const;

  struct Found {
    std::vector<ChannelGroup> groups;
    std::vector<WholeChannels> whole;
    // For each channel by representative: its group and place there; absent ones are kept whole.
    struct Place {
      int32_t group = -1;
      int64_t channel = 0;
    };
    std::vector<Place> places;  // by representative
  };
  // The groups that follow: channels tied to the same axes of the same entries, in the order of `layout`. A group is named after the first entry
  // along whose first axis its channels lie, less the last component ("layer1.0.conv1" of "layer1.0.conv1.weight").
  Found Groups(const ParameterLayout& layout) const;

 private:
  struct Tracked {
    std::string entry;
    int32_t axis;
    ChannelsOfAxis channels;
  };
  Channel New();
  void PinOne(Channel channel, const std::string& why);

  std::vector<Tracked> tracked_;
  mutable std::vector<Channel> parents_;
  std::vector<int32_t> pinned_;  // index into reasons_, -1 while it may be dropped; by representative
  std::vector<std::string> reasons_;
};

}  // namespace fedwatt::internal

#endif  // FEDWATT_MODEL_TORCH_CHANNEL_FLOW_H_

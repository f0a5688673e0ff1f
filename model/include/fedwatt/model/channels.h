// Which values of a model shrink together, and which of them a narrower copy keeps.
#ifndef FEDWATT_MODEL_CHANNELS_H_
#define FEDWATT_MODEL_CHANNELS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace fedwatt {

// A part of one axis of one entry along which a group's channels lie: index begin + (block * group.size + channel) * repeat + r belongs to
// `channel`, for every block in [0, blocks) and r in [0, repeat). Where outputs are concatenated, an axis has several such parts, of one group or of
// several; they do not overlap, and what no group claims is kept.
struct ChannelAxis {
  // The entry seen as one row of values, whatever its shape: what is left of it is such a row.
  static constexpr int32_t kFlat = -1;

  std::string entry;
  int32_t axis = 0;    // of the entry, or kFlat
  int64_t repeat = 1;  // positions a flattened channel occupies (H * W)
  int64_t blocks = 1;  // stacked copies (the four gates of an LSTM)
  int64_t begin = 0;   // >= 0
  bool reads = false;  // the entry takes the channels in, rather than makes them: with zeros there a channel changes nothing
  friend bool operator==(const ChannelAxis&, const ChannelAxis&) = default;
};

// Channels that can be kept or dropped only together; the name is the producing layer's. Inputs and outputs of the whole
// network belong to no group.
struct ChannelGroup {
  std::string name;
  int64_t size = 0;
  std::vector<ChannelAxis> axes;
  friend bool operator==(const ChannelGroup&, const ChannelGroup&) = default;
};

// Channels that belong together but can't be dropped, and why: for people.
struct WholeChannels {
  std::string name;  // as ChannelGroup::name
  int64_t size = 0;
  std::string reason;
  friend bool operator==(const WholeChannels&, const WholeChannels&) = default;
};

// The channels [begin, end) of a group.
struct ChannelRange {
  int64_t begin = 0;
  int64_t end = 0;
  friend auto operator<=>(const ChannelRange&, const ChannelRange&) = default;
};

// The channels that a narrower model keeps, by group: ranges in order, neither touching nor empty. A group that is not named is kept
// whole; an empty map is the whole model.
using KeptChannels = std::map<std::string, std::vector<ChannelRange>>;

}  // namespace fedwatt

#endif  // FEDWATT_MODEL_CHANNELS_H_

#include "channel_flow.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"

namespace fedwatt::internal {
namespace {

bool IsInert(const ChannelsOfAxis& axis) { return axis.empty(); }

std::string LayerOf(const std::string& entry) {
  const size_t dot = entry.rfind('.');
  return dot == std::string::npos ? entry : entry.substr(0, dot);
}

}  // namespace

Channel ChannelUnion::New() {
  parents_.push_back(static_cast<Channel>(parents_.size()));
  pinned_.push_back(-1);
  return parents_.back();
}

ChannelsOfAxis ChannelUnion::Track(const std::string& entry, int32_t axis, int64_t size) {
  ChannelsOfAxis channels;
  for (int64_t i = 0; i < size; ++i) channels.push_back(New());
  tracked_.push_back({entry, axis, channels});
  return channels;
}

Channel ChannelUnion::Find(Channel channel) const {
  if (channel == kInert) return kInert;
  Channel& parent = parents_[static_cast<size_t>(channel)];
  if (parent != channel) parent = Find(parent);
  return parent;
}

void ChannelUnion::PinOne(Channel channel, const std::string& why) {
  if (channel == kInert) return;
  int32_t& pinned = pinned_[static_cast<size_t>(Find(channel))];
  if (pinned >= 0) return;
  if (reasons_.empty() || reasons_.back() != why) reasons_.push_back(why);
  pinned = static_cast<int32_t>(reasons_.size()) - 1;
}

void ChannelUnion::Join(Channel a, Channel b, const std::string& why) {
  if (a == kInert || b == kInert) return PinOne(a == kInert ? b : a, why);
  a = Find(a), b = Find(b);
  if (a == b) return;
  // The lower one represents both, so that a group is told apart by its first channel.
  if (b < a) std::swap(a, b);
  parents_[static_cast<size_t>(b)] = a;
  int32_t& kept = pinned_[static_cast<size_t>(a)];
  if (kept < 0) kept = pinned_[static_cast<size_t>(b)];
}

void ChannelUnion::Join(const ChannelsOfAxis& a, const ChannelsOfAxis& b, const std::string& why) {
  if (IsInert(a) || IsInert(b) || a.size() != b.size()) {
    Pin(a, why);
    Pin(b, why);
    return;
  }
  for (size_t i = 0; i < a.size(); ++i) Join(a[i], b[i], why);
}

void ChannelUnion::JoinRuns(const ChannelsOfAxis& axis, int64_t unit, const std::string& why) {
  for (size_t i = 0; i < axis.size(); ++i) Join(axis[i - i % static_cast<size_t>(unit)], axis[i], why);
}

void ChannelUnion::Pin(const ChannelsOfAxis& axis, const std::string& why) {
  for (const Channel channel : axis) PinOne(channel, why);
}

ChannelUnion::Found ChannelUnion::Groups(const ParameterLayout& layout) const {
  std::map<std::string, size_t> order;
  for (size_t i = 0; i < layout.entries().size(); ++i) order[layout.entries()[i].name] = i;
  std::vector<const Tracked*> tracked;
  for (const Tracked& one : tracked_) tracked.push_back(&one);
  std::stable_sort(tracked.begin(), tracked.end(), [&](const Tracked* a, const Tracked* b) {
    return std::pair(order[a->entry], a->axis) < std::pair(order[b->entry], b->axis);
  });

  // Where each channel lies: axes by their place in `tracked`, once for each index.
  std::map<Channel, std::vector<int32_t>> lies;
  std::vector<Channel> first_seen;
  for (size_t t = 0; t < tracked.size(); ++t) {
    for (const Channel channel : tracked[t]->channels) {
      std::vector<int32_t>& axes = lies[Find(channel)];
      if (axes.empty()) first_seen.push_back(Find(channel));
      axes.push_back(static_cast<int32_t>(t));
    }
  }
  // Channels that lie along the same axes, and share their fate, are one group; channels in the order in which they are met.
  std::map<std::pair<std::vector<int32_t>, std::string>, std::vector<Channel>> alike;
  std::vector<std::pair<std::vector<int32_t>, std::string>> signatures;
  for (const Channel channel : first_seen) {
    const std::vector<int32_t>& axes = lies[channel];
    const int32_t pinned = pinned_[static_cast<size_t>(channel)];
    // Nothing ties it to another value: kernel taps, or a layer that nothing reads.
    if (axes.size() < 2) continue;
    std::pair signature(axes, pinned < 0 ? std::string() : reasons_[static_cast<size_t>(pinned)]);
    std::vector<Channel>& members = alike[signature];
    if (members.empty()) signatures.push_back(std::move(signature));
    members.push_back(channel);
  }

  Found found;
  found.places.resize(parents_.size());
  std::set<std::string> names;
  for (const auto& signature : signatures) {
    const std::vector<Channel>& members = alike[signature];
    const auto& [axes, reason] = signature;
    auto producer = std::find_if(axes.begin(), axes.end(), [&](int32_t t) { return tracked[static_cast<size_t>(t)]->axis == 0; });
    const std::string layer = LayerOf(tracked[static_cast<size_t>(producer == axes.end() ? axes[0] : *producer)]->entry);
    ChannelGroup group{layer, static_cast<int64_t>(members.size()), {}};
    for (int i = 2; names.contains(group.name); ++i) group.name = absl::StrCat(layer, "#", i);
    const auto leave_whole = [&](const std::string& why) {
      if (producer == axes.end()) return;
      const ChannelsOfAxis& written = tracked[static_cast<size_t>(*producer)]->channels;
      const auto is_member = [&](Channel channel) { return std::find(members.begin(), members.end(), Find(channel)) != members.end(); };
      found.whole.push_back({layer, std::count_if(written.begin(), written.end(), is_member), why});
    };
    if (!reason.empty()) {
      leave_whole(reason);
      continue;
    }
    if (members.size() == 1) {
      leave_whole("its channels can be dropped only all together");
      continue;
    }
    std::map<Channel, int64_t> place;
    for (size_t i = 0; i < members.size(); ++i) place[members[i]] = static_cast<int64_t>(i);
    // Each axis must hold the channels in order, each in one run of the same length; several times over is fine.
    bool regular = true;
    for (size_t a = 0; a < axes.size() && regular; ++a) {
      if (a > 0 && axes[a] == axes[a - 1]) continue;
      const Tracked& axis = *tracked[static_cast<size_t>(axes[a])];
      const int64_t length = static_cast<int64_t>(axis.channels.size());
      const auto place_at = [&](int64_t i) {
        auto it = i < length ? place.find(Find(axis.channels[static_cast<size_t>(i)])) : place.end();
        return it == place.end() ? -1 : it->second;
      };
      for (int64_t begin = 0; begin < length && regular;) {
        if (place_at(begin) < 0) {
          ++begin;
          continue;
        }
        int64_t repeat = 0;
        while (place_at(begin + repeat) == 0) ++repeat;
        const int64_t end = begin + group.size * repeat;
        for (int64_t i = begin; i < end && regular; ++i) regular = place_at(i) == (i - begin) / repeat;
        regular = regular && repeat > 0;
        group.axes.push_back({axis.entry, axis.axis, repeat, 1, begin});
        begin = end;
      }
    }
    if (!regular) {
      leave_whole("its channels lie in no regular order");
      continue;
    }
    names.insert(group.name);
    for (const auto& [channel, i] : place) found.places[static_cast<size_t>(channel)] = {static_cast<int32_t>(found.groups.size()), i};
    found.groups.push_back(std::move(group));
  }
  return found;
}

}  // namespace fedwatt::internal

#include "fedwatt/round/channel_scores.h"

#include <algorithm>

#include "fedwatt/base/status_macros.h"

namespace fedwatt {
namespace {

// What a round's sensitivity weighs in the next; about the last five rounds count.
constexpr double kMemory = 0.8;

// Calls visit(channel, first, count) for the runs of coordinates in which a channel lies along an axis.
template <typename Visit>
void ForEachRun(const LayoutEntry& entry, int64_t offset, const ChannelAxis& axis, int64_t size, Visit visit) {
  int64_t before = 1, after = 1, length = entry.element_count();
  for (size_t i = 0; i < entry.shape.size() && axis.axis != ChannelAxis::kFlat; ++i) {
    if (static_cast<int32_t>(i) < axis.axis) before *= entry.shape[i];
    if (static_cast<int32_t>(i) > axis.axis) after *= entry.shape[i];
    if (static_cast<int32_t>(i) == axis.axis) length = entry.shape[i];
  }
  const int64_t run = axis.repeat * after;
  for (int64_t i = 0; i < before; ++i) {
    for (int64_t block = 0; block < axis.blocks; ++block) {
      for (int64_t channel = 0; channel < size; ++channel) {
        const int64_t first = offset + (i * length + axis.begin + (block * size + channel) * axis.repeat) * after;
        visit(static_cast<size_t>(channel), static_cast<size_t>(first), static_cast<size_t>(run));
      }
    }
  }
}

}  // namespace

void ZeroReaders(const ParameterLayout& layout, const ChannelGroup& group, absl::Span<const int64_t> channels, absl::Span<float> model) {
  for (const ChannelAxis& axis : group.axes) {
    if (!axis.reads) continue;
    for (size_t i = 0; i < layout.entries().size(); ++i) {
      if (layout.entries()[i].name != axis.entry) continue;
      ForEachRun(layout.entries()[i], layout.offset(i), axis, group.size, [&](size_t of, size_t first, size_t count) {
        if (std::binary_search(channels.begin(), channels.end(), static_cast<int64_t>(of))) std::fill_n(model.begin() + static_cast<int64_t>(first), count, 0.0f);
      });
    }
  }
}

void ScoreChannels(const ParameterLayout& layout, absl::Span<const ChannelGroup> groups, absl::Span<const float> model, absl::Span<const float> delta,
                   ChannelScores& scores) {
  std::map<std::string, size_t> entries;
  for (size_t i = 0; i < layout.entries().size(); ++i) entries[layout.entries()[i].name] = i;
  ChannelScores updated;
  for (const ChannelGroup& group : groups) {
    std::vector<ChannelScore>& channels = updated[group.name];
    if (auto known = scores.find(group.name); known != scores.end() && static_cast<int64_t>(known->second.size()) == group.size) {
      channels = std::move(known->second);
    }
    channels.resize(static_cast<size_t>(group.size));
    std::vector<double> toward(channels.size());  // sum of w * d where it is made, or read if nothing else is known
    const bool is_read = std::any_of(group.axes.begin(), group.axes.end(), [](const ChannelAxis& axis) { return axis.reads; });
    const bool is_made = std::any_of(group.axes.begin(), group.axes.end(), [](const ChannelAxis& axis) { return !axis.reads; });
    for (ChannelScore& channel : channels) {
      channel.made = is_made ? 0 : 1;
      channel.read = is_read ? 0 : 1;
      if (!delta.empty()) channel.pull = 0;
    }
    for (const ChannelAxis& axis : group.axes) {
      const auto at = entries.find(axis.entry);
      FEDWATT_CHECK(at != entries.end());
      ForEachRun(layout.entries()[at->second], layout.offset(at->second), axis, group.size, [&](size_t channel, size_t first, size_t count) {
        double square = 0, product = 0, moved = 0;
        for (size_t i = first; i < first + count; ++i) square += static_cast<double>(model[i]) * model[i];
        for (size_t i = first; i < first + count && !delta.empty(); ++i) {
          product += static_cast<double>(model[i]) * delta[i];
          moved += static_cast<double>(delta[i]) * delta[i];
        }
        if (axis.reads) {
          channels[channel].read += square;
          channels[channel].pull += moved;
        } else {
          channels[channel].made += square;
        }
        if (!axis.reads || !is_made) toward[channel] += product;
      });
    }
    for (size_t i = 0; i < channels.size() && !delta.empty(); ++i) {
      ChannelScore& channel = channels[i];
      channel.sensitivity_sum = kMemory * channel.sensitivity_sum + toward[i] * toward[i];
      channel.round_weight = kMemory * channel.round_weight + 1;
      channel.sensitivity = channel.sensitivity_sum / channel.round_weight;
    }
  }
  scores = std::move(updated);
}

}  // namespace fedwatt

#include "fedwatt/model/submodel.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "fedwatt/base/nearest.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt {
namespace {

absl::Status CheckKept(const ChannelGroup& group, const std::vector<ChannelRange>& ranges) {
  if (ranges.empty()) return absl::InvalidArgumentError(absl::StrCat("channels of '", group.name, "': none kept, expected at least one"));
  int64_t last = -1;
  for (const ChannelRange& range : ranges) {
    // Ranges that touch would be one, so that equal sets have equal spellings.
    if (range.begin <= last || range.end <= range.begin || range.end > group.size) {
      return absl::InvalidArgumentError(absl::StrCat("channels of '", group.name, "': range [", range.begin, ", ", range.end, ") after ", last,
                                                     ", expected ranges in order that neither touch nor leave [0, ", group.size, ")"));
    }
    last = range.end;
  }
  return absl::OkStatus();
}

absl::Status DoesNotSuit(const std::string& group, const ChannelAxis& axis) {
  return absl::InvalidArgumentError(absl::StrCat("channels of '", group, "': axis ", axis.axis, " of '", axis.entry, "' does not suit the layout"));
}

// What is kept of an entry, axis by axis; an axis without ranges is kept whole.
using AxisRanges = std::vector<std::vector<CoordinateRange>>;

void Append(int64_t begin, int64_t end, std::vector<CoordinateRange>& ranges) {
  if (!ranges.empty() && ranges.back().end == begin) {
    ranges.back().end = end;
  } else {
    ranges.push_back({begin, end});
  }
}

// `origin`: coordinate of the slice's first value; `stride`: values of one index of `axis`.
void Cover(const LayoutEntry& entry, const AxisRanges& kept, size_t axis, size_t last_cut, int64_t origin, int64_t stride,
           std::vector<CoordinateRange>& covered) {
  const CoordinateRange all{0, entry.shape[axis]};
  const absl::Span<const CoordinateRange> ranges = kept[axis].empty() ? absl::MakeConstSpan(&all, 1) : absl::MakeConstSpan(kept[axis]);
  for (const CoordinateRange& range : ranges) {
    if (axis == last_cut) {
      Append(origin + range.begin * stride, origin + range.end * stride, covered);
      continue;
    }
    for (int64_t i = range.begin; i < range.end; ++i) {
      Cover(entry, kept, axis + 1, last_cut, origin + i * stride, stride / entry.shape[axis + 1], covered);
    }
  }
}

}  // namespace

absl::StatusOr<Submodel> Submodel::Create(ParameterLayout whole, absl::Span<const ChannelGroup> groups, KeptChannels kept) {
  struct Part {
    const ChannelAxis* axis;
    const ChannelGroup* group;
    const std::vector<ChannelRange>* ranges;
  };
  std::vector<LayoutEntry> seen = whole.entries();  // flat where a group sees them so
  for (const ChannelGroup& group : groups) {
    for (const ChannelAxis& axis : group.axes) {
      if (axis.axis != ChannelAxis::kFlat || !kept.contains(group.name)) continue;
      for (LayoutEntry& entry : seen) {
        if (entry.name == axis.entry) entry.shape = {entry.element_count()};
      }
    }
  }
  std::map<std::string, AxisRanges> cuts;
  std::map<std::pair<std::string, int32_t>, std::vector<Part>> parts;
  for (const LayoutEntry& entry : seen) cuts[entry.name].resize(entry.shape.size());
  for (const auto& [name, ranges] : kept) {
    auto group = std::find_if(groups.begin(), groups.end(), [&name = name](const ChannelGroup& one) { return one.name == name; });
    if (group == groups.end()) {
      std::vector<std::string> names;
      for (const ChannelGroup& one : groups) names.push_back(one.name);
      const std::string nearest = NearestName(name, names);
      return absl::InvalidArgumentError(absl::StrCat("channels: no group '", name, "'", nearest.empty() ? "" : absl::StrCat("; did you mean '", nearest, "'?"),
                                                     names.empty() ? "; the model can't be cut" : absl::StrCat("; known: ", absl::StrJoin(names, ", "))));
    }
    FEDWATT_RETURN_IF_ERROR(CheckKept(*group, ranges));
    for (const ChannelAxis& axis : group->axes) {
      auto entry = std::find_if(seen.begin(), seen.end(), [&](const LayoutEntry& one) { return one.name == axis.entry; });
      const int32_t along = axis.axis == ChannelAxis::kFlat ? 0 : axis.axis;
      const auto suits = [&] {
        if (entry == seen.end() || along < 0 || along >= static_cast<int64_t>(entry->shape.size())) return false;
        const int64_t length = entry->shape[static_cast<size_t>(along)];
        if (axis.begin < 0 || axis.begin > length || axis.repeat < 1 || axis.blocks < 1) return false;
        // Divisions, not products: the numbers may come from a hostile process.
        return group->size <= (length - axis.begin) / axis.repeat / axis.blocks;
      };
      if (!suits()) return DoesNotSuit(name, axis);
      parts[{axis.entry, along}].push_back({&axis, &*group, &ranges});
    }
  }
  for (auto& [place, along] : parts) {
    std::sort(along.begin(), along.end(), [](const Part& a, const Part& b) { return a.axis->begin < b.axis->begin; });
    std::vector<CoordinateRange>& cut = cuts[place.first][static_cast<size_t>(place.second)];
    int64_t end = 0;  // of the parts so far
    const auto keep = [&cut](int64_t begin, int64_t end) {
      if (end > begin) Append(begin, end, cut);
    };
    for (const auto& [axis, group, ranges] : along) {
      if (axis->begin < end) return DoesNotSuit(group->name, *axis);
      keep(end, axis->begin);
      for (int64_t block = 0; block < axis->blocks; ++block) {
        for (const ChannelRange& range : *ranges) {
          keep(axis->begin + (block * group->size + range.begin) * axis->repeat, axis->begin + (block * group->size + range.end) * axis->repeat);
        }
      }
      end = axis->begin + axis->blocks * group->size * axis->repeat;
    }
    auto entry = std::find_if(seen.begin(), seen.end(), [&name = place.first](const LayoutEntry& one) { return one.name == name; });
    keep(end, entry->shape[static_cast<size_t>(place.second)]);
  }

  Submodel submodel;
  std::vector<LayoutEntry> entries;
  for (size_t i = 0; i < seen.size(); ++i) {
    const LayoutEntry& entry = seen[i];
    const AxisRanges& kept_axes = cuts[entry.name];
    size_t last_cut = 0;
    LayoutEntry narrow = entry;
    for (size_t axis = 0; axis < kept_axes.size(); ++axis) {
      if (kept_axes[axis].empty()) continue;
      last_cut = axis;
      narrow.shape[axis] = 0;
      for (const CoordinateRange& range : kept_axes[axis]) narrow.shape[axis] += range.end - range.begin;
    }
    if (entry.kind != EntryKind::kLocal) {
      const int64_t origin = whole.offset(i), count = entry.element_count();
      if (entry.shape.empty()) {
        Append(origin, origin + 1, submodel.covered_);
      } else {
        Cover(entry, kept_axes, 0, last_cut, origin, count / entry.shape[0], submodel.covered_);
      }
    }
    entries.push_back(std::move(narrow));
  }
  FEDWATT_ASSIGN_OR_RETURN(submodel.layout_, ParameterLayout::Create(std::move(entries)));
  int64_t start = 0;
  for (const CoordinateRange& range : submodel.covered_) {
    submodel.starts_.push_back(start);
    start += range.end - range.begin;
  }
  FEDWATT_CHECK(start == submodel.layout_.value_count());
  submodel.whole_ = std::move(whole);
  submodel.kept_ = std::move(kept);
  return submodel;
}

void Submodel::Gather(absl::Span<const float> whole, absl::Span<float> narrow) const {
  FEDWATT_CHECK(static_cast<int64_t>(whole.size()) == whole_.value_count() && static_cast<int64_t>(narrow.size()) == layout_.value_count());
  auto out = narrow.begin();
  for (const CoordinateRange& range : covered_) out = std::copy(whole.begin() + range.begin, whole.begin() + range.end, out);
}

std::vector<float> Submodel::Gather(absl::Span<const float> whole) const {
  std::vector<float> narrow(static_cast<size_t>(layout_.value_count()));
  Gather(whole, absl::MakeSpan(narrow));
  return narrow;
}

void Submodel::Scatter(absl::Span<const float> narrow, absl::Span<float> whole) const {
  FEDWATT_CHECK(static_cast<int64_t>(whole.size()) == whole_.value_count() && static_cast<int64_t>(narrow.size()) == layout_.value_count());
  for (size_t i = 0; i < covered_.size(); ++i) {
    std::copy_n(narrow.begin() + starts_[i], covered_[i].end - covered_[i].begin, whole.begin() + covered_[i].begin);
  }
}

std::vector<float> Submodel::Scatter(absl::Span<const float> narrow) const {
  std::vector<float> whole(static_cast<size_t>(whole_.value_count()));
  Scatter(narrow, absl::MakeSpan(whole));
  return whole;
}

std::vector<ChannelRange> ToRanges(absl::Span<const int64_t> channels) {
  std::vector<ChannelRange> ranges;
  for (int64_t channel : channels) {
    if (!ranges.empty() && ranges.back().end == channel) {
      ++ranges.back().end;
    } else {
      ranges.push_back({channel, channel + 1});
    }
  }
  return ranges;
}

std::vector<int64_t> ChannelsOf(const ChannelGroup& group, const KeptChannels& kept) {
  std::vector<int64_t> channels;
  const auto named = kept.find(group.name);
  const std::vector<ChannelRange> all{{0, group.size}};
  for (const ChannelRange& range : named == kept.end() ? all : named->second) {
    for (int64_t channel = range.begin; channel < range.end; ++channel) channels.push_back(channel);
  }
  return channels;
}

namespace {
constexpr absl::string_view kWeightsSuffix = "[]";  // no layer's name ends so
}

std::vector<ChannelGroup> WeightGroups(const ParameterLayout& layout) {
  std::vector<ChannelGroup> groups;
  for (const LayoutEntry& entry : layout.entries()) {
    if (entry.kind != EntryKind::kParameter || entry.shape.size() < 2) continue;
    groups.push_back({absl::StrCat(entry.name, kWeightsSuffix), entry.element_count(), {{.entry = entry.name, .axis = ChannelAxis::kFlat, .reads = true}}});
  }
  return groups;
}

bool KeepsWeights(const KeptChannels& kept) {
  return !kept.empty() && std::all_of(kept.begin(), kept.end(), [](const auto& one) { return absl::EndsWith(one.first, kWeightsSuffix); });
}

std::vector<ChannelGroup> NarrowGroups(absl::Span<const ChannelGroup> groups, const KeptChannels& kept) {
  std::vector<ChannelGroup> narrow(groups.begin(), groups.end());
  for (ChannelGroup& group : narrow) group.size = static_cast<int64_t>(ChannelsOf(group, kept).size());
  // Where several parts share an axis, each moves up by what is dropped before it.
  for (size_t i = 0; i < narrow.size(); ++i) {
    for (size_t j = 0; j < narrow[i].axes.size(); ++j) {
      ChannelAxis& axis = narrow[i].axes[j];
      const int64_t begin = groups[i].axes[j].begin;
      for (size_t other = 0; other < narrow.size(); ++other) {
        for (const ChannelAxis& before : groups[other].axes) {
          if (before.entry != axis.entry || before.axis != axis.axis || before.begin >= begin) continue;
          axis.begin -= before.blocks * before.repeat * (groups[other].size - narrow[other].size);
        }
      }
    }
  }
  return narrow;
}

KeptChannels KeptOfKept(absl::Span<const ChannelGroup> groups, const KeptChannels& outer, const KeptChannels& inner) {
  KeptChannels kept;
  for (const ChannelGroup& group : groups) {
    if (!outer.contains(group.name) && !inner.contains(group.name)) continue;
    const std::vector<int64_t> left = ChannelsOf(group, outer);
    const ChannelGroup narrow{group.name, static_cast<int64_t>(left.size()), {}};
    std::vector<int64_t> channels;
    for (int64_t channel : ChannelsOf(narrow, inner)) channels.push_back(left[static_cast<size_t>(channel)]);
    if (static_cast<int64_t>(channels.size()) < group.size) kept[group.name] = ToRanges(channels);
  }
  return kept;
}

void Submodel::ToWhole(absl::Span<uint32_t> indices) const {
  for (uint32_t& index : indices) {
    const size_t i = static_cast<size_t>(std::upper_bound(starts_.begin(), starts_.end(), static_cast<int64_t>(index)) - starts_.begin()) - 1;
    index = static_cast<uint32_t>(covered_[i].begin + (index - starts_[i]));
  }
}

}  // namespace fedwatt

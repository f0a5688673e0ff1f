#include "fedwatt/round/pruning.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/bytes.h"
#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/submodel.h"

namespace fedwatt {
namespace {

// Shares of channels are looked for in steps of one of these.
constexpr int64_t kShareSteps = 4096;
// Convolution kernels work on blocks of so many channels: of fedavg_cnn's, 17, 34 and 272 take 2.3 times as long as 16, 32 and 256.
constexpr int64_t kChannelBlock = 16;

}  // namespace

absl::Status CheckPrune(const PruneOptions& options) {
  if (!(options.target > 0 && options.target <= 1)) return absl::InvalidArgumentError(absl::StrCat("prune.target: expected (0, 1], got ", options.target));
  if (options.begin < 0) return absl::InvalidArgumentError(absl::StrCat("prune.begin: expected a round from 0, got ", options.begin));
  if (options.end < options.begin) {
    return absl::InvalidArgumentError(absl::StrCat("prune.end: expected a round from prune.begin = ", options.begin, ", got ", options.end));
  }
  if (options.every < 1) return absl::InvalidArgumentError(absl::StrCat("prune.every: expected at least 1 round, got ", options.every));
  FEDWATT_ASSIGN_OR_RETURN(ChannelPolicy policy, ChannelPolicies().Find(options.channels));
  if (policy.moves && policy.importance == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("prune.channels = '", options.channels, "' changes from round to round, and what is pruned stays away; expected another one"));
  }
  if (options.target < 1 && options.begin == 0 && options.channels == "taylor") {
    return absl::InvalidArgumentError("prune.channels = 'taylor' needs the updates of at least one round; expected prune.begin >= 1, got 0");
  }
  if (options.unit != "channels" && options.unit != "weights") {
    return absl::InvalidArgumentError(absl::StrCat("prune.unit: expected channels or weights, got '", options.unit, "'"));
  }
  if (options.unit == "weights" && options.channels == "ordered") {
    return absl::InvalidArgumentError("prune.channels = 'ordered' says nothing of single weights; expected magnitude or taylor with prune.unit = 'weights'");
  }
  if (!(options.regrow >= 0 && options.regrow <= 0.5)) return absl::InvalidArgumentError(absl::StrCat("prune.regrow: expected [0, 0.5], got ", options.regrow));
  if (options.regrow > 0 && options.every < 2) {
    return absl::InvalidArgumentError("prune.regrow: dropped channels are tried in the round before a cut, which must not be a cut itself; expected prune.every >= 2, got 1");
  }
  return absl::OkStatus();
}

absl::StatusOr<Pruner> Pruner::Create(PruneOptions options, ParameterLayout layout, std::vector<ChannelGroup> groups, uint64_t seed) {
  FEDWATT_RETURN_IF_ERROR(CheckPrune(options));
  Pruner pruner;
  if (options.target >= 1) return pruner;
  if (groups.empty()) return absl::InvalidArgumentError("prune.target: this model declares no channels that could be dropped; expected 1");
  FEDWATT_ASSIGN_OR_RETURN(pruner.policy_, ChannelPolicies().Find(options.channels));
  pruner.options_ = std::move(options);
  pruner.layout_ = std::move(layout);
  pruner.groups_ = std::move(groups);
  pruner.seed_ = seed;
  std::map<std::string, int64_t> all, least;
  for (const ChannelGroup& group : pruner.groups_) {
    all[group.name] = group.size;
    least[group.name] = 1;
  }
  const double reach = static_cast<double>(pruner.ParameterCount(least)) / static_cast<double>(pruner.ParameterCount(all));
  if (reach > pruner.options_.target) {
    return absl::InvalidArgumentError(absl::StrCat("prune.target: with one channel a layer the model still has ", reach, " of its parameters; expected more than that, got ",
                                                   pruner.options_.target));
  }
  return pruner;
}

int64_t Pruner::ParameterCount(const std::map<std::string, int64_t>& counts) const {
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const LayoutEntry& entry : layout_.entries()) {
    if (entry.kind == EntryKind::kParameter) shapes[entry.name] = entry.shape;
  }
  for (const ChannelGroup& group : groups_) {
    for (const ChannelAxis& axis : group.axes) {
      if (auto shape = shapes.find(axis.entry); shape != shapes.end()) {
        if (axis.axis == ChannelAxis::kFlat) shape->second = {group.size};
        shape->second[axis.axis == ChannelAxis::kFlat ? 0 : static_cast<size_t>(axis.axis)] -= axis.blocks * (group.size - counts.at(group.name)) * axis.repeat;
      }
    }
  }
  int64_t total = 0;
  for (const auto& [name, shape] : shapes) total += std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
  return total;
}

std::map<std::string, int64_t> Pruner::CountsFor(double share) const {
  std::map<std::string, int64_t> counts;
  for (const ChannelGroup& group : groups_) counts[group.name] = group.size;
  const double most = share * static_cast<double>(ParameterCount(counts));
  for (int64_t step = kShareSteps; step >= 0 && static_cast<double>(ParameterCount(counts)) > most; --step) {
    for (const ChannelGroup& group : groups_) {
      int64_t& count = counts[group.name] = ChannelCount(static_cast<double>(step) / kShareSteps, group.size);
      if (options_.unit == "channels" && count > kChannelBlock && count < group.size) count -= count % kChannelBlock;
    }
  }
  return counts;
}

double Pruner::RegrowShare(int64_t cut) const {
  return options_.regrow / 2 * (1 + std::cos(std::numbers::pi * static_cast<double>(cut - 1) / static_cast<double>(cut_count())));
}

bool Pruner::Keep(std::map<std::string, std::vector<int64_t>> channels) {
  KeptChannels kept;
  for (const ChannelGroup& group : groups_) {
    const std::vector<int64_t>& left = channels.at(group.name);
    if (static_cast<int64_t>(left.size()) < group.size) kept[group.name] = ToRanges(left);
  }
  return std::exchange(kept_, kept) != kept;
}

bool Pruner::Advance(int64_t round, const ChannelScores& scores) {
  if (!cuts_ahead()) return false;
  std::map<std::string, std::vector<int64_t>> left;
  // A round that came to nothing may have been one of a cut.
  if (const int64_t due = round < options_.begin ? 0 : std::min((round - options_.begin) / options_.every + 1, cut_count()); due > cuts_) {
    cuts_ = due;
    const double share = options_.target + (1 - options_.target) * std::pow(1 - static_cast<double>(cuts_) / static_cast<double>(cut_count()), 3);
    const std::map<std::string, int64_t> counts = CountsFor(share);
    for (const ChannelGroup& group : groups_) {
      const std::vector<int64_t> had = ChannelsOf(group, kept_);
      const std::vector<ChannelScore>& known = scores.at(group.name);
      FEDWATT_CHECK(known.size() == had.size());
      const std::vector<int64_t>& tried = tried_[group.name];
      std::vector<int64_t> old, fresh;
      std::vector<ChannelScore> old_scores;
      std::vector<double> pulls;
      for (size_t i = 0; i < had.size(); ++i) {
        if (std::binary_search(tried.begin(), tried.end(), had[i])) {
          fresh.push_back(had[i]);
          pulls.push_back(known[i].pull);
        } else {
          old.push_back(had[i]);
          old_scores.push_back(known[i]);
        }
      }
      const int64_t places = std::min<int64_t>(static_cast<int64_t>(fresh.size()), std::llround(RegrowShare(cuts_) * static_cast<double>(counts.at(group.name))));
      std::vector<int64_t>& stay = left[group.name];
      for (int64_t i : GreatestPlaces(pulls, places)) {
        if (pulls[static_cast<size_t>(i)] > 0) stay.push_back(fresh[static_cast<size_t>(i)]);
      }
      const int64_t count = std::min<int64_t>(counts.at(group.name) - static_cast<int64_t>(stay.size()), static_cast<int64_t>(old.size()));
      for (const ChannelRange& range : ChooseChannels(policy_, static_cast<int64_t>(old.size()), count, std::max<int64_t>(1, round), old_scores)) {
        for (int64_t i = range.begin; i < range.end; ++i) stay.push_back(old[static_cast<size_t>(i)]);
      }
      std::sort(stay.begin(), stay.end());
    }
    tried_.clear();
    return Keep(std::move(left));
  }
  if (options_.regrow <= 0 || cuts_ == 0 || round + 1 != options_.begin + cuts_ * options_.every) return false;
  for (const ChannelGroup& group : groups_) {
    left[group.name] = ChannelsOf(group, kept_);
    const bool is_read = std::any_of(group.axes.begin(), group.axes.end(), [](const ChannelAxis& axis) { return axis.reads; });
    if (!is_read) continue;  // where it is read is not known, so it can't come back without a trace
    std::vector<int64_t>& channels = left[group.name];
    std::vector<int64_t> dropped;
    for (int64_t channel = 0; channel < group.size; ++channel) {
      if (!std::binary_search(channels.begin(), channels.end(), channel)) dropped.push_back(channel);
    }
    Random random(DeriveSeed(absl::StrCat("regrow ", group.name), {seed_, static_cast<uint64_t>(round)}));
    random.Shuffle(dropped);
    const int64_t places = std::llround(RegrowShare(cuts_ + 1) * static_cast<double>(channels.size()));
    dropped.resize(static_cast<size_t>(std::min<int64_t>(2 * places, static_cast<int64_t>(dropped.size()))));
    std::sort(dropped.begin(), dropped.end());
    channels.insert(channels.end(), dropped.begin(), dropped.end());
    std::sort(channels.begin(), channels.end());
    tried_[group.name] = std::move(dropped);
  }
  return Keep(std::move(left));
}

std::string Pruner::Save() const {
  if (!prunes()) return "";
  ByteWriter writer;
  writer.Put<int64_t>(cuts_);
  for (const ChannelGroup& group : groups_) {
    const std::vector<int64_t> channels = ChannelsOf(group, kept_);
    const auto tried = tried_.find(group.name);
    for (const std::vector<int64_t>& list : {channels, tried == tried_.end() ? std::vector<int64_t>() : tried->second}) {
      writer.Put<int64_t>(static_cast<int64_t>(list.size()));
      for (int64_t channel : list) writer.Put<int64_t>(channel);
    }
  }
  return std::move(writer).str();
}

absl::Status Pruner::Restore(std::string_view state) {
  ByteReader reader(state, "pruning state");
  std::map<std::string, std::vector<int64_t>> left, tried;
  FEDWATT_ASSIGN_OR_RETURN(int64_t cuts, reader.Get<int64_t>("cuts"));
  if (cuts < 0 || cuts > cut_count()) return absl::DataLossError(absl::StrCat("pruning state: ", cuts, " cuts, expected 0 to ", cut_count()));
  for (const ChannelGroup& group : groups_) {
    for (std::vector<int64_t>* list : {&left[group.name], &tried[group.name]}) {
      FEDWATT_ASSIGN_OR_RETURN(int64_t count, reader.Get<int64_t>("channel count"));
      if (count < 0 || count > group.size) return absl::DataLossError(absl::StrCat("pruning state: ", count, " channels of '", group.name, "', which has ", group.size));
      for (int64_t i = 0; i < count; ++i) {
        FEDWATT_ASSIGN_OR_RETURN(int64_t channel, reader.Get<int64_t>("channel"));
        if (channel >= group.size || channel < 0 || (!list->empty() && channel <= list->back())) return absl::DataLossError(absl::StrCat("pruning state: channels of '", group.name, "' out of order"));
        list->push_back(channel);
      }
    }
    if (left[group.name].empty()) return absl::DataLossError(absl::StrCat("pruning state: nothing left of '", group.name, "'"));
    if (!std::ranges::includes(left[group.name], tried[group.name])) {
      return absl::DataLossError(absl::StrCat("pruning state: a channel of '", group.name, "' is on trial, but not in the model"));
    }
  }
  if (reader.remaining() != 0) return absl::DataLossError("pruning state: trailing bytes");
  cuts_ = cuts;
  tried_ = std::move(tried);
  Keep(std::move(left));
  return absl::OkStatus();
}

}  // namespace fedwatt

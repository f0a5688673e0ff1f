// Which channels the federation's own model has left, from round to round: it ends as a smaller model, and every round costs less than the one before.
#ifndef FEDWATT_ROUND_PRUNING_H_
#define FEDWATT_ROUND_PRUNING_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fedwatt/model/channels.h"
#include "fedwatt/model/layout.h"
#include "fedwatt/round/channel_scores.h"
#include "fedwatt/round/fitting.h"

namespace fedwatt {

struct PruneOptions {
  double target = 1;                   // share of the parameters that are left in the end, (0, 1]; 1: nothing is pruned
  int64_t begin = 0;                   // the round after which the first channels go; 0: before the first round
  int64_t end = 0;                     // and the last ones; >= begin
  int64_t every = 1;                   // rounds between two cuts; >= 1
  std::string channels = "magnitude";  // the ChannelPolicy that says which are kept
  // What is cut: "channels", so that the model is a smaller dense one; or "weights", single ones of every tensor of two dimensions or more, which saves bytes alone.
  std::string unit = "channels";
  double regrow = 0;                   // of the channels left, the share that at most may give way to dropped ones at the first cut, [0, 0.5]
};
// Errors: NOT_FOUND  unknown policy; INVALID_ARGUMENT  naming the setting, its range and what was got
absl::Status CheckPrune(const PruneOptions& options);

// Whether the model is to become a smaller dense one.
inline bool CutsChannels(const PruneOptions& options) { return options.target < 1 && options.unit == "channels"; }

// A gradual schedule (Zhu, Gupta 2017, arXiv 1710.01878, equation 1, with whole channels for weights and the parameters' share for sparsity): cut k of n
// leaves at most the share target + (1 - target) * (1 - k/n)^3 of the parameters, each group the same share of its channels, the most important ones; more than 16
// channels in whole blocks of 16, which is what kernels work on.
//
// Regrowth (Evci et al. 2020, RigL, arXiv 1911.11134; in federations Bibikar et al. 2022, FedDST, arXiv 2112.09824): in the round before a cut, dropped channels
// are tried, drawn by lot, with zeros where they are read, so that the model computes what it did. Those that the round's updates pull on most take the place of
// the least important ones. How many may: options.regrow of a group's channels at the first cut, falling along a cosine to none (RigL's f_decay). Twice as many
// are tried. RigL looks at the gradient of all connections; here clients train what is tried, in the ordinary way, and report nothing more than their updates.
//
// Decides by options, seed, rounds and scores alone. Thread-compatible.
class Pruner {
 public:
  // Prunes nothing.
  Pruner() = default;
  // Errors: as CheckPrune; INVALID_ARGUMENT  a model without channels to prune, or whose target is out of reach
  static absl::StatusOr<Pruner> Create(PruneOptions options, ParameterLayout layout, std::vector<ChannelGroup> groups, uint64_t seed);

  bool prunes() const { return options_.target < 1; }
  // Whether Advance() may still change something.
  bool cuts_ahead() const { return prunes() && cuts_ < cut_count(); }
  // The channels of the whole that the model has; empty: all.
  const KeptChannels& kept() const { return kept_; }
  // What the model has after `round`, 0 being the start. `scores`: of the channels that it has. In order, each round that
  // moved the model once. True when kept() is another one now.
  bool Advance(int64_t round, const ChannelScores& scores);

  // Empty where nothing is pruned.
  std::string Save() const;
  // Errors: DATA_LOSS  damaged, or not this model's
  absl::Status Restore(std::string_view state);

 private:
  int64_t cut_count() const { return (options_.end - options_.begin) / options_.every + 1; }
  // Of each group, how many channels the greatest common share leaves, in blocks, that costs at most `share` of the parameters.
  std::map<std::string, int64_t> CountsFor(double share) const;
  int64_t ParameterCount(const std::map<std::string, int64_t>& counts) const;
  double RegrowShare(int64_t cut) const;
  bool Keep(std::map<std::string, std::vector<int64_t>> channels);

  PruneOptions options_;
  ParameterLayout layout_;
  std::vector<ChannelGroup> groups_;
  uint64_t seed_ = 0;
  ChannelPolicy policy_;
  int64_t cuts_ = 0;  // made so far
  KeptChannels kept_;
  std::map<std::string, std::vector<int64_t>> tried_;  // of each group, those of the channels kept that are on trial, in order
};

}  // namespace fedwatt

#endif  // FEDWATT_ROUND_PRUNING_H_

// How much of the model each client trains. Which width a client gets is a policy (one file each under round/fits/), and so is which channels a width
// keeps (round/channels/).
#ifndef FEDWATT_ROUND_FITTING_H_
#define FEDWATT_ROUND_FITTING_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "absl/time/time.h"
#include "fedwatt/base/registry.h"
#include "fedwatt/energy/quantities.h"
#include "fedwatt/model/channels.h"
#include "fedwatt/round/channel_scores.h"
#include "fedwatt/round/work_history.h"

namespace fedwatt {

struct FitOptions {
  std::string policy = "full";
  std::vector<double> widths;      // kept shares of each channel group, (0, 1], widest first
  std::vector<double> shares;      // by_capability, by_turns: relative share of each width, > 0; empty: equal shares
  std::vector<int64_t> memory_mb;  // by_capability: megabytes (10^6 bytes) a device must report for each width; empty: dealt by share
  double first = 0;                // by_budget: the width of a client of which nothing is known; 0: the last of widths
  std::string channels = "ordered";
  int64_t live = 8;                // narrow fits that keep a chain of increments, [0, 64]; the others get whole snapshots
};
// Whether the policy can work with them. Errors: NOT_FOUND  unknown policy; INVALID_ARGUMENT  naming the setting, its range and what was got
absl::Status CheckFit(const FitOptions& options);
// Whether some clients may get a part of the model.
bool SomeAreNarrow(const FitOptions& options);

// What a device said of itself when it checked in.
struct DeviceReport {
  std::optional<int64_t> memory_bytes;
};

// What a width comes to in the model of now.
struct WidthCost {
  double macs_per_example = 0;  // multiply-adds of one forward pass
  double parameters = 0;
};

struct FitRequest {
  uint64_t seed = 0;  // of the run
  int64_t round = 0;  // from 1
  int64_t partition = 0;
  DeviceReport device = {};

  // For policies that go by measurements.
  const WorkHistory* history = nullptr;      // of this client; borrowed for the call, null: nothing is known
  absl::Span<const WidthCost> costs = {};    // of options.widths; empty: not known
  absl::Time now = {};
  absl::Duration time = absl::InfiniteDuration();  // from assignment to report
  std::optional<Energy> energy = {};         // that the attempt may take; unset: as much as it wants
  Power max_power = {};                      // that the device can draw
};

// Decides by the request alone, so that a simulated and a networked run, and one that was restarted, fit alike.
struct FitPolicy {
  // Errors: INVALID_ARGUMENT  options that this policy can't work with. What all policies need has been checked.
  absl::Status (*check)(const FitOptions& options);
  // One of options.widths, or 1; nullopt: none of them can be asked of this client now.
  std::optional<double> (*width)(const FitOptions& options, const FitRequest& request);
  // It looks at what attempts took; others need not be told.
  bool measures = false;
};
using FitPolicyRegistry = Registry<FitPolicy>;
// "by_budget", "by_capability", "by_turns", "fixed", "full".
FitPolicyRegistry& FitPolicies();

struct ChannelPolicy {
  // The choice changes from round to round.
  bool moves = false;
  // One of two. By place: which `count` of `size` channels are kept in a round; 1 <= count <= size. Ranges as in KeptChannels.
  std::vector<ChannelRange> (*choose)(int64_t size, int64_t count, int64_t round) = nullptr;
  // Or by what is known of them: the most important are kept, of equals the first. Finite.
  double (*importance)(const ChannelScore& channel) = nullptr;
};
using ChannelPolicyRegistry = Registry<ChannelPolicy>;
// "magnitude", "ordered", "rolling", "taylor".
ChannelPolicyRegistry& ChannelPolicies();
// How many of `size` channels, at least 1, a model of this width keeps; `width` in [0, 1].
int64_t ChannelCount(double width, int64_t size);
// Places of the `count` greatest values, of equals the first; in order.
std::vector<int64_t> GreatestPlaces(absl::Span<const double> values, int64_t count);
// Which `count` of `size` channels the policy keeps. `scores` has `size` elements where the policy goes by importance.
std::vector<ChannelRange> ChooseChannels(const ChannelPolicy& policy, int64_t size, int64_t count, int64_t round, absl::Span<const ChannelScore> scores);

// What one client trains in one round.
struct Fit {
  double width = 1;
  KeptChannels kept;  // empty: the whole model
};

// Cuts a model to widths by the channel policy. Immutable; thread-compatible.
class Fitter {
 public:
  // Everybody trains the whole model.
  Fitter() = default;
  // Errors: as CheckFit; INVALID_ARGUMENT  a model without channel groups can only be trained whole
  static absl::StatusOr<Fitter> Create(FitOptions options, std::vector<ChannelGroup> groups);

  // `width` in (0, 1]. `scores` are those of the model's channels, and looked at where channels are kept by importance.
  Fit Cut(double width, int64_t round, const ChannelScores& scores = {}) const;
  // Narrow fits that stay the same over all rounds, at most options.live of them, widest first.
  std::vector<Fit> Standing() const;
  // Some clients may get narrow models that are no standing fit's.
  bool sends_snapshots() const;
  const std::vector<double>& widths() const { return options_.widths; }
  // Cut() looks at scores.
  bool wants_scores() const { return channels_.importance != nullptr && NarrowCount() > 0; }

 private:
  int64_t NarrowCount() const;

  FitOptions options_;
  std::vector<ChannelGroup> groups_;
  ChannelPolicy channels_;
};

}  // namespace fedwatt

#endif  // FEDWATT_ROUND_FITTING_H_

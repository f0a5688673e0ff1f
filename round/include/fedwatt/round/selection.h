// Who is asked to train in a round, and whether the round had better wait. One policy a file under round/selection/.
#ifndef FEDWATT_ROUND_SELECTION_H_
#define FEDWATT_ROUND_SELECTION_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "fedwatt/base/random.h"
#include "fedwatt/base/registry.h"
#include "fedwatt/energy/carbon.h"
#include "fedwatt/round/fitting.h"

namespace fedwatt {

// What is known of a member when a round is about to open. Unset means not known, which is not zero.
struct Member {
  int64_t partition = 0;
  std::string client;             // pseudonym
  int64_t last_selected_round = 0;  // 0 = never
  int64_t accepted_count = 0;
  int64_t selected_count = 0;
  std::optional<size_t> site;               // of SelectionRequest::carbon
  std::optional<double> battery_fraction;   // [0, 1]
  bool charging = false;
  std::optional<Power> max_power;
  DeviceReport device;
  std::optional<double> train_loss;         // mean over the examples of its last accepted update
  int64_t example_count = 0;                // of that update; 0 = not known
  std::optional<double> joules;             // that its attempts take on average
  std::optional<double> seconds;            // that its attempts take
};

struct SelectionOptions {
  std::string policy = "uniform";
  // energy_aware, carbon_aware: nobody is asked less often than this share of the mean, nor, with carbon_aware, more often than 2 minus it. [0, 1]
  double fairness = 0.5;
  // carbon_aware: by how much the end of the run may be put off to wait for cleaner electricity.
  absl::Duration slack;
};
// Errors: NOT_FOUND  unknown policy; INVALID_ARGUMENT  naming the option, its range and its value
absl::Status ValidateSelectionOptions(const SelectionOptions& options);

struct SelectionRequest {
  absl::Span<const Member> members;  // who may be asked, sorted by partition
  int64_t count = 0;                 // how many are wanted, >= 0
  int64_t round = 1;
  int64_t rounds_left = 1;           // this one included, >= 1
  absl::Time now;
  absl::Duration round_length;       // that rounds have taken, or the deadline before the first; > 0
  absl::Duration slack_left;         // >= 0
  const CarbonModel* carbon = nullptr;  // null: nothing is known of grids
  double fairness = 0.5;
};

struct Selection {
  std::vector<int64_t> partitions;     // `count` different ones, or all members if there are fewer; in any order
  std::optional<absl::Time> not_before;  // the round had better open then, within slack_left; `partitions` is not used
};

// Decides by the request and `random` alone, which is seeded by (run seed, round): never by the order of arrival, so that a simulated, a networked
// and a restarted run choose alike where they know alike.
using SelectionPolicy = std::function<Selection(const SelectionRequest& request, Random& random)>;
using SelectionPolicyRegistry = Registry<SelectionPolicy>;
// "battery_weighted", "carbon_aware", "energy_aware", "oort", "power_of_choice", "round_robin", "uniform".
SelectionPolicyRegistry& SelectionPolicies();

}  // namespace fedwatt

#endif  // FEDWATT_ROUND_SELECTION_H_

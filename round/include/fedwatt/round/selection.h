// Who is asked to train in a round. One policy a file under round/selection/.
#ifndef FEDWATT_ROUND_SELECTION_H_
#define FEDWATT_ROUND_SELECTION_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "fedwatt/base/random.h"
#include "fedwatt/base/registry.h"

namespace fedwatt {

struct Member {
  int64_t partition = 0;
  std::string client;             // pseudonym
  int64_t last_selected_round = 0;  // 0 = never
  int64_t accepted_count = 0;
};

// Chooses `count` different members (all if there are fewer). `members` are sorted by partition and `random` is seeded by (run seed, round), so
// the choice never depends on the order of arrival. Returns partitions, in any order.
using SelectionPolicy = std::function<std::vector<int64_t>(absl::Span<const Member> members, int64_t count, Random& random)>;
using SelectionPolicyRegistry = Registry<SelectionPolicy>;
// "uniform", "round_robin".
SelectionPolicyRegistry& SelectionPolicies();

}  // namespace fedwatt

#endif  // FEDWATT_ROUND_SELECTION_H_

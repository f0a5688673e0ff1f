// When a client comes back: windows set by the coordinator, backoff after failures.
#ifndef FEDWATT_ROUND_RETRY_POLICY_H_
#define FEDWATT_ROUND_RETRY_POLICY_H_

#include <cstdint>

#include "absl/time/time.h"
#include "fedwatt/base/random.h"

namespace fedwatt {

// A client draws uniformly from [min, max]: that paces the fleet and spreads a herd.
struct RetryWindow {
  absl::Duration min = absl::Seconds(1);
  absl::Duration max = absl::Seconds(5);
  friend bool operator==(const RetryWindow&, const RetryWindow&) = default;
};
// Never negative; a window with max < min counts as [min, min].
absl::Duration DrawFromWindow(const RetryWindow& window, Random& random);

// Every reply carries both: one for a client that was served, one for a client that is not wanted now.
struct RetryWindows {
  RetryWindow accepted;
  RetryWindow not_now{absl::Seconds(5), absl::Seconds(15)};
};

// Exponential backoff with jitter: the n-th wait is uniform in [0.1, 1] times min(cap, base * 2^n). Owned by one thread.
class Backoff {
 public:
  Backoff(absl::Duration base, absl::Duration cap, uint64_t seed) : base_(base), cap_(cap), random_(seed) {}
  absl::Duration Next();
  void Reset() { failures_ = 0; }
  int64_t failures() const { return failures_; }

 private:
  absl::Duration base_, cap_;
  Random random_;
  int64_t failures_ = 0;
};

}  // namespace fedwatt

#endif  // FEDWATT_ROUND_RETRY_POLICY_H_

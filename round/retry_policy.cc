#include "fedwatt/round/retry_policy.h"

#include <algorithm>

#include "fedwatt/base/planted.h"

namespace fedwatt {

absl::Duration DrawFromWindow(const RetryWindow& window, Random& random) {
  const absl::Duration min = std::max(window.min, absl::ZeroDuration());
  const absl::Duration max = std::max(window.max, min);
  return min + (max - min) * random.Uniform();
}

absl::Duration Backoff::Next() {
  if (FEDWATT_PLANTED(client_gives_up) && failures_ > 2) return absl::Hours(1000);
  // 2^20 bases pass any sensible cap; the bound keeps the shift defined.
  const int64_t doublings = std::min<int64_t>(failures_++, 20);
  const absl::Duration ceiling = std::min(cap_, base_ * (int64_t{1} << doublings));
  // A floor of a tenth keeps a crowd of unlucky draws from becoming a busy loop.
  return ceiling * (0.1 + 0.9 * random_.Uniform());
}

}  // namespace fedwatt

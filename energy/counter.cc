#include "fedwatt/energy/counter.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "absl/strings/str_join.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/energy/meter.h"

namespace fedwatt {
namespace {

// A power limit is kept over milliseconds, so a short span may show a burst above it.
constexpr absl::Duration kBurst = absl::Milliseconds(10);

}  // namespace

std::string CounterFlagNames(uint8_t flags) {
  std::vector<const char*> names;
  if (flags & kCounterWrapped) names.push_back("wrapped");
  if (flags & kCounterReset) names.push_back("reset");
  if (flags & kCounterAmbiguous) names.push_back("ambiguous");
  if (flags & kCounterCapped) names.push_back("capped");
  if (flags & kCounterFrozen) names.push_back("frozen");
  if (flags & kCounterSuspended) names.push_back("suspended");
  return absl::StrJoin(names, ", ");
}

CounterAccumulator::CounterAccumulator(const CounterSpec& spec) : spec_(spec) {
  FEDWATT_CHECK(spec.max_power > Watts(0) && std::isfinite(spec.max_power.watts()) && spec.refresh >= absl::ZeroDuration() &&
                spec.frozen_after > absl::ZeroDuration() && spec.modulus_uj >= 0);
}

absl::Duration CounterAccumulator::staleness() const {
  if (!last_.has_value() || !last_->before.has_value()) return absl::InfiniteDuration();
  return last_->at - *last_->before + spec_.refresh;
}

absl::Duration CounterAccumulator::safe_period() const {
  if (spec_.modulus_uj == 0) return absl::InfiniteDuration();
  return absl::Seconds(static_cast<double>(spec_.modulus_uj) / 1e6 / spec_.max_power.watts() / 4);
}

int64_t CounterAccumulator::PlausibleMicrojoules(absl::Duration span) const {
  const double bound = spec_.max_power.watts() * 1e6 * absl::ToDoubleSeconds(span + spec_.refresh + kBurst);
  return bound < 9e18 ? static_cast<int64_t>(bound) : std::numeric_limits<int64_t>::max();
}

CounterDelta CounterAccumulator::Feed(absl::Duration now, absl::Duration suspended, int64_t raw_uj) {
  CounterDelta delta;
  const std::optional<Point> last = std::exchange(last_, Point{now, suspended, raw_uj, now, {}});
  if (!last.has_value()) return delta;
  delta.span = now - last->at;
  if (delta.span < absl::ZeroDuration()) return delta;  // no monotonic clock does this
  if (raw_uj != last->raw_uj) {
    last_->before = last->at;
  } else {
    last_->before = last->before;
    last_->first_seen = last->first_seen;
    if (now - last->first_seen >= spec_.frozen_after) delta.flags |= kCounterFrozen;
  }
  if (suspended - last->suspended >= kShortestSleep) delta.flags |= kCounterSuspended;
  if (delta.flags != 0) return delta;

  // A number that nothing explains proves no life: a frozen counter may jump and stand still again.
  const std::optional<absl::Duration> moved = std::exchange(last_->before, last->before);
  const int64_t plausible = PlausibleMicrojoules(delta.span);
  int64_t value = raw_uj - last->raw_uj;
  int64_t least = value;
  if (value < 0) {
    if (!stepped_from_.has_value()) stepped_from_ = last;
    if (last->raw_uj >= spec_.modulus_uj) {  // also when the modulus is unknown
      delta.flags = kCounterReset;
      return delta;
    }
    value += spec_.modulus_uj;
    if (value > plausible) {
      delta.flags = kCounterReset;
      return delta;
    }
    delta.flags |= kCounterWrapped;
    least = raw_uj;
  } else if (value > plausible) {
    stepped_from_.reset();
    delta.flags = kCounterCapped;
    return delta;
  } else if (stepped_from_.has_value() && value > 0) {
    const Point from = *std::exchange(stepped_from_, std::nullopt);
    const int64_t since = PlausibleMicrojoules(now - from.at);
    if (raw_uj >= from.raw_uj && raw_uj - from.raw_uj <= since) {
      if (spec_.modulus_uj == 0 || since < spec_.modulus_uj) {
        delta.flags = kCounterReset;
        return delta;
      }
      least = 0;  // it may also have gone all the way round
    }
  }
  last_->before = moved;
  int64_t most = value;
  if (spec_.modulus_uj > 0 && plausible - value >= spec_.modulus_uj) {
    most += (plausible - value) / spec_.modulus_uj * spec_.modulus_uj;
    delta.flags |= kCounterAmbiguous;
  }
  delta.least_uj = least;
  delta.value_uj = value;
  delta.most_uj = most;
  return delta;
}

}  // namespace fedwatt

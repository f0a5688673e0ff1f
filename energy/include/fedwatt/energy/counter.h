// Joules out of a hardware counter that wraps, resets, freezes, sleeps and lies.
#ifndef FEDWATT_ENERGY_COUNTER_H_
#define FEDWATT_ENERGY_COUNTER_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "fedwatt/energy/quantities.h"

namespace fedwatt {

struct CounterSpec {
  // The counter goes from modulus - 1 to 0; 0 when unknown, so that a wrap cannot be told from a reset.
  int64_t modulus_uj = 0;
  // What the counted hardware never exceeds for long: a faster counter is a reset or a lie.
  Power max_power = Watts(1000);
  // The counter advances at least this often while the hardware runs: a reading may be this old.
  absl::Duration refresh = absl::Milliseconds(1);
  // Powered hardware always spends something in this time; a counter that shows nothing is frozen or masked.
  absl::Duration frozen_after = absl::Milliseconds(100);
};

// What a difference of two readings went through. A missing one has the reason set.
enum CounterFlag : uint8_t {
  kCounterWrapped = 1,    // once or more; the modulus was added
  kCounterReset = 2,      // missing: a step backwards that no wrap explains, or one forwards that takes it back
  kCounterAmbiguous = 4,  // long enough to hold further whole wraps: `most` counts them
  kCounterCapped = 8,     // missing: faster than max_power
  kCounterFrozen = 16,    // missing: stood still for frozen_after or longer
  kCounterSuspended = 32, // missing: the machine slept in between, and counters may restart then
};

struct CounterDelta {
  // The joules the two readings stand for, and the least and most they can stand for. All or none.
  std::optional<int64_t> least_uj, value_uj, most_uj;
  absl::Duration span;  // since the reading before; zero for the first
  uint8_t flags = 0;

  bool missing() const { return !value_uj.has_value(); }
};

// "wrapped, ambiguous"; "" for none.
std::string CounterFlagNames(uint8_t flags);

// Turns readings of one counter into differences. The first reading is the origin and never energy. Every fault costs the
// differences it touches, none invents joules:
//   backwards     a wrap if the modulus is known and the implied power is at most max_power, else a reset. `least_uj` of a wrap is what
//                 the counter shows now, because a reset just before looks the same.
//   forth again   after a step backwards, up to where a counter that never stepped back would be: the number before was wrong; missing, or at least 0
//                 where a whole turn is possible
//   fast          more than max_power over the span (and refresh) is no energy
//   still         one number for frozen_after or longer, however often it is read
//   long          further whole wraps that fit under max_power widen the interval upwards
//   asleep        `suspended` grew by 10 ms or more
// A number is no fresher than the last change that was seen: a counter may have stopped right after the reading before and give what it held back
// later. Whoever cuts time at a reading allows for staleness() there: max_power times it, as much less for what begins and more for what ends.
// A reading that failed is not fed: the next difference then spans it. Owned by one thread.
class CounterAccumulator {
 public:
  // `spec`: max_power > 0, refresh >= 0, frozen_after > 0, modulus_uj >= 0; aborts otherwise.
  explicit CounterAccumulator(const CounterSpec& spec);

  // `now` is monotonic time, `suspended` the time that the machine has slept since some fixed instant, `raw_uj` >= 0.
  CounterDelta Feed(absl::Duration now, absl::Duration suspended, int64_t raw_uj);
  // The next reading is an origin again.
  void Forget() {
    last_.reset();
    stepped_from_.reset();
  }

  const CounterSpec& spec() const { return spec_; }
  // How old the last reading's number may be: since the reading before it first differed, and refresh. Infinite at an origin.
  absl::Duration staleness() const;
  // Read at least this often, and no wrap goes unseen: a quarter of the modulus at max_power. Infinite when the modulus is unknown.
  absl::Duration safe_period() const;

 private:
  struct Point {
    absl::Duration at, suspended;
    int64_t raw_uj;
    absl::Duration first_seen;             // when raw_uj was first seen
    std::optional<absl::Duration> before;  // the last time that another number was
  };
  int64_t PlausibleMicrojoules(absl::Duration span) const;

  const CounterSpec spec_;
  std::optional<Point> last_;
  std::optional<Point> stepped_from_;  // the reading before a step backwards, until the number moves on
};

}  // namespace fedwatt

#endif  // FEDWATT_ENERGY_COUNTER_H_

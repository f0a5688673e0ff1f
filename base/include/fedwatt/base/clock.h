// Time as a dependency: real for binaries, virtual for simulations and tests.
#ifndef FEDWATT_BASE_CLOCK_H_
#define FEDWATT_BASE_CLOCK_H_

#include "absl/time/time.h"

namespace fedwatt {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;

  // Wall-clock time, for records and deadlines. May jump when the machine's clock is set.
  virtual absl::Time Now() const = 0;

  // Time since an arbitrary start that never jumps, for measuring spans.
  virtual absl::Duration Monotonic() const = 0;
};

// The machine's clock. Lives for the whole process.
const Clock& RealClock();

// A clock that stands still until told otherwise. Thread-compatible.
class VirtualClock : public Clock {
 public:
  explicit VirtualClock(absl::Time start = absl::UnixEpoch()) : now_(start), start_(start) {}
  absl::Time Now() const override { return now_; }
  absl::Duration Monotonic() const override { return now_ - start_; }
  // Moves forwards; an earlier time is ignored.
  void AdvanceTo(absl::Time time) { now_ = time > now_ ? time : now_; }
  void Advance(absl::Duration span) { AdvanceTo(now_ + span); }

 private:
  absl::Time now_;
  absl::Time start_;
};

}  // namespace fedwatt

#endif  // FEDWATT_BASE_CLOCK_H_

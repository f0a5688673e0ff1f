// Time as a dependency: real for binaries, virtual for simulations and tests.
#ifndef FEDWATT_BASE_CLOCK_H_
#define FEDWATT_BASE_CLOCK_H_

#include <algorithm>

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

// Another clock's wall-clock time without its jumps: it goes on as that clock's Monotonic() does, for deadlines that a clock which is set must not move. Thread-compatible.
class SteadyClock : public Clock {
 public:
  // `clock` must outlive this one.
  explicit SteadyClock(const Clock* clock) : clock_(clock), offset_(clock->Now() - absl::UnixEpoch() - clock->Monotonic()) {}
  absl::Time Now() const override { return absl::UnixEpoch() + offset_ + clock_->Monotonic(); }
  absl::Duration Monotonic() const override { return clock_->Monotonic(); }
  // Where nothing is under way: takes over a jump, unless it goes back.
  void CatchUp() { offset_ = std::max(offset_, clock_->Now() - absl::UnixEpoch() - clock_->Monotonic()); }

 private:
  const Clock* clock_;
  absl::Duration offset_;  // of 1970, on Monotonic()'s scale
};

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

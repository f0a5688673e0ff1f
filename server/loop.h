// The one thread that owns a round: closures posted from anywhere run on it in order, timers fire on it.
#ifndef FEDWATT_SERVER_LOOP_H_
#define FEDWATT_SERVER_LOOP_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "fedwatt/base/clock.h"

namespace fedwatt::internal {

// Post is thread-safe; everything else is owned by the thread that calls RunOnce.
class Loop {
 public:
  using Task = std::function<void()>;
  using TimerId = int64_t;

  // `clock` must outlive the loop.
  explicit Loop(const Clock* clock) : clock_(clock) {}

  void Post(Task task);

  // Runs `task` once `span` has passed. Returns a number, never 0, for Cancel.
  TimerId After(absl::Duration span, Task task);
  // Does nothing when the timer has fired, was cancelled, or `id` is 0.
  void Cancel(TimerId id);

  // When the next timer is due, by the clock's Monotonic(), or at once where a task waits; for whoever moves the clock. Nullopt: nothing is to be done.
  std::optional<absl::Duration> NextDue();

  // Waits for a task or a timer, at most `at_most`, and runs all that are ready.
  void RunOnce(absl::Duration at_most);

 private:
  const Clock* clock_;
  std::map<std::pair<absl::Duration, TimerId>, Task> timers_;  // by due time
  std::map<TimerId, absl::Duration> due_;
  TimerId next_timer_ = 1;

  absl::Mutex mutex_;
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace fedwatt::internal

#endif  // FEDWATT_SERVER_LOOP_H_

#include "loop.h"

#include <algorithm>
#include <utility>

namespace fedwatt::internal {

void Loop::Post(Task task) {
  absl::MutexLock lock(&mutex_);
  tasks_.push_back(std::move(task));
}

Loop::TimerId Loop::After(absl::Duration span, Task task) {
  const TimerId id = next_timer_++;
  const absl::Duration due = clock_->Monotonic() + std::max(span, absl::ZeroDuration());
  timers_.emplace(std::make_pair(due, id), std::move(task));
  due_.emplace(id, due);
  return id;
}

void Loop::Cancel(TimerId id) {
  auto it = due_.find(id);
  if (it == due_.end()) return;
  timers_.erase({it->second, id});
  due_.erase(it);
}

std::optional<absl::Duration> Loop::NextDue() {
  absl::MutexLock lock(&mutex_);
  if (!tasks_.empty()) return absl::ZeroDuration();
  if (timers_.empty()) return std::nullopt;
  return timers_.begin()->first.first;
}

void Loop::RunOnce(absl::Duration at_most) {
  absl::Duration wait = at_most;
  if (!timers_.empty()) wait = std::min(wait, timers_.begin()->first.first - clock_->Monotonic());
  std::deque<Task> ready;
  {
    absl::MutexLock lock(&mutex_);
    auto posted = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !tasks_.empty(); };
    if (wait > absl::ZeroDuration()) mutex_.AwaitWithTimeout(absl::Condition(&posted), wait);  // a wait for nothing is a system call, too
    ready.swap(tasks_);
  }
  for (Task& task : ready) task();
  const absl::Duration now = clock_->Monotonic();
  while (!timers_.empty() && timers_.begin()->first.first <= now) {
    auto first = timers_.extract(timers_.begin());
    due_.erase(first.key().second);
    first.mapped()();
  }
}

}  // namespace fedwatt::internal

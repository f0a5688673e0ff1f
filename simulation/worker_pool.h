// Threads that each own some state and take jobs from one queue.
#ifndef FEDWATT_SIMULATION_WORKER_POOL_H_
#define FEDWATT_SIMULATION_WORKER_POOL_H_

#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace fedwatt::internal {

// Thread-safe. The destructor finishes the queued jobs.
class WorkerPool {
 public:
  explicit WorkerPool(int64_t count) {
    for (int64_t i = 0; i < count; ++i) threads_.emplace_back([this, i] { Work(i); });
  }
  ~WorkerPool() {
    {
      absl::MutexLock lock(&mutex_);
      closing_ = true;
    }
    for (std::thread& thread : threads_) thread.join();
  }

  // `job` gets the number of the worker it runs on, in [0, count).
  void Submit(std::function<void(int64_t worker)> job) {
    absl::MutexLock lock(&mutex_);
    jobs_.push_back(std::move(job));
  }

 private:
  void Work(int64_t worker) {
    for (;;) {
      std::function<void(int64_t)> job;
      {
        absl::MutexLock lock(&mutex_);
        mutex_.Await(absl::Condition(this, &WorkerPool::HasNews));
        if (jobs_.empty()) return;
        job = std::move(jobs_.front());
        jobs_.pop_front();
      }
      job(worker);
    }
  }
  bool HasNews() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return closing_ || !jobs_.empty(); }

  absl::Mutex mutex_;
  std::deque<std::function<void(int64_t)>> jobs_ ABSL_GUARDED_BY(mutex_);
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace fedwatt::internal

#endif  // FEDWATT_SIMULATION_WORKER_POOL_H_

// What a mutex guards is touched under it.
#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

class Counter {
 public:
  void Add() {
#ifndef MISUSE
    absl::MutexLock lock(&mutex_);
#endif
    ++count_;
  }

 private:
  absl::Mutex mutex_;
  int count_ ABSL_GUARDED_BY(mutex_) = 0;
};

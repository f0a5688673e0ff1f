// Threads that add updates to the round's sum.
#ifndef FEDWATT_SERVER_FOLD_POOL_H_
#define FEDWATT_SERVER_FOLD_POOL_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "fedwatt/aggregation/accumulator.h"
#include "fedwatt/base/digest.h"
#include "fedwatt/round/global_model.h"
#include "journal.h"

namespace fedwatt::internal {

// Each thread has its own accumulator; sums of integers do not depend on who added what. Memory while a round is folded: per thread one accumulator,
// one decoded update and one encoded update, whatever the number of clients; nothing between rounds. Thread-safe.
class FoldPool {
 public:
  struct Task {
    std::shared_ptr<const FittedPlan> fitted;  // what was trained
    FileRange update;  // where the container lies
    std::optional<Digest> digest;  // what it must be, where it was read back after a restart
    int64_t example_count = 0;
    int64_t round = 0;
    int64_t partition = 0;
    // Called on a pool thread, with the container if it is good and no longer than Journal::kMaxBodyBytes.
    std::function<void(absl::Status, std::string container)> done;
  };
  using MakeAccumulator = std::function<absl::StatusOr<std::unique_ptr<Accumulator>>()>;

  // `thread_count` >= 1.
  FoldPool(int thread_count, MakeAccumulator make_accumulator);
  ~FoldPool();

  void Fold(Task task);

  // The mean of everything folded; the sum is empty afterwards. Waits for folds that are under way.
  // Errors: FAILED_PRECONDITION  nothing was folded
  absl::StatusOr<MeanDelta> Take();
  // Empties the sum. Folds that wait are dropped without a call to `done`; those under way are waited for.
  void Forget();

 private:
  void Work(size_t worker);
  std::vector<std::unique_ptr<Accumulator>> TakeAccumulators();

  const MakeAccumulator make_accumulator_;

  absl::Mutex mutex_;
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mutex_);
  int busy_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  // One a worker; a worker has its own out of here while it folds.
  std::vector<std::unique_ptr<Accumulator>> accumulators_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::jthread> threads_;  // last: joins before the rest goes
};

}  // namespace fedwatt::internal

#endif  // FEDWATT_SERVER_FOLD_POOL_H_

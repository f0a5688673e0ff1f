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
#include "fedwatt/base/disk.h"
#include "fedwatt/round/global_model.h"
#include "fedwatt/server/server.h"
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
    // Called on a pool thread, with the container if it is good and no longer than the journal takes.
    std::function<void(absl::Status, std::string container)> done;
  };
  using MakeAccumulator = std::function<absl::StatusOr<std::unique_ptr<Accumulator>>()>;

  // `thread_count` >= 1. `disk` must outlive the pool. Where `background` is set there are no threads: each fold is such a task, which uses the accumulators in turn.
  FoldPool(int thread_count, MakeAccumulator make_accumulator, int64_t journaled_bytes = Journal::kMaxBodyBytes, Disk& disk = RealDisk(), Background background = {});
  ~FoldPool();

  void Fold(Task task);

  // The mean of everything folded; the sum is empty afterwards. Waits for folds that are under way.
  // Errors: FAILED_PRECONDITION  nothing was folded
  absl::StatusOr<MeanDelta> Take();
  // Empties the sum. Folds that wait are dropped without a call to `done`; those under way are waited for.
  void Forget();

 private:
  void Work(size_t worker);
  // The next task; the lock is held before and after, not meanwhile.
  void FoldNext(size_t worker, FoldScratch& scratch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::vector<std::unique_ptr<Accumulator>> TakeAccumulators();

  const MakeAccumulator make_accumulator_;
  const int64_t journaled_bytes_;
  Disk& disk_;
  const Background background_;
  size_t turn_ = 0;  // without threads: who folds next
  std::shared_ptr<const bool> alive_ = std::make_shared<bool>(true);  // likewise: tasks outlive the pool

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

#include "fold_pool.h"

#include <utility>

#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/rejection.h"

namespace fedwatt::internal {

FoldPool::FoldPool(int thread_count, MakeAccumulator make_accumulator) : make_accumulator_(std::move(make_accumulator)) {
  {
    absl::MutexLock lock(&mutex_);
    accumulators_.resize(static_cast<size_t>(thread_count));
  }
  for (int i = 0; i < thread_count; ++i) threads_.emplace_back([this, i] { Work(static_cast<size_t>(i)); });
}

FoldPool::~FoldPool() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    tasks_.clear();
  }
  threads_.clear();
}

void FoldPool::Fold(Task task) {
  absl::MutexLock lock(&mutex_);
  tasks_.push_back(std::move(task));
}

void FoldPool::Work(size_t worker) {
  FoldScratch scratch;
  auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_ || !tasks_.empty(); };
  for (;;) {
    Task task;
    std::unique_ptr<Accumulator> accumulator;
    {
      absl::MutexLock lock(&mutex_);
      // A decoded update is a model's worth of memory: keep it between folds, not between rounds.
      if (tasks_.empty()) scratch = FoldScratch();
      mutex_.Await(absl::Condition(&ready));
      if (stopping_) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
      ++busy_;
      accumulator = std::move(accumulators_[worker]);
    }
    absl::Status status = [&]() -> absl::Status {
      if (accumulator == nullptr) {
        FEDWATT_ASSIGN_OR_RETURN(accumulator, make_accumulator_());
      }
      const FittedPlan& fitted = *task.fitted;
      FEDWATT_ASSIGN_OR_RETURN(std::string container, ReadFile(task.path, fitted.plan.limits.max_update_bytes));
      return FoldUpdate(fitted.plan, fitted.layout, container, task.example_count, task.round, task.partition, *accumulator, scratch, fitted.submodel.get());
    }();
    {
      absl::MutexLock lock(&mutex_);
      accumulators_[worker] = std::move(accumulator);
      --busy_;
    }
    task.done(std::move(status));
  }
}

std::vector<std::unique_ptr<Accumulator>> FoldPool::TakeAccumulators() {
  absl::MutexLock lock(&mutex_);
  auto idle = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return busy_ == 0 && tasks_.empty(); };
  mutex_.Await(absl::Condition(&idle));
  std::vector<std::unique_ptr<Accumulator>> taken(accumulators_.size());
  taken.swap(accumulators_);
  return taken;
}

absl::StatusOr<MeanDelta> FoldPool::Take() {
  std::unique_ptr<Accumulator> sum;
  for (std::unique_ptr<Accumulator>& part : TakeAccumulators()) {
    if (part == nullptr) continue;
    if (sum == nullptr) {
      sum = std::move(part);
    } else {
      FEDWATT_RETURN_IF_ERROR(sum->Merge(*part));
      part.reset();
    }
  }
  if (sum == nullptr) return absl::FailedPreconditionError("aggregation: no update was folded");
  return sum->Report();
}

void FoldPool::Forget() {
  {
    absl::MutexLock lock(&mutex_);
    tasks_.clear();
  }
  TakeAccumulators();
}

}  // namespace fedwatt::internal

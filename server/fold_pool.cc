#include "fold_pool.h"

#include <fcntl.h>

#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "fedwatt/base/failpoint.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/planted.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/rejection.h"

namespace fedwatt::internal {

namespace {

absl::StatusOr<std::string> ReadRange(Disk& disk, const FileRange& range) {
  const int file = disk.Open(range.path, O_RDONLY);
  if (file < 0) return ErrnoStatus(-file, absl::StrCat("opening ", range.path));
  absl::Cleanup closer = [&] { disk.Close(file); };
  std::string bytes(static_cast<size_t>(range.length), '\0');
  for (int64_t done = 0; done < range.length;) {
    const int64_t got = disk.Read(file, bytes.data() + done, range.length - done, range.offset + done);
    if (got < 0) return ErrnoStatus(static_cast<int>(-got), absl::StrCat("reading ", range.path));
    if (got == 0) return absl::DataLossError(absl::StrCat(range.path, " ends at offset ", range.offset + done, ", expected ", range.length, " bytes at ", range.offset));
    done += got;
  }
  return bytes;
}

}  // namespace

FoldPool::FoldPool(int thread_count, MakeAccumulator make_accumulator, int64_t journaled_bytes, Disk& disk, Background background)
    : make_accumulator_(std::move(make_accumulator)), journaled_bytes_(journaled_bytes), disk_(disk), background_(std::move(background)) {
  {
    absl::MutexLock lock(&mutex_);
    accumulators_.resize(static_cast<size_t>(thread_count));
  }
  if (background_) return;
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
  {
    absl::MutexLock lock(&mutex_);
    tasks_.push_back(std::move(task));
  }
  if (!background_) return;
  background_(absl::ZeroDuration(), [this, alive = std::weak_ptr<const bool>(alive_)] {
    if (alive.expired()) return;
    FoldScratch scratch;
    absl::MutexLock lock(&mutex_);
    if (!tasks_.empty()) FoldNext(turn_++ % accumulators_.size(), scratch);
  });
}

void FoldPool::Work(size_t worker) {
  FoldScratch scratch;
  auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_ || !tasks_.empty(); };
  absl::MutexLock lock(&mutex_);
  for (;;) {
    // A decoded update is a model's worth of memory: keep it between folds, not between rounds.
    if (tasks_.empty()) scratch = FoldScratch();
    mutex_.Await(absl::Condition(&ready));
    if (stopping_) return;
    FoldNext(worker, scratch);
  }
}

void FoldPool::FoldNext(size_t worker, FoldScratch& scratch) {
  Task task = std::move(tasks_.front());
  tasks_.pop_front();
  ++busy_;
  std::unique_ptr<Accumulator> accumulator = std::move(accumulators_[worker]);
  mutex_.Unlock();
  std::string container;
  absl::Status status = [&]() -> absl::Status {
    if (accumulator == nullptr) {
      FEDWATT_ASSIGN_OR_RETURN(accumulator, make_accumulator_());
    }
    const FittedPlan& fitted = *task.fitted;
    FEDWATT_ASSIGN_OR_RETURN(container, ReadRange(disk_, task.update));
    if (task.digest && Sha256(container) != *task.digest) {
      return absl::DataLossError(absl::StrCat("the update at offset ", task.update.offset, " of ", task.update.path, " is damaged: its SHA-256 is not the one that was acknowledged"));
    }
    Failpoint("folding");
    if (FEDWATT_PLANTED(recovered_update_folded_twice) && task.digest) FoldUpdate(fitted.plan, fitted.layout, container, task.example_count, task.round, task.partition, *accumulator, scratch, fitted.submodel.get()).IgnoreError();
    return FoldUpdate(fitted.plan, fitted.layout, container, task.example_count, task.round, task.partition, *accumulator, scratch, fitted.submodel.get());
  }();
  mutex_.Lock();
  accumulators_[worker] = std::move(accumulator);
  --busy_;
  mutex_.Unlock();
  if (status.ok()) Failpoint("update_folded");
  if (!status.ok() || static_cast<int64_t>(container.size()) > journaled_bytes_) container = std::string();
  task.done(std::move(status), std::move(container));
  mutex_.Lock();
}

std::vector<std::unique_ptr<Accumulator>> FoldPool::TakeAccumulators() {
  absl::MutexLock lock(&mutex_);
  FoldScratch scratch;
  while (background_ && !tasks_.empty()) FoldNext(0, scratch);
  auto idle = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return busy_ == 0 && tasks_.empty(); };
  mutex_.Await(absl::Condition(&idle));
  std::vector<std::unique_ptr<Accumulator>> taken(accumulators_.size());
  taken.swap(accumulators_);
  return taken;
}

absl::StatusOr<MeanDelta> FoldPool::Take() {
  std::unique_ptr<Accumulator> sum;
  for (std::unique_ptr<Accumulator>& part : TakeAccumulators()) {
    if (part == nullptr || (FEDWATT_PLANTED(worker_left_out) && sum != nullptr)) continue;
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

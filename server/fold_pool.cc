#include "fold_pool.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "fedwatt/base/failpoint.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/rejection.h"

namespace fedwatt::internal {

namespace {

absl::StatusOr<std::string> ReadRange(const FileRange& range) {
  const int fd = ::open(range.path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, absl::StrCat("opening ", range.path));
  absl::Cleanup closer = [fd] { ::close(fd); };
  std::string bytes(static_cast<size_t>(range.length), '\0');
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t got = ::pread(fd, bytes.data() + done, bytes.size() - done, range.offset + static_cast<int64_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoStatus(errno, absl::StrCat("reading ", range.path));
    if (got == 0) return absl::DataLossError(absl::StrCat(range.path, " ends at offset ", range.offset + static_cast<int64_t>(done), ", expected ", range.length, " bytes at ", range.offset));
    done += static_cast<size_t>(got);
  }
  return bytes;
}

}  // namespace

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
    std::string container;
    absl::Status status = [&]() -> absl::Status {
      if (accumulator == nullptr) {
        FEDWATT_ASSIGN_OR_RETURN(accumulator, make_accumulator_());
      }
      const FittedPlan& fitted = *task.fitted;
      FEDWATT_ASSIGN_OR_RETURN(container, ReadRange(task.update));
      if (task.digest && Sha256(container) != *task.digest) {
        return absl::DataLossError(absl::StrCat("the update at offset ", task.update.offset, " of ", task.update.path, " is damaged: its SHA-256 is not the one that was acknowledged"));
      }
      Failpoint("folding");
      return FoldUpdate(fitted.plan, fitted.layout, container, task.example_count, task.round, task.partition, *accumulator, scratch, fitted.submodel.get());
    }();
    {
      absl::MutexLock lock(&mutex_);
      accumulators_[worker] = std::move(accumulator);
      --busy_;
    }
    if (status.ok()) Failpoint("update_folded");
    if (!status.ok() || static_cast<int64_t>(container.size()) > Journal::kMaxBodyBytes) container = std::string();
    task.done(std::move(status), std::move(container));
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

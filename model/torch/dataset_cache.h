// Datasets as tensors, kept between the calls that train on them.
#ifndef FEDWATT_MODEL_TORCH_DATASET_CACHE_H_
#define FEDWATT_MODEL_TORCH_DATASET_CACHE_H_

#include <cstdint>
#include <list>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "fedwatt/model/dataset.h"
#include "pch.h"

namespace fedwatt::internal {

struct DatasetTensors {
  at::Tensor inputs;   // [n, input_shape...] float32, or int64 for tokens
  at::Tensor targets;  // [n] int64 labels, or [n, output_count] float32

  int64_t bytes() const { return static_cast<int64_t>(inputs.nbytes() + targets.nbytes()); }
};

// Least recently used goes first. Thread-safe.
class DatasetCache {
 public:
  explicit DatasetCache(int64_t max_bytes) : max_bytes_(max_bytes) {}
  // The one that all trainers of the process share, 1 GiB.
  static DatasetCache& Shared();

  // Built on first use. A dataset larger than the whole cache is built anew each time.
  std::shared_ptr<const DatasetTensors> Get(const Dataset& data);

  int64_t bytes() const;

 private:
  using Key = std::pair<const ExampleStore*, std::vector<int32_t>>;
  struct Entry {
    Key key;
    std::weak_ptr<const ExampleStore> store;  // tells a freed store from a new one at its address
    std::shared_ptr<const DatasetTensors> tensors;
  };
  void Erase(std::list<Entry>::iterator entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int64_t max_bytes_;
  mutable absl::Mutex mutex_;
  int64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::list<Entry> entries_ ABSL_GUARDED_BY(mutex_);  // most recently used first
  absl::flat_hash_map<Key, std::list<Entry>::iterator> index_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace fedwatt::internal

#endif  // FEDWATT_MODEL_TORCH_DATASET_CACHE_H_

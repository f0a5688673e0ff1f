#include "dataset_cache.h"

#include <algorithm>

namespace fedwatt::internal {
namespace {

DatasetTensors Materialise(const Dataset& data) {
  const ExampleStore& store = data.store();
  std::vector<int64_t> shape = {data.size()};
  shape.insert(shape.end(), store.input_shape.begin(), store.input_shape.end());
  const int64_t size = store.input_size();
  DatasetTensors tensors;
  if (const auto* tokens = std::get_if<std::vector<int32_t>>(&store.inputs)) {
    tensors.inputs = at::empty(shape, at::kLong);
    int64_t* out = tensors.inputs.data_ptr<int64_t>();
    for (int32_t index : data.indices()) out = std::copy_n(tokens->data() + index * size, size, out);
  } else {
    tensors.inputs = at::empty(shape, at::kFloat);
    float* out = tensors.inputs.data_ptr<float>();
    for (int64_t i = 0; i < data.size(); ++i) data.CopyInput(i, absl::MakeSpan(out + i * size, size));
  }
  if (!store.regression_targets.empty()) {
    tensors.targets = at::empty({data.size(), store.output_count}, at::kFloat);
    float* out = tensors.targets.data_ptr<float>();
    for (int32_t index : data.indices()) {
      out = std::copy_n(store.regression_targets.data() + index * store.output_count, store.output_count, out);
    }
  } else {
    tensors.targets = at::empty({data.size()}, at::kLong);
    int64_t* out = tensors.targets.data_ptr<int64_t>();
    for (int64_t i = 0; i < data.size(); ++i) out[i] = data.label(i);
  }
  return tensors;
}

}  // namespace

DatasetCache& DatasetCache::Shared() {
  static auto* cache = new DatasetCache(int64_t{1} << 30);
  return *cache;
}

std::shared_ptr<const DatasetTensors> DatasetCache::Get(const Dataset& data) {
  const std::shared_ptr<const ExampleStore>& store = data.shared_store();
  Key key(store.get(), data.indices());
  {
    absl::MutexLock lock(&mutex_);
    if (auto it = index_.find(key); it != index_.end()) {
      if (it->second->store.lock() == store) {
        entries_.splice(entries_.begin(), entries_, it->second);
        return it->second->tensors;
      }
      Erase(it->second);
    }
  }
  auto tensors = std::make_shared<const DatasetTensors>(Materialise(data));  // two threads may both do it; the second copy is dropped
  absl::MutexLock lock(&mutex_);
  for (auto it = entries_.begin(); it != entries_.end();) {
    auto entry = it++;
    if (entry->store.expired()) Erase(entry);
  }
  if (tensors->bytes() > max_bytes_ || index_.contains(key)) return tensors;
  while (bytes_ + tensors->bytes() > max_bytes_) Erase(std::prev(entries_.end()));
  bytes_ += tensors->bytes();
  entries_.push_front({key, store, tensors});
  index_.emplace(std::move(key), entries_.begin());
  return tensors;
}

int64_t DatasetCache::bytes() const {
  absl::MutexLock lock(&mutex_);
  return bytes_;
}

void DatasetCache::Erase(std::list<Entry>::iterator entry) {
  bytes_ -= entry->tensors->bytes();
  index_.erase(entry->key);
  entries_.erase(entry);
}

}  // namespace fedwatt::internal

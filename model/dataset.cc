#include "fedwatt/model/dataset.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt {
namespace {

absl::Status Refuse(const absl::AlphaNum& what) { return absl::InvalidArgumentError(absl::StrCat("dataset: ", what)); }

bool AllFinite(const std::vector<float>& values) {
  return std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
}

absl::Status CheckRange(const std::vector<int32_t>& values, int64_t end, const char* what) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] < 0 || values[i] >= end) return Refuse(absl::StrCat(what, " ", values[i], " at ", i, ", expected [0, ", end, ")"));
  }
  return absl::OkStatus();
}

absl::Status CheckNormalisation(const std::vector<float>& factors, int64_t channels, const char* what) {
  if (factors.size() != 1 && static_cast<int64_t>(factors.size()) != channels) {
    return Refuse(absl::StrCat(factors.size(), " values of ", what, ", expected 1 or one a channel (", channels, ")"));
  }
  if (!AllFinite(factors)) return Refuse(absl::StrCat(what, " is not finite"));
  return absl::OkStatus();
}

absl::Status CheckGroups(const std::vector<int32_t>& groups, int64_t example_count) {
  if (groups.empty()) return absl::OkStatus();
  if (static_cast<int64_t>(groups.size()) != example_count) {
    return Refuse(absl::StrCat(groups.size(), " natural groups for ", example_count, " examples"));
  }
  FEDWATT_RETURN_IF_ERROR(CheckRange(groups, example_count, "natural group"));
  std::vector<bool> seen(static_cast<size_t>(*std::max_element(groups.begin(), groups.end())) + 1);
  for (int32_t group : groups) seen[group] = true;
  for (size_t group = 0; group < seen.size(); ++group) {
    if (!seen[group]) return Refuse(absl::StrCat("natural group ", group, " has no example; groups are dense from 0"));
  }
  return absl::OkStatus();
}

// Rows `indices` of a matrix with `width` columns.
template <typename T>
std::vector<T> Gather(const std::vector<T>& rows, int64_t width, const std::vector<int32_t>& indices) {
  std::vector<T> out;
  if (rows.empty()) return out;
  out.reserve(indices.size() * static_cast<size_t>(width));
  for (int32_t index : indices) out.insert(out.end(), rows.begin() + index * width, rows.begin() + (index + 1) * width);
  return out;
}

}  // namespace

int64_t ExampleStore::input_size() const {
  return std::accumulate(input_shape.begin(), input_shape.end(), int64_t{1}, std::multiplies<int64_t>());
}

int64_t ExampleStore::example_count() const {
  const int64_t size = input_size();
  return size < 1 ? 0 : std::visit([size](const auto& values) { return static_cast<int64_t>(values.size()) / size; }, inputs);
}

absl::Status ValidateExampleStore(const ExampleStore& store) {
  if (store.input_shape.empty()) return Refuse("input_shape has no dimension");
  int64_t size = 1;
  for (int64_t dimension : store.input_shape) {
    if (dimension < 1 || dimension > std::numeric_limits<int32_t>::max() / size) {
      return Refuse(absl::StrCat("dimension ", dimension, " in input_shape, expected >= 1 and fewer than 2^31 elements together"));
    }
    size *= dimension;
  }
  const int64_t element_count = std::visit([](const auto& values) { return static_cast<int64_t>(values.size()); }, store.inputs);
  if (element_count == 0) return Refuse("zero examples");
  if (element_count % size != 0) return Refuse(absl::StrCat(element_count, " input elements are not whole examples of ", size));
  const int64_t count = element_count / size;
  if (count > std::numeric_limits<int32_t>::max()) return Refuse(absl::StrCat(count, " examples, expected fewer than 2^31"));
  if (store.output_count < 1) return Refuse(absl::StrCat("output_count = ", store.output_count, ", expected >= 1"));
  FEDWATT_RETURN_IF_ERROR(CheckNormalisation(store.scale, store.input_shape[0], "scale"));
  FEDWATT_RETURN_IF_ERROR(CheckNormalisation(store.shift, store.input_shape[0], "shift"));
  if (const auto* floats = std::get_if<std::vector<float>>(&store.inputs); floats != nullptr && !AllFinite(*floats)) {
    return Refuse("an input is not finite");
  }
  if (const auto* tokens = std::get_if<std::vector<int32_t>>(&store.inputs)) {
    FEDWATT_RETURN_IF_ERROR(CheckRange(*tokens, store.output_count, "token"));
  }
  if (store.labels.empty() == store.regression_targets.empty()) return Refuse("expected either labels or regression targets");
  if (!store.labels.empty()) {
    if (static_cast<int64_t>(store.labels.size()) != count) {
      return Refuse(absl::StrCat(store.labels.size(), " labels for ", count, " examples"));
    }
    FEDWATT_RETURN_IF_ERROR(CheckRange(store.labels, store.output_count, "label"));
  } else {
    const int64_t targets = static_cast<int64_t>(store.regression_targets.size());
    if (targets % count != 0 || targets / count != store.output_count) {
      return Refuse(absl::StrCat(targets, " regression targets for ", count, " examples of ", store.output_count));
    }
    if (!AllFinite(store.regression_targets)) return Refuse("a regression target is not finite");
  }
  return CheckGroups(store.natural_groups, count);
}

absl::StatusOr<Dataset> Dataset::Create(ExampleStore store) {
  FEDWATT_RETURN_IF_ERROR(ValidateExampleStore(store));
  Dataset dataset;
  dataset.indices_.resize(static_cast<size_t>(store.example_count()));
  std::iota(dataset.indices_.begin(), dataset.indices_.end(), 0);
  dataset.store_ = std::make_shared<const ExampleStore>(std::move(store));
  return dataset;
}

absl::StatusOr<Dataset> Dataset::Subset(std::vector<int32_t> indices) const {
  if (indices.empty()) return Refuse("a subset of zero examples");
  FEDWATT_RETURN_IF_ERROR(CheckRange(indices, size(), "index"));
  Dataset subset;
  subset.store_ = store_;
  for (int32_t& index : indices) index = indices_[index];
  subset.indices_ = std::move(indices);
  return subset;
}

Dataset Dataset::Compact() const {
  FEDWATT_CHECK(store_ != nullptr);
  auto store = std::make_shared<ExampleStore>();
  store->input_shape = store_->input_shape;
  const int64_t size = store_->input_size();
  std::visit([&](const auto& values) { store->inputs = Gather(values, size, indices_); }, store_->inputs);
  store->scale = store_->scale;
  store->shift = store_->shift;
  store->labels = Gather(store_->labels, 1, indices_);
  store->regression_targets = Gather(store_->regression_targets, store_->output_count, indices_);
  store->output_count = store_->output_count;
  store->natural_groups = Gather(store_->natural_groups, 1, indices_);
  // Groups stay dense from 0, in their old order.
  std::map<int32_t, int32_t> renumbered;
  for (int32_t group : store->natural_groups) renumbered[group] = 0;
  int32_t next = 0;
  for (auto& [old_group, new_group] : renumbered) new_group = next++;
  for (int32_t& group : store->natural_groups) group = renumbered[group];
  Dataset dataset;
  dataset.indices_.resize(indices_.size());
  std::iota(dataset.indices_.begin(), dataset.indices_.end(), 0);
  dataset.store_ = std::move(store);
  return dataset;
}

void Dataset::CopyInput(int64_t i, absl::Span<float> out) const {
  const ExampleStore& store = *store_;
  FEDWATT_CHECK(i >= 0 && i < size());
  const int64_t input_size = static_cast<int64_t>(out.size());
  const int64_t begin = indices_[i] * input_size;
  if (const auto* bytes = std::get_if<std::vector<uint8_t>>(&store.inputs)) {
    const int64_t channels = static_cast<int64_t>(std::max(store.scale.size(), store.shift.size()));
    const int64_t channel_size = input_size / channels;
    for (int64_t c = 0; c < channels; ++c) {
      const float scale = store.scale[store.scale.size() == 1 ? 0 : c];
      const float shift = store.shift[store.shift.size() == 1 ? 0 : c];
      const uint8_t* in = bytes->data() + begin + c * channel_size;
      float* to = out.data() + c * channel_size;
      for (int64_t k = 0; k < channel_size; ++k) to[k] = static_cast<float>(in[k]) * scale + shift;
    }
  } else if (const auto* floats = std::get_if<std::vector<float>>(&store.inputs)) {
    std::copy_n(floats->data() + begin, input_size, out.data());
  } else {
    const int32_t* tokens = std::get<std::vector<int32_t>>(store.inputs).data() + begin;
    for (int64_t k = 0; k < input_size; ++k) out[k] = static_cast<float>(tokens[k]);
  }
}

}  // namespace fedwatt

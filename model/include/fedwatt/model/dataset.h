// Examples in memory, in the type in which they were stored, and cheap subsets of them.
#ifndef FEDWATT_MODEL_DATASET_H_
#define FEDWATT_MODEL_DATASET_H_

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace fedwatt {

// All examples of a source. Immutable after Create; shared by subsets.
struct ExampleStore {
  std::vector<int64_t> input_shape;  // of one example
  // Bytes become value * scale[c] + shift[c] where c is the channel (first dimension of input_shape; one element = all channels).
  // Floats are used as they are. int32 are tokens in [0, vocabulary).
  std::variant<std::vector<uint8_t>, std::vector<float>, std::vector<int32_t>> inputs;
  std::vector<float> scale = {1.0f};
  std::vector<float> shift = {0.0f};
  // Class index per example; for next-character data, the token that follows. Empty for regression.
  std::vector<int32_t> labels;
  std::vector<float> regression_targets;  // example-major, output_count each; empty for classification
  int64_t output_count = 0;               // classes, vocabulary size or regression outputs
  // Natural owner of each example (speaker, writer), dense from 0; empty when the source has none.
  std::vector<int32_t> natural_groups;

  int64_t example_count() const;
  int64_t input_size() const;  // product of input_shape
  bool is_tokens() const { return std::holds_alternative<std::vector<int32_t>>(inputs); }
};

// Errors: INVALID_ARGUMENT  sizes that do not fit together, a label or token out of range, zero examples, non-finite values
absl::Status ValidateExampleStore(const ExampleStore& store);

// An ordered selection of a store's examples. Cheap to copy. Thread-compatible.
class Dataset {
 public:
  Dataset() = default;
  // All examples. Errors: as ValidateExampleStore.
  static absl::StatusOr<Dataset> Create(ExampleStore store);

  // `indices` are into this dataset, each in [0, size()); repeats are allowed.
  // Errors: INVALID_ARGUMENT  empty or out of range ("zero examples is an error, not a round")
  absl::StatusOr<Dataset> Subset(std::vector<int32_t> indices) const;
  // The same examples in a store of their own, so that the rest can be freed.
  Dataset Compact() const;

  int64_t size() const { return static_cast<int64_t>(indices_.size()); }
  const ExampleStore& store() const { return *store_; }
  // For those who remember a dataset and must know whether its store still lives.
  const std::shared_ptr<const ExampleStore>& shared_store() const { return store_; }
  const std::vector<int32_t>& indices() const { return indices_; }

  // Example `i`'s inputs as floats (bytes normalised, tokens converted) into `out` of store().input_size() elements.
  void CopyInput(int64_t i, absl::Span<float> out) const;
  int32_t label(int64_t i) const { return store_->labels[indices_[i]]; }

 private:
  std::shared_ptr<const ExampleStore> store_;
  std::vector<int32_t> indices_;
};

}  // namespace fedwatt

#endif  // FEDWATT_MODEL_DATASET_H_

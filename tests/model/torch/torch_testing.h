// Small datasets and specs for the tests of model/torch.
#ifndef FEDWATT_TESTS_MODEL_TORCH_TORCH_TESTING_H_
#define FEDWATT_TESTS_MODEL_TORCH_TORCH_TESTING_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/dataset.h"
#include "fedwatt/model/torch/torch_trainer.h"

namespace fedwatt::testing {

inline ArchitectureSpec Spec(std::string name, std::vector<int64_t> input_shape, int64_t output_count) {
  ArchitectureSpec spec;
  spec.name = std::move(name);
  spec.input_shape = std::move(input_shape);
  spec.output_count = output_count;
  return spec;
}

// The spec at which each architecture is best known; small where the architecture's size is an option.
inline ArchitectureSpec TypicalSpec(const std::string& name) {
  static const auto* small = new std::map<std::string, std::map<std::string, std::string>>{
      {"gru", {{"width", "8"}, {"hidden_size", "16"}}},
      {"lif_snn", {{"hidden_size", "32"}, {"steps", "3"}}},
      {"linear_transformer", {{"width", "16"}, {"heads", "2"}, {"blocks", "1"}}},
      {"local_transformer", {{"width", "16"}, {"heads", "2"}, {"blocks", "1"}, {"window", "4"}}},
      {"min_gru", {{"width", "16"}, {"hidden_size", "32"}, {"forward_size", "32"}, {"blocks", "1"}}},
      {"mobile_cnn", {{"channels", "4"}}},
      {"performer", {{"width", "16"}, {"heads", "2"}, {"blocks", "1"}, {"features", "8"}}},
      {"softmax_transformer", {{"width", "16"}, {"heads", "2"}, {"blocks", "1"}}}};
  if (name == "char_lstm") return Spec(name, {12}, 30);
  if (name == "pfl_cnn" || name == "lenet") return Spec(name, {3, 32, 32}, 10);
  ArchitectureSpec spec = Spec(name, {1, 28, 28}, 10);
  if (name == "gru" || name == "min_gru" || name.ends_with("transformer") || name == "performer") spec = Spec(name, {12}, 12);
  if (auto it = small->find(name); it != small->end()) spec.options = it->second;
  return spec;
}

// The same without dropout, which no two models draw alike.
inline ArchitectureSpec TypicalSpecWithoutDropout(const std::string& name) {
  ArchitectureSpec spec = TypicalSpec(name);
  if (name == "pfl_cnn") spec.options = {{"conv_dropout", "0"}, {"hidden_dropout", "0"}};
  return spec;
}

inline bool TakesTokens(const ArchitectureSpec& spec) {
  return spec.input_shape.size() == 1 && (spec.name.ends_with("lstm") || spec.name.ends_with("gru") || spec.name.ends_with("transformer") || spec.name == "performer");
}

// Random inputs of the spec's shape (tokens for who takes them) with learnable labels.
inline Dataset RandomDataset(const ArchitectureSpec& spec, int64_t count, uint64_t seed = 1) {
  Random random(seed);
  ExampleStore store;
  store.input_shape = spec.input_shape;
  store.output_count = spec.output_count;
  const int64_t size = store.input_size();
  if (TakesTokens(spec)) {
    std::vector<int32_t> tokens;
    for (int64_t i = 0; i < count * size; ++i) tokens.push_back(static_cast<int32_t>(random.Below(spec.output_count)));
    for (int64_t i = 0; i < count; ++i) store.labels.push_back(tokens[(i + 1) * size - 1]);
    store.inputs = std::move(tokens);
  } else {
    std::vector<float> values;
    for (int64_t i = 0; i < count; ++i) {
      const int32_t label = static_cast<int32_t>(random.Below(spec.output_count));
      store.labels.push_back(label);
      for (int64_t j = 0; j < size; ++j) {
        values.push_back(static_cast<float>(0.3 * random.Normal() + (j % spec.output_count == label ? 1 : 0)));
      }
    }
    store.inputs = std::move(values);
  }
  absl::StatusOr<Dataset> data = Dataset::Create(std::move(store));
  FEDWATT_CHECK(data.ok());
  return *std::move(data);
}

}  // namespace fedwatt::testing

#endif  // FEDWATT_TESTS_MODEL_TORCH_TORCH_TESTING_H_

// What the programs that measure speeds of models share.
#ifndef FEDWATT_BENCH_MODEL_SPEED_H_
#define FEDWATT_BENCH_MODEL_SPEED_H_

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "fedwatt/base/random.h"
#include "fedwatt/model/dataset.h"
#include "fedwatt/model/plan.h"
#include "fedwatt/model/torch/torch_trainer.h"

namespace fedwatt::bench {

// The shapes at which an architecture is best known.
inline ArchitectureSpec TypicalSpec(const std::string& architecture) {
  ArchitectureSpec spec{.name = architecture, .input_shape = {1, 28, 28}, .output_count = 10};
  if (architecture == "char_lstm") spec.input_shape = {80}, spec.output_count = 80;
  if (architecture == "lenet" || architecture == "pfl_cnn") spec.input_shape = {3, 32, 32};
  return spec;
}

// Random tokens and labels.
inline Dataset SyntheticTokens(const ArchitectureSpec& spec, int64_t count) {
  Random random(1);
  ExampleStore store;
  store.input_shape = spec.input_shape;
  store.output_count = spec.output_count;
  const auto token = [&] { return static_cast<int32_t>(random.Below(static_cast<uint64_t>(spec.output_count))); };
  std::vector<int32_t> tokens(static_cast<size_t>(count * store.input_size()));
  std::generate(tokens.begin(), tokens.end(), token);
  store.inputs = std::move(tokens);
  for (int64_t i = 0; i < count; ++i) store.labels.push_back(token());
  return *Dataset::Create(std::move(store));
}

// Random inputs, real numbers but for char_lstm, and labels.
inline Dataset Synthetic(const ArchitectureSpec& spec, int64_t count) {
  if (spec.name == "char_lstm") return SyntheticTokens(spec, count);
  Random random(1);
  ExampleStore store;
  store.input_shape = spec.input_shape;
  store.output_count = spec.output_count;
  std::vector<float> values(static_cast<size_t>(count * store.input_size()));
  for (float& value : values) value = static_cast<float>(random.Normal());
  store.inputs = std::move(values);
  for (int64_t i = 0; i < count; ++i) store.labels.push_back(static_cast<int32_t>(random.Below(static_cast<uint64_t>(spec.output_count))));
  return *Dataset::Create(std::move(store));
}

inline double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// "2.84 (2.51 to 3.19)"
inline std::string MedianAndSpread(const std::vector<double>& values) {
  char text[96];
  std::snprintf(text, sizeof(text), "%.2f (%.2f to %.2f)", Median(values), *std::min_element(values.begin(), values.end()), *std::max_element(values.begin(), values.end()));
  return text;
}

// One kernel thread; prints what decides speeds.
inline bool SetUp() {
  if (!ConfigureKernels(1).ok()) return false;
  for (const auto& [key, value] : KernelFacts()) std::printf("%s %s\n", key.c_str(), value.c_str());
  return true;
}

// Whole positive numbers from argument `first` on, or the ones given here.
inline std::vector<int32_t> Numbers(int argc, char** argv, int first, std::vector<int32_t> otherwise) {
  std::vector<int32_t> numbers;
  for (int i = first; i < argc; ++i) numbers.push_back(std::max(1, std::atoi(argv[i])));
  return numbers.empty() ? std::move(otherwise) : numbers;
}

}  // namespace fedwatt::bench

#endif  // FEDWATT_BENCH_MODEL_SPEED_H_

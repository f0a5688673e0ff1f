// A device's own program takes part in a federation with its own data and its own trainer: plain C++, no LibTorch.
//
//   embed_client HOST:PORT SECURITY_DIRECTORY PARTITION PARTITION_COUNT      (README.md beside this file says more)
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <iostream>

#include "fedwatt/base/random.h"
#include "fedwatt/client/client.h"

namespace {

constexpr int kReadings = 4, kStates = 3, kBiases = kReadings * kStates, kValues = kBiases + kStates;

// What this device knows: readings of its machine (vibration, peaks, heat, noise), and the state it turned out to be in.
absl::StatusOr<fedwatt::Dataset> ReadSensors(uint64_t device) {
  constexpr float kTypical[kStates][kReadings] = {{0.2, 0.3, 0.2, 0.1}, {0.7, 0.8, 0.4, 0.3}, {0.6, 0.3, 0.3, 0.8}};
  fedwatt::Random random(device);
  fedwatt::ExampleStore store;
  store.input_shape = {kReadings};
  store.output_count = kStates;
  std::vector<float> readings;
  for (int i = 0; i < 200; ++i) {
    store.labels.push_back(static_cast<int32_t>(random.Below(kStates)));
    for (float value : kTypical[store.labels.back()]) readings.push_back(value + 0.15f * static_cast<float>(random.Normal()));
  }
  store.inputs = std::move(readings);
  return fedwatt::Dataset::Create(std::move(store));
}

// Softmax regression by stochastic gradient descent. Names and shapes are those of the coordinator's architecture "logistic".
class SoftmaxTrainer : public fedwatt::LocalTrainer {
 public:
  const fedwatt::ParameterLayout& layout() const override { return layout_; }

  absl::StatusOr<fedwatt::TrainingResult> Train(absl::Span<const float> global, const fedwatt::Dataset& data,
                                                const fedwatt::TrainingRecipe& recipe, uint64_t seed,
                                                const fedwatt::TrainingControl& control, absl::Span<float> local) override {
    std::copy(global.begin(), global.end(), local.begin());
    const int64_t epoch = (data.size() + recipe.batch_size - 1) / recipe.batch_size;
    const int64_t planned = recipe.local_steps > 0 ? recipe.local_steps : recipe.local_epochs * epoch;
    fedwatt::Random random(seed);
    fedwatt::TrainingResult result;
    result.example_count = data.size();
    for (; result.steps_done < planned; ++result.steps_done) {
      result.completed = !control.stop.stop_requested() && control.clock->Now() < control.deadline;
      if (!result.completed) break;  // the work so far still counts
      std::array<float, kValues> gradient{};
      for (int i = 0; i < recipe.batch_size; ++i) {
        const auto example = static_cast<int64_t>(random.Below(data.size()));
        auto [x, p] = Predict(local, data, example);
        result.mean_loss -= std::log(p[data.label(example)]);
        p[data.label(example)] -= 1;
        for (int v = 0; v < kBiases; ++v) gradient[v] += p[v / kReadings] * x[v % kReadings];
        for (int c = 0; c < kStates; ++c) gradient[kBiases + c] += p[c];
      }
      for (int v = 0; v < kValues; ++v) local[v] -= static_cast<float>(recipe.client_learning_rate) / recipe.batch_size * gradient[v];
    }
    result.examples_seen = result.steps_done * recipe.batch_size;
    result.mean_loss /= static_cast<double>(std::max<int64_t>(result.examples_seen, 1));
    return result;
  }

  absl::StatusOr<fedwatt::EvaluationResult> Evaluate(absl::Span<const float> model, const fedwatt::Dataset& data, const std::string&) override {
    fedwatt::EvaluationResult result;
    result.example_count = data.size();
    for (int64_t example = 0; example < data.size(); ++example) {
      const auto p = Predict(model, data, example).second;
      result.mean_loss -= std::log(p[data.label(example)]) / static_cast<double>(data.size());
      result.accuracy += (std::max_element(p.begin(), p.end()) - p.begin() == data.label(example)) / static_cast<double>(data.size());
    }
    return result;
  }

  absl::StatusOr<std::vector<float>> InitialModel(uint64_t) override { return std::vector<float>(kValues); }

 private:
  // An example's readings and the probability of each state.
  static std::pair<std::array<float, kReadings>, std::array<float, kStates>> Predict(absl::Span<const float> model, const fedwatt::Dataset& data,
                                                                                     int64_t example) {
    std::array<float, kReadings> x;
    std::array<float, kStates> p;
    data.CopyInput(example, absl::MakeSpan(x));
    for (int c = 0; c < kStates; ++c) {
      p[c] = model[kBiases + c];
      for (int i = 0; i < kReadings; ++i) p[c] += model[c * kReadings + i] * x[i];
    }
    const float top = *std::max_element(p.begin(), p.end());
    float sum = 0;
    for (float& value : p) sum += value = std::exp(value - top);
    for (float& value : p) value = std::max(value / sum, 1e-30f);
    return {x, p};
  }

  const fedwatt::ParameterLayout layout_ =
      fedwatt::ParameterLayout::Create({{"fc.weight", {kStates, kReadings}}, {"fc.bias", {kStates}}}).value();
};

absl::StatusOr<fedwatt::ClientSummary> TakePart(char** argument) {
  fedwatt::ClientOptions options;
  options.connection.server = argument[1];
  options.connection.security_directory = argument[2];
  options.partition_count = std::atoll(argument[4]);
  const int64_t partition = std::atoll(argument[3]);
  absl::StatusOr<fedwatt::Dataset> data = ReadSensors(partition);
  if (!data.ok()) return data.status();
  options.partitions.push_back({partition, *std::move(data)});
  options.trainer_factory = [](const fedwatt::ArchitectureSpec&) { return std::make_unique<SoftmaxTrainer>(); };
  options.architectures = {"logistic"};
  options.give_up_after = absl::Minutes(1);
  options.log = [](fedwatt::LogLevel level, std::string_view message) { std::cerr << LogLevelName(level) << ": " << message << "\n"; };
  absl::StatusOr<std::unique_ptr<fedwatt::Client>> client = fedwatt::Client::Create(std::move(options));
  if (!client.ok()) return client.status();
  return (*client)->Run({});
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::cerr << "usage: embed_client HOST:PORT SECURITY_DIRECTORY PARTITION PARTITION_COUNT\n";
    return 2;
  }
  const absl::StatusOr<fedwatt::ClientSummary> summary = TakePart(argv);
  if (!summary.ok()) {
    std::cerr << summary.status() << "\n";
    return 1;
  }
  std::cout << summary->accepted_count << " updates accepted; " << summary->reason << "\n";
  return summary->succeeded ? 0 : 1;
}

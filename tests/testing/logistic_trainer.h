// A LocalTrainer without LibTorch: softmax regression by plain loops. Deterministic, fast, and really learns. Its inputs are channels, so that narrower
// models are those that see fewer of them.
#ifndef FEDWATT_TESTS_TESTING_LOGISTIC_TRAINER_H_
#define FEDWATT_TESTS_TESTING_LOGISTIC_TRAINER_H_

#include <cmath>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/local_trainer.h"

namespace fedwatt::testing {

class LogisticTrainer : public LocalTrainer {
 public:
  LogisticTrainer(int64_t inputs, int64_t classes, KeptChannels kept = {}) : all_inputs_(inputs), inputs_(inputs), classes_(classes) {
    absl::StatusOr<ParameterLayout> layout =
        ParameterLayout::Create({{"linear.weight", {classes, inputs}, EntryKind::kParameter, Dtype::kFloat32},
                                 {"linear.bias", {classes}, EntryKind::kParameter, Dtype::kFloat32}});
    FEDWATT_CHECK(layout.ok());
    layout_ = *std::move(layout);
    if (kept.empty()) return;
    absl::StatusOr<Submodel> submodel = Submodel::Create(layout_, channel_groups(), std::move(kept));
    FEDWATT_CHECK(submodel.ok());
    submodel_ = *std::move(submodel);
    layout_ = submodel_->layout();
    inputs_ = layout_.entries()[0].shape[1];
  }

  // A LocalTrainerFactory.
  static absl::StatusOr<std::unique_ptr<LocalTrainer>> Make(const ArchitectureSpec& spec) {
    int64_t inputs = 1;
    for (int64_t dimension : spec.input_shape) inputs *= dimension;
    return std::make_unique<LogisticTrainer>(inputs, spec.output_count, spec.kept);
  }

  const ParameterLayout& layout() const override { return layout_; }
  std::vector<ChannelGroup> channel_groups() const override { return {{"inputs", all_inputs_, {{"linear.weight", 1}}}}; }
  const Submodel* submodel() const override { return submodel_.has_value() ? &*submodel_ : nullptr; }

  absl::StatusOr<TrainingResult> Train(absl::Span<const float> global, const Dataset& data, const TrainingRecipe& recipe, uint64_t seed,
                                       const TrainingControl& control, absl::Span<float> local) override {
    std::copy(global.begin(), global.end(), local.begin());
    TrainingResult result;
    result.example_count = data.size();
    std::vector<int64_t> order(static_cast<size_t>(data.size()));
    std::iota(order.begin(), order.end(), 0);
    std::vector<int64_t> steps_per_epoch;
    const int64_t per_epoch = (data.size() + recipe.batch_size - 1) / recipe.batch_size;
    const int64_t planned = recipe.local_steps > 0 ? recipe.local_steps : per_epoch * recipe.local_epochs;
    Random random(seed);
    std::vector<float> x(static_cast<size_t>(inputs_)), gradient(local.size());
    double loss_sum = 0;
    size_t at = order.size();
    while (result.steps_done < planned) {
      if (control.stop.stop_requested() || control.clock->Now() >= control.deadline) {
        result.completed = false;
        break;
      }
      if (at >= order.size()) {
        random.Shuffle(order);
        at = 0;
      }
      const size_t end = std::min(order.size(), at + static_cast<size_t>(recipe.batch_size));
      std::fill(gradient.begin(), gradient.end(), 0.0f);
      for (size_t i = at; i < end; ++i) {
        CopyInput(data, order[i], absl::MakeSpan(x));
        std::vector<double> p = Probabilities(local, x);
        const int32_t label = data.label(order[i]);
        loss_sum -= std::log(std::max(p[static_cast<size_t>(label)], 1e-30));
        p[static_cast<size_t>(label)] -= 1;
        for (int64_t c = 0; c < classes_; ++c) {
          const float g = static_cast<float>(p[static_cast<size_t>(c)] / static_cast<double>(end - at));
          for (int64_t j = 0; j < inputs_; ++j) gradient[static_cast<size_t>(c * inputs_ + j)] += g * x[static_cast<size_t>(j)];
          gradient[static_cast<size_t>(classes_ * inputs_ + c)] += g;
        }
      }
      for (size_t i = 0; i < local.size(); ++i) local[i] -= static_cast<float>(recipe.client_learning_rate) * gradient[i];
      result.examples_seen += static_cast<int64_t>(end - at);
      ++result.steps_done;
      at = end;
      if (control.progress) control.progress({result.steps_done, planned, result.examples_seen});
    }
    if (result.examples_seen > 0) result.mean_loss = loss_sum / static_cast<double>(result.examples_seen);
    return result;
  }

  absl::StatusOr<EvaluationResult> Evaluate(absl::Span<const float> model, const Dataset& data, const std::string&) override {
    EvaluationResult result;
    result.example_count = data.size();
    std::vector<float> x(static_cast<size_t>(inputs_));
    double loss = 0, right = 0;
    for (int64_t i = 0; i < data.size(); ++i) {
      CopyInput(data, i, absl::MakeSpan(x));
      const std::vector<double> p = Probabilities(model, x);
      loss -= std::log(std::max(p[static_cast<size_t>(data.label(i))], 1e-30));
      right += std::max_element(p.begin(), p.end()) - p.begin() == data.label(i);
    }
    result.mean_loss = loss / static_cast<double>(data.size());
    result.accuracy = right / static_cast<double>(data.size());
    return result;
  }

  absl::StatusOr<std::vector<float>> InitialModel(uint64_t seed) override {
    Random random(seed);
    std::vector<float> model(static_cast<size_t>((submodel_.has_value() ? submodel_->whole() : layout_).value_count()));
    for (float& value : model) value = static_cast<float>(0.01 * random.Normal());
    return submodel_.has_value() ? submodel_->Gather(model) : model;
  }

 private:
  void CopyInput(const Dataset& data, int64_t index, absl::Span<float> x) const {
    if (!submodel_.has_value()) return data.CopyInput(index, x);
    std::vector<float> all(static_cast<size_t>(all_inputs_));
    data.CopyInput(index, absl::MakeSpan(all));
    auto out = x.begin();
    for (const ChannelRange& range : submodel_->kept().at("inputs")) out = std::copy(all.begin() + range.begin, all.begin() + range.end, out);
  }

  std::vector<double> Probabilities(absl::Span<const float> model, const std::vector<float>& x) const {
    std::vector<double> p(static_cast<size_t>(classes_));
    double highest = -1e300, sum = 0;
    for (int64_t c = 0; c < classes_; ++c) {
      double score = model[static_cast<size_t>(classes_ * inputs_ + c)];
      for (int64_t j = 0; j < inputs_; ++j) score += static_cast<double>(model[static_cast<size_t>(c * inputs_ + j)]) * x[static_cast<size_t>(j)];
      p[static_cast<size_t>(c)] = score;
      highest = std::max(highest, score);
    }
    for (double& value : p) sum += value = std::exp(value - highest);
    for (double& value : p) value /= sum;
    return p;
  }

  int64_t all_inputs_, inputs_, classes_;
  std::optional<Submodel> submodel_;
  ParameterLayout layout_;
};

// `count` points in `inputs` dimensions around one seeded centre a class; easy to separate.
inline Dataset MakeBlobs(int64_t count, int64_t inputs, int64_t classes, uint64_t seed) {
  Random centres(DeriveSeed("blob centres", {static_cast<uint64_t>(inputs), static_cast<uint64_t>(classes)}));
  std::vector<float> centre(static_cast<size_t>(inputs * classes));
  for (float& value : centre) value = static_cast<float>(2 * centres.Normal());
  Random random(seed);
  ExampleStore store;
  store.input_shape = {inputs};
  store.output_count = classes;
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t label = i % classes;
    store.labels.push_back(static_cast<int32_t>(label));
    for (int64_t j = 0; j < inputs; ++j) values.push_back(centre[static_cast<size_t>(label * inputs + j)] + static_cast<float>(random.Normal()));
  }
  store.inputs = std::move(values);
  absl::StatusOr<Dataset> data = Dataset::Create(std::move(store));
  FEDWATT_CHECK(data.ok());
  return *std::move(data);
}

}  // namespace fedwatt::testing

#endif  // FEDWATT_TESTS_TESTING_LOGISTIC_TRAINER_H_

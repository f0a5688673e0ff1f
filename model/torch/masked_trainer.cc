#include "masked_trainer.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "fedwatt/base/status_macros.h"

namespace fedwatt::internal {
namespace {

// The whole model, whose masked weights go back to zero before each training step looks at them: what the step before gave them is forgotten.
class MaskedModel : public TrainableModel {
 public:
  MaskedModel(std::unique_ptr<TrainableModel> model, const Submodel& mask) : model_(std::move(model)), keep_(static_cast<size_t>(mask.whole().value_count())) {
    for (const CoordinateRange& range : mask.covered()) std::fill(keep_.begin() + range.begin, keep_.begin() + range.end, 1.0f);
  }

  const ParameterLayout& layout() const override { return model_->layout(); }
  std::optional<std::vector<double>> uses_per_example() const override { return model_->uses_per_example(); }
  absl::Status CheckData(const Dataset& data) const override { return model_->CheckData(data); }
  void Load(absl::Span<const float> values) override { model_->Load(values); }
  void Save(absl::Span<float> values) const override { model_->Save(values); }
  const std::vector<at::Tensor>& parameters() const override { return model_->parameters(); }
  const std::vector<int64_t>& parameter_offsets() const override { return model_->parameter_offsets(); }
  absl::Status CheckNumberFormat(std::string_view format) const override { return model_->CheckNumberFormat(format); }
  absl::Status BeginTraining(const TrainingRecipe& recipe) override { return model_->BeginTraining(recipe); }
  const std::vector<at::Tensor>& leaves() const override { return model_->leaves(); }
  void RefreshLeaves() override {
    for (size_t i = 0; i < parameters().size(); ++i) {
      float* values = parameters()[i].data_ptr<float>();
      const float* keep = keep_.data() + parameter_offsets()[i];
      for (int64_t j = 0; j < parameters()[i].numel(); ++j) values[j] *= keep[j];
    }
    model_->RefreshLeaves();
  }
  void Seed(uint64_t seed) override { model_->Seed(seed); }
  at::Tensor Forward(const at::Tensor& input, bool training) override { return model_->Forward(input, training); }
  int64_t evaluation_batch_size() const override { return model_->evaluation_batch_size(); }
  std::vector<float> InitialValues(uint64_t seed) override { return model_->InitialValues(seed); }

 private:
  const std::unique_ptr<TrainableModel> model_;
  std::vector<float> keep_;  // of each value of the whole: 1 or 0
};

// Spreads what is left out to the whole model and gathers it again.
class MaskedTrainer : public LocalTrainer {
 public:
  MaskedTrainer(std::unique_ptr<TrainableModel> model, Submodel mask)
      : mask_(std::move(mask)), whole_(MakeSgdTrainer(std::make_unique<MaskedModel>(std::move(model), mask_))) {}

  const ParameterLayout& layout() const override { return mask_.layout(); }
  const Submodel* submodel() const override { return &mask_; }
  std::vector<double> UsesPerExample() const override { return whole_->UsesPerExample(); }
  absl::Status CheckNumberFormat(std::string_view format) const override { return whole_->CheckNumberFormat(format); }

  absl::StatusOr<TrainingResult> Train(absl::Span<const float> global, const Dataset& data, const TrainingRecipe& recipe, uint64_t seed,
                                       const TrainingControl& control, absl::Span<float> local) override {
    FEDWATT_RETURN_IF_ERROR(layout().CheckLength(local.size()));
    FEDWATT_ASSIGN_OR_RETURN(const std::vector<float> start, Spread(global));
    std::vector<float> trained(start.size());
    FEDWATT_ASSIGN_OR_RETURN(TrainingResult result, whole_->Train(start, data, recipe, seed, control, absl::MakeSpan(trained)));
    mask_.Gather(trained, local);
    return result;
  }
  absl::StatusOr<EvaluationResult> Evaluate(absl::Span<const float> model, const Dataset& data, const std::string& loss) override {
    FEDWATT_ASSIGN_OR_RETURN(const std::vector<float> whole, Spread(model));
    return whole_->Evaluate(whole, data, loss);
  }
  absl::StatusOr<std::vector<float>> InitialModel(uint64_t seed) override {
    FEDWATT_ASSIGN_OR_RETURN(const std::vector<float> whole, whole_->InitialModel(seed));
    return mask_.Gather(whole);
  }

 private:
  absl::StatusOr<std::vector<float>> Spread(absl::Span<const float> left) const {
    FEDWATT_RETURN_IF_ERROR(layout().CheckLength(left.size()));
    return mask_.Scatter(left);
  }

  const Submodel mask_;
  const std::unique_ptr<LocalTrainer> whole_;
};

}  // namespace

std::unique_ptr<LocalTrainer> MakeMaskedTrainer(std::unique_ptr<TrainableModel> model, Submodel mask) {
  return std::make_unique<MaskedTrainer>(std::move(model), std::move(mask));
}

}  // namespace fedwatt::internal

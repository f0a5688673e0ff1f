// Local SGD over any trainable model.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "dataset_cache.h"
#include "fedwatt/base/nearest.h"
#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/torch/torch_trainer.h"
#include "sgd_update.h"
#include "trainable_model.h"

namespace fedwatt {
namespace internal {
namespace {

struct Loss {
  const char* name;
  bool on_labels;  // class indices; otherwise regression targets
  at::Tensor (*mean)(const at::Tensor& output, const at::Tensor& target);
  bool masks_absent = false;  // in training, classes without an example take no part
};

at::Tensor CrossEntropy(const at::Tensor& output, const at::Tensor& target) { return at::cross_entropy_loss(output, target); }

constexpr Loss kLosses[] = {
    {"cross_entropy", true, CrossEntropy},
    // Diao et al. 2021 (HeteroFL, arXiv 2010.01264), section 3: a client does not unlearn classes that it never sees. There their outputs become 0; here they leave the softmax.
    {"masked_cross_entropy", true, CrossEntropy, /*masks_absent=*/true},
    {"mean_squared_error", false, [](const at::Tensor& o, const at::Tensor& t) { return at::mse_loss(o, t); }},
};

absl::StatusOr<Loss> FindLoss(const std::string& name, const Dataset& data) {
  for (const Loss& loss : kLosses) {
    if (name != loss.name) continue;
    if (loss.on_labels == data.store().labels.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("loss '", name, "' needs ", loss.on_labels ? "class labels" : "regression targets",
                                                     ", the dataset has the other kind"));
    }
    return loss;
  }
  const std::string nearest = NearestName(name, LossNames());
  return absl::InvalidArgumentError(
      absl::StrCat("unknown loss '", name, "'", nearest.empty() ? "" : absl::StrCat("; did you mean '", nearest, "'?"),
                   "; known: ", absl::StrJoin(LossNames(), ", ")));
}

absl::Status OutOfRange(const char* name, const char* range, double value) {
  return absl::InvalidArgumentError(absl::StrCat("training.", name, " must be in ", range, ", got ", value));
}

// Written so that NaN fails.
absl::Status ValidateRecipe(const TrainingRecipe& r) {
  if (r.local_steps < 0) return OutOfRange("local_steps", "[0, 2^31)", r.local_steps);
  if (r.local_steps == 0 && (r.local_epochs < 1 || r.local_epochs > 10000)) return OutOfRange("local_epochs", "[1, 10000]", r.local_epochs);
  if (r.batch_size < 1 || r.batch_size > 1000000) return OutOfRange("batch_size", "[1, 1000000]", r.batch_size);
  if (!(r.client_learning_rate > 0 && std::isfinite(r.client_learning_rate))) {
    return OutOfRange("client_learning_rate", "(0, infinity)", r.client_learning_rate);
  }
  if (!(r.momentum >= 0 && r.momentum < 1)) return OutOfRange("momentum", "[0, 1)", r.momentum);
  if (!(r.weight_decay >= 0 && std::isfinite(r.weight_decay))) return OutOfRange("weight_decay", "[0, infinity)", r.weight_decay);
  if (!(r.proximal_mu >= 0 && std::isfinite(r.proximal_mu))) return OutOfRange("proximal_mu", "[0, infinity)", r.proximal_mu);
  if (r.threads < 1 || r.threads > 1024) return OutOfRange("threads", "[1, 1024]", r.threads);
  return absl::OkStatus();
}

// rows[i] = source[order[i]]; a plain copy, cheaper than index_select and its index tensor.
at::Tensor Gather(const at::Tensor& source, absl::Span<const int64_t> order) {
  std::vector<int64_t> shape = source.sizes().vec();
  shape[0] = static_cast<int64_t>(order.size());
  at::Tensor rows = at::empty(shape, source.options());
  const size_t row_bytes = source.nbytes() / source.size(0);
  const char* from = static_cast<const char*>(source.data_ptr());
  char* to = static_cast<char*>(rows.data_ptr());
  for (int64_t index : order) {
    std::memcpy(to, from + index * row_bytes, row_bytes);
    to += row_bytes;
  }
  return rows;
}

// Which of the classes, dimension 1 of `output`, have no example among `targets`; shaped to be spread over `output`. Undefined where all have one.
at::Tensor AbsentClasses(const at::Tensor& output, const at::Tensor& targets) {
  at::Tensor absent = at::ones({output.size(1)}, at::kBool);
  absent.index_fill_(0, targets.flatten(), false);
  if (!absent.any().item<bool>()) return {};
  std::vector<int64_t> shape(static_cast<size_t>(output.dim()), 1);
  shape[1] = output.size(1);
  return absent.view(shape);
}

class SgdTrainer : public LocalTrainer {
 public:
  explicit SgdTrainer(std::unique_ptr<TrainableModel> model) : model_(std::move(model)) {}

  const ParameterLayout& layout() const override { return model_->layout(); }
  absl::Status CheckNumberFormat(std::string_view format) const override { return model_->CheckNumberFormat(format); }
  std::vector<ChannelGroup> channel_groups() const override { return model_->channel_groups(); }
  const Submodel* submodel() const override { return model_->submodel(); }
  std::vector<double> UsesPerExample() const override {
    std::optional<std::vector<double>> uses = model_->uses_per_example();
    return uses.has_value() ? *std::move(uses) : LocalTrainer::UsesPerExample();
  }

  absl::StatusOr<TrainingResult> Train(absl::Span<const float> global, const Dataset& data, const TrainingRecipe& recipe, uint64_t seed,
                                       const TrainingControl& control, absl::Span<float> local) override {
    FEDWATT_RETURN_IF_ERROR(ValidateRecipe(recipe));
    FEDWATT_RETURN_IF_ERROR(layout().CheckLength(global.size()));
    FEDWATT_RETURN_IF_ERROR(layout().CheckLength(local.size()));
    FEDWATT_RETURN_IF_ERROR(CheckData(data));
    FEDWATT_ASSIGN_OR_RETURN(const Loss loss, FindLoss(recipe.loss, data));
    return CatchTorch([&]() -> absl::StatusOr<TrainingResult> {
      UseKernelThreads(recipe.threads);
      model_->Load(global);
      model_->Seed(seed);
      FEDWATT_RETURN_IF_ERROR(model_->BeginTraining(recipe));
      FEDWATT_ASSIGN_OR_RETURN(TrainingResult result, RunSteps(global, *DatasetCache::Shared().Get(data), loss, recipe, seed, control));
      model_->Save(local);
      return result;
    });
  }

  absl::StatusOr<EvaluationResult> Evaluate(absl::Span<const float> model, const Dataset& data, const std::string& loss_name) override {
    FEDWATT_RETURN_IF_ERROR(layout().CheckLength(model.size()));
    FEDWATT_RETURN_IF_ERROR(CheckData(data));
    return CatchTorch([&]() -> absl::StatusOr<EvaluationResult> {
      model_->Load(model);
      return ScoreForward([this](const at::Tensor& x) { return model_->Forward(x, /*training=*/false); }, model_->evaluation_batch_size(), data, loss_name);
    });
  }

  absl::StatusOr<std::vector<float>> InitialModel(uint64_t seed) override {
    return CatchTorch([&]() -> absl::StatusOr<std::vector<float>> { return model_->InitialValues(seed); });
  }

 private:
  absl::Status CheckData(const Dataset& data) const {
    if (data.size() == 0) return absl::InvalidArgumentError("the dataset has no examples");
    return model_->CheckData(data);
  }

  absl::StatusOr<TrainingResult> RunSteps(absl::Span<const float> global, const DatasetTensors& data, const Loss& loss,
                                          const TrainingRecipe& recipe, uint64_t seed, const TrainingControl& control) {
    const int64_t count = data.inputs.size(0);
    const int64_t steps_per_epoch = (count + recipe.batch_size - 1) / recipe.batch_size;
    const int64_t steps_planned = recipe.local_steps > 0 ? recipe.local_steps : recipe.local_epochs * steps_per_epoch;
    const SgdConstants constants{static_cast<float>(recipe.client_learning_rate), static_cast<float>(recipe.momentum),
                                 static_cast<float>(recipe.weight_decay), static_cast<float>(recipe.proximal_mu)};
    velocity_.assign(recipe.momentum != 0 ? global.size() : 0, 0.0f);

    Random random(DeriveSeed("shuffle", {seed}));
    std::vector<int64_t> order(count);
    const std::vector<at::Tensor>& parameters = model_->parameters();

    TrainingResult result;
    at::Tensor absent;
    double loss_sum = 0;
    for (int64_t step = 0; step < steps_planned; ++step) {
      if (control.stop.stop_requested() ||
          (control.deadline != absl::InfiniteFuture() && control.clock->Now() >= control.deadline)) {
        result.completed = false;
        break;
      }
      const int64_t begin = step % steps_per_epoch * recipe.batch_size;
      if (begin == 0) {
        std::iota(order.begin(), order.end(), int64_t{0});
        random.Shuffle(order);
      }
      const int64_t size = std::min<int64_t>(recipe.batch_size, count - begin);
      const absl::Span<const int64_t> batch = absl::MakeConstSpan(order).subspan(begin, size);
      model_->RefreshLeaves();
      at::Tensor output = model_->Forward(Gather(data.inputs, batch), /*training=*/true);
      if (loss.masks_absent && step == 0) absent = AbsentClasses(output, data.targets);
      if (absent.defined()) output = output.masked_fill(absent, -std::numeric_limits<float>::infinity());
      const at::Tensor mean_loss = loss.mean(output, Gather(data.targets, batch));
      const float value = mean_loss.item<float>();
      if (!std::isfinite(value)) {
        return absl::AbortedError(absl::StrCat("the loss became ", value, " at step ", step + 1, " of ", steps_planned,
                                               "; a smaller training.client_learning_rate may help"));
      }
      // Not backward(): it would add each gradient into one kept from the step before, a pass over memory for nothing.
      const std::vector<at::Tensor> gradients =
          torch::autograd::grad({mean_loss}, model_->leaves(), {}, c10::nullopt, /*create_graph=*/false, /*allow_unused=*/true);
      for (size_t i = 0; i < parameters.size(); ++i) {
        if (!gradients[i].defined()) continue;  // a parameter that this forward pass did not touch
        const at::Tensor gradient = gradients[i].to(at::kFloat, /*non_blocking=*/false, /*copy=*/false, at::MemoryFormat::Contiguous);
        const int64_t offset = model_->parameter_offsets()[i];
        SgdUpdate(constants, parameters[i].numel(), gradient.data_ptr<float>(), global.data() + offset,
                  velocity_.empty() ? nullptr : velocity_.data() + offset, parameters[i].data_ptr<float>());
      }
      ++result.steps_done;
      result.examples_seen += size;
      loss_sum += static_cast<double>(value) * static_cast<double>(size);
      if (control.progress) control.progress({result.steps_done, steps_planned, result.examples_seen});
    }
    result.example_count = std::min(result.examples_seen, count);
    if (result.examples_seen > 0) result.mean_loss = loss_sum / static_cast<double>(result.examples_seen);
    return result;
  }

  const std::unique_ptr<TrainableModel> model_;
  std::vector<float> velocity_;
};

}  // namespace

std::unique_ptr<LocalTrainer> MakeSgdTrainer(std::unique_ptr<TrainableModel> model) {
  return std::make_unique<SgdTrainer>(std::move(model));
}

absl::StatusOr<EvaluationResult> ScoreForward(const std::function<at::Tensor(const at::Tensor&)>& forward, int64_t batch_size, const Dataset& data,
                                              const std::string& loss_name) {
  FEDWATT_ASSIGN_OR_RETURN(const Loss loss, FindLoss(loss_name, data));
  at::init_num_threads();
  at::NoGradGuard no_grad;
  const std::shared_ptr<const DatasetTensors> tensors = DatasetCache::Shared().Get(data);
  const int64_t count = data.size();
  double loss_sum = 0;
  int64_t correct = 0;
  for (int64_t begin = 0; begin < count; begin += batch_size) {
    const int64_t size = std::min(batch_size, count - begin);
    const at::Tensor output = forward(tensors->inputs.narrow(0, begin, size));
    const at::Tensor target = tensors->targets.narrow(0, begin, size);
    loss_sum += loss.mean(output, target).item<float>() * static_cast<double>(size);
    if (loss.on_labels) correct += output.argmax(1).eq(target).sum().item<int64_t>();
  }
  return EvaluationResult{.example_count = count,
                          .mean_loss = loss_sum / static_cast<double>(count),
                          .accuracy = static_cast<double>(correct) / static_cast<double>(count),
                          .has_accuracy = loss.on_labels};
}

absl::Status CheckDataFits(const ArchitectureSpec& spec, bool takes_tokens, const Dataset& data) {
  const ExampleStore& store = data.store();
  if (store.input_shape != spec.input_shape) return absl::InvalidArgumentError("the examples' shape differs from model.input_shape");
  if (store.is_tokens() != takes_tokens) {
    return absl::InvalidArgumentError(absl::StrCat("architecture '", spec.name, "' takes ", takes_tokens ? "tokens" : "numbers",
                                                   ", the dataset has the other kind"));
  }
  // Fewer classes than the model has outputs are fine: a client may not have seen all.
  if (store.output_count > spec.output_count || (store.labels.empty() && store.output_count != spec.output_count)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the dataset has ", store.output_count, " outputs, the model has ", spec.output_count));
  }
  return absl::OkStatus();
}

}  // namespace internal

std::vector<std::string> LossNames() {
  std::vector<std::string> names;
  for (const internal::Loss& loss : internal::kLosses) names.push_back(loss.name);
  return names;
}

}  // namespace fedwatt

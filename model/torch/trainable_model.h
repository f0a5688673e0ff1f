// What the SGD trainer needs of a model; built-in networks and TorchScript archives both are one.
#ifndef FEDWATT_MODEL_TORCH_TRAINABLE_MODEL_H_
#define FEDWATT_MODEL_TORCH_TRAINABLE_MODEL_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "fedwatt/model/layout.h"
#include "fedwatt/model/local_trainer.h"
#include "pch.h"

namespace fedwatt::internal {

// Owned by one thread at a time. Calls may throw what LibTorch throws; SgdTrainer catches it.
class TrainableModel {
 public:
  virtual ~TrainableModel() = default;

  virtual const ParameterLayout& layout() const = 0;
  // As LocalTrainer's; a model that can't say is trained whole.
  virtual std::vector<ChannelGroup> channel_groups() const { return {}; }
  virtual const Submodel* submodel() const { return nullptr; }
  virtual std::optional<std::vector<double>> uses_per_example() const { return std::nullopt; }
  // INVALID_ARGUMENT when the dataset's inputs or targets do not suit.
  virtual absl::Status CheckData(const Dataset& data) const = 0;

  // Replaces all values, and whatever state an earlier call left behind.
  virtual void Load(absl::Span<const float> values) = 0;
  virtual void Save(absl::Span<float> values) const = 0;

  // The kParameter entries in layout order, contiguous, requiring gradients; valid until the next Load.
  virtual const std::vector<at::Tensor>& parameters() const = 0;
  // Offset of parameters()[i] in the flat vector.
  virtual const std::vector<int64_t>& parameter_offsets() const = 0;

  // Whether BeginTraining knows a recipe's number format, and this machine computes in it. As LocalTrainer's.
  virtual absl::Status CheckNumberFormat(std::string_view format) const { return CheckFloat32Only(format); }
  // How passes in training mode compute from now on; after Load. INVALID_ARGUMENT  a number format that this model does not know
  virtual absl::Status BeginTraining(const TrainingRecipe& recipe) { return CheckFloat32Only(recipe.number_format); }
  // What gradients are taken of: parameters() themselves, or the copies of them that passes compute with.
  virtual const std::vector<at::Tensor>& leaves() const { return parameters(); }
  // Brings the leaves up to date after parameters() changed.
  virtual void RefreshLeaves() {}

  // Restarts what the model draws at random (dropout).
  virtual void Seed(uint64_t seed) = 0;
  // [batch, input_shape...] -> [batch, output_count]
  virtual at::Tensor Forward(const at::Tensor& input, bool training) = 0;

  // How many examples to score at once: enough to be fast, few enough that activations stay a few megabytes.
  virtual int64_t evaluation_batch_size() const = 0;
  virtual std::vector<float> InitialValues(uint64_t seed) = 0;
};

// The trainer of torch_trainer.h around a model.
std::unique_ptr<LocalTrainer> MakeSgdTrainer(std::unique_ptr<TrainableModel> model);

// Scores what `forward` makes of `batch_size` examples at a time. Throws what LibTorch throws. INVALID_ARGUMENT when the loss does not suit the data.
absl::StatusOr<EvaluationResult> ScoreForward(const std::function<at::Tensor(const at::Tensor&)>& forward, int64_t batch_size, const Dataset& data,
                                              const std::string& loss_name);

// INVALID_ARGUMENT unless the dataset fits the spec's shape and output count and is tokens exactly when `takes_tokens`.
absl::Status CheckDataFits(const ArchitectureSpec& spec, bool takes_tokens, const Dataset& data);

// Makes both kernel libraries use this many threads when called from this thread.
void UseKernelThreads(int threads);

// Makes LibTorch and its kernel libraries read what they read of the system once, such as the processors' features; for a process that soon can't open files.
// Throws as LibTorch does.
void WarmKernelsUp();

// Runs `body` and turns LibTorch's exceptions into INTERNAL, exhausted memory into RESOURCE_EXHAUSTED, and std::invalid_argument (a
// foreign archive's fault) into INVALID_ARGUMENT.
template <typename Body>
auto CatchTorch(Body body) -> decltype(body()) {
  try {
    return body();
  } catch (const c10::Error& error) {
    return absl::InternalError(error.what_without_backtrace());
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("out of memory");
  } catch (const std::invalid_argument& error) {
    return absl::InvalidArgumentError(error.what());
  } catch (const std::exception& error) {
    return absl::InternalError(error.what());
  }
}

}  // namespace fedwatt::internal

#endif  // FEDWATT_MODEL_TORCH_TRAINABLE_MODEL_H_

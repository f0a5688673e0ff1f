// What turns a global model and local data into a trained one. LibTorch is one implementation; a device may bring its own.
#ifndef FEDWATT_MODEL_LOCAL_TRAINER_H_
#define FEDWATT_MODEL_LOCAL_TRAINER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "fedwatt/base/clock.h"
#include "fedwatt/model/dataset.h"
#include "fedwatt/model/layout.h"
#include "fedwatt/model/plan.h"
#include "fedwatt/model/submodel.h"

namespace fedwatt {

struct TrainingProgress {
  int64_t steps_done = 0;
  int64_t steps_planned = 0;
  int64_t examples_seen = 0;
};

// How one call is bounded and watched. All fields may be left alone.
struct TrainingControl {
  std::stop_token stop;                                   // asked between steps
  absl::Time deadline = absl::InfiniteFuture();           // asked between steps, on `clock`
  const Clock* clock = &RealClock();
  std::function<void(const TrainingProgress&)> progress;  // called between steps, from the training thread
};

struct TrainingResult {
  int64_t steps_done = 0;
  int64_t examples_seen = 0;    // with repeats over epochs
  int64_t example_count = 0;    // the update's weight: distinct examples used, >= 1 when steps_done >= 1
  double mean_loss = 0;         // example-weighted over all steps
  bool completed = true;        // false when stopped or out of time: partial work
};

struct EvaluationResult {
  int64_t example_count = 0;
  double mean_loss = 0;
  double accuracy = 0;          // fraction in [0, 1]; for regression always 0 and has_accuracy is false
  bool has_accuracy = true;
};

// A mean loss beyond this is that of a model that has diverged: it is not recorded, and a run record that has one is refused.
inline constexpr double kMaxLoss = 1e30;
// `loss`, or nullopt where it is not finite or beyond kMaxLoss either way.
std::optional<double> RecordableLoss(double loss);

// The answer of a trainer that knows no number format but "float32".
absl::Status CheckFloat32Only(std::string_view format);

// Owned by one thread at a time. Reusable: one instance serves many clients one after another, state never leaks between calls.
class LocalTrainer {
 public:
  virtual ~LocalTrainer() = default;

  // Of the model this trainer was made for.
  virtual const ParameterLayout& layout() const = 0;

  // What may be dropped of this model together. Empty: it can only be trained whole.
  virtual std::vector<ChannelGroup> channel_groups() const { return {}; }
  // Where this model lies in the whole one, when it was made for a spec that keeps only some channels; null otherwise. Lives as long as the trainer.
  virtual const Submodel* submodel() const { return nullptr; }

  // For each entry of layout(), in how many multiply-adds of one example's forward pass each of its values takes part; 0 for kLocal. The
  // default, one, is right for dense networks.
  virtual std::vector<double> UsesPerExample() const;

  // Whether Train can work in a number format, and this machine has instructions for it; the message is for people. Always OK for "float32".
  // Errors: UNIMPLEMENTED  this trainer, or this machine, has not
  virtual absl::Status CheckNumberFormat(std::string_view format) const { return CheckFloat32Only(format); }

  // Trains from `global` on `data` and writes the trained model into `local`; both have layout().value_count() values and may
  // not overlap. `seed` fixes the order of examples and dropout: the same arguments give the same bits on the same machine and build.
  // Errors: INVALID_ARGUMENT  recipe or data do not fit the model
  //         ABORTED  the loss became NaN or infinite
  virtual absl::StatusOr<TrainingResult> Train(absl::Span<const float> global, const Dataset& data, const TrainingRecipe& recipe,
                                               uint64_t seed, const TrainingControl& control, absl::Span<float> local) = 0;

  // Scores `model` on `data` in evaluation mode. `loss` as in the recipe.
  virtual absl::StatusOr<EvaluationResult> Evaluate(absl::Span<const float> model, const Dataset& data, const std::string& loss) = 0;

  // A freshly initialised model, drawn from `seed`.
  virtual absl::StatusOr<std::vector<float>> InitialModel(uint64_t seed) = 0;
};

// Multiply-adds of one example's forward pass; `uses` as UsesPerExample() gives them for the layout, or for the whole of which it is a part.
double MacsPerExample(const ParameterLayout& layout, absl::Span<const double> uses);

// Makes a trainer for an architecture; the coordinator, the fleet and each client call it. One that can't make a narrower model refuses a spec that
// keeps only some channels.
using LocalTrainerFactory = std::function<absl::StatusOr<std::unique_ptr<LocalTrainer>>(const ArchitectureSpec&)>;

}  // namespace fedwatt

#endif  // FEDWATT_MODEL_LOCAL_TRAINER_H_

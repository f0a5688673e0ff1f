// In which number format a device trains: the one that was asked for, where the device has it, allows it and, if so asked, has measured it to be faster.
#ifndef FEDWATT_ROUND_NUMBER_FORMAT_H_
#define FEDWATT_ROUND_NUMBER_FORMAT_H_

#include <map>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "fedwatt/model/dataset.h"
#include "fedwatt/model/local_trainer.h"
#include "fedwatt/model/plan.h"

namespace fedwatt {

struct FormatChoice {
  std::string format = "float32";  // as TrainingRecipe::number_format
  std::string reason;              // for people: why the format that was asked for was declined, or what the probe measured; "" when there is nothing to say
};

// Plans ask for "float32", for "bfloat16" (wherever the device has instructions for it) or for "auto": bfloat16 if a probe finds it at least kWorthwhile times faster a step.
// The probe trains the very model on the device's own examples, batch size and kernel threads, in both formats by turns, for about a second and a half of processor time
// (longer where a step takes that long), and takes the median ratio. Its results are remembered by model, batch size, threads and machine.
//
// Measured times differ from process to process, so two runs with "auto" may choose differently where the ratio is near the mark; "bfloat16" leaves nothing to measurement.
// Thread-safe: one probe at a time, so that probes do not slow each other.
class FormatChooser {
 public:
  static constexpr double kWorthwhile = 1.1;

  // `path`: a file that keeps the results over restarts, one line each; "" keeps them in memory. What can't be read there is measured again. `machine`: what else a
  // result depends on (processor, versions of program and kernels).
  FormatChooser(std::string path, std::string machine);

  // `refusal`: why this device takes float32 only, in words; "" when it takes all that the trainer has. `model` has the trainer's layout. Never fails: what can't be
  // measured is declined. A `control` that stops cuts the probe short; its result then counts for nothing.
  FormatChoice Choose(const Plan& plan, std::string_view refusal, LocalTrainer& trainer, absl::Span<const float> model, const Dataset& data, const TrainingControl& control);

 private:
  struct Measured {
    double ratio = 0;     // float32's time a step over bfloat16's; 0: not measured
    std::string problem;  // why not
  };
  Measured Probe(const TrainingRecipe& recipe, LocalTrainer& trainer, absl::Span<const float> model, const Dataset& data, const TrainingControl& control) const;
  void Remember(const std::string& key, double ratio) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string path_, machine_;
  absl::Mutex mutex_;
  std::map<std::string, double> ratios_ ABSL_GUARDED_BY(mutex_);  // by hexadecimal key
};

}  // namespace fedwatt

#endif  // FEDWATT_ROUND_NUMBER_FORMAT_H_

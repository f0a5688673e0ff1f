// The model that is audited, and the ways in which it can be run.
#ifndef FEDWATT_TOOL_AUDIT_SUBJECT_H_
#define FEDWATT_TOOL_AUDIT_SUBJECT_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fedwatt/audit/measure.h"
#include "fedwatt/config/settings.h"
#include "fedwatt/data/reader.h"
#include "fedwatt/model/local_trainer.h"
#include "fedwatt/model/profile.h"
#include "fedwatt/model/torch/quantization.h"
#include "fedwatt/model/torchscript/torch_script_trainer.h"

namespace fedwatt::tool {

// One way of running the model; "float32" is the first.
struct Way {
  std::string name;
  std::string problem;                 // why it can't be run at all, for people
  std::unique_ptr<LocalTrainer> trainer;  // null where the one of float32 serves, or none
  std::string number_format = "float32";
  bool infers = true, trains = true;
  std::optional<int64_t> parameters;
  std::optional<double> macs;          // multiply-adds, one example forward
  std::optional<int64_t> model_bytes;  // of the file that would be delivered: parameters and averaged buffers, or the 8-bit archive
  ArchitectureSpec spec;
};

// Owned by one thread.
class Subject {
 public:
  // `settings.model` names an architecture or an archive. Without data.path the examples are random numbers of `input_shape` and `output_count`; where these are empty
  // and 0: pictures of 1 x 28 x 28 and ten classes for architectures, for archives as many outputs as it gives.
  // Errors: INVALID_ARGUMENT, NOT_FOUND  as the trainers; marked usage where an input shape is missing; marked data as ReadData
  static absl::StatusOr<std::unique_ptr<Subject>> Make(const Settings& settings, std::vector<int64_t> input_shape, int64_t output_count);

  const std::string& name() const { return name_; }
  bool has_data() const { return has_data_; }
  const Dataset& train() const { return data_.train; }
  const absl::StatusOr<ModelProfile>& profile() const { return profile_; }
  const ParameterLayout& layout() const { return base().trainer->layout(); }
  const std::vector<Way>& ways() const { return ways_; }
  LocalTrainer& TrainerOf(const Way& way) { return way.trainer != nullptr ? *way.trainer : *ways_[0].trainer; }
  const TrainingRecipe& recipe() const { return recipe_; }

  // Inference, then training, of all ways that have them. They borrow this.
  std::vector<Task> Tasks();

  // Trains each way from the same seed for `steps` steps and scores it on at most 2000 test examples; nullopt where a way has no accuracy. Needs data.
  absl::StatusOr<std::vector<std::optional<double>>> Accuracies(uint64_t seed, int32_t steps);

 private:
  Subject() = default;
  const Way& base() const { return ways_[0]; }
  absl::StatusOr<std::unique_ptr<LocalTrainer>> MakeTrainer(const ArchitectureSpec& spec);
  absl::Status FindChannels(const ArchitectureSpec& spec);
  void AddHalfWidth();
  void AddBfloat16();
  absl::Status AddInt8();
  absl::Status Infer(const Way& way, int64_t batches);
  absl::Status Train(const Way& way, int64_t steps);
  // `count` examples, again from the first after the last.
  absl::StatusOr<const Dataset*> Examples(int64_t count);

  std::string name_, archive_path_;
  SandboxPolicy sandbox_;
  TrainingRecipe recipe_;
  bool has_data_ = false;
  DataSplit data_;
  std::shared_ptr<const ArchiveChannels> channels_;  // of an archive
  absl::Status channels_found_;                      // why not
  absl::StatusOr<ModelProfile> profile_ = absl::UnknownError("not profiled");
  std::vector<Way> ways_;
  std::map<const Way*, std::vector<float>> initial_;
  ArchiveScorer int8_;
  std::map<int64_t, Dataset> repeated_;
};

}  // namespace fedwatt::tool

#endif  // FEDWATT_TOOL_AUDIT_SUBJECT_H_

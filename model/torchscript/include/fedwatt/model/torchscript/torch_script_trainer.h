// The bring-your-own-model door: TorchScript archives, loaded, trained and scored in a child process.
//
// An archive is code. It runs in `fedwatt-trainer`, which is spawned (never forked), inherits no file but its end of one socket
// pair, and of the environment only what configures the kernel libraries. Before it sees a byte of the archive it enters a sandbox (base/sandbox.h): it can
// compute and answer, and can open no file, make no connection and start no process. Whatever it does - crash, hang, lie - costs one call.
#ifndef FEDWATT_MODEL_TORCHSCRIPT_TORCH_SCRIPT_TRAINER_H_
#define FEDWATT_MODEL_TORCHSCRIPT_TORCH_SCRIPT_TRAINER_H_

#include <sys/types.h>

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "fedwatt/base/process.h"
#include "fedwatt/base/sandbox.h"
#include "fedwatt/model/local_trainer.h"
#include "fedwatt/model/torchscript/archive_channels.h"
#include "fedwatt/model/torchscript/protocol.h"

namespace fedwatt {

struct TorchScriptOptions {
  // Empty: `fedwatt-trainer` in the folder of the running executable.
  std::string trainer_binary_path;
  // A sign of life is a step done, a comparison of a proof, or a byte moved.
  SandboxPolicy sandbox;
  // How long a child that was told to stop may take to finish its step, >= 0, before it is killed.
  absl::Duration stop_grace = absl::Seconds(30);
  int64_t max_archive_bytes = int64_t{1} << 32;
  // What FindArchiveChannels() found in this archive; null where nobody trains narrower copies. A narrower copy itself needs none.
  std::shared_ptr<const ArchiveChannels> channels;
};

// A LocalTrainer over an archive. Parameters are trained; float32 buffers are averaged; int64 buffers stay local and start from the
// archive's values in every call. Each dataset crosses the socket once, and stays with the child up to 1 GiB. A stop or a deadline ends
// training after the step in progress, with the partial work. After any loss of the child the next call starts another.
// The child's CPU time is counted as that of the thread that calls (ThreadCpuTime, ProcessCpuTime).
// A spec that keeps only some channels gives a narrower copy. It is not proven again on the device that trains it: whoever assigned it took its groups from
// FindArchiveChannels(), and the same archive is followed to the same groups everywhere.
// Owned by one thread at a time.
//
// Errors of every call, besides LocalTrainer's own:
//   FAILED_PRECONDITION the kernel has no sandbox, and one is required
//   UNAVAILABLE         the child died; the message says how
//   DEADLINE_EXCEEDED   the child was silent beyond sandbox.max_silence, or did not stop within stop_grace, and was killed
//   DATA_LOSS, RESOURCE_EXHAUSTED  the child sent something that is not an answer, and was killed
//   INVALID_ARGUMENT    the archive's forward failed on the data, or gave something else than [batch, output_count] float32
class TorchScriptTrainer : public LocalTrainer {
 public:
  ~TorchScriptTrainer() override;
  TorchScriptTrainer(const TorchScriptTrainer&) = delete;
  TorchScriptTrainer& operator=(const TorchScriptTrainer&) = delete;

  const ParameterLayout& layout() const override { return layout_; }
  // Of the whole archive; empty without options.channels.
  std::vector<ChannelGroup> channel_groups() const override { return options_.channels != nullptr ? options_.channels->groups : std::vector<ChannelGroup>(); }
  const Submodel* submodel() const override { return submodel_.has_value() ? &*submodel_ : nullptr; }
  // As options.channels says; without, the default.
  std::vector<double> UsesPerExample() const override { return options_.channels != nullptr ? options_.channels->uses : LocalTrainer::UsesPerExample(); }
  absl::StatusOr<TrainingResult> Train(absl::Span<const float> global, const Dataset& data, const TrainingRecipe& recipe, uint64_t seed,
                                       const TrainingControl& control, absl::Span<float> local) override;
  absl::StatusOr<EvaluationResult> Evaluate(absl::Span<const float> model, const Dataset& data, const std::string& loss) override;
  // The archive's own values; `seed` changes nothing.
  absl::StatusOr<std::vector<float>> InitialModel(uint64_t seed) override { return initial_; }

  // The archive with `model` in place of its values, in evaluation mode, written atomically.
  absl::Status WriteArchive(absl::Span<const float> model, const std::string& path);

  // Of one example's forward pass. `spec.output_count` plays no part. Errors: INVALID_ARGUMENT  a forward that can't be followed
  absl::StatusOr<ModelProfile> Profile();

  // What stands around the child.
  const SandboxWalls& walls() const { return walls_; }

  // For tests and for a supervisor's tables; -1 while none runs.
  pid_t child_pid() const { return pid_; }

 private:
  friend absl::StatusOr<std::unique_ptr<TorchScriptTrainer>> MakeTorchScriptTrainerFromBytes(const ArchitectureSpec&, std::string,
                                                                                            TorchScriptOptions);
  friend absl::StatusOr<std::shared_ptr<const ArchiveChannels>> FindArchiveChannels(const ArchitectureSpec&, std::string, TorchScriptOptions, std::stop_token);
  struct SentDataset {
    uint64_t id;
    std::weak_ptr<const ExampleStore> store;
    std::vector<int32_t> indices;
    int64_t bytes;
  };

  TorchScriptTrainer(ArchitectureSpec spec, std::string archive, TorchScriptOptions options)
      : spec_(std::move(spec)), archive_(std::move(archive)), options_(std::move(options)) {}
  absl::Status EnsureChild();
  absl::Status Spawn();
  absl::Status Confine();
  // Kills and reaps; says how it ended when it was dead already.
  std::string EndChild();
  absl::StatusOr<ArchiveChannels> FindChannels(std::stop_token stop);
  absl::StatusOr<uint64_t> EnsureDataset(const Dataset& data);
  // One question and its answer's payload. An answer of the wrong kind or a broken socket ends the child.
  absl::StatusOr<std::string> Ask(internal::FrameKind question, std::string_view payload, internal::FrameKind answer,
                                  uint64_t max_answer_bytes, const TrainingControl* control = nullptr, int64_t steps_planned = 0);
  // `status` of an answer that cannot be believed; ends the child.
  absl::Status Disbelieve(const absl::Status& status);

  const ArchitectureSpec spec_;
  const std::string archive_;
  const TorchScriptOptions options_;
  ParameterLayout layout_;
  std::vector<float> initial_;
  std::optional<Submodel> submodel_;
  SandboxWalls walls_;
  pid_t pid_ = -1;
  std::optional<ChildCpu> cpu_;  // while a child runs
  int fd_ = -1;
  uint64_t next_id_ = 1;
  std::list<SentDataset> sent_;  // most recently used first
};

// Reads the archive, starts a child and loads it there. `spec.name` is "torchscript" and `spec.options` empty; when
// `spec.archive_digest` is not all zero, it must be the SHA-256 of the file.
// Errors: NOT_FOUND          no archive, or no trainer binary
//         INVALID_ARGUMENT   not a TorchScript archive; a tensor type other than float32 and int64 buffers; tied parameters; options
//         DATA_LOSS          the file has another digest
absl::StatusOr<std::unique_ptr<TorchScriptTrainer>> MakeTorchScriptTrainer(const ArchitectureSpec& spec, const std::string& archive_path,
                                                                           TorchScriptOptions options = {});
// The same, from the bytes of an archive that was fetched.
absl::StatusOr<std::unique_ptr<TorchScriptTrainer>> MakeTorchScriptTrainerFromBytes(const ArchitectureSpec& spec, std::string archive,
                                                                                    TorchScriptOptions options = {});

// Looks for what can be dropped of an archive and proves it, in a child of its own: seconds, mostly for two dozen passes through the network in double
// precision. Once a run: coordinators and fleets pass what is found to every trainer. An archive that can't be followed is no error: it has no groups, and
// `whole` says why. Errors: as MakeTorchScriptTrainer and of its calls; CANCELLED  `stop` was requested
absl::StatusOr<std::shared_ptr<const ArchiveChannels>> FindArchiveChannels(const ArchitectureSpec& spec, std::string archive, TorchScriptOptions options = {},
                                                                           std::stop_token stop = {});

}  // namespace fedwatt

#endif  // FEDWATT_MODEL_TORCHSCRIPT_TORCH_SCRIPT_TRAINER_H_

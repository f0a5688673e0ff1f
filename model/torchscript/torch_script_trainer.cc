#include "fedwatt/model/torchscript/torch_script_trainer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "fedwatt/base/clock.h"
#include "fedwatt/base/digest.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"

extern char** environ;

namespace fedwatt {
namespace {

using internal::FrameKind;

constexpr int64_t kMaxSentBytes = int64_t{1} << 30;
constexpr absl::Duration kControlPeriod = absl::Milliseconds(20);  // how often stop and deadline are asked
constexpr uint64_t kSmallAnswerBytes = 1 << 17;
constexpr uint64_t kMaxFoundBytes = 64 << 20;
constexpr int64_t kMostProofRuns = 1 << 24;  // a few dozen for each group, and there are fewer groups than a layout may have entries

absl::StatusOr<std::string> BinaryBesideThisOne() {
  char path[PATH_MAX];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof(path));
  if (length <= 0 || length == sizeof(path)) return ErrnoStatus(errno, "/proc/self/exe");
  const std::string_view self(path, length);
  return absl::StrCat(std::string(self.substr(0, self.rfind('/'))), "/fedwatt-trainer");
}

// What configures the kernel libraries and the loader; never the rest, which may hold secrets. Nor how many threads libraries start when they are loaded:
// those would be outside one of the sandbox's walls, and a recipe says how many are wanted.
bool MayPass(std::string_view variable) {
  for (std::string_view name : {"OPENBLAS_NUM_THREADS=", "GOTO_NUM_THREADS=", "OMP_NUM_THREADS=", "MKL_NUM_THREADS="}) {
    if (variable.starts_with(name)) return false;
  }
  for (std::string_view prefix : {"OPENBLAS_", "OMP_", "GOMP_", "ATEN_", "DNNL_", "ONEDNN_", "MKL_", "LD_LIBRARY_PATH=", "LANG=", "LC_ALL="}) {
    if (variable.starts_with(prefix)) return true;
  }
  return false;
}

// A child beyond its limit is told that memory ran out; the machine keeps some for everybody else.
int64_t MemoryFor(const SandboxPolicy& policy) {
  if (policy.memory_bytes > 0) return policy.memory_bytes;
  return DescribeMachine().memory_bytes.value_or(int64_t{4} << 30) / 4 * 3;
}

int64_t DatasetBytes(const Dataset& data) {
  const int64_t element = data.store().inputs.index() == 0 ? 1 : 4;
  return data.size() * (data.store().input_size() * element + 4 * std::max<int64_t>(1, data.store().output_count));
}

bool SameDataset(const std::weak_ptr<const ExampleStore>& store, const std::vector<int32_t>& indices, const Dataset& data) {
  return store.lock() == data.shared_store() && indices == data.indices();
}

// Pauses inside a transfer until the socket is ready, and decides when the wait is over.
class Waiter {
 public:
  Waiter(int fd, const TorchScriptOptions& options, const TrainingControl* control) : fd_(fd), options_(options), control_(control) {}

  absl::Status Wait(short events) {
    while (true) {
      if (control_ != nullptr && asked_ && stop_sent_ == absl::InfiniteDuration() && ShouldStop(*control_)) {
        stop_sent_ = RealClock().Monotonic();
        FEDWATT_RETURN_IF_ERROR(internal::WriteFrame(fd_, FrameKind::kStop, ""));
      }
      pollfd ready{fd_, events, 0};
      const int count = poll(&ready, 1, static_cast<int>(absl::ToInt64Milliseconds(kControlPeriod)));
      if (count < 0 && errno != EINTR) return ErrnoStatus(errno, "poll on the trainer's socket");
      const absl::Duration now = RealClock().Monotonic();
      if (now - stop_sent_ > options_.stop_grace) {
        return absl::DeadlineExceededError(
            absl::StrCat("the trainer process did not stop within ", absl::FormatDuration(options_.stop_grace)));
      }
      if (count > 0) {
        last_sign_ = now;
        return absl::OkStatus();
      }
      if (now - last_sign_ > options_.sandbox.max_silence) {
        return absl::DeadlineExceededError(
            absl::StrCat("the trainer process was silent for ", absl::FormatDuration(options_.sandbox.max_silence)));
      }
    }
  }

  // From here on a stop may be sent: the question is out, and a stop would not land inside it.
  void set_asked() { asked_ = true; }

  static bool ShouldStop(const TrainingControl& control) {
    return control.stop.stop_requested() ||
           (control.deadline != absl::InfiniteFuture() && control.clock->Now() >= control.deadline);
  }

 private:
  const int fd_;
  const TorchScriptOptions& options_;
  const TrainingControl* const control_;
  bool asked_ = false;
  absl::Duration last_sign_ = RealClock().Monotonic();
  absl::Duration stop_sent_ = absl::InfiniteDuration();
};

}  // namespace

TorchScriptTrainer::~TorchScriptTrainer() { EndChild(); }

absl::Status TorchScriptTrainer::Spawn() {
  std::string binary = options_.trainer_binary_path;
  if (binary.empty()) {
    FEDWATT_ASSIGN_OR_RETURN(binary, BinaryBesideThisOne());
  }
  if (access(binary.c_str(), X_OK) != 0) return Annotate(ErrnoStatus(errno, binary), "trainer binary");
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return ErrnoStatus(errno, "socketpair");
  absl::Cleanup close_child_end = [&] { close(ends[1]); };
  fd_ = ends[0];

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  absl::Cleanup destroy_actions = [&] { posix_spawn_file_actions_destroy(&actions); };
  posix_spawn_file_actions_adddup2(&actions, ends[1], internal::kTrainerFd);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addclosefrom_np(&actions, internal::kTrainerFd + 1);

  // A group of its own, so that a terminal's Ctrl-C reaches the parent alone, which may want the partial work.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  absl::Cleanup destroy_attributes = [&] { posix_spawnattr_destroy(&attributes); };
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);

  std::vector<char*> environment;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (MayPass(*variable)) environment.push_back(*variable);
  }
  std::string one_thread[] = {"OPENBLAS_NUM_THREADS=1", "OMP_NUM_THREADS=1"};
  for (std::string& variable : one_thread) environment.push_back(variable.data());
  environment.push_back(nullptr);
  char* arguments[] = {binary.data(), nullptr};
  pid_t pid = -1;
  const int error = posix_spawn(&pid, binary.c_str(), &actions, &attributes, arguments, environment.data());
  if (error != 0) {
    close(fd_);
    fd_ = -1;
    return ErrnoStatus(error, absl::StrCat("starting ", binary));
  }
  pid_ = pid;
  cpu_.emplace(pid);
  return absl::OkStatus();
}

std::string TorchScriptTrainer::EndChild() {
  if (pid_ < 0) return "";
  // A dying process closes its socket a moment before it can be reaped.
  siginfo_t end;
  end.si_pid = 0;
  for (int i = 0; i < 20 && end.si_pid == 0; ++i) {
    if (i > 0) poll(nullptr, 0, 5);
    if (waitid(P_PID, pid_, &end, WEXITED | WNOHANG | WNOWAIT) != 0) break;
    pollfd hung_up{fd_, 0, 0};
    if (i == 0 && end.si_pid == 0 && (poll(&hung_up, 1, 0) <= 0 || (hung_up.revents & POLLHUP) == 0)) break;  // alive and well
  }
  const bool by_itself = end.si_pid != 0;
  if (!by_itself) {
    kill(pid_, SIGKILL);
    while (waitid(P_PID, pid_, &end, WEXITED | WNOWAIT) != 0 && errno == EINTR) {
    }
  }
  cpu_.reset();
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  close(fd_);
  fd_ = pid_ = -1;
  sent_.clear();
  if (!by_itself) return "";
  return WIFSIGNALED(status) ? absl::StrCat("killed by signal ", WTERMSIG(status)) : absl::StrCat("exit status ", WEXITSTATUS(status));
}

absl::Status TorchScriptTrainer::Disbelieve(const absl::Status& status) {
  EndChild();
  return Annotate(status, "answer of the trainer process");
}

absl::StatusOr<std::string> TorchScriptTrainer::Ask(FrameKind question, std::string_view payload, FrameKind answer,
                                                    uint64_t max_answer_bytes, const TrainingControl* control, int64_t steps_planned) {
  absl::Cleanup charge = [this] {
    if (cpu_.has_value()) cpu_->Charge();
  };
  Waiter waiter(fd_, options_, control);
  const internal::FrameWaiter wait = [&waiter](short events) { return waiter.Wait(events); };
  const auto broken = [this](const absl::Status& status) -> absl::Status {
    const std::string end = EndChild();
    if (status.code() != absl::StatusCode::kUnavailable) return Annotate(status, "fedwatt-trainer");
    return absl::UnavailableError(absl::StrCat("the trainer process died: ", end.empty() ? "it closed its socket" : end));
  };
  if (absl::Status sent = internal::WriteFrame(fd_, question, payload, wait); !sent.ok()) return broken(sent);
  waiter.set_asked();
  int64_t steps_done = 0;
  while (true) {
    absl::StatusOr<internal::Frame> frame = internal::ReadFrame(fd_, std::max(max_answer_bytes, kSmallAnswerBytes), wait);
    if (!frame.ok()) return broken(frame.status());
    if (frame->kind == answer) return std::move(frame->payload);
    if (frame->kind == FrameKind::kError) {
      absl::Status status = internal::DecodeError(frame->payload);
      if (status.code() == absl::StatusCode::kDataLoss) return Disbelieve(status);
      return status;
    }
    ByteReader in(frame->payload, "progress");
    absl::StatusOr<int64_t> done = in.Get<int64_t>("steps done");
    absl::StatusOr<int64_t> examples = in.Get<int64_t>("examples seen");
    if (frame->kind != FrameKind::kProgress || control == nullptr || !examples.ok() || in.remaining() != 0 || *done <= steps_done ||
        *done > steps_planned) {
      return Disbelieve(absl::DataLossError(absl::StrCat("unexpected frame of kind ", static_cast<uint32_t>(frame->kind))));
    }
    steps_done = *done;
    if (control->progress) control->progress({*done, steps_planned, *examples});
  }
}

absl::Status TorchScriptTrainer::Confine() {
  ByteWriter out;
  out.Put(MemoryFor(options_.sandbox));
  FEDWATT_ASSIGN_OR_RETURN(const std::string answer, Ask(FrameKind::kConfine, out.str(), FrameKind::kConfined, 0));
  ByteReader in(answer, "sandbox");
  absl::StatusOr<SandboxWalls> walls = internal::GetWalls(in);
  if (walls.ok() && in.remaining() != 0) walls = absl::DataLossError("sandbox: more than its walls");
  if (!walls.ok()) return Disbelieve(walls.status());
  if (options_.sandbox.required && !walls->system_calls) {
    return absl::FailedPreconditionError("a TorchScript archive is code, and this kernel can't filter its system calls (seccomp-bpf); to run it all the same, set model.sandbox to best");
  }
  walls_ = *walls;
  return absl::OkStatus();
}

absl::Status TorchScriptTrainer::EnsureChild() {
  if (pid_ >= 0) return absl::OkStatus();
  FEDWATT_RETURN_IF_ERROR(Spawn());
  if (absl::Status inside = Confine(); !inside.ok()) {
    EndChild();
    return inside;
  }
  ByteWriter out;
  internal::PutShape(out, spec_.input_shape);
  out.Put<int64_t>(spec_.output_count);
  internal::PutString(out, archive_);
  internal::PutKept(out, spec_.kept);
  // Weights inside an archive are stored as they are, so its answer is hardly longer than the archive.
  FEDWATT_ASSIGN_OR_RETURN(const std::string answer,
                           Ask(FrameKind::kLoad, out.str(), FrameKind::kLoaded, archive_.size() + (int64_t{64} << 20)));
  ByteReader in(answer, "loaded archive");
  absl::StatusOr<ParameterLayout> layout = internal::GetLayout(in);
  if (!layout.ok()) return Disbelieve(layout.status());
  absl::StatusOr<std::vector<float>> values = internal::GetValues(in, "initial values");
  if (!values.ok()) return Disbelieve(values.status());
  std::optional<Submodel> part;
  if (!spec_.kept.empty()) {
    const auto decode = [&]() -> absl::StatusOr<Submodel> {
      FEDWATT_ASSIGN_OR_RETURN(ParameterLayout whole, internal::GetLayout(in));
      FEDWATT_ASSIGN_OR_RETURN(const std::vector<ChannelGroup> groups, internal::GetGroups(in));
      FEDWATT_ASSIGN_OR_RETURN(Submodel cut, Submodel::Create(std::move(whole), groups, spec_.kept));
      if (!(cut.layout() == *layout)) return absl::DataLossError("the narrower copy's layout is not what its channels say");
      return cut;
    };
    absl::StatusOr<Submodel> cut = decode();
    if (!cut.ok()) return Disbelieve(cut.status());
    part = *std::move(cut);
  }
  if (absl::Status end = internal::ExpectEnd(in, "loaded archive"); !end.ok()) return Disbelieve(end);
  if (static_cast<int64_t>(values->size()) != layout->value_count() || (!initial_.empty() && !(*layout == layout_))) {
    return Disbelieve(absl::DataLossError("values and layout do not belong together"));
  }
  layout_ = *std::move(layout);
  initial_ = *std::move(values);
  submodel_ = std::move(part);
  return absl::OkStatus();
}

absl::StatusOr<ArchiveChannels> TorchScriptTrainer::FindChannels(std::stop_token stop) {
  TrainingControl control;
  control.stop = std::move(stop);
  FEDWATT_ASSIGN_OR_RETURN(const std::string answer, Ask(FrameKind::kFindChannels, "", FrameKind::kFoundChannels, kMaxFoundBytes, &control, kMostProofRuns));
  ByteReader in(answer, "channels of the archive");
  const auto decode = [&]() -> absl::StatusOr<ArchiveChannels> {
    FEDWATT_ASSIGN_OR_RETURN(ArchiveChannels channels, internal::GetArchiveChannels(in));
    FEDWATT_RETURN_IF_ERROR(internal::ExpectEnd(in, "uses"));
    // Groups that do not suit the layout are refused here, by cutting along all of them.
    KeptChannels cut;
    for (const ChannelGroup& group : channels.groups) cut[group.name] = {{0, 1}};
    FEDWATT_RETURN_IF_ERROR(Submodel::Create(layout_, channels.groups, std::move(cut)).status());
    if (channels.uses.size() != layout_.entries().size() ||
        std::any_of(channels.uses.begin(), channels.uses.end(), [](double uses) { return !(uses >= 0 && std::isfinite(uses)); })) {
      return absl::DataLossError("uses out of range");
    }
    return channels;
  };
  absl::StatusOr<ArchiveChannels> channels = decode();
  if (!channels.ok()) return Disbelieve(channels.status());
  return channels;
}

absl::StatusOr<uint64_t> TorchScriptTrainer::EnsureDataset(const Dataset& data) {
  for (auto it = sent_.begin(); it != sent_.end(); ++it) {
    if (!SameDataset(it->store, it->indices, data)) continue;
    sent_.splice(sent_.begin(), sent_, it);
    return it->id;
  }
  const int64_t bytes = DatasetBytes(data);
  int64_t total = bytes;
  for (auto it = sent_.begin(); it != sent_.end();) {
    total += it->bytes;
    if (total <= kMaxSentBytes && !it->store.expired()) {
      ++it;
      continue;
    }
    total -= it->bytes;
    ByteWriter out;
    out.Put(it->id);
    it = sent_.erase(it);
    FEDWATT_RETURN_IF_ERROR(Ask(FrameKind::kForgetData, out.str(), FrameKind::kDone, 0).status());
  }
  ByteWriter out;
  const uint64_t id = next_id_++;
  out.Put(id);
  internal::PutDataset(out, data);
  FEDWATT_RETURN_IF_ERROR(Ask(FrameKind::kAddData, out.str(), FrameKind::kDone, 0).status());
  sent_.push_front({id, data.shared_store(), data.indices(), bytes});
  return id;
}

absl::StatusOr<TrainingResult> TorchScriptTrainer::Train(absl::Span<const float> global, const Dataset& data, const TrainingRecipe& recipe,
                                                         uint64_t seed, const TrainingControl& control, absl::Span<float> local) {
  FEDWATT_RETURN_IF_ERROR(layout_.CheckLength(global.size()));
  FEDWATT_RETURN_IF_ERROR(layout_.CheckLength(local.size()));
  if (data.size() == 0) return absl::InvalidArgumentError("the dataset has no examples");
  if (Waiter::ShouldStop(control)) {
    std::copy(global.begin(), global.end(), local.begin());
    return TrainingResult{.completed = false};
  }
  FEDWATT_RETURN_IF_ERROR(EnsureChild());
  FEDWATT_ASSIGN_OR_RETURN(const uint64_t id, EnsureDataset(data));
  ByteWriter out;
  out.Put(id);
  out.Put(seed);
  internal::PutRecipe(out, recipe);
  internal::PutValues(out, global);
  const int64_t batch_size = std::max(recipe.batch_size, 1);
  const int64_t steps_planned =
      recipe.local_steps > 0 ? recipe.local_steps : recipe.local_epochs * ((data.size() + batch_size - 1) / batch_size);
  FEDWATT_ASSIGN_OR_RETURN(const std::string answer, Ask(FrameKind::kTrain, out.str(), FrameKind::kTrained,
                                                         kSmallAnswerBytes + 4 * global.size(), &control, steps_planned));
  ByteReader in(answer, "trained model");
  const auto decode = [&]() -> absl::StatusOr<TrainingResult> {
    TrainingResult result;
    FEDWATT_ASSIGN_OR_RETURN(result.steps_done, in.Get<int64_t>("steps done"));
    FEDWATT_ASSIGN_OR_RETURN(result.examples_seen, in.Get<int64_t>("examples seen"));
    FEDWATT_ASSIGN_OR_RETURN(result.example_count, in.Get<int64_t>("example count"));
    FEDWATT_ASSIGN_OR_RETURN(result.mean_loss, in.Get<double>("mean loss"));
    FEDWATT_ASSIGN_OR_RETURN(const uint8_t completed, in.Get<uint8_t>("completed"));
    result.completed = completed != 0;
    FEDWATT_ASSIGN_OR_RETURN(const std::vector<float> values, internal::GetValues(in, "values"));
    FEDWATT_RETURN_IF_ERROR(internal::ExpectEnd(in, "values"));
    const int64_t least = result.steps_done > 0 ? 1 : 0;
    if (values.size() != local.size() || result.steps_done < 0 || result.steps_done > steps_planned || result.example_count < least ||
        result.example_count > data.size() || result.examples_seen < result.example_count || !std::isfinite(result.mean_loss)) {
      return absl::DataLossError("a training result out of range");
    }
    std::copy(values.begin(), values.end(), local.begin());
    return result;
  };
  absl::StatusOr<TrainingResult> result = decode();
  if (!result.ok()) return Disbelieve(result.status());
  return result;
}

absl::StatusOr<EvaluationResult> TorchScriptTrainer::Evaluate(absl::Span<const float> model, const Dataset& data, const std::string& loss) {
  FEDWATT_RETURN_IF_ERROR(layout_.CheckLength(model.size()));
  if (data.size() == 0) return absl::InvalidArgumentError("the dataset has no examples");
  FEDWATT_RETURN_IF_ERROR(EnsureChild());
  FEDWATT_ASSIGN_OR_RETURN(const uint64_t id, EnsureDataset(data));
  ByteWriter out;
  out.Put(id);
  internal::PutString(out, loss);
  internal::PutValues(out, model);
  FEDWATT_ASSIGN_OR_RETURN(const std::string answer, Ask(FrameKind::kEvaluate, out.str(), FrameKind::kEvaluated, 0));
  ByteReader in(answer, "evaluation");
  const auto decode = [&]() -> absl::StatusOr<EvaluationResult> {
    EvaluationResult result;
    FEDWATT_ASSIGN_OR_RETURN(result.example_count, in.Get<int64_t>("example count"));
    FEDWATT_ASSIGN_OR_RETURN(result.mean_loss, in.Get<double>("mean loss"));
    FEDWATT_ASSIGN_OR_RETURN(result.accuracy, in.Get<double>("accuracy"));
    FEDWATT_ASSIGN_OR_RETURN(const uint8_t has_accuracy, in.Get<uint8_t>("has accuracy"));
    result.has_accuracy = has_accuracy != 0;
    FEDWATT_RETURN_IF_ERROR(internal::ExpectEnd(in, "evaluation"));
    if (result.example_count != data.size() || !(result.accuracy >= 0 && result.accuracy <= 1)) {
      return absl::DataLossError("an evaluation out of range");
    }
    return result;
  };
  absl::StatusOr<EvaluationResult> result = decode();
  if (!result.ok()) return Disbelieve(result.status());
  return result;
}

absl::Status TorchScriptTrainer::WriteArchive(absl::Span<const float> model, const std::string& path) {
  FEDWATT_RETURN_IF_ERROR(layout_.CheckLength(model.size()));
  FEDWATT_RETURN_IF_ERROR(EnsureChild());
  ByteWriter out;
  internal::PutValues(out, model);
  FEDWATT_ASSIGN_OR_RETURN(const std::string archive,
                           Ask(FrameKind::kSave, out.str(), FrameKind::kSaved, 2 * archive_.size() + (int64_t{64} << 20)));
  return WriteFileAtomically(path, archive);
}

absl::StatusOr<ModelProfile> TorchScriptTrainer::Profile() {
  constexpr uint64_t kMostProfileBytes = uint64_t{1} << 28;
  FEDWATT_RETURN_IF_ERROR(EnsureChild());
  FEDWATT_ASSIGN_OR_RETURN(const std::string answer, Ask(FrameKind::kProfile, "", FrameKind::kProfiled, kMostProfileBytes));
  ByteReader in(answer, "profile");
  absl::StatusOr<ModelProfile> profile = internal::GetProfile(in);
  if (!profile.ok()) return Disbelieve(profile.status());
  if (absl::Status end = internal::ExpectEnd(in, "profile"); !end.ok()) return Disbelieve(end);
  for (const OperatorProfile& run : profile->operators) {
    for (const std::string& name : run.entries) {
      const auto known = [&](const LayoutEntry& entry) { return entry.name == name; };
      if (std::none_of(layout_.entries().begin(), layout_.entries().end(), known)) return Disbelieve(absl::DataLossError("an operator reads an entry that is not there"));
    }
  }
  return profile;
}

absl::StatusOr<std::unique_ptr<TorchScriptTrainer>> MakeTorchScriptTrainerFromBytes(const ArchitectureSpec& spec, std::string archive,
                                                                                    TorchScriptOptions options) {
  if (!spec.options.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("a TorchScript archive has no options, got '", spec.options.begin()->first, "'"));
  }
  if (options.sandbox.max_silence <= absl::ZeroDuration() || options.stop_grace < absl::ZeroDuration()) {
    return absl::InvalidArgumentError("max_silence must be positive, stop_grace not negative");
  }
  if (options.sandbox.memory_bytes < 0) return absl::InvalidArgumentError(absl::StrCat("memory_bytes must not be negative, got ", options.sandbox.memory_bytes));
  if (static_cast<int64_t>(archive.size()) > options.max_archive_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat("archive of ", archive.size(), " bytes, at most ", options.max_archive_bytes));
  }
  if (!spec.quantization.empty()) return absl::InvalidArgumentError("training.quantization: a TorchScript archive can't be trained for 8-bit integers; expected none");
  if (spec.archive_digest != Digest{} && Sha256(archive) != spec.archive_digest) {
    return absl::DataLossError(absl::StrCat("the archive's SHA-256 is ", Sha256(archive).Hex(), ", expected ", spec.archive_digest.Hex()));
  }
  auto trainer = std::unique_ptr<TorchScriptTrainer>(new TorchScriptTrainer(spec, std::move(archive), std::move(options)));
  FEDWATT_RETURN_IF_ERROR(trainer->EnsureChild());
  return trainer;
}

absl::StatusOr<std::unique_ptr<TorchScriptTrainer>> MakeTorchScriptTrainer(const ArchitectureSpec& spec, const std::string& archive_path,
                                                                           TorchScriptOptions options) {
  FEDWATT_ASSIGN_OR_RETURN(std::string archive, ReadFile(archive_path, options.max_archive_bytes));
  absl::StatusOr<std::unique_ptr<TorchScriptTrainer>> trainer =
      MakeTorchScriptTrainerFromBytes(spec, std::move(archive), std::move(options));
  if (!trainer.ok()) return Annotate(trainer.status(), archive_path);
  return trainer;
}

absl::StatusOr<std::shared_ptr<const ArchiveChannels>> FindArchiveChannels(const ArchitectureSpec& spec, std::string archive, TorchScriptOptions options,
                                                                           std::stop_token stop) {
  ArchitectureSpec whole = spec;
  whole.kept.clear();
  FEDWATT_ASSIGN_OR_RETURN(const std::unique_ptr<TorchScriptTrainer> trainer, MakeTorchScriptTrainerFromBytes(whole, std::move(archive), std::move(options)));
  FEDWATT_ASSIGN_OR_RETURN(ArchiveChannels channels, trainer->FindChannels(std::move(stop)));
  return std::make_shared<const ArchiveChannels>(std::move(channels));
}

}  // namespace fedwatt

#include "fedwatt/model/torch/trainer_child.h"

#include <poll.h>

#include <map>
#include <stop_token>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/clock.h"
#include "fedwatt/base/digest.h"
#include "fedwatt/base/sandbox.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/torchscript/protocol.h"
#include "masked_trainer.h"
#include "script_model.h"

namespace fedwatt {
namespace internal {
namespace {

constexpr absl::Duration kProgressPeriod = absl::Milliseconds(10);

class TrainerChild {
 public:
  TrainerChild(int fd, void (*end_process)(int)) : fd_(fd), end_process_(end_process) {}

  int Run() {
    while (true) {
      absl::StatusOr<Frame> frame = ReadFrame(fd_, kMaxFrameBytes);
      if (!frame.ok()) return absl::IsUnavailable(frame.status()) ? 0 : 2;
      if (frame->kind == FrameKind::kStop) continue;  // crossed our last answer
      absl::StatusOr<std::pair<FrameKind, std::string>> answer = Answer(*frame);
      // What the parent says is DATA_LOSS only when it is not the protocol.
      if (absl::IsDataLoss(answer.status())) return 2;
      if (!answer.ok()) answer = std::make_pair(FrameKind::kError, EncodeError(answer.status()));
      frame->payload.clear();
      if (!WriteFrame(fd_, answer->first, answer->second).ok()) return 0;
    }
  }

 private:
  using AnswerOr = absl::StatusOr<std::pair<FrameKind, std::string>>;

  AnswerOr Answer(const Frame& frame) {
    ByteReader in(frame.payload, "trainer question");
    if (frame.kind == FrameKind::kLoad) return Load(in);
    if (trainer_ == nullptr) return absl::DataLossError("a question before an archive was loaded");
    switch (frame.kind) {
      case FrameKind::kAddData: return AddData(in);
      case FrameKind::kForgetData: return ForgetData(in);
      case FrameKind::kTrain: return Train(in);
      case FrameKind::kEvaluate: return Evaluate(in);
      case FrameKind::kSave: return Save(in);
      case FrameKind::kProfile: return Profile(in);
      case FrameKind::kFindChannels: return FindChannels(in);
      default: return absl::DataLossError(absl::StrCat("unknown question ", static_cast<uint32_t>(frame.kind)));
    }
  }

  AnswerOr Load(ByteReader& in) {
    ArchitectureSpec spec;
    spec.name = "torchscript";
    FEDWATT_ASSIGN_OR_RETURN(spec.input_shape, GetShape(in, "input shape"));
    FEDWATT_ASSIGN_OR_RETURN(spec.output_count, in.Get<int64_t>("output count"));
    FEDWATT_ASSIGN_OR_RETURN(std::string archive, GetString(in, "archive", kMaxFrameBytes));
    FEDWATT_ASSIGN_OR_RETURN(spec.kept, GetKept(in));
    FEDWATT_RETURN_IF_ERROR(ExpectEnd(in, "archive"));
    FEDWATT_ASSIGN_OR_RETURN(std::unique_ptr<ScriptModel> model, MakeScriptModel(spec, std::move(archive)));
    model_ = model.get();
    const bool masked = KeepsWeights(spec.kept);
    const std::vector<ChannelGroup> weights = WeightGroups(model_->layout());
    if (masked) {
      FEDWATT_ASSIGN_OR_RETURN(Submodel mask, Submodel::Create(model_->layout(), weights, spec.kept));
      trainer_ = MakeMaskedTrainer(std::move(model), std::move(mask));
    } else {
      trainer_ = MakeSgdTrainer(std::move(model));
    }
    FEDWATT_ASSIGN_OR_RETURN(const std::vector<float> values, trainer_->InitialModel(0));
    ByteWriter out;
    PutLayout(out, trainer_->layout());
    PutValues(out, values);
    if (const Submodel* part = trainer_->submodel(); part != nullptr) {
      PutLayout(out, part->whole());
      PutGroups(out, masked ? weights : model_->Channels().groups());
    }
    return std::make_pair(FrameKind::kLoaded, std::move(out).str());
  }

  AnswerOr FindChannels(ByteReader& in) {
    FEDWATT_RETURN_IF_ERROR(ExpectEnd(in, "nothing"));
    if (trainer_->submodel() != nullptr) return absl::DataLossError("channels of a narrower copy");
    UseKernelThreads(1);  // the same sums, and so the same answer, on any number of cores
    return CatchTorch([&]() -> AnswerOr {
      ScriptChannels& channels = model_->Channels();
      int64_t runs = 0;
      if (!channels.Prove([&] { return !ReportProgress(++runs, 0); })) return absl::CancelledError("stopped while channels were looked for");
      ByteWriter out;
      PutArchiveChannels(out, {channels.groups(), channels.whole(), channels.uses()});
      return std::make_pair(FrameKind::kFoundChannels, std::move(out).str());
    });
  }

  AnswerOr AddData(ByteReader& in) {
    FEDWATT_ASSIGN_OR_RETURN(const uint64_t id, in.Get<uint64_t>("id"));
    FEDWATT_ASSIGN_OR_RETURN(Dataset data, GetDataset(in));
    FEDWATT_RETURN_IF_ERROR(ExpectEnd(in, "examples"));
    datasets_.insert_or_assign(id, std::move(data));
    return std::make_pair(FrameKind::kDone, std::string());
  }

  AnswerOr ForgetData(ByteReader& in) {
    FEDWATT_ASSIGN_OR_RETURN(const uint64_t id, in.Get<uint64_t>("id"));
    FEDWATT_RETURN_IF_ERROR(ExpectEnd(in, "id"));
    datasets_.erase(id);
    return std::make_pair(FrameKind::kDone, std::string());
  }

  AnswerOr Train(ByteReader& in) {
    FEDWATT_ASSIGN_OR_RETURN(const uint64_t id, in.Get<uint64_t>("id"));
    FEDWATT_ASSIGN_OR_RETURN(const uint64_t seed, in.Get<uint64_t>("seed"));
    FEDWATT_ASSIGN_OR_RETURN(const TrainingRecipe recipe, GetRecipe(in));
    FEDWATT_ASSIGN_OR_RETURN(const std::vector<float> global, GetValues(in, "values"));
    FEDWATT_RETURN_IF_ERROR(ExpectEnd(in, "values"));
    FEDWATT_ASSIGN_OR_RETURN(const Dataset* data, FindData(id));

    std::stop_source stop;
    TrainingControl control;
    control.stop = stop.get_token();
    control.progress = [&](const TrainingProgress& progress) {
      if (ReportProgress(progress.steps_done, progress.examples_seen)) stop.request_stop();
    };
    std::vector<float> local(global.size());
    FEDWATT_ASSIGN_OR_RETURN(const TrainingResult result,
                             trainer_->Train(global, *data, recipe, seed, control, absl::MakeSpan(local)));
    ByteWriter out;
    out.Put(result.steps_done);
    out.Put(result.examples_seen);
    out.Put(result.example_count);
    out.Put(result.mean_loss);
    out.Put<uint8_t>(result.completed);
    PutValues(out, local);
    return std::make_pair(FrameKind::kTrained, std::move(out).str());
  }

  // Now and then tells the parent how far the work is. True when the parent wants it stopped.
  bool ReportProgress(int64_t steps_done, int64_t examples_seen) {
    pollfd asked{fd_, POLLIN, 0};
    const bool stop = poll(&asked, 1, 0) > 0;
    if (stop) {
      const absl::StatusOr<Frame> frame = ReadFrame(fd_, 0);
      if (!frame.ok() || frame->kind != FrameKind::kStop) end_process_(frame.ok() ? 2 : 0);
    }
    const absl::Duration now = RealClock().Monotonic();
    if (now - last_progress_ < kProgressPeriod) return stop;
    last_progress_ = now;
    ByteWriter out;
    out.Put(steps_done);
    out.Put(examples_seen);
    if (!WriteFrame(fd_, FrameKind::kProgress, out.str()).ok()) end_process_(0);
    return stop;
  }

  AnswerOr Evaluate(ByteReader& in) {
    FEDWATT_ASSIGN_OR_RETURN(const uint64_t id, in.Get<uint64_t>("id"));
    FEDWATT_ASSIGN_OR_RETURN(const std::string loss, GetString(in, "loss", kMaxMessageBytes));
    FEDWATT_ASSIGN_OR_RETURN(const std::vector<float> values, GetValues(in, "values"));
    FEDWATT_RETURN_IF_ERROR(ExpectEnd(in, "values"));
    FEDWATT_ASSIGN_OR_RETURN(const Dataset* data, FindData(id));
    FEDWATT_ASSIGN_OR_RETURN(const EvaluationResult result, trainer_->Evaluate(values, *data, loss));
    ByteWriter out;
    out.Put(result.example_count);
    out.Put(result.mean_loss);
    out.Put(result.accuracy);
    out.Put<uint8_t>(result.has_accuracy);
    return std::make_pair(FrameKind::kEvaluated, std::move(out).str());
  }

  AnswerOr Save(ByteReader& in) {
    FEDWATT_ASSIGN_OR_RETURN(const std::vector<float> values, GetValues(in, "values"));
    FEDWATT_RETURN_IF_ERROR(ExpectEnd(in, "values"));
    if (static_cast<int64_t>(values.size()) != trainer_->layout().value_count()) return absl::DataLossError("values of another length");
    std::vector<float> whole;
    if (const Submodel* mask = trainer_->submodel(); mask != nullptr && KeepsWeights(mask->kept())) whole = mask->Scatter(values);
    return CatchTorch([&]() -> AnswerOr { return std::make_pair(FrameKind::kSaved, model_->Archive(whole.empty() ? values : whole)); });
  }

  AnswerOr Profile(ByteReader& in) {
    FEDWATT_RETURN_IF_ERROR(ExpectEnd(in, "profile"));
    return CatchTorch([&]() -> AnswerOr {
      ByteWriter out;
      PutProfile(out, model_->Profile());
      return std::make_pair(FrameKind::kProfiled, std::move(out).str());
    });
  }

  absl::StatusOr<const Dataset*> FindData(uint64_t id) const {
    auto it = datasets_.find(id);
    if (it == datasets_.end()) return absl::DataLossError(absl::StrCat("no dataset ", id));
    return &it->second;
  }

  const int fd_;
  void (*const end_process_)(int);
  absl::Duration last_progress_ = -absl::InfiniteDuration();
  ScriptModel* model_ = nullptr;  // owned by trainer_
  std::unique_ptr<LocalTrainer> trainer_;
  std::map<uint64_t, Dataset> datasets_;
};

}  // namespace
}  // namespace internal

namespace internal {
namespace {

// Answers the first question from inside.
absl::Status Confine(int fd) {
  FEDWATT_ASSIGN_OR_RETURN(const Frame frame, ReadFrame(fd, sizeof(int64_t)));
  ByteReader in(frame.payload, "sandbox");
  SandboxLimits limits{.last_descriptor = fd};
  FEDWATT_ASSIGN_OR_RETURN(limits.memory_bytes, in.Get<int64_t>("memory"));
  if (frame.kind != FrameKind::kConfine || in.remaining() != 0) return absl::DataLossError("the first question must be for the sandbox");
  FEDWATT_RETURN_IF_ERROR(CatchTorch([] {
    WarmKernelsUp();
    return absl::OkStatus();
  }));
  Sha256("");  // OpenSSL reads its configuration at its first use
  absl::StatusOr<SandboxWalls> walls = EnterSandbox(limits);
  if (!walls.ok()) {
    FEDWATT_RETURN_IF_ERROR(WriteFrame(fd, FrameKind::kError, EncodeError(walls.status())));
    return walls.status();
  }
  ByteWriter out;
  PutWalls(out, *walls);
  return WriteFrame(fd, FrameKind::kConfined, out.str());
}

}  // namespace
}  // namespace internal

int RunTrainerChild(int fd, void (*end_process)(int status)) {
  if (absl::Status inside = internal::Confine(fd); !inside.ok()) return absl::IsUnavailable(inside) ? 0 : 2;
  // An archive may be in an endless loop when the parent dies.
  std::thread([=] {
    pollfd hung_up{fd, POLLRDHUP, 0};
    while (poll(&hung_up, 1, -1) < 0) {
    }
    end_process(0);
  }).detach();
  return internal::TrainerChild(fd, end_process).Run();
}

}  // namespace fedwatt

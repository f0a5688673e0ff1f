// The parent against children that lie, die or say nothing: shell scripts in the place of fedwatt-trainer.
#include "fedwatt/model/torchscript/torch_script_trainer.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <limits>

#include "fedwatt/base/clock.h"
#include "fedwatt/base/digest.h"
#include "fedwatt/base/file.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using internal::FrameKind;

std::string FrameBytes(FrameKind kind, std::string_view payload) {
  ByteWriter out;
  out.Put(static_cast<uint32_t>(kind));
  out.Put<uint64_t>(payload.size());
  out.PutBytes(payload);
  return std::move(out).str();
}

std::string ConfinedFrame(const SandboxWalls& walls = {.system_calls = true, .landlock_abi = 4}, const std::string& more = "") {
  ByteWriter out;
  internal::PutWalls(out, walls);
  out.PutBytes(more);
  return FrameBytes(FrameKind::kConfined, out.str());
}

// A layout of two values, and as many initial values as asked for.
std::string LoadedFrame(size_t value_count = 2) {
  ByteWriter out;
  internal::PutLayout(out, *ParameterLayout::Create({{"w", {2}}}));
  internal::PutValues(out, std::vector<float>(value_count, 1.0f));
  return FrameBytes(FrameKind::kLoaded, out.str());
}

std::string TrainedFrame(int64_t steps, int64_t seen, int64_t count, double loss, size_t values = 2) {
  ByteWriter out;
  out.Put(steps);
  out.Put(seen);
  out.Put(count);
  out.Put(loss);
  out.Put<uint8_t>(1);
  internal::PutValues(out, std::vector<float>(values, 3.0f));
  return FrameBytes(FrameKind::kTrained, out.str());
}

std::string EvaluatedFrame(int64_t count, double accuracy) {
  ByteWriter out;
  out.Put(count);
  out.Put(0.5);
  out.Put(accuracy);
  out.Put<uint8_t>(1);
  return FrameBytes(FrameKind::kEvaluated, out.str());
}

// Of LoadedFrame()'s layout: both values are a channel.
std::vector<ChannelGroup> Groups() { return {{"w", 2, {{.entry = "w"}}}}; }

// A narrower copy of `whole` values a channel each, whose groups are `groups`.
std::string NarrowLoadedFrame(const std::vector<ChannelGroup>& groups, int64_t narrow = 1, int64_t whole = 2, const std::string& more = "") {
  ByteWriter out;
  internal::PutLayout(out, *ParameterLayout::Create({{"w", {narrow}}}));
  internal::PutValues(out, std::vector<float>(static_cast<size_t>(narrow), 1.0f));
  internal::PutLayout(out, *ParameterLayout::Create({{"w", {whole}}}));
  internal::PutGroups(out, groups);
  out.PutBytes(more);
  return FrameBytes(FrameKind::kLoaded, out.str());
}

std::string FoundFrame(const ArchiveChannels& channels, const std::string& more = "") {
  ByteWriter out;
  internal::PutArchiveChannels(out, channels);
  out.PutBytes(more);
  return FrameBytes(FrameKind::kFoundChannels, out.str());
}

std::string ProgressFrame(int64_t steps) {
  ByteWriter out;
  out.Put(steps);
  out.Put(steps);
  return FrameBytes(FrameKind::kProgress, out.str());
}

class HostileChildTest : public ::testing::Test {
 protected:
  HostileChildTest() {
    spec_.name = "torchscript";
    spec_.input_shape = {1};
    spec_.output_count = 2;
    options_.sandbox.max_silence = absl::Milliseconds(300);
    options_.stop_grace = absl::Milliseconds(100);
    ExampleStore store;
    store.input_shape = {1};
    store.inputs = std::vector<float>{1, 2, 3};
    store.labels = {0, 1, 0};
    store.output_count = 2;
    data_ = *Dataset::Create(std::move(store));
  }

  // A child that runs `script`.
  void UseScript(const std::string& script) {
    options_.trainer_binary_path = absl::StrCat(::testing::TempDir(), "/child_", getpid(), ".sh");
    ASSERT_THAT(WriteFileAtomically(options_.trainer_binary_path, "#!/bin/sh\n" + script + "\n", 0755), IsOk());
  }
  // A child that says it is in its sandbox and then `bytes` whatever it is asked, and lives on.
  void UseAnswers(const std::string& bytes, const std::string& sandbox = ConfinedFrame()) {
    const std::string path = absl::StrCat(::testing::TempDir(), "/answers_", getpid());
    ASSERT_THAT(WriteFileAtomically(path, sandbox + bytes), IsOk());
    UseScript("cat '" + path + "' >&3; exec sleep 60");
  }
  absl::StatusOr<std::unique_ptr<TorchScriptTrainer>> Make() { return MakeTorchScriptTrainerFromBytes(spec_, "an archive", options_); }
  absl::Status Find(std::stop_token stop = {}) { return FindArchiveChannels(spec_, "an archive", options_, std::move(stop)).status(); }
  absl::StatusOr<TrainingResult> Train(TorchScriptTrainer& trainer, const TrainingControl& control = {}) {
    TrainingRecipe recipe;
    recipe.batch_size = 1;
    return trainer.Train(std::vector<float>{1, 2}, data_, recipe, 1, control, absl::MakeSpan(local_));
  }

  ArchitectureSpec spec_;
  TorchScriptOptions options_;
  Dataset data_;
  std::vector<float> local_ = {0, 0};
};

TEST_F(HostileChildTest, WithoutASandboxNothingIsRunUnlessItIsAllowed) {
  UseAnswers(LoadedFrame(), ConfinedFrame({.landlock_abi = 4}));
  EXPECT_THAT(Make(), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("model.sandbox")));
  options_.sandbox.required = false;
  ASSERT_OK_AND_ASSIGN(const auto trainer, Make());
  EXPECT_EQ(trainer->walls().landlock_abi, 4);
  EXPECT_FALSE(trainer->walls().system_calls);
}

TEST_F(HostileChildTest, TheArchiveGoesToNobodyWhoIsNotInTheSandbox) {
  UseAnswers("", LoadedFrame());
  EXPECT_THAT(Make(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("unexpected frame")));
  UseAnswers("", ConfinedFrame({.system_calls = true}, "x"));
  EXPECT_THAT(Make(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("sandbox")));
  UseAnswers("", FrameBytes(FrameKind::kConfined, "\1"));
  EXPECT_THAT(Make(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("Landlock")));
  UseAnswers("", FrameBytes(FrameKind::kError, internal::EncodeError(absl::UnavailableError("no_new_privs"))));
  EXPECT_THAT(Make(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("no_new_privs")));
  options_.sandbox.memory_bytes = -1;
  EXPECT_THAT(Make(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("memory_bytes")));
}

TEST_F(HostileChildTest, AnHonestScriptIsBelieved) {
  UseAnswers(LoadedFrame() + FrameBytes(FrameKind::kDone, "") + TrainedFrame(3, 3, 3, 0.5) + EvaluatedFrame(3, 1));
  ASSERT_OK_AND_ASSIGN(const auto trainer, Make());
  EXPECT_EQ(trainer->layout().value_count(), 2);
  ASSERT_OK_AND_ASSIGN(const TrainingResult result, Train(*trainer));
  EXPECT_EQ(result.steps_done, 3);
  EXPECT_EQ(local_, (std::vector<float>{3, 3}));
  // The dataset crossed already: the next answer is the evaluation's.
  ASSERT_OK_AND_ASSIGN(const EvaluationResult score, trainer->Evaluate(std::vector<float>{1, 2}, data_, "cross_entropy"));
  EXPECT_EQ(score.accuracy, 1);
}

TEST_F(HostileChildTest, MissingOrFailingBinary) {
  options_.trainer_binary_path = "/nonexistent/fedwatt-trainer";
  EXPECT_THAT(Make(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("/nonexistent/fedwatt-trainer")));
  UseScript("exit 7");
  EXPECT_THAT(Make(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("exit status 7")));
  UseScript("kill -9 $$");
  EXPECT_THAT(Make(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("killed by signal 9")));
}

TEST_F(HostileChildTest, SilenceEndsInADeadline) {
  UseScript("exec sleep 60");
  const absl::Duration begin = RealClock().Monotonic();
  EXPECT_THAT(Make(), StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("silent")));
  EXPECT_LT(RealClock().Monotonic() - begin, absl::Seconds(5));
}

TEST_F(HostileChildTest, GarbageEndsTheChild) {
  const uint64_t huge = uint64_t{1} << 62;
  ByteWriter huge_frame;
  huge_frame.Put<uint32_t>(101);
  huge_frame.Put(huge);
  UseAnswers(huge_frame.str());
  EXPECT_THAT(Make(), StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("at most")));
  for (const std::string& bytes :
       {std::string(64, '\xff'), FrameBytes(static_cast<FrameKind>(77), ""), FrameBytes(FrameKind::kDone, ""),
        FrameBytes(FrameKind::kProgress, std::string(16, '\1')), FrameBytes(FrameKind::kError, "?"), FrameBytes(FrameKind::kLoaded, ""),
        FrameBytes(FrameKind::kLoaded, std::string(200, '\xff')), LoadedFrame(1), LoadedFrame(3), LoadedFrame(0)}) {
    UseAnswers(bytes);
    const absl::Status status = Make().status();
    EXPECT_THAT(status.code(), AnyOf(absl::StatusCode::kDataLoss, absl::StatusCode::kResourceExhausted)) << status;
  }
}

TEST_F(HostileChildTest, ResultsOutOfRangeAreRefused) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const std::string& answer : {TrainedFrame(4, 4, 3, 0.5), TrainedFrame(-1, 3, 3, 0.5), TrainedFrame(3, 3, 0, 0.5),
                                    TrainedFrame(3, 9, 4, 0.5), TrainedFrame(3, 2, 3, 0.5), TrainedFrame(3, 3, 3, nan),
                                    TrainedFrame(3, 3, 3, 0.5, 1), TrainedFrame(3, 3, 3, 0.5, 3)}) {
    UseAnswers(LoadedFrame() + FrameBytes(FrameKind::kDone, "") + answer);
    ASSERT_OK_AND_ASSIGN(const auto trainer, Make());
    EXPECT_THAT(Train(*trainer), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("")));
    EXPECT_EQ(trainer->child_pid(), -1);
    EXPECT_EQ(local_, (std::vector<float>{0, 0}));
  }
  for (const std::string& answer : {EvaluatedFrame(2, 1), EvaluatedFrame(3, 1.5), EvaluatedFrame(3, -1), EvaluatedFrame(3, nan)}) {
    UseAnswers(LoadedFrame() + FrameBytes(FrameKind::kDone, "") + answer);
    ASSERT_OK_AND_ASSIGN(const auto trainer, Make());
    EXPECT_THAT(trainer->Evaluate(std::vector<float>{1, 2}, data_, "cross_entropy"), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("")));
  }
}

TEST_F(HostileChildTest, AProfileOfAnotherModelIsRefused) {
  const auto answer = [](const std::string& entry) {
    ByteWriter out;
    internal::PutProfile(out, {{{"linear", {entry}, {2}, 2, 8}}, 2});
    return LoadedFrame() + FrameBytes(FrameKind::kProfiled, out.str());
  };
  UseAnswers(answer("w"));
  ASSERT_OK_AND_ASSIGN(auto trainer, Make());
  ASSERT_OK_AND_ASSIGN(const ModelProfile profile, trainer->Profile());
  EXPECT_EQ(profile.operators[0].macs, 2);
  EXPECT_GE(trainer->child_pid(), 0);
  for (const std::string& lie : {answer("another"), LoadedFrame() + FrameBytes(FrameKind::kProfiled, ""), LoadedFrame() + FrameBytes(FrameKind::kDone, "")}) {
    UseAnswers(lie);
    ASSERT_OK_AND_ASSIGN(trainer, Make());
    EXPECT_THAT(trainer->Profile(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("")));
    EXPECT_EQ(trainer->child_pid(), -1);
  }
}

TEST_F(HostileChildTest, ProgressMustAdvanceAndEnd) {
  const std::string begin = LoadedFrame() + FrameBytes(FrameKind::kDone, "");
  for (const std::string& answers : {ProgressFrame(1) + ProgressFrame(1), ProgressFrame(4), ProgressFrame(0), ProgressFrame(2) + ProgressFrame(1)}) {
    UseAnswers(begin + answers);
    ASSERT_OK_AND_ASSIGN(const auto trainer, Make());
    EXPECT_THAT(Train(*trainer), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("kind 105")));
  }
  UseAnswers(begin + ProgressFrame(1) + ProgressFrame(3) + TrainedFrame(3, 3, 3, 0.5));
  ASSERT_OK_AND_ASSIGN(const auto trainer, Make());
  std::vector<int64_t> steps;
  TrainingControl control;
  control.progress = [&](const TrainingProgress& p) { steps.push_back(p.steps_done); };
  EXPECT_THAT(Train(*trainer, control), IsOk());
  EXPECT_THAT(steps, ::testing::ElementsAre(1, 3));
}

TEST_F(HostileChildTest, NarrowerCopiesMustBeWhatTheirGroupsSay) {
  spec_.kept = {{"w", {{1, 2}}}};
  UseAnswers(NarrowLoadedFrame(Groups()));
  ASSERT_OK_AND_ASSIGN(const auto trainer, Make());
  EXPECT_EQ(trainer->layout().value_count(), 1);
  ASSERT_NE(trainer->submodel(), nullptr);
  EXPECT_THAT(trainer->submodel()->covered(), ::testing::ElementsAre(CoordinateRange{1, 2}));

  const ChannelAxis beyond{.entry = "w", .begin = 1}, other{.entry = "v"}, deep{.entry = "w", .axis = 1};
  for (const std::string& frame :
       {LoadedFrame(), NarrowLoadedFrame({}), NarrowLoadedFrame(Groups(), 2), NarrowLoadedFrame(Groups(), 1, 3), NarrowLoadedFrame(Groups(), 1, 2, "x"),
        NarrowLoadedFrame({{"v", 2, {{.entry = "w"}}}}), NarrowLoadedFrame({{"w", 2, {beyond}}}), NarrowLoadedFrame({{"w", 2, {other}}}),
        NarrowLoadedFrame({{"w", 2, {deep}}}), NarrowLoadedFrame({{"w", 1, {{.entry = "w"}}}})}) {
    UseAnswers(frame);
    const absl::Status status = Make().status();
    EXPECT_THAT(status.code(), AnyOf(absl::StatusCode::kDataLoss, absl::StatusCode::kInvalidArgument)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("answer of the trainer process"));
  }
}

TEST_F(HostileChildTest, ChannelsThatDoNotSuitTheArchiveAreRefused) {
  const ArchiveChannels honest{Groups(), {{"head", 10, "the network's output"}}, {7}};
  UseAnswers(LoadedFrame() + ProgressFrame(1) + ProgressFrame(9) + FoundFrame(honest));
  ASSERT_OK_AND_ASSIGN(const std::shared_ptr<const ArchiveChannels> found, FindArchiveChannels(spec_, "an archive", options_));
  EXPECT_EQ(found->groups, Groups());
  EXPECT_EQ(Summarise(*found), "1 group with 2 channels can be dropped; whole stay head (10 channels: the network's output)");
  EXPECT_EQ(Summarise({{}, {{"a\x1b[31mb\n", 1, "why\r"}}, {}}), "0 groups with 0 channels can be dropped; whole stay a [31mb  (1 channels: why )");
  options_.channels = found;
  ASSERT_OK_AND_ASSIGN(const auto trainer, Make());
  EXPECT_EQ(trainer->channel_groups(), Groups());
  EXPECT_THAT(trainer->UsesPerExample(), ::testing::ElementsAre(7));
  EXPECT_EQ(trainer->submodel(), nullptr);
  options_.channels = nullptr;

  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const std::string& answer :
       {FoundFrame({{{"w", 3, {{.entry = "w"}}}}, {}, {7}}), FoundFrame({{{"w", 2, {{.entry = "v"}}}}, {}, {7}}), FoundFrame({Groups(), {}, {}}),
        FoundFrame({Groups(), {}, {7, 7}}), FoundFrame({Groups(), {}, {nan}}), FoundFrame({Groups(), {}, {-1}}), FoundFrame(honest, "x"),
        FoundFrame({{{"w", 2, {{.entry = "w", .repeat = std::numeric_limits<int64_t>::max()}}}}, {}, {7}}),
        FrameBytes(FrameKind::kFoundChannels, std::string(100, '\xff')), FrameBytes(FrameKind::kDone, ""), ProgressFrame(3) + ProgressFrame(3), ProgressFrame(0),
        ProgressFrame(int64_t{1} << 40)}) {
    UseAnswers(LoadedFrame() + answer);
    const absl::Status status = Find();
    EXPECT_THAT(status.code(), AnyOf(absl::StatusCode::kDataLoss, absl::StatusCode::kInvalidArgument)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("answer of the trainer process"));
  }
  UseAnswers(LoadedFrame());
  EXPECT_THAT(Find(), StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("silent")));
  std::stop_source stop;
  stop.request_stop();
  options_.sandbox.max_silence = absl::Minutes(1);
  EXPECT_THAT(Find(stop.get_token()), StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("did not stop")));
}

TEST_F(HostileChildTest, AChildThatDoesNotStopIsKilled) {
  UseAnswers(LoadedFrame() + FrameBytes(FrameKind::kDone, ""));
  options_.sandbox.max_silence = absl::Minutes(1);
  ASSERT_OK_AND_ASSIGN(const auto trainer, Make());
  const pid_t pid = trainer->child_pid();
  TrainingControl control;
  control.deadline = absl::Now() + absl::Milliseconds(50);
  EXPECT_THAT(Train(*trainer, control), StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("did not stop")));
  EXPECT_EQ(kill(pid, 0), -1);
  // Stopped before it began: no child is needed.
  ASSERT_OK_AND_ASSIGN(const TrainingResult nothing, Train(*trainer, control));
  EXPECT_FALSE(nothing.completed);
  EXPECT_EQ(nothing.steps_done, 0);
  EXPECT_EQ(local_, (std::vector<float>{1, 2}));
}

TEST_F(HostileChildTest, TheChildGetsNoSecretsAndNoFiles) {
  const std::string path = absl::StrCat(::testing::TempDir(), "/seen_", getpid());
  setenv("FEDWATT_TEST_SECRET", "1", 1);
  setenv("OPENBLAS_NUM_THREADS", "4", 1);
  setenv("OMP_PROC_BIND", "false", 1);
  ASSERT_EQ(dup2(2, 57), 57);  // a descriptor that would survive exec
  UseScript("env > '" + path + "'; ls /proc/$$/fd >> '" + path + "'; exit 0");
  EXPECT_FALSE(Make().ok());
  close(57);
  ASSERT_OK_AND_ASSIGN(const std::string seen, ReadFile(path));
  unsetenv("OPENBLAS_NUM_THREADS");
  unsetenv("OMP_PROC_BIND");
  EXPECT_THAT(seen, HasSubstr("OMP_PROC_BIND=false"));
  // Libraries start no thread before the sandbox.
  EXPECT_THAT(seen, HasSubstr("OPENBLAS_NUM_THREADS=1\n"));
  EXPECT_THAT(seen, HasSubstr("OMP_NUM_THREADS=1\n"));
  for (const char* absent : {"SECRET", "THREADS=4", "TMPDIR", "HOME="}) EXPECT_THAT(seen, ::testing::Not(HasSubstr(absent)));
  EXPECT_THAT(seen, HasSubstr("\n3\n"));
  EXPECT_THAT(seen, ::testing::Not(HasSubstr("57")));
}

TEST_F(HostileChildTest, BadRequestsNeedNoChild) {
  spec_.options = {{"dropout", "1"}};
  EXPECT_THAT(Make(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("'dropout'")));
  spec_.options.clear();
  spec_.archive_digest = Sha256("another archive");
  EXPECT_THAT(Make(), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("SHA-256")));
  spec_.archive_digest = {};
  options_.max_archive_bytes = 3;
  EXPECT_THAT(Make(), StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("10 bytes")));
  options_ = {};
  options_.sandbox.max_silence = absl::ZeroDuration();
  EXPECT_THAT(Make(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("max_silence")));
  EXPECT_THAT(MakeTorchScriptTrainer(spec_, "/nonexistent/m.pt"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("m.pt")));
}

}  // namespace
}  // namespace fedwatt

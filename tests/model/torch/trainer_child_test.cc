// TorchScript archives through the real fedwatt-trainer.
#include "fedwatt/model/torch/trainer_child.h"

#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <thread>

#include "fedwatt/base/file.h"
#include "fedwatt/model/torchscript/torch_script_trainer.h"
#include "model/torch/pch.h"
#include "tests/model/torch/torch_testing.h"
#include "tests/testing/status_matchers.h"

extern char** environ;

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::RandomDataset;
using ::fedwatt::testing::Spec;
using ::fedwatt::testing::StatusIs;
using ::fedwatt::testing::TypicalSpec;
using ::testing::HasSubstr;

TorchScriptOptions Options() {
  TorchScriptOptions options;
  options.trainer_binary_path = FEDWATT_TRAINER_BINARY;
  return options;
}

std::string Path(const std::string& name) { return absl::StrCat(::testing::TempDir(), "/", getpid(), "_", name, ".pt"); }

torch::jit::Module WithTrainingFlag(const char* name) {
  torch::jit::Module module(name);
  module.register_attribute("training", c10::BoolType::get(), true);
  return module;
}

// One linear layer under a forward of the test's own.
std::string LinearArchive(const std::string& name, const std::string& forward, int64_t inputs = 4, int64_t outputs = 3) {
  torch::jit::Module module = WithTrainingFlag("Linear");
  module.register_parameter("weight", at::full({outputs, inputs}, 0.1f).set_requires_grad(true), false);
  module.register_parameter("bias", at::zeros({outputs}).set_requires_grad(true), false);
  module.define(forward);
  module.save(Path(name));
  return Path(name);
}

class TrainerChildTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { ASSERT_THAT(ConfigureKernels(1), IsOk()); }
  const ArchitectureSpec spec_ = Spec("torchscript", {4}, 3);
  const Dataset data_ = RandomDataset(spec_, 50);
  TrainingRecipe recipe_;
};

TEST_F(TrainerChildTest, TheTwinTrainsAsTheBuiltInDoes) {
  const ArchitectureSpec builtin_spec = TypicalSpec("mlp_2nn");
  ASSERT_OK_AND_ASSIGN(const auto builtin, MakeTorchTrainer(builtin_spec));
  ASSERT_OK_AND_ASSIGN(const std::vector<float> initial, builtin->InitialModel(1));
  ASSERT_THAT(WriteTorchScript(builtin_spec, initial, Path("twin")), IsOk());
  ArchitectureSpec spec = builtin_spec;
  spec.name = "torchscript";
  ASSERT_OK_AND_ASSIGN(const auto twin, MakeTorchScriptTrainer(spec, Path("twin"), Options()));
  EXPECT_EQ(twin->layout(), builtin->layout());
  EXPECT_EQ(twin->layout().digest(), builtin->layout().digest());
  ASSERT_OK_AND_ASSIGN(const std::vector<float> own, twin->InitialModel(99));
  EXPECT_EQ(own, initial);

  const Dataset data = RandomDataset(builtin_spec, 205);
  TrainingRecipe recipe;
  recipe.batch_size = 10;
  recipe.local_epochs = 2;
  recipe.momentum = 0.5;
  recipe.proximal_mu = 0.01;
  std::vector<float> expected(initial.size()), got(initial.size()), again(initial.size());
  ASSERT_OK_AND_ASSIGN(const TrainingResult a, builtin->Train(initial, data, recipe, 7, {}, absl::MakeSpan(expected)));
  ASSERT_OK_AND_ASSIGN(const TrainingResult b, twin->Train(initial, data, recipe, 7, {}, absl::MakeSpan(got)));
  EXPECT_EQ(b.steps_done, a.steps_done);
  EXPECT_EQ(b.example_count, a.example_count);
  EXPECT_NEAR(b.mean_loss, a.mean_loss, 1e-7);
  for (size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(got[i], expected[i], 1e-6) << i;
  EXPECT_NE(got, initial);
  ASSERT_THAT(twin->Train(initial, data, recipe, 7, {}, absl::MakeSpan(again)), IsOk());
  EXPECT_EQ(again, got);

  ASSERT_OK_AND_ASSIGN(const EvaluationResult score, builtin->Evaluate(expected, data, "cross_entropy"));
  ASSERT_OK_AND_ASSIGN(const EvaluationResult twin_score, twin->Evaluate(got, data, "cross_entropy"));
  EXPECT_NEAR(twin_score.mean_loss, score.mean_loss, 1e-6);
  EXPECT_EQ(twin_score.accuracy, score.accuracy);

  // The final archive holds the trained values and is in evaluation mode.
  ASSERT_THAT(twin->WriteArchive(got, Path("final")), IsOk());
  torch::jit::Module final = torch::jit::load(Path("final"));
  EXPECT_FALSE(final.is_training());
  const at::Tensor bias = final.attr("fc3").toModule().attr("bias").toTensor();
  EXPECT_EQ(std::vector<float>(bias.data_ptr<float>(), bias.data_ptr<float>() + 10), std::vector<float>(got.end() - 10, got.end()));
  EXPECT_THAT(twin->WriteArchive(std::vector<float>(3), Path("x")), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("3 values")));
}

// Of an archive, too, single weights can be left; the archive that is written has zeros for the others.
TEST_F(TrainerChildTest, TheMaskedTwinTrainsAsTheMaskedBuiltInDoes) {
  ArchitectureSpec builtin_spec = TypicalSpec("mlp_2nn");
  ASSERT_OK_AND_ASSIGN(const auto whole, MakeTorchTrainer(builtin_spec));
  ASSERT_THAT(WriteTorchScript(builtin_spec, *whole->InitialModel(1), Path("masked_twin")), IsOk());
  for (const ChannelGroup& group : WeightGroups(whole->layout())) {
    for (int64_t i = 0; i + 1 < group.size; i += 3) builtin_spec.kept[group.name].push_back({i, i + 1});
  }
  ArchitectureSpec spec = builtin_spec;
  spec.name = "torchscript";
  ASSERT_OK_AND_ASSIGN(const auto builtin, MakeTorchTrainer(builtin_spec));
  ASSERT_OK_AND_ASSIGN(const auto twin, MakeTorchScriptTrainer(spec, Path("masked_twin"), Options()));
  EXPECT_EQ(twin->layout(), builtin->layout());
  ASSERT_NE(twin->submodel(), nullptr);
  ASSERT_OK_AND_ASSIGN(const std::vector<float> initial, twin->InitialModel(99));
  EXPECT_EQ(initial, *builtin->InitialModel(1));
  const Dataset data = RandomDataset(builtin_spec, 45);
  TrainingRecipe recipe;
  recipe.batch_size = 10;
  std::vector<float> expected(initial.size()), got(initial.size());
  ASSERT_THAT(builtin->Train(initial, data, recipe, 7, {}, absl::MakeSpan(expected)), IsOk());
  ASSERT_THAT(twin->Train(initial, data, recipe, 7, {}, absl::MakeSpan(got)), IsOk());
  for (size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(got[i], expected[i], 1e-6) << i;
  EXPECT_NE(got, initial);
  ASSERT_THAT(twin->WriteArchive(got, Path("masked_final")), IsOk());
  const at::Tensor weight = torch::jit::load(Path("masked_final")).attr("fc3").toModule().attr("weight").toTensor();
  ASSERT_EQ(weight.numel(), 2000);
  for (int64_t i = 0; i < weight.numel(); ++i) {
    if (i % 3 != 0 || i == 1999) ASSERT_EQ(weight.data_ptr<float>()[i], 0) << i;
  }
  EXPECT_GT(weight.abs().max().item<float>(), 0);
}

TEST_F(TrainerChildTest, BuffersAreAveragedCountersStayLocalAndDropoutFollowsTheSeed) {
  torch::jit::Module norm = WithTrainingFlag("Norm");
  norm.register_parameter("weight", at::ones({4}).set_requires_grad(true), false);
  norm.register_parameter("frozen", at::zeros({4}), false);
  norm.register_buffer("running_mean", at::zeros({4}));
  norm.register_buffer("running_var", at::ones({4}));
  norm.register_buffer("count", at::zeros({}, at::kLong));
  norm.define(R"(
def forward(self, x):
    if self.training:
        self.count = self.count + 1
    return torch.batch_norm(x, self.weight, self.frozen, self.running_mean, self.running_var, self.training, 0.1, 1e-5, False)
)");
  torch::jit::Module root = WithTrainingFlag("Root");
  root.register_module("norm", norm);
  root.register_parameter("head", at::full({3, 4}, 0.1f).set_requires_grad(true), false);
  root.define(R"(
def forward(self, x):
    x = self.norm.forward(x)
    return torch.linear(torch.dropout(x, 0.5, self.training), self.head)
)");
  root.save(Path("norm"));
  ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchScriptTrainer(spec_, Path("norm"), Options()));
  std::map<std::string, EntryKind> kinds;
  for (const LayoutEntry& entry : trainer->layout().entries()) kinds[entry.name] = entry.kind;
  EXPECT_EQ(kinds["norm.weight"], EntryKind::kParameter);
  EXPECT_EQ(kinds["norm.running_mean"], EntryKind::kAveragedBuffer);
  EXPECT_EQ(kinds["norm.count"], EntryKind::kLocal);
  EXPECT_EQ(trainer->layout().value_count(), 4 + 4 + 12 + 4 + 4);

  ASSERT_OK_AND_ASSIGN(const std::vector<float> initial, trainer->InitialModel(0));
  std::vector<float> first(initial.size()), second(initial.size()), other(initial.size());
  ASSERT_THAT(trainer->Train(initial, data_, recipe_, 1, {}, absl::MakeSpan(first)), IsOk());
  ASSERT_THAT(trainer->Train(initial, data_, recipe_, 2, {}, absl::MakeSpan(other)), IsOk());
  ASSERT_THAT(trainer->Train(initial, data_, recipe_, 1, {}, absl::MakeSpan(second)), IsOk());
  EXPECT_EQ(first, second);
  EXPECT_NE(first, other);
  for (size_t i = 0; i < trainer->layout().entries().size(); ++i) {
    const std::string& name = trainer->layout().entries()[i].name;
    if (kinds[name] == EntryKind::kLocal) continue;
    const bool moved = first[trainer->layout().offset(i)] != initial[trainer->layout().offset(i)];
    EXPECT_EQ(moved, name != "norm.frozen") << name;
  }
}

TEST_F(TrainerChildTest, ANarrowTwinTrainsAsTheNarrowBuiltInDoes) {
  ArchitectureSpec builtin_spec = TypicalSpec("mlp_2nn");
  ASSERT_OK_AND_ASSIGN(const auto whole, MakeTorchTrainer(builtin_spec));
  ASSERT_OK_AND_ASSIGN(const std::vector<float> initial, whole->InitialModel(1));
  ASSERT_THAT(WriteTorchScript(builtin_spec, initial, Path("wide")), IsOk());
  ArchitectureSpec spec = builtin_spec;
  spec.name = "torchscript";
  ASSERT_OK_AND_ASSIGN(const std::string archive, ReadFile(Path("wide")));
  ASSERT_OK_AND_ASSIGN(const std::shared_ptr<const ArchiveChannels> channels, FindArchiveChannels(spec, archive, Options()));
  EXPECT_EQ(channels->uses, whole->UsesPerExample());
  ASSERT_EQ(channels->groups.size(), whole->channel_groups().size());
  builtin_spec.kept = spec.kept = {{"fc1", {{0, 50}, {150, 200}}}, {"fc2", {{3, 33}}}};

  ASSERT_OK_AND_ASSIGN(const auto builtin, MakeTorchTrainer(builtin_spec));
  ASSERT_OK_AND_ASSIGN(const auto twin, MakeTorchScriptTrainer(spec, Path("wide"), Options()));
  EXPECT_EQ(twin->layout(), builtin->layout());
  ASSERT_NE(twin->submodel(), nullptr);
  EXPECT_EQ(twin->submodel()->whole(), whole->layout());
  EXPECT_TRUE(std::ranges::equal(twin->submodel()->covered(), builtin->submodel()->covered()));
  ASSERT_OK_AND_ASSIGN(const std::vector<float> start, twin->InitialModel(1));
  EXPECT_EQ(start, builtin->submodel()->Gather(initial));

  const Dataset data = RandomDataset(TypicalSpec("mlp_2nn"), 105);
  recipe_.batch_size = 10;
  recipe_.momentum = 0.5;
  std::vector<float> expected(start.size()), got(start.size());
  ASSERT_THAT(builtin->Train(start, data, recipe_, 7, {}, absl::MakeSpan(expected)), IsOk());
  ASSERT_THAT(twin->Train(start, data, recipe_, 7, {}, absl::MakeSpan(got)), IsOk());
  EXPECT_NE(got, start);
  for (size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(got[i], expected[i], 1e-6) << i;
  // What is left is an archive of its own, in evaluation mode, from which training goes on.
  ASSERT_THAT(twin->WriteArchive(got, Path("left")), IsOk());
  EXPECT_FALSE(torch::jit::load(Path("left")).is_training());
  ArchitectureSpec left_spec = spec;
  left_spec.kept.clear();
  ASSERT_OK_AND_ASSIGN(const auto left, MakeTorchScriptTrainer(left_spec, Path("left"), Options()));
  EXPECT_EQ(left->layout(), twin->layout());
  EXPECT_EQ(*left->InitialModel(0), got);
  ASSERT_OK_AND_ASSIGN(const EvaluationResult left_score, left->Evaluate(got, data, "cross_entropy"));
  ASSERT_OK_AND_ASSIGN(const EvaluationResult twin_score, twin->Evaluate(got, data, "cross_entropy"));
  EXPECT_EQ(left_score.mean_loss, twin_score.mean_loss);
  std::vector<float> on(got.size()), twin_on(got.size());
  ASSERT_THAT(left->Train(got, data, recipe_, 8, {}, absl::MakeSpan(on)), IsOk());
  ASSERT_THAT(twin->Train(got, data, recipe_, 8, {}, absl::MakeSpan(twin_on)), IsOk());
  EXPECT_EQ(on, twin_on);
  // After the child is lost the next one makes the same narrow model.
  kill(twin->child_pid(), SIGKILL);
  EXPECT_FALSE(twin->Evaluate(got, data, "cross_entropy").ok());
  std::vector<float> again(start.size());
  ASSERT_THAT(twin->Train(start, data, recipe_, 7, {}, absl::MakeSpan(again)), IsOk());
  EXPECT_EQ(again, got);

  // What can't be cut is refused with a reason; the archive is nobody's fault.
  for (const KeptChannels& kept : {KeptChannels{{"fc3", {{0, 5}}}}, {{"fc1", {}}}, {{"fc1", {{0, 201}}}}, {{"fc1", {{5, 5}}}}}) {
    spec.kept = kept;
    EXPECT_THAT(MakeTorchScriptTrainer(spec, Path("wide"), Options()), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("'fc")));
  }
}

TEST_F(TrainerChildTest, LookingForChannelsStopsWhenAsked) {
  ASSERT_OK_AND_ASSIGN(const std::string archive, ReadFile(LinearArchive("find", "def forward(self, x):\n    return torch.linear(x, self.weight, self.bias)\n")));
  ASSERT_OK_AND_ASSIGN(const std::shared_ptr<const ArchiveChannels> none, FindArchiveChannels(spec_, archive, Options()));
  EXPECT_TRUE(none->groups.empty());
  ASSERT_EQ(none->whole.size(), 1);
  EXPECT_EQ(none->whole[0].reason, "the network's output");
  ArchitectureSpec mlp = TypicalSpec("mlp_2nn");
  ASSERT_THAT(WriteTorchScript(mlp, *(*MakeTorchTrainer(mlp))->InitialModel(1), Path("stopped")), IsOk());
  mlp.name = "torchscript";
  std::stop_source stop;
  stop.request_stop();
  EXPECT_THAT(FindArchiveChannels(mlp, *ReadFile(Path("stopped")), Options(), stop.get_token()), StatusIs(absl::StatusCode::kCancelled, HasSubstr("stopped")));
}

TEST_F(TrainerChildTest, StopLeavesPartialWork) {
  const std::string path = LinearArchive("slow", R"(
def forward(self, x):
    i = 0
    while i < 200:
        x = x * 1.0
        i += 1
    return torch.linear(x, self.weight, self.bias)
)");
  ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchScriptTrainer(spec_, path, Options()));
  recipe_.batch_size = 1;
  recipe_.local_epochs = 10000;
  std::stop_source stop;
  TrainingControl control;
  control.stop = stop.get_token();
  control.progress = [&](const TrainingProgress& progress) {
    EXPECT_EQ(progress.steps_planned, 500000);
    if (progress.steps_done > 20) stop.request_stop();
  };
  ASSERT_OK_AND_ASSIGN(const std::vector<float> initial, trainer->InitialModel(0));
  std::vector<float> local(initial.size());
  ASSERT_OK_AND_ASSIGN(const TrainingResult result, trainer->Train(initial, data_, recipe_, 1, control, absl::MakeSpan(local)));
  EXPECT_FALSE(result.completed);
  EXPECT_GT(result.steps_done, 20);
  EXPECT_LT(result.steps_done, 500000);
  EXPECT_NE(local, initial);
  // The child serves on.
  const pid_t pid = trainer->child_pid();
  EXPECT_THAT(trainer->Evaluate(local, data_, "cross_entropy"), IsOk());
  EXPECT_EQ(trainer->child_pid(), pid);
}

TEST_F(TrainerChildTest, KilledMidTrainingTheNextCallStartsAnother) {
  const std::string path = LinearArchive("kill", "def forward(self, x):\n    return torch.linear(x, self.weight, self.bias)\n");
  ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchScriptTrainer(spec_, path, Options()));
  ASSERT_OK_AND_ASSIGN(const std::vector<float> initial, trainer->InitialModel(0));
  std::vector<float> local(initial.size());
  TrainingRecipe endless = recipe_;
  endless.local_epochs = 10000;
  endless.batch_size = 1;
  const pid_t pid = trainer->child_pid();
  TrainingControl control;
  control.progress = [&](const TrainingProgress&) { kill(pid, SIGKILL); };
  EXPECT_THAT(trainer->Train(initial, data_, endless, 1, control, absl::MakeSpan(local)),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("killed by signal 9")));
  EXPECT_EQ(trainer->child_pid(), -1);
  ASSERT_OK_AND_ASSIGN(const TrainingResult result, trainer->Train(initial, data_, recipe_, 1, {}, absl::MakeSpan(local)));
  EXPECT_TRUE(result.completed);
  EXPECT_NE(trainer->child_pid(), pid);
}

TEST_F(TrainerChildTest, AnEndlessForwardIsKilledAtTheDeadline) {
  const std::string path = LinearArchive("endless", R"(
def forward(self, x):
    i = 0
    while i >= 0:
        i = 0
    return torch.linear(x, self.weight, self.bias)
)");
  TorchScriptOptions options = Options();
  options.stop_grace = absl::Milliseconds(200);
  ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchScriptTrainer(spec_, path, options));
  ASSERT_OK_AND_ASSIGN(const std::vector<float> initial, trainer->InitialModel(0));
  std::vector<float> local(initial.size());
  TrainingControl control;
  control.deadline = absl::Now() + absl::Milliseconds(100);
  EXPECT_THAT(trainer->Train(initial, data_, recipe_, 1, control, absl::MakeSpan(local)),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("did not stop")));
  EXPECT_EQ(trainer->child_pid(), -1);
}

TEST_F(TrainerChildTest, FaultsOfTheArchiveAreTyped) {
  const auto train = [&](const std::string& path) -> absl::Status {
    absl::StatusOr<std::unique_ptr<TorchScriptTrainer>> trainer = MakeTorchScriptTrainer(spec_, path, Options());
    if (!trainer.ok()) return trainer.status();
    std::vector<float> local((*trainer)->layout().value_count());
    const std::vector<float> initial = *(*trainer)->InitialModel(0);
    return (*trainer)->Train(initial, data_, recipe_, 1, {}, absl::MakeSpan(local)).status();
  };
  EXPECT_THAT(train(LinearArchive("shape", "def forward(self, x):\n    return torch.linear(x.view(-1, 2), self.weight, self.bias)\n")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("forward failed")));
  EXPECT_THAT(train(LinearArchive("fold", "def forward(self, x):\n    return torch.linear(x, self.weight, self.bias).view(-1, 1)\n")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("must give float32 [32, 3]")));
  EXPECT_THAT(train(LinearArchive("nan", "def forward(self, x):\n    return torch.linear(x, self.weight, self.bias) / 0.0\n")),
              StatusIs(absl::StatusCode::kAborted, HasSubstr("loss became")));
  EXPECT_THAT(train(LinearArchive("tuple", "def forward(self, x):\n    return x, x\n")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("forward failed")));
  ArchitectureSpec for_integers{.name = "torchscript", .input_shape = {2}, .output_count = 3, .quantization = "int8"};
  EXPECT_THAT(MakeTorchScriptTrainer(for_integers, Path("nan")), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("training.quantization")));
  ASSERT_THAT(WriteFileAtomically(Path("text"), "not an archive"), IsOk());
  EXPECT_THAT(train(Path("text")), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not a loadable")));

  const auto with = [&](const char* name, auto change) {
    torch::jit::Module module = WithTrainingFlag("Other");
    module.register_parameter("weight", at::ones({3, 4}).set_requires_grad(true), false);
    change(module);
    module.define("def forward(self, x):\n    return torch.linear(x, self.weight)\n");
    module.save(Path(name));
    return train(Path(name));
  };
  EXPECT_THAT(with("double", [](auto& m) { m.register_parameter("d", at::ones({2}, at::kDouble), false); }),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("'d' is a tensor of type Double")));
  EXPECT_THAT(with("bool", [](auto& m) { m.register_buffer("mask", at::ones({2}, at::kBool)); }),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("'mask' is a tensor of type Bool")));
  EXPECT_THAT(with("tied", [](auto& m) { m.register_parameter("twice", m.attr("weight").toTensor(), false); }),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("share memory")));
}

// The child's own end: bytes that no parent of ours would send.
int ExitStatusAfter(const std::string& bytes, bool close_after) {
  int ends[2];
  FEDWATT_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], internal::kTrainerFd);
  std::string binary = FEDWATT_TRAINER_BINARY;
  char* arguments[] = {binary.data(), nullptr};
  pid_t pid = 0;
  FEDWATT_CHECK(posix_spawn(&pid, binary.c_str(), &actions, nullptr, arguments, environ) == 0);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  FEDWATT_CHECK(send(ends[0], bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
  if (close_after) close(ends[0]);
  int status = -1;
  for (int i = 0; i < 1000 && waitpid(pid, &status, WNOHANG) == 0; ++i) usleep(10000);
  kill(pid, SIGKILL);
  if (!close_after) close(ends[0]);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + status;
}

TEST_F(TrainerChildTest, HostileParentsAreLeft) {
  const auto frame = [](uint32_t kind, uint64_t length, const std::string& payload) {
    ByteWriter out;
    out.Put(kind);
    out.Put(length);
    out.PutBytes(payload);
    return std::move(out).str();
  };
  const std::string confine = frame(10, 8, std::string("\0\0\0\x40\0\0\0\0", 8));
  EXPECT_EQ(ExitStatusAfter("", true), 0);
  EXPECT_EQ(ExitStatusAfter(confine, true), 0);
  EXPECT_EQ(ExitStatusAfter(confine + frame(1, 100, "cut"), true), 0);
  EXPECT_EQ(ExitStatusAfter(confine + std::string(64, '\xff'), false), 2);
  EXPECT_EQ(ExitStatusAfter(confine + frame(1, uint64_t{1} << 62, ""), false), 2);
  EXPECT_EQ(ExitStatusAfter(confine + frame(1, 3, "abc"), false), 2);
  EXPECT_EQ(ExitStatusAfter(confine + frame(4, 0, ""), false), 2);  // train before load
  EXPECT_EQ(ExitStatusAfter(confine + confine, false), 2);
  // Nothing is loaded outside the sandbox.
  EXPECT_EQ(ExitStatusAfter(frame(1, 3, "abc"), false), 2);
  EXPECT_EQ(ExitStatusAfter(frame(10, 8, std::string(8, '\0')), false), 2);  // no memory at all
  EXPECT_EQ(ExitStatusAfter(frame(10, 9, std::string(9, '\1')), false), 2);
}

TEST_F(TrainerChildTest, StartedByHandItExplainsItself) {
  const int status = std::system(("exec 3<&-; " + std::string(FEDWATT_TRAINER_BINARY) + " 2>/dev/null").c_str());
  EXPECT_EQ(WEXITSTATUS(status), 2);
}

TEST_F(TrainerChildTest, ThePythonExampleTrains) {
  if (std::system("/usr/bin/python3 -c 'import torch' >/dev/null 2>&1") != 0) GTEST_SKIP() << "python3-torch is not installed";
  const std::string command =
      "/usr/bin/python3 " FEDWATT_SOURCE_DIR "/examples/torchscript/make_model.py --out '" + Path("python") + "' --seed 3 >/dev/null";
  ASSERT_EQ(std::system(command.c_str()), 0);
  const ArchitectureSpec builtin_spec = TypicalSpec("mlp_2nn");
  ArchitectureSpec spec = builtin_spec;
  spec.name = "torchscript";
  ASSERT_OK_AND_ASSIGN(const auto twin, MakeTorchScriptTrainer(spec, Path("python"), Options()));
  ASSERT_OK_AND_ASSIGN(const auto builtin, MakeTorchTrainer(builtin_spec));
  EXPECT_EQ(twin->layout().digest(), builtin->layout().digest());
  const Dataset data = RandomDataset(builtin_spec, 100);
  ASSERT_OK_AND_ASSIGN(const std::vector<float> initial, twin->InitialModel(0));
  std::vector<float> expected(initial.size()), got(initial.size());
  recipe_.batch_size = 10;
  ASSERT_THAT(builtin->Train(initial, data, recipe_, 7, {}, absl::MakeSpan(expected)), IsOk());
  ASSERT_THAT(twin->Train(initial, data, recipe_, 7, {}, absl::MakeSpan(got)), IsOk());
  for (size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(got[i], expected[i], 1e-6) << i;
  // And Python loads what comes out, with the values that were trained.
  ASSERT_THAT(twin->WriteArchive(got, Path("python_final")), IsOk());
  const std::string check = "/usr/bin/python3 -c \"import torch; m = torch.jit.load('" + Path("python_final") +
                            "'); assert not m.training; assert m(torch.ones(2, 1, 28, 28)).shape == (2, 10)\"";
  EXPECT_EQ(std::system(check.c_str()), 0);
}

}  // namespace
}  // namespace fedwatt

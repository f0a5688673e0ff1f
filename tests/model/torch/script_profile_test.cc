// What the operators of a forward pass cost, against counts made by hand.
#include "fedwatt/model/profile.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "fedwatt/base/process.h"
#include "fedwatt/energy/meter.h"
#include "fedwatt/model/torch/architecture.h"
#include "fedwatt/model/torchscript/torch_script_trainer.h"
#include "model/torch/pch.h"
#include "tests/model/torch/torch_testing.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::RandomDataset;
using ::fedwatt::testing::Spec;
using ::fedwatt::testing::StatusIs;
using ::fedwatt::testing::TypicalSpec;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const OperatorProfile* Reading(const ModelProfile& profile, const std::string& entry) {
  for (const OperatorProfile& run : profile.operators) {
    if (std::find(run.entries.begin(), run.entries.end(), entry) != run.entries.end()) return &run;
  }
  return nullptr;
}

TEST(ProfileArchitectureTest, CountsTheCnnOfMcMahan) {
  ASSERT_OK_AND_ASSIGN(const ModelProfile profile, ProfileArchitecture(TypicalSpec("fedavg_cnn")));
  EXPECT_EQ(profile.output_count, 10);
  const OperatorProfile* conv1 = Reading(profile, "conv1.weight");
  ASSERT_NE(conv1, nullptr);
  EXPECT_EQ(conv1->name, "conv2d");
  EXPECT_THAT(conv1->entries, ElementsAre("conv1.weight", "conv1.bias"));
  EXPECT_THAT(conv1->output_shape, ElementsAre(32, 28, 28));
  EXPECT_EQ(conv1->macs, 32 * 28 * 28 * 25);
  EXPECT_EQ(conv1->activation_bytes, 4 * 32 * 28 * 28);
  EXPECT_EQ(Reading(profile, "conv2.weight")->macs, 64 * 14 * 14 * 32 * 25);
  EXPECT_EQ(Reading(profile, "fc1.weight")->macs, 512 * 64 * 7 * 7);
  EXPECT_EQ(Reading(profile, "fc2.weight")->macs, 10 * 512);
  double macs = 0;
  for (const OperatorProfile& run : profile.operators) macs += run.macs;
  EXPECT_EQ(macs, 627200 + 10035200 + 1605632 + 5120);
}

TEST(ProfileArchitectureTest, CountsAnLstmOnceAPosition) {
  const ArchitectureSpec spec = TypicalSpec("char_lstm");
  ASSERT_OK_AND_ASSIGN(const ModelProfile profile, ProfileArchitecture(spec));
  const OperatorProfile* lstm = Reading(profile, "lstm1.weight_ih_l0");
  ASSERT_NE(lstm, nullptr);
  ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchTrainer(spec));
  double weights = 0;
  for (const LayoutEntry& entry : trainer->layout().entries()) {
    if (entry.name == "lstm1.weight_ih_l0" || entry.name == "lstm1.weight_hh_l0") weights += static_cast<double>(entry.element_count());
  }
  EXPECT_EQ(lstm->macs, weights * static_cast<double>(spec.input_shape[0]));
}

TEST(ProfileArchitectureTest, EveryArchitectureHasAllItsEntriesReadOnce) {
  for (const std::string& name : ArchitectureNames()) {
    const ArchitectureSpec spec = TypicalSpec(name);
    ASSERT_OK_AND_ASSIGN(const ModelProfile profile, ProfileArchitecture(spec));
    ASSERT_OK_AND_ASSIGN(const ParameterLayout layout, ArchitectureLayout(spec));
    EXPECT_EQ(profile.output_count, spec.output_count) << name;
    for (const LayoutEntry& entry : layout.entries()) {
      if (entry.kind != EntryKind::kParameter) continue;
      EXPECT_NE(Reading(profile, entry.name), nullptr) << name << " " << entry.name;
    }
  }
}

// An archive of one weight of 6 x 4 values under a forward of the test's own, profiled in the child.
class ScriptProfileTest : public ::testing::Test {
 protected:
  absl::StatusOr<ModelProfile> Profile(const std::string& forward) {
    torch::jit::Module module("Own");
    module.register_attribute("training", c10::BoolType::get(), true);
    module.register_parameter("weight", at::full({6, 4}, 0.1f).set_requires_grad(true), false);
    module.define(forward);
    const std::string path = absl::StrCat(::testing::TempDir(), "/", getpid(), "_profile.pt");
    module.save(path);
    TorchScriptOptions options;
    options.trainer_binary_path = FEDWATT_TRAINER_BINARY;
    // It says itself how many outputs it has.
    absl::StatusOr<std::unique_ptr<TorchScriptTrainer>> trainer = MakeTorchScriptTrainer(Spec("torchscript", {4}, 1), path, options);
    if (!trainer.ok()) return trainer.status();
    trainer_ = *std::move(trainer);
    return trainer_->Profile();
  }
  std::unique_ptr<TorchScriptTrainer> trainer_;
};

TEST_F(ScriptProfileTest, ViewsAndWorkInPlaceAllocateNothing) {
  ASSERT_OK_AND_ASSIGN(const ModelProfile profile, Profile(R"(
    def forward(self, x):
      y = torch.linear(x, self.weight)
      y = torch.relu_(y)
      z = y.view([-1, 2, 3])
      return torch.flatten(torch.matmul(z, z.transpose(1, 2)), 1)
  )"));
  EXPECT_EQ(profile.output_count, 4);
  ASSERT_EQ(profile.operators.size(), 2u);
  EXPECT_EQ(profile.operators[0].name, "linear");
  EXPECT_EQ(profile.operators[0].macs, 24);
  EXPECT_EQ(profile.operators[0].activation_bytes, 24);
  // Of two activations: 2 x 3 by 3 x 2.
  EXPECT_EQ(profile.operators[1].name, "matmul");
  EXPECT_THAT(profile.operators[1].entries, IsEmpty());
  EXPECT_EQ(profile.operators[1].macs, 12);
  EXPECT_EQ(profile.operators[1].activation_bytes, 16);
  EXPECT_THAT(profile.operators[1].output_shape, ElementsAre(2, 2));
}

TEST_F(ScriptProfileTest, AWeightThatServesTwiceCountsTwice) {
  ASSERT_OK_AND_ASSIGN(const ModelProfile profile, Profile(R"(
    def forward(self, x):
      return torch.linear(x, self.weight) + torch.linear(x * 2, self.weight)
  )"));
  double macs = 0;
  for (const OperatorProfile& run : profile.operators) macs += run.macs;
  EXPECT_EQ(macs, 48);
}

TEST_F(ScriptProfileTest, RefusesWhatGivesNoRowAnExample) {
  for (const char* body : {"return torch.linear(x, self.weight).sum()", "return torch.linear(x, self.weight).unsqueeze(2)", "return torch.linear(x, self.weight).double()",
                           "return (x, x)", "return x.view(-1, 3)"}) {
    EXPECT_THAT(Profile(absl::StrCat("def forward(self, x):\n  ", body, "\n")).status(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("can't be followed"))) << body;
    // The child lives on.
    EXPECT_GE(trainer_->child_pid(), 0) << body;
  }
}

// Everything that is told of CPU time, and of joules by CPU time, follows these two clocks.
TEST_F(ScriptProfileTest, TheChildsProcessorTimeIsOfWhoTrains) {
  const absl::Duration process = ProcessCpuTime(), thread = ThreadCpuTime();
  const auto childs = [this] {
    clockid_t clock;
    timespec time;
    EXPECT_EQ(clock_getcpuclockid(trainer_->child_pid(), &clock), 0);
    EXPECT_EQ(clock_gettime(clock, &time), 0);
    return absl::DurationFromTimespec(time);
  };
  ASSERT_OK_AND_ASSIGN(const ModelProfile profile, Profile("def forward(self, x):\n  return torch.linear(x, self.weight)[:, :1] + torch.zeros([x.size(0), 1])\n"));
  MeterOptions options;
  options.watts_per_core = 1;
  ASSERT_OK_AND_ASSIGN(const MeterChoice by_process, ChooseMeter("cpu_time", options));
  options.thread_scope = true;
  ASSERT_OK_AND_ASSIGN(const MeterChoice by_thread, ChooseMeter("cpu_time", options));
  ASSERT_THAT(by_process.meter->Start(), IsOk());
  ASSERT_THAT(by_thread.meter->Start(), IsOk());
  const absl::Duration loaded = childs();
  ASSERT_OK_AND_ASSIGN(const std::vector<float> model, trainer_->InitialModel(1));
  std::vector<float> local(model.size());
  ExampleStore store;
  store.input_shape = {4};
  store.inputs = std::vector<float>(200, 0.5f);
  store.regression_targets.assign(50, 1.0f);
  store.output_count = 1;
  ASSERT_OK_AND_ASSIGN(const Dataset data, Dataset::Create(std::move(store)));
  ASSERT_TRUE(trainer_->Train(model, data, {.local_steps = 5000, .batch_size = 10, .loss = "mean_squared_error"}, 1, {}, absl::MakeSpan(local)).ok());
  // The answer is out a moment before the child rests.
  const absl::Duration trained = childs() - absl::Milliseconds(10);
  EXPECT_GT(trained, loaded);
  EXPECT_GE(by_thread.meter->Read().energy->joules(), absl::ToDoubleSeconds(trained - loaded));
  EXPECT_GE(by_process.meter->Read().energy->joules(), absl::ToDoubleSeconds(trained - loaded));
  EXPECT_GE(ThreadCpuTime() - thread, trained);
  EXPECT_GE(ProcessCpuTime() - process, trained);
  kill(trainer_->child_pid(), SIGKILL);
  EXPECT_FALSE(trainer_->Profile().ok());
  EXPECT_EQ(trainer_->child_pid(), -1);
  EXPECT_GE(ThreadCpuTime() - thread, trained);
  EXPECT_GE(ProcessCpuTime() - process, trained);
}

}  // namespace
}  // namespace fedwatt

// Channel groups found in scripted models, and narrower copies against masked whole ones.
#include "model/torch/script_channels.h"

#include <torch/csrc/jit/runtime/graph_executor.h>
#include <unistd.h>

#include <cstdlib>
#include <map>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "fedwatt/model/submodel.h"
#include "model/torch/script_export.h"
#include "model/torch/script_model.h"
#include "model/torch/script_tensors.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt::internal {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

ParameterLayout LayoutOf(const torch::jit::Module& module) {
  std::vector<LayoutEntry> entries;
  for (const auto& one : module.named_parameters()) entries.push_back({one.name, one.value.sizes().vec()});
  for (const auto& one : module.named_buffers()) {
    const bool counter = one.value.scalar_type() == at::kLong;
    entries.push_back({one.name, one.value.sizes().vec(), counter ? EntryKind::kLocal : EntryKind::kAveragedBuffer, counter ? Dtype::kInt64 : Dtype::kFloat32});
  }
  return *ParameterLayout::Create(std::move(entries));
}

KeptChannels Leading(const std::vector<ChannelGroup>& groups) {
  KeptChannels kept;
  for (const ChannelGroup& group : groups) kept[group.name] = {{0, (group.size + 1) / 2}};
  return kept;
}

struct Errors {
  double outputs = 0;    // relative to the largest
  double gradients = 0;  // of what is kept, entry by entry
};

// The same random values in a narrower copy and in the whole model around it, whose other coordinates are zero.
Errors HalfAgainstMasked(const torch::jit::Module& module, ScriptChannels& channels, const std::vector<int64_t>& input_shape, at::ScalarType type, bool training,
                         int64_t batch) {
  const ParameterLayout layout = LayoutOf(module);
  const KeptChannels kept = Leading(channels.groups());
  const Submodel part = *Submodel::Create(layout, channels.groups(), kept);
  std::vector<float> own(static_cast<size_t>(layout.value_count())), masked(own.size());
  ReadValues(module, layout, absl::MakeSpan(own));
  const std::vector<float> values = part.Gather(own);
  part.Scatter(values, absl::MakeSpan(masked));
  std::vector<int64_t> sizes{batch};
  sizes.insert(sizes.end(), input_shape.begin(), input_shape.end());
  torch::manual_seed(5);
  const at::Tensor input = at::randn(sizes, type);

  const auto run = [&](torch::jit::Module copy, const std::shared_ptr<torch::jit::Graph>& graph, const ParameterLayout& shapes) {
    copy.train(training);
    torch::jit::GraphExecutor executor(graph, "forward");
    torch::jit::Stack stack = ScriptChannels::Inputs(copy, input);
    executor.run(stack);
    const at::Tensor output = stack.back().toTensor();
    std::vector<at::Tensor> parameters;
    for (const LayoutEntry& entry : shapes.entries()) {
      if (entry.kind == EntryKind::kParameter) parameters.push_back(FindTensor(copy, entry.name));
    }
    const std::vector<at::Tensor> slopes = torch::autograd::grad({output.tanh().sum()}, parameters);
    std::vector<float> flat(static_cast<size_t>(shapes.value_count()));
    for (size_t i = 0, at = 0; i < shapes.entries().size(); ++i) {
      if (shapes.entries()[i].kind != EntryKind::kParameter) continue;
      const at::Tensor slope = slopes[at++].to(at::kFloat).contiguous();
      EXPECT_EQ(slope.sizes(), shapes.entries()[i].shape);
      std::copy_n(slope.data_ptr<float>(), slope.numel(), flat.begin() + shapes.offset(i));
    }
    return std::pair(output.detach(), flat);
  };
  const auto [expected, whole_slopes] = run(WithValues(module, layout, masked, type), channels.Narrow({}), layout);
  const auto [got, narrow_slopes] = run(WithValues(module, part.layout(), values, type), channels.Narrow(kept), part.layout());
  EXPECT_THAT(got.sizes().vec(), ElementsAre(batch, 10));
  EXPECT_EQ(got.sizes(), expected.sizes());
  EXPECT_GT(expected.std().item<double>(), 0);
  Errors errors;
  errors.outputs = (got - expected).abs().max().item<double>() / std::max(1.0, expected.abs().max().item<double>());
  const std::vector<float> kept_slopes = part.Gather(whole_slopes);
  double largest = 1;
  for (const float slope : kept_slopes) largest = std::max(largest, std::abs(static_cast<double>(slope)));
  for (size_t i = 0; i < kept_slopes.size(); ++i) errors.gradients = std::max(errors.gradients, std::abs(kept_slopes[i] - narrow_slopes[i]) / largest);
  return errors;
}

class TorchvisionTest : public ::testing::TestWithParam<std::pair<const char*, size_t>> {};

TEST_P(TorchvisionTest, ShrinksUnaidedToHalfWidth) {
  if (std::system("/usr/bin/python3 -c 'import torchvision' >/dev/null 2>&1") != 0) GTEST_SKIP() << "python3-torchvision is not installed";
  const auto [name, group_count] = GetParam();
  const std::string folder = absl::StrCat(::testing::TempDir(), "/", getpid());
  ASSERT_EQ(std::system(absl::StrCat("mkdir -p '", folder, "' && /usr/bin/python3 " FEDWATT_SOURCE_DIR "/tests/model/torch/scripted_models.py '", folder, "' --no-dropout ", name).c_str()), 0);
  torch::jit::setGraphExecutorOptimize(false);
  const torch::jit::Module module = torch::jit::load(absl::StrCat(folder, "/", name, ".pt"));
  const ParameterLayout layout = LayoutOf(module);
  // Small, for double precision is slow; but batch norm in training mode wants more than one position.
  const int64_t side = std::string(name) == "resnet18" || std::string(name) == "mobilenet_v2" ? 64 : 32;
  const std::vector<int64_t> shape{3, side, side};
  ScriptChannels channels = ScriptChannels::Find(module, layout, shape);
  ASSERT_THAT(channels.groups(), SizeIs(group_count));
  channels.Prove();
  EXPECT_THAT(channels.groups(), SizeIs(group_count));
  // Nothing but the network's own outputs is left whole.
  ASSERT_THAT(channels.whole(), SizeIs(1));
  EXPECT_EQ(channels.whole()[0].reason, "the network's output");
  EXPECT_EQ(channels.whole()[0].size, 10);

  ASSERT_OK_AND_ASSIGN(const Submodel part, Submodel::Create(layout, channels.groups(), Leading(channels.groups())));
  EXPECT_LT(static_cast<double>(part.layout().value_count()), 0.35 * static_cast<double>(layout.value_count()));
  for (const bool training : {true, false}) {
    // In the others' last layers a position or two remain, and batch norm over so few values in training mode is a matter of luck.
    if (training && std::string(name) != "resnet18" && std::string(name) != "mobilenet_v2") continue;
    for (const int64_t batch : {3, 7}) {
      const Errors exact = HalfAgainstMasked(module, channels, shape, at::kDouble, training, batch);
      EXPECT_LT(exact.outputs, 1e-5) << name << training << batch;
      EXPECT_LT(exact.gradients, 1e-5) << name << training << batch;
      const Errors rounded = HalfAgainstMasked(module, channels, shape, at::kFloat, training, batch);
      EXPECT_LT(rounded.outputs, 1e-5) << name << training << batch;
      RecordProperty(absl::StrCat("float32_gradient_error_", training, "_", batch), absl::StrCat(rounded.gradients));
    }
  }

  // What is left can be saved and loaded again, with its tensors under their names.
  at::NoGradGuard no_grad;
  std::vector<float> own(static_cast<size_t>(layout.value_count()));
  ReadValues(module, layout, absl::MakeSpan(own));
  torch::jit::Module narrow = WithValues(module, part.layout(), part.Gather(own));
  narrow.eval();
  const at::Tensor input = at::randn({2, 3, side, side});
  torch::jit::GraphExecutor executor(channels.Narrow(part.kept()), "forward");
  torch::jit::Stack stack = ScriptChannels::Inputs(narrow, input);
  executor.run(stack);
  std::stringstream bytes;
  WithForward(narrow, channels.Narrow(part.kept())).save(bytes);
  torch::jit::Module left = torch::jit::load(bytes);
  EXPECT_EQ(LayoutOf(left), part.layout());
  EXPECT_FALSE(left.is_training());
  EXPECT_TRUE(left.forward({input}).toTensor().equal(stack.back().toTensor()));
  left.train();  // batch norm, too, follows the flag as before
  if (std::string(name) == "resnet18") EXPECT_FALSE(left.forward({input}).toTensor().equal(stack.back().toTensor()));
}

INSTANTIATE_TEST_SUITE_P(Networks, TorchvisionTest,
                         ::testing::Values(std::pair("resnet18", size_t{12}), std::pair("mobilenet_v2", size_t{25}), std::pair("mobilenet_v3_small", size_t{27}),
                                           std::pair("squeezenet1_1", size_t{25}), std::pair("densenet121", size_t{120}), std::pair("vgg11", size_t{10})),
                         [](const auto& info) { return std::string(info.param.first); });

// Two dense layers under a forward of the test's own; 6 hidden units.
torch::jit::Module Perceptron(const std::string& forward) {
  torch::manual_seed(1);
  torch::jit::Module module("Perceptron");
  module.register_attribute("training", c10::BoolType::get(), true);
  const auto add = [&](const char* name, std::vector<int64_t> shape) { module.register_parameter(name, at::randn(shape).set_requires_grad(true), false); };
  add("a_weight", {6, 4});
  add("a_bias", {6});
  add("b_weight", {10, 6});
  add("norm", {6});
  module.define(forward);
  return module;
}

std::pair<std::vector<ChannelGroup>, std::vector<WholeChannels>> FoundIn(const std::string& forward) {
  torch::jit::setGraphExecutorOptimize(false);
  const torch::jit::Module module = Perceptron(forward);
  ScriptChannels channels = ScriptChannels::Find(module, LayoutOf(module), {4});
  channels.Prove();
  return {channels.groups(), channels.whole()};
}

TEST(ScriptChannelsTest, FindsHiddenUnitsAndRewritesLiteralShapes) {
  const auto [groups, whole] = FoundIn(R"(
def forward(self, x):
    x = torch.relu(torch.linear(x, self.a_weight, self.a_bias) * self.norm)
    return torch.matmul(x.view([-1, 6, 1]).view([-1, 6]), self.b_weight.t())
)");
  ASSERT_THAT(groups, SizeIs(1));
  EXPECT_EQ(groups[0].name, "a_weight");
  EXPECT_EQ(groups[0].size, 6);
  EXPECT_THAT(groups[0].axes, ElementsAre(ChannelAxis{"a_weight", 0}, ChannelAxis{"a_bias", 0}, ChannelAxis{"b_weight", 1}, ChannelAxis{"norm", 0}));
  EXPECT_THAT(whole, IsEmpty());
}

TEST(ScriptChannelsTest, LeavesWholeWhatMixesChannelsAndSaysWhichOperator) {
  const auto reason = [](const std::string& line) {
    const auto [groups, whole] = FoundIn("\ndef forward(self, x):\n    x = torch.linear(x, self.a_weight, self.a_bias)\n    " + line +
                                         "\n    return torch.linear(x, self.b_weight)\n");
    EXPECT_THAT(groups, IsEmpty()) << line;
    return whole.empty() ? std::string() : whole[0].reason;
  };
  EXPECT_THAT(reason("x = torch.softmax(x, 1)"), HasSubstr("aten::softmax"));
  EXPECT_THAT(reason("x = torch.layer_norm(x, [6])"), HasSubstr("aten::layer_norm"));
  EXPECT_THAT(reason("x = torch.flip(x, [1])"), HasSubstr("aten::flip: no rule"));
  EXPECT_THAT(reason("x = x - torch.mean(x, 1, True)"), HasSubstr("aten::mean"));
  EXPECT_THAT(reason("x = x + torch.ones([6])"), HasSubstr("can't shrink"));
  // Every operator has a rule, and yet half of the units are something else: only the proof sees it.
  EXPECT_THAT(reason("x = x * float(x.size(1))"), HasSubstr("does not do what the masked"));
}

TEST(ScriptChannelsTest, AForwardThatCannotBeFollowedLeavesAllWhole) {
  const auto [groups, whole] = FoundIn("\ndef forward(self, x):\n    return torch.linear(x.view([-1, 5]), self.b_weight)\n");
  EXPECT_THAT(groups, IsEmpty());
  ASSERT_THAT(whole, SizeIs(1));
  EXPECT_THAT(whole[0].reason, HasSubstr("can't be followed"));
}

}  // namespace
}  // namespace fedwatt::internal

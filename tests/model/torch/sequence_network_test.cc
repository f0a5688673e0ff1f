// Architectures for sequences as whole models: tokens and real vectors, the delivered step, work by hand, features in step.
#include <functional>

#include "fedwatt/model/torch/architecture.h"
#include "model/torch/network.h"
#include "model/torch/pch.h"
#include "tests/model/torch/torch_testing.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::RandomDataset;
using ::fedwatt::testing::Spec;
using ::fedwatt::testing::TakesTokens;
using ::fedwatt::testing::TypicalSpec;

std::vector<std::string> SequenceNames() {
  std::vector<std::string> names;
  for (const std::string& name : ArchitectureNames()) {
    if (TakesTokens(TypicalSpec(name)) && name != "char_lstm") names.push_back(name);
  }
  return names;
}

torch::jit::Module Archive(const ArchitectureSpec& spec, absl::Span<const float> model) {
  const std::string path = ::testing::TempDir() + "/fedwatt_sequence_" + spec.name + ".pt";
  FEDWATT_CHECK(WriteTorchScript(spec, model, path).ok());
  return torch::jit::load(path);
}

class SequenceNetworkTest : public ::testing::TestWithParam<std::string> {};

TEST_P(SequenceNetworkTest, LearnsFromVectorsAndFromRowsOfImages) {
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{6, 5}, std::vector<int64_t>{2, 6, 5}}) {
    ArchitectureSpec spec = TypicalSpec(GetParam());
    spec.input_shape = shape;
    spec.output_count = 4;
    const Dataset data = RandomDataset(spec, 60);
    ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchTrainer(spec));
    ASSERT_OK_AND_ASSIGN(const std::vector<float> start, trainer->InitialModel(5));
    std::vector<float> trained(start.size());
    const TrainingRecipe recipe{.local_epochs = 10, .batch_size = 10, .client_learning_rate = GetParam() == "gru" ? 1.0 : 0.1, .momentum = 0.5};
    ASSERT_THAT(trainer->Train(start, data, recipe, 1, {}, absl::MakeSpan(trained)), IsOk());
    ASSERT_OK_AND_ASSIGN(const EvaluationResult before, trainer->Evaluate(start, data, "cross_entropy"));
    ASSERT_OK_AND_ASSIGN(const EvaluationResult after, trainer->Evaluate(trained, data, "cross_entropy"));
    EXPECT_LT(after.mean_loss, 0.7 * before.mean_loss);
    // The archive sees an image as the trainer does.
    std::vector<float> input(data.store().input_size());
    data.CopyInput(0, absl::MakeSpan(input));
    std::vector<int64_t> batch = {1};
    batch.insert(batch.end(), shape.begin(), shape.end());
    const at::Tensor logits = Archive(spec, trained).forward({at::from_blob(input.data(), batch)}).toTensor();
    ASSERT_OK_AND_ASSIGN(const Dataset one, data.Subset({0}));
    ASSERT_OK_AND_ASSIGN(const EvaluationResult score, trainer->Evaluate(trained, one, "cross_entropy"));
    EXPECT_NEAR(-logits.log_softmax(1)[0][data.label(0)].item<double>(), score.mean_loss, 1e-5);
  }
}

// Position by position with a state of constant size, or all at once: the same numbers.
TEST_P(SequenceNetworkTest, TheStepOfTheArchiveIsItsForward) {
  ArchitectureSpec spec = TypicalSpec(GetParam());
  spec.input_shape = {70};  // two chunks
  ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchTrainer(spec));
  ASSERT_OK_AND_ASSIGN(const std::vector<float> model, trainer->InitialModel(5));
  torch::jit::Module archive = Archive(spec, model);
  const bool has_step = archive.find_method("step").has_value();
  EXPECT_EQ(has_step, GetParam() != "softmax_transformer" && GetParam() != "local_transformer");
  if (!has_step) return;
  at::NoGradGuard no_grad;
  const at::Tensor tokens = at::arange(140).view({2, 70}).remainder(11);
  at::Tensor out;
  c10::IValue state = archive.get_method("start")({2});
  int64_t values = 0;
  for (const c10::IValue& part : state.toListRef()) values += part.toTensor().numel();
  for (int64_t i = 0; i < 70; ++i) {
    const auto result = archive.get_method("step")({tokens.select(1, i), state}).toTuple();
    out = result->elements()[0].toTensor();
    state = result->elements()[1];
    if (i % 23 == 0) {
      EXPECT_LT((out - archive.forward({tokens.narrow(1, 0, i + 1)}).toTensor()).abs().max().item<double>(), 1e-5) << i;
    }
  }
  EXPECT_LT((out - archive.forward({tokens}).toTensor()).abs().max().item<double>(), 1e-5);
  for (const c10::IValue& part : state.toListRef()) values -= part.toTensor().numel();
  EXPECT_EQ(values, 0) << "the state has not grown";
}

INSTANTIATE_TEST_SUITE_P(All, SequenceNetworkTest, ::testing::ValuesIn(SequenceNames()), [](const auto& info) { return info.param; });

TEST(SequenceWorkTest, CountsAttentionByHand) {
  // Width 16, 2 heads of 8, hidden 64, 12 positions: weights and biases, what follows the only attention at the last position alone; products of attention beside.
  const double dense = 12.0 * (3 * 16 * 17) + 16 * 17 + 64 * 17 + 16 * 65 + 12 * 17;
  const std::map<std::string, double> products = {
      {"softmax_transformer", 2 * 2 * 12 * 12 * 8},               // scores and values: 2 heads
      {"linear_transformer", 2 * (2 * 12 * 8 * 8 + 2 * 12 * 8 * 12)},
      {"local_transformer", 2 * (2 * 12 * 8 * (2 * 4 + 1))},
      {"performer", 2 * (2 * 12 * 8 * 8 + 2 * 12 * 8 * 8 + 12 * 12 * (8 + 8))}};
  for (const auto& [name, count] : products) {
    ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchTrainer(TypicalSpec(name)));
    EXPECT_NEAR(MacsPerExample(trainer->layout(), trainer->UsesPerExample()), dense + count, 1e-6) << name;
  }
}

TEST(SequenceWorkTest, GrowsWithTheSquareOfTheLengthForSoftmaxOnly) {
  for (const std::string& name : SequenceNames()) {
    const auto macs = [&](int64_t length) {
      ArchitectureSpec spec = TypicalSpec(name);
      spec.input_shape = {length};
      const auto trainer = MakeTorchTrainer(spec);
      EXPECT_THAT(trainer, IsOk());
      return MacsPerExample((*trainer)->layout(), (*trainer)->UsesPerExample());
    };
    const double ratio = macs(8192) / macs(4096);
    if (name == "softmax_transformer") {
      EXPECT_GT(ratio, 3) << name;
    } else {
      EXPECT_NEAR(ratio, 2, 0.01) << name;
    }
  }
}

TEST(PerformerTest, CountsItsRoundsAndRedrawsInStep) {
  ArchitectureSpec spec = TypicalSpec("performer");
  spec.options["redraw_rounds"] = "2";
  const Dataset data = RandomDataset(spec, 20);
  ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchTrainer(spec));
  ASSERT_OK_AND_ASSIGN(const std::vector<float> start, trainer->InitialModel(5));
  EXPECT_EQ(trainer->layout().entries().back().name, "draws.count");
  EXPECT_EQ(trainer->layout().entries().back().kind, EntryKind::kAveragedBuffer);
  EXPECT_EQ(start.back(), 0);
  // Whatever the seed of a member, a round is a round: averages of the count are the count.
  std::vector<float> one(start.size()), other(start.size());
  ASSERT_THAT(trainer->Train(start, data, {.local_steps = 3}, 1, {}, absl::MakeSpan(one)), IsOk());
  ASSERT_THAT(trainer->Train(start, data, {.local_steps = 1}, 2, {}, absl::MakeSpan(other)), IsOk());
  EXPECT_EQ(one.back(), 1);
  EXPECT_EQ(other.back(), 1);
  // The same parameters in another round score differently where features were redrawn in between, and only there.
  std::vector<double> losses;
  for (float rounds : {0, 1, 2, 3}) {
    std::vector<float> model = start;
    model.back() = rounds;
    ASSERT_OK_AND_ASSIGN(const EvaluationResult score, trainer->Evaluate(model, data, "cross_entropy"));
    losses.push_back(score.mean_loss);
    const at::Tensor features = Archive(spec, model).attr("attention1").toModule().attr("features").toTensor();
    const std::vector<float> drawn = internal::DrawFeatures({.features = 8, .redraw_rounds = 2, .seed = 0}, 8, 4, rounds);
    EXPECT_TRUE(at::equal(features.flatten(), at::from_blob(const_cast<float*>(drawn.data()), {64}))) << rounds;
  }
  EXPECT_EQ(losses[0], losses[1]);
  EXPECT_NE(losses[1], losses[2]);
  EXPECT_EQ(losses[2], losses[3]);
}

}  // namespace
}  // namespace fedwatt

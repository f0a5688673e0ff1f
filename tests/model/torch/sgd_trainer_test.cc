#include <cmath>
#include <limits>
#include <stop_token>
#include <thread>

#include "fedwatt/base/clock.h"
#include "fedwatt/model/torch/architecture.h"
#include "tests/model/torch/torch_testing.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::RandomDataset;
using ::fedwatt::testing::Spec;
using ::fedwatt::testing::StatusIs;
using ::fedwatt::testing::TakesTokens;
using ::fedwatt::testing::TypicalSpec;
using ::testing::HasSubstr;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Outcome {
  absl::StatusOr<TrainingResult> result = absl::UnknownError("not run");
  std::vector<float> local;
};

Outcome TrainOnce(LocalTrainer& trainer, const std::vector<float>& global, const Dataset& data, const TrainingRecipe& recipe, uint64_t seed,
                  const TrainingControl& control = {}) {
  Outcome outcome;
  outcome.local.resize(global.size());
  outcome.result = trainer.Train(global, data, recipe, seed, control, absl::MakeSpan(outcome.local));
  return outcome;
}

Dataset TinyDataset(std::vector<float> inputs, std::vector<int32_t> labels, std::vector<float> targets, int64_t output_count) {
  ExampleStore store;
  const int64_t count = std::max<int64_t>(labels.size(), targets.size() / output_count);
  store.input_shape = {static_cast<int64_t>(inputs.size()) / count};
  store.inputs = std::move(inputs);
  store.labels = std::move(labels);
  store.regression_targets = std::move(targets);
  store.output_count = output_count;
  absl::StatusOr<Dataset> data = Dataset::Create(std::move(store));
  FEDWATT_CHECK(data.ok());
  return *std::move(data);
}

class SgdTrainerTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { ASSERT_THAT(ConfigureKernels(1), IsOk()); }
};

// Two steps on one example x = (1, 2), label 0, two classes, from zero: softmax is (1/2, 1/2), so the gradient of the first
// logit's row is (p0 - 1) x and of the second's p1 x; the layout is {w00 w01 w10 w11, b0 b1}.
TEST_F(SgdTrainerTest, TakesTheStepsComputedByHand) {
  ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchTrainer(Spec("logistic", {2}, 2)));
  const Dataset data = TinyDataset({1, 2}, {0}, {}, 2);
  TrainingRecipe recipe;
  recipe.local_epochs = 2;
  recipe.client_learning_rate = 0.1;
  recipe.momentum = 0.5;
  recipe.weight_decay = 0.2;
  recipe.proximal_mu = 0.3;
  const std::vector<float> global = {0.5f, -0.5f, 0.5f, -0.5f, 0.25f, 0.25f};  // equal rows: still p = 1/2 at first
  const double x[3] = {1, 2, 1};                                             // with the bias's input
  double w[2][3] = {{0.5, -0.5, 0.25}, {0.5, -0.5, 0.25}}, v[2][3] = {};
  double losses = 0;
  for (int step = 0; step < 2; ++step) {
    double logit[2] = {};
    for (int k = 0; k < 2; ++k) for (int j = 0; j < 3; ++j) logit[k] += w[k][j] * x[j];
    const double p0 = 1 / (1 + std::exp(logit[1] - logit[0]));
    losses += -std::log(p0);
    const double slope[2] = {p0 - 1, 1 - p0};
    const double w0[3] = {0.5, -0.5, 0.25};
    for (int k = 0; k < 2; ++k) {
      for (int j = 0; j < 3; ++j) {
        const double d = slope[k] * x[j] + 0.2 * w[k][j] + 0.3 * (w[k][j] - w0[j]);
        v[k][j] = 0.5 * v[k][j] + d;
        w[k][j] -= 0.1 * v[k][j];
      }
    }
  }
  const Outcome outcome = TrainOnce(*trainer, global, data, recipe, 7);
  ASSERT_THAT(outcome.result, IsOk());
  EXPECT_EQ(outcome.result->steps_done, 2);
  EXPECT_EQ(outcome.result->examples_seen, 2);
  EXPECT_EQ(outcome.result->example_count, 1);
  EXPECT_TRUE(outcome.result->completed);
  EXPECT_NEAR(outcome.result->mean_loss, losses / 2, 1e-6);
  const double expected[6] = {w[0][0], w[0][1], w[1][0], w[1][1], w[0][2], w[1][2]};
  for (int i = 0; i < 6; ++i) EXPECT_NEAR(outcome.local[i], expected[i], 1e-6) << i;

  // The first step alone, in numbers: d = -0.5 * 1 + 0.2 * 0.5 = -0.4, so w00 = 0.5 + 0.04.
  recipe.local_epochs = 1;
  EXPECT_NEAR(TrainOnce(*trainer, global, data, recipe, 7).local[0], 0.54f, 1e-6);
}

TEST_F(SgdTrainerTest, MeanSquaredErrorByHand) {
  ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchTrainer(Spec("logistic", {1}, 1)));
  const Dataset data = TinyDataset({1, 3}, {}, {2, 4}, 1);  // targets 2 and 4
  TrainingRecipe recipe;
  recipe.loss = "mean_squared_error";
  recipe.client_learning_rate = 0.1;
  // From zero the errors are -2 and -4: loss (4 + 16) / 2 = 10, dw = (2*-2*1 + 2*-4*3) / 2 = -14, db = (-4 - 8) / 2 = -6.
  const Outcome outcome = TrainOnce(*trainer, {0, 0}, data, recipe, 1);
  ASSERT_THAT(outcome.result, IsOk());
  EXPECT_NEAR(outcome.result->mean_loss, 10, 1e-6);
  EXPECT_NEAR(outcome.local[0], 1.4, 1e-6);
  EXPECT_NEAR(outcome.local[1], 0.6, 1e-6);
  ASSERT_OK_AND_ASSIGN(const EvaluationResult score, trainer->Evaluate(std::vector<float>{1, 0}, data, "mean_squared_error"));
  EXPECT_NEAR(score.mean_loss, 1, 1e-6);
  EXPECT_FALSE(score.has_accuracy);
  EXPECT_EQ(score.accuracy, 0);
}

// Three classes, of which the client has two: x = 1 is of class 0, x = 3 of class 1. From zero both have probability 1/2 and the third none: loss ln 2, dw0 = (-0.5 * 1 + 0.5 * 3) / 2 = 0.5, dw1 = -0.5,
// db0 = db1 = 0, and what belongs to class 2 stays. With it in the softmax it would have dw2 = (1/3 * 1 + 1/3 * 3) / 2.
TEST_F(SgdTrainerTest, MaskedCrossEntropyLeavesAbsentClassesAlone) {
  ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchTrainer(Spec("logistic", {1}, 3)));
  const Dataset data = TinyDataset({1, 3}, {0, 1}, {}, 3);
  TrainingRecipe recipe;
  recipe.client_learning_rate = 0.3;
  const Outcome plain = TrainOnce(*trainer, std::vector<float>(6, 0), data, recipe, 1);
  ASSERT_THAT(plain.result, IsOk());
  EXPECT_NEAR(plain.local[2], -0.3 * 2 / 3, 1e-6);
  recipe.loss = "masked_cross_entropy";
  const Outcome masked = TrainOnce(*trainer, std::vector<float>(6, 0), data, recipe, 1);
  ASSERT_THAT(masked.result, IsOk());
  EXPECT_NEAR(masked.result->mean_loss, std::log(2), 1e-6);
  const double expected[6] = {-0.15, 0.15, 0, 0, 0, 0};
  for (int i = 0; i < 6; ++i) EXPECT_NEAR(masked.local[i], expected[i], 1e-6) << i;
  EXPECT_EQ(masked.local[2], 0.0f);
  EXPECT_EQ(masked.local[5], 0.0f);
  // Scores are over all classes.
  ASSERT_OK_AND_ASSIGN(const EvaluationResult score, trainer->Evaluate(std::vector<float>(6, 0), data, "masked_cross_entropy"));
  EXPECT_NEAR(score.mean_loss, std::log(3), 1e-6);
}

TEST_F(SgdTrainerTest, MaskedCrossEntropyIsThePlainOneWhereNoClassIsAbsent) {
  ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchTrainer(Spec("logistic", {1}, 2)));
  const Dataset data = TinyDataset({1, 3, -2}, {0, 1, 1}, {}, 2);
  TrainingRecipe recipe;
  recipe.batch_size = 1;  // a batch without a class is not a client without it
  const std::vector<float> plain = TrainOnce(*trainer, {1, 2, 3, 4}, data, recipe, 5).local;
  recipe.loss = "masked_cross_entropy";
  EXPECT_EQ(TrainOnce(*trainer, {1, 2, 3, 4}, data, recipe, 5).local, plain);
  // With one class alone there is nothing to learn.
  const Outcome one = TrainOnce(*trainer, {1, 2, 3, 4}, TinyDataset({1, 3}, {0, 0}, {}, 2), recipe, 5);
  ASSERT_THAT(one.result, IsOk());
  EXPECT_EQ(one.local, (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(one.result->mean_loss, 0);
}

TEST_F(SgdTrainerTest, EvaluationCountsRightAnswers) {
  ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchTrainer(Spec("logistic", {1}, 2)));
  // Class 1 wins where x > 0: right on three of four.
  const Dataset data = TinyDataset({1, 2, -1, -2}, {1, 1, 0, 1}, {}, 2);
  ASSERT_OK_AND_ASSIGN(const EvaluationResult score, trainer->Evaluate(std::vector<float>{0, 1, 0, 0}, data, "cross_entropy"));
  EXPECT_EQ(score.example_count, 4);
  EXPECT_DOUBLE_EQ(score.accuracy, 0.75);
  const double loss = (std::log1p(std::exp(-1)) + std::log1p(std::exp(-2)) + std::log1p(std::exp(-1)) + std::log1p(std::exp(2))) / 4;
  EXPECT_NEAR(score.mean_loss, loss, 1e-6);
}

TEST_F(SgdTrainerTest, LossIsWeightedByExamplesOverUnequalBatches) {
  ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchTrainer(Spec("logistic", {1}, 1)));
  const Dataset data = TinyDataset({0, 0, 0}, {}, {3, 3, 3}, 1);
  TrainingRecipe recipe;
  recipe.loss = "mean_squared_error";
  recipe.batch_size = 2;
  recipe.client_learning_rate = 0.25;
  // Loss 9 for two examples; b becomes 0.25 * 6 = 1.5; loss 2.25 for one: (18 + 2.25) / 3.
  const Outcome outcome = TrainOnce(*trainer, {0, 0}, data, recipe, 1);
  ASSERT_THAT(outcome.result, IsOk());
  EXPECT_EQ(outcome.result->steps_done, 2);
  EXPECT_NEAR(outcome.result->mean_loss, 6.75, 1e-6);
}

TEST_F(SgdTrainerTest, LocalStepsRunOverEpochsAndCountDistinctExamples) {
  const ArchitectureSpec spec = Spec("logistic", {4}, 3);
  ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchTrainer(spec));
  const std::vector<float> global(trainer->layout().value_count());
  TrainingRecipe recipe;
  recipe.batch_size = 4;
  recipe.local_epochs = 0;  // ignored
  recipe.local_steps = 2;
  const Outcome two = TrainOnce(*trainer, global, RandomDataset(spec, 10), recipe, 1);
  ASSERT_THAT(two.result, IsOk());
  EXPECT_EQ(two.result->examples_seen, 8);
  EXPECT_EQ(two.result->example_count, 8);
  recipe.local_steps = 5;  // 4 + 4 + 2, then 4 + 4 of the second epoch
  const Outcome five = TrainOnce(*trainer, global, RandomDataset(spec, 10), recipe, 1);
  ASSERT_THAT(five.result, IsOk());
  EXPECT_EQ(five.result->steps_done, 5);
  EXPECT_EQ(five.result->examples_seen, 18);
  EXPECT_EQ(five.result->example_count, 10);
}

TEST_F(SgdTrainerTest, StopTokenAndDeadlineLeavePartialWork) {
  const ArchitectureSpec spec = Spec("logistic", {4}, 3);
  ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchTrainer(spec));
  const std::vector<float> global(trainer->layout().value_count(), 0.5f);
  const Dataset data = RandomDataset(spec, 100);
  TrainingRecipe recipe;
  recipe.batch_size = 10;

  std::stop_source stop;
  TrainingControl control;
  control.stop = stop.get_token();
  std::vector<int64_t> seen;
  control.progress = [&](const TrainingProgress& progress) {
    EXPECT_EQ(progress.steps_planned, 10);
    seen.push_back(progress.examples_seen);
    if (progress.steps_done == 3) stop.request_stop();
  };
  const Outcome stopped = TrainOnce(*trainer, global, data, recipe, 1, control);
  ASSERT_THAT(stopped.result, IsOk());
  EXPECT_FALSE(stopped.result->completed);
  EXPECT_EQ(stopped.result->steps_done, 3);
  EXPECT_EQ(stopped.result->example_count, 30);
  EXPECT_THAT(seen, ::testing::ElementsAre(10, 20, 30));
  EXPECT_NE(stopped.local, global);

  // Stopped before the first step: nothing was done, the model is the global one.
  const Outcome nothing = TrainOnce(*trainer, global, data, recipe, 1, control);
  ASSERT_THAT(nothing.result, IsOk());
  EXPECT_EQ(nothing.result->steps_done, 0);
  EXPECT_EQ(nothing.result->example_count, 0);
  EXPECT_EQ(nothing.result->mean_loss, 0);
  EXPECT_FALSE(nothing.result->completed);
  EXPECT_EQ(nothing.local, global);

  VirtualClock clock;
  TrainingControl timed;
  timed.clock = &clock;
  timed.deadline = clock.Now() + absl::Seconds(5);
  timed.progress = [&](const TrainingProgress&) { clock.Advance(absl::Seconds(1)); };
  const Outcome late = TrainOnce(*trainer, global, data, recipe, 1, timed);
  ASSERT_THAT(late.result, IsOk());
  EXPECT_EQ(late.result->steps_done, 5);
  EXPECT_FALSE(late.result->completed);
}

TEST_F(SgdTrainerTest, DivergenceIsAborted) {
  const ArchitectureSpec spec = TypicalSpec("mlp_2nn");
  ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchTrainer(spec));
  ASSERT_OK_AND_ASSIGN(std::vector<float> global, trainer->InitialModel(1));
  TrainingRecipe recipe;
  recipe.client_learning_rate = 1e30;
  recipe.batch_size = 4;
  EXPECT_THAT(TrainOnce(*trainer, global, RandomDataset(spec, 40), recipe, 1).result,
              StatusIs(absl::StatusCode::kAborted, HasSubstr("loss became")));
  // The trainer is still good for the next client.
  recipe.client_learning_rate = 0.05;
  EXPECT_THAT(TrainOnce(*trainer, global, RandomDataset(spec, 40), recipe, 1).result, IsOk());
  global[0] = kNan;
  EXPECT_THAT(TrainOnce(*trainer, global, RandomDataset(spec, 40), recipe, 1).result,
              StatusIs(absl::StatusCode::kAborted, HasSubstr("step 1 of")));
}

TEST_F(SgdTrainerTest, BadRecipesAndDataAreRefused) {
  const ArchitectureSpec spec = Spec("logistic", {4}, 3);
  ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchTrainer(spec));
  const std::vector<float> global(trainer->layout().value_count());
  const Dataset data = RandomDataset(spec, 10);
  const auto expect_refused = [&](auto change, const char* field) {
    TrainingRecipe recipe;
    change(recipe);
    EXPECT_THAT(TrainOnce(*trainer, global, data, recipe, 1).result, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(field)));
  };
  expect_refused([](TrainingRecipe& r) { r.batch_size = 0; }, "batch_size");
  expect_refused([](TrainingRecipe& r) { r.batch_size = -1; }, "batch_size");
  expect_refused([](TrainingRecipe& r) { r.local_epochs = 0; }, "local_epochs");
  expect_refused([](TrainingRecipe& r) { r.local_steps = -1; }, "local_steps");
  expect_refused([](TrainingRecipe& r) { r.threads = 0; }, "threads");
  for (double bad : {0.0, -1.0, static_cast<double>(kNan), std::numeric_limits<double>::infinity()}) {
    expect_refused([&](TrainingRecipe& r) { r.client_learning_rate = bad; }, "client_learning_rate");
  }
  for (double bad : {-0.1, 1.0, static_cast<double>(kNan)}) expect_refused([&](TrainingRecipe& r) { r.momentum = bad; }, "momentum");
  for (double bad : {-0.1, static_cast<double>(kNan)}) {
    expect_refused([&](TrainingRecipe& r) { r.weight_decay = bad; }, "weight_decay");
    expect_refused([&](TrainingRecipe& r) { r.proximal_mu = bad; }, "proximal_mu");
  }
  expect_refused([](TrainingRecipe& r) { r.loss = "cross_entropi"; }, "did you mean 'cross_entropy'?");
  expect_refused([](TrainingRecipe& r) { r.loss = "mean_squared_error"; }, "regression targets");

  const TrainingRecipe recipe;
  EXPECT_THAT(TrainOnce(*trainer, global, Dataset(), recipe, 1).result, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no examples")));
  EXPECT_THAT(TrainOnce(*trainer, global, RandomDataset(Spec("logistic", {5}, 3), 10), recipe, 1).result,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("shape")));
  EXPECT_THAT(TrainOnce(*trainer, global, RandomDataset(Spec("logistic", {4}, 9), 10), recipe, 1).result,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("outputs")));
  EXPECT_THAT(TrainOnce(*trainer, global, RandomDataset(Spec("char_lstm", {4}, 3), 10), recipe, 1).result,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("takes numbers")));
  EXPECT_THAT(TrainOnce(*trainer, {1, 2}, data, recipe, 1).result, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("2 values")));
  EXPECT_THAT(trainer->Evaluate({}, data, "cross_entropy"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("0 values")));
}

TEST_F(SgdTrainerTest, BytesAreNormalisedAndCachedStoresAreToldApart) {
  ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchTrainer(Spec("logistic", {1}, 1)));
  const std::vector<float> identity = {1, 0};
  // A store may be freed and another allocated at its address: the second must not be scored with the first one's examples.
  for (int i = 0; i < 20; ++i) {
    ExampleStore store;
    store.input_shape = {1};
    store.inputs = std::vector<uint8_t>{static_cast<uint8_t>(i)};
    store.scale = {2};
    store.shift = {1};
    store.regression_targets = {0};
    store.output_count = 1;
    ASSERT_OK_AND_ASSIGN(const Dataset data, Dataset::Create(std::move(store)));
    ASSERT_OK_AND_ASSIGN(const EvaluationResult score, trainer->Evaluate(identity, data, "mean_squared_error"));
    EXPECT_FLOAT_EQ(score.mean_loss, (2.0 * i + 1) * (2.0 * i + 1));
  }
}

class EveryArchitectureTest : public ::testing::TestWithParam<std::string> {};

TEST_P(EveryArchitectureTest, LearnsAndRepeatsItsBits) {
  ASSERT_THAT(ConfigureKernels(1), IsOk());
  const ArchitectureSpec spec = TypicalSpec(GetParam());
  const Dataset data = RandomDataset(spec, 60);
  TrainingRecipe recipe;
  recipe.batch_size = 8;
  recipe.local_epochs = 2;
  recipe.momentum = 0.5;
  recipe.client_learning_rate = spec.name == "char_lstm" ? 0.5 : TakesTokens(spec) ? 0.1 : 0.02;
  ASSERT_OK_AND_ASSIGN(const auto first, MakeTorchTrainer(spec));
  ASSERT_OK_AND_ASSIGN(const std::vector<float> global, first->InitialModel(5));
  const Outcome reference = TrainOnce(*first, global, data, recipe, 42);
  ASSERT_THAT(reference.result, IsOk());
  ASSERT_OK_AND_ASSIGN(const EvaluationResult before, first->Evaluate(global, data, "cross_entropy"));
  ASSERT_OK_AND_ASSIGN(const EvaluationResult after, first->Evaluate(reference.local, data, "cross_entropy"));
  EXPECT_LT(after.mean_loss, before.mean_loss);

  // The same instance again, after another seed in between; and two fresh instances in two threads at once.
  EXPECT_NE(TrainOnce(*first, global, data, recipe, 43).local, reference.local);
  EXPECT_EQ(TrainOnce(*first, global, data, recipe, 42).local, reference.local);
  std::vector<float> locals[2];
  {
    std::vector<std::jthread> threads;
    for (std::vector<float>& local : locals) {
      threads.emplace_back([&] {
        auto trainer = MakeTorchTrainer(spec);
        if (trainer.ok()) local = TrainOnce(**trainer, global, data, recipe, 42).local;
      });
    }
  }
  EXPECT_EQ(locals[0], reference.local);
  EXPECT_EQ(locals[1], reference.local);
}

INSTANTIATE_TEST_SUITE_P(All, EveryArchitectureTest, ::testing::ValuesIn(ArchitectureNames()),
                         [](const auto& info) { return info.param; });

TEST_F(SgdTrainerTest, DropoutActsInTrainingOnly) {
  ArchitectureSpec spec = Spec("pfl_cnn", {1, 8, 8}, 4);
  const Dataset data = RandomDataset(spec, 20);
  ASSERT_OK_AND_ASSIGN(const auto with, MakeTorchTrainer(spec));
  spec.options = {{"conv_dropout", "0"}, {"hidden_dropout", "0"}};
  ASSERT_OK_AND_ASSIGN(const auto without, MakeTorchTrainer(spec));
  ASSERT_OK_AND_ASSIGN(const std::vector<float> global, with->InitialModel(1));
  ASSERT_OK_AND_ASSIGN(const EvaluationResult a, with->Evaluate(global, data, "cross_entropy"));
  ASSERT_OK_AND_ASSIGN(const EvaluationResult b, without->Evaluate(global, data, "cross_entropy"));
  EXPECT_EQ(a.mean_loss, b.mean_loss);
  EXPECT_NE(TrainOnce(*with, global, data, {}, 1).local, TrainOnce(*without, global, data, {}, 1).local);
}

TEST(KernelsTest, FactsNameTheKernels) {
  EXPECT_THAT(ConfigureKernels(0), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("got 0")));
  EXPECT_THAT(ConfigureKernels(1025), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1025")));
  ASSERT_THAT(ConfigureKernels(1), IsOk());
  std::map<std::string, std::string> facts = KernelFacts();
  EXPECT_EQ(facts["aten_threads"], "1");
  EXPECT_FALSE(facts["libtorch"].empty());
  EXPECT_FALSE(facts["cpu_capability"].empty());
  if (facts.contains("blas_threads")) {
    EXPECT_EQ(facts["blas_threads"], "1");
    EXPECT_TRUE(BlasIsOptimised());
  }
}

}  // namespace
}  // namespace fedwatt

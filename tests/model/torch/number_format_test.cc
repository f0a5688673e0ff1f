// Training in bfloat16, and training for 8-bit integers.
#include <cmath>

#include "fedwatt/model/torch/architecture.h"
#include "model/torch/rounding.h"
#include "tests/model/torch/torch_testing.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::RandomDataset;
using ::fedwatt::testing::StatusIs;
using ::fedwatt::testing::TypicalSpec;
using ::fedwatt::testing::TypicalSpecWithoutDropout;
using ::testing::HasSubstr;

struct Trained {
  std::vector<float> model;
  TrainingResult result;
};

Trained Train(LocalTrainer& trainer, const std::vector<float>& start, const Dataset& data, const TrainingRecipe& recipe) {
  Trained trained{std::vector<float>(start.size()), {}};
  absl::StatusOr<TrainingResult> result = trainer.Train(start, data, recipe, 5, {}, absl::MakeSpan(trained.model));
  FEDWATT_CHECK(result.ok());
  trained.result = *result;
  return trained;
}

double Distance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::pow(static_cast<double>(a[i]) - b[i], 2);
  return std::sqrt(sum);
}

class NumberFormatTest : public ::testing::TestWithParam<std::string> {};

TEST_P(NumberFormatTest, Bfloat16LearnsNearlyTheSameAndLeavesNothingBehind) {
  const ArchitectureSpec spec = TypicalSpec(GetParam());
  ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchTrainer(spec));
  const std::vector<float> start = *trainer->InitialModel(3);
  const Dataset data = RandomDataset(spec, 48);
  if (spec.name == "lif_snn") {
    std::vector<float> local(start.size());
    EXPECT_THAT(trainer->CheckNumberFormat("bfloat16"), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("float32 only")));
    EXPECT_THAT(trainer->Train(start, data, {.number_format = "bfloat16"}, 1, {}, absl::MakeSpan(local)), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("float32 only")));
    return;
  }
  TrainingRecipe recipe{.local_steps = 6, .batch_size = 16, .client_learning_rate = 0.05};
  const Trained wide = Train(*trainer, start, data, recipe);
  recipe.number_format = "bfloat16";
  const Trained narrow = Train(*trainer, start, data, recipe);
  EXPECT_EQ(narrow.result.steps_done, 6);
  EXPECT_NE(narrow.model, wide.model);
  EXPECT_NEAR(narrow.result.mean_loss, wide.result.mean_loss, 0.02 * wide.result.mean_loss);
  // Rounding to 8 significant bits moves a gradient by about a hundredth of itself, and by more where it decides which of two maxima pooling takes.
  EXPECT_LT(Distance(narrow.model, wide.model), 0.25 * Distance(wide.model, start));
  EXPECT_EQ(Train(*trainer, start, data, recipe).model, narrow.model) << "the same bits again";
  recipe.number_format = "float32";
  EXPECT_EQ(Train(*trainer, start, data, recipe).model, wide.model) << "float32 as before";
}

INSTANTIATE_TEST_SUITE_P(All, NumberFormatTest, ::testing::ValuesIn(ArchitectureNames()), [](const auto& info) { return info.param; });

TEST(NumberFormatTest, MasterParametersKeepWhatBfloat16WouldLose) {
  const ArchitectureSpec spec = TypicalSpec("logistic");
  ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchTrainer(spec));
  const std::vector<float> start(static_cast<size_t>(trainer->layout().value_count()), 1.0f);
  // Steps of about 1e-6 vanish beside 1 in bfloat16, whose neighbours there are 1/256 apart.
  const TrainingRecipe recipe{.local_steps = 3, .batch_size = 16, .client_learning_rate = 1e-5, .number_format = "bfloat16"};
  EXPECT_NE(Train(*trainer, start, RandomDataset(spec, 16), recipe).model, start);
}

TEST(NumberFormatTest, RefusesFormatsItDoesNotKnow) {
  const ArchitectureSpec spec = TypicalSpec("logistic");
  ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchTrainer(spec));
  const std::vector<float> start = *trainer->InitialModel(3);
  std::vector<float> local(start.size());
  TrainingRecipe recipe;
  for (const char* format : {"auto", "float16", ""}) {
    recipe.number_format = format;
    EXPECT_THAT(trainer->Train(start, RandomDataset(spec, 4), recipe, 1, {}, absl::MakeSpan(local)), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("float32 only")));
    EXPECT_THAT(trainer->CheckNumberFormat(format), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("float32 only")));
  }
  EXPECT_THAT(trainer->CheckNumberFormat("float32"), IsOk());
  EXPECT_EQ(trainer->CheckNumberFormat("bfloat16"), CheckBfloat16Instructions());
}

TEST(RoundRowsTest, RoundsEachRowToItsOwnScale) {
  const float weight[] = {127, -63.4f, 0.5f, 1.5f, 0.254f, -0.0031f, 0.001f, 0, 0, 0, 0, 0};
  float rounded[12];
  internal::RoundRows(3, 4, weight, rounded);
  const float expected[] = {127, -63, 0, 2, 0.254f, -0.004f, 0, 0, 0, 0, 0, 0};  // halves go to the even neighbour; scales 1, 0.002 and none
  for (int i = 0; i < 12; ++i) EXPECT_NEAR(rounded[i], expected[i], 1e-6) << i;
}

TEST(RoundValuesTest, RoundsToTheCodesOfARangeAndClips) {
  const internal::Affine affine{0.5, 100};  // values -50 to 77.5
  const float values[] = {0, 0.2f, 0.25f, 0.75f, -0.3f, 77.5f, 90, -60};
  float rounded[8];
  internal::RoundValues(affine, 8, values, rounded);
  const float expected[] = {0, 0, 0, 1, -0.5f, 77.5f, 77.5f, -50};  // halves go to the even code
  for (int i = 0; i < 8; ++i) EXPECT_EQ(rounded[i], expected[i]) << i;
  const internal::ActivationRange range = internal::RangeOf(8, values);
  EXPECT_EQ(range.low, -60);
  EXPECT_EQ(range.high, 90);
  EXPECT_EQ(internal::RangeOf(3, values + 1).low, 0) << "0 is always within";
  const float no_number = NAN;
  EXPECT_TRUE(std::isnan(internal::RangeOf(1, &no_number).high));

  const uint16_t narrow[] = {0x3f80, 0xbf80, 0x4000, 0};  // 1, -1, 2, 0
  uint16_t out[4];
  EXPECT_EQ(internal::RangeOf(4, narrow).low, -1);
  EXPECT_EQ(internal::RangeOf(4, narrow).high, 2);
  internal::RoundValues({0.4, 10}, 4, narrow, out);
  const uint16_t codes[] = {0x3f4d, 0xbf4d, 0x4000, 0};  // 0.8, -0.8 (half to even: 2.5 codes), 2.0 in bfloat16
  for (int i = 0; i < 4; ++i) EXPECT_EQ(out[i], codes[i]) << i;
}

class QuantizedTrainingTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    plain_ = TypicalSpecWithoutDropout(GetParam());
    spec_ = plain_;
    spec_.quantization = "int8";
  }
  ArchitectureSpec plain_, spec_;
};

TEST_P(QuantizedTrainingTest, CarriesRangesBehindTheParametersAndFollowsThem) {
  ASSERT_OK_AND_ASSIGN(const auto plain, MakeTorchTrainer(plain_));
  ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchTrainer(spec_));
  const std::vector<LayoutEntry>& entries = trainer->layout().entries();
  const size_t parameters = plain->layout().entries().size();
  ASSERT_EQ(entries.size(), parameters + 1 + parameters / 2) << "one for the input, one for each weight and bias";
  EXPECT_EQ(entries[parameters].name, "input.range");
  for (size_t i = 0; i < entries.size(); ++i) EXPECT_EQ(entries[i].kind, i < parameters ? EntryKind::kParameter : EntryKind::kAveragedBuffer) << entries[i].name;
  const size_t first = static_cast<size_t>(plain->layout().value_count());

  std::vector<float> start = *trainer->InitialModel(3);
  EXPECT_EQ(std::vector<float>(start.begin(), start.begin() + static_cast<int64_t>(first)), *plain->InitialModel(3));
  for (size_t i = first; i < start.size(); ++i) EXPECT_EQ(start[i], 0);

  const Dataset data = RandomDataset(spec_, 32);
  TrainingRecipe recipe{.local_steps = 1, .batch_size = 32, .client_learning_rate = 0.05};
  const Trained one = Train(*trainer, start, data, recipe);
  float low = 0, high = 0;
  std::vector<float> input(static_cast<size_t>(data.store().input_size()));
  for (int64_t i = 0; i < data.size(); ++i) {
    data.CopyInput(i, absl::MakeSpan(input));
    for (float value : input) low = std::min(low, value), high = std::max(high, value);
  }
  EXPECT_EQ(one.model[first], low) << "an empty range takes what the first batch holds";
  EXPECT_EQ(one.model[first + 1], high);
  for (size_t i = first; i < start.size(); i += 2) EXPECT_LT(one.model[i], one.model[i + 1]);

  // A range that is too wide goes back a tenth of the way a step; one that is too narrow widens at once.
  start = one.model;
  start[first] = low - 1;
  start[first + 1] = high / 2;
  const Trained two = Train(*trainer, start, data, recipe);
  EXPECT_NEAR(two.model[first], low - 0.9, 1e-5);
  EXPECT_EQ(two.model[first + 1], high);
}

TEST_P(QuantizedTrainingTest, LearnsNearlyTheSameInBothFormats) {
  ASSERT_OK_AND_ASSIGN(const auto plain, MakeTorchTrainer(plain_));
  ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchTrainer(spec_));
  const Dataset data = RandomDataset(spec_, 48);
  TrainingRecipe recipe{.local_steps = 6, .batch_size = 16, .client_learning_rate = 0.05};
  const std::vector<float> start = *plain->InitialModel(3);
  const Trained expected = Train(*plain, start, data, recipe);
  for (const char* format : {"float32", "bfloat16"}) {
    recipe.number_format = format;
    Trained got = Train(*trainer, *trainer->InitialModel(3), data, recipe);
    EXPECT_EQ(Train(*trainer, *trainer->InitialModel(3), data, recipe).model, got.model) << "the same bits again";
    got.model.resize(start.size());
    EXPECT_NE(got.model, expected.model);
    EXPECT_NEAR(got.result.mean_loss, expected.result.mean_loss, 0.05 * expected.result.mean_loss) << format;
    EXPECT_LT(Distance(got.model, expected.model), 0.3 * Distance(expected.model, start)) << format;
  }
}

TEST_P(QuantizedTrainingTest, ScoresInFloat32) {
  ASSERT_OK_AND_ASSIGN(const auto plain, MakeTorchTrainer(plain_));
  ASSERT_OK_AND_ASSIGN(const auto trainer, MakeTorchTrainer(spec_));
  const Dataset data = RandomDataset(spec_, 20);
  EXPECT_EQ(trainer->Evaluate(*trainer->InitialModel(3), data, "cross_entropy")->mean_loss, plain->Evaluate(*plain->InitialModel(3), data, "cross_entropy")->mean_loss);
}

INSTANTIATE_TEST_SUITE_P(All, QuantizedTrainingTest, ::testing::Values("fedavg_cnn", "lenet", "logistic", "mlp_2nn", "pfl_cnn"), [](const auto& info) { return info.param; });

TEST(QuantizedTrainingTest, NarrowModelsKeepTheRangesOfTheWhole) {
  ArchitectureSpec spec = TypicalSpec("mlp_2nn");
  spec.quantization = "int8";
  ASSERT_OK_AND_ASSIGN(const auto whole, MakeTorchTrainer(spec));
  spec.kept = {{"fc1", {{0, 50}}}, {"fc2", {{0, 50}}}};
  ASSERT_OK_AND_ASSIGN(const auto narrow, MakeTorchTrainer(spec));
  EXPECT_EQ(narrow->layout().entries().back().name, "fc3.range");
  std::vector<float> values(static_cast<size_t>(whole->layout().value_count()));
  values[values.size() - 1] = 7;
  EXPECT_EQ(narrow->submodel()->Gather(values).back(), 7);
}

TEST(QuantizedTrainingTest, RefusesModelsWithoutAnIntegerForm) {
  ArchitectureSpec spec = TypicalSpec("char_lstm");
  spec.quantization = "int8";
  EXPECT_THAT(MakeTorchTrainer(spec), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("embeddings")));
}

}  // namespace
}  // namespace fedwatt

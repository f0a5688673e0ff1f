// A model of which only some weights are left: the whole network with zeros elsewhere, in what goes in, in every step, and in what comes out.
#include <cmath>

#include "fedwatt/model/submodel.h"
#include "fedwatt/model/torch/architecture.h"
#include "fedwatt/model/torch/quantization.h"
#include "tests/model/torch/torch_testing.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::RandomDataset;
using ::fedwatt::testing::StatusIs;
using ::fedwatt::testing::TypicalSpecWithoutDropout;
using ::testing::HasSubstr;

// A third of every tensor of two dimensions, drawn.
KeptChannels Third(const ParameterLayout& layout) {
  KeptChannels kept;
  Random random(5);
  for (const ChannelGroup& group : WeightGroups(layout)) {
    std::vector<int64_t> left;
    for (int64_t i = 0; i < group.size; ++i) {
      if (random.Uniform() < 1.0 / 3) left.push_back(i);
    }
    kept[group.name] = ToRanges(left);
  }
  return kept;
}

class MaskedTrainerTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    spec_ = TypicalSpecWithoutDropout(GetParam());
    dense_ = *MakeTorchTrainer(spec_);
    masked_spec_ = spec_;
    masked_spec_.kept = Third(dense_->layout());
    absl::StatusOr<std::unique_ptr<LocalTrainer>> masked = MakeTorchTrainer(masked_spec_);
    ASSERT_THAT(masked, IsOk());
    masked_ = *std::move(masked);
    mask_ = masked_->submodel();
    ASSERT_NE(mask_, nullptr);
  }
  std::vector<float> Whole(absl::Span<const float> left) const {
    return mask_->Scatter(left);
  }
  ArchitectureSpec spec_, masked_spec_;
  std::unique_ptr<LocalTrainer> dense_, masked_;
  const Submodel* mask_ = nullptr;
};

TEST_P(MaskedTrainerTest, HasWhatIsLeftOfTheWholeModel) {
  EXPECT_EQ(mask_->whole(), dense_->layout());
  EXPECT_EQ(mask_->layout(), masked_->layout());
  EXPECT_EQ(*ArchitectureLayout(masked_spec_), masked_->layout());
  EXPECT_NEAR(static_cast<double>(masked_->layout().value_count()), static_cast<double>(dense_->layout().value_count()) / 3,
              0.05 * static_cast<double>(dense_->layout().value_count()));
  EXPECT_EQ(*masked_->InitialModel(3), mask_->Gather(*dense_->InitialModel(3)));
  const Dataset data = RandomDataset(spec_, 50);
  const std::vector<float> values = *masked_->InitialModel(3);
  ASSERT_OK_AND_ASSIGN(const EvaluationResult got, masked_->Evaluate(values, data, "cross_entropy"));
  ASSERT_OK_AND_ASSIGN(const EvaluationResult expected, dense_->Evaluate(Whole(values), data, "cross_entropy"));
  EXPECT_EQ(got.mean_loss, expected.mean_loss);
}

// Projected SGD: as if after every step of the whole network what is masked were set back to zero. With all examples in each batch their order changes roundings alone.
TEST_P(MaskedTrainerTest, TrainsByProjectedSteps) {
  const Dataset data = RandomDataset(spec_, 20);
  TrainingRecipe recipe;
  recipe.local_steps = 1;
  recipe.batch_size = 20;
  recipe.weight_decay = 0.01;
  std::vector<float> values = *masked_->InitialModel(3), stepped = values, next(values.size());
  std::vector<float> whole(static_cast<size_t>(dense_->layout().value_count()));
  for (int step = 0; step < 3; ++step) {
    ASSERT_THAT(dense_->Train(Whole(stepped), data, recipe, 9, {}, absl::MakeSpan(whole)), IsOk());
    mask_->Gather(whole, absl::MakeSpan(stepped));
  }
  recipe.local_steps = 3;
  ASSERT_THAT(masked_->Train(values, data, recipe, 9, {}, absl::MakeSpan(next)), IsOk());
  double moved = 0;
  size_t parameters = 0;
  for (const LayoutEntry& entry : masked_->layout().entries()) parameters += entry.kind == EntryKind::kParameter ? entry.element_count() : 0;
  for (size_t i = 0; i < values.size(); ++i) {
    if (i >= parameters) continue;  // what counts rounds counted three
    ASSERT_NEAR(next[i], stepped[i], 1e-5) << i;
    moved += std::fabs(next[i] - values[i]);
  }
  EXPECT_GT(moved, 1e-3);
}

TEST_P(MaskedTrainerTest, IsDeliveredAsTheWholeNetworkWithZeros) {
  const Dataset data = RandomDataset(spec_, 30);
  const std::vector<float> values = *masked_->InitialModel(4);
  const std::string path = ::testing::TempDir() + "/masked_" + GetParam() + ".pt";
  ASSERT_THAT(WriteTorchScript(masked_spec_, values, path), IsOk());
  ASSERT_OK_AND_ASSIGN(const EvaluationResult delivered, EvaluateArchive(spec_, path, data, "cross_entropy"));
  ASSERT_OK_AND_ASSIGN(const EvaluationResult expected, masked_->Evaluate(values, data, "cross_entropy"));
  EXPECT_NEAR(delivered.mean_loss, expected.mean_loss, 1e-5);
  EXPECT_THAT(WriteTorchScript(masked_spec_, Whole(values), path), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("the layout has")));
}

TEST_P(MaskedTrainerTest, RefusesWhatIsNotItsOwn) {
  const Dataset data = RandomDataset(spec_, 4);
  std::vector<float> values = *masked_->InitialModel(3), whole = Whole(values), more(values.size() + 1);
  EXPECT_THAT(masked_->Evaluate(whole, data, "cross_entropy"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("the layout has")));
  EXPECT_THAT(masked_->Train(whole, data, {}, 1, {}, absl::MakeSpan(values)), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("the layout has")));
  EXPECT_THAT(masked_->Train(values, data, {}, 1, {}, absl::MakeSpan(more)), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("the layout has")));
  ArchitectureSpec bad = masked_spec_;
  bad.kept["no.such[]"] = {{0, 1}};
  EXPECT_THAT(MakeTorchTrainer(bad), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no.such[]")));
  bad = masked_spec_;
  bad.kept.begin()->second.back().end = int64_t{1} << 40;
  EXPECT_THAT(MakeTorchTrainer(bad), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("range")));
}

INSTANTIATE_TEST_SUITE_P(EveryArchitecture, MaskedTrainerTest, ::testing::ValuesIn(ArchitectureNames()), [](const auto& info) { return info.param; });

}  // namespace
}  // namespace fedwatt

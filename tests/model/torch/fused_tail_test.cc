// Steps that fuse the last layers do what LibTorch's differentiation does, over whole runs.
#include <algorithm>
#include <cmath>
#include <limits>

#include "fedwatt/model/submodel.h"
#include "fedwatt/model/torch/architecture.h"
#include "tests/model/torch/torch_testing.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::ExpectSameButForRounding;
using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::RandomDataset;
using ::fedwatt::testing::StatusIs;
using ::fedwatt::testing::TypicalSpec;
using ::testing::HasSubstr;

class FusedTailTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    ASSERT_THAT(ConfigureKernels(1), IsOk());
    spec_ = TypicalSpec(GetParam());
    fused_ = *MakeTorchTrainer(spec_);
    // Trained as a masked model, of which everything is left, the same network is differentiated by LibTorch.
    ArchitectureSpec masked = spec_;
    for (const ChannelGroup& group : WeightGroups(fused_->layout())) masked.kept[group.name] = {{0, group.size}};
    plain_ = *MakeTorchTrainer(masked);
  }

  void Compare(const TrainingRecipe& recipe, const Dataset& data) {
    ASSERT_OK_AND_ASSIGN(const std::vector<float> start, fused_->InitialModel(3));
    std::vector<float> fused(start.size()), plain(start.size()), again(start.size());
    ASSERT_OK_AND_ASSIGN(const TrainingResult a, fused_->Train(start, data, recipe, 7, {}, absl::MakeSpan(fused)));
    ASSERT_OK_AND_ASSIGN(const TrainingResult b, plain_->Train(start, data, recipe, 7, {}, absl::MakeSpan(plain)));
    EXPECT_NEAR(a.mean_loss, b.mean_loss, 1e-4);
    double moved = 0;
    ExpectSameButForRounding(fused, plain);
    for (size_t i = 0; i < start.size(); ++i) moved = std::max<double>(moved, std::abs(fused[i] - start[i]));
    EXPECT_GT(moved, 1e-3);
    ASSERT_THAT(fused_->Train(start, data, recipe, 7, {}, absl::MakeSpan(again)), IsOk());
    EXPECT_EQ(again, fused);
  }

  ArchitectureSpec spec_;
  std::unique_ptr<LocalTrainer> fused_, plain_;
};

TEST_P(FusedTailTest, TrainsAsLibTorchDoes) {
  const Dataset data = RandomDataset(spec_, 47);
  TrainingRecipe recipe;
  recipe.local_epochs = 3;
  recipe.batch_size = 10;  // the last one has 7
  recipe.client_learning_rate = 0.01;
  Compare(recipe, data);
  recipe.momentum = 0.9;
  recipe.client_learning_rate = 0.002;
  Compare(recipe, data);
  recipe.weight_decay = 0.01;
  recipe.proximal_mu = 0.1;
  Compare(recipe, data);
  recipe.momentum = 0;
  Compare(recipe, data);
}

TEST_P(FusedTailTest, LeavesOutAbsentClassesAsLibTorchDoes) {
  const Dataset all = RandomDataset(spec_, 200);
  std::vector<int32_t> of_three;
  for (int64_t i = 0; i < all.size(); ++i) {
    if (all.label(i) < 3) of_three.push_back(static_cast<int32_t>(i));
  }
  ASSERT_OK_AND_ASSIGN(const Dataset data, all.Subset(of_three));
  TrainingRecipe recipe;
  recipe.batch_size = 7;
  recipe.client_learning_rate = 0.01;
  recipe.loss = "masked_cross_entropy";
  Compare(recipe, data);
}

TEST_P(FusedTailTest, ALossThatIsNotFiniteEndsTraining) {
  const Dataset data = RandomDataset(spec_, 10);
  std::vector<float> start(static_cast<size_t>(fused_->layout().value_count()), std::numeric_limits<float>::quiet_NaN()), local(start.size());
  EXPECT_THAT(fused_->Train(start, data, TrainingRecipe(), 7, {}, absl::MakeSpan(local)), StatusIs(absl::StatusCode::kAborted, HasSubstr("the loss became nan at step 1")));
}

INSTANTIATE_TEST_SUITE_P(All, FusedTailTest, ::testing::ValuesIn(Architectures().Names()), [](const auto& info) { return info.param; });

}  // namespace
}  // namespace fedwatt

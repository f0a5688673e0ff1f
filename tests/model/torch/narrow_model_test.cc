// Narrower copies of every built-in architecture are what is left of the whole one when channels are switched off.
#include <cmath>
#include <map>

#include "fedwatt/model/submodel.h"
#include "fedwatt/model/torch/architecture.h"
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

// About half of each group: a window that wraps around, so that neither end is special.
KeptChannels WrappingHalf(const std::vector<ChannelGroup>& groups) {
  KeptChannels kept;
  for (const ChannelGroup& group : groups) {
    const int64_t count = (group.size + 1) / 2;
    if (count < group.size) kept[group.name] = {{0, count / 2}, {group.size - (count - count / 2), group.size}};
    if (count / 2 == 0) kept[group.name] = {{group.size - count, group.size}};
  }
  return kept;
}

class NarrowModelTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    whole_spec_ = TypicalSpecWithoutDropout(GetParam());
    whole_ = *MakeTorchTrainer(whole_spec_);
    narrow_spec_ = whole_spec_;
    narrow_spec_.kept = WrappingHalf(whole_->channel_groups());
    absl::StatusOr<std::unique_ptr<LocalTrainer>> narrow = MakeTorchTrainer(narrow_spec_);
    ASSERT_THAT(narrow, IsOk());
    narrow_ = *std::move(narrow);
  }
  ArchitectureSpec whole_spec_, narrow_spec_;
  std::unique_ptr<LocalTrainer> whole_, narrow_;
};

TEST_P(NarrowModelTest, StartsWithItsSliceOfTheWholeStart) {
  ASSERT_NE(narrow_->submodel(), nullptr);
  EXPECT_EQ(whole_->submodel(), nullptr);
  EXPECT_TRUE(narrow_->submodel()->layout() == narrow_->layout());
  EXPECT_TRUE(narrow_->submodel()->whole() == whole_->layout());
  EXPECT_LT(narrow_->layout().value_count(), 0.6 * static_cast<double>(whole_->layout().value_count()));
  EXPECT_EQ(*narrow_->InitialModel(3), narrow_->submodel()->Gather(*whole_->InitialModel(3)));
}

// With zeros where channels were dropped, the whole model computes what the narrow one does.
TEST_P(NarrowModelTest, ComputesWhatTheMaskedWholeModelComputes) {
  const Dataset data = RandomDataset(whole_spec_, 60);
  const std::vector<float> values = *narrow_->InitialModel(3);
  std::vector<float> masked = narrow_->submodel()->Scatter(values);
  ASSERT_OK_AND_ASSIGN(const EvaluationResult expected, whole_->Evaluate(masked, data, "cross_entropy"));
  ASSERT_OK_AND_ASSIGN(const EvaluationResult got, narrow_->Evaluate(values, data, "cross_entropy"));
  EXPECT_NEAR(got.mean_loss, expected.mean_loss, 1e-5);

  // Zero outgoing and incoming weights get no gradient through each other's zeros into what is kept: one step moves the kept values alike.
  TrainingRecipe recipe;
  recipe.local_steps = 1;
  recipe.batch_size = 20;
  std::vector<float> wide_after(masked.size()), narrow_after(values.size());
  ASSERT_THAT(whole_->Train(masked, data, recipe, 9, {}, absl::MakeSpan(wide_after)), IsOk());
  ASSERT_THAT(narrow_->Train(values, data, recipe, 9, {}, absl::MakeSpan(narrow_after)), IsOk());
  const std::vector<float> kept_after = narrow_->submodel()->Gather(wide_after);
  double moved = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_NEAR(narrow_after[i], kept_after[i], 1e-5) << i;
    moved += std::fabs(narrow_after[i] - values[i]);
  }
  EXPECT_GT(moved, 1e-3);
}

// Zeros where channels are read, which ChannelAxis::reads tells, silence them whatever makes them: so a channel can come back without a trace, and the
// updates of those that read it say whether it is wanted.
TEST_P(NarrowModelTest, SilencedReadersComputeWhatTheNarrowModelComputes) {
  const Dataset data = RandomDataset(whole_spec_, 60);
  const std::vector<float> start = *whole_->InitialModel(3);
  std::vector<float> silenced = start;
  std::vector<bool> is_silenced(start.size());
  std::map<std::string, size_t> entries;
  for (size_t i = 0; i < whole_->layout().entries().size(); ++i) entries[whole_->layout().entries()[i].name] = i;
  for (const ChannelGroup& group : whole_->channel_groups()) {
    std::vector<bool> dropped(static_cast<size_t>(group.size), true);
    for (int64_t channel : ChannelsOf(group, narrow_spec_.kept)) dropped[static_cast<size_t>(channel)] = false;
    int64_t readers = 0;
    for (const ChannelAxis& axis : group.axes) {
      if (!axis.reads) continue;
      ++readers;
      const size_t at = entries.at(axis.entry);
      const std::vector<int64_t>& shape = whole_->layout().entries()[at].shape;
      int64_t after = 1;
      for (size_t i = static_cast<size_t>(axis.axis) + 1; i < shape.size(); ++i) after *= shape[i];
      const int64_t length = shape[static_cast<size_t>(axis.axis)], first = whole_->layout().offset(at);
      const int64_t end = at + 1 < entries.size() ? whole_->layout().offset(at + 1) : static_cast<int64_t>(start.size());
      for (int64_t i = first; i < end; ++i) {
        const int64_t index = (i - first) / after % length - axis.begin;
        if (index < 0 || index >= axis.blocks * group.size * axis.repeat) continue;
        if (!dropped[static_cast<size_t>(index / axis.repeat % group.size)]) continue;
        silenced[static_cast<size_t>(i)] = 0;
        is_silenced[static_cast<size_t>(i)] = true;
      }
    }
    EXPECT_GT(readers, 0) << group.name << " could never regrow";
  }
  const std::vector<float> values = narrow_->submodel()->Gather(start);
  ASSERT_OK_AND_ASSIGN(const EvaluationResult expected, narrow_->Evaluate(values, data, "cross_entropy"));
  ASSERT_OK_AND_ASSIGN(const EvaluationResult got, whole_->Evaluate(silenced, data, "cross_entropy"));
  EXPECT_NEAR(got.mean_loss, expected.mean_loss, 1e-5);
  ASSERT_OK_AND_ASSIGN(const EvaluationResult whole, whole_->Evaluate(start, data, "cross_entropy"));
  EXPECT_GT(std::fabs(whole.mean_loss - expected.mean_loss), 1e-4) << "those channels did count before, so that the comparison says something";

  TrainingRecipe recipe;
  recipe.local_steps = 1;
  recipe.batch_size = 20;
  std::vector<float> after(start.size());
  ASSERT_THAT(whole_->Train(silenced, data, recipe, 9, {}, absl::MakeSpan(after)), IsOk());
  double pull = 0;
  for (size_t i = 0; i < after.size(); ++i) {
    if (is_silenced[i]) pull += std::fabs(after[i]);
  }
  EXPECT_GT(pull, 1e-4) << "the readers of a silenced channel still learn";
}

TEST_P(NarrowModelTest, CountsItsMultiplyAdds) {
  const double whole = MacsPerExample(whole_->layout(), whole_->UsesPerExample()), narrow = MacsPerExample(narrow_->layout(), narrow_->UsesPerExample());
  EXPECT_LT(narrow, 0.6 * whole);
  // A use belongs to an entry, whatever is left of it, so a coordinator can count without making the narrow model.
  EXPECT_EQ(MacsPerExample(narrow_->layout(), whole_->UsesPerExample()), narrow);
}

std::vector<std::string> NamesWithGroups() {
  std::vector<std::string> names;
  for (const std::string& name : ArchitectureNames()) {
    if (const auto groups = ChannelGroups(TypicalSpec(name)); groups.ok() && !groups->empty()) names.push_back(name);
  }
  return names;
}
INSTANTIATE_TEST_SUITE_P(All, NarrowModelTest, ::testing::ValuesIn(NamesWithGroups()));

TEST(NarrowModelTest, OnlyLogisticRegressionHasNothingToDrop) { EXPECT_EQ(NamesWithGroups().size() + 1, ArchitectureNames().size()); }

TEST(NarrowModelTest, MacsOfTheCnnByHand) {
  ASSERT_OK_AND_ASSIGN(const auto cnn, MakeTorchTrainer(TypicalSpec("fedavg_cnn")));
  // Weights and a bias each: 32 5x5 kernels over 1 channel at 28x28 places, 64 over 32 at 14x14, 3136 to 512, 512 to 10.
  EXPECT_EQ(MacsPerExample(cnn->layout(), cnn->UsesPerExample()), 784.0 * 32 * 26 + 196.0 * 64 * 801 + 512.0 * 3137 + 10.0 * 513);
}

TEST(NarrowModelTest, RefusesChannelsThatAreNotThere) {
  ArchitectureSpec spec = TypicalSpec("mlp_2nn");
  const auto refused = [&](KeptChannels kept, const char* words) {
    spec.kept = std::move(kept);
    EXPECT_THAT(MakeTorchTrainer(spec), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(words)));
    EXPECT_THAT(ArchitectureLayout(spec), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("architecture 'mlp_2nn'")));
  };
  refused({{"fc1", {{0, 201}}}}, "[0, 200)");
  refused({{"fc3", {{0, 5}}}}, "no group 'fc3'");  // outputs are nobody's to drop
  refused({{"conv1", {{0, 5}}}}, "known: fc1, fc2");
  spec = TypicalSpec("logistic");
  spec.kept = {{"fc", {{0, 5}}}};
  EXPECT_THAT(MakeTorchTrainer(spec), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("can't be cut")));
}

}  // namespace
}  // namespace fedwatt

#include "fedwatt/model/torch/architecture.h"

#include <cmath>
#include <map>

#include "tests/model/torch/torch_testing.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::Spec;
using ::fedwatt::testing::StatusIs;
using ::fedwatt::testing::TypicalSpec;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> EntryNames(const ParameterLayout& layout) {
  std::vector<std::string> names;
  for (const LayoutEntry& entry : layout.entries()) names.push_back(entry.name);
  return names;
}

TEST(ArchitectureTest, ParameterCountsAreThePublishedOnesOrByHand) {
  // Of the new ones, by hand, at the sizes of TypicalSpec. A block of a transformer of width 16: 3*16*16+48 + 16*16+16 + 64*16+64 + 16*64+16.
  const int64_t transformer = 12 * 16 + (816 + 272 + 1088 + 1040) + 12 * 16 + 12;
  const std::map<std::string, int64_t> counts = {
      {"logistic", 7850}, {"mlp_2nn", 199210}, {"fedavg_cnn", 1663370}, {"lenet", 62006}, {"pfl_cnn", 1626442},
      // 30*8 + 4*256*(8+256+2) + 4*256*(256+256+2) + 256*30+30
      {"char_lstm", 240 + 272384 + 526336 + 7710},
      {"softmax_transformer", transformer}, {"linear_transformer", transformer}, {"local_transformer", transformer},
      {"performer", transformer + 1},  // and what counts rounds
      {"gru", 12 * 8 + 3 * 16 * (8 + 16 + 2) + 3 * 16 * (16 + 16 + 2) + 16 * 12 + 12},
      {"min_gru", 12 * 16 + (64 * 16 + 64) + (32 * 16 + 16) + (32 * 16 + 32) + (16 * 32 + 16) + 16 * 12 + 12},
      {"lif_snn", 784 * 32 + 32 + 32 * 32 + 32 + 32 * 10 + 10},
      // 3x3 kernels and biases of 1 to 4 channels; then depthwise and pointwise of 4 to 8, 8 to 16, 16 to 32, 32 to 32
      {"mobile_cnn", 40 + (40 + 40) + (80 + 144) + (160 + 544) + (320 + 1056) + 330}};
  for (const auto& [name, count] : counts) {
    ASSERT_OK_AND_ASSIGN(const ParameterLayout layout, ArchitectureLayout(TypicalSpec(name)));
    EXPECT_EQ(layout.value_count(), count) << name;
  }
  EXPECT_EQ(ArchitectureNames().size(), counts.size());
}

TEST(ArchitectureTest, LayoutNamesAndShapesAreThoseOfThePythonTwin) {
  ASSERT_OK_AND_ASSIGN(const ParameterLayout mlp, ArchitectureLayout(TypicalSpec("mlp_2nn")));
  EXPECT_THAT(EntryNames(mlp), ElementsAre("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias", "fc3.weight", "fc3.bias"));
  EXPECT_THAT(mlp.entries()[0].shape, ElementsAre(200, 784));
  EXPECT_THAT(mlp.entries()[5].shape, ElementsAre(10));
  ASSERT_OK_AND_ASSIGN(const ParameterLayout cnn, ArchitectureLayout(TypicalSpec("fedavg_cnn")));
  EXPECT_THAT(cnn.entries()[2].shape, ElementsAre(64, 32, 5, 5));
  EXPECT_THAT(cnn.entries()[4].shape, ElementsAre(512, 64 * 7 * 7));
  ASSERT_OK_AND_ASSIGN(const ParameterLayout lstm, ArchitectureLayout(TypicalSpec("char_lstm")));
  EXPECT_THAT(EntryNames(lstm),
              ElementsAre("embedding.weight", "lstm1.weight_ih_l0", "lstm1.weight_hh_l0", "lstm1.bias_ih_l0", "lstm1.bias_hh_l0",
                          "lstm2.weight_ih_l0", "lstm2.weight_hh_l0", "lstm2.bias_ih_l0", "lstm2.bias_hh_l0", "fc.weight", "fc.bias"));
}

TEST(ArchitectureTest, OptionsAreReadAndBounded) {
  ArchitectureSpec spec = TypicalSpec("mlp_2nn");
  spec.options = {{"hidden_size", "20"}};
  ASSERT_OK_AND_ASSIGN(const ParameterLayout layout, ArchitectureLayout(spec));
  EXPECT_EQ(layout.value_count(), 784 * 20 + 20 + 20 * 20 + 20 + 20 * 10 + 10);
  for (const char* bad : {"0", "-1", "65537", "", "nan", "20x", "99999999999999999999"}) {
    spec.options = {{"hidden_size", bad}};
    EXPECT_THAT(ArchitectureLayout(spec), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("hidden_size"))) << bad;
  }
  spec = TypicalSpec("pfl_cnn");
  for (const char* bad : {"1", "-0.1", "nan", "inf", "x"}) {
    spec.options = {{"conv_dropout", bad}};
    EXPECT_THAT(ArchitectureLayout(spec), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("conv_dropout"))) << bad;
  }
  spec.options = {{"conv_dropout", "0"}, {"hidden_dropout", "0.999"}};
  EXPECT_TRUE(ArchitectureLayout(spec).ok());
}

TEST(ArchitectureTest, OptionsOfTheSequencesAndSpikesAreReadAndBounded) {
  struct Bad {
    const char *name, *option, *value, *words;
  };
  for (const Bad& bad : {Bad{"softmax_transformer", "width", "66", "multiple of heads, got 66 and 4"}, Bad{"linear_transformer", "heads", "0", "heads"},
                         Bad{"performer", "features", "4097", "features"}, Bad{"performer", "redraw_rounds", "-1", "redraw_rounds"},
                         Bad{"performer", "feature_seed", "9007199254740993", "feature_seed"}, Bad{"local_transformer", "window", "0", "window"},
                         Bad{"local_transformer", "global_tokens", "1025", "global_tokens"}, Bad{"softmax_transformer", "window", "8", "unknown option 'window'"},
                         Bad{"gru", "hidden_size", "0", "hidden_size"}, Bad{"min_gru", "blocks", "257", "blocks"}, Bad{"min_gru", "forward_size", "nan", "forward_size"},
                         Bad{"lif_snn", "structure", "sparse", "expected one of dense, convolutional, got 'sparse'"}, Bad{"lif_snn", "leak", "1", "leak"},
                         Bad{"lif_snn", "steps", "65", "steps"}, Bad{"mobile_cnn", "channels", "0", "channels"}}) {
    ArchitectureSpec spec = TypicalSpec(bad.name);
    spec.options = {{bad.option, bad.value}};
    EXPECT_THAT(ArchitectureLayout(spec), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(bad.words))) << bad.name << " " << bad.option;
  }
}

TEST(ArchitectureTest, UnknownNamesComeWithTheNearestKnownOne) {
  ArchitectureSpec spec = TypicalSpec("pfl_cnn");
  spec.options = {{"conv_droput", "0.1"}};
  EXPECT_THAT(ArchitectureLayout(spec), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("did you mean 'conv_dropout'?")));
  spec = TypicalSpec("logistic");
  spec.options = {{"hidden_size", "3"}};
  EXPECT_THAT(ArchitectureLayout(spec), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("it has none")));
  EXPECT_THAT(ArchitectureLayout(Spec("mlp_2n", {4}, 2)), StatusIs(absl::StatusCode::kNotFound, HasSubstr("did you mean 'mlp_2nn'?")));
}

TEST(ArchitectureTest, HostileShapesAreRefused) {
  const int64_t huge = int64_t{1} << 62;
  const std::vector<std::vector<int64_t>> shapes = {{}, {0}, {-1}, {huge}, {huge, huge}, {4096, 4096, 4096}, {1, 1, 1, 1, 1, 1, 1, 1}};
  for (const std::string& name : ArchitectureNames()) {
    for (const std::vector<int64_t>& shape : shapes) {
      EXPECT_THAT(ArchitectureLayout(Spec(name, shape, 10)), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("input_shape")));
    }
    for (int64_t outputs : {int64_t{0}, int64_t{-5}, huge}) {
      EXPECT_THAT(ArchitectureLayout(Spec(name, {1, 28, 28}, outputs)),
                  StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("output_count")));
    }
  }
  // Well-formed but more values than a layout may have.
  ArchitectureSpec wide = Spec("mlp_2nn", {1 << 24}, 10);
  wide.options = {{"hidden_size", "65536"}};
  EXPECT_THAT(ArchitectureLayout(wide), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("")));
  EXPECT_THAT(ArchitectureLayout(Spec("mobile_cnn", {784}, 10)), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("3 dimensions")));
  for (const char* name : {"gru", "min_gru", "performer", "local_transformer"}) {
    EXPECT_THAT(ArchitectureLayout(Spec(name, {1, 2, 3, 4}, 10)), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("got {1, 2, 3, 4}"))) << name;
  }
  for (const char* name : {"fedavg_cnn", "lenet", "pfl_cnn"}) {
    EXPECT_THAT(ArchitectureLayout(Spec(name, {784}, 10)), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("3 dimensions")));
    EXPECT_THAT(ArchitectureLayout(Spec(name, {1, 3, 3}, 10)), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("too small")));
  }
  EXPECT_THAT(ArchitectureLayout(Spec("char_lstm", {1, 80}, 10)), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("1 dimensions")));
}

TEST(ArchitectureTest, ChannelGroupsFitTheLayout) {
  for (const std::string& name : ArchitectureNames()) {
    ASSERT_OK_AND_ASSIGN(const ParameterLayout layout, ArchitectureLayout(TypicalSpec(name)));
    ASSERT_OK_AND_ASSIGN(const std::vector<ChannelGroup> groups, ChannelGroups(TypicalSpec(name)));
    std::map<std::pair<std::string, int32_t>, int> uses;
    for (const ChannelGroup& group : groups) {
      EXPECT_GE(group.axes.size(), 2u) << group.name;
      for (const ChannelAxis& axis : group.axes) {
        const LayoutEntry* entry = nullptr;
        for (const LayoutEntry& e : layout.entries()) entry = e.name == axis.entry ? &e : entry;
        ASSERT_NE(entry, nullptr) << axis.entry;
        ASSERT_LT(axis.axis, static_cast<int32_t>(entry->shape.size()));
        EXPECT_EQ(axis.blocks * group.size * axis.repeat, entry->shape[axis.axis]) << name << " " << axis.entry;
        EXPECT_EQ(++uses[std::make_pair(axis.entry, axis.axis)], 1) << "an axis belongs to one group";
      }
    }
  }
}

TEST(ArchitectureTest, ChannelGroupsOfTheCnnByHand) {
  ASSERT_OK_AND_ASSIGN(const std::vector<ChannelGroup> groups, ChannelGroups(TypicalSpec("fedavg_cnn")));
  ASSERT_EQ(groups.size(), 3u);
  EXPECT_EQ(groups[0].name, "conv1");
  EXPECT_EQ(groups[0].size, 32);
  EXPECT_THAT(groups[0].axes, ElementsAre(ChannelAxis{"conv1.weight", 0}, ChannelAxis{"conv1.bias", 0}, ChannelAxis{"conv2.weight", 1, 1, 1, 0, true}));
  EXPECT_THAT(groups[1].axes,
              ElementsAre(ChannelAxis{"conv2.weight", 0}, ChannelAxis{"conv2.bias", 0}, ChannelAxis{"fc1.weight", 1, 49, 1, 0, true}));
  EXPECT_THAT(groups[2].axes, ElementsAre(ChannelAxis{"fc1.weight", 0}, ChannelAxis{"fc1.bias", 0}, ChannelAxis{"fc2.weight", 1, 1, 1, 0, true}));
  ASSERT_OK_AND_ASSIGN(const std::vector<ChannelGroup> none, ChannelGroups(TypicalSpec("logistic")));
  EXPECT_TRUE(none.empty());
}

// The promise behind a group: swapping two of its channels everywhere does not change the function.
TEST(ArchitectureTest, SwappingTwoChannelsOfAGroupKeepsTheFunction) {
  for (const std::string& name : ArchitectureNames()) {
    const ArchitectureSpec spec = TypicalSpec(name);
    ASSERT_OK_AND_ASSIGN(const std::unique_ptr<LocalTrainer> trainer, MakeTorchTrainer(spec));
    ASSERT_OK_AND_ASSIGN(const std::vector<float> model, trainer->InitialModel(3));
    ASSERT_OK_AND_ASSIGN(const std::vector<ChannelGroup> groups, ChannelGroups(spec));
    const Dataset data = testing::RandomDataset(spec, 8);
    ASSERT_OK_AND_ASSIGN(const EvaluationResult before, trainer->Evaluate(model, data, "cross_entropy"));
    const ParameterLayout& layout = trainer->layout();
    std::vector<float> swapped = model;
    for (const ChannelGroup& group : groups) {
      for (const ChannelAxis& axis : group.axes) {
        size_t e = 0;
        while (layout.entries()[e].name != axis.entry) ++e;
        const std::vector<int64_t>& shape = layout.entries()[e].shape;
        int64_t inner = 1;
        for (size_t d = axis.axis + 1; d < shape.size(); ++d) inner *= shape[d];
        const int64_t outer = layout.entries()[e].element_count() / inner / shape[axis.axis];
        for (int64_t o = 0; o < outer; ++o) {
          for (int64_t b = 0; b < axis.blocks; ++b) {
            for (int64_t r = 0; r < axis.repeat * inner; ++r) {
              auto at = [&](int64_t channel) -> float& {
                return swapped[layout.offset(e) + o * shape[axis.axis] * inner + (b * group.size + channel) * axis.repeat * inner + r];
              };
              std::swap(at(0), at(group.size - 1));
            }
          }
        }
      }
    }
    EXPECT_EQ(swapped != model, !groups.empty()) << name;
    ASSERT_OK_AND_ASSIGN(const EvaluationResult after, trainer->Evaluate(swapped, data, "cross_entropy"));
    EXPECT_NEAR(after.mean_loss, before.mean_loss, 1e-5) << name;
  }
}

TEST(ArchitectureTest, InitialValuesStayWithinTheirBounds) {
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<LocalTrainer> trainer, MakeTorchTrainer(TypicalSpec("pfl_cnn")));
  ASSERT_OK_AND_ASSIGN(const std::vector<float> model, trainer->InitialModel(1));
  ASSERT_OK_AND_ASSIGN(const std::vector<float> again, trainer->InitialModel(1));
  ASSERT_OK_AND_ASSIGN(const std::vector<float> other, trainer->InitialModel(2));
  EXPECT_EQ(model, again);
  EXPECT_NE(model, other);
  // conv1.weight: Xavier with fan_in 27 and fan_out 288; conv1.bias: 1/sqrt(27).
  float largest = 0;
  for (int i = 0; i < 864; ++i) largest = std::max(largest, std::abs(model[i]));
  EXPECT_LE(largest, std::sqrt(6.0f / 315));
  EXPECT_GT(largest, 0.95f * std::sqrt(6.0f / 315));
  for (int i = 864; i < 896; ++i) EXPECT_LE(std::abs(model[i]), 1 / std::sqrt(27.0f));
}

}  // namespace
}  // namespace fedwatt

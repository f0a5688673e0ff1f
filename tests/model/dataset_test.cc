#include "fedwatt/model/dataset.h"

#include <functional>
#include <limits>

#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::_;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Three examples of two channels with two pixels each.
ExampleStore Images() {
  ExampleStore store;
  store.input_shape = {2, 1, 2};
  store.inputs = std::vector<uint8_t>{0, 1, 2, 3, 10, 11, 12, 13, 252, 253, 254, 255};
  store.scale = {0.5f, 2.0f};
  store.shift = {-1.0f, 3.0f};
  store.labels = {0, 2, 1};
  store.output_count = 3;
  store.natural_groups = {1, 0, 1};
  return store;
}

ExampleStore Regression() {
  ExampleStore store;
  store.input_shape = {2};
  store.inputs = std::vector<float>{1, 2, 3, 4};
  store.regression_targets = {0.5f, 1.5f, 2.5f, 3.5f};
  store.output_count = 2;
  return store;
}

ExampleStore Tokens() {
  ExampleStore store;
  store.input_shape = {3};
  store.inputs = std::vector<int32_t>{0, 1, 2, 1, 2, 4};
  store.labels = {1, 4};
  store.output_count = 5;
  return store;
}

std::vector<float> Input(const Dataset& data, int64_t i) {
  std::vector<float> out(static_cast<size_t>(data.store().input_size()), kNan);
  data.CopyInput(i, absl::MakeSpan(out));
  return out;
}

TEST(DatasetTest, NormalisesBytesChannelByChannel) {
  ASSERT_OK_AND_ASSIGN(Dataset data, Dataset::Create(Images()));
  EXPECT_EQ(data.size(), 3);
  EXPECT_THAT(Input(data, 0), ElementsAre(-1.0f, -0.5f, 7.0f, 9.0f));
  EXPECT_THAT(Input(data, 2), ElementsAre(125.0f, 125.5f, 511.0f, 513.0f));
  EXPECT_EQ(data.label(1), 2);
}

TEST(DatasetTest, OneFactorServesAllChannels) {
  ExampleStore store = Images();
  store.scale = {2.0f};
  store.shift = {0.0f, 100.0f};
  ASSERT_OK_AND_ASSIGN(Dataset data, Dataset::Create(store));
  EXPECT_THAT(Input(data, 1), ElementsAre(20.0f, 22.0f, 124.0f, 126.0f));
}

TEST(DatasetTest, ConvertsEveryByteExactly) {
  ExampleStore store;
  store.input_shape = {256};
  std::vector<uint8_t> bytes(256);
  for (int i = 0; i < 256; ++i) bytes[i] = static_cast<uint8_t>(i);
  store.inputs = bytes;
  store.scale = {1.0f / 255};
  store.labels = {0};
  store.output_count = 1;
  ASSERT_OK_AND_ASSIGN(Dataset data, Dataset::Create(store));
  const std::vector<float> out = Input(data, 0);
  for (int i = 0; i < 256; ++i) EXPECT_EQ(out[i], static_cast<float>(i) * (1.0f / 255));
}

TEST(DatasetTest, CopiesFloatsAndTokensAsTheyAre) {
  ASSERT_OK_AND_ASSIGN(Dataset regression, Dataset::Create(Regression()));
  EXPECT_THAT(Input(regression, 1), ElementsAre(3.0f, 4.0f));
  ASSERT_OK_AND_ASSIGN(Dataset tokens, Dataset::Create(Tokens()));
  EXPECT_TRUE(tokens.store().is_tokens());
  EXPECT_THAT(Input(tokens, 1), ElementsAre(1.0f, 2.0f, 4.0f));
}

TEST(DatasetTest, SubsetsNestAndShareTheStore) {
  ASSERT_OK_AND_ASSIGN(Dataset data, Dataset::Create(Images()));
  ASSERT_OK_AND_ASSIGN(Dataset subset, data.Subset({2, 0, 2}));
  EXPECT_EQ(subset.size(), 3);
  EXPECT_EQ(subset.label(0), 1);
  EXPECT_EQ(&subset.store(), &data.store());
  ASSERT_OK_AND_ASSIGN(Dataset nested, subset.Subset({1}));
  EXPECT_THAT(nested.indices(), ElementsAre(0));
  EXPECT_EQ(Input(nested, 0), Input(data, 0));
}

TEST(DatasetTest, SubsetRefusesNothingAndOutOfRange) {
  ASSERT_OK_AND_ASSIGN(Dataset data, Dataset::Create(Images()));
  EXPECT_THAT(data.Subset({}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("zero examples")));
  EXPECT_THAT(data.Subset({3}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("index 3")));
  EXPECT_THAT(data.Subset({0, -1}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("index -1")));
  ASSERT_OK_AND_ASSIGN(Dataset one, data.Subset({2}));
  EXPECT_THAT(one.Subset({1}), StatusIs(absl::StatusCode::kInvalidArgument, _));
}

TEST(DatasetTest, CompactKeepsExamplesInAStoreThatIsStillValid) {
  for (const ExampleStore& store : {Images(), Regression(), Tokens()}) {
    ASSERT_OK_AND_ASSIGN(Dataset data, Dataset::Create(store));
    ASSERT_OK_AND_ASSIGN(Dataset subset, data.Subset({1, 0, 1}));
    const Dataset compact = subset.Compact();
    ASSERT_EQ(compact.size(), 3);
    EXPECT_EQ(compact.store().example_count(), 3);
    EXPECT_THAT(ValidateExampleStore(compact.store()), IsOk());
    for (int i = 0; i < 3; ++i) EXPECT_EQ(Input(compact, i), Input(subset, i));
    if (!store.labels.empty()) {
      EXPECT_EQ(compact.label(2), subset.label(2));
    }
    if (!store.regression_targets.empty()) {
      EXPECT_THAT(compact.store().regression_targets, ElementsAre(2.5f, 3.5f, 0.5f, 1.5f, 2.5f, 3.5f));
    }
  }
}

TEST(DatasetTest, CompactRenumbersGroups) {
  ASSERT_OK_AND_ASSIGN(Dataset data, Dataset::Create(Images()));
  ASSERT_OK_AND_ASSIGN(Dataset subset, data.Subset({2, 0}));
  EXPECT_THAT(subset.Compact().store().natural_groups, ElementsAre(0, 0));
  EXPECT_THAT(data.Compact().store().natural_groups, ElementsAre(1, 0, 1));
}

TEST(ExampleStoreTest, RefusesWhatDoesNotFitTogether) {
  using Spoil = std::function<void(ExampleStore&)>;
  const std::vector<std::pair<const char*, Spoil>> spoilers = {
      {"no dimension", [](ExampleStore& s) { s.input_shape = {}; }},
      {"dimension 0", [](ExampleStore& s) { s.input_shape = {2, 0}; }},
      {"dimension -4", [](ExampleStore& s) { s.input_shape = {-4}; }},
      {"dimension 4294967296", [](ExampleStore& s) { s.input_shape = {int64_t{1} << 32, int64_t{1} << 32}; }},
      {"zero examples", [](ExampleStore& s) { s.inputs = std::vector<uint8_t>{}; }},
      {"whole examples", [](ExampleStore& s) { std::get<0>(s.inputs).pop_back(); }},
      {"output_count", [](ExampleStore& s) { s.output_count = 0; }},
      {"label 2", [](ExampleStore& s) { s.output_count = 2; }},
      {"label -1", [](ExampleStore& s) { s.labels[0] = -1; }},
      {"2 labels", [](ExampleStore& s) { s.labels.pop_back(); }},
      {"either", [](ExampleStore& s) { s.labels.clear(); }},
      {"either", [](ExampleStore& s) { s.regression_targets.assign(9, 0.0f); }},
      {"scale", [](ExampleStore& s) { s.scale = {1, 2, 3}; }},
      {"scale", [](ExampleStore& s) { s.scale = {}; }},
      {"scale is not finite", [](ExampleStore& s) { s.scale = {kNan}; }},
      {"shift is not finite", [](ExampleStore& s) { s.shift = {0, -std::numeric_limits<float>::infinity()}; }},
      {"2 natural groups", [](ExampleStore& s) { s.natural_groups = {0, 1}; }},
      {"natural group -1", [](ExampleStore& s) { s.natural_groups = {0, -1, 0}; }},
      {"dense", [](ExampleStore& s) { s.natural_groups = {0, 2, 0}; }},
      {"natural group 2147483647", [](ExampleStore& s) { s.natural_groups = {0, 1, 2147483647}; }},
  };
  ASSERT_THAT(ValidateExampleStore(Images()), IsOk());
  for (const auto& [message, spoil] : spoilers) {
    ExampleStore store = Images();
    spoil(store);
    EXPECT_THAT(Dataset::Create(store), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
  }
}

TEST(ExampleStoreTest, RefusesBadFloatsTargetsAndTokens) {
  ExampleStore store = Regression();
  std::get<std::vector<float>>(store.inputs)[1] = kNan;
  EXPECT_THAT(Dataset::Create(store), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("input is not finite")));
  store = Regression();
  store.regression_targets[3] = std::numeric_limits<float>::infinity();
  EXPECT_THAT(Dataset::Create(store), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("target is not finite")));
  store = Regression();
  store.regression_targets.pop_back();
  EXPECT_THAT(Dataset::Create(store), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("3 regression targets")));
  store = Tokens();
  std::get<std::vector<int32_t>>(store.inputs)[5] = 5;
  EXPECT_THAT(Dataset::Create(store), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("token 5 at 5")));
}

}  // namespace
}  // namespace fedwatt

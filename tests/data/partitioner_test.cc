#include "fedwatt/data/partitioner.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// `count` examples of 10 balanced classes and 20 groups of unequal size.
Dataset MakeData(int64_t count) {
  ExampleStore store;
  store.input_shape = {1};
  store.inputs = std::vector<uint8_t>(count, 1);
  store.output_count = 10;
  for (int64_t i = 0; i < count; ++i) {
    store.labels.push_back(static_cast<int32_t>(i * 7 % 10));
    store.natural_groups.push_back(static_cast<int32_t>(i < 20 ? i : i * i % 20));
  }
  return *Dataset::Create(std::move(store));
}

class PartitionerContractTest : public ::testing::TestWithParam<std::string> {
 protected:
  PartitionOptions Options(int64_t clients, uint64_t seed = 1) const {
    return {.kind = GetParam(), .clients = clients, .seed = seed};
  }
};

TEST_P(PartitionerContractTest, PartsAreDisjointCompleteNotEmptyAndSorted) {
  const Dataset data = MakeData(1000);
  for (int64_t clients : {1, 2, 7, 10, 20}) {
    ASSERT_OK_AND_ASSIGN(const Parts parts, PartitionData(data, Options(clients)));
    ASSERT_EQ(static_cast<int64_t>(parts.size()), clients);
    std::set<int32_t> seen;
    for (const std::vector<int32_t>& part : parts) {
      EXPECT_FALSE(part.empty());
      EXPECT_TRUE(std::is_sorted(part.begin(), part.end()));
      for (int32_t index : part) EXPECT_TRUE(seen.insert(index).second) << index;
    }
    ASSERT_EQ(seen.size(), 1000u);
    EXPECT_EQ(*seen.begin(), 0);
    EXPECT_EQ(*seen.rbegin(), 999);
  }
}

TEST_P(PartitionerContractTest, SameSeedSamePartsOtherSeedOtherParts) {
  const Dataset data = MakeData(1000);
  ASSERT_OK_AND_ASSIGN(const Parts first, PartitionData(data, Options(7, 1)));
  ASSERT_OK_AND_ASSIGN(const Parts again, PartitionData(data, Options(7, 1)));
  ASSERT_OK_AND_ASSIGN(const Parts other, PartitionData(data, Options(7, 2)));
  EXPECT_EQ(first, again);
  EXPECT_NE(first, other);
}

TEST_P(PartitionerContractTest, CutsASubsetByItsOwnIndices) {
  const Dataset data = MakeData(1000);
  std::vector<int32_t> odd;
  for (int32_t i = 1; i < 1000; i += 2) odd.push_back(i);
  ASSERT_OK_AND_ASSIGN(const Dataset subset, data.Subset(odd));
  ASSERT_OK_AND_ASSIGN(const Parts parts, PartitionData(subset, Options(3)));
  size_t count = 0;
  for (const std::vector<int32_t>& part : parts) {
    count += part.size();
    EXPECT_LT(part.back(), 500);
    EXPECT_THAT(subset.Subset(part), IsOk());
  }
  EXPECT_EQ(count, 500u);
}

TEST_P(PartitionerContractTest, RefusesCountsThatLeaveAPartEmpty) {
  const Dataset data = MakeData(30);
  EXPECT_THAT(PartitionData(data, Options(31)), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("31 clients")));
  EXPECT_THAT(PartitionData(data, Options(-1)), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at least 1")));
  if (GetParam() != "natural") {
    EXPECT_THAT(PartitionData(data, Options(0)), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at least 1")));
  }
  EXPECT_THAT(PartitionData(Dataset(), Options(1)), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("zero examples")));
}

INSTANTIATE_TEST_SUITE_P(All, PartitionerContractTest, ::testing::ValuesIn(Partitioners().Names()),
                         [](const auto& info) { return info.param; });

TEST(PartitionersTest, NamesAndNearest) {
  EXPECT_THAT(Partitioners().Names(), ElementsAre("dirichlet", "iid", "label_shards", "natural"));
  EXPECT_THAT(PartitionData(MakeData(30), {.kind = "dirichle", .clients = 2}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("did you mean 'dirichlet'?")));
}

TEST(IidPartitionerTest, SizesDifferByAtMostOne) {
  ASSERT_OK_AND_ASSIGN(const Parts parts, PartitionData(MakeData(103), {.kind = "iid", .clients = 10}));
  EXPECT_EQ(parts[0].size(), 11u);
  EXPECT_EQ(parts[2].size(), 11u);
  EXPECT_EQ(parts[3].size(), 10u);
  EXPECT_EQ(parts[9].size(), 10u);
  ASSERT_OK_AND_ASSIGN(const Parts single, PartitionData(MakeData(50), {.kind = "iid", .clients = 50}));
  for (const auto& part : single) EXPECT_EQ(part.size(), 1u);
}

// The expected share of the commonest class in a part falls from 1 to 1/10 as alpha grows.
double MeanTopShare(double alpha) {
  const Dataset data = MakeData(5000);
  const Parts parts = *PartitionData(data, {.kind = "dirichlet", .clients = 10, .alpha = alpha, .seed = 3});
  double total = 0;
  for (const auto& part : parts) {
    std::vector<int> counts(10);
    for (int32_t index : part) ++counts[data.label(index)];
    total += static_cast<double>(*std::max_element(counts.begin(), counts.end())) / static_cast<double>(part.size());
  }
  return total / static_cast<double>(parts.size());
}

TEST(DirichletPartitionerTest, AlphaSetsTheSkew) {
  const double skewed = MeanTopShare(0.05), medium = MeanTopShare(0.5), even = MeanTopShare(1e6);
  EXPECT_GT(skewed, 0.6);
  EXPECT_GT(skewed, medium);
  EXPECT_GT(medium, 0.2);
  EXPECT_NEAR(even, 0.1, 0.01);
}

TEST(DirichletPartitionerTest, TinyAlphaAndManyClientsLeaveNobodyEmpty) {
  for (double alpha : {1e-300, 1e-6, 0.01}) {
    ASSERT_OK_AND_ASSIGN(const Parts parts, PartitionData(MakeData(100), {.kind = "dirichlet", .clients = 100, .alpha = alpha}));
    for (const auto& part : parts) EXPECT_EQ(part.size(), 1u);
  }
}

TEST(DirichletPartitionerTest, RefusesBadAlpha) {
  for (double alpha : {0.0, -1.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    EXPECT_THAT(PartitionData(MakeData(100), {.kind = "dirichlet", .clients = 2, .alpha = alpha}),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("partition.alpha")));
  }
}

TEST(LabelShardsPartitionerTest, EachClientHoldsFewClasses) {
  const Dataset data = MakeData(1000);  // 10 classes of 100; 20 shards of 50, so a shard holds one class
  ASSERT_OK_AND_ASSIGN(const Parts parts, PartitionData(data, {.kind = "label_shards", .clients = 10, .shards_per_client = 2}));
  for (const auto& part : parts) {
    EXPECT_EQ(part.size(), 100u);
    std::set<int32_t> classes;
    for (int32_t index : part) classes.insert(data.label(index));
    EXPECT_LE(classes.size(), 2u);
  }
}

TEST(LabelShardsPartitionerTest, RefusesMoreShardsThanExamples) {
  for (int64_t shards : {0, 11, -1}) {
    EXPECT_THAT(PartitionData(MakeData(100), {.kind = "label_shards", .clients = 10, .shards_per_client = shards}),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expected [1, 10]")));
  }
  EXPECT_THAT(PartitionData(MakeData(100), {.kind = "label_shards", .clients = 10, .shards_per_client = 10}), IsOk());
}

TEST(LabelPartitionersTest, RefuseRegression) {
  ExampleStore store;
  store.input_shape = {1};
  store.inputs = std::vector<float>(4, 1.0f);
  store.regression_targets = {1, 2, 3, 4};
  store.output_count = 1;
  ASSERT_OK_AND_ASSIGN(const Dataset data, Dataset::Create(std::move(store)));
  EXPECT_THAT(PartitionData(data, {.kind = "dirichlet", .clients = 2}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("labels")));
  EXPECT_THAT(PartitionData(data, {.kind = "label_shards", .clients = 2}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("labels")));
  EXPECT_THAT(PartitionData(data, {.kind = "natural", .clients = 2}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("groups")));
  EXPECT_THAT(PartitionData(data, {.kind = "iid", .clients = 2}), IsOk());
}

TEST(NaturalPartitionerTest, PartsAreWholeGroups) {
  const Dataset data = MakeData(1000);
  const std::vector<int32_t>& group_of = data.store().natural_groups;
  for (int64_t clients : {0, 20}) {
    ASSERT_OK_AND_ASSIGN(const Parts own, PartitionData(data, {.kind = "natural", .clients = clients}));
    ASSERT_EQ(own.size(), 20u);
    for (size_t i = 0; i < own.size(); ++i) {
      for (int32_t index : own[i]) EXPECT_EQ(group_of[index], static_cast<int32_t>(i));
    }
  }
  ASSERT_OK_AND_ASSIGN(const Parts dealt, PartitionData(data, {.kind = "natural", .clients = 6}));
  std::set<int32_t> seen;
  for (const auto& part : dealt) {
    std::set<int32_t> groups;
    for (int32_t index : part) groups.insert(group_of[index]);
    EXPECT_TRUE(groups.size() == 3 || groups.size() == 4) << groups.size();
    for (int32_t group : groups) EXPECT_TRUE(seen.insert(group).second);
  }
  EXPECT_EQ(seen.size(), 20u);
  EXPECT_THAT(PartitionData(data, {.kind = "natural", .clients = 21}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at most 20")));
}

// Groups of 3, 1 and 2 examples.
Dataset ThreeGroups() {
  ExampleStore store;
  store.input_shape = {1};
  store.inputs = std::vector<uint8_t>(6, 1);
  store.output_count = 2;
  store.labels = {0, 1, 0, 1, 0, 1};
  store.natural_groups = {0, 2, 0, 1, 2, 0};
  return *Dataset::Create(std::move(store));
}

TEST(NaturalPartitionerTest, LeavesOutGroupsWithTooFewExamples) {
  const Dataset data = ThreeGroups();
  const auto cut = [&](int64_t clients, int64_t least) {
    return PartitionData(data, {.kind = "natural", .clients = clients, .min_examples = least});
  };
  ASSERT_OK_AND_ASSIGN(const Parts all, cut(0, 1));
  EXPECT_THAT(all, ElementsAre(ElementsAre(0, 2, 5), ElementsAre(3), ElementsAre(1, 4)));
  for (int64_t clients : {0, 2}) {
    ASSERT_OK_AND_ASSIGN(const Parts two, cut(clients, 2));  // as many as it has is enough
    EXPECT_THAT(two, ElementsAre(ElementsAre(0, 2, 5), ElementsAre(1, 4)));
  }
  ASSERT_OK_AND_ASSIGN(const Parts shared, cut(1, 2));
  EXPECT_THAT(shared, ElementsAre(ElementsAre(0, 1, 2, 4, 5)));
  ASSERT_OK_AND_ASSIGN(const Parts one, cut(0, 3));
  EXPECT_THAT(one, ElementsAre(ElementsAre(0, 2, 5)));
}

TEST(NaturalPartitionerTest, SaysWhenTooFewGroupsAreLeft) {
  const auto cut = [](const char* kind, int64_t clients, int64_t least) {
    return PartitionData(ThreeGroups(), {.kind = kind, .clients = clients, .min_examples = least});
  };
  EXPECT_THAT(cut("natural", 0, 4), StatusIs(absl::StatusCode::kInvalidArgument,
                                             HasSubstr("partition.min_examples: expected at most 3, the examples of the largest natural group, got 4")));
  EXPECT_THAT(cut("natural", 3, 2), StatusIs(absl::StatusCode::kInvalidArgument,
                                             HasSubstr("expected at most 2, the number of natural groups of 2 examples or more, got 3")));
  for (int64_t least : {int64_t{0}, int64_t{-1}, std::numeric_limits<int64_t>::min()}) {
    EXPECT_THAT(cut("natural", 0, least), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("partition.min_examples: expected at least 1")));
  }
  EXPECT_THAT(cut("natural", 0, std::numeric_limits<int64_t>::max()), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at most 3")));
  // Never silently ignored.
  EXPECT_THAT(cut("iid", 2, 2), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("partition.kind 'iid' has none")));
}

}  // namespace
}  // namespace fedwatt

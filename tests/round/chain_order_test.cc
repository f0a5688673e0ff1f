#include "round/chain_order.h"

#include <algorithm>
#include <numeric>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace fedwatt::internal {
namespace {

using ::testing::ElementsAre;

// m = 1/4, rows 2.2 and 0.2, columns 2.2 and 0.2 times that: in quarter octaves rounded down -8, 4 and -10, so half octaves are 0 where a busy row meets a busy
// column, -7 where it meets a quiet one, and -14 where both are quiet.
TEST(ChainOrderTest, SortsPlacesByWhatTheirRowsAndColumnsDid) {
  const ParameterLayout layout = *ParameterLayout::Create({{"w", {2, 4}}});
  const ChainOrder order = OrderByMovement(layout, {1, -1, 0, 0, 0, 0, 0, 0}, 1);
  EXPECT_THAT(order.values, ElementsAre(6, 7, 2, 3, 4, 5, 0, 1));
  EXPECT_THAT(order.counts, ElementsAre(2, 4, 2));
}

// Distances of 1/2, 1, 3/2 and 2 steps are 0, 1, 1 and 2 classes away from the start.
TEST(ChainOrderTest, SortsPlacesByHowFarTheyAre) {
  const ParameterLayout layout = *ParameterLayout::Create({{"b", {4}}});
  const ChainOrder order = OrderByMovement(layout, {0.25f, 1, -0.75f, 0.5f}, 0.5);
  EXPECT_THAT(order.values, ElementsAre(0, 2, 3, 1));
  EXPECT_THAT(order.counts, ElementsAre(1, 2, 1));
}

TEST(ChainOrderTest, KeepsTheLayoutsOrderBeforeTheFirstIncrement) {
  const ParameterLayout layout = *ParameterLayout::Create({{"a", {2, 2}}, {"mean", {3}, EntryKind::kAveragedBuffer}, {"b", {2}}});
  for (const std::vector<float>& moved : {std::vector<float>(), std::vector<float>(9)}) {
    const ChainOrder order = OrderByMovement(layout, moved, 0.1);
    EXPECT_THAT(order.values, ElementsAre(0, 1, 2, 3, 7, 8));
    EXPECT_THAT(order.counts, ElementsAre(4, 2));
  }
}

TEST(ChainOrderTest, HoldsEveryParameterOnceAndNoBuffer) {
  const ParameterLayout layout = *ParameterLayout::Create({{"a", {3, 5}}, {"mean", {3}, EntryKind::kAveragedBuffer}, {"b", {7}}, {"c", {2, 2, 2}}});
  std::vector<float> moved(static_cast<size_t>(layout.value_count()));
  for (size_t i = 0; i < moved.size(); ++i) moved[i] = static_cast<float>((i * i * 7 + 3) % 11) * (i % 3 == 0 ? -1e30f : i % 3 == 1 ? 1e-30f : 0.0f);
  ChainOrder order = OrderByMovement(layout, moved, 0.01);
  EXPECT_EQ(std::accumulate(order.counts.begin(), order.counts.end(), int64_t{0}), 30);
  std::sort(order.values.begin(), order.values.end());
  std::vector<uint32_t> all(15);
  std::iota(all.begin(), all.end(), 0u);
  for (uint32_t i = 18; i < 33; ++i) all.push_back(i);
  EXPECT_EQ(order.values, all);
}

}  // namespace
}  // namespace fedwatt::internal

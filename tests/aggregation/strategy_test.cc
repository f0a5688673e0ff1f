#include "fedwatt/aggregation/server_optimizer.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(StrategyTest, NamesAreThePapers) {
  EXPECT_THAT(StrategyNames(), ElementsAre("fedadagrad", "fedadam", "fedavg", "fedavgm", "fedyogi"));
}

TEST(StrategyTest, EachNamesRegisteredParts) {
  for (const std::string& name : StrategyNames()) {
    ASSERT_OK_AND_ASSIGN(Strategy strategy, FindStrategy(name));
    EXPECT_THAT(Accumulators().Find(strategy.accumulator), IsOk()) << name;
    EXPECT_THAT(ServerOptimizers().Find(strategy.optimizer), IsOk()) << name;
  }
  EXPECT_EQ(FindStrategy("fedavg")->optimizer, "sgd");
  EXPECT_EQ(FindStrategy("fedavgm")->optimizer, "momentum");
  EXPECT_EQ(FindStrategy("fedyogi")->optimizer, "yogi");
}

TEST(StrategyTest, SuggestsTheNearest) {
  EXPECT_THAT(FindStrategy("fedavrg"), StatusIs(absl::StatusCode::kNotFound, HasSubstr("did you mean 'fedavg'?")));
  EXPECT_THAT(FindStrategy(""), StatusIs(absl::StatusCode::kNotFound, HasSubstr("known: ")));
}

}  // namespace
}  // namespace fedwatt

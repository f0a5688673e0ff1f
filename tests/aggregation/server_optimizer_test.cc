// Two steps of each optimizer, by hand.
#include "fedwatt/aggregation/server_optimizer.h"

#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::testing::ElementsAre;

// One coordinate from 0 under the deltas 1 and -0.5. tau = 1, so that v starts at 1; beta1 = 0.5, beta2 = 0.75.
std::vector<float> TwoSteps(const std::string& name, double server_learning_rate) {
  ServerOptimizerOptions options;
  options.layout = *ParameterLayout::Create({{"w", {1}}});
  options.server_learning_rate = server_learning_rate;
  options.momentum = 0.5;
  options.beta1 = 0.5;
  options.beta2 = 0.75;
  options.tau = 1;
  const auto optimizer = *(*ServerOptimizers().Find(name))(options);
  std::vector<float> path, global = {0};
  for (float value : {1.0f, -0.5f}) {
    MeanDelta delta;
    delta.values = {value};
    EXPECT_THAT(optimizer->Step(absl::MakeSpan(global), delta), IsOk());
    path.push_back(global[0]);
  }
  return path;
}

TEST(ServerOptimizerTest, Sgd) { EXPECT_THAT(TwoSteps("sgd", 0.5), ElementsAre(0.5f, 0.25f)); }

// m = 1, then 0.5 * 1 - 0.5 = 0.
TEST(ServerOptimizerTest, Momentum) { EXPECT_THAT(TwoSteps("momentum", 0.5), ElementsAre(0.5f, 0.5f)); }

// m = 0.5, v = 0.75 + 0.25 = 1: x = 0.5 / (1 + 1) = 0.25.
// m = 0.25 - 0.25 = 0: x stays.
TEST(ServerOptimizerTest, Adam) { EXPECT_THAT(TwoSteps("adam", 1), ElementsAre(0.25f, 0.25f)); }

// m = 0.5, v = 1 + 1 = 2: x = 0.5 / (1.41421356 + 1) = 0.20710678. Then m = 0: x stays.
TEST(ServerOptimizerTest, Adagrad) {
  const std::vector<float> path = TwoSteps("adagrad", 1);
  EXPECT_FLOAT_EQ(path[0], 0.20710678f);
  EXPECT_EQ(path[1], path[0]);
}

// v = 1 and d^2 = 1: sign 0, v stays 1, m = 0.5: x = 0.25. Then m = 0: x stays.
TEST(ServerOptimizerTest, Yogi) { EXPECT_THAT(TwoSteps("yogi", 1), ElementsAre(0.25f, 0.25f)); }

// beta1 = 0 shows the second moments: m = d.
std::vector<float> WithoutFirstMoment(const std::string& name) {
  ServerOptimizerOptions options;
  options.layout = *ParameterLayout::Create({{"w", {1}}});
  options.server_learning_rate = 1;
  options.beta1 = 0;
  options.beta2 = 0.75;
  options.tau = 1;
  const auto optimizer = *(*ServerOptimizers().Find(name))(options);
  std::vector<float> path, global = {0};
  for (float value : {2.0f, -0.5f}) {
    MeanDelta delta;
    delta.values = {value};
    EXPECT_THAT(optimizer->Step(absl::MakeSpan(global), delta), IsOk());
    path.push_back(global[0]);
  }
  return path;
}

// v = 0.75 + 0.25 * 4 = 1.75: x = 2 / (sqrt(1.75) + 1) = 0.86099986;
// v = 0.75 * 1.75 + 0.25 * 0.25 = 1.375: x -= 0.5 / (sqrt(1.375) + 1) = 0.23013947.
TEST(ServerOptimizerTest, AdamSecondMoment) {
  const std::vector<float> path = WithoutFirstMoment("adam");
  EXPECT_NEAR(path[0], 2 / 2.3228756555, 1e-7);
  EXPECT_NEAR(path[1], 2 / 2.3228756555 - 0.5 / 2.1726039400, 1e-7);
}

// v = 1 + 4 = 5, then 5.25.
TEST(ServerOptimizerTest, AdagradSecondMoment) {
  const std::vector<float> path = WithoutFirstMoment("adagrad");
  EXPECT_NEAR(path[0], 2 / 3.2360679775, 1e-7);
  EXPECT_NEAR(path[1], 2 / 3.2360679775 - 0.5 / 3.2912878475, 1e-7);
}

// v = 1 < 4: v = 1 + 0.25 * 4 = 2. v = 2 > 0.25: v = 2 - 0.25 * 0.25 = 1.9375.
TEST(ServerOptimizerTest, YogiSecondMomentMovesTowardsTheSquare) {
  const std::vector<float> path = WithoutFirstMoment("yogi");
  EXPECT_NEAR(path[0], 2 / 2.4142135624, 1e-7);
  EXPECT_NEAR(path[1], 2 / 2.4142135624 - 0.5 / 2.3919410907, 1e-7);
}

TEST(ServerOptimizerTest, ZeroTakesTheDefaultLearningRate) {
  for (const auto& [name, expected] : {std::pair("sgd", 1.0), std::pair("momentum", 1.0), std::pair("adam", 0.01), std::pair("adagrad", 0.01),
                                       std::pair("yogi", 0.01)}) {
    EXPECT_EQ(TwoSteps(name, 0), TwoSteps(name, expected)) << name;
  }
}

}  // namespace
}  // namespace fedwatt

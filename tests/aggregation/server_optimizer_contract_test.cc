// What every registered server optimizer promises.
#include <cmath>

#include "fedwatt/aggregation/server_optimizer.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::_;
using ::testing::HasSubstr;

class ServerOptimizerContractTest : public ::testing::TestWithParam<std::string> {
 protected:
  // Coordinates 0-3 and 6-7 are parameters, 4-5 a buffer.
  static ServerOptimizerOptions Options() {
    ServerOptimizerOptions options;
    options.layout = *ParameterLayout::Create(
        {{"w", {2, 2}}, {"mean", {2}, EntryKind::kAveragedBuffer}, {"count", {}, EntryKind::kLocal, Dtype::kInt64}, {"b", {2}}});
    return options;
  }
  static std::unique_ptr<ServerOptimizer> Make(const ServerOptimizerOptions& options = Options()) {
    return *(*ServerOptimizers().Find(GetParam()))(options);
  }
  static MeanDelta Delta(int step) {
    MeanDelta delta;
    for (int i = 0; i < 8; ++i) delta.values.push_back(0.01f * static_cast<float>((i * 7 + step * 3) % 11 - 5));
    return delta;
  }
  static std::vector<float> Global() { return {1, -1, 0.5f, 0, 10, 20, 2, -2}; }
};

TEST_P(ServerOptimizerContractTest, MovesParametersAlongTheDelta) {
  std::vector<float> global = Global();
  MeanDelta delta = Delta(0);
  delta.values = {0.5f, -0.5f, 1e-3f, 0, 0, 0, -1e-3f, 2};
  ASSERT_THAT(Make()->Step(absl::MakeSpan(global), delta), IsOk());
  for (int i : {0, 1, 2, 3, 6, 7}) EXPECT_EQ(std::signbit(global[i] - Global()[i]), std::signbit(delta.values[i])) << i;
  EXPECT_EQ(global[3], 0);
}

TEST_P(ServerOptimizerContractTest, BuffersMoveByExactlyTheirDeltaWhateverTheLearningRate) {
  ServerOptimizerOptions options = Options();
  options.server_learning_rate = 0.125;
  const auto optimizer = Make(options);
  std::vector<float> global = Global();
  float first = 10, second = 20;
  for (int step = 0; step < 3; ++step) {
    const MeanDelta delta = Delta(step);
    ASSERT_THAT(optimizer->Step(absl::MakeSpan(global), delta), IsOk());
    first += delta.values[4];
    second += delta.values[5];
    EXPECT_EQ(global[4], first);
    EXPECT_EQ(global[5], second);
  }
}

TEST_P(ServerOptimizerContractTest, MomentsFollowTheirValuesIntoAnotherModel) {
  const auto reshaped = Make(), whole = Make();
  std::vector<float> all = Global();
  for (int step = 0; step < 3; ++step) {
    std::vector<float> twin = all;
    ASSERT_THAT(whole->Step(absl::MakeSpan(all), Delta(step)), IsOk());
    ASSERT_THAT(reshaped->Step(absl::MakeSpan(twin), Delta(step)), IsOk());
  }
  // What were values 7, 2 and 0 goes on; the third is new.
  const std::vector<int64_t> from{7, 2, -1, 0};
  const ParameterLayout layout = *ParameterLayout::Create({{"v", {4}}});
  reshaped->Reshape(layout, from);
  const auto fresh = Make();
  std::vector<float> some, anew = Global();
  MeanDelta part, every = Delta(3);
  for (int64_t i : from) {
    some.push_back(i < 0 ? Global()[3] : all[i]);
    part.values.push_back(every.values[i < 0 ? 3 : i]);
  }
  ASSERT_THAT(reshaped->Step(absl::MakeSpan(some), part), IsOk());
  ASSERT_THAT(whole->Step(absl::MakeSpan(all), every), IsOk());
  ASSERT_THAT(fresh->Step(absl::MakeSpan(anew), every), IsOk());
  EXPECT_EQ(some, (std::vector<float>{all[7], all[2], anew[3], all[0]}));
  // Its state is that of the new layout.
  ServerOptimizerOptions options = Options();
  options.layout = layout;
  const auto restored = Make(options);
  ASSERT_THAT(restored->Restore(reshaped->Save()), IsOk());
  std::vector<float> twin = some;
  ASSERT_THAT(reshaped->Step(absl::MakeSpan(some), part), IsOk());
  ASSERT_THAT(restored->Step(absl::MakeSpan(twin), part), IsOk());
  EXPECT_EQ(some, twin);
}

TEST_P(ServerOptimizerContractTest, UncoveredCoordinatesAndTheirMomentsStandStill) {
  const auto optimizer = Make(), reference = Make();
  std::vector<float> global = Global(), expected = Global();
  // A first step gives every coordinate momentum.
  ASSERT_THAT(optimizer->Step(absl::MakeSpan(global), Delta(0)), IsOk());
  ASSERT_THAT(reference->Step(absl::MakeSpan(expected), Delta(0)), IsOk());
  // Nobody covers the middle: the end of an entry, the buffer and the start of the next entry.
  MeanDelta partial = Delta(1);
  partial.uncovered = {{0, 1}, {3, 7}};
  const std::vector<float> before = global;
  ASSERT_THAT(optimizer->Step(absl::MakeSpan(global), partial), IsOk());
  for (int i : {0, 3, 4, 5, 6}) EXPECT_EQ(global[i], before[i]) << i;
  for (int i : {1, 2, 7}) EXPECT_NE(global[i], before[i]) << i;
  // Afterwards they go on as if that round had not been.
  ASSERT_THAT(optimizer->Step(absl::MakeSpan(global), Delta(2)), IsOk());
  ASSERT_THAT(reference->Step(absl::MakeSpan(expected), Delta(2)), IsOk());
  for (int i : {0, 3, 4, 5, 6}) EXPECT_EQ(global[i], expected[i]) << i;
}

TEST_P(ServerOptimizerContractTest, NothingMovesWhenNobodyCoveredAnything) {
  const auto optimizer = Make();
  std::vector<float> global = Global();
  MeanDelta delta = Delta(0);
  delta.uncovered = {{0, 8}};
  const std::string before = optimizer->Save();
  ASSERT_THAT(optimizer->Step(absl::MakeSpan(global), delta), IsOk());
  EXPECT_EQ(global, Global());
  EXPECT_EQ(optimizer->Save(), before);
}

TEST_P(ServerOptimizerContractTest, SaveAndRestoreContinuesBitForBit) {
  const auto whole = Make();
  std::vector<float> expected = Global();
  for (int step = 0; step < 6; ++step) ASSERT_THAT(whole->Step(absl::MakeSpan(expected), Delta(step)), IsOk());

  std::vector<float> global = Global();
  auto optimizer = Make();
  for (int step = 0; step < 6; ++step) {
    auto restarted = Make();
    std::vector<float> scratch = Global();
    ASSERT_THAT(restarted->Step(absl::MakeSpan(scratch), Delta(9)), IsOk());  // Restore replaces what is there
    ASSERT_THAT(restarted->Restore(optimizer->Save()), IsOk());
    optimizer = std::move(restarted);
    ASSERT_THAT(optimizer->Step(absl::MakeSpan(global), Delta(step)), IsOk());
  }
  EXPECT_EQ(global, expected);
  EXPECT_EQ(optimizer->Save(), whole->Save());
}

TEST_P(ServerOptimizerContractTest, RestoreRefusesDamageAndStrangers) {
  const auto optimizer = Make();
  std::vector<float> global = Global();
  ASSERT_THAT(optimizer->Step(absl::MakeSpan(global), Delta(0)), IsOk());
  std::string saved = optimizer->Save();
  for (size_t size = 0; size < saved.size(); ++size) {
    EXPECT_THAT(optimizer->Restore(saved.substr(0, size)), StatusIs(absl::StatusCode::kDataLoss, _)) << size;
  }
  for (size_t i = 0; i < saved.size(); ++i) {
    saved[i] ^= 1;
    EXPECT_THAT(optimizer->Restore(saved), StatusIs(absl::StatusCode::kDataLoss, _)) << i;
    saved[i] ^= 1;
  }
  EXPECT_EQ(optimizer->Save(), saved);
  ServerOptimizerOptions options = Options();
  options.layout = *ParameterLayout::Create({{"v", {8}}});
  EXPECT_THAT(Make(options)->Restore(saved), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("layout")));
  for (const std::string& other : ServerOptimizers().Names()) {
    if (other == GetParam()) continue;
    const auto stranger = *(*ServerOptimizers().Find(other))(Options());
    EXPECT_THAT(optimizer->Restore(stranger->Save()), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(other)));
  }
}

TEST_P(ServerOptimizerContractTest, RefusesBadDeltasAndMovesNothing) {
  const auto optimizer = Make();
  const std::string before = optimizer->Save();
  std::vector<float> global = Global();
  std::vector<MeanDelta> bad(6, Delta(0));
  bad[0].values.pop_back();
  bad[1].values[7] = NAN;
  bad[2].values[4] = INFINITY;
  bad[3].uncovered = {{2, 2}};
  bad[4].uncovered = {{0, 9}};
  bad[5].uncovered = {{3, 5}, {4, 6}};
  for (const MeanDelta& delta : bad) {
    EXPECT_THAT(optimizer->Step(absl::MakeSpan(global), delta), StatusIs(absl::StatusCode::kInvalidArgument, _));
  }
  std::vector<float> shorter(7);
  EXPECT_THAT(optimizer->Step(absl::MakeSpan(shorter), Delta(0)), StatusIs(absl::StatusCode::kInvalidArgument, _));
  EXPECT_EQ(global, Global());
  EXPECT_EQ(optimizer->Save(), before);
}

TEST_P(ServerOptimizerContractTest, FactoryRefusesBadOptions) {
  const ServerOptimizerFactory factory = *ServerOptimizers().Find(GetParam());
  const double nan = NAN, infinity = INFINITY;
  const std::vector<std::pair<double ServerOptimizerOptions::*, std::vector<double>>> bad = {
      {&ServerOptimizerOptions::server_learning_rate, {nan, infinity, -1e-9}},
      {&ServerOptimizerOptions::momentum, {nan, infinity, -0.1, 1}},
      {&ServerOptimizerOptions::beta1, {nan, infinity, -0.1, 1}},
      {&ServerOptimizerOptions::beta2, {nan, infinity, -0.1, 1}},
      {&ServerOptimizerOptions::tau, {nan, infinity, 0, -1, 1e20}},
  };
  for (const auto& [field, values] : bad) {
    for (double value : values) {
      ServerOptimizerOptions options = Options();
      options.*field = value;
      EXPECT_THAT(factory(options), StatusIs(absl::StatusCode::kInvalidArgument, _)) << value;
    }
  }
  ServerOptimizerOptions options = Options();
  options.layout = ParameterLayout();
  EXPECT_THAT(factory(options), StatusIs(absl::StatusCode::kInvalidArgument, _));
}

INSTANTIATE_TEST_SUITE_P(Registered, ServerOptimizerContractTest, ::testing::ValuesIn(ServerOptimizers().Names()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace fedwatt

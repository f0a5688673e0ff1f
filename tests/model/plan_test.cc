#include "fedwatt/model/plan.h"

#include <cmath>
#include <functional>
#include <limits>
#include <set>

#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::HasSubstr;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

Plan GoodPlan() {
  Plan plan;
  plan.architecture.name = "mlp_2nn";
  plan.architecture.input_shape = {1, 28, 28};
  plan.architecture.output_count = 10;
  return plan;
}

TEST(ValidatePlanTest, AcceptsDefaultsAndBothEndsOfRanges) {
  EXPECT_THAT(ValidatePlan(GoodPlan()), IsOk());
  Plan plan = GoodPlan();
  plan.recipe.local_epochs = 10000;
  plan.recipe.batch_size = 1'000'000;
  plan.recipe.momentum = std::nextafter(1.0, 0.0);
  plan.recipe.client_learning_rate = std::numeric_limits<double>::min();
  plan.fit.width_fraction = 1e-9;
  plan.uplink_codec = std::string(1024, 'c');
  plan.limits.max_example_count = 1;
  plan.limits.max_update_bytes = 1;
  EXPECT_THAT(ValidatePlan(plan), IsOk());
}

TEST(ValidatePlanTest, IgnoresEpochsWhereStepsAreGiven) {
  Plan plan = GoodPlan();
  plan.recipe.local_epochs = 0;
  EXPECT_THAT(ValidatePlan(plan), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("local_epochs = 0, expected [1, 10000]")));
  plan.recipe.local_steps = 5;
  EXPECT_THAT(ValidatePlan(plan), IsOk());
}

struct RealField {
  const char* name;
  std::function<double&(Plan&)> at;
  std::vector<double> bad;
};

TEST(ValidatePlanTest, RefusesEveryRealFieldOutsideItsRange) {
  const std::vector<RealField> fields = {
      {"client_learning_rate", [](Plan& p) -> double& { return p.recipe.client_learning_rate; }, {kNan, kInf, -kInf, 0, -1}},
      {"momentum", [](Plan& p) -> double& { return p.recipe.momentum; }, {kNan, kInf, -0.1, 1}},
      {"weight_decay", [](Plan& p) -> double& { return p.recipe.weight_decay; }, {kNan, kInf, -1e-9}},
      {"proximal_mu", [](Plan& p) -> double& { return p.recipe.proximal_mu; }, {kNan, kInf, -1e-9}},
      {"width_fraction", [](Plan& p) -> double& { return p.fit.width_fraction; }, {kNan, kInf, 0, -1, 1.0001}},
      {"max_abs", [](Plan& p) -> double& { return p.limits.max_abs; }, {kNan, kInf, 0, -1}},
      {"max_norm", [](Plan& p) -> double& { return p.limits.max_norm; }, {kNan, kInf, -1}},
      {"clip_norm", [](Plan& p) -> double& { return p.clip_norm; }, {kNan, kInf, -1}},
  };
  for (const RealField& field : fields) {
    for (double bad : field.bad) {
      Plan plan = GoodPlan();
      field.at(plan) = bad;
      EXPECT_THAT(ValidatePlan(plan), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(field.name))) << bad;
    }
  }
}

TEST(ValidatePlanTest, RefusesEveryOtherFieldOutsideItsRange) {
  const std::vector<std::pair<const char*, std::function<void(Plan&)>>> spoilers = {
      {"architecture.name", [](Plan& p) { p.architecture.name = ""; }},
      {"input_shape", [](Plan& p) { p.architecture.input_shape = {}; }},
      {"input_shape", [](Plan& p) { p.architecture.input_shape = {1, 0}; }},
      {"input_shape", [](Plan& p) { p.architecture.input_shape = {-1}; }},
      {"input_shape", [](Plan& p) { p.architecture.input_shape = {INT64_MAX, INT64_MAX}; }},
      {"input_shape", [](Plan& p) { p.architecture.input_shape = std::vector<int64_t>(9, 1); }},
      {"output_count", [](Plan& p) { p.architecture.output_count = 0; }},
      {"architecture.kept", [](Plan& p) { p.architecture.kept = {{"fc1", {}}}; }},
      {"architecture.kept", [](Plan& p) { p.architecture.kept = {{"fc1", {{2, 2}}}}; }},
      {"architecture.kept", [](Plan& p) { p.architecture.kept = {{"fc1", {{-1, 2}}}}; }},
      {"architecture.kept", [](Plan& p) { p.architecture.kept = {{"fc1", {{0, 2}, {2, 3}}}}; }},
      {"local_epochs", [](Plan& p) { p.recipe.local_epochs = 10001; }},
      {"local_steps", [](Plan& p) { p.recipe.local_steps = -1; }},
      {"batch_size", [](Plan& p) { p.recipe.batch_size = 0; }},
      {"batch_size", [](Plan& p) { p.recipe.batch_size = 1'000'001; }},
      {"threads", [](Plan& p) { p.recipe.threads = 0; }},
      {"threads", [](Plan& p) { p.recipe.threads = 1025; }},
      {"loss", [](Plan& p) { p.recipe.loss = ""; }},
      {"number_format", [](Plan& p) { p.fit.number_format = ""; }},
      {"number_format", [](Plan& p) { p.fit.number_format = "float64"; }},
      {"architecture.quantization", [](Plan& p) { p.architecture.quantization = "int4"; }},
      {"uplink_codec", [](Plan& p) { p.uplink_codec = ""; }},
      {"downlink_codec", [](Plan& p) { p.downlink_codec = std::string(1025, 'c'); }},
      {"max_example_count", [](Plan& p) { p.limits.max_example_count = 0; }},
      {"max_update_bytes", [](Plan& p) { p.limits.max_update_bytes = -5; }},
  };
  for (const auto& [name, spoil] : spoilers) {
    Plan plan = GoodPlan();
    spoil(plan);
    EXPECT_THAT(ValidatePlan(plan), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(name)));
  }
}

TEST(SeedTest, ValuesArePinned) {
  EXPECT_EQ(TrainingSeed(7, 1, 3), 0x8801a53c8abe22c2u);
  EXPECT_EQ(EncodingSeed(7, 1, 3), 0x4555a433ee9409f6u);
  EXPECT_EQ(InitialModelSeed(7), 0xcd35aeb50693fd6eu);
}

TEST(SeedTest, StreamsDoNotMeet) {
  std::set<uint64_t> seeds;
  for (uint64_t run : {0, 1}) {
    seeds.insert(InitialModelSeed(run));
    for (int64_t round = 0; round < 10; ++round) {
      for (int64_t partition = 0; partition < 10; ++partition) {
        seeds.insert(TrainingSeed(run, round, partition));
        seeds.insert(EncodingSeed(run, round, partition));
      }
    }
  }
  EXPECT_EQ(seeds.size(), 2u * (1 + 200));
}

}  // namespace
}  // namespace fedwatt

#include "fedwatt/rpc/held_plan.h"

#include "fedwatt/rpc/conversion.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::HasSubstr;

v1::Plan SomePlan() {
  Plan plan;
  plan.run_id = "run-1";
  plan.architecture = {"mlp_2nn", {1, 28, 28}, 10, {{"hidden", "200"}, {"activation", "relu"}}, {}};
  plan.uplink_codec = "ef,dithered:multiple=2.5";
  plan.recipe.client_learning_rate = 0.05;
  return ToProto(plan);
}

// Every field that PlanChanges can't say must change the id; those that it can say must not.
TEST(HeldPlanTest, TheIdNamesWhatChangesCannotSay) {
  const v1::Plan plan = SomePlan();
  const std::string id = PlanId(plan);
  EXPECT_EQ(id.size(), 8u);
  v1::Plan other = plan;
  other.set_uplink_codec("int8");
  other.mutable_recipe()->set_client_learning_rate(0.01);
  EXPECT_EQ(PlanId(other), id);
  const std::vector<std::function<void(v1::Plan&)>> changes = {
      [](v1::Plan& p) { p.set_run_id("run-2"); },
      [](v1::Plan& p) { p.mutable_architecture()->set_output_count(11); },
      [](v1::Plan& p) { (*p.mutable_architecture()->mutable_options())["hidden"] = "100"; },
      [](v1::Plan& p) { p.set_layout_digest(std::string(32, 'x')); },
      [](v1::Plan& p) { p.mutable_recipe()->set_local_epochs(7); },
      [](v1::Plan& p) { p.mutable_recipe()->set_proximal_mu(0.5); },
      [](v1::Plan& p) { p.mutable_fit()->set_width_fraction(0.5); },
      [](v1::Plan& p) { p.set_downlink_codec("int8"); },
      [](v1::Plan& p) { p.mutable_limits()->set_max_abs(3); },
      [](v1::Plan& p) { p.set_clip_norm(3); },
      [](v1::Plan& p) { p.set_seed(3); },
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    other = plan;
    changes[i](other);
    EXPECT_NE(PlanId(other), id) << i;
  }
}

TEST(HeldPlanTest, APlanIsSaidOnceAndThenItsChanges) {
  HeldPlan held;
  EXPECT_EQ(held.id(), "");
  v1::Plan plan = SomePlan();
  v1::TrainAssignment first, second, third;
  SayPlan(plan, held.id(), &first);
  EXPECT_TRUE(first.has_plan());
  EXPECT_FALSE(first.has_plan_changes());
  ASSERT_OK_AND_ASSIGN(v1::Plan heard, held.Hear(first));
  EXPECT_EQ(heard.DebugString(), plan.DebugString());

  plan.set_uplink_codec("ef,dithered:multiple=3.5");
  plan.mutable_recipe()->set_client_learning_rate(0.025);
  SayPlan(plan, held.id(), &second);
  EXPECT_FALSE(second.has_plan());
  EXPECT_EQ(second.plan_id(), "");
  EXPECT_LE(second.ByteSizeLong(), 40);
  ASSERT_OK_AND_ASSIGN(heard, held.Hear(second));
  EXPECT_EQ(heard.DebugString(), plan.DebugString());

  plan.mutable_fit()->set_width_fraction(0.5);
  SayPlan(plan, held.id(), &third);
  EXPECT_TRUE(third.has_plan());
  ASSERT_OK_AND_ASSIGN(heard, held.Hear(third));
  EXPECT_EQ(heard.DebugString(), plan.DebugString());
  EXPECT_EQ(held.id(), PlanId(plan));
}

TEST(HeldPlanTest, RefusesWhatNamesNoPlan) {
  HeldPlan held;
  v1::TrainAssignment assignment;
  EXPECT_THAT(held.Hear(assignment), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("plan: missing")));
  assignment.mutable_plan_changes()->set_uplink_codec("int8");
  EXPECT_THAT(held.Hear(assignment), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("none is held")));
  SayPlan(SomePlan(), "", &assignment);
  assignment.set_plan_id(std::string(33, 'x'));
  EXPECT_THAT(held.Hear(assignment), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("32")));
  EXPECT_EQ(held.id(), "");
  // A coordinator that knows no ids sends the plan each time.
  assignment.clear_plan_id();
  EXPECT_THAT(held.Hear(assignment), IsOk());
  EXPECT_EQ(held.id(), "");
}

}  // namespace
}  // namespace fedwatt

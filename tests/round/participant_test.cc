#include "fedwatt/round/participant.h"

#include <algorithm>
#include <cmath>

#include "fedwatt/compression/pipeline.h"

#include <limits>
#include <set>

#include "fedwatt/compression/codec.h"
#include "fedwatt/model/container.h"
#include "fedwatt/round/global_model.h"
#include "tests/testing/logistic_trainer.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::LogisticTrainer;
using ::fedwatt::testing::MakeBlobs;
using ::fedwatt::testing::StatusIs;
using ::testing::HasSubstr;

struct World {
  LogisticTrainer trainer{4, 3};
  Dataset data = MakeBlobs(30, 4, 3, 1);
  DecodedModel model{trainer.layout(), *trainer.InitialModel(5)};
  Plan plan;
  ParticipantScratch scratch;
  World() {
    plan.run_id = "run";
    plan.architecture = {.name = "logistic", .input_shape = {4}, .output_count = 3};
    plan.layout_digest = trainer.layout().digest();
    plan.recipe.batch_size = 5;
  }
  absl::StatusOr<AttemptResult> Run(TrainingControl control = {}) {
    return RunAttempt(plan, 1, 0, model, data, trainer, control, nullptr, nullptr, scratch);
  }
};

TEST(ParticipantTest, SendsWhatItLearned) {
  World world;
  ASSERT_OK_AND_ASSIGN(AttemptResult result, world.Run());
  EXPECT_EQ(result.example_count, 30);
  EXPECT_EQ(result.steps_done, 6);
  EXPECT_TRUE(result.completed);

  std::vector<float> local(world.model.values.size());
  ASSERT_TRUE(world.trainer.Train(world.model.values, world.data, world.plan.recipe, TrainingSeed(world.plan.seed, 1, 0), {}, absl::MakeSpan(local)).ok());
  ASSERT_OK_AND_ASSIGN(ContainerView view, ParseContainer(result.update, 1 << 20));
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Codec> codec, MakeCodec("float32"));
  std::vector<float> delta(local.size());
  ASSERT_TRUE(codec->Decode(view.payload, CodingContext{}, absl::MakeSpan(delta)).ok());
  for (size_t i = 0; i < delta.size(); ++i) EXPECT_EQ(delta[i], local[i] - world.model.values[i]);
}

TEST(ParticipantTest, SameSeedSameBytesOtherRoundOtherBytes) {
  World world;
  world.plan.uplink_codec = "int8";
  ASSERT_OK_AND_ASSIGN(AttemptResult a, world.Run());
  ASSERT_OK_AND_ASSIGN(AttemptResult b, world.Run());
  EXPECT_EQ(a.update, b.update);
  ASSERT_OK_AND_ASSIGN(AttemptResult other, RunAttempt(world.plan, 2, 0, world.model, world.data, world.trainer, {}, nullptr, nullptr, world.scratch));
  EXPECT_NE(a.update, other.update);
}

TEST(ParticipantTest, ClipsBeforeItEncodes) {
  World world;
  world.plan.clip_norm = 0.01;
  ASSERT_OK_AND_ASSIGN(AttemptResult result, world.Run());
  ASSERT_OK_AND_ASSIGN(ContainerView view, ParseContainer(result.update, 1 << 20));
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Codec> codec, MakeCodec("float32"));
  std::vector<float> delta(world.model.values.size());
  ASSERT_TRUE(codec->Decode(view.payload, CodingContext{}, absl::MakeSpan(delta)).ok());
  double square = 0;
  for (float value : delta) square += static_cast<double>(value) * value;
  EXPECT_NEAR(std::sqrt(square), 0.01, 1e-6);
}

TEST(ParticipantTest, RefusesAModelOfAnotherLayout) {
  World world;
  world.plan.layout_digest = LogisticTrainer(5, 3).layout().digest();
  EXPECT_THAT(world.Run(), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("layout")));
}

TEST(ParticipantTest, StoppedBeforeTheFirstStepSendsNothing) {
  World world;
  std::stop_source source;
  source.request_stop();
  EXPECT_THAT(world.Run(TrainingControl{.stop = source.get_token()}), StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("first step")));
}

TEST(ParticipantTest, PartialWorkIsSentAndSaidToBePartial) {
  World world;
  std::stop_source source;
  TrainingControl control{.stop = source.get_token(), .progress = [&](const TrainingProgress& p) { if (p.steps_done == 2) source.request_stop(); }};
  ASSERT_OK_AND_ASSIGN(AttemptResult result, world.Run(control));
  EXPECT_FALSE(result.completed);
  EXPECT_EQ(result.steps_done, 2);
}

TEST(DecodeModelTest, GivesBackWhatWasPublishedAndRefusesTheRest) {
  World world;
  GlobalModelOptions options{.plan = world.plan, .layout = world.trainer.layout()};
  ASSERT_OK_AND_ASSIGN(GlobalModel global, GlobalModel::Create(options, world.model.values));
  ASSERT_OK_AND_ASSIGN(DecodedModel decoded, DecodeModel(*global.blob(), 1 << 20));
  EXPECT_EQ(decoded.values, *global.published());
  EXPECT_EQ(decoded.layout, world.trainer.layout());
  EXPECT_THAT(DecodeModel(*global.blob(), 16), StatusIs(absl::StatusCode::kResourceExhausted, ::testing::_));
  for (size_t cut = 0; cut < global.blob()->size(); ++cut) EXPECT_FALSE(DecodeModel(global.blob()->substr(0, cut), 1 << 20).ok());
  ASSERT_OK_AND_ASSIGN(AttemptResult update, world.Run());
  EXPECT_THAT(DecodeModel(update.update, 1 << 20), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("update")));
}

TEST(DecodeModelTest, RefusesAHugeLayoutInAFewBytes) {
  ASSERT_OK_AND_ASSIGN(ParameterLayout layout, ParameterLayout::Create({{"w", {1 << 15, 1 << 15}, EntryKind::kParameter, Dtype::kFloat32}}));
  ContainerHeader header{.kind = ContainerKind::kModel, .codec = "float32", .layout_digest = layout.digest(), .layout = layout};
  EXPECT_THAT(DecodeModel(WriteContainer(header, "tiny"), 1 << 20), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("claimed")));
}

TEST(HeldOutTest, SplitsWithoutLossAndTheSameEveryTime) {
  const Dataset data = MakeBlobs(50, 4, 3, 1);
  ASSERT_OK_AND_ASSIGN(HeldOutSplit split, SplitHeldOut(data, 0.2, 1, 3));
  ASSERT_TRUE(split.held_out.has_value());
  EXPECT_EQ(split.held_out->size(), 10);
  std::set<int32_t> all(split.train.indices().begin(), split.train.indices().end());
  all.insert(split.held_out->indices().begin(), split.held_out->indices().end());
  EXPECT_EQ(all.size(), 50u);
  ASSERT_OK_AND_ASSIGN(HeldOutSplit again, SplitHeldOut(data, 0.2, 1, 3));
  EXPECT_EQ(again.train.indices(), split.train.indices());
  ASSERT_OK_AND_ASSIGN(HeldOutSplit none, SplitHeldOut(data, 0, 1, 3));
  EXPECT_FALSE(none.held_out.has_value());
  EXPECT_EQ(none.train.size(), 50);
  ASSERT_OK_AND_ASSIGN(Dataset one, data.Subset({4}));
  ASSERT_OK_AND_ASSIGN(HeldOutSplit single, SplitHeldOut(one, 0.5, 1, 3));
  EXPECT_EQ(single.train.size(), 1);
  for (double bad : {-0.1, 1.0, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_THAT(SplitHeldOut(data, bad, 1, 3), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("fraction")));
  }
}

// Residual + update - what was sent = the new residual, to the bit, and nothing is kept when the pipeline has no feedback.
TEST(ParticipantTest, ErrorFeedbackKeepsWhatTheEncodingLost) {
  World world;
  world.plan.uplink_codec = "ef,ecsq:step=0.25";
  ASSERT_OK_AND_ASSIGN(AttemptResult first, world.Run());
  std::vector<float> local(world.model.values.size());
  ASSERT_TRUE(world.trainer.Train(world.model.values, world.data, world.plan.recipe, TrainingSeed(world.plan.seed, 1, 0), {}, absl::MakeSpan(local)).ok());
  ASSERT_OK_AND_ASSIGN(ContainerView view, ParseContainer(first.update, 1 << 20));
  std::vector<float> sent(local.size());
  ASSERT_TRUE(Pipeline::Create(world.plan.uplink_codec)->DecodeDense(view.payload, world.model.layout, EncodingSeed(world.plan.seed, 1, 0), 1, absl::MakeSpan(sent)).ok());
  ASSERT_EQ(first.residual.size(), local.size());
  float most = 0;
  for (size_t i = 0; i < local.size(); ++i) {
    EXPECT_EQ(first.residual[i], local[i] - world.model.values[i] - sent[i]);
    most = std::max(most, std::fabs(first.residual[i]));
  }
  EXPECT_GT(most, 0);
  EXPECT_LE(most, 0.125f);

  const Residual large{std::vector<float>(local.size(), 10.0f), 0};
  ASSERT_OK_AND_ASSIGN(AttemptResult next, RunAttempt(world.plan, 1, 0, world.model, world.data, world.trainer, {}, &large, nullptr, world.scratch));
  ASSERT_OK_AND_ASSIGN(view, ParseContainer(next.update, 1 << 20));
  ASSERT_TRUE(Pipeline::Create(world.plan.uplink_codec)->DecodeDense(view.payload, world.model.layout, EncodingSeed(world.plan.seed, 1, 0), 1, absl::MakeSpan(sent)).ok());
  for (size_t i = 0; i < local.size(); ++i) EXPECT_NEAR(sent[i], 10 + local[i] - world.model.values[i], 0.13);

  world.plan.uplink_codec = "ecsq:step=0.25";
  ASSERT_OK_AND_ASSIGN(AttemptResult without, RunAttempt(world.plan, 1, 0, world.model, world.data, world.trainer, {}, &large, nullptr, world.scratch));
  EXPECT_TRUE(without.residual.empty());
}

// A client that trains inputs 1 and 2 of 4: its part of the residual is due and replaced, the rest stays.
TEST(ParticipantTest, ErrorFeedbackChangesOnlyWhereTheModelIsCovered) {
  World world;
  LogisticTrainer narrow(4, 3, {{"inputs", {{1, 3}}}});
  const Submodel& part = *narrow.submodel();
  world.plan.uplink_codec = "ef,ecsq:step=0.25";
  world.plan.layout_digest = narrow.layout().digest();
  const DecodedModel model{narrow.layout(), *narrow.InitialModel(5)};
  EXPECT_EQ(model.values, part.Gather(world.model.values));
  const auto run = [&](const Residual* residual) { return RunAttempt(world.plan, 1, 0, model, world.data, narrow, {}, residual, nullptr, world.scratch); };
  const auto sent = [&](const AttemptResult& result) {
    std::vector<float> values(model.values.size());
    const absl::StatusOr<ContainerView> view = ParseContainer(result.update, 1 << 20);
    EXPECT_TRUE(view->IsFor(narrow.layout().digest()));
    EXPECT_TRUE(Pipeline::Create(world.plan.uplink_codec)->DecodeDense(view->payload, model.layout, EncodingSeed(world.plan.seed, 1, 0), 1, absl::MakeSpan(values)).ok());
    return values;
  };
  ASSERT_OK_AND_ASSIGN(AttemptResult first, run(nullptr));
  ASSERT_EQ(first.residual.size(), 15u);
  for (size_t i : {0, 3, 4, 7, 8, 11}) EXPECT_EQ(first.residual[i], 0) << "weights of inputs 0 and 3";

  Residual old{std::vector<float>(15), 0};
  for (size_t i = 0; i < 15; ++i) old.values[i] = static_cast<float>(i + 1);
  ASSERT_OK_AND_ASSIGN(AttemptResult next, run(&old));
  for (size_t i : {0, 3, 4, 7, 8, 11}) EXPECT_EQ(next.residual[i], old.values[i]);
  const std::vector<float> due = part.Gather(old.values), left = part.Gather(next.residual), then = sent(next), before = sent(first), kept = part.Gather(first.residual);
  for (size_t i = 0; i < due.size(); ++i) {
    EXPECT_NEAR(then[i] + left[i], before[i] + kept[i] + due[i], 1e-5);
    EXPECT_LE(std::fabs(left[i]), 0.125f);
  }
  // Half a century away: what was not covered fades with the rest.
  old.round = -95;
  ASSERT_OK_AND_ASSIGN(AttemptResult late, run(&old));
  EXPECT_EQ(late.residual[3], 2);
  // Another model's residual is none of ours.
  const Residual other{std::vector<float>(9, 10.0f), 0};
  ASSERT_OK_AND_ASSIGN(AttemptResult unmoved, run(&other));
  EXPECT_EQ(unmoved.update, first.update);
}

TEST(ParticipantTest, AStaleResidualFades) {
  EXPECT_EQ(ResidualWeight(1), 1);
  EXPECT_EQ(ResidualWeight(64), 1);
  EXPECT_EQ(ResidualWeight(96), 0.5);
  EXPECT_EQ(ResidualWeight(128), 0.25);
  EXPECT_LT(ResidualWeight(1000), 1e-8);
}

}  // namespace
}  // namespace fedwatt

#include "fedwatt/round/global_model.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <set>

#include "fedwatt/base/digest.h"
#include "fedwatt/base/random.h"
#include "fedwatt/model/container.h"
#include "fedwatt/model/rejection.h"
#include "fedwatt/round/participant.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// To a client that trains the whole model.
ModelOffer Offer(GlobalModel& model, const std::optional<Digest>& held, bool whole) {
  return model.OfferFor({}, held.has_value() ? absl::MakeConstSpan(&*held, 1) : absl::Span<const Digest>(), whole);
}

struct World {
  ParameterLayout layout = *ParameterLayout::Create({{"w", {2}, EntryKind::kParameter, Dtype::kFloat32}, {"b", {1}, EntryKind::kParameter, Dtype::kFloat32}});
  GlobalModelOptions options;
  World() {
    options.plan.run_id = "run";
    options.plan.architecture = {.name = "logistic", .input_shape = {2}, .output_count = 1};
    options.layout = layout;
    options.max_cohort = 2;
    options.plan.layout_digest = layout.digest();
  }
  std::string Update(std::vector<float> delta) const {
    ContainerHeader header{.kind = ContainerKind::kUpdate, .codec = "float32", .layout_digest = layout.digest(), .layout = {}};
    return WriteContainer(header, {reinterpret_cast<const char*>(delta.data()), delta.size() * 4});
  }
};

TEST(GlobalModelTest, MovesByTheWeightedMean) {
  World world;
  ASSERT_OK_AND_ASSIGN(GlobalModel model, GlobalModel::Create(world.options, {1, 2, 3}));
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Accumulator> sum, model.NewAccumulator());
  FoldScratch scratch;
  ASSERT_THAT(FoldUpdate(model.plan(), world.layout, world.Update({1, 0, -1}), 1, 1, 0, *sum, scratch), IsOk());
  ASSERT_THAT(FoldUpdate(model.plan(), world.layout, world.Update({0, 4, -1}), 3, 1, 1, *sum, scratch), IsOk());
  ASSERT_OK_AND_ASSIGN(MeanDelta mean, sum->Report());
  ASSERT_THAT(model.Step(mean, 1), IsOk());
  EXPECT_THAT(*model.published(), ElementsAre(1.25f, 5.0f, 2.0f));
  EXPECT_EQ(model.published_digest(), ModelDigest(world.layout, *model.published()));
  EXPECT_EQ(model.blob_digest(), Sha256(*model.blob()));
}

TEST(GlobalModelTest, ALossyDownlinkPublishesWhatClientsHoldAndKeepsItsOwn) {
  World world;
  world.options.plan.downlink_codec = "bfloat16";
  ASSERT_OK_AND_ASSIGN(GlobalModel model, GlobalModel::Create(world.options, {1, 2, 3}));
  // A step below bfloat16's resolution at 1: seen only when it has been taken often enough.
  MeanDelta small{.values = {0.001f, 0, 0}, .uncovered = {}, .update_count = 1, .total_weight = 1};
  for (int i = 1; i <= 3; ++i) ASSERT_THAT(model.Step(small, i), IsOk());
  EXPECT_EQ((*model.published())[0], 1.0f);
  for (int i = 4; i <= 5; ++i) ASSERT_THAT(model.Step(small, i), IsOk());
  EXPECT_GT((*model.published())[0], 1.0f);
}

TEST(GlobalModelTest, SavesAndGoesOnBitForBit) {
  World world;
  world.options.strategy = "fedadam";
  ASSERT_OK_AND_ASSIGN(GlobalModel a, GlobalModel::Create(world.options, {1, 2, 3}));
  MeanDelta delta{.values = {0.5f, -0.25f, 0.125f}, .uncovered = {}, .update_count = 1, .total_weight = 1};
  ASSERT_THAT(a.Step(delta, 1), IsOk());
  ASSERT_OK_AND_ASSIGN(GlobalModel b, GlobalModel::Create(world.options, {9, 9, 9}));
  ASSERT_THAT(b.Restore(a.Save()), IsOk());
  EXPECT_EQ(a.blob_digest(), b.blob_digest());
  ASSERT_THAT(a.Step(delta, 2), IsOk());
  ASSERT_THAT(b.Step(delta, 2), IsOk());
  EXPECT_EQ(a.published_digest(), b.published_digest());
}

TEST(GlobalModelTest, RefusesDamagedAndForeignStates) {
  World world;
  ASSERT_OK_AND_ASSIGN(GlobalModel model, GlobalModel::Create(world.options, {1, 2, 3}));
  const std::string state = model.Save();
  for (size_t i = 0; i < state.size(); ++i) {
    std::string damaged = state;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x10);
    EXPECT_THAT(model.Restore(damaged), StatusIs(absl::StatusCode::kDataLoss, ::testing::_)) << i;
    EXPECT_FALSE(model.Restore(state.substr(0, i)).ok()) << i;
  }
  World other;
  other.options.strategy = "fedavgm";
  ASSERT_OK_AND_ASSIGN(GlobalModel foreign, GlobalModel::Create(other.options, {1, 2, 3}));
  EXPECT_THAT(foreign.Restore(state), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("fedavg")));
}

TEST(GlobalModelTest, RefusesBadOptions) {
  World world;
  EXPECT_THAT(GlobalModel::Create(world.options, {1, 2}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("2 values")));
  world.options.strategy = "fedavgg";
  EXPECT_THAT(GlobalModel::Create(world.options, {1, 2, 3}), StatusIs(absl::StatusCode::kNotFound, HasSubstr("fedavg")));
}

TEST(FoldUpdateTest, NamesEveryReasonAndTouchesNothing) {
  World world;
  world.options.plan.limits.max_update_bytes = 1000;
  world.options.plan.limits.max_norm = 10;
  world.options.plan.limits.max_example_count = 100;
  ASSERT_OK_AND_ASSIGN(GlobalModel model, GlobalModel::Create(world.options, {1, 2, 3}));
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Accumulator> sum, model.NewAccumulator());
  FoldScratch scratch;
  const auto reason = [&](const std::string& bytes, int64_t examples = 1) {
    absl::Status status = FoldUpdate(model.plan(), world.layout, bytes, examples, 1, 0, *sum, scratch);
    EXPECT_FALSE(status.ok());
    EXPECT_EQ(sum->update_count(), 0);
    std::optional<Rejection> rejection = RejectionOf(status);
    return rejection.has_value() ? std::string(RejectionName(*rejection)) : "none: " + status.ToString();
  };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::string good = world.Update({1, 1, 1});
  EXPECT_EQ(reason("this is no container at all, but it is long enough to hold one's head......................"), "garbage");
  EXPECT_EQ(reason(good.substr(0, good.size() / 2)), "truncated");
  EXPECT_EQ(reason(std::string(1001, 'x')), "oversize");
  EXPECT_EQ(reason(world.Update({1, nan, 1})), "not_finite");
  EXPECT_EQ(reason(world.Update({1, -std::numeric_limits<float>::infinity(), 1})), "not_finite");
  EXPECT_EQ(reason(world.Update({65, 0, 0})), "value_too_large");
  EXPECT_EQ(reason(world.Update({8, 8, 8})), "norm_too_large");
  EXPECT_EQ(reason(world.Update({1, 1})), "wrong_codec");
  EXPECT_EQ(reason(good, 0), "bad_weight");
  EXPECT_EQ(reason(good, 101), "bad_weight");
  std::string flipped = good;
  flipped[flipped.size() - 6] ^= 1;
  EXPECT_EQ(reason(flipped), "garbage");
  ContainerHeader header{.kind = ContainerKind::kUpdate, .codec = "float32", .layout_digest = Sha256("another"), .layout = {}};
  EXPECT_EQ(reason(WriteContainer(header, std::string(12, '\0'))), "wrong_layout");
  header.layout_digest = world.layout.digest();
  header.codec = "int8";
  EXPECT_EQ(reason(WriteContainer(header, std::string(12, '\0'))), "wrong_codec");
  EXPECT_THAT(FoldUpdate(model.plan(), world.layout, good, 1, 1, 0, *sum, scratch), IsOk());
}

// Updates that are long enough to be folded in parts: what is refused near the end has left nothing in the sums, and the reason is the one of a short
// update. What is accepted adds what decoding it whole and adding that would.
TEST(FoldUpdateTest, OnePassAddsTheSameAndTakesEverythingBack) {
  constexpr size_t kCount = 20'000;
  for (const char* codec : {"float32", "bfloat16", "int8", "int4:block=100", "int2", "int8,zstd", "sign"}) {
    World world;
    world.layout = *ParameterLayout::Create({{"w", {100, 199}, EntryKind::kParameter, Dtype::kFloat32},
                                             {"mean", {60}, EntryKind::kAveragedBuffer, Dtype::kFloat32},
                                             {"b", {40}, EntryKind::kParameter, Dtype::kFloat32}});
    world.options.layout = world.layout;
    world.options.plan.layout_digest = world.layout.digest();
    world.options.plan.uplink_codec = codec;
    world.options.plan.limits.max_abs = 4;
    ASSERT_OK_AND_ASSIGN(GlobalModel model, GlobalModel::Create(world.options, std::vector<float>(kCount)));
    ASSERT_OK_AND_ASSIGN(std::unique_ptr<Accumulator> sum, model.NewAccumulator());
    ASSERT_OK_AND_ASSIGN(std::unique_ptr<Accumulator> expected, model.NewAccumulator());
    ASSERT_OK_AND_ASSIGN(Pipeline pipeline, Pipeline::Create(codec));
    FoldScratch scratch;
    const auto fold = [&](std::string payload, int64_t examples, int64_t partition) {
      ContainerHeader header{.kind = ContainerKind::kUpdate, .codec = codec, .layout_digest = world.layout.digest(), .layout = {}};
      return FoldUpdate(model.plan(), world.layout, WriteContainer(header, payload), examples, 1, partition, *sum, scratch);
    };
    Random random(5);
    for (int64_t partition = 0; partition < 3; ++partition) {
      const int64_t examples = partition == 2 ? model.plan().limits.max_example_count : 600;
      std::vector<float> delta(kCount);
      for (float& value : delta) value = static_cast<float>(random.Uniform() - 0.5);
      const uint64_t seed = EncodingSeed(model.plan().seed, 1, partition);
      ASSERT_OK_AND_ASSIGN(const std::string payload, pipeline.Encode(world.layout, delta, seed, 1));
      ASSERT_THAT(fold(payload, examples, partition), IsOk()) << codec;
      std::vector<float> decoded(kCount);
      ASSERT_THAT(pipeline.DecodeDense(payload, world.layout, seed, 1, absl::MakeSpan(decoded)), IsOk());
      ASSERT_THAT(expected->Accumulate({decoded, examples, {}}), IsOk());
      ASSERT_EQ(sum->Save(), expected->Save()) << codec;

      std::vector<float> large = delta;
      large[kCount - 1] = -5;
      ASSERT_OK_AND_ASSIGN(const std::string too_large, pipeline.Encode(world.layout, large, seed, 1));
      const bool averages = std::string(codec) == "sign";  // to less than the bound
      if (!averages) {
        EXPECT_EQ(RejectionOf(fold(too_large, examples, partition)), Rejection::kValueTooLarge) << codec;
      }
      EXPECT_EQ(RejectionOf(fold(payload + '\0', examples, partition)), Rejection::kWrongCodec) << codec;
      EXPECT_EQ(RejectionOf(fold(payload.substr(0, payload.size() - 1), examples, partition)), Rejection::kWrongCodec) << codec;
      std::string not_finite = payload;
      not_finite.replace(236, 4, "\xff\xff\xff\x7f");  // the last value of the buffer, which comes first
      EXPECT_EQ(RejectionOf(fold(not_finite, examples, partition)), Rejection::kWrongCodec) << codec;
      if (std::string(codec) == "float32") {
        not_finite = payload;
        not_finite.replace(payload.size() - 4, 4, std::string("\0\0\x80\x7f", 4));
        EXPECT_EQ(RejectionOf(fold(not_finite, examples, partition)), Rejection::kNotFinite);
      }
      if (std::string(codec) == "int8") {
        std::string no_code = payload;
        no_code.back() = '\x80';
        EXPECT_EQ(RejectionOf(fold(no_code, examples, partition)), Rejection::kWrongCodec);
      }
      ASSERT_EQ(sum->Save(), expected->Save()) << codec;
    }
  }
}

// A client at any version, or at none, ends at the version of now; the way costs less than the whole model, and one that is unknown costs the whole model.
class ChainOfferTest : public ::testing::Test {
 protected:
  static constexpr int64_t kValues = 4000;
  void SetUp() override {
    layout_ = *ParameterLayout::Create({{"w", {40, 99}}, {"b", {40}}});
    options_.plan.run_id = "run";
    options_.plan.architecture = {.name = "any", .input_shape = {99}, .output_count = 40};
    options_.plan.downlink_codec = "chain:step=0.01:length=60";
    options_.layout = layout_;
    options_.initial_from_seed = true;
    initial_.resize(kValues);
    Random random(3);
    for (float& value : initial_) value = static_cast<float>(random.Normal() * 0.1);
  }
  void Step(GlobalModel& model, int64_t round) {
    MeanDelta mean{.values = std::vector<float>(kValues), .uncovered = {}, .update_count = 1, .total_weight = 1};
    Random random(100 + static_cast<uint64_t>(round));
    for (float& value : mean.values) value = static_cast<float>(random.Normal() * 0.002);
    ASSERT_THAT(model.Step(mean, round), IsOk());
  }
  // What a client at `held` makes of the offer.
  void Follow(GlobalModel& model, const std::optional<Digest>& held, DecodedModel client) {
    const ModelOffer offer = Offer(model, held, false);
    ASSERT_TRUE(offer.base.has_value());
    ASSERT_EQ(*offer.base, ModelDigest(layout_, client.values));
    ASSERT_NE(offer.blob, nullptr);
    EXPECT_EQ(model.FindBlob(offer.blob_digest), offer.blob);
    EXPECT_LT(offer.blob->size(), model.blob()->size() / 8);
    EXPECT_EQ(Offer(model, held, false).blob, offer.blob) << "coded twice";
    ASSERT_THAT(ApplyModelDelta(*offer.blob, 1 << 20, client), IsOk());
    EXPECT_EQ(ModelDigest(layout_, client.values), model.published_digest());
  }
  DecodedModel Initial() {
    DecodedModel model{layout_, initial_};
    SnapToLattice(layout_, absl::MakeSpan(model.values));
    return model;
  }
  static absl::StatusOr<DecodedModel> Whole(GlobalModel& model) { return DecodeModel(*Offer(model, std::nullopt, /*whole=*/true).blob, 1 << 20); }
  ParameterLayout layout_;
  GlobalModelOptions options_;
  std::vector<float> initial_;
};

TEST_F(ChainOfferTest, AReturnerALateJoinerAndOneTooOldAllHoldTheSame) {
  ASSERT_OK_AND_ASSIGN(GlobalModel model, GlobalModel::Create(options_, initial_));
  EXPECT_EQ(model.published_digest(), ModelDigest(layout_, Initial().values));
  EXPECT_EQ(Offer(model, std::nullopt, false).blob, nullptr) << "a client makes version 0 itself";
  for (int64_t round = 1; round <= 10; ++round) Step(model, round);
  ASSERT_OK_AND_ASSIGN(const DecodedModel tenth, Whole(model));
  const Digest tenth_digest = model.published_digest();
  EXPECT_EQ(Offer(model, tenth_digest, false).blob, nullptr) << "it holds the newest";
  for (int64_t round = 11; round <= 60; ++round) Step(model, round);
  Follow(model, tenth_digest, tenth);      // away for 50 rounds
  Follow(model, std::nullopt, Initial());  // joins now
  for (int64_t round = 61; round <= 80; ++round) Step(model, round);
  Follow(model, tenth_digest, Initial());  // its version has been forgotten: from the start again

  const ModelOffer whole = Offer(model, tenth_digest, true);
  EXPECT_TRUE(model.FindBlob(whole.blob_digest) == whole.blob);
  EXPECT_FALSE(whole.base.has_value());
  ASSERT_OK_AND_ASSIGN(DecodedModel decoded, DecodeModel(*whole.blob, 1 << 20));
  EXPECT_EQ(ModelDigest(layout_, decoded.values), model.published_digest());
}

TEST_F(ChainOfferTest, WithoutASeedNewcomersGetTheWholeModel) {
  options_.initial_from_seed = false;
  ASSERT_OK_AND_ASSIGN(GlobalModel model, GlobalModel::Create(options_, initial_));
  EXPECT_TRUE(Offer(model, std::nullopt, false).blob == model.blob());
  Step(model, 1);
  for (const std::optional<Digest>& held : {std::optional<Digest>(), std::optional<Digest>(Sha256("unknown"))}) {
    const ModelOffer offer = Offer(model, held, false);
    EXPECT_FALSE(offer.base.has_value());
    ASSERT_OK_AND_ASSIGN(DecodedModel client, DecodeModel(*offer.blob, 1 << 20));
    EXPECT_TRUE(client.values == *model.published());
    // From there it follows the chain.
    const Digest before = model.published_digest();
    Step(model, held.has_value() ? 3 : 2);
    const ModelOffer next = Offer(model, before, false);
    ASSERT_TRUE(next.base.has_value());
    ASSERT_THAT(ApplyModelDelta(*next.blob, 1 << 20, client), IsOk());
    EXPECT_TRUE(client.values == *model.published());
  }
}

TEST_F(ChainOfferTest, ARestartGoesOnWithTheSameChain) {
  ASSERT_OK_AND_ASSIGN(GlobalModel model, GlobalModel::Create(options_, initial_));
  for (int64_t round = 1; round <= 5; ++round) Step(model, round);
  ASSERT_OK_AND_ASSIGN(const DecodedModel fifth, Whole(model));
  ASSERT_OK_AND_ASSIGN(GlobalModel again, GlobalModel::Create(options_, initial_));
  ASSERT_THAT(again.Restore(model.Save()), IsOk());
  EXPECT_EQ(again.published_digest(), model.published_digest());
  for (int64_t round = 6; round <= 8; ++round) {
    Step(model, round);
    Step(again, round);
  }
  EXPECT_EQ(again.published_digest(), model.published_digest());
  Follow(again, ModelDigest(layout_, fifth.values), fifth);
}

// A weight that outgrows its lattice: the chain starts anew, and goes on over a restart.
TEST_F(ChainOfferTest, AChainThatIsOutgrownStartsAnew) {
  ASSERT_OK_AND_ASSIGN(GlobalModel model, GlobalModel::Create(options_, initial_));
  const Digest before = model.published_digest();
  MeanDelta leap{.values = std::vector<float>(kValues), .uncovered = {}, .update_count = 1, .total_weight = 1};
  leap.values[7] = 1000;
  ASSERT_THAT(model.Step(leap, 1), IsOk());
  EXPECT_NEAR((*model.published())[7], 1000, 0.2);
  EXPECT_FALSE(Offer(model, before, false).base.has_value());
  EXPECT_FALSE(Offer(model, std::nullopt, false).base.has_value());
  const DecodedModel client{layout_, *model.published()};
  ASSERT_OK_AND_ASSIGN(GlobalModel again, GlobalModel::Create(options_, initial_));
  ASSERT_THAT(again.Restore(model.Save()), IsOk());
  Step(again, 2);
  Follow(again, ModelDigest(layout_, client.values), client);
}

// 99 inputs, of which the narrow models of half and quarter width see the first 50 and 25.
class FittedModelTest : public ChainOfferTest {
 protected:
  void SetUp() override {
    ChainOfferTest::SetUp();
    options_.groups = {{"inputs", 99, {{"w", 1}}}};
    options_.uses = {1, 1};
    options_.fit.policy = "by_capability";
    options_.fit.widths = {1, 0.5, 0.25};
    options_.fit.memory_mb = {3, 2, 1};
    options_.max_cohort = 10;
  }
  // Assigns a width of options_.fit.widths.
  std::shared_ptr<const FittedPlan> Assign(GlobalModel& model, size_t width, int64_t round = 1) {
    absl::StatusOr<std::shared_ptr<const FittedPlan>> fitted = model.Assign(round, options_.fit.widths[width]);
    EXPECT_THAT(fitted, IsOk());
    return *std::move(fitted);
  }
  static std::string Update(const FittedPlan& fitted, const std::vector<float>& delta) {
    ContainerHeader header{.kind = ContainerKind::kUpdate, .codec = "float32", .layout_digest = fitted.layout.digest(), .layout = {}};
    return WriteContainer(header, {reinterpret_cast<const char*>(delta.data()), delta.size() * 4});
  }
  absl::Status FoldDelta(const FittedPlan& fitted, const std::vector<float>& delta, int64_t weight, Accumulator& sum) {
    FoldScratch scratch;
    scratch.whole.assign(kValues, 1e9f);  // left by somebody else
    return FoldUpdate(fitted.plan, fitted.layout, Update(fitted, delta), weight, 1, 0, sum, scratch, fitted.submodel.get());
  }
};

TEST_F(FittedModelTest, AssignsPhysicallySmallerModels) {
  ASSERT_OK_AND_ASSIGN(GlobalModel model, GlobalModel::Create(options_, initial_));
  model.SetLearningRate(0.125);
  const auto whole = Assign(model, 0), half = Assign(model, 1), quarter = Assign(model, 2);
  EXPECT_EQ(whole->submodel, nullptr);
  EXPECT_EQ(whole->model_digest, model.published_digest());
  EXPECT_EQ(half->layout.value_count(), 40 * 50 + 40);
  EXPECT_EQ(quarter->layout.value_count(), 40 * 25 + 40);
  EXPECT_EQ(quarter->macs_per_example, 40 * 25 + 40);
  EXPECT_EQ(quarter->plan.fit.width_fraction, 0.25);
  EXPECT_EQ(quarter->plan.layout_digest, quarter->layout.digest());
  EXPECT_EQ(quarter->plan.architecture.kept, (KeptChannels{{"inputs", {{0, 25}}}}));
  for (const auto& fitted : {whole, half, quarter}) EXPECT_EQ(fitted->plan.recipe.client_learning_rate, 0.125);
  EXPECT_EQ(Assign(model, 2), quarter) << "made once a round";
  // Version 0 is the client's own slice of what it draws, snapped.
  std::vector<float> own = quarter->submodel->Gather(initial_);
  SnapToLattice(quarter->layout, absl::MakeSpan(own));
  EXPECT_EQ(own, *quarter->values);
  EXPECT_EQ(model.OfferFor(quarter->plan.architecture.kept, {}, false).blob, nullptr);
}

TEST_F(FittedModelTest, WeighsEachCoordinateByTheClientsThatCoveredIt) {
  options_.fit.widths = {0.5, 0.25};  // nobody trains the whole
  options_.fit.memory_mb = {2, 1};
  options_.plan.downlink_codec = "float32";
  ASSERT_OK_AND_ASSIGN(GlobalModel model, GlobalModel::Create(options_, initial_));
  const auto half = Assign(model, 0), quarter = Assign(model, 1);
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Accumulator> sum, model.NewAccumulator());
  ASSERT_THAT(FoldDelta(*half, std::vector<float>(2040, 1.0f), 1, *sum), IsOk());
  ASSERT_THAT(FoldDelta(*quarter, std::vector<float>(1040, 5.0f), 3, *sum), IsOk());
  ASSERT_OK_AND_ASSIGN(MeanDelta mean, sum->Report());
  for (int64_t output = 0; output < 40; ++output) {
    for (int64_t input = 0; input < 99; ++input) {
      const float expected = input < 25 ? 4.0f : input < 50 ? 1.0f : 0.0f;  // (1 + 3 * 5) / 4
      ASSERT_EQ(mean.values[static_cast<size_t>(output * 99 + input)], expected) << output << " " << input;
    }
    EXPECT_EQ(mean.values[static_cast<size_t>(40 * 99 + output)], 4.0f);
  }
  ASSERT_EQ(mean.uncovered.size(), 40u);
  EXPECT_EQ(mean.uncovered[0], (CoordinateRange{50, 99}));
  const std::vector<float> before = *model.published();
  ASSERT_THAT(model.Step(mean, 1), IsOk());
  for (int64_t input = 50; input < 99; ++input) EXPECT_EQ((*model.published())[static_cast<size_t>(input)], before[static_cast<size_t>(input)]);
  EXPECT_EQ((*model.published())[30], before[30] + 1);
}

// Adaptive optimizers keep moments; what nobody covered keeps its value and gets none.
TEST_F(FittedModelTest, AdaptiveServersSkipWhatNobodyCovered) {
  options_.strategy = "fedadam";
  options_.optimizer.server_learning_rate = 0.1;
  options_.plan.downlink_codec = "float32";
  ASSERT_OK_AND_ASSIGN(GlobalModel model, GlobalModel::Create(options_, initial_));
  for (int64_t round = 1; round <= 3; ++round) {
    const auto quarter = Assign(model, 2, round);
    ASSERT_OK_AND_ASSIGN(std::unique_ptr<Accumulator> sum, model.NewAccumulator());
    ASSERT_THAT(FoldDelta(*quarter, std::vector<float>(1040, 0.5f), 1, *sum), IsOk());
    ASSERT_THAT(model.Step(*sum->Report(), round), IsOk());
  }
  for (int64_t input = 0; input < 99; ++input) {
    const float moved = (*model.published())[static_cast<size_t>(input)] - initial_[static_cast<size_t>(input)];
    if (input < 25) {
      EXPECT_GT(moved, 0.01f) << input;
    } else {
      EXPECT_EQ(moved, 0) << input;
    }
  }
}

TEST_F(FittedModelTest, EachStandingFitHasAChainOfItsOwn) {
  ASSERT_OK_AND_ASSIGN(GlobalModel model, GlobalModel::Create(options_, initial_));
  struct Client {
    DecodedModel model;
    Digest digest;
  };
  std::vector<Client> clients;
  for (size_t width : {0, 1, 2}) {
    const auto fitted = Assign(model, width);
    clients.push_back({{fitted->layout, *fitted->values}, fitted->model_digest});
  }
  for (int64_t round = 1; round <= 5; ++round) Step(model, round);
  // Each says all that somebody in its house holds.
  const std::vector<Digest> held{clients[0].digest, clients[1].digest, clients[2].digest};
  std::vector<size_t> sizes;
  for (size_t width : {0, 1, 2}) {
    const auto fitted = Assign(model, width, 6);
    Client& client = clients[width];
    const ModelOffer offer = model.OfferFor(fitted->plan.architecture.kept, held, false);
    ASSERT_TRUE(offer.base.has_value());
    EXPECT_EQ(*offer.base, client.digest);
    EXPECT_EQ(model.FindBlob(offer.blob_digest), offer.blob);
    ASSERT_THAT(ApplyModelDelta(*offer.blob, 1 << 20, client.model), IsOk());
    EXPECT_EQ(client.model.values, *fitted->values);
    EXPECT_EQ(ModelDigest(client.model.layout, client.model.values), fitted->model_digest);
    sizes.push_back(offer.blob->size());
    // What the narrow one holds lies within a step of the whole.
    if (fitted->submodel != nullptr) {
      const std::vector<float> slice = fitted->submodel->Gather(*model.published());
      for (size_t i = 0; i < slice.size(); ++i) ASSERT_NEAR((*fitted->values)[i], slice[i], 0.011);
    }
    const ModelOffer whole = model.OfferFor(fitted->plan.architecture.kept, held, true);
    ASSERT_OK_AND_ASSIGN(DecodedModel fetched, DecodeModel(*whole.blob, 1 << 20));
    EXPECT_EQ(fetched.values, *fitted->values);
  }
  EXPECT_LT(sizes[1], 0.7 * static_cast<double>(sizes[0]));
  EXPECT_LT(sizes[2], 0.7 * static_cast<double>(sizes[1]));
}

TEST_F(FittedModelTest, ARestartGoesOnWithAllChains) {
  ASSERT_OK_AND_ASSIGN(GlobalModel model, GlobalModel::Create(options_, initial_));
  for (int64_t round = 1; round <= 3; ++round) Step(model, round);
  const std::vector<Digest> held{Assign(model, 2, 4)->model_digest};
  ASSERT_OK_AND_ASSIGN(GlobalModel again, GlobalModel::Create(options_, initial_));
  ASSERT_THAT(again.Restore(model.Save()), IsOk());
  for (size_t width : {0, 1, 2}) EXPECT_EQ(Assign(again, width, 4)->model_digest, Assign(model, width, 4)->model_digest);
  Step(model, 4);
  Step(again, 4);
  const auto fitted = Assign(again, 2, 5);
  EXPECT_EQ(fitted->model_digest, Assign(model, 2, 5)->model_digest);
  EXPECT_EQ(again.OfferFor(fitted->plan.architecture.kept, held, false).base, held[0]);

  options_.fit.live = 1;
  ASSERT_OK_AND_ASSIGN(GlobalModel other, GlobalModel::Create(options_, initial_));
  EXPECT_FALSE(other.Restore(model.Save()).ok());
}

// Rolling channels, and fits beyond `live`, are sent whole each time, as bfloat16 where the downlink is a chain.
TEST_F(FittedModelTest, FitsWithoutAChainGetSnapshots) {
  options_.fit.live = 1;
  ASSERT_OK_AND_ASSIGN(GlobalModel model, GlobalModel::Create(options_, initial_));
  EXPECT_THAT(model.downlinks(), ElementsAre(options_.plan.downlink_codec, "bfloat16"));
  EXPECT_EQ(Assign(model, 1)->plan.downlink_codec, options_.plan.downlink_codec);
  for (const char* channels : {"ordered", "rolling"}) {
    options_.fit.channels = channels;
    ASSERT_OK_AND_ASSIGN(GlobalModel snapshots, GlobalModel::Create(options_, initial_));
    std::set<Digest> versions;
    for (int64_t round = 1; round <= 3; ++round) {
      const auto quarter = Assign(snapshots, 2, round);
      EXPECT_EQ(quarter->plan.downlink_codec, "bfloat16");
      const std::vector<Digest> held{quarter->model_digest};
      const ModelOffer offer = snapshots.OfferFor(quarter->plan.architecture.kept, held, false);
      EXPECT_FALSE(offer.base.has_value());
      EXPECT_LT(offer.blob->size(), 2 * 1040 + 200);
      EXPECT_EQ(snapshots.FindBlob(offer.blob_digest), offer.blob);
      ASSERT_OK_AND_ASSIGN(DecodedModel fetched, DecodeModel(*offer.blob, 1 << 20));
      EXPECT_EQ(fetched.values, *quarter->values);
      EXPECT_EQ(ModelDigest(fetched.layout, fetched.values), quarter->model_digest);
      versions.insert(quarter->model_digest);
      EXPECT_EQ(Assign(snapshots, 2, round), quarter);
      Step(snapshots, round);
      EXPECT_EQ(snapshots.FindBlob(offer.blob_digest), nullptr) << "forgotten with its round";
    }
    EXPECT_EQ(versions.size(), 3u);
  }
}

TEST_F(FittedModelTest, RefusesUpdatesOfAnotherFitAndHostileValues) {
  ASSERT_OK_AND_ASSIGN(GlobalModel model, GlobalModel::Create(options_, initial_));
  const auto half = Assign(model, 1), quarter = Assign(model, 2);
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Accumulator> sum, model.NewAccumulator());
  FoldScratch scratch;
  const auto fold = [&](const std::string& update) {
    return FoldUpdate(quarter->plan, quarter->layout, update, 1, 1, 0, *sum, scratch, quarter->submodel.get());
  };
  EXPECT_EQ(RejectionOf(fold(Update(*half, std::vector<float>(2040, 1.0f)))), Rejection::kWrongLayout);
  EXPECT_EQ(RejectionOf(fold(Update(*quarter, std::vector<float>(1041, 1.0f)))), Rejection::kWrongCodec);
  EXPECT_EQ(RejectionOf(fold(Update(*quarter, std::vector<float>(1040, 65.0f)))), Rejection::kValueTooLarge);
  EXPECT_EQ(RejectionOf(fold(Update(*quarter, std::vector<float>(1040, std::nanf(""))))), Rejection::kNotFinite);
  EXPECT_EQ(sum->update_count(), 0);
}

// A sparse update of a narrow model lands where a dense one does.
TEST_F(FittedModelTest, SparseUpdatesLandOnTheSameCoordinates) {
  options_.plan.uplink_codec = "top_k:fraction=0.05,float32";
  ASSERT_OK_AND_ASSIGN(GlobalModel model, GlobalModel::Create(options_, initial_));
  const auto quarter = Assign(model, 2);
  std::vector<float> delta(1040);
  for (size_t i = 0; i < delta.size(); i += 25) delta[i] = static_cast<float>(i + 1) / 64;  // the first input of each output, and a bias or two
  ASSERT_OK_AND_ASSIGN(Pipeline pipeline, Pipeline::Create(options_.plan.uplink_codec));
  ASSERT_OK_AND_ASSIGN(std::string payload, pipeline.Encode(quarter->layout, delta, EncodingSeed(quarter->plan.seed, 1, 0), 1));
  ContainerHeader header{.kind = ContainerKind::kUpdate, .codec = options_.plan.uplink_codec, .layout_digest = quarter->layout.digest(), .layout = {}};
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Accumulator> sum, model.NewAccumulator());
  FoldScratch scratch;
  ASSERT_THAT(FoldUpdate(quarter->plan, quarter->layout, WriteContainer(header, payload), 2, 1, 0, *sum, scratch, quarter->submodel.get()), IsOk());
  EXPECT_TRUE(scratch.decoded.is_sparse);
  ASSERT_OK_AND_ASSIGN(MeanDelta mean, sum->Report());
  std::vector<float> expected(kValues);
  quarter->submodel->Scatter(delta, absl::MakeSpan(expected));
  EXPECT_EQ(mean.values, expected);
  EXPECT_EQ(mean.uncovered.size(), 40u);
}

// Three layers' worth of a small network, cut to half of its parameters after round 2: 8 hidden channels between 6 inputs and 3 outputs.
class PrunedModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    layout_ = *ParameterLayout::Create({{"in.weight", {8, 6}}, {"in.bias", {8}}, {"out.weight", {3, 8}}, {"out.bias", {3}}});
    options_.plan.run_id = "run";
    options_.plan.architecture = {.name = "any", .input_shape = {6}, .output_count = 3};
    options_.layout = layout_;
    options_.groups = {{"in", 8, {{"in.weight", 0}, {"in.bias", 0}, {"out.weight", 1, 1, 1, 0, true}}}};
    options_.initial_from_seed = true;
    options_.prune = {.target = 0.5, .begin = 2, .end = 2};
    Random random(3);
    for (int64_t i = 0; i < layout_.value_count(); ++i) initial_.push_back(static_cast<float>(random.Normal() * 0.5));
  }
  // What the whole model would be moved by.
  std::vector<float> Delta(int64_t round) const {
    std::vector<float> delta;
    Random random(100 + static_cast<uint64_t>(round));
    for (int64_t i = 0; i < layout_.value_count(); ++i) delta.push_back(static_cast<float>(random.Normal() * 0.1));
    return delta;
  }
  Submodel Part(const KeptChannels& kept) const { return *Submodel::Create(layout_, KeepsWeights(kept) ? WeightGroups(layout_) : options_.groups, kept); }
  void Step(GlobalModel& model, int64_t round) {
    MeanDelta mean{.values = Part(model.plan().architecture.kept).Gather(Delta(round)), .uncovered = {}, .update_count = 1, .total_weight = 1};
    ASSERT_THAT(model.Step(mean, round), IsOk());
  }
  // Brings a client that holds `held` to the model of now, by what it can make itself if need be; the bytes it took.
  int64_t Follow(GlobalModel& model, std::optional<DecodedModel>& held) {
    const ArchitectureSpec& architecture = model.plan().architecture;
    const std::vector<Digest> digests = held.has_value() ? std::vector<Digest>{ModelDigest(held->layout, held->values)} : std::vector<Digest>();
    const ModelOffer offer = model.OfferFor(architecture.kept, digests, false);
    if (offer.blob == nullptr) return 0;
    EXPECT_TRUE(offer.base.has_value());
    if (digests.empty() || *offer.base != digests[0]) {
      const Submodel part = Part(architecture.kept);
      held = DecodedModel{part.layout(), part.Gather(initial_)};
      SnapToLattice(held->layout, absl::MakeSpan(held->values));
      EXPECT_EQ(*offer.base, ModelDigest(held->layout, held->values));
    }
    EXPECT_THAT(ApplyModelDelta(*offer.blob, 1 << 20, *held), IsOk());
    EXPECT_EQ(ModelDigest(held->layout, held->values), model.published_digest());
    return static_cast<int64_t>(offer.blob->size());
  }
  ParameterLayout layout_;
  GlobalModelOptions options_;
  std::vector<float> initial_;
};

// 10 n + 3 parameters with n channels, 83 in all: 3 are left.
TEST_F(PrunedModelTest, BecomesASmallerModelThatMovesAsTheWholeOneDid) {
  for (const char* strategy : {"fedavg", "fedavgm", "fedadam", "fedadagrad", "fedyogi"}) {
    options_.strategy = strategy;
    ASSERT_OK_AND_ASSIGN(GlobalModel model, GlobalModel::Create(options_, initial_));
    GlobalModelOptions dense_options = options_;
    dense_options.prune = {};
    ASSERT_OK_AND_ASSIGN(GlobalModel dense, GlobalModel::Create(dense_options, initial_));
    const size_t whole_bytes = model.blob()->size();
    for (int64_t round = 1; round <= 5; ++round) {
      Step(model, round);
      Step(dense, round);
      const KeptChannels& kept = model.plan().architecture.kept;
      EXPECT_EQ(kept.empty(), round < 2);
      const Submodel part = Part(kept);
      EXPECT_EQ(model.layout(), part.layout());
      EXPECT_EQ(model.layout().value_count(), round < 2 ? 83 : 33);
      EXPECT_EQ(model.plan().layout_digest, part.layout().digest());
      // Server moments included: what is left moves on as if nothing had happened.
      EXPECT_EQ(*model.published(), part.Gather(*dense.published())) << strategy << " " << round;
    }
    EXPECT_EQ(model.blob()->size(), whole_bytes - 4 * 50);
    ASSERT_OK_AND_ASSIGN(DecodedModel decoded, DecodeModel(*model.blob(), 1 << 20));
    EXPECT_EQ(decoded.layout, model.layout());
    // The channels with the strongest path after round 2.
    std::vector<std::pair<double, int64_t>> strengths;
    ASSERT_OK_AND_ASSIGN(GlobalModel until, GlobalModel::Create(dense_options, initial_));
    for (int64_t round = 1; round <= 2; ++round) Step(until, round);
    for (int64_t channel = 0; channel < 8; ++channel) {
      double made = std::pow((*until.published())[48 + channel], 2), read = 0;
      for (int64_t i = 0; i < 6; ++i) made += std::pow((*until.published())[channel * 6 + i], 2);
      for (int64_t i = 0; i < 3; ++i) read += std::pow((*until.published())[56 + i * 8 + channel], 2);
      strengths.push_back({made * read, channel});
    }
    std::sort(strengths.rbegin(), strengths.rend());
    std::vector<int64_t> expected{strengths[0].second, strengths[1].second, strengths[2].second};
    std::sort(expected.begin(), expected.end());
    EXPECT_EQ(ChannelsOf(options_.groups[0], model.plan().architecture.kept), expected);
  }
}

TEST_F(PrunedModelTest, UpdatesOfTheSmallerModelAreFoldedAndOlderOnesRefused) {
  ASSERT_OK_AND_ASSIGN(GlobalModel model, GlobalModel::Create(options_, initial_));
  const auto before = *model.Assign(1, 1);
  Step(model, 1);
  Step(model, 2);
  ASSERT_OK_AND_ASSIGN(std::shared_ptr<const FittedPlan> fitted, model.Assign(3, 1));
  EXPECT_EQ(fitted->submodel, nullptr);
  EXPECT_EQ(fitted->plan.fit.width_fraction, 1);
  EXPECT_EQ(fitted->layout.value_count(), 33);
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Accumulator> sum, model.NewAccumulator());
  FoldScratch scratch;
  const auto fold = [&](const ParameterLayout& layout, std::vector<float> delta) {
    ContainerHeader header{.kind = ContainerKind::kUpdate, .codec = "float32", .layout_digest = layout.digest(), .layout = {}};
    return FoldUpdate(fitted->plan, fitted->layout, WriteContainer(header, {reinterpret_cast<const char*>(delta.data()), delta.size() * 4}), 1, 3, 0, *sum, scratch);
  };
  EXPECT_EQ(RejectionOf(fold(before->layout, std::vector<float>(83, 1))), Rejection::kWrongLayout);
  EXPECT_EQ(sum->update_count(), 0);
  ASSERT_THAT(fold(fitted->layout, std::vector<float>(33, 0.5f)), IsOk());
  ASSERT_OK_AND_ASSIGN(MeanDelta mean, sum->Report());
  const std::vector<float> was = *model.published();
  ASSERT_THAT(model.Step(mean, 3), IsOk());
  for (size_t i = 0; i < was.size(); ++i) EXPECT_EQ((*model.published())[i], was[i] + 0.5f);
}

// A client that was there all the time, one that was away over the cut and one that joins afterwards hold the same, and none fetches a whole model.
TEST_F(PrunedModelTest, ChainsGoOnAcrossTheCut) {
  options_.plan.downlink_codec = "chain:step=0.05";
  ASSERT_OK_AND_ASSIGN(GlobalModel model, GlobalModel::Create(options_, initial_));
  std::optional<DecodedModel> there, away, joins;
  Step(model, 1);
  Follow(model, there);
  Follow(model, away);
  for (int64_t round = 2; round <= 6; ++round) {
    Step(model, round);
    EXPECT_GT(Follow(model, there), 0);
    EXPECT_EQ(there->layout.value_count(), 33);
  }
  Follow(model, away);
  Follow(model, joins);
  EXPECT_EQ(away->values, there->values);
  EXPECT_EQ(joins->values, there->values);
}

TEST_F(PrunedModelTest, AChainKeepsItsStepAcrossTheCut) {
  options_.plan.downlink_codec = "chain:multiple=1";
  ASSERT_OK_AND_ASSIGN(GlobalModel model, GlobalModel::Create(options_, initial_));
  const auto step_of = [&](int64_t round) {
    Step(model, round);
    const ModelOffer offer = model.OfferFor(model.plan().architecture.kept, {}, false);
    absl::StatusOr<ContainerView> view = ParseContainer(*offer.blob, 1 << 20);
    float step;
    std::memcpy(&step, view->payload.data(), 4);  // a delta's payload begins with it
    return step;
  };
  const float before = step_of(1), after = step_of(2);
  EXPECT_GT(before, 0);
  EXPECT_EQ(after, before);
}

TEST_F(PrunedModelTest, NarrowClientsTrainWidthsOfWhatIsLeft) {
  options_.prune = {.target = 0.6, .begin = 2, .end = 2};  // 49.8: 4 channels, 43
  options_.fit.policy = "by_capability";
  options_.fit.widths = {1, 0.5};
  options_.fit.memory_mb = {2, 1};
  options_.plan.downlink_codec = "chain:step=0.05";
  ASSERT_OK_AND_ASSIGN(GlobalModel model, GlobalModel::Create(options_, initial_));
  EXPECT_EQ((*model.Assign(1, 0.5))->layout.value_count(), 43) << "half of 8 channels";
  Step(model, 1);
  Step(model, 2);
  const std::vector<int64_t> left = ChannelsOf(options_.groups[0], model.plan().architecture.kept);
  ASSERT_EQ(left.size(), 4u);
  ASSERT_OK_AND_ASSIGN(std::shared_ptr<const FittedPlan> narrow, model.Assign(3, 0.5));
  EXPECT_EQ(ChannelsOf(options_.groups[0], narrow->plan.architecture.kept), (std::vector<int64_t>{left[0], left[1]}));
  EXPECT_EQ(narrow->layout.value_count(), 23);
  EXPECT_EQ(narrow->plan.fit.width_fraction, 0.5);
  // It follows its own chain from its own slice.
  const ModelOffer offer = model.OfferFor(narrow->plan.architecture.kept, {}, false);
  const Submodel part = Part(narrow->plan.architecture.kept);
  DecodedModel client{part.layout(), part.Gather(initial_)};
  SnapToLattice(client.layout, absl::MakeSpan(client.values));
  ASSERT_NE(offer.blob, nullptr);
  ASSERT_THAT(ApplyModelDelta(*offer.blob, 1 << 20, client), IsOk());
  EXPECT_EQ(client.values, *narrow->values);
  // And its update moves these two channels only.
  ASSERT_OK_AND_ASSIGN(std::unique_ptr<Accumulator> sum, model.NewAccumulator());
  FoldScratch scratch;
  const std::vector<float> ones(23, 1);
  ContainerHeader header{.kind = ContainerKind::kUpdate, .codec = "float32", .layout_digest = narrow->layout.digest(), .layout = {}};
  ASSERT_THAT(FoldUpdate(narrow->plan, narrow->layout, WriteContainer(header, {reinterpret_cast<const char*>(ones.data()), 92}), 1, 3, 0, *sum, scratch, narrow->submodel.get()), IsOk());
  ASSERT_OK_AND_ASSIGN(MeanDelta mean, sum->Report());
  EXPECT_EQ(mean.values.size(), 43u);
  std::vector<float> seen(83);
  Part(model.plan().architecture.kept).Scatter(mean.values, absl::MakeSpan(seen));
  for (int64_t channel = 0; channel < 8; ++channel) EXPECT_EQ(seen[48 + channel], channel == left[0] || channel == left[1] ? 1 : 0) << channel;
}

TEST_F(PrunedModelTest, ARestartGoesOnBitForBit) {
  options_.strategy = "fedadam";
  options_.plan.downlink_codec = "chain:step=0.05";
  options_.prune = {.target = 0.3, .begin = 1, .end = 5, .every = 2, .channels = "taylor", .regrow = 0.5};
  ASSERT_OK_AND_ASSIGN(GlobalModel model, GlobalModel::Create(options_, initial_));
  std::set<KeptChannels> shapes;
  for (int64_t round = 1; round <= 7; ++round) {
    ASSERT_OK_AND_ASSIGN(GlobalModel again, GlobalModel::Create(options_, initial_));
    ASSERT_THAT(again.Restore(model.Save()), IsOk());
    EXPECT_EQ(again.published_digest(), model.published_digest());
    EXPECT_EQ(again.plan().architecture.kept, model.plan().architecture.kept);
    Step(again, round);
    Step(model, round);
    EXPECT_EQ(again.published_digest(), model.published_digest()) << round;
    EXPECT_EQ(again.Save(), model.Save()) << round;
    shapes.insert(model.plan().architecture.kept);
  }
  EXPECT_EQ(shapes.size(), 3u) << "3 channels, two more on trial, 2";
  GlobalModelOptions whole = options_;
  whole.prune = {};
  ASSERT_OK_AND_ASSIGN(GlobalModel unpruned, GlobalModel::Create(whole, initial_));
  EXPECT_THAT(unpruned.Restore(model.Save()), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("prune.target")));
  EXPECT_THAT(model.Restore(unpruned.Save()), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("prune.target")));
}

// Past the checksum, which a program that writes nonsense would also get right: no byte may crash the coordinator or leave it with numbers that cannot be.
TEST_F(PrunedModelTest, ADamagedStateIsRefusedOrWorks) {
  options_.strategy = "fedadam";
  options_.plan.downlink_codec = "chain:step=0.05";
  options_.prune = {.target = 0.3, .begin = 1, .end = 5, .every = 2, .channels = "taylor", .regrow = 0.5};
  ASSERT_OK_AND_ASSIGN(GlobalModel model, GlobalModel::Create(options_, initial_));
  Step(model, 1);
  Step(model, 2);  // channels are on trial
  const std::string state = model.Save();
  int64_t refused = 0, worked = 0;
  for (size_t i = 0; i + 4 < state.size(); ++i) {
    for (uint8_t bits : {0x01, 0x80, 0xff}) {
      std::string damaged = state;
      damaged[i] = static_cast<char>(damaged[i] ^ bits);
      const uint32_t crc = Crc32c(damaged.substr(0, damaged.size() - 4));
      std::memcpy(damaged.data() + damaged.size() - 4, &crc, 4);
      ASSERT_OK_AND_ASSIGN(GlobalModel again, GlobalModel::Create(options_, initial_));
      if (const absl::Status status = again.Restore(damaged); !status.ok()) {
        EXPECT_TRUE(absl::IsDataLoss(status) || absl::IsInvalidArgument(status)) << i << ": " << status;
        ++refused;
        continue;
      }
      ++worked;
      EXPECT_THAT(Submodel::Create(layout_, options_.groups, again.plan().architecture.kept), IsOk()) << i;
      MeanDelta mean{.values = std::vector<float>(static_cast<size_t>(again.layout().value_count())), .uncovered = {}, .update_count = 1, .total_weight = 1};
      if (!again.Step(mean, 3).ok()) continue;  // numbers from the damaged state may be out of range
      for (float value : *again.published()) ASSERT_TRUE(std::isfinite(value)) << "byte " << i << " ^ " << static_cast<int>(bits);
    }
  }
  EXPECT_GT(refused, 500);
  EXPECT_GT(worked, 500) << "values may be any";
}

// What is tried computes nothing yet: zeros where it is read, and its own draw where it is made.
TEST_F(PrunedModelTest, ChannelsComeBackWithoutATrace) {
  options_.prune = {.target = 0.45, .begin = 1, .end = 3, .every = 2, .regrow = 0.5};
  ASSERT_OK_AND_ASSIGN(GlobalModel model, GlobalModel::Create(options_, initial_));
  Step(model, 1);
  const std::vector<int64_t> left = ChannelsOf(options_.groups[0], model.plan().architecture.kept);
  const std::vector<float> was = *model.published();
  Step(model, 2);
  const std::vector<int64_t> tried = ChannelsOf(options_.groups[0], model.plan().architecture.kept);
  ASSERT_GT(tried.size(), left.size());
  std::vector<float> whole(83);
  Part(model.plan().architecture.kept).Scatter(*model.published(), absl::MakeSpan(whole));
  int64_t back = 0;
  for (int64_t channel : tried) {
    if (std::binary_search(left.begin(), left.end(), channel)) continue;
    ++back;
    for (int64_t i = 0; i < 3; ++i) EXPECT_EQ(whole[56 + i * 8 + channel], 0) << channel;
    for (int64_t i = channel * 6; i < channel * 6 + 6; ++i) EXPECT_EQ(whole[i], initial_[i]) << channel;
  }
  EXPECT_GT(back, 0);
  // The others moved by their update and nothing else.
  std::vector<float> before(83);
  Part(KeptChannels{{"in", ToRanges(left)}}).Scatter(was, absl::MakeSpan(before));
  for (int64_t channel : left) EXPECT_EQ(whole[48 + channel], before[48 + channel] + Delta(2)[48 + channel]);
}

// 72 weights and 11 biases, of which half of the parameters are left: the largest weights of each tensor, and no multiply-adds saved.
TEST_F(PrunedModelTest, SingleWeightsGoByMagnitudeAndSaveBytesAlone) {
  options_.prune.unit = "weights";
  const std::vector<ChannelGroup> weights = WeightGroups(layout_);
  ASSERT_OK_AND_ASSIGN(GlobalModel model, GlobalModel::Create(options_, initial_));
  Step(model, 1);
  ASSERT_OK_AND_ASSIGN(const std::shared_ptr<const FittedPlan> dense, model.Assign(2, 1));
  EXPECT_EQ(dense->kept_bytes, 0);
  std::vector<float> whole = *model.published();
  for (size_t i = 0; i < whole.size(); ++i) whole[i] += Delta(2)[i];
  Step(model, 2);
  const KeptChannels kept = model.plan().architecture.kept;
  ASSERT_TRUE(KeepsWeights(kept));
  EXPECT_LE(model.layout().value_count(), 41);
  EXPECT_GE(model.layout().value_count(), 39);
  EXPECT_EQ(*model.published(), Part(kept).Gather(whole)) << "what is left did not move by being left";
  for (const auto& [entry, offset] : {std::pair<size_t, int64_t>{0, 0}, {2, 56}}) {
    const ChannelGroup& group = weights[entry / 2];
    const std::vector<int64_t> left = ChannelsOf(group, kept);
    float least = 1e9f, greatest = 0;
    for (int64_t i = 0; i < group.size; ++i) {
      const float magnitude = std::fabs(whole[static_cast<size_t>(offset + i)]);
      std::binary_search(left.begin(), left.end(), i) ? least = std::min(least, magnitude) : greatest = std::max(greatest, magnitude);
    }
    EXPECT_GE(least, greatest) << group.name;
  }
  ASSERT_OK_AND_ASSIGN(const std::shared_ptr<const FittedPlan> masked, model.Assign(3, 1));
  EXPECT_EQ(masked->macs_per_example, dense->macs_per_example);
  EXPECT_EQ(masked->layout, model.layout());
  Step(model, 3);
  options_.fit = {.policy = "fixed", .widths = {0.5}};
  EXPECT_THAT(GlobalModel::Create(options_, initial_), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("prune.unit")));
}

// What is tried starts at zero, whatever was drawn, and the best of it replaces the least.
TEST_F(PrunedModelTest, SingleWeightsComeBackFromZeroAndARestartGoesOn) {
  options_.plan.downlink_codec = "chain:step=0.05";
  options_.prune = {.target = 0.4, .begin = 1, .end = 5, .every = 2, .unit = "weights", .regrow = 0.4};
  ASSERT_OK_AND_ASSIGN(GlobalModel model, GlobalModel::Create(options_, initial_));
  int64_t trials = 0, moves = 0;
  for (int64_t round = 1; round <= 6; ++round) {
    ASSERT_OK_AND_ASSIGN(GlobalModel again, GlobalModel::Create(options_, initial_));
    ASSERT_THAT(again.Restore(model.Save()), IsOk());
    const Submodel had = Part(model.plan().architecture.kept);
    Step(model, round);
    Step(again, round);
    EXPECT_EQ(again.published_digest(), model.published_digest()) << round;
    EXPECT_EQ(again.Save(), model.Save()) << round;
    const Submodel now = Part(model.plan().architecture.kept);
    std::vector<float> whole(83), was(83);
    now.Scatter(std::vector<float>(static_cast<size_t>(now.layout().value_count()), 1), absl::MakeSpan(whole));
    had.Scatter(std::vector<float>(static_cast<size_t>(had.layout().value_count()), 1), absl::MakeSpan(was));
    std::vector<float> held(83);
    now.Scatter(*model.published(), absl::MakeSpan(held));
    for (size_t i = 0; i < whole.size(); ++i) {
      if (whole[i] == 0 || was[i] != 0) continue;
      ++trials;
      EXPECT_NEAR(held[i], 0, 0.05) << "within a step of the chain";
    }
    if (round == 3 || round == 5) moves += now.layout().value_count() < had.layout().value_count();
  }
  EXPECT_GT(trials, 4);
  EXPECT_EQ(moves, 2);
  EXPECT_LE(model.layout().value_count(), 33);
}

TEST_F(PrunedModelTest, MayBeNarrowFromTheStart) {
  options_.prune = {.target = 0.5, .channels = "ordered"};
  ASSERT_OK_AND_ASSIGN(GlobalModel model, GlobalModel::Create(options_, initial_));
  EXPECT_EQ(model.plan().architecture.kept, (KeptChannels{{"in", {{0, 3}}}}));
  EXPECT_EQ(*model.published(), Part(model.plan().architecture.kept).Gather(initial_));
  options_.groups.clear();
  EXPECT_THAT(GlobalModel::Create(options_, initial_), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("declares no channels")));
}

}  // namespace
}  // namespace fedwatt

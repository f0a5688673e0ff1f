#include "fedwatt/round/global_model.h"

#include <cmath>
#include <limits>

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
    const ModelOffer offer = model.OfferFor(held, false);
    ASSERT_TRUE(offer.base.has_value());
    ASSERT_EQ(*offer.base, ModelDigest(layout_, client.values));
    ASSERT_NE(offer.blob, nullptr);
    EXPECT_EQ(model.FindBlob(offer.blob_digest), offer.blob);
    EXPECT_LT(offer.blob->size(), model.blob()->size() / 8);
    EXPECT_EQ(model.OfferFor(held, false).blob, offer.blob) << "coded twice";
    ASSERT_THAT(ApplyModelDelta(*offer.blob, 1 << 20, client), IsOk());
    EXPECT_EQ(ModelDigest(layout_, client.values), model.published_digest());
  }
  DecodedModel Initial() {
    DecodedModel model{layout_, initial_};
    SnapToLattice(layout_, absl::MakeSpan(model.values));
    return model;
  }
  static absl::StatusOr<DecodedModel> Whole(GlobalModel& model) { return DecodeModel(*model.OfferFor(std::nullopt, /*whole=*/true).blob, 1 << 20); }
  ParameterLayout layout_;
  GlobalModelOptions options_;
  std::vector<float> initial_;
};

TEST_F(ChainOfferTest, AReturnerALateJoinerAndOneTooOldAllHoldTheSame) {
  ASSERT_OK_AND_ASSIGN(GlobalModel model, GlobalModel::Create(options_, initial_));
  EXPECT_EQ(model.published_digest(), ModelDigest(layout_, Initial().values));
  EXPECT_EQ(model.OfferFor(std::nullopt, false).blob, nullptr) << "a client makes version 0 itself";
  for (int64_t round = 1; round <= 10; ++round) Step(model, round);
  ASSERT_OK_AND_ASSIGN(const DecodedModel tenth, Whole(model));
  const Digest tenth_digest = model.published_digest();
  EXPECT_EQ(model.OfferFor(tenth_digest, false).blob, nullptr) << "it holds the newest";
  for (int64_t round = 11; round <= 60; ++round) Step(model, round);
  Follow(model, tenth_digest, tenth);      // away for 50 rounds
  Follow(model, std::nullopt, Initial());  // joins now
  for (int64_t round = 61; round <= 80; ++round) Step(model, round);
  Follow(model, tenth_digest, Initial());  // its version has been forgotten: from the start again

  const ModelOffer whole = model.OfferFor(tenth_digest, true);
  EXPECT_TRUE(model.FindBlob(whole.blob_digest) == whole.blob);
  EXPECT_FALSE(whole.base.has_value());
  ASSERT_OK_AND_ASSIGN(DecodedModel decoded, DecodeModel(*whole.blob, 1 << 20));
  EXPECT_EQ(ModelDigest(layout_, decoded.values), model.published_digest());
}

TEST_F(ChainOfferTest, WithoutASeedNewcomersGetTheWholeModel) {
  options_.initial_from_seed = false;
  ASSERT_OK_AND_ASSIGN(GlobalModel model, GlobalModel::Create(options_, initial_));
  EXPECT_TRUE(model.OfferFor(std::nullopt, false).blob == model.blob());
  Step(model, 1);
  for (const std::optional<Digest>& held : {std::optional<Digest>(), std::optional<Digest>(Sha256("unknown"))}) {
    const ModelOffer offer = model.OfferFor(held, false);
    EXPECT_FALSE(offer.base.has_value());
    ASSERT_OK_AND_ASSIGN(DecodedModel client, DecodeModel(*offer.blob, 1 << 20));
    EXPECT_TRUE(client.values == *model.published());
    // From there it follows the chain.
    const Digest before = model.published_digest();
    Step(model, held.has_value() ? 3 : 2);
    const ModelOffer next = model.OfferFor(before, false);
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
  EXPECT_FALSE(model.OfferFor(before, false).base.has_value());
  EXPECT_FALSE(model.OfferFor(std::nullopt, false).base.has_value());
  const DecodedModel client{layout_, *model.published()};
  ASSERT_OK_AND_ASSIGN(GlobalModel again, GlobalModel::Create(options_, initial_));
  ASSERT_THAT(again.Restore(model.Save()), IsOk());
  Step(again, 2);
  Follow(again, ModelDigest(layout_, client.values), client);
}

}  // namespace
}  // namespace fedwatt

#include "fedwatt/round/model_chain.h"

#include "fedwatt/compression/block_dct.h"

#include <cmath>

#include "fedwatt/base/random.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;
using ::testing::_;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

ParameterLayout Small() { return *ParameterLayout::Create({{"w", {4}}}); }
ParameterLayout WithBuffers() {
  return *ParameterLayout::Create({{"w", {300, 7}}, {"mean", {5}, EntryKind::kAveragedBuffer}, {"b", {33}}, {"steps", {}, EntryKind::kLocal, Dtype::kInt64}});
}

std::vector<float> Noise(size_t size, double scale, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(size);
  for (float& value : values) value = static_cast<float>(random.Normal() * scale);
  return values;
}

TEST(ParseChainTest, ReadsAndRefuses) {
  ASSERT_OK_AND_ASSIGN(ChainOptions options, ParseChain("chain:step=0.03:deadzone=0.7:length=12"));
  EXPECT_EQ(options.step, 0.03);
  EXPECT_EQ(options.deadzone, 0.7);
  EXPECT_EQ(options.length, 12);
  EXPECT_THAT(ParseChain("chain"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("one of step, multiple or rate")));
  EXPECT_THAT(ParseChain("chain:step=1:rate=1"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("one of step, multiple or rate")));
  EXPECT_THAT(ParseChain("chain:step=0"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("step = '0'")));
  EXPECT_THAT(ParseChain("chain:step=nan"), StatusIs(absl::StatusCode::kInvalidArgument, _));
  EXPECT_THAT(ParseChain("chain:stride=1"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no option 'stride'")));
  EXPECT_TRUE(IsChain("chain:rate=1"));
  EXPECT_FALSE(IsChain("chained"));
}

// By hand: step 0.25, dead zone 0.5. Residuals 0.3, -0.13, 0.12, 0.6 make symbols 1, -1, 0, 2; what is left adds up in the next round.
TEST(ModelChainTest, MovesByWholeStepsAndKeepsTheRest) {
  ASSERT_OK_AND_ASSIGN(ModelChain chain, ModelChain::Create(Small(), {.step = 0.25, .deadzone = 0.5, .dct = false}, {0, 0, 0, 0}));
  ASSERT_THAT(chain.Append({0.3f, -0.13f, 0.12f, 0.6f}), IsOk());
  EXPECT_THAT(chain.values(), ElementsAre(0.25f, -0.25f, 0, 0.5f));
  ASSERT_THAT(chain.Append({0.3f, -0.13f, 0.126f, 0.6f}), IsOk());
  EXPECT_THAT(chain.values(), ElementsAre(0.25f, -0.25f, 0.25f, 0.5f));
  // -0.13 against -0.25 is 0.12 too low, within the dead zone; at 0 it is half a step and moves.
  ASSERT_THAT(chain.Append({0.3f, 0, 0.126f, 0.6f}), IsOk());
  EXPECT_EQ(chain.values()[1], 0);
}

// By hand: step 0.25. Two values a step away from the start, on either side, go back once they are 0.75 of a step beyond the middle of it, as `reversal` says; one
// that is where it began needs half a step either way, and so does one that goes on.
TEST(ModelChainTest, GoingBackTakesMoreThanGoingOn) {
  ASSERT_OK_AND_ASSIGN(ModelChain chain, ModelChain::Create(Small(), {.step = 0.25, .deadzone = 0.5, .reversal = 0.75, .dct = false}, {0, 0, 0, 0}));
  ASSERT_THAT(chain.Append({0.25f, -0.25f, 0, 0.25f}), IsOk());
  ASSERT_THAT(chain.Append({0.0626f, -0.0626f, 0.124f, 0.374f}), IsOk());
  EXPECT_THAT(chain.values(), ElementsAre(0.25f, -0.25f, 0, 0.25f));
  ASSERT_THAT(chain.Append({0.0624f, -0.0624f, -0.126f, 0.376f}), IsOk());
  EXPECT_THAT(chain.values(), ElementsAre(0, 0, -0.25f, 0.5f));
  // By default a whole step.
  ASSERT_OK_AND_ASSIGN(ModelChain slow, ModelChain::Create(Small(), {.step = 0.25, .dct = false}, {0, 0, 0, 0}));
  ASSERT_THAT(slow.Append({0.25f, 0.25f, 0, 0}), IsOk());
  ASSERT_THAT(slow.Append({0.001f, 0, 0, 0}), IsOk());
  EXPECT_THAT(slow.values(), ElementsAre(0.25f, 0, 0, 0));
}

TEST(ModelChainTest, EveryWayToAVersionEndsAtTheSameBits) {
  const ParameterLayout layout = WithBuffers();
  const size_t size = static_cast<size_t>(layout.value_count());
  std::vector<float> master = Noise(size, 0.05, 1);
  ASSERT_OK_AND_ASSIGN(ModelChain chain, ModelChain::Create(layout, {.step = 0.01, .length = 8, .dct = false}, master));
  master = chain.values();
  std::vector<ChainPosition> versions = {chain.position()};
  std::vector<Digest> digests = {chain.digest()};
  for (int round = 1; round <= 8; ++round) {
    const std::vector<float> move = Noise(size, 0.008, 100 + round);
    for (size_t i = 0; i < size; ++i) master[i] += move[i];
    ASSERT_THAT(chain.Append(master), IsOk());
    versions.push_back(chain.position());
    digests.push_back(chain.digest());
    for (int from = 0; from < round; ++from) {
      ASSERT_OK_AND_ASSIGN(ChainDelta delta, chain.DeltaFrom(digests[from]));
      EXPECT_EQ(delta.target, chain.digest());
      ChainPosition position = versions[from];
      ASSERT_THAT(ApplyChainDelta(layout, delta.payload, position), IsOk());
      ASSERT_EQ(ChainValues(layout, position), chain.values()) << from << " to " << round;
    }
    // Buffers are not quantized.
    EXPECT_EQ(chain.values()[2100], master[2100]);
  }
  // What is sent never strays: a round leaves less than a step of any parameter's way.
  for (size_t i = 0; i < 2100; ++i) ASSERT_LE(std::fabs(master[i] - chain.values()[i]), 0.01 + 1e-6);
}

TEST(ModelChainTest, StepsThatChangeShareALattice) {
  const ParameterLayout layout = Small();
  ASSERT_OK_AND_ASSIGN(ModelChain chain, ModelChain::Create(layout, {.rate = 0.001, .deadzone = 0.5}, {0.1f, 0.2f, 0.3f, 0.4f}));
  const Digest start = chain.digest();
  ChainPosition begin = chain.position();
  std::vector<float> master = chain.values();
  const double first_step = chain.step();
  for (int round = 0; round < 40; ++round) {
    for (float& value : master) value += 0.3f;  // far above the rate asked for: the step must grow
    const Digest before = chain.digest();
    ChainPosition position = chain.position();
    ASSERT_THAT(chain.Append(master), IsOk());
    ASSERT_OK_AND_ASSIGN(ChainDelta delta, chain.DeltaFrom(before));
    ASSERT_THAT(ApplyChainDelta(layout, delta.payload, position), IsOk());
    ASSERT_EQ(ChainValues(layout, position), chain.values());
    if (round >= 20) break;
  }
  EXPECT_GT(chain.step(), first_step);
  ASSERT_OK_AND_ASSIGN(ChainDelta all, chain.DeltaFrom(start));
  ASSERT_THAT(ApplyChainDelta(layout, all.payload, begin), IsOk());
  EXPECT_EQ(ChainValues(layout, begin), chain.values());
}

TEST(ModelChainTest, ForgetsOldVersionsButNeverTheFirst) {
  const ParameterLayout layout = Small();
  ASSERT_OK_AND_ASSIGN(ModelChain chain, ModelChain::Create(layout, {.step = 0.25, .length = 3, .dct = false}, {0, 0, 0, 0}));
  const Digest start = chain.digest();
  std::vector<Digest> digests;
  for (int round = 1; round <= 5; ++round) {
    ASSERT_THAT(chain.Append(std::vector<float>(4, 0.25f * round)), IsOk());
    digests.push_back(chain.digest());
  }
  EXPECT_THAT(chain.DeltaFrom(digests[0]), StatusIs(absl::StatusCode::kNotFound, _));
  EXPECT_THAT(chain.DeltaFrom(digests[2]), IsOk());
  EXPECT_THAT(chain.DeltaFrom(Sha256("unknown")), StatusIs(absl::StatusCode::kNotFound, _));
  ASSERT_OK_AND_ASSIGN(ChainDelta delta, chain.DeltaFrom(start));
  ChainPosition position{"", std::vector<float>(4)};
  ASSERT_THAT(ApplyChainDelta(layout, delta.payload, position), IsOk());
  EXPECT_EQ(ChainValues(layout, position), chain.values());
  // From the newest to itself: nothing moves.
  ASSERT_OK_AND_ASSIGN(ChainDelta none, chain.DeltaFrom(chain.digest()));
  ASSERT_THAT(ApplyChainDelta(layout, none.payload, position), IsOk());
  EXPECT_EQ(ChainValues(layout, position), chain.values());
}

// Weights of root mean square 0.1: a multiple of 2 makes a step of 0.2, to five bits 0.203125. Weights of zero: five first moves of 0.01.
TEST(ModelChainTest, AMultipleSuitsTheModel) {
  ASSERT_OK_AND_ASSIGN(ModelChain chain, ModelChain::Create(Small(), {.multiple = 2, .dct = false}, {0.1f, -0.1f, 0.1f, -0.1f}));
  ASSERT_THAT(chain.Append({0.11f, -0.1f, 0.1f, -0.1f}), IsOk());
  EXPECT_EQ(chain.step(), 0.203125);
  ASSERT_OK_AND_ASSIGN(ModelChain zero, ModelChain::Create(Small(), {.multiple = 2, .dct = false}, {0, 0, 0, 0}));
  ASSERT_THAT(zero.Append({0.01f, -0.01f, 0.01f, 0.01f}), IsOk());
  EXPECT_NEAR(zero.step(), 0.1, 0.003);
  // Once chosen it stays, over a restart as well.
  ASSERT_THAT(zero.Append({1, 1, 1, 1}), IsOk());
  EXPECT_NEAR(zero.step(), 0.1, 0.003);
  ASSERT_OK_AND_ASSIGN(ModelChain again, ModelChain::Create(Small(), {.multiple = 2, .dct = false}, {0, 0, 0, 0}));
  ASSERT_THAT(again.Restore(zero.Save()), IsOk());
  EXPECT_EQ(again.step(), zero.step());
}

// A tiny negative weight snaps to zero; there and back again it must be the same zero as for a client that saw neither move.
TEST(ModelChainTest, ZeroHasOneSign) {
  ASSERT_OK_AND_ASSIGN(ModelChain chain, ModelChain::Create(Small(), {.step = 0.25, .dct = false}, {-1e-9f, 0.5f, 0.5f, 0.5f}));
  const ChainPosition start = chain.position();
  const Digest first = chain.digest();
  ASSERT_THAT(chain.Append({0.3f, 0.5f, 0.5f, 0.5f}), IsOk());
  ASSERT_THAT(chain.Append({0, 0.5f, 0.5f, 0.5f}), IsOk());
  ASSERT_OK_AND_ASSIGN(ChainDelta delta, chain.DeltaFrom(first));
  ChainPosition position = start;
  ASSERT_THAT(ApplyChainDelta(Small(), delta.payload, position), IsOk());
  EXPECT_EQ(ModelDigest(Small(), ChainValues(Small(), position)), chain.digest());
}

TEST(ModelChainTest, SaysWhenAValueLeavesTheLattice) {
  ASSERT_OK_AND_ASSIGN(ModelChain chain, ModelChain::Create(Small(), {.step = 0.25, .dct = false}, {0, 0, 0, 0}));
  EXPECT_THAT(chain.Append({7.8f, 0, 0, 0}), IsOk());
  EXPECT_THAT(chain.Append({8.5f, 0, 0, 0}), StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("leaves the lattice")));
  // Large weights have a coarser unit, and more room.
  ASSERT_OK_AND_ASSIGN(ModelChain large, ModelChain::Create(Small(), {.step = 0.01, .dct = false}, {1000, 0, 0, 0}));
  ChainPosition before = large.position();
  const Digest held = large.digest();
  EXPECT_THAT(large.Append({31000.123f, 0.001f, 0, 0}), IsOk());
  ASSERT_OK_AND_ASSIGN(ChainDelta delta, large.DeltaFrom(held));
  ASSERT_THAT(ApplyChainDelta(Small(), delta.payload, before), IsOk());
  EXPECT_EQ(ChainValues(Small(), before), large.values());
}

TEST(ModelChainTest, SavesAndGoesOnBitForBit) {
  const ParameterLayout layout = WithBuffers();
  const size_t size = static_cast<size_t>(layout.value_count());
  const std::vector<float> initial = Noise(size, 0.05, 1);
  for (bool reproducible : {true, false}) {
    ASSERT_OK_AND_ASSIGN(ModelChain chain, ModelChain::Create(layout, {.rate = 0.2}, initial, reproducible));
    std::vector<float> master = chain.values();
    for (int round = 0; round < 5; ++round) {
      for (size_t i = 0; i < size; ++i) master[i] += 0.01f * static_cast<float>(i % 7);
      ASSERT_THAT(chain.Append(master), IsOk());
    }
    const std::string state = chain.Save();
    ASSERT_OK_AND_ASSIGN(ModelChain other, ModelChain::Create(layout, {.rate = 0.2}, reproducible ? initial : Noise(size, 1, 7)));
    ASSERT_THAT(other.Restore(state), IsOk());
    EXPECT_EQ(other.digest(), chain.digest());
    for (float& value : master) value += 0.02f;
    ASSERT_THAT(chain.Append(master), IsOk());
    ASSERT_THAT(other.Append(master), IsOk());
    EXPECT_EQ(other.digest(), chain.digest());
    EXPECT_EQ(other.Save(), chain.Save());
    for (size_t cut = 0; cut < state.size(); cut += 97) EXPECT_FALSE(other.Restore(state.substr(0, cut)).ok()) << cut;
  }
  ASSERT_OK_AND_ASSIGN(ModelChain chain, ModelChain::Create(layout, {.step = 0.01}, initial));
  ASSERT_OK_AND_ASSIGN(ModelChain stranger, ModelChain::Create(layout, {.step = 0.01}, Noise(size, 0.05, 2)));
  EXPECT_THAT(stranger.Restore(chain.Save()), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("another model")));
}

// Rows that change smoothly move in the cosine domain, others as they are; every way still ends at the same bits, whole positions included.
TEST(ModelChainTest, SmoothTensorsMoveInTheCosineDomain) {
  const ParameterLayout layout = *ParameterLayout::Create({{"pixels", {20, 100}}, {"hidden", {50, 20}}, {"b", {20}}});
  const size_t size = static_cast<size_t>(layout.value_count());
  std::vector<float> master = Noise(size, 0.05, 1);
  ASSERT_OK_AND_ASSIGN(ModelChain chain, ModelChain::Create(layout, {.step = 0.02}, master));
  ASSERT_OK_AND_ASSIGN(ModelChain plain, ModelChain::Create(layout, {.step = 0.02, .dct = false}, master));
  master = chain.values();
  std::vector<ChainPosition> positions = {chain.position()};
  std::vector<Digest> digests = {chain.digest()};
  for (int round = 1; round <= 6; ++round) {
    const std::vector<float> noise = Noise(size, 0.01, 50 + round);
    const std::vector<float> row = Noise(40, 1, 90 + round);  // amplitude and phase of each row's wave
    for (size_t i = 0; i < size; ++i) {
      master[i] += i < 2000 ? 0.03f * row[i / 100] * std::sin(static_cast<float>(i % 100) / 15 + 3 * row[20 + i / 100]) : noise[i];
    }
    ASSERT_THAT(chain.Append(master), IsOk());
    ASSERT_THAT(plain.Append(master), IsOk());
    ASSERT_EQ(chain.position().basis.size(), 3u);
    ASSERT_NE(chain.position().basis[0], kNoDct);
    ASSERT_EQ(chain.position().basis.substr(1), std::string(2, kNoDct));
    positions.push_back(chain.position());
    digests.push_back(chain.digest());
    for (int from = 0; from < round; ++from) {
      ASSERT_OK_AND_ASSIGN(ChainDelta delta, chain.DeltaFrom(digests[from]));
      ChainPosition position = positions[from];
      ASSERT_THAT(ApplyChainDelta(layout, delta.payload, position), IsOk());
      ASSERT_EQ(ModelDigest(layout, ChainValues(layout, position)), chain.digest()) << from << " to " << round;
    }
    ASSERT_OK_AND_ASSIGN(ChainPosition read, ReadChainPosition(layout, WriteChainPosition(chain.position())));
    EXPECT_EQ(ChainValues(layout, read), chain.values());
    // The residual is as small in either domain: the transform is orthonormal.
    double error = 0;
    for (size_t i = 0; i < size; ++i) error += std::pow(master[i] - chain.values()[i], 2);
    EXPECT_LE(std::sqrt(error / static_cast<double>(size)), 0.02 * 0.55);
  }
  EXPECT_LT(chain.DeltaFrom(digests[0])->payload.size(), plain.DeltaFrom(plain.initial_digest())->payload.size() * 3 / 4);
  const std::string state = chain.Save();
  ASSERT_OK_AND_ASSIGN(ModelChain again, ModelChain::Create(layout, {.step = 0.02}, Noise(size, 0.05, 1)));
  ASSERT_THAT(again.Restore(state), IsOk());
  ASSERT_THAT(again.Append(master), IsOk());
  ASSERT_THAT(chain.Append(master), IsOk());
  EXPECT_EQ(again.digest(), chain.digest());
  // From the start a delta brings the basis: another than the one held, or one that does not suit the layout.
  const std::string from_start = chain.DeltaFrom(chain.initial_digest())->payload;
  ChainPosition other{std::string("\0\1\0", 3), positions[6].coefficients, positions[6].moved};
  EXPECT_THAT(ApplyChainDelta(layout, from_start, other), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("another basis")));
  std::string unsuited = from_start;
  unsuited[2] = 9;
  ChainPosition first = positions[0];
  EXPECT_THAT(ApplyChainDelta(layout, unsuited, first), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("no shape 9")));
  // From any other version it does not, and version 0 alone cannot do without.
  ASSERT_OK_AND_ASSIGN(ChainDelta delta, chain.DeltaFrom(digests[6]));
  first = positions[0];
  EXPECT_THAT(ApplyChainDelta(layout, delta.payload, first), StatusIs(absl::StatusCode::kDataLoss, HasSubstr("without a basis")));
}

// Whose values are those of version 0 again is taken for one that never moved, and has a basis all the same.
TEST(ModelChainTest, AVersionLikeTheFirstIsFollowedFromEitherEnd) {
  const ParameterLayout layout = *ParameterLayout::Create({{"w", {4, 8}}});
  ASSERT_OK_AND_ASSIGN(ModelChain chain, ModelChain::Create(layout, {.step = 0.25, .dct = false}, std::vector<float>(32, 0.5f)));
  std::vector<ChainPosition> positions;
  for (float value : {1.5f, 0.5f, -1.0f}) {
    positions.push_back(chain.position());
    ASSERT_THAT(chain.Append(std::vector<float>(32, value)), IsOk());
  }
  ASSERT_EQ(ChainValues(layout, positions[2]), ChainValues(layout, positions[0]));
  ASSERT_NE(positions[2].basis, positions[0].basis);
  ASSERT_OK_AND_ASSIGN(ChainDelta delta, chain.DeltaFrom(chain.initial_digest()));
  for (int version : {0, 2}) {
    ChainPosition position = positions[version];
    ASSERT_THAT(ApplyChainDelta(layout, delta.payload, position), IsOk()) << version;
    EXPECT_EQ(ChainValues(layout, position), chain.values()) << version;
  }
}

TEST(ApplyChainDeltaTest, BearsHostileBytes) {
  const ParameterLayout layout = WithBuffers();
  const size_t size = static_cast<size_t>(layout.value_count());
  ASSERT_OK_AND_ASSIGN(ModelChain chain, ModelChain::Create(layout, {.step = 0.01}, Noise(size, 0.05, 1)));
  const Digest start = chain.digest();
  ASSERT_THAT(chain.Append(Noise(size, 0.05, 2)), IsOk());
  ASSERT_OK_AND_ASSIGN(ChainDelta delta, chain.DeltaFrom(start));
  Random random(5);
  for (int trial = 0; trial < 2000; ++trial) {
    std::string bytes = delta.payload.substr(0, trial % 2 == 0 ? delta.payload.size() : random.Below(delta.payload.size()));
    for (int flips = 0; flips < 3 && !bytes.empty(); ++flips) bytes[random.Below(bytes.size())] = static_cast<char>(random.Next());
    ChainPosition position{"", std::vector<float>(size, 0.5f)};
    const absl::Status status = ApplyChainDelta(layout, bytes, position);
    if (!status.ok()) {
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
      continue;
    }
    for (float value : ChainValues(layout, position)) ASSERT_TRUE(std::isfinite(value));
  }
  ChainPosition position{"", std::vector<float>(size)};
  EXPECT_THAT(ApplyChainDelta(layout, "", position), StatusIs(absl::StatusCode::kDataLoss, _));
}

}  // namespace
}  // namespace fedwatt

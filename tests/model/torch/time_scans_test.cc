// The scan of minGRU and the spiking neuron, by hand, against other forms, and their gradients against numerical differences.
#include "model/torch/time_scans.h"

#include <cmath>

#include "fedwatt/base/random.h"
#include "fedwatt/model/torch/torch_trainer.h"
#include "model/torch/layer_ops.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::testing::ElementsAre;

at::Tensor Normal(std::vector<int64_t> shape, uint64_t seed, double scale = 1) {
  Random random(seed);
  at::Tensor values = at::empty(shape);
  for (int64_t i = 0; i < values.numel(); ++i) values.data_ptr<float>()[i] = static_cast<float>(scale * random.Normal());
  return values;
}

// d (out * weights).sum() / d input against central differences.
template <typename Function>
void CheckGradient(at::Tensor input, const Function& function, float step, double tolerance) {
  input.set_requires_grad(true);
  const at::Tensor out = function(input), weights = Normal(out.sizes().vec(), 77);
  const at::Tensor gradient = torch::autograd::grad({(out * weights).sum()}, {input})[0];
  at::NoGradGuard no_grad;
  double greatest = 0;
  for (int64_t i = 0; i < input.numel(); ++i) {
    float& x = input.data_ptr<float>()[i];
    const float was = x;
    x = was + step;
    const double above = (function(input) * weights).to(at::kDouble).sum().template item<double>();
    x = was - step;
    const double below = (function(input) * weights).to(at::kDouble).sum().template item<double>();
    x = was;
    const double got = gradient.flatten()[i].template item<double>();
    greatest = std::max(greatest, std::fabs(got));
    EXPECT_NEAR(got, (above - below) / (2 * step), tolerance) << i;
  }
  EXPECT_GT(greatest, 0.1) << "a gradient of nothing proves nothing";
}

TEST(MinGruTest, ByHand) {
  // z = sigmoid(0) = 1/2 throughout; G(1) = 1.5, G(-log 3) = 1/4: 0.75, then 0.75 + (0.25 - 0.75) / 2.
  const at::Tensor states = internal::MinGruStates(at::tensor({0.0f, 1.0f, 0.0f, -std::log(3.0f)}).view({1, 2, 2}));
  EXPECT_FLOAT_EQ(states[0][0][0].item<float>(), 0.75f);
  EXPECT_NEAR(states[0][1][0].item<float>(), 0.5f, 1e-6);
}

// Feng et al. 2024, appendix B.3: the log-space parallel scan of Heinsen, with no step that waits for another.
TEST(MinGruTest, TheScanIsThePapersParallelForm) {
  const at::Tensor gates = Normal({3, 300, 2 * 7}, 1, 2), z = gates.narrow(2, 0, 7).to(at::kDouble), g = gates.narrow(2, 7, 7).to(at::kDouble);
  const at::Tensor log_keep = -at::softplus(z), log_take = -at::softplus(-z);
  const at::Tensor log_candidate = at::where(g.ge(0), (at::relu(g) + 0.5).log(), -at::softplus(-g));
  const at::Tensor sums = log_keep.cumsum(1);
  const at::Tensor parallel = (sums + (log_take + log_candidate - sums).logcumsumexp(1)).exp();
  EXPECT_LT((internal::MinGruStates(gates).to(at::kDouble) - parallel).abs().max().item<double>(), 1e-5);
}

TEST(MinGruTest, NoStateDependsOnALaterGate) {
  const at::Tensor gates = Normal({2, 20, 6}, 1);
  at::Tensor other = gates.clone();
  other.narrow(1, 12, 8).fill_(50);
  const at::Tensor before = internal::MinGruStates(gates), after = internal::MinGruStates(other);
  EXPECT_TRUE(at::equal(before.narrow(1, 0, 12), after.narrow(1, 0, 12)));
  EXPECT_FALSE(at::equal(before, after));
}

TEST(MinGruTest, GradientIsThatOfNumericalDifferences) { CheckGradient(Normal({2, 6, 2 * 3}, 6), internal::MinGruStates, 1e-2f, 2e-3); }

TEST(IntegrateAndFireTest, ByHand) {
  // leak 0.5, current 0.75: u = 0.75; 0.375 + 0.75 = 1.125, spike; 0.5625 + 0.75 - 1 = 0.3125; 0.15625 + 0.75 = 0.90625; 0.453125 + 0.75 = 1.203125, spike.
  const float currents[] = {0.75f, 0.75f, 0.75f, 0.75f, 0.75f};
  std::vector<float> potentials(5), spikes(5);
  internal::IntegrateAndFire(internal::SpikeFunction::kStep, 5, 1, 0.5f, currents, potentials.data(), spikes.data());
  EXPECT_THAT(potentials, ElementsAre(0.75f, 1.125f, 0.3125f, 0.90625f, 1.203125f));
  EXPECT_THAT(spikes, ElementsAre(0, 1, 0, 0, 1));
}

TEST(IntegrateAndFireTest, SurrogateByHand) {
  // One step at u = 1.2: 1 / (1 + 5 * 0.2)^2 = 1/4. Two steps: the earlier spike resets the later potential, the earlier potential leaks to it.
  const float potentials[] = {1.2f, 0.8f}, to_spikes[] = {3, 2};
  float carry[1], to_currents[2];
  internal::IntegrateAndFireGradient(1, 1, 0.5f, potentials, to_spikes, carry, to_currents);
  EXPECT_NEAR(to_currents[0], 0.75, 1e-4);
  internal::IntegrateAndFireGradient(2, 1, 0.5f, potentials, to_spikes, carry, to_currents);
  EXPECT_NEAR(to_currents[1], 0.5, 1e-4);
  EXPECT_NEAR(to_currents[0], 0.5 * 0.5 + (3 - 0.5) / 4, 1e-4);
}

// The step itself has no derivative; with the smooth function whose derivative the surrogate is, the same backward pass is exact, through time, leak and reset.
TEST(IntegrateAndFireTest, GradientIsThatOfTheSmoothNeuron) {
  CheckGradient(Normal({4 * 3, 5}, 2, 0.1) + 0.9, [](const at::Tensor& x) { return internal::Spikes(x, 4, 0.9, internal::SpikeFunction::kFastSigmoid); }, 1e-4f, 2e-2);
}

TEST(IntegrateAndFireTest, TheSurrogateIsUsedForStepsToo) {
  const at::Tensor currents = (Normal({6, 5}, 2, 0.5) + 0.7).set_requires_grad(true);
  const at::Tensor spikes = internal::Spikes(currents, 3, 0.9);
  EXPECT_TRUE((spikes.eq(0) + spikes.eq(1)).all().item<bool>());
  EXPECT_GT(spikes.sum().item<double>(), 0);
  EXPECT_LT(spikes.mean().item<double>(), 1);
  EXPECT_GT(torch::autograd::grad({spikes.sum()}, {currents})[0].abs().max().item<double>(), 0.01);
}

// One weight of 2 on the input, 4 steps of leak 0: x = 1 fires at every step (u = 2, 1, 2, 1), x = 0.3 never (u = 0.6).
TEST(SpikeProfileTest, CountsByHand) {
  const ArchitectureSpec spec{.name = "lif_snn", .input_shape = {1}, .output_count = 3, .options = {{"hidden_size", "1"}, {"leak", "0"}}};
  ExampleStore store;
  store.input_shape = {1};
  store.output_count = 3;
  store.inputs = std::vector<float>{1, 0.3f};
  store.labels = {0, 1};
  ASSERT_OK_AND_ASSIGN(const Dataset data, Dataset::Create(std::move(store)));
  // fc1, fc2, fc: weight and bias each. The second neuron gets 0.5 a spike: never fires.
  const std::vector<float> model = {2, 0, 0.5f, 0, 1, 1, 1, 0, 0, 0};
  ASSERT_OK_AND_ASSIGN(const SpikeProfile profile, ProfileSpikes(spec, model, data));
  EXPECT_EQ(profile.steps, 4);
  EXPECT_EQ(profile.analogue_macs, 2);
  EXPECT_EQ(profile.macs_per_step, 2 + 6);
  EXPECT_EQ(profile.neuron_updates, 8);
  ASSERT_EQ(profile.layers.size(), 2u);
  EXPECT_EQ(profile.layers[0].name, "fc2");
  EXPECT_EQ(profile.layers[0].rate, 0.5);
  EXPECT_EQ(profile.layers[1].rate, 0);
  EXPECT_EQ(profile.spike_operations, 4 * 2 * 0.5);
  EXPECT_THAT(ProfileSpikes({.name = "logistic", .input_shape = {1}, .output_count = 3}, std::vector<float>(6), data),
              testing::StatusIs(absl::StatusCode::kUnimplemented, ::testing::HasSubstr("no spiking neurons")));
  EXPECT_THAT(ProfileSpikes(spec, std::vector<float>(3), data), testing::StatusIs(absl::StatusCode::kInvalidArgument, ::testing::HasSubstr("3 values")));
}

}  // namespace
}  // namespace fedwatt

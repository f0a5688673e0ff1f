#include "fedwatt/energy/theoretical.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <type_traits>

#include "fedwatt/energy/quantities.h"

namespace fedwatt {
namespace {

using ::testing::HasSubstr;

template <typename A, typename B>
concept Addable = requires(A a, B b) { a + b; };
static_assert(!Addable<TheoreticalEnergy, Energy> && !Addable<Energy, TheoreticalEnergy>, "what was not measured is never added to what was");
static_assert(!std::is_convertible_v<TheoreticalEnergy, Energy> && !std::is_convertible_v<Energy, TheoreticalEnergy>);
static_assert(!std::is_convertible_v<double, TheoreticalEnergy>);

const HardwareAssumption& Named(std::string_view name) {
  for (const HardwareAssumption& assumption : HardwareAssumptions()) {
    if (assumption.name == name) return assumption;
  }
  ADD_FAILURE() << name;
  return HardwareAssumptions()[0];
}

// 4 steps, 1000 weights that spikes reach, 100 analogue ones, 10 neurons.
SpikingWork Work(double rate) { return {.steps = 4, .analogue_macs = 100, .macs_per_step = 1000, .spike_operations = 4000 * rate, .neuron_updates = 40}; }

TEST(TheoreticalEnergyTest, EqualInformationIsTheCountOfSpikes) {
  EXPECT_EQ(EqualInformationBits(1), 1);
  EXPECT_EQ(EqualInformationBits(3), 2);
  EXPECT_EQ(EqualInformationBits(4), 3);  // 0 to 4: five values
  EXPECT_EQ(EqualInformationBits(7), 3);
  EXPECT_EQ(EqualInformationBits(8), 4);
}

TEST(TheoreticalEnergyTest, ArithmeticByHand) {
  const SpikingComparison comparison = CompareWithIntegers(Named("arithmetic"), Work(0.25));
  EXPECT_NEAR(comparison.spiking.picojoules(), 100 * 0.3 + 1000 * 0.1 + 40 * 0.1, 1e-9);
  EXPECT_NEAR(comparison.integer.picojoules(), 100 * 0.3 + 1000 * 0.3, 1e-9);
  EXPECT_TRUE(comparison.spiking_wins);
  EXPECT_NEAR(comparison.break_even_rate, (300.0 - 4) / 400, 1e-9);
}

TEST(TheoreticalEnergyTest, MemoryMakesTheBarHard) {
  const HardwareAssumption& memory = Named("event_driven_with_memory");
  const SpikingComparison comparison = CompareWithIntegers(memory, Work(0.25));
  EXPECT_NEAR(comparison.spiking.picojoules(), 100 * 1.55 + 1000 * 6.35 + 40 * 5.1, 1e-9);
  EXPECT_NEAR(comparison.integer.picojoules(), 1100 * 1.55, 1e-9);
  EXPECT_FALSE(comparison.spiking_wins);
  // The rate that is named is the rate that decides.
  for (const HardwareAssumption& assumption : HardwareAssumptions()) {
    const double rate = CompareWithIntegers(assumption, Work(0)).break_even_rate;
    if (rate < 0) continue;
    EXPECT_TRUE(CompareWithIntegers(assumption, Work(0.99 * rate)).spiking_wins) << assumption.name;
    EXPECT_FALSE(CompareWithIntegers(assumption, Work(1.01 * rate)).spiking_wins) << assumption.name;
  }
}

TEST(TheoreticalEnergyTest, NoRateHelpsADenseProcessor) {
  const SpikingComparison silent = CompareWithIntegers(Named("dense_processor"), Work(0));
  EXPECT_FALSE(silent.spiking_wins);
  EXPECT_LT(silent.break_even_rate, 0);
  EXPECT_THAT(Statement(silent, Work(0)), HasSubstr("does not beat an integer network of equal information (3-bit activations, one pass) under 'dense_processor'"));
  EXPECT_THAT(Statement(silent, Work(0)), HasSubstr("no spike rate would"));
  EXPECT_THAT(Statement(CompareWithIntegers(Named("arithmetic"), Work(0.25)), Work(0.25)), HasSubstr("beats an integer network"));
  EXPECT_THAT(Statement(CompareWithIntegers(Named("arithmetic"), Work(0.25)), Work(0.25)), HasSubstr("at 25.0 % spikes a step, where less than 74.0 % would"));
}

TEST(TheoreticalEnergyTest, NothingToAskForIsNoRate) { EXPECT_EQ(SpikeRate({.steps = 4}), 0); }

}  // namespace
}  // namespace fedwatt

// What operations would cost on hardware that nobody measured here: picojoules by tables of operation costs. A type of its own, which is never added to or shown
// as measured joules.
#ifndef FEDWATT_ENERGY_THEORETICAL_H_
#define FEDWATT_ENERGY_THEORETICAL_H_

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace fedwatt {

class TheoreticalEnergy {
 public:
  constexpr TheoreticalEnergy() = default;
  constexpr double picojoules() const { return picojoules_; }
  friend constexpr auto operator<=>(TheoreticalEnergy, TheoreticalEnergy) = default;
  friend constexpr TheoreticalEnergy operator+(TheoreticalEnergy a, TheoreticalEnergy b) { return TheoreticalEnergy(a.picojoules_ + b.picojoules_); }

 private:
  constexpr explicit TheoreticalEnergy(double picojoules) : picojoules_(picojoules) {}
  friend constexpr TheoreticalEnergy Picojoules(double value);
  double picojoules_ = 0;
};
constexpr TheoreticalEnergy Picojoules(double value) { return TheoreticalEnergy(value); }

// A multiply and an add of float32 in 45 nm, without memory: 3.7 + 0.9 pJ (Horowitz 2014, "Computing's energy problem", ISSCC, figure 1.1.9).
inline constexpr TheoreticalEnergy kFloatMultiplyAdd = Picojoules(4.6);

// What one inference of a network asks for. Activations of an integer network of equal information tell as many values as the spikes of a neuron over all steps.
struct SpikingWork {
  int64_t steps = 1;            // of time, >= 1
  double analogue_macs = 0;     // multiply-adds with inputs that are no spikes, done once; >= 0
  double macs_per_step = 0;     // weights that spikes may ask for at one instant; >= 0
  double spike_operations = 0;  // additions of a weight that spikes did ask for, over all steps; >= 0
  double neuron_updates = 0;    // leaks and comparisons with the threshold, over all steps; >= 0
};

// What hardware is assumed to do, with its costs.
struct HardwareAssumption {
  std::string_view name;
  std::string_view describe;   // for people, with the source
  double integer_mac_pj = 0;   // of an 8-bit weight and a small integer activation
  double spike_pj = 0;         // of one addition that a spike asks for
  double neuron_pj = 0;        // of one update of a potential
  bool event_driven = true;    // false: every step costs a whole product, spikes or none
};
// "arithmetic", "event_driven_with_memory", "dense_processor".
absl::Span<const HardwareAssumption> HardwareAssumptions();

struct SpikingComparison {
  std::string_view assumption;
  TheoreticalEnergy spiking, integer;
  double break_even_rate = 0;  // spikes a neuron and step below which the spiking network would win; may be negative: never
  bool spiking_wins = false;
};
// Against an integer network of the same weights that computes once, with activations of ceil(log2(steps + 1)) bits: as much as a neuron's count of spikes tells (Yan et
// al. 2024, arXiv 2409.08290). Both are charged for the first, analogue layer alike.
SpikingComparison CompareWithIntegers(const HardwareAssumption& assumption, const SpikingWork& work);
// Bits of an activation of that integer network.
int64_t EqualInformationBits(int64_t steps);
// Spikes a neuron and step, as connections see them. 0 where nothing can be asked for.
double SpikeRate(const SpikingWork& work);
// One sentence for people: whether it wins, against what, and on which assumption.
std::string Statement(const SpikingComparison& comparison, const SpikingWork& work);

}  // namespace fedwatt

#endif  // FEDWATT_ENERGY_THEORETICAL_H_

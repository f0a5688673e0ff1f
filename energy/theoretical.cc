#include "fedwatt/energy/theoretical.h"

#include <bit>

#include "absl/strings/str_format.h"

namespace fedwatt {
namespace {

// Horowitz 2014, 45 nm: 8-bit multiply 0.2 pJ, 32-bit integer add 0.1, 64 bits from an 8 kB cache 10.
constexpr double kMultiply8 = 0.2, kAdd32 = 0.1, kCacheByte = 10.0 / 8;

constexpr HardwareAssumption kAssumptions[] = {
    {"arithmetic", "45 nm arithmetic alone (Horowitz 2014): 0.3 pJ a multiply-add of 8-bit integers, 0.1 pJ an addition; memory is free, zeros cost nothing", kMultiply8 + kAdd32,
     kAdd32, kAdd32, true},
    // Each event reads and writes the 16-bit potential of the neuron it goes to; a dense product keeps its sum in a register.
    {"event_driven_with_memory", "45 nm arithmetic and an 8 kB cache (Horowitz 2014): both read each 8-bit weight (1.25 pJ), an event also reads and writes a 16-bit potential (5 pJ)",
     kMultiply8 + kAdd32 + kCacheByte, kAdd32 + kCacheByte + 4 * kCacheByte, kAdd32 + 4 * kCacheByte, true},
    {"dense_processor", "a processor without event-driven hardware, as measured here: every step costs a whole product of 8-bit integers (1.55 pJ with cache)", kMultiply8 + kAdd32 + kCacheByte,
     kMultiply8 + kAdd32 + kCacheByte, kAdd32 + 4 * kCacheByte, false},
};

}  // namespace

absl::Span<const HardwareAssumption> HardwareAssumptions() { return kAssumptions; }

int64_t EqualInformationBits(int64_t steps) { return static_cast<int64_t>(std::bit_width(static_cast<uint64_t>(steps))); }

double SpikeRate(const SpikingWork& work) {
  const double most = work.macs_per_step * static_cast<double>(work.steps);
  return most > 0 ? work.spike_operations / most : 0;
}

SpikingComparison CompareWithIntegers(const HardwareAssumption& assumption, const SpikingWork& work) {
  const double most = work.macs_per_step * static_cast<double>(work.steps), first = work.analogue_macs * assumption.integer_mac_pj;
  const double operations = assumption.event_driven ? work.spike_operations : most;
  SpikingComparison comparison{.assumption = assumption.name};
  comparison.spiking = Picojoules(first + operations * assumption.spike_pj + work.neuron_updates * assumption.neuron_pj);
  comparison.integer = Picojoules(first + work.macs_per_step * assumption.integer_mac_pj);
  const double left = work.macs_per_step * assumption.integer_mac_pj - work.neuron_updates * assumption.neuron_pj;
  comparison.break_even_rate = assumption.event_driven && most > 0 ? left / (most * assumption.spike_pj) : -1;
  comparison.spiking_wins = comparison.spiking < comparison.integer;
  return comparison;
}

std::string Statement(const SpikingComparison& comparison, const SpikingWork& work) {
  std::string text = absl::StrFormat("The spiking network %s an integer network of equal information (%d-bit activations, one pass) under '%s': %.3g against %.3g theoretical pJ",
                                     comparison.spiking_wins ? "beats" : "does not beat", EqualInformationBits(work.steps), std::string(comparison.assumption),
                                     comparison.spiking.picojoules(), comparison.integer.picojoules());
  if (comparison.break_even_rate < 0) return text + "; no spike rate would.";
  return text + absl::StrFormat("; at %.1f %% spikes a step, where less than %.1f %% would.", 100 * SpikeRate(work), 100 * comparison.break_even_rate);
}

}  // namespace fedwatt

#include "fedwatt/aggregation/accumulator.h"

namespace fedwatt {

namespace internal {
void InstallAccumulators(AccumulatorRegistry& registry);
}  // namespace internal

AccumulatorRegistry& Accumulators() {
  static auto* registry = [] {
    auto* made = new AccumulatorRegistry("accumulator");
    internal::InstallAccumulators(*made);
    return made;
  }();
  return *registry;
}

}  // namespace fedwatt

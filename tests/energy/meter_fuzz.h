// Random machines, powers and faults under the meters that read counters, through files on disk, against the joules that the machine really spent.
#ifndef FEDWATT_TESTS_ENERGY_METER_FUZZ_H_
#define FEDWATT_TESTS_ENERGY_METER_FUZZ_H_

#include <cstdint>
#include <string>
#include <vector>

namespace fedwatt::testing {

struct FuzzResult {
  int64_t windows = 0, faulted = 0, wrapped = 0;
  int64_t stated = 0;            // windows that were not missing
  int64_t missing_healthy = 0;   // without any fault, and still missing
  int64_t negative = 0;          // a bound or value below zero
  int64_t phantom = 0;           // at least so many joules, and there were fewer
  double phantom_joules = 0;     // by how much
  int64_t outside_healthy = 0;   // truth outside the interval, without any fault
  int64_t outside = 0;           // with or without
};

// `folder` is an empty one for the tree. A window is faulted when a fault falls into it or meets its first or last reading, or a counter stands still at
// either. Faults: unreadable, empty, garbage, vanished and renamed zones, single numbers that are far too small, resets, counters that stop at any instant, one
// or all, and go on with or without what they held back, jumps that no hardware can draw, sleep with and without a restart of the counters.
FuzzResult FuzzCounters(const std::string& meter, const std::string& folder, uint64_t seed, int64_t windows);
// The meters that it knows.
std::vector<std::string> FuzzedMeters();

}  // namespace fedwatt::testing

#endif  // FEDWATT_TESTS_ENERGY_METER_FUZZ_H_

// The crash matrix: points, what is lost, once or twice. Shared by its test and bench/server/fault_simulation.
#ifndef FEDWATT_TESTS_FAULT_CRASH_POINTS_H_
#define FEDWATT_TESTS_FAULT_CRASH_POINTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "tests/fault/simulation.h"

namespace fedwatt::testing {

struct CrashPoint {
  std::string name;             // "C05_update_synced"
  std::vector<CrashAt> crashes; // all but the last to get there
  bool uploads = false;         // every update is uploaded
  bool files = false;           // and stays a file
};
// In the order of a round's life.
std::vector<CrashPoint> CrashPoints();

struct CrashCell {
  CrashPoint point;
  Loss loss;
  bool nested = false;  // and once more while it recovers
  std::string Name() const;
};

struct CrashCellResult {
  int64_t runs = 0, crashed = 0;      // as often as they should have
  std::vector<std::string> failures;  // with their seeds
};
CrashCellResult RunCrashCell(const CrashCell& cell, uint64_t first_seed, int64_t seeds);

}  // namespace fedwatt::testing

#endif  // FEDWATT_TESTS_FAULT_CRASH_POINTS_H_

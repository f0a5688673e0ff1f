// One coordinator, its clients, the network between them and the disk below, in one thread and one virtual time. Coordinator, engine, journal, store, uploads, fold pool and
// SQLite are the real ones; clients speak the protocol as fedwatt-client does. The promises of docs/promises.md are checked on the way and at the end.
#ifndef FEDWATT_TESTS_FAULT_SIMULATION_H_
#define FEDWATT_TESTS_FAULT_SIMULATION_H_

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tests/fault/scenario.h"

namespace fedwatt::testing {

struct SimulationResult {
  std::vector<std::string> violations;  // "P1: ..."; empty: every promise was kept
  uint64_t trace = 0;                   // of everything that happened, in order
  int64_t rounds = 0, committed = 0;    // that ended
  int64_t uploads = 0;                  // whole updates that reached the coordinator with their reports
  int64_t crashes = 0, starts = 0;
  int64_t exits = 0;                    // runs that ended because of the disk, and were started again
  std::map<std::string, int64_t> faults;  // injected, by kind
  std::map<std::string, int64_t> points;  // passages of named points
  absl::Duration simulated;
  std::vector<std::string> digests;     // of the models that were committed, in order
  std::vector<size_t> accepted;         // how many updates are in each

  int64_t fault_count() const;
};

// `print` is told what happens, line by line; it may be empty, and changes nothing.
SimulationResult Simulate(const Scenario& scenario, const std::function<void(const std::string& line)>& print = {});

}  // namespace fedwatt::testing

#endif  // FEDWATT_TESTS_FAULT_SIMULATION_H_

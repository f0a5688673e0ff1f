// What a seed expands to: a federation and what befalls it. Printed, so that whoever reads a seed knows what it stands for.
#ifndef FEDWATT_TESTS_FAULT_SCENARIO_H_
#define FEDWATT_TESTS_FAULT_SCENARIO_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tests/fault/simulated_disk.h"

namespace fedwatt::testing {

// A crash of the coordinator at the n-th passage of a named point, or at the n-th change of the disk where `point` is empty.
struct CrashAt {
  std::string point;   // as in base/failpoint.h, where there is an '@' only passages whose path holds what follows
  int64_t passage = 1;
};

struct Scenario {
  uint64_t seed = 0;

  // The federation.
  int64_t clients = 8, rounds = 10, clients_per_round = 6;
  double quorum = 0.5, over_selection = 0;
  absl::Duration deadline = absl::Seconds(60);
  std::string durability = "update";
  int64_t journaled_update_bytes = 1 << 20;  // 0: every update stays a file
  double inline_share = 0.5;                 // of the clients: their updates come inside reports
  bool federated_evaluation = false, budget = false;
  absl::Duration longest_training = absl::Seconds(20);

  // The network: each message for itself.
  double lost = 0, doubled = 0, delayed = 0;  // probabilities
  absl::Duration longest_delay = absl::Milliseconds(50), longest_extra_delay = absl::Seconds(8);
  double partitions_per_hour = 0;             // of each client, one-way or both
  double cut_stream = 0, corrupt_chunk = 0;   // an upload's pieces, each
  double half_open = 0;                       // of connections that end: the other end does not hear of it
  double trickle = 0;                         // of uploads: a second between pieces

  // The disk.
  double sync_fails = 0, sync_lies = 0, read_fails = 0, short_write = 0;
  double full_per_hour = 0;                   // windows without space
  double flips = 0;                           // at a crash, a bit of what is stored
  std::vector<Loss> losses = {Loss::kNothing};  // of a crash, one of them

  // The coordinator.
  double crashes_per_hour = 0;
  double crash_at_point = 0;                  // of its starts: a named point, or a change of the disk, that kills it
  double crash_while_recovering = 0;          // of its starts after a crash
  std::vector<CrashAt> crashes;               // where set, of the first starts in this order, and nothing else kills it
  double slow_worker = 0;                     // of the tasks of journal and fold pool: up to two seconds
  double clock_jumps_per_hour = 0;            // up to a day in either direction

  // The clients.
  double deaths_per_hour = 0;                 // of each; it comes back and knows nothing
  bool same_work = false;                     // what a client makes of a round does not depend on how often it was asked
  double hostile = 0;                         // of its reports
  double repeats = 0;                         // of its reports: told again later, as they were or with other bytes

  // From then on nothing of the above happens any more, and the run must end.
  absl::Duration faults_until = absl::Hours(2);
  int64_t faults_until_round = 9;
};

Scenario ExpandSeed(uint64_t seed);
std::string Describe(const Scenario& scenario);

}  // namespace fedwatt::testing

#endif  // FEDWATT_TESTS_FAULT_SCENARIO_H_

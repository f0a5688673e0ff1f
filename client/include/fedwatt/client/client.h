// The client SDK: takes part in a federation with local data and a local trainer.
#ifndef FEDWATT_CLIENT_CLIENT_H_
#define FEDWATT_CLIENT_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "fedwatt/base/log.h"
#include "fedwatt/client/conditions.h"
#include "fedwatt/client/connection.h"
#include "fedwatt/energy/carbon.h"
#include "fedwatt/energy/meter.h"
#include "fedwatt/client/floors.h"
#include "fedwatt/energy/phase_tracker.h"
#include "fedwatt/model/dataset.h"
#include "fedwatt/model/local_trainer.h"

namespace fedwatt {

// One part of the data, which takes part as a member of its own.
struct ClientPartition {
  int64_t index = 0;  // [0, partition_count)
  Dataset data;       // not empty
};

struct ClientOptions {
  ConnectionOptions connection;
  // Holds the client id and the last model, is locked while the client lives and survives restarts. "": nothing is kept.
  std::string state_directory;
  std::string name;  // what people call this client; may be empty
  std::string site;  // where it stands, as the coordinator's configuration names it; "" = not known
  // The grid there, for the grams in the client's own ledger; null: they are not known to it.
  std::shared_ptr<const CarbonModel> carbon;

  // All partitions share one connection; each has its own session and counts as one member.
  std::vector<ClientPartition> partitions;
  int64_t partition_count = 1;
  // Part of each partition kept from training for federated evaluation, [0, 1).
  double held_out_fraction = 0;

  LocalTrainerFactory trainer_factory;
  std::vector<std::string> architectures;  // names the factory knows; empty means any
  ClientFloors floors;
  bool allow_bfloat16 = true;  // false: trains in float32 whatever is asked for
  // What the speed of training depends on beside the model: processor, versions of program and kernels. Measured speeds that are kept in the state directory
  // count only while this stays the same.
  std::string machine;
  // Attempts under way at once. Beyond 1, each is metered by its thread's part, without the threads of a trainer's kernels.
  int max_parallel_attempts = 1;

  std::string meter = "auto";  // a registered meter, "auto" or "none"
  MeterOptions meter_options;

  // When this client's own time began, by the clock's monotonic time: what came before Run is in its phase `init`. Unset: with Run.
  std::optional<absl::Duration> began;

  ConditionRules rules;
  std::function<DeviceState()> device_state;  // default: ReadDeviceState(); called from the client's threads, must be thread-safe
  absl::Duration conditions_interval = absl::Seconds(5);  // how often they are checked, idle or training

  absl::Duration backoff_base = absl::Milliseconds(500);  // see Backoff
  absl::Duration backoff_cap = absl::Seconds(20);
  absl::Duration give_up_after = absl::InfiniteDuration();  // without a connection; counted from the last answer
  absl::Duration stall_timeout = absl::Seconds(30);         // a transfer without progress is cut and resumed
  int64_t max_model_bytes = int64_t{1} << 32;               // a larger model is refused

  bool stay = false;  // after FINISHED, wait for the next run
  LogSink log;
  const Clock* clock = &RealClock();  // must outlive the client
};

// How a run ended, and what this client did in it.
struct ClientSummary {
  std::string reason;      // the coordinator's words: "100 of 100 rounds"
  bool succeeded = true;   // false when the run was stopped or failed
  int64_t accepted_count = 0;
  int64_t rejected_count = 0;   // refused, late and duplicate ones
  int64_t cancelled_count = 0;  // told to stop, or withdrawn
  int64_t evaluated_count = 0;
  // All of the client's time, cut into phases; of several partitions, their sums. Joules are missing where phases were not metered: before Run, and,
  // with several partitions, between attempts.
  std::vector<PhaseSpan> phases;
};

// Checks in, waits for work, trains, uploads, reports, again and again. Survives restarts of the coordinator and cut connections by itself:
// transfers resume where they stopped, reports are repeated under the same id.
//
// Call Create, then Run once. Threads belong to the call of Run and have ended when it returns: one a partition, plus two for each attempt under
// way. No signal handlers, no global state. Thread-safe only in the sense that any thread may ask `stop`. Errors go where each call says; talk
// goes to `log`.
//
// Wire bytes are reported when the client has one partition; the kernel counts per connection, so several partitions, or another client of the
// same process and coordinator port, cannot be told apart.
class Client {
 public:
  // Errors: INVALID_ARGUMENT  an option is out of its range (named), no data, an address that is none
  //         NOT_FOUND  no identity, unknown meter; ALREADY_EXISTS  the state directory is in use; DATA_LOSS  damaged state
  static absl::StatusOr<std::unique_ptr<Client>> Create(ClientOptions options);
  virtual ~Client() = default;

  // Returns when the run is FINISHED (with `stay`: never), `stop` is asked, or nothing can come of going on.
  // Errors: CANCELLED  `stop` was asked; an attempt under way was withdrawn
  //         FAILED_PRECONDITION  refused: protocol version, partition, capability
  //         UNAUTHENTICATED, PERMISSION_DENIED  identity; UNAVAILABLE  give_up_after passed
  virtual absl::StatusOr<ClientSummary> Run(std::stop_token stop) = 0;

  virtual const std::string& client_id() const = 0;
  // The meter in use and those refused, for people.
  virtual std::string DescribeMeters() const = 0;
};

}  // namespace fedwatt

#endif  // FEDWATT_CLIENT_CLIENT_H_

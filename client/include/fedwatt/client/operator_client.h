// What `fedwatt status`, `watch` and `keys` ask of a running coordinator.
#ifndef FEDWATT_CLIENT_OPERATOR_CLIENT_H_
#define FEDWATT_CLIENT_OPERATOR_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "fedwatt/client/connection.h"
#include "fedwatt/energy/quantities.h"

namespace fedwatt {

// As the messages of the same names in proto/fedwatt/v1/run.proto.
struct RunStatus {
  enum class State { kWaitingForClients, kRunning, kFinished, kStopped, kFailed };
  std::string run_id;
  State state = State::kRunning;
  std::string reason;
  int64_t round = 0, round_count = 0, committed_round_count = 0;
  int64_t client_count = 0, wait_for_client_count = 0, accepted_count = 0, selected_count = 0;
  std::optional<absl::Duration> deadline;
  std::optional<double> best_accuracy, target_accuracy;
  absl::Time start_time, server_time;
  std::string server_version;
};
// "waiting_for_clients", "running", "finished", "stopped", "failed".
std::string_view RunStateName(RunStatus::State state);

struct RoundSummary {
  int64_t round = 0;
  bool committed = false;
  std::string reason;
  absl::Time start_time;
  absl::Duration wall;
  int64_t selected_count = 0, completed_count = 0, rejected_count = 0, late_count = 0, dropped_count = 0;
  std::optional<double> train_loss, eval_loss, eval_accuracy;
  int64_t uplink_payload_bytes = 0, downlink_payload_bytes = 0, uplink_dense_bytes = 0, downlink_dense_bytes = 0;
  std::optional<int64_t> uplink_wire_bytes, downlink_wire_bytes;
  std::optional<Energy> client_energy;
  EnergyTier client_energy_tier = EnergyTier::kMissing;
  std::string model_digest;  // hexadecimal
};

struct ClientStatus {
  std::string pseudonym;
  int64_t partition = 0;
  bool connected = false;
  std::string attempt;
  int64_t accepted_count = 0, rejected_count = 0;
  absl::Duration silent;
  std::string meter_name;
  EnergyTier meter_tier = EnergyTier::kMissing;
};

struct IssuedToken {
  std::string token;
  absl::Time expiry_time;
};

// One connection to service Operator. Thread-safe; calls block, at most 20 s but for WatchRounds.
// Errors of all calls: PERMISSION_DENIED  the identity is a device's; UNAVAILABLE  not reached, in words
class OperatorClient {
 public:
  // Errors: as ReadClientIdentity; INVALID_ARGUMENT  bad address
  static absl::StatusOr<std::unique_ptr<OperatorClient>> Create(const ConnectionOptions& options);
  virtual ~OperatorClient() = default;

  virtual absl::StatusOr<RunStatus> GetStatus() = 0;
  virtual absl::StatusOr<std::vector<ClientStatus>> ListClients() = 0;
  // Calls `on_round` from this thread for each round from `from_round` (0: only new ones) until the run or the connection ends, `stop` is asked
  // or `on_round` returns false. The last call of a run that ends has no round.
  virtual absl::Status WatchRounds(int64_t from_round, std::stop_token stop,
                                   const std::function<bool(const std::optional<RoundSummary>&, const RunStatus&)>& on_round) = 0;
  virtual absl::StatusOr<RunStatus> StopRun(const std::string& reason, bool abandon_round) = 0;
  // `role`: "client", "operator" or "read_only".
  virtual absl::StatusOr<IssuedToken> IssueToken(absl::Duration lifetime, std::string_view role) = 0;
  // Errors also: NOT_FOUND  nothing was enrolled by this name
  virtual absl::Status Revoke(const std::string& name) = 0;
};

}  // namespace fedwatt

#endif  // FEDWATT_CLIENT_OPERATOR_CLIENT_H_

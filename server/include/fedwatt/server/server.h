// The coordinator: serves clients over gRPC, runs the rounds, keeps what a restart needs.
#ifndef FEDWATT_SERVER_SERVER_H_
#define FEDWATT_SERVER_SERVER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "fedwatt/base/clock.h"
#include "fedwatt/base/disk.h"
#include "fedwatt/base/log.h"
#include "fedwatt/energy/meter.h"
#include "fedwatt/model/dataset.h"
#include "fedwatt/model/local_trainer.h"
#include "fedwatt/report/run_record.h"
#include "fedwatt/round/engine.h"
#include "fedwatt/round/global_model.h"
#include "fedwatt/round/retry_policy.h"

namespace fedwatt {

// A run at one instant.
struct ServerSnapshot {
  RoundSnapshot round;
  std::string run_id;
  int64_t committed_rounds = 0;
  std::optional<double> best_accuracy;
};

// Runs a task later, on the thread of the loop. For simulations.
using Background = std::function<void(absl::Duration after, std::function<void()> task)>;

// Bounds on streams that move models and updates, so that silent, trickling or too many ones cost no more than their place.
struct TransferLimits {
  // A stream that falls behind this by `grace` is cut, as a broken connection would be: clients go on where it stopped. >= 0; 0 = never.
  double min_bytes_per_second = 4096;
  absl::Duration grace = absl::Seconds(40);  // > 0; also how long a stream may be silent. A piece (128 KiB) counts when it is whole, so a shorter grace asks for more than the floor
  int64_t max_transfers = 4096;              // at once, >= 1; more are refused with a window
  int64_t max_of_one_caller = 2048;          // by one certificate's name, or without TLS one address; >= 1
};

struct ServerOptions {
  std::string listen = "127.0.0.1:0";  // "host:port", "[v6]:port"; port 0 takes a free one
  std::string security_directory;      // made at the first start: CA, server certificate, enrolment token
  absl::Duration certificate_lifetime = absl::Hours(24 * 365);  // of certificates that are made from now on, [1 s, 3650 days]; renewed at a third left
  std::vector<std::string> server_names;  // extra names and addresses in the server's certificate
  bool insecure = false;               // true: no TLS, security_directory is not looked at
  std::string out_directory;           // the run record, the state and the audit log; created if needed

  EngineOptions engine;                // run_id, next_round and incarnation are replaced by the stored ones on a restart
  GlobalModelOptions model;
  std::vector<float> initial_model;    // of the first round; ignored on a restart
  // The client's learning rate in a round, from 1. Empty: the plan's, always.
  std::function<double(int64_t round)> client_learning_rate_at;
  int64_t partition_count = 0;         // that clients must name when checking in; 0 = any

  // Central evaluation, when both are set. Used on one thread of the server's own while Run() lasts; borrowed, must outlive the server.
  LocalTrainer* evaluation_trainer = nullptr;
  std::optional<Dataset> evaluation_data;
  // Makes trainers of narrower models for the same thread; needed where the federation's model is pruned and scored centrally.
  LocalTrainerFactory trainer_factory;
  // Federated evaluation on the held-out parts of the clients that took part in the round; those that do not answer in time are left out.
  bool federated_evaluation = false;
  absl::Duration federated_evaluation_timeout = absl::Seconds(60);

  std::unique_ptr<Meter> meter;        // for the coordinator's own joules; null = missing
  std::optional<std::string> carbon_site;  // of the coordinator, one of engine.carbon's; unset: its grams are not counted
  RunSummary summary;                  // what only the program knows; run_id and model_path are filled here
  std::shared_ptr<const std::string> archive;  // the TorchScript archive that plan.architecture names, for download; or null
  // "update": what is acknowledged is on disk, and a crash goes on with the round under way. "round": a crash repeats it.
  std::string durability = "update";

  int64_t journaled_update_bytes = 1 << 20;  // [0, 1 MiB]: longer updates stay files of their own until their round is over
  int fold_threads = 0;                // 0 = as many as cores, at most 2: each costs about four models of memory while updates are folded
  TransferLimits transfers;
  int64_t max_clients = 100000;        // sessions; more are refused as busy
  absl::Duration hold_duration = absl::Seconds(25);       // of a WaitForWork without news
  absl::Duration session_duration = absl::Seconds(30);    // a session without a call under way lapses
  absl::Duration disconnect_grace = absl::Seconds(5);     // from a cut connection to the end of the session
  absl::Duration watch_after = absl::Seconds(2);          // a client at work for longer holds a call to hear of a cancellation
  absl::Duration farewell_duration = absl::Seconds(10);   // how long a finished run waits for its clients to hear of it
  RetryWindows retry{{absl::ZeroDuration(), absl::Milliseconds(200)}, {absl::Seconds(1), absl::Seconds(3)}};

  const Clock* clock = &RealClock();   // must outlive the server
  Disk* disk = &RealDisk();            // under out_directory, security and audit log excepted; must outlive the server
  // Where set, the coordinator has no threads: it does their work in such tasks. The process is then not its own, and what that spends is not recorded.
  Background background;
  std::function<std::string()> new_session_id;  // empty: random ones; nobody may guess them
  LogSink log;
  // Called on the thread of Run(); must not block for long. May be empty.
  std::function<void(const RoundRecord&)> on_round;
  std::function<void(const ServerSnapshot&)> on_waiting;  // about once a second while no round is under way
  // Writes the final model, which pruning may have narrowed, in forms for other programs and says in the summary where they are. Called on the thread of
  // Run(), before the summary is written.
  std::function<absl::Status(const ArchitectureSpec& architecture, absl::Span<const float> model, RunSummary& summary)> on_finish;
};

struct RunOutcome {
  std::string reason;           // for people
  bool target_reached = false;
  bool stopped = false;         // by the stop token or an operator
  int64_t committed_rounds = 0; // of the whole run, earlier starts included
  absl::Status status;          // not OK: the run could not go on
};

// Create() listens; calls are held until Run() executes the rounds on its thread. Everything else is thread-safe.
class Server {
 public:
  // Errors: INVALID_ARGUMENT     options out of range
  //         ALREADY_EXISTS       another coordinator runs on out_directory
  //         UNAVAILABLE          the address cannot be listened on
  //         FAILED_PRECONDITION  out_directory belongs to a run with another model, strategy, codec or seed
  //         DATA_LOSS            stored state is damaged; otherwise as the rooms below
  static absl::StatusOr<std::unique_ptr<Server>> Create(ServerOptions options);
  virtual ~Server() = default;

  // "host:port" with the port that was bound.
  virtual const std::string& address() const = 0;
  virtual const std::string& run_id() const = 0;

  // Runs rounds to the end, tells the clients, writes the summary, shuts down. Once. A stop abandons the open round.
  virtual RunOutcome Run(std::stop_token stop) = 0;

  virtual ServerSnapshot Snapshot() const = 0;
};

}  // namespace fedwatt

#endif  // FEDWATT_SERVER_SERVER_H_

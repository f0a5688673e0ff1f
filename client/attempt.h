// One assignment from model to report. Private to the room.
#ifndef FEDWATT_CLIENT_ATTEMPT_H_
#define FEDWATT_CLIENT_ATTEMPT_H_

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "model_cache.h"
#include "release_guard.h"
#include "residual_store.h"
#include "fedwatt/client/client.h"
#include "fedwatt/energy/ledger.h"
#include "fedwatt/round/number_format.h"
#include "fedwatt/round/participant.h"
#include "fedwatt/rpc/held_plan.h"
#include "fedwatt/rpc/socket_byte_counter.h"
#include "link.h"

namespace fedwatt::internal {

// What is heavy and serves one attempt at a time.
struct Bench {
  std::unique_ptr<Meter> meter;  // null: not metered
  std::unique_ptr<LocalTrainer> trainer;
  ArchitectureSpec architecture;  // of `trainer`
  ParticipantScratch scratch;
};

// Hands out benches. Thread-safe.
class BenchPool {
 public:
  explicit BenchPool(std::vector<std::unique_ptr<Bench>> benches) : free_(std::move(benches)) {}

  // Returns the bench to the pool when destroyed.
  class Lease {
   public:
    Lease(BenchPool* pool, std::unique_ptr<Bench> bench) : pool_(pool), bench_(std::move(bench)) {}
    Lease(Lease&&) = default;
    ~Lease() {
      if (bench_) pool_->Return(std::move(bench_));
    }
    Bench& operator*() const { return *bench_; }
    Bench* operator->() const { return bench_.get(); }

   private:
    BenchPool* pool_;
    std::unique_ptr<Bench> bench_;
  };

  // Waits for a free bench; nullopt once `stop` is asked.
  std::optional<Lease> Take(std::stop_token stop);

 private:
  void Return(std::unique_ptr<Bench> bench);

  std::mutex mutex_;
  std::condition_variable_any freed_;
  std::vector<std::unique_ptr<Bench>> free_;
};

struct Session {
  std::string id;
  std::string pseudonym, run_id;
  absl::Duration hold;
  absl::Duration watch_after;  // since the assignment
  int64_t max_inline_update_bytes = 0;
  v1::RetryWindows retry;
};

// What all participants of a client share. All members are thread-safe or constant.
struct Shared {
  ClientOptions options;
  RetryOptions retry;
  std::unique_ptr<Link> link;
  std::unique_ptr<ModelCache> models;
  std::unique_ptr<BenchPool> benches;
  std::unique_ptr<FormatChooser> formats;
  // Of the only bench that the only partition uses, so that the time between attempts can be metered too: with several, nobody knows whose it is.
  Meter* lone_meter = nullptr;

  DeviceState State() const { return options.device_state ? options.device_state() : ReadDeviceState(); }
  void Say(LogLevel level, const std::string& message) const { Log(options.log, level, message); }
};
v1::EnergyState ToProto(const DeviceState& state);

// Works assignments off for one partition. Owned by one thread.
class AttemptRunner {
 public:
  // `residual_path`, `release_path`: where the partition's residual and the number of its newest signed assignment are kept; "" for nowhere. `ledger` may be null, and must outlive the runner.
  AttemptRunner(Shared* shared, const ClientPartition* partition, std::string residual_path, std::string release_path, Ledger* ledger, uint64_t seed);

  // Both return OK when the attempt is over, whatever became of it.
  // Errors: NOT_FOUND  the session is lost; CANCELLED  `stop` was asked; others are final for the client
  absl::Status Train(const Session& session, const v1::TrainAssignment& assignment, std::stop_token stop, ClientSummary* summary);
  absl::Status Evaluate(const Session& session, const v1::EvaluateAssignment& assignment, std::stop_token stop, ClientSummary* summary);
  // The client's time, cut into phases without gaps from StartTime on, all by the thread that runs the attempts. What is outside attempts, evaluations
  // included, goes with the next report.
  void StartTime();
  void EnterPhase(Phase phase) { tracker_.Enter(phase); }
  // Ends it; what no report told any more is the ledger's last record. All phases since StartTime. `last_session` may be null.
  std::vector<PhaseSpan> FinishTime(const Session* last_session);
  // What the coordinator said when the run ended during an attempt.
  const std::optional<v1::Finished>& finished() const { return finished_; }
  void ForgetFinished() { finished_.reset(); }

  // Fills what the client says of itself when it asks for work; bytes count towards the attempt from here.
  void FillWaitRequest(v1::WaitForWorkRequest& request);
  // An earlier process may have been killed between an encoding and its verdict; asks what became of it. Once a session, before work.
  absl::Status SettleResidual(const Session& session, std::stop_token stop);

 private:
  struct Work;  // of one attempt: its bench, its monitor, its measurements

  template <typename Assignment>
  absl::StatusOr<Plan> HearPlan(Work& work, const Assignment& assignment);
  template <typename Assignment>
  absl::StatusOr<std::shared_ptr<const DecodedModel>> FetchModel(Work& work, const Assignment& assignment, const Plan& plan);
  absl::Status PrepareTrainer(Bench& bench, const ArchitectureSpec& architecture);
  absl::Status PrepareSplit(uint64_t run_seed);
  // The update is uploaded, or inside the result.
  absl::StatusOr<v1::CompletedTraining> TrainAndDeliver(Work& work, const v1::TrainAssignment& assignment);
  absl::StatusOr<v1::CompletedEvaluation> Score(Work& work, const v1::EvaluateAssignment& assignment);
  // Fills phases, bytes and, unless `result` is OK, the outcome; returns false when nothing is to be reported.
  template <typename Request>
  bool FillReport(Work& work, const absl::Status& result, Request* request);
  // Enters the attempt into the ledger and its place there into the report.
  void NoteInLedger(const Work& work, int64_t round, v1::ReportRequest* request);
  absl::Status UploadUpdate(Work& work, const std::string& update, const Digest& digest, std::stop_token stop);
  void KeepResidual(const absl::Status& status);
  void BeginAttempt(Bench& bench);
  std::vector<PhaseSpan> EndAttempt();
  // Notes spans of an attempt, or of the time between attempts.
  void Book(const std::vector<PhaseSpan>& spans, std::vector<PhaseSpan>* between);

  Shared* shared_;
  const ClientPartition* partition_;
  Retrier retrier_;
  SocketByteCounter counter_;
  std::optional<WireBytes> wire_start_;  // when work was asked for
  HeldPlan held_plan_;
  std::optional<ReleaseGuard> releases_;  // none without TLS
  std::string label_;  // "partition 3: ", or nothing when there is one
  std::optional<uint64_t> split_seed_;
  HeldOutSplit split_;
  std::optional<v1::Finished> finished_;
  ResidualStore residual_;
  Ledger* ledger_;
  PhaseTracker tracker_;
  std::vector<PhaseSpan> between_, all_;  // not reported yet; since StartTime
  std::string format_told_;  // the last words on number formats that were logged
  int mismatches_ = 0;   // assignments in a row whose delta does not start from what we hold
  bool ask_anew_ = false;  // the work at hand is to be asked for again
};

}  // namespace fedwatt::internal

#endif  // FEDWATT_CLIENT_ATTEMPT_H_

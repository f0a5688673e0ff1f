// The coordinator's state and what it does with calls and effects; the services bring the calls, the engine orders the effects.
#ifndef FEDWATT_SERVER_COORDINATOR_H_
#define FEDWATT_SERVER_COORDINATOR_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "fedwatt/energy/ledger.h"
#include "fedwatt/energy/plausibility.h"
#include "fedwatt/report/run_record.h"
#include "fedwatt/round/engine.h"
#include "fedwatt/round/global_model.h"
#include "fedwatt/round/model_archive.h"
#include "fedwatt/rpc/manifest.h"
#include "fedwatt/rpc/security.h"
#include "fedwatt/rpc/socket_byte_counter.h"
#include "fedwatt/server/server.h"
#include "fedwatt/v1/coordinator.pb.h"
#include "fedwatt/v1/operator.pb.h"
#include "fedwatt/v1/journal.pb.h"
#include "fold_pool.h"
#include "journal.h"
#include "loop.h"
#include "round_ledger.h"
#include "store.h"
#include "upload.h"

namespace fedwatt::internal {

// Ends a call; the response and the request may be gone afterwards.
using Done = std::function<void(const absl::Status&)>;
// Names a call for Cancelled(); unique in the process.
using CallId = int64_t;

// Receives rounds as they finish; called on the loop's thread, must not block.
class RoundWatcher {
 public:
  virtual ~RoundWatcher() = default;
  virtual void OnRound(const v1::WatchRoundsResponse& response) = 0;
  virtual void OnEnd() = 0;
};

// Owned by the loop's thread, Snapshot() excepted.
class Coordinator {
 public:
  // `options` and `loop` must outlive the coordinator; `signer` too, or it is null and assignments are not signed.
  static absl::StatusOr<std::unique_ptr<Coordinator>> Create(ServerOptions* options, Loop* loop, ManifestSigner* signer);
  ~Coordinator();

  // Before Start(): the port whose bytes are counted.
  void ListensOn(int port) { wire_counter_.emplace(SocketByteCounter::OnLocalPort(port)); }
  void Start();
  void Stop(const std::string& reason);
  bool finished() const { return finish_.has_value(); }
  // Every client with a session has heard that the run is over.
  bool farewell_done() const;
  // After the farewell. Whom it did not reach is waited for at the next start: an answer may be owed.
  void ForgetWhoWasTold();
  // After finished(): writes what is left to write.
  RunOutcome Close();

  const std::string& run_id() const { return store_->run_id(); }
  // Thread-safe.
  ServerSnapshot Snapshot() const;

  // ---- Calls of clients. A call that is held keeps `response` until `done`.
  void CheckIn(const Peer& peer, const v1::CheckInRequest& request, v1::CheckInResponse* response, const Done& done);
  void WaitForWork(CallId call, const v1::WaitForWorkRequest& request, v1::WaitForWorkResponse* response, Done done);
  void StillWanted(const v1::StillWantedRequest& request, v1::StillWantedResponse* response, const Done& done);
  void QueryUpload(const v1::QueryUploadRequest& request, v1::QueryUploadResponse* response, const Done& done);
  void Report(CallId call, const v1::ReportRequest& request, v1::ReportResponse* response, Done done);
  void ReportEvaluation(const v1::ReportEvaluationRequest& request, v1::ReportEvaluationResponse* response, const Done& done);

  struct Download {
    std::shared_ptr<const std::string> blob;
    std::shared_ptr<std::atomic<int64_t>> sent_bytes;  // to be counted up by the stream
  };
  absl::StatusOr<Download> OpenDownload(const v1::DownloadBlobRequest& request);

  struct UploadStream {
    std::shared_ptr<Upload> upload;
    int64_t stream = 0;
    std::string attempt, session;
  };
  absl::StatusOr<UploadStream> OpenUpload(const v1::UploadHeader& header);
  // The stream ended so; damage and excess end the attempt.
  void CloseUpload(const UploadStream& stream, const absl::Status& status);

  // The client hung up on a held call, or its connection was cut; a call that has ended is ignored.
  void Cancelled(CallId call);
  // A stream of this session was cut.
  void Interrupted(const std::string& session_id);

  // ---- Calls of operators.
  v1::RunStatus Status() const;
  void ListClients(v1::ListClientsResponse* response) const;
  void StopRun(const v1::StopRunRequest& request, v1::StopRunResponse* response);
  // `watcher` is called until RemoveWatcher(); finished rounds from `from_round` on are told at once.
  void AddWatcher(RoundWatcher* watcher, int64_t from_round);
  void RemoveWatcher(RoundWatcher* watcher);

  const v1::RetryWindows& retry() const { return retry_; }

 private:
  // Signs an assignment that names its model; one that cannot be signed goes out as it is, and clients refuse it.
  template <typename Assignment>
  void Vouch(const v1::Plan& plan, Assignment* assignment) {
    if (signer_ == nullptr) return;
    if (absl::Status status = signer_->Sign(plan, assignment); !status.ok()) Log(options_->log, LogLevel::kError, std::string(status.message()));
  }
  struct HeldWait {
    CallId call = 0;
    std::string current_attempt;
    v1::WaitForWorkResponse* response = nullptr;
    Done done;
    Loop::TimerId timer = 0;
  };
  struct Session {
    std::string id, client_id, pseudonym;
    int64_t partition = 0;
    std::string meter_name;
    EnergyTier meter_tier = EnergyTier::kMissing;
    int64_t evaluation_example_count = 0;
    std::string check_in_request;   // the request_id that opened it
    absl::Duration last_seen;
    std::optional<HeldWait> wait;
    int64_t stream_count = 0;       // uploads under way
    Loop::TimerId grace = 0;
    DeviceReport device;               // as the client checked in
    std::string device_kind;           // likewise: devices whose joules may be compared
    std::optional<size_t> site;        // likewise, of engine.carbon
    MemberSupply supply;               // as the engine was told
    std::vector<Digest> held_models;   // as the client said last
    bool whole_model = false;
    std::string held_plan_id;  // likewise
    int64_t max_inline_model_bytes = 0;
    std::string attempt, evaluation;  // under way, or ""
    std::string last_evaluation, last_evaluation_request;  // that counted
    int64_t accepted_count = 0, rejected_count = 0;
    bool told_finished = false;
    bool dormant = false;  // of an earlier start, and not heard from since: no member yet
  };
  struct HeldReport {
    CallId call = 0;
    v1::ReportResponse* response = nullptr;
    Done done;
  };
  struct OpenAttempt {
    int64_t round = 0, partition = 0;
    std::string pseudonym, session;
    std::shared_ptr<const FittedPlan> fitted;  // what is to be trained
    absl::Time deadline;
    absl::Duration assigned;
    absl::Time assigned_at;
    std::optional<size_t> site;
    std::shared_ptr<Upload> upload;
    std::shared_ptr<std::atomic<int64_t>> downloaded_bytes;
    bool told = false;              // the client has heard of its work
    int64_t offered_bytes = 0;      // of the container that leads to the model
    AttemptRecord record;           // what is to be trained; the report fills in the rest
    std::string report_request;     // request_id; "" before the report
    std::optional<absl::Duration> reported;  // when
    std::optional<int64_t> claimed_uplink_bytes, claimed_downlink_bytes;  // unset: the client says nothing of bytes
    std::string device_kind;
    std::optional<HeldReport> held;
    std::string message;            // why it was refused, for people
    bool too_much = false;          // declined: the fit is too large
    bool duplicate_noted = false;
    std::string container;          // a short update that has been folded, until it is in the journal
    // What the journal said of it when this start found it there: how it ended, and where an accepted update lies.
    struct Replayed {
      v1::EndedAttempt ended;
      FileRange update;
    };
    std::optional<Replayed> replayed;
    // Nothing is wanted of its client any more.
    bool over() const { return replayed.has_value() || !report_request.empty(); }
  };
  struct EndedAttempt {
    v1::EndedAttempt kept;                     // without what a journal alone holds
    std::shared_ptr<const FittedPlan> fitted;  // null when it ended before this start
    bool duplicate_noted = false;
    bool durable = true;                       // false: in the journal's hands; nobody is told yet
    std::optional<HeldReport> held;            // until then
    std::string spent_file;                    // of an upload that is of no use from then on
  };
  // A round that is over, on its way to disk.
  struct PendingRound {
    RoundRecord record;
    std::optional<std::string> model_state;  // unset when abandoned
    Memory memory;
    bool stored = false, written = false;    // in state/; in the run record
  };
  struct Evaluation {
    Evaluation() {}  // clang needs it spelt: the struct sits in an optional of the class that is still being defined
    int64_t round = 0;
    EvaluateFinished result;
    bool central_pending = false;
    std::map<std::string, std::string> pending;  // attempt to session
    std::set<std::string> told;                  // attempts that their clients have heard of
    int64_t example_count = 0, accuracy_example_count = 0;
    double weighted_loss = 0, weighted_accuracy = 0;
    Loop::TimerId timer = 0;
  };

  Coordinator(ServerOptions* options, Loop* loop, ManifestSigner* signer);

  // coordinator.cc: the engine's effects.
  void Feed(Event event);
  // Executes effects, then handles events, in order, until nothing is left or the disk is full.
  void Drain();
  // The effect that is being executed found no space: it and all that follows wait, `again` is called now and then.
  void Block(const absl::Status& status, std::function<void()> again);
  void Execute(const Remember& effect);
  void Execute(const StartAttempt& effect);
  void Execute(const Fold& effect);
  void Execute(const EndAttempt& effect);
  void Execute(const Aggregate& effect);
  void Execute(const Evaluate& effect);
  void Execute(const Publish& effect);
  void Execute(const Abandon& effect);
  void Execute(const SetTimer& effect);
  void Execute(const Finish& effect);
  // Tells the engine what the widths come to in the model of now.
  void TellShape();
  void EvaluateCentrally(int64_t round, const std::vector<double>& widths);
  // On the evaluation thread.
  absl::StatusOr<LocalTrainer*> EvaluationTrainer(const ArchitectureSpec& architecture);
  void FinishEvaluationIfComplete();
  void FinishEvaluation();
  void FillRecord(RoundRecord& record);
  void EndRound(std::shared_ptr<PendingRound> pending);
  absl::Status WriteRound(PendingRound& pending);
  void TellRound(const v1::RoundSummary& summary);
  void UpdateSnapshot();
  void EverySecond();
  void FailRun(const absl::Status& status);
  // What `parameter_count` values take in float32.
  static int64_t DenseBytes(int64_t parameter_count) { return 4 * parameter_count; }
  // What of an attempt's line follows from what it was to train.
  static void DescribeFit(const FittedPlan& fitted, AttemptRecord& record);

  // recovery.cc: what outlives this process, and what an earlier one left.
  absl::Status ReadAttemptsOfEarlierStarts();
  absl::Status ReadSessions();
  // What of a stored or fresh attempt the statistical check looks at.
  static ReportClaim ClaimOf(const AttemptRecord& record);
  // What the checks of reports learn from an attempt.
  void Recollect(const AttemptRecord& record);
  // Opens the journal of this round, and keeps what is in it for ResumeRound().
  absl::Status OpenJournal(int64_t round);
  // The round that was under way goes on: its attempts are issued again, and what the journal says of them is done again.
  void ResumeRound();
  void Replay(const v1::EndedAttempt& ended, const FileRange& body);
  // Writes down that the attempt is over; its client is told once that is durable.
  void WriteDown(const std::string& id, OpenAttempt& attempt, v1::EndedAttempt entry, EndedAttempt& ended);
  void NoteDurable(const std::string& id);
  // Whoever waits for the journal is sent away for a while.
  void NoteFullDisk(bool full);
  static absl::Status FullDiskError() { return absl::ResourceExhaustedError("no space on the coordinator's disk; try again later"); }
  bool FullDisk() const { return blocked_.has_value() || (journal_ != nullptr && journal_->full()); }
  // Removes files of uploads that no open attempt goes on with.
  void RemoveUploads() const;

  // coordinator_calls.cc: sessions and calls.
  // A session that is not open yet, as its client described itself.
  Session MakeSession(const std::string& id, const v1::CheckInRequest& request) const;
  // Tells the engine of the session's client.
  void Welcome(const Session& session);
  absl::StatusOr<Session*> FindSession(const std::string& id);
  std::optional<v1::CheckInResponse::Refused> CheckInRefusal(const v1::CheckInRequest& request) const;
  void EndSession(const std::string& id, std::string_view why);
  // Tells the engine of a supply that has changed.
  void NoteSupply(Session& session, const v1::EnergyState& state);
  void StartGrace(Session& session);
  // A call of the session is held or streaming.
  bool Busy(const Session& session) const;
  bool Live(const Session& session) const;
  // Has been given work and not reported it: its client calls at the latest when it opens its watch.
  bool AtWork(const Session& session) const;
  // How long after its last call a client is taken to be there.
  absl::Duration WatchGrace(const Session& session) const;
  // The attempt if it is open and this session's.
  OpenAttempt* FindOpen(const Session& session, const std::string& attempt);
  EndedAttempt* FindEnded(const Session& session, const std::string& attempt);
  // Accepted, but not yet on disk: nobody may hear of it.
  bool AcceptedInMemory(const std::string& attempt) const;
  // Why nothing is wanted of an attempt that is not open.
  Rejection UnwantedReason(const Session& session, const std::string& attempt);
  absl::Status TakeReport(const v1::ReportRequest& request, OpenAttempt& attempt) const;
  // Whether the report is what its client's ledger says, and goes on from what that said before: "" or why its joules are not believed.
  std::string CheckLedger(const v1::ReportRequest& request, OpenAttempt& attempt);
  // Whether the reported joules can be believed; fills record.quarantine, suspicion and energy_class.
  void Judge(OpenAttempt& attempt);
  // The update inside a report, as if it had been uploaded.
  static absl::Status TakeInlineUpdate(const std::string& update, Upload& upload);
  // One line an attempt: a client that repeats itself for ever must not fill the disk. `fitted` may be null.
  void NoteDuplicate(const Session& session, const std::string& id, int64_t round, const FittedPlan* fitted, bool& noted);
  void AnswerWait(Session& session);
  // Says in `assignment` how this session gets at the model; the container's length, and what of it is inside.
  struct Offered {
    int64_t bytes = 0, inline_bytes = 0;
  };
  template <typename Assignment>
  Offered OfferModel(const Session& session, const KeptChannels& kept, const Digest& model_digest, Assignment* assignment);
  bool FillWork(Session& session, const std::string& current_attempt, v1::WaitForWorkResponse* response);
  void EndWait(Session& session, const absl::Status& status);

  ServerOptions* const options_;
  Loop* const loop_;
  ManifestSigner* const signer_;
  // What the engine goes by: deadlines are not moved by a clock that is set.
  SteadyClock steady_;
  const Clock* const clock_;
  v1::RetryWindows retry_;
  v1::Plan plan_;  // of the round under way for the whole model, which is what clients score

  std::unique_ptr<Store> store_;
  std::unique_ptr<RunRecordWriter> writer_;
  std::optional<ModelArchive> archive_;
  std::pair<std::shared_ptr<const FittedPlan>, v1::Plan> said_;  // the plan that was said last, as it is said
  std::optional<Engine> engine_;
  std::optional<GlobalModel> model_;
  std::optional<Digest> archive_digest_;
  std::optional<SocketByteCounter> wire_counter_;
  WireBytes wire_at_round_start_;
  absl::Duration cpu_at_round_start_;
  std::optional<PhaseTracker> tracker_;  // from Start() on, over options_->meter
  absl::Time server_energy_from_;  // when the coordinator's meter was read last
  absl::Duration handled_at_;  // when the engine was given the event whose effects are executed
  int64_t selected_round_ = 0;
  double select_seconds_ = 0;
  RoundLedger ledger_;
  std::shared_ptr<std::atomic<int64_t>> other_downloaded_bytes_;
  int64_t other_dense_bytes_ = 0;  // what these downloads would have been in float32

  std::deque<Event> events_;
  std::deque<Effect> effects_;  // of the event that was handled last
  bool feeding_ = false;
  std::optional<absl::Status> blocked_;  // the disk is full: why nothing is executed
  Loop::TimerId round_timer_ = 0;
  std::map<std::string, Session> sessions_;
  std::map<int64_t, std::string> session_of_partition_;
  std::map<std::string, LedgerHead> ledger_heads_;  // by HistoryKey(): the newest anchored one
  PlausibilityChecker plausibility_;
  std::map<CallId, std::string> session_of_wait_;  // held WaitForWork calls
  std::map<std::string, OpenAttempt> open_;
  std::map<std::string, EndedAttempt> ended_;
  std::deque<std::string> ended_order_;
  std::set<std::string> not_durable_;  // of these
  bool resuming_ = false;              // in ResumeRound()
  std::optional<Evaluation> evaluation_;
  std::optional<Finish> finish_;
  bool stop_asked_ = false;
  std::optional<std::string> stop_after_round_;
  absl::Time start_time_;
  int64_t committed_rounds_ = 0;
  std::optional<double> best_accuracy_;
  std::vector<v1::RoundSummary> finished_rounds_;
  std::vector<RoundWatcher*> watchers_;

  mutable absl::Mutex snapshot_mutex_;
  ServerSnapshot snapshot_ ABSL_GUARDED_BY(snapshot_mutex_);

  // Last: their threads use the rest.
  std::unique_ptr<FoldPool> pool_;
  std::vector<Journal::Record> replay_;  // what was in it
  int64_t journal_round_ = 0;
  std::unique_ptr<Journal> journal_;     // of the round under way, where updates are durable one by one
  Loop evaluation_loop_;
  std::map<KeptChannels, std::unique_ptr<LocalTrainer>> narrower_trainers_;  // of the evaluation thread alone
  std::jthread evaluation_thread_;
};

// For WatchRounds and the store.
v1::RoundSummary SummaryOf(const RoundRecord& record);

}  // namespace fedwatt::internal

#endif  // FEDWATT_SERVER_COORDINATOR_H_

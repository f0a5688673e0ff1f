#include "attempt.h"

#include <algorithm>
#include <functional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/process.h"
#include "fedwatt/base/text.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/rejection.h"
#include "fedwatt/round/model_chain.h"
#include "fedwatt/rpc/chunks.h"
#include "fedwatt/rpc/conversion.h"
#include "fedwatt/rpc/ledger_conversion.h"
#include "transfer.h"
#include "wait.h"

namespace fedwatt::internal {
namespace {

// Training ends this much before the report is due, so that partial work still arrives: a tenth of the time, at most half a minute.
absl::Duration UploadMargin(absl::Duration left) { return std::min(left / 10, absl::Seconds(30)); }

// Updates from this length on are announced by a question.
constexpr size_t kWorthAsking = 32 << 10;

// Why an attempt ends before its time; the first reason counts.
enum class Cause { kNone, kCancelled, kConditions, kSessionLost, kStopped };

// Ends an attempt early: when the coordinator does not want it any more, when a condition breaks, when the client is stopped. Its long poll is
// the client's sign of life while it works. Destroying it ends its threads.
class Monitor {
 public:
  // `finished` is set when the coordinator says that the run is over; read it once the monitor is gone.
  Monitor(Shared* shared, const Session& session, const std::string& attempt_id, uint64_t seed, std::stop_token client_stop,
          std::optional<v1::Finished>* finished)
      : shared_(shared),
        finished_(finished),
        on_client_stop_(client_stop, [this] { End(Cause::kStopped, "the client is stopping"); }),
        poll_([this, session, attempt_id, seed](std::stop_token done) {
          // Most attempts are over before a watch is worth its bytes.
          if (WaitFor(session.watch_after, done)) Poll(session, attempt_id, seed, done);
        }),
        conditions_([this](std::stop_token done) { WatchConditions(done); }) {}

  // Asked once the attempt is to end early.
  std::stop_token stop() const { return stop_.get_token(); }
  Cause cause() const {
    absl::MutexLock lock(&mutex_);
    return cause_;
  }
  std::string words() const {
    absl::MutexLock lock(&mutex_);
    return words_;
  }
  void End(Cause cause, std::string words) {
    {
      absl::MutexLock lock(&mutex_);
      if (cause_ != Cause::kNone) return;
      cause_ = cause;
      words_ = std::move(words);
    }
    stop_.request_stop();
  }
  // Reads a call's error as an end, where it is one.
  void Interpret(const absl::Status& status) {
    if (status.code() == absl::StatusCode::kNotFound) End(Cause::kSessionLost, std::string(status.message()));
    if (status.code() == absl::StatusCode::kAborted) {
      std::optional<Rejection> rejection = RejectionOf(status);
      End(Cause::kCancelled, std::string(rejection ? RejectionName(*rejection) : "not wanted"));
    }
  }

 private:
  void Poll(const Session& session, const std::string& attempt_id, uint64_t seed, std::stop_token done) {
    Retrier retrier(shared_->link.get(), shared_->retry, seed);
    v1::WaitForWorkRequest request;
    request.set_session_id(session.id);
    request.set_current_attempt_id(attempt_id);
    while (!done.stop_requested()) {
      *request.mutable_energy_state() = ToProto(shared_->State());
      v1::WaitForWorkResponse response;
      absl::Status status = shared_->link->Call(&v1::Coordinator::Stub::WaitForWork, request, &response, done, session.hold + absl::Seconds(10));
      if (done.stop_requested()) return;
      if (!status.ok()) {
        if (status.code() == absl::StatusCode::kNotFound) return Interpret(status);
        // Anything that lasts shows in the attempt's own calls, too.
        if (!retrier.Pause(status, done).ok() && !WaitFor(absl::Seconds(1), done)) return;
        continue;
      }
      retrier.Reset();
      if (response.has_cancel() && response.cancel().attempt_id() == attempt_id) {
        absl::StatusOr<Rejection> reason = FromProto(response.cancel().reason());
        return End(Cause::kCancelled, std::string(reason.ok() ? RejectionName(*reason) : "no reason given"));
      }
      if (response.has_finished()) {
        // The coordinator counts us as told, and may be gone before it could be asked again.
        *finished_ = response.finished();
        return End(Cause::kCancelled, absl::StrCat("the run is over: ", response.finished().reason()));
      }
      // Held long enough by the server itself; the window only adds jitter. A floor keeps a server that answers at once from being hammered.
      if (!WaitFor(std::max(retrier.Draw(session.retry.accepted()), absl::Milliseconds(20)), done)) return;
    }
  }

  void WatchConditions(std::stop_token done) {
    do {
      if (std::optional<std::string> broken = BrokenRule(shared_->options.rules, shared_->State())) return End(Cause::kConditions, *broken);
    } while (WaitFor(shared_->options.conditions_interval, done));
  }

  Shared* shared_;
  std::optional<v1::Finished>* finished_;
  mutable absl::Mutex mutex_;
  Cause cause_ ABSL_GUARDED_BY(mutex_) = Cause::kNone;
  std::string words_ ABSL_GUARDED_BY(mutex_);
  std::stop_source stop_;
  std::stop_callback<std::function<void()>> on_client_stop_;
  std::jthread poll_, conditions_;  // last: they use the others
};

// A report refused with one of these is lost; the next attempt may fare better.
bool CostsOnlyTheAttempt(const absl::Status& status) {
  return status.code() == absl::StatusCode::kFailedPrecondition || status.code() == absl::StatusCode::kAborted ||
         status.code() == absl::StatusCode::kDataLoss || status.code() == absl::StatusCode::kResourceExhausted;
}

bool SameArchitecture(const ArchitectureSpec& a, const ArchitectureSpec& b) {
  return a.name == b.name && a.input_shape == b.input_shape && a.output_count == b.output_count && a.options == b.options &&
         a.archive_digest == b.archive_digest && a.kept == b.kept && a.quantization == b.quantization;
}

absl::StatusOr<absl::Duration> TimeLeft(bool has_deadline, const google::protobuf::Duration& deadline) {
  if (!has_deadline) return absl::InfiniteDuration();
  return FromProto(deadline);
}

}  // namespace

v1::EnergyState ToProto(const DeviceState& state) {
  v1::EnergyState proto;
  if (state.battery_fraction) proto.set_battery_fraction(*state.battery_fraction);
  if (state.charging) proto.set_charging(*state.charging);
  if (state.temperature_celsius) proto.set_temperature_celsius(*state.temperature_celsius);
  if (state.metered_link) proto.set_metered_link(*state.metered_link);
  return proto;
}

std::optional<BenchPool::Lease> BenchPool::Take(std::stop_token stop) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (!freed_.wait(lock, stop, [this] { return !free_.empty(); })) return std::nullopt;
  std::unique_ptr<Bench> bench = std::move(free_.back());
  free_.pop_back();
  return Lease(this, std::move(bench));
}

void BenchPool::Return(std::unique_ptr<Bench> bench) {
  std::lock_guard<std::mutex> lock(mutex_);
  free_.push_back(std::move(bench));
  freed_.notify_one();
}

struct AttemptRunner::Work {
  Work(BenchPool::Lease lease, const Session& session, const std::string& attempt_id, absl::Time received, Monitor* its_monitor)
      : bench(std::move(lease)),
        session(session),
        attempt_id(attempt_id),
        received(received),
        monitor(*its_monitor) {}
  BenchPool::Lease bench;
  const Session& session;
  const std::string& attempt_id;
  absl::Time received;  // the assignment
  int64_t downloaded_bytes = 0;
  int64_t uploaded_bytes = 0;
  int64_t inline_bytes = 0;  // of these, inside the report
  Monitor& monitor;
};

AttemptRunner::AttemptRunner(Shared* shared, const ClientPartition* partition, std::string residual_path, std::string release_path, Ledger* ledger, uint64_t seed)
    : shared_(shared),
      partition_(partition),
      retrier_(shared->link.get(), shared->retry, seed),
      counter_(SocketByteCounter::ToPeerPort(shared->link->port())),
      label_(shared->options.partitions.size() > 1 ? absl::StrCat("partition ", partition->index, ": ") : ""),
      residual_(std::move(residual_path)),
      ledger_(ledger),
      tracker_(shared->options.clock, shared->lone_meter) {
  if (const std::optional<std::string>& key = shared->link->signing_key_pem(); key.has_value()) releases_.emplace(*key, std::move(release_path));
}

void AttemptRunner::StartTime() {
  tracker_.Enter(Phase::kInit);
  if (const std::optional<absl::Duration>& began = shared_->options.began) {
    PhaseSpan before{Phase::kInit, std::max(absl::ZeroDuration(), shared_->options.clock->Monotonic() - *began), ProcessCpuTime(), {}};
    before.energy.window = before.wall;
    Book({before}, &between_);
  }
}

void AttemptRunner::BeginAttempt(Bench& bench) {
  tracker_.UseMeter(bench.meter.get());
  Book(tracker_.Cut(Phase::kInit), &between_);
}

std::vector<PhaseSpan> AttemptRunner::EndAttempt() {
  // What follows is told with the next attempt.
  std::vector<PhaseSpan> spans = tracker_.Cut(Phase::kCheckpoint);
  tracker_.UseMeter(shared_->lone_meter);
  return spans;
}

void AttemptRunner::Book(const std::vector<PhaseSpan>& spans, std::vector<PhaseSpan>* between) {
  AddSpans(all_, spans);
  if (between != nullptr) AddSpans(*between, spans);
}

std::vector<PhaseSpan> AttemptRunner::FinishTime(const Session* last_session) {
  Book(tracker_.Finish(), &between_);
  if (ledger_ != nullptr && last_session != nullptr) {
    LedgerRecord record;
    record.run_id = last_session->run_id;
    record.client = last_session->pseudonym;
    record.outcome = "ended";
    record.finished = absl::FromUnixMicros(absl::ToUnixMicros(shared_->options.clock->Now()));
    record.between = std::exchange(between_, {});
    for (PhaseSpan& span : record.between) {
      span.wall = absl::Floor(span.wall, absl::Microseconds(1));
      span.cpu = absl::Floor(span.cpu, absl::Microseconds(1));
    }
    if (absl::Status noted = ledger_->Append(record).status(); !noted.ok()) shared_->Say(LogLevel::kError, absl::StrCat("ledger: ", noted.ToString()));
  }
  return std::exchange(all_, {});
}

void AttemptRunner::FillWaitRequest(v1::WaitForWorkRequest& request) {
  wire_start_ = counter_.Read();
  request.set_held_plan_id(held_plan_.id());
  for (const Digest& held : shared_->models->held()) {
    if (request.held_model_digest().empty()) {
      request.set_held_model_digest(held.Raw());
    } else {
      request.add_other_model_digests(held.Raw());
    }
  }
  // Once may be another partition's download that came in between; twice is a start that we can't make.
  request.set_whole_model(mismatches_ >= 2);
}

absl::Status AttemptRunner::SettleResidual(const Session& session, std::stop_token stop) {
  const std::optional<std::string> attempt = residual_.staged_attempt();
  if (!attempt.has_value()) return absl::OkStatus();
  v1::StillWantedRequest question;
  question.set_session_id(session.id);
  question.set_attempt_id(*attempt);
  v1::StillWantedResponse answer;
  FEDWATT_RETURN_IF_ERROR(
      Repeat(retrier_, stop, [&] { return shared_->link->Call(&v1::Coordinator::Stub::StillWanted, question, &answer, stop); }));
  ResidualStore::Verdict verdict = ResidualStore::Verdict::kNotCounted;
  if (answer.has_unwanted() && answer.unwanted().reason() == v1::REJECTION_REASON_DUPLICATE) verdict = ResidualStore::Verdict::kCounted;
  if (answer.has_unwanted() && answer.unwanted().reason() == v1::REJECTION_REASON_UNKNOWN_ATTEMPT) verdict = ResidualStore::Verdict::kUnknown;
  KeepResidual(residual_.Settle(verdict));
  return absl::OkStatus();
}

// Feedback is worth having, but training goes on without it.
void AttemptRunner::KeepResidual(const absl::Status& status) {
  if (!status.ok()) shared_->Say(LogLevel::kWarning, absl::StrCat(label_, "error feedback is not kept on disk: ", std::string(status.message())));
}

template <typename Assignment>
absl::StatusOr<Plan> AttemptRunner::HearPlan(Work& work, const Assignment& assignment) {
  FEDWATT_ASSIGN_OR_RETURN(const v1::Plan said, held_plan_.Hear(assignment));
  // Before anything else is made of it.
  if (releases_.has_value()) FEDWATT_RETURN_IF_ERROR(releases_->Check(said, assignment));
  work.downloaded_bytes += PackedBytes(assignment.plan().architecture());
  return FromProto(said);
}

template <typename Assignment>
absl::StatusOr<std::shared_ptr<const DecodedModel>> AttemptRunner::FetchModel(Work& work, const Assignment& assignment, const Plan& plan) {
  tracker_.Enter(Phase::kDownload);
  WantedModel wanted;
  FEDWATT_ASSIGN_OR_RETURN(wanted.digest, Digest::FromRaw(assignment.model_digest()));
  if (!assignment.base_model_digest().empty()) {
    FEDWATT_ASSIGN_OR_RETURN(wanted.base, Digest::FromRaw(assignment.base_model_digest()));
  }
  const auto fetch = [&]() -> absl::StatusOr<std::string> {
    const v1::BlobReference& blob = assignment.model();
    const int64_t limit = shared_->options.max_model_bytes;
    if (const std::string& inside = assignment.inline_model(); !inside.empty()) {
      if (assignment.has_model()) return absl::InvalidArgumentError("model: both inside the assignment and named for a download");
      const int64_t most = std::min(limit, kMaxInlineBytes);
      if (static_cast<int64_t>(inside.size()) > most) {
        return absl::ResourceExhaustedError(absl::StrCat("model: ", inside.size(), " bytes inside the assignment, this client takes at most ", most));
      }
      work.downloaded_bytes += static_cast<int64_t>(inside.size());
      tracker_.Enter(Phase::kDecode);
      return inside;
    }
    FEDWATT_ASSIGN_OR_RETURN(Digest digest, Digest::FromRaw(blob.digest()));
    if (blob.total_bytes() < 1 || blob.total_bytes() > limit) {
      return absl::ResourceExhaustedError(absl::StrCat("model: ", blob.total_bytes(), " bytes, this client takes [1, ", limit, "]"));
    }
    absl::StatusOr<std::string> container = Download(*shared_->link, retrier_, work.session.id, digest, blob.total_bytes(),
                                                     shared_->options.stall_timeout, work.monitor.stop(), &work.downloaded_bytes);
    tracker_.Enter(Phase::kDecode);
    return container;
  };
  const auto make_initial = [&]() -> absl::StatusOr<DecodedModel> {
    LocalTrainer& trainer = *work.bench->trainer;
    DecodedModel initial;
    initial.layout = trainer.layout();
    FEDWATT_ASSIGN_OR_RETURN(initial.values, trainer.InitialModel(InitialModelSeed(plan.seed)));
    if (static_cast<int64_t>(initial.values.size()) != initial.layout.value_count()) return absl::InternalError("initial model: wrong length");
    SnapToLattice(initial.layout, absl::MakeSpan(initial.values));
    return initial;
  };
  absl::StatusOr<std::shared_ptr<const DecodedModel>> model = shared_->models->Get(wanted, fetch, make_initial);
  if (!model.ok()) {
    ask_anew_ = wanted.base.has_value() && model.status().code() == absl::StatusCode::kFailedPrecondition && ++mismatches_ <= 2;
    work.monitor.Interpret(model.status());
    return model.status();
  }
  mismatches_ = 0;
  return model;
}

absl::Status AttemptRunner::PrepareTrainer(Bench& bench, const ArchitectureSpec& architecture) {
  if (bench.trainer != nullptr && SameArchitecture(bench.architecture, architecture)) return absl::OkStatus();
  FEDWATT_ASSIGN_OR_RETURN(bench.trainer, shared_->options.trainer_factory(architecture));
  if (bench.trainer == nullptr) return absl::InternalError("trainer factory: returned nothing");
  bench.architecture = architecture;
  const int64_t count = bench.trainer->layout().value_count(), most = shared_->options.floors.max_parameters;
  if (most > 0 && count > most) {
    bench.trainer.reset();
    return absl::ResourceExhaustedError(absl::StrCat("declined: this client trains at most ", most, " parameters, the fit has ", count));
  }
  return absl::OkStatus();
}

absl::Status AttemptRunner::PrepareSplit(uint64_t run_seed) {
  if (split_seed_ == run_seed) return absl::OkStatus();
  FEDWATT_ASSIGN_OR_RETURN(split_, SplitHeldOut(partition_->data, shared_->options.held_out_fraction, run_seed, partition_->index));
  split_seed_ = run_seed;
  return absl::OkStatus();
}

absl::Status AttemptRunner::UploadUpdate(Work& work, const std::string& update, const Digest& digest, std::stop_token stop) {
  Link& link = *shared_->link;
  if (update.size() >= kWorthAsking) {
    v1::StillWantedRequest question;
    question.set_session_id(work.session.id);
    question.set_attempt_id(work.attempt_id);
    v1::StillWantedResponse wanted;
    FEDWATT_RETURN_IF_ERROR(Repeat(retrier_, stop, [&] { return link.Call(&v1::Coordinator::Stub::StillWanted, question, &wanted, stop); }));
    if (wanted.has_unwanted()) {
      absl::StatusOr<Rejection> reason = FromProto(wanted.unwanted().reason());
      work.monitor.End(Cause::kCancelled, std::string(reason.ok() ? RejectionName(*reason) : "no reason given"));
      return absl::CancelledError("not wanted");
    }
  }
  return Upload(link, retrier_, work.session.id, work.attempt_id, update, digest, shared_->options.stall_timeout, stop);
}

absl::StatusOr<v1::CompletedTraining> AttemptRunner::TrainAndDeliver(Work& work, const v1::TrainAssignment& assignment) {
  const Clock& clock = *shared_->options.clock;
  FEDWATT_ASSIGN_OR_RETURN(absl::Duration left, TimeLeft(assignment.has_deadline_duration(), assignment.deadline_duration()));
  const absl::Time deadline = work.received + left - UploadMargin(left);
  FEDWATT_ASSIGN_OR_RETURN(Plan plan, HearPlan(work, assignment));
  FEDWATT_RETURN_IF_ERROR(PrepareSplit(plan.seed));
  FEDWATT_RETURN_IF_ERROR(CheckPlan(shared_->options.floors, plan, split_.train.size(), assignment.cohort_count()));
  FEDWATT_RETURN_IF_ERROR(PrepareTrainer(*work.bench, plan.architecture));
  FEDWATT_ASSIGN_OR_RETURN(std::shared_ptr<const DecodedModel> model, FetchModel(work, assignment, plan));
  TrainingControl control;
  control.stop = work.monitor.stop();
  control.deadline = deadline;
  control.clock = &clock;
  FormatChoice format;
  if (plan.fit.number_format != "float32") {
    tracker_.Enter(Phase::kFit);
    format = shared_->formats->Choose(plan, shared_->options.allow_bfloat16 ? "" : "this client does not allow bfloat16", *work.bench->trainer, model->values, split_.train, control);
    if (!format.reason.empty() && format.reason != std::exchange(format_told_, format.reason)) {
      shared_->Say(LogLevel::kInfo, absl::StrCat(label_, "trains in ", format.format, ": ", format.reason));
    }
  }
  plan.recipe.number_format = format.format;
  // Residuals are kept in the whole model's coordinates, whatever part of it is trained.
  const Submodel* part = work.bench->trainer->submodel();
  const Digest whole_layout = part != nullptr ? part->whole().digest() : plan.layout_digest;
  FEDWATT_ASSIGN_OR_RETURN(AttemptResult trained, RunAttempt(plan, assignment.round(), partition_->index, *model, split_.train, *work.bench->trainer, control,
                                                             residual_.Find(plan.run_id, whole_layout), &tracker_, work.bench->scratch));
  // What a stop left half done is not worth the bytes.
  if (work.monitor.stop().stop_requested()) return absl::CancelledError("stopped");

  if (!trained.residual.empty()) {
    tracker_.Enter(Phase::kCheckpoint);
    KeepResidual(residual_.Stage(work.attempt_id, plan.run_id, whole_layout, Residual{std::move(trained.residual), assignment.round()}));
  }
  tracker_.Enter(Phase::kUpload);
  v1::CompletedTraining completed;
  work.uploaded_bytes = static_cast<int64_t>(trained.update.size());
  if (work.uploaded_bytes <= work.session.max_inline_update_bytes) {
    // No question first: the report costs as little, and an attempt that is not wanted is told so in its answer.
    work.inline_bytes = work.uploaded_bytes;
    completed.set_inline_update(std::move(trained.update));
  } else {
    const Digest digest = Sha256(trained.update);
    if (absl::Status status = UploadUpdate(work, trained.update, digest, control.stop); !status.ok()) {
      work.uploaded_bytes = 0;
      work.monitor.Interpret(status);
      return status;
    }
    completed.set_payload_sha256(digest.Raw());
  }
  completed.set_example_count(trained.example_count);
  completed.set_step_count(trained.steps_done);
  completed.set_mean_loss(trained.train_loss);
  completed.set_partial(!trained.completed);
  completed.set_number_format(format.format);
  completed.set_number_format_reason(TruncateUtf8(format.reason, 256));
  return completed;
}

absl::StatusOr<v1::CompletedEvaluation> AttemptRunner::Score(Work& work, const v1::EvaluateAssignment& assignment) {
  FEDWATT_ASSIGN_OR_RETURN(const Plan plan, HearPlan(work, assignment));
  FEDWATT_RETURN_IF_ERROR(PrepareSplit(plan.seed));
  if (!split_.held_out.has_value()) return absl::FailedPreconditionError("no held-out examples on this client");
  if (!AllowsArchitecture(shared_->options.floors, plan.architecture.name)) {
    return absl::PermissionDeniedError(absl::StrCat("declined: this client does not score ", plan.architecture.name));
  }
  FEDWATT_RETURN_IF_ERROR(PrepareTrainer(*work.bench, plan.architecture));
  FEDWATT_ASSIGN_OR_RETURN(std::shared_ptr<const DecodedModel> model, FetchModel(work, assignment, plan));
  if (model->layout.digest() != work.bench->trainer->layout().digest()) return absl::InvalidArgumentError("layout: the model's is not the trainer's");
  tracker_.Enter(Phase::kEvaluate);
  FEDWATT_ASSIGN_OR_RETURN(EvaluationResult result, work.bench->trainer->Evaluate(model->values, *split_.held_out, plan.recipe.loss));
  v1::CompletedEvaluation completed;
  completed.set_example_count(result.example_count);
  completed.set_mean_loss(result.mean_loss);
  if (result.has_accuracy) completed.set_accuracy(result.accuracy);
  return completed;
}

void AttemptRunner::NoteInLedger(const Work& work, int64_t round, v1::ReportRequest* request) {
  if (ledger_ == nullptr) return;
  const absl::Time now = shared_->options.clock->Now();
  v1::LedgerAnchor& anchor = *request->mutable_ledger();
  anchor.set_finished_us(absl::ToUnixMicros(now));
  absl::StatusOr<LedgerRecord> record = LedgerRecordOf(*request, work.session.run_id, work.session.pseudonym, round);
  const std::shared_ptr<const CarbonModel>& carbon = shared_->options.carbon;
  if (const std::optional<size_t> site = carbon != nullptr ? carbon->FindSite(shared_->options.site) : std::nullopt; site && record.ok()) {
    const EnergyReading energy = SumOfSpans(record->phases);
    const CarbonReading grams = carbon->Account(*site, energy.energy, work.received, now);
    if (grams.operational) anchor.set_operational_ug(grams.operational->micrograms());
    if (grams.embodied) anchor.set_embodied_ug(grams.embodied->micrograms());
    record->operational = grams.operational;
    record->embodied = grams.embodied;
  }
  absl::StatusOr<LedgerHead> position = record.ok() ? ledger_->Append(*record) : record.status();
  if (position.ok()) {
    SetPosition(*position, &anchor);
  } else {
    // A full disk must not end the training; the report then goes without an anchor.
    shared_->Say(LogLevel::kError, absl::StrCat("ledger: ", position.status().ToString()));
    request->clear_ledger();
  }
}

template <typename Request>
bool AttemptRunner::FillReport(Work& work, const absl::Status& result, Request* request) {
  request->set_session_id(work.session.id);
  request->set_attempt_id(work.attempt_id);
  request->set_request_id(RandomId());
  const std::vector<PhaseSpan> spans = EndAttempt();
  // The coordinator keeps a record of training alone; what an evaluation took is told with the next attempt.
  Book(spans, std::is_same_v<Request, v1::ReportRequest> ? nullptr : &between_);
  *request->mutable_phases() = ToProto(spans);
  v1::TransferBytes& transfer = *request->mutable_transfer();
  transfer.set_downlink_payload_bytes(work.downloaded_bytes);
  transfer.set_uplink_payload_bytes(work.uploaded_bytes);
  if (std::optional<WireBytes> wire = counter_.Read(); wire && wire_start_ && shared_->options.partitions.size() == 1) {
    transfer.set_downlink_wire_bytes(wire->received - wire_start_->received);
    transfer.set_uplink_wire_bytes(wire->sent - wire_start_->sent + work.inline_bytes);
    transfer.set_downlink_header_bytes(wire->received_headers - wire_start_->received_headers);
    transfer.set_uplink_header_bytes(wire->sent_headers - wire_start_->sent_headers);
  }
  if (result.ok()) return true;
  switch (work.monitor.cause()) {
    case Cause::kCancelled:
    case Cause::kSessionLost: return false;
    case Cause::kConditions:
    case Cause::kStopped: request->mutable_withdrawn()->set_condition(TruncateUtf8(work.monitor.words(), 1024)); return true;
    case Cause::kNone: break;
  }
  request->mutable_failed()->set_code(static_cast<int32_t>(result.code()));
  request->mutable_failed()->set_message(TruncateUtf8({result.message().data(), result.message().size()}, 1024));
  return true;
}

absl::Status AttemptRunner::Train(const Session& session, const v1::TrainAssignment& assignment, std::stop_token stop, ClientSummary* summary) {
  ask_anew_ = false;
  // The sign of life starts before the wait for a bench: with many partitions it may be a long one.
  const absl::Time received = shared_->options.clock->Now();
  Monitor monitor(shared_, session, assignment.attempt_id(), std::hash<std::string>()(assignment.attempt_id()), stop, &finished_);
  std::optional<BenchPool::Lease> bench = shared_->benches->Take(monitor.stop());
  if (!bench) {
    if (stop.stop_requested()) return absl::CancelledError("stopped");
    return monitor.cause() == Cause::kSessionLost ? absl::NotFoundError("session lost") : absl::OkStatus();
  }
  Work work(*std::move(bench), session, assignment.attempt_id(), received, &monitor);
  BeginAttempt(*work.bench);
  const std::string name = absl::StrCat(label_, "round ", assignment.round());
  absl::StatusOr<v1::CompletedTraining> completed = TrainAndDeliver(work, assignment);
  if (ask_anew_) {  // the work stays ours
    Book(EndAttempt(), &between_);
    return absl::OkStatus();
  }

  v1::ReportRequest request;
  const bool report = FillReport(work, completed.status(), &request);
  if (completed.ok()) {
    *request.mutable_completed() = *completed;
  } else {
    const std::string why = work.monitor.cause() == Cause::kNone ? completed.status().ToString() : work.monitor.words();
    shared_->Say(work.monitor.cause() == Cause::kNone ? LogLevel::kError : LogLevel::kInfo, absl::StrCat(name, " not delivered: ", why));
    if (work.monitor.cause() != Cause::kNone) ++summary->cancelled_count;
  }
  // Of an attempt that is not reported the time before stays with the next one.
  if (report) *request.mutable_between() = ToProto(std::exchange(between_, {}));
  NoteInLedger(work, assignment.round(), &request);
  if (work.monitor.cause() == Cause::kSessionLost) return absl::NotFoundError("session lost");
  if (!completed.ok()) KeepResidual(residual_.Settle(ResidualStore::Verdict::kNotCounted));
  if (!report) return absl::OkStatus();

  tracker_.Enter(Phase::kUpload);
  v1::ReportResponse response;
  auto call = [&](std::stop_token while_running, absl::Duration timeout) {
    return shared_->link->Call(&v1::Coordinator::Stub::Report, request, &response, while_running, timeout);
  };
  if (stop.stop_requested()) {
    // The last word of a client that ends: said once.
    call(std::stop_token(), absl::Seconds(2)).IgnoreError();
    return absl::CancelledError("stopped");
  }
  if (absl::Status status = Repeat(retrier_, stop, [&] { return call(stop, kCallTimeout); }); !status.ok()) {
    if (!CostsOnlyTheAttempt(status)) return status;
    KeepResidual(residual_.Settle(ResidualStore::Verdict::kNotCounted));
    ++summary->rejected_count;
    shared_->Say(LogLevel::kWarning, absl::StrCat(name, " not counted: ", status.ToString()));
    return absl::OkStatus();
  }
  tracker_.Enter(Phase::kCheckpoint);
  const bool counted = response.has_accepted() || (response.has_duplicate() && response.duplicate().accepted());
  // A residual that makes updates too large would make them so for ever.
  const bool too_large = response.rejected().reason() == v1::REJECTION_REASON_NORM_TOO_LARGE || response.rejected().reason() == v1::REJECTION_REASON_VALUE_TOO_LARGE;
  KeepResidual(residual_.Settle(counted     ? ResidualStore::Verdict::kCounted
                                : too_large ? ResidualStore::Verdict::kUnknown
                                            : ResidualStore::Verdict::kNotCounted));
  if (counted) {
    ++summary->accepted_count;
    const v1::CompletedTraining& done = request.completed();
    shared_->Say(LogLevel::kInfo, absl::StrCat(name, " accepted: ", done.example_count(), " examples, loss ", done.mean_loss(),
                                               done.partial() ? " (partial)" : ""));
  } else if (completed.ok()) {
    ++summary->rejected_count;
    absl::StatusOr<Rejection> reason = FromProto(response.rejected().reason());
    const std::string why = response.has_late()        ? "late"
                            : response.has_duplicate() ? "duplicate"
                                                       : absl::StrCat(std::string(reason.ok() ? RejectionName(*reason) : "no reason"), ": ",
                                                                      response.rejected().message());
    shared_->Say(LogLevel::kWarning, absl::StrCat(name, " not counted: ", why));
  } else if (work.monitor.cause() == Cause::kNone) {
    ++summary->rejected_count;
  }
  return absl::OkStatus();
}

absl::Status AttemptRunner::Evaluate(const Session& session, const v1::EvaluateAssignment& assignment, std::stop_token stop,
                                     ClientSummary* summary) {
  ask_anew_ = false;
  // The sign of life starts before the wait for a bench: with many partitions it may be a long one.
  const absl::Time received = shared_->options.clock->Now();
  Monitor monitor(shared_, session, assignment.attempt_id(), std::hash<std::string>()(assignment.attempt_id()), stop, &finished_);
  std::optional<BenchPool::Lease> bench = shared_->benches->Take(monitor.stop());
  if (!bench) {
    if (stop.stop_requested()) return absl::CancelledError("stopped");
    return monitor.cause() == Cause::kSessionLost ? absl::NotFoundError("session lost") : absl::OkStatus();
  }
  Work work(*std::move(bench), session, assignment.attempt_id(), received, &monitor);
  BeginAttempt(*work.bench);
  absl::StatusOr<v1::CompletedEvaluation> completed = Score(work, assignment);
  if (ask_anew_) {
    Book(EndAttempt(), &between_);
    return absl::OkStatus();
  }
  v1::ReportEvaluationRequest request;
  const bool report = FillReport(work, completed.status(), &request);
  if (completed.ok()) {
    *request.mutable_completed() = *completed;
  } else {
    shared_->Say(LogLevel::kWarning, absl::StrCat(label_, "evaluation of round ", assignment.round(), ": ", completed.status().ToString()));
  }
  if (work.monitor.cause() == Cause::kSessionLost) return absl::NotFoundError("session lost");
  if (!report) return absl::OkStatus();
  tracker_.Enter(Phase::kUpload);
  v1::ReportEvaluationResponse response;
  absl::Status status =
      Repeat(retrier_, stop, [&] { return shared_->link->Call(&v1::Coordinator::Stub::ReportEvaluation, request, &response, stop); });
  if (!status.ok()) return CostsOnlyTheAttempt(status) ? absl::OkStatus() : status;
  summary->evaluated_count += response.accepted() ? 1 : 0;
  return absl::OkStatus();
}

}  // namespace fedwatt::internal

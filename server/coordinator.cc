#include "coordinator.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "fedwatt/base/failpoint.h"
#include "fedwatt/base/planted.h"
#include "fedwatt/base/process.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/rpc/chunks.h"
#include "fedwatt/rpc/conversion.h"

namespace fedwatt::internal {
namespace {

constexpr absl::Duration kSecond = absl::Seconds(1);

// What two starts of one run must agree on, as lines "key=value". Recipe, deadlines, quorum and numbers of clients may change between starts.
std::string SettingsText(const GlobalModelOptions& options) {
  const Plan& plan = options.plan;
  std::string text = absl::StrCat(
      "model.architecture=", plan.architecture.name, "\nmodel.input_shape=", absl::StrJoin(plan.architecture.input_shape, ","),
      "\nmodel.output_count=", plan.architecture.output_count, "\nmodel.layout=", options.layout.digest().Hex().substr(0, 16),
      "\nmodel.archive=", plan.architecture.archive_digest.Hex().substr(0, 16), "\naggregation.strategy=", options.strategy,
      "\naggregation.server_learning_rate=", options.optimizer.server_learning_rate, "\naggregation.momentum=", options.optimizer.momentum,
      "\naggregation.beta1=", options.optimizer.beta1, "\naggregation.beta2=", options.optimizer.beta2, "\naggregation.tau=", options.optimizer.tau,
      "\ncompression.uplink=", plan.uplink_codec, "\ncompression.downlink=", plan.downlink_codec, "\nseed=", plan.seed, "\n");
  const FitOptions& fit = options.fit;
  absl::StrAppend(&text, "fit.policy=", fit.policy, "\nfit.widths=", absl::StrJoin(fit.widths, ","), "\nfit.shares=", absl::StrJoin(fit.shares, ","),
                  "\nfit.memory_mb=", absl::StrJoin(fit.memory_mb, ","), "\nfit.channels=", fit.channels, "\nfit.live=", fit.live, "\n");
  if (fit.first != 0) absl::StrAppend(&text, "fit.first=", fit.first, "\n");
  const PruneOptions& prune = options.prune;
  if (prune.target < 1) {
    absl::StrAppend(&text, "prune.target=", prune.target, "\nprune.begin=", prune.begin, "\nprune.end=", prune.end, "\nprune.every=", prune.every,
                    "\nprune.channels=", prune.channels, "\nprune.regrow=", prune.regrow, "\n");
    if (prune.unit != "channels") absl::StrAppend(&text, "prune.unit=", prune.unit, "\n");
  }
  for (const auto& [key, value] : plan.architecture.options) absl::StrAppend(&text, "model.options.", key, "=", value, "\n");
  return text;
}

v1::RetryWindow ToProto(const RetryWindow& window) {
  v1::RetryWindow proto;
  *proto.mutable_min_duration() = fedwatt::ToProto(window.min);
  *proto.mutable_max_duration() = fedwatt::ToProto(window.max);
  return proto;
}

int64_t FileBytes(Disk& disk, const std::string& path) { return std::max<int64_t>(disk.FileSize(path), 0); }

std::string AttemptsFile(const ServerOptions& options) { return absl::StrCat(options.out_directory, "/clients.jsonl"); }
std::string RoundsFile(const ServerOptions& options) { return absl::StrCat(options.out_directory, "/rounds.jsonl"); }

}  // namespace

v1::RoundSummary SummaryOf(const RoundRecord& record) {
  v1::RoundSummary summary;
  summary.set_round(record.round);
  summary.set_committed(record.committed);
  summary.set_reason(record.reason);
  *summary.mutable_start_time() = fedwatt::ToProto(record.started_at);
  *summary.mutable_wall_duration() = fedwatt::ToProto(absl::Seconds(record.wall_seconds));
  summary.set_selected_count(static_cast<int32_t>(record.clients_selected));
  summary.set_completed_count(static_cast<int32_t>(record.clients_completed));
  summary.set_rejected_count(static_cast<int32_t>(record.clients_rejected));
  summary.set_late_count(static_cast<int32_t>(record.clients_late));
  summary.set_dropped_count(static_cast<int32_t>(record.clients_dropped));
  if (record.train_loss.has_value()) summary.set_train_loss(*record.train_loss);
  if (record.eval_loss.has_value()) summary.set_eval_loss(*record.eval_loss);
  if (record.eval_accuracy.has_value()) summary.set_eval_accuracy(*record.eval_accuracy);
  summary.set_uplink_payload_bytes(record.uplink_payload_bytes);
  summary.set_downlink_payload_bytes(record.downlink_payload_bytes);
  if (record.uplink_wire_bytes.has_value()) summary.set_uplink_wire_bytes(*record.uplink_wire_bytes);
  if (record.downlink_wire_bytes.has_value()) summary.set_downlink_wire_bytes(*record.downlink_wire_bytes);
  summary.set_uplink_dense_bytes(record.uplink_dense_bytes);
  summary.set_downlink_dense_bytes(record.downlink_dense_bytes);
  if (record.client_energy.has_value()) summary.set_client_energy_uj(record.client_energy->microjoules());
  summary.set_client_energy_tier(fedwatt::ToProto(record.client_energy_tier));
  if (absl::StatusOr<Digest> digest = Digest::FromHex(record.model_digest); digest.ok()) summary.set_model_digest(digest->Raw());
  return summary;
}

Coordinator::Coordinator(ServerOptions* options, Loop* loop, ManifestSigner* signer)
    : options_(options), loop_(loop), signer_(signer), steady_(options->clock), clock_(FEDWATT_PLANTED(deadlines_by_the_wall_clock) ? options->clock : &steady_),
      other_downloaded_bytes_(std::make_shared<std::atomic<int64_t>>(0)), evaluation_loop_(options->clock) {
  *retry_.mutable_accepted() = ToProto(options->retry.accepted);
  *retry_.mutable_not_now() = ToProto(options->retry.not_now);
  start_time_ = clock_->Now();
}

Coordinator::~Coordinator() {
  if (!evaluation_thread_.joinable()) return;
  evaluation_thread_.request_stop();
  evaluation_loop_.Post([] {});
}

absl::StatusOr<std::unique_ptr<Coordinator>> Coordinator::Create(ServerOptions* options, Loop* loop, ManifestSigner* signer) {
  std::unique_ptr<Coordinator> self(new Coordinator(options, loop, signer));
  if (options->out_directory.empty()) return absl::InvalidArgumentError("out: the coordinator needs a folder for its record and its state");
  if (options->carbon_site && (options->engine.carbon == nullptr || !options->engine.carbon->FindSite(*options->carbon_site))) {
    return absl::InvalidArgumentError(absl::StrCat("carbon.server_site: '", *options->carbon_site, "' is not one of carbon.sites"));
  }
  if (options->archive != nullptr) {
    self->archive_digest_ = Sha256(*options->archive);
    options->model.plan.architecture.archive_digest = *self->archive_digest_;
  }
  if (FileBytes(*options->disk, RoundsFile(*options)) > 0 && options->disk->FileSize(absl::StrCat(options->out_directory, "/state/fedwatt.db")) == -ENOENT) {
    return absl::FailedPreconditionError(absl::StrCat(options->out_directory, " holds the record of a run that is not a coordinator's; give another --out folder"));
  }
  FEDWATT_ASSIGN_OR_RETURN(self->store_, Store::Open(options->out_directory, options->engine.run_id, SettingsText(options->model), *options->disk));
  const std::vector<StoredRound>& rounds = self->store_->rounds();

  options->engine.run_id = self->store_->run_id();
  options->engine.fit = options->model.fit;
  options->engine.incarnation = self->store_->incarnation();
  options->engine.memory = self->store_->memory();
  options->engine.remembers_rounds = options->durability == "update";
  options->engine.next_round = rounds.empty() ? 1 : rounds.back().round + 1;
  options->engine.evaluates = options->engine.evaluates &&
                              (options->federated_evaluation || (options->evaluation_trainer != nullptr && options->evaluation_data.has_value()));
  options->model.plan.run_id = self->store_->run_id();
  FEDWATT_ASSIGN_OR_RETURN(Engine engine, Engine::Create(options->engine));
  self->engine_.emplace(std::move(engine));
  FEDWATT_ASSIGN_OR_RETURN(GlobalModel model, GlobalModel::Create(options->model, std::move(options->initial_model)));
  self->model_.emplace(std::move(model));
  FEDWATT_ASSIGN_OR_RETURN(std::optional<std::string> state, self->store_->ReadModelState());
  Failpoint("recovering");
  if (state.has_value()) {
    if (absl::Status restored = self->model_->Restore(*state); !restored.ok()) return Annotate(restored, self->store_->model_state_path());
  }
  self->plan_ = fedwatt::ToProto(self->model_->plan());

  FEDWATT_RETURN_IF_ERROR(self->ReadAttemptsOfEarlierStarts());
  // A crash between a round's commit and its line kept the line back.
  FEDWATT_ASSIGN_OR_RETURN(const std::string lines, self->store_->ReadLines());
  if (absl::StatusOr<std::string> written = ReadFile(RoundsFile(*options), int64_t{1} << 32, *options->disk); !written.ok() || *written != lines) {
    FEDWATT_RETURN_IF_ERROR(WriteFileAtomically(RoundsFile(*options), lines, 0644, *options->disk));
  }
  FEDWATT_ASSIGN_OR_RETURN(self->writer_, RunRecordWriter::Open(options->out_directory, *options->disk));
  for (const StoredRound& round : rounds) {
    self->committed_rounds_ += round.committed;
    if (round.accuracy.has_value()) self->best_accuracy_ = std::max(self->best_accuracy_.value_or(0), *round.accuracy);
    v1::RoundSummary summary;
    if (!summary.ParseFromString(round.summary)) return absl::DataLossError(absl::StrCat("state database: the summary of round ", round.round));
    self->finished_rounds_.push_back(std::move(summary));
  }
  FEDWATT_ASSIGN_OR_RETURN(ModelArchive archive, ModelArchive::Open(options->out_directory, self->best_accuracy_, *options->disk));
  self->archive_.emplace(std::move(archive));
  // A crash right after a commit left that round's container unwritten.
  for (auto round = rounds.rbegin(); round != rounds.rend(); ++round) {
    if (!round->committed) continue;
    if (self->archive_->last_round() != round->round) {
      FEDWATT_RETURN_IF_ERROR(self->archive_->Save(round->round, *self->model_->blob(), round->accuracy));
    }
    break;
  }

  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  const int fold_threads = options->fold_threads > 0 ? options->fold_threads : std::clamp(cores, 1, 2);
  self->pool_ = std::make_unique<FoldPool>(fold_threads, [model = &*self->model_] { return model->NewAccumulator(); }, options->journaled_update_bytes, *options->disk, options->background);
  if (!options->background) self->evaluation_thread_ = std::jthread([self = self.get()](std::stop_token stop) {
    while (!stop.stop_requested()) self->evaluation_loop_.RunOnce(absl::Hours(1));
  });
  self->UpdateSnapshot();
  FEDWATT_RETURN_IF_ERROR(self->ReadSessions());
  if (self->engine_->resumes()) FEDWATT_RETURN_IF_ERROR(self->OpenJournal(self->engine_->state().round));
  self->store_->RemoveJournalsExcept(self->journal_round_);
  if (!self->engine_->resumes() || FEDWATT_PLANTED(uploads_removed_too_early)) self->RemoveUploads();
  return self;
}

void Coordinator::Start() {
  if (options_->meter != nullptr) {
    if (absl::Status started = options_->meter->Start(); !started.ok()) {
      Log(options_->log, LogLevel::kWarning, absl::StrCat("the coordinator's meter does not start: ", started.ToString()));
      options_->meter.reset();
    }
  }
  tracker_.emplace(clock_, options_->meter.get(), options_->background ? PhaseTracker::Cpu::kNone : PhaseTracker::Cpu::kProcess);
  tracker_->Enter(Phase::kIdleWait);
  cpu_at_round_start_ = ProcessCpuTime();
  server_energy_from_ = clock_->Now();
  if (store_->incarnation() > 0) {
    Log(options_->log, LogLevel::kInfo, absl::StrCat("run ", run_id(), " continues with round ", engine_->state().round));
  }
  // A run that had reached its target when it was started again has nothing left to do.
  const std::vector<StoredRound>& rounds = store_->rounds();
  const std::optional<double>& target = options_->engine.target_accuracy;
  if (target.has_value() && !rounds.empty() && rounds.back().accuracy.value_or(0) >= *target) {
    Execute(Finish{"target accuracy reached", true, absl::OkStatus()});
    return;
  }
  TellShape();
  EverySecond();
  if (engine_->resumes()) ResumeRound();
  Feed(Tick{});
}

void Coordinator::Stop(const std::string& reason) {
  stop_asked_ = true;
  if (blocked_) return FailRun(*blocked_);  // nothing can be finished any more
  Feed(StopRequested{reason});
}

bool Coordinator::farewell_done() const {
  return std::all_of(sessions_.begin(), sessions_.end(), [](const auto& entry) { return entry.second.told_finished; });
}

void Coordinator::ForgetWhoWasTold() {
  for (const auto& [id, session] : sessions_) {
    if (session.told_finished) store_->DropSession(id);
  }
  if (absl::Status kept = store_->Remember({}); !kept.ok()) Log(options_->log, LogLevel::kWarning, absl::StrCat("sessions that are over are not forgotten: ", kept.ToString()));
}

RunOutcome Coordinator::Close() {
  FEDWATT_CHECK(finish_.has_value());
  RunOutcome outcome{finish_->reason, finish_->target_reached, stop_asked_ && finish_->status.ok(), committed_rounds_, finish_->status};
  RunSummary summary = options_->summary;
  summary.run_id = run_id();
  summary.model_path = archive_->last_path();
  if (options_->on_finish) {
    if (absl::Status written = options_->on_finish(model_->plan().architecture, *model_->published(), summary); !written.ok()) {
      Log(options_->log, LogLevel::kError, absl::StrCat("the final model could not be written: ", written.ToString()));
      if (outcome.status.ok()) outcome.status = written;
    }
  }
  if (absl::Status written = writer_->WriteSummary(summary); !written.ok() && outcome.status.ok()) outcome.status = written;
  return outcome;
}

ServerSnapshot Coordinator::Snapshot() const {
  absl::MutexLock lock(&snapshot_mutex_);
  return snapshot_;
}

void Coordinator::UpdateSnapshot() {
  ServerSnapshot snapshot{engine_->Snapshot(), run_id(), committed_rounds_, best_accuracy_};
  absl::MutexLock lock(&snapshot_mutex_);
  snapshot_ = std::move(snapshot);
}

void Coordinator::EverySecond() {
  // A connection that closes takes its count along, so look often.
  if (wire_counter_.has_value()) wire_counter_->Read();
  std::vector<std::string> lapsed;
  const absl::Duration now = clock_->Monotonic();
  for (const auto& [id, session] : sessions_) {
    // A client that dies before it opens its watch cuts no call, and must not hold up the round.
    const absl::Duration longest = AtWork(session) ? std::min(WatchGrace(session), options_->session_duration) : options_->session_duration;
    if (!Busy(session) && now - session.last_seen > longest) lapsed.push_back(id);
  }
  for (const std::string& id : lapsed) EndSession(id, "no call for too long");
  if (options_->on_waiting && !finish_.has_value() && engine_->state().phase == RoundPhase::kIdle) options_->on_waiting(Snapshot());
  loop_->After(kSecond, [this] { EverySecond(); });
}

// ---- Effects.

void Coordinator::Feed(Event event) {
  events_.push_back(std::move(event));
  Drain();
}

void Coordinator::Drain() {
  if (feeding_) return;  // an effect brought the event: its turn comes when the effects before it are done
  feeding_ = true;
  while (!blocked_ && (!effects_.empty() || !events_.empty())) {
    if (effects_.empty()) {
      const Event next = std::move(events_.front());
      events_.pop_front();
      handled_at_ = clock_->Monotonic();
      for (Effect& effect : engine_->Handle(next, clock_->Now())) effects_.push_back(std::move(effect));
      continue;
    }
    const Effect effect = std::move(effects_.front());
    effects_.pop_front();
    if (finish_.has_value() && !std::holds_alternative<EndAttempt>(effect)) continue;  // a run that failed starts nothing more
    std::visit([this](const auto& one) { Execute(one); }, effect);
  }
  feeding_ = false;
  UpdateSnapshot();
}

void Coordinator::Block(const absl::Status& status, std::function<void()> again) {
  if (FEDWATT_PLANTED(full_disk_ends_the_run)) return FailRun(status);
  constexpr absl::Duration kRetryAfter = absl::Seconds(1);
  if (!blocked_) Log(options_->log, LogLevel::kError, absl::StrCat(status.ToString(), "; waiting for space"));
  blocked_ = status;
  loop_->After(kRetryAfter, [this, again = std::move(again)] {
    if (finish_.has_value()) return;
    blocked_.reset();
    again();
    Drain();
  });
}

void Coordinator::Execute(const Remember& effect) {
  absl::Status kept = store_->Remember(effect.entries);
  if (absl::IsResourceExhausted(kept)) return Block(kept, [this, effect] { Execute(effect); });
  // A reservation that is not on disk could be spent twice.
  if (!kept.ok()) return FailRun(kept);
  Failpoint("round_opened");
}

void Coordinator::Execute(const StartAttempt& effect) {
  if (std::exchange(selected_round_, effect.round) != effect.round) {
    if (options_->client_learning_rate_at) model_->SetLearningRate(options_->client_learning_rate_at(effect.round));
    plan_ = fedwatt::ToProto(model_->plan());
    select_seconds_ = absl::ToDoubleSeconds(clock_->Monotonic() - handled_at_);  // the engine selects within one event
    if (options_->durability == "update" && !resuming_) {
      if (absl::Status opened = OpenJournal(effect.round); !opened.ok()) return FailRun(opened);
    }
  }
  const Attempt& asked = engine_->state().attempts.at(effect.attempt);
  auto session_id = session_of_partition_.find(effect.partition);
  Session* session = session_id != session_of_partition_.end() ? &sessions_.at(session_id->second) : nullptr;
  if (session != nullptr && session->pseudonym != asked.client) session = nullptr;
  if (session == nullptr && !resuming_) {
    Feed(AttemptFailed{effect.attempt, Rejection::kDisconnected});
    return;
  }
  absl::StatusOr<std::shared_ptr<const FittedPlan>> fitted = model_->Assign(effect.round, effect.width);
  if (!fitted.ok()) return FailRun(fitted.status());
  OpenAttempt attempt;
  attempt.fitted = *std::move(fitted);
  DescribeFit(*attempt.fitted, attempt.record);  // the report may say otherwise of the number format
  attempt.record.fit_expected_seconds = effect.expected_seconds;
  attempt.record.fit_expected_energy = effect.expected_energy;
  attempt.round = effect.round;
  attempt.partition = effect.partition;
  attempt.pseudonym = asked.client;
  attempt.deadline = effect.deadline;
  attempt.assigned = clock_->Monotonic() - std::max(clock_->Now() - asked.started, absl::ZeroDuration());
  attempt.assigned_at = asked.started;
  attempt.upload = std::make_shared<Upload>(store_->uploads_directory(), effect.attempt, model_->plan().limits.max_update_bytes, *options_->disk);
  attempt.downloaded_bytes = std::make_shared<std::atomic<int64_t>>(0);
  if (session != nullptr) {
    attempt.session = session->id;
    attempt.site = session->site;
    attempt.device_kind = session->device_kind;
    session->attempt = effect.attempt;
  }
  open_.emplace(effect.attempt, std::move(attempt));
  if (session != nullptr) AnswerWait(*session);
}

void Coordinator::Execute(const Fold& effect) {
  const OpenAttempt& attempt = open_.at(effect.attempt);
  const int64_t example_count = attempt.record.train_examples.value_or(0);
  const std::optional<double> train_loss = attempt.record.train_loss;
  FoldPool::Task task{attempt.fitted, {}, std::nullopt, example_count, attempt.round, attempt.partition, {}};
  if (attempt.replayed) {
    task.update = attempt.replayed->update;
    if (FEDWATT_PLANTED(recovered_weight_lost)) task.example_count = 1;
    if (absl::StatusOr<Digest> digest = Digest::FromRaw(attempt.replayed->ended.update_sha256()); digest.ok()) task.digest = *digest;
  } else {
    task.update = {attempt.upload->path(), 0, attempt.upload->total_bytes()};
  }
  task.done = [this, id = effect.attempt, example_count, train_loss, keep = attempt.upload, bytes = task.update.length, values = attempt.fitted->layout.value_count(),
               replayed = attempt.replayed.has_value()](absl::Status status, std::string container) {
    loop_->Post([this, id, example_count, train_loss, status = std::move(status), container = std::move(container), bytes, values, replayed]() mutable {
      // It was acknowledged, and good when it was.
      if (replayed && !status.ok()) return FailRun(absl::DataLossError(status.message()));
      if (status.ok()) model_->NoteUpdate(bytes, values);
      if (auto it = open_.find(id); it != open_.end()) {
        it->second.message = std::string(status.message());
        it->second.container = std::move(container);
      }
      Feed(FoldFinished{id, status, example_count, train_loss});
    });
  };
  pool_->Fold(std::move(task));
}

void Coordinator::DescribeFit(const FittedPlan& fitted, AttemptRecord& record) {
  record.fit = fitted.plan.fit;
  record.fit_parameter_count = fitted.layout.value_count();
  record.fit_macs = fitted.macs_per_example;
  record.codec_uplink = fitted.plan.uplink_codec;
  record.codec_downlink = fitted.plan.downlink_codec;
}

ReportClaim Coordinator::ClaimOf(const AttemptRecord& record) {
  ReportClaim claim;
  claim.client = record.client;
  claim.energy_class = record.energy_class;
  claim.energy = AttemptEnergy(record).energy;
  for (const PhaseSpan& span : record.phases) {
    claim.wall += span.wall;
    if (span.phase == Phase::kTrain) claim.train_energy = span.energy.energy;
  }
  claim.between_energy = SumOfSpans(record.between).energy;
  for (const PhaseSpan& span : record.between) claim.between_wall += span.wall;
  claim.macs = record.fit_macs.value_or(0) * static_cast<double>(record.train_examples.value_or(0));
  return claim;
}

void Coordinator::Judge(OpenAttempt& attempt) {
  AttemptRecord& record = attempt.record;
  for (const PhaseSpan& span : record.phases) {
    if (span.phase == Phase::kTrain && !span.energy.missing()) record.energy_class = absl::StrCat(span.energy.source, " ", span.energy.domain, " ", attempt.device_kind);
  }
  ReportClaim claim = ClaimOf(record);
  claim.elapsed = *attempt.reported - attempt.assigned;
  claim.max_power = options_->engine.budget.max_power;
  // A client that gave up before its upload claims none, whatever had arrived.
  claim.received_bytes = attempt.claimed_uplink_bytes == 0 && record.outcome != "accepted" ? 0 : attempt.upload->received_bytes();
  claim.sent_bytes = attempt.downloaded_bytes->load();
  claim.uplink_payload_bytes = attempt.claimed_uplink_bytes.value_or(claim.received_bytes);
  claim.downlink_payload_bytes = attempt.claimed_downlink_bytes.value_or(claim.sent_bytes);
  if (record.quarantine.empty()) record.quarantine = PlausibilityChecker::Impossible(claim);
  if (record.quarantine.empty()) {
    plausibility_.Learn(claim);
    record.suspicion = plausibility_.Conspicuous(record.client);
  }
  if (!record.quarantine.empty() || !record.suspicion.empty()) {
    Log(options_->log, LogLevel::kWarning, absl::StrCat("round ", record.round, ": joules of ", record.client, record.quarantine.empty() ? " are odd: " : " are not believed: ", record.quarantine, record.suspicion));
  }
}

void Coordinator::Execute(const EndAttempt& effect) {
  auto node = open_.extract(effect.attempt);
  if (node.empty()) return;  // the member was gone before the attempt could start
  OpenAttempt& attempt = node.mapped();
  const bool accepted = effect.outcome == "accepted";
  if (accepted && journal_ != nullptr) attempt.upload->Keep();  // until the journal has it, or, where it is too long for that, the round
  attempt.upload->Close(accepted ? Rejection::kDuplicate : effect.reason.value_or(Rejection::kNotNeeded));

  AttemptRecord& record = attempt.record;
  v1::EndedAttempt entry;
  const bool replayed = attempt.replayed.has_value() && attempt.replayed->ended.outcome() == effect.outcome;
  if (replayed) {
    entry = std::move(attempt.replayed->ended);
  } else {
    record.round = effect.round;
    record.client = effect.client;
    record.partition = effect.partition;
    record.attempt = effect.attempt;
    record.outcome = effect.outcome;
    record.reason = effect.reason.has_value() ? std::string(RejectionName(*effect.reason)) : "";
    // What moved is counted here; a client's own figures are only its view.
    const int64_t uploaded = attempt.upload->received_bytes(), downloaded = attempt.downloaded_bytes->load();
    record.uplink_payload_bytes = uploaded;
    record.downlink_payload_bytes = downloaded;
    if (attempt.site.has_value()) {
      record.site = options_->engine.carbon->sites()[*attempt.site].name;
      record.carbon = options_->engine.carbon->Account(*attempt.site, AttemptEnergy(record).energy, attempt.assigned_at, clock_->Now());
    }
    if (attempt.reported) Judge(attempt);
    const double upload_share = uploaded > 0 ? static_cast<double>(uploaded) / static_cast<double>(attempt.upload->total_bytes()) : 0;
    const double download_share =
        attempt.offered_bytes > 0 ? static_cast<double>(downloaded) / static_cast<double>(attempt.offered_bytes) : (attempt.told ? 1 : 0);
    const double dense_bytes = static_cast<double>(DenseBytes(attempt.fitted->layout.value_count()));

    entry.set_attempt_id(effect.attempt);
    entry.set_round(effect.round);
    entry.set_partition_index(effect.partition);
    entry.set_pseudonym(attempt.pseudonym);
    entry.set_outcome(effect.outcome);
    if (effect.reason.has_value()) entry.set_reason(fedwatt::ToProto(*effect.reason));
    if (const std::optional<Digest> announced = attempt.upload->announced_digest()) entry.set_update_sha256(announced->Raw());
    entry.set_report_request_id(attempt.report_request);
    if (accepted || (FEDWATT_PLANTED(late_is_accepted) && effect.outcome == "late") || (FEDWATT_PLANTED(spare_is_accepted) && effect.outcome == "cancelled" && attempt.reported)) {
      entry.mutable_verdict()->mutable_accepted()->set_round(effect.round);
      entry.mutable_verdict()->mutable_accepted()->set_durability(journal_ != nullptr ? "update" : "round");
      entry.set_update_bytes(attempt.upload->total_bytes());
    } else if (effect.outcome == "late") {
      entry.mutable_verdict()->mutable_late()->set_round(effect.round);
    } else {
      entry.mutable_verdict()->mutable_rejected()->set_reason(fedwatt::ToProto(effect.reason.value_or(Rejection::kNotNeeded)));
      entry.mutable_verdict()->mutable_rejected()->set_message(attempt.message);
    }
    *entry.mutable_report_time() = fedwatt::ToProto(attempt.reported ? clock_->Now() - (clock_->Monotonic() - *attempt.reported) : clock_->Now());
    *entry.mutable_elapsed_duration() = fedwatt::ToProto(clock_->Monotonic() - attempt.assigned);
    entry.set_uplink_dense_bytes(std::llround(upload_share * dense_bytes));
    entry.set_downlink_dense_bytes(std::llround(download_share * dense_bytes));
    entry.set_too_much(attempt.too_much);
    if (journal_ != nullptr) entry.set_line(AttemptLine(record));
  }
  ledger_.Add(record, FromProto(entry.elapsed_duration()).value_or(absl::ZeroDuration()), entry.uplink_dense_bytes(), entry.downlink_dense_bytes());
  if (absl::Status written = writer_->WriteAttempt(record); !written.ok()) {
    Log(options_->log, LogLevel::kError, absl::StrCat("clients.jsonl: ", written.ToString()));
  }

  EndedAttempt& ended = ended_[effect.attempt];
  ended.fitted = attempt.fitted;
  ended.duplicate_noted = attempt.duplicate_noted;
  ended.held = std::move(attempt.held);
  ended.kept = entry;
  ended.kept.clear_line();
  ended_order_.push_back(effect.attempt);
  if (journal_ != nullptr && !replayed) {
    WriteDown(effect.attempt, attempt, std::move(entry), ended);
    if (FEDWATT_PLANTED(acknowledged_when_folded)) NoteDurable(effect.attempt);
  } else {
    NoteDurable(effect.attempt);
  }
  // Late questions are answered for a while; memory stays bounded.
  while (ended_order_.size() > static_cast<size_t>(Store::kRememberedAttempts)) {
    ended_.erase(ended_order_.front());
    ended_order_.pop_front();
  }

  if (auto it = sessions_.find(attempt.session); it != sessions_.end()) {
    Session& session = it->second;
    if (session.attempt == effect.attempt) session.attempt.clear();
    ++(accepted ? session.accepted_count : session.rejected_count);
    AnswerWait(session);  // tells a working client that it may stop
  }
}

void Coordinator::TellShape() {
  absl::StatusOr<std::vector<WidthCost>> costs = model_->WidthCosts();
  if (!costs.ok()) return FailRun(costs.status());
  Feed(ModelShaped{*std::move(costs)});
}

void Coordinator::Execute(const Aggregate& effect) {
  tracker_->Enter(Phase::kAggregate);
  Failpoint("round_closed");
  const Digest layout = model_->layout().digest();
  absl::Status status;
  {
    absl::StatusOr<MeanDelta> mean = pool_->Take();
    status = mean.ok() ? model_->Step(*mean, effect.round) : mean.status();
  }
  if (!status.ok()) {
    Log(options_->log, LogLevel::kError, absl::StrCat("round ", effect.round, ": ", status.ToString()));
    // A step that failed may have moved the model half-way.
    absl::StatusOr<std::optional<std::string>> state = store_->ReadModelState();
    if (state.ok() && state->has_value()) {
      if (absl::Status restored = model_->Restore(**state); !restored.ok()) FailRun(Annotate(restored, store_->model_state_path()));
    } else {
      FailRun(state.ok() ? status : state.status());  // nothing to go back to
    }
  }
  Failpoint("model_stepped");
  plan_ = fedwatt::ToProto(model_->plan());  // which a cut changes
  if (model_->layout().digest() != layout) TellShape();
  Feed(AggregateFinished{status, model_->published_digest().Hex()});
}

void Coordinator::Execute(const Evaluate& effect) {
  tracker_->Enter(Phase::kEvaluate);
  evaluation_.emplace();
  evaluation_->round = effect.round;
  if (options_->evaluation_trainer != nullptr && options_->evaluation_data.has_value()) EvaluateCentrally(effect.round, effect.widths);
  if (options_->federated_evaluation) {
    for (int64_t partition : effect.partitions) {
      auto it = session_of_partition_.find(partition);
      if (it == session_of_partition_.end()) continue;
      Session& session = sessions_.at(it->second);
      if (session.evaluation_example_count < 1) continue;
      session.evaluation = absl::StrCat("e", effect.round, "-p", partition, "-", (options_->new_session_id ? options_->new_session_id() : RandomId()).substr(0, 12));
      evaluation_->pending.emplace(session.evaluation, session.id);
      AnswerWait(session);
    }
    evaluation_->timer = loop_->After(options_->federated_evaluation_timeout, [this, round = effect.round] {
      if (!evaluation_.has_value() || evaluation_->round != round) return;
      evaluation_->timer = 0;
      for (const auto& [attempt, session] : std::exchange(evaluation_->pending, {})) {
        if (auto it = sessions_.find(session); it != sessions_.end()) it->second.evaluation.clear();
      }
      FinishEvaluationIfComplete();
    });
  }
  FinishEvaluationIfComplete();
}

absl::StatusOr<LocalTrainer*> Coordinator::EvaluationTrainer(const ArchitectureSpec& architecture) {
  if (architecture.kept.empty()) return options_->evaluation_trainer;
  if (!options_->trainer_factory) return absl::UnimplementedError("the coordinator can't make narrower models to score");
  // Where channels move, those of earlier rounds are of no use any more.
  constexpr size_t kMostTrainers = 16;
  if (narrower_trainers_.size() >= kMostTrainers && !narrower_trainers_.contains(architecture.kept)) narrower_trainers_.clear();
  std::unique_ptr<LocalTrainer>& trainer = narrower_trainers_[architecture.kept];
  if (trainer == nullptr) {
    FEDWATT_ASSIGN_OR_RETURN(trainer, options_->trainer_factory(architecture));
  }
  return trainer.get();
}

void Coordinator::EvaluateCentrally(int64_t round, const std::vector<double>& widths) {
  evaluation_->central_pending = true;
  // The models that the next round's clients start from.
  std::vector<std::shared_ptr<const FittedPlan>> narrower;
  for (double width : widths) {
    absl::StatusOr<std::shared_ptr<const FittedPlan>> fitted = model_->Assign(round + 1, width);
    if (!fitted.ok()) return FailRun(fitted.status());
    narrower.push_back(*std::move(fitted));
  }
  auto score = [this, round, model = model_->published(), architecture = model_->plan().architecture, loss = model_->plan().recipe.loss, narrower = std::move(narrower)] {
    absl::StatusOr<EvaluationResult> result = [&]() -> absl::StatusOr<EvaluationResult> {
      FEDWATT_ASSIGN_OR_RETURN(LocalTrainer * trainer, EvaluationTrainer(architecture));
      return trainer->Evaluate(*model, *options_->evaluation_data, loss);
    }();
    std::map<std::string, double> by_width;
    for (const std::shared_ptr<const FittedPlan>& fitted : narrower) {
      absl::StatusOr<LocalTrainer*> trainer = EvaluationTrainer(fitted->plan.architecture);
      absl::StatusOr<EvaluationResult> scored = trainer.ok() ? (*trainer)->Evaluate(*fitted->values, *options_->evaluation_data, loss) : trainer.status();
      if (!scored.ok()) Log(options_->log, LogLevel::kWarning, absl::StrCat("evaluation of round ", round, " at width ", WidthKey(fitted->plan.fit.width_fraction), ": ", scored.status().ToString()));
      if (scored.ok() && scored->has_accuracy) by_width[WidthKey(fitted->plan.fit.width_fraction)] = scored->accuracy;
    }
    loop_->Post([this, round, result = std::move(result), by_width = std::move(by_width)] {
      if (!evaluation_.has_value() || evaluation_->round != round) return;
      evaluation_->central_pending = false;
      if (result.ok()) {
        if (result->has_accuracy) evaluation_->result.accuracy = result->accuracy;
        evaluation_->result.loss = RecordableLoss(result->mean_loss);
        evaluation_->result.examples = result->example_count;
        evaluation_->result.accuracy_by_width = by_width;
      } else {
        Log(options_->log, LogLevel::kError, absl::StrCat("evaluation of round ", round, ": ", result.status().ToString()));
      }
      FinishEvaluationIfComplete();
    });
  };
  if (options_->background) {
    options_->background(absl::ZeroDuration(), std::move(score));
  } else {
    evaluation_loop_.Post(std::move(score));
  }
}

void Coordinator::FinishEvaluationIfComplete() {
  if (!evaluation_.has_value() || evaluation_->central_pending || !evaluation_->pending.empty()) return;
  Evaluation evaluation = *std::exchange(evaluation_, std::nullopt);
  loop_->Cancel(evaluation.timer);
  if (evaluation.example_count > 0) {
    evaluation.result.federated_examples = evaluation.example_count;
    evaluation.result.federated_loss = evaluation.weighted_loss / static_cast<double>(evaluation.example_count);
  }
  if (evaluation.accuracy_example_count > 0) {
    evaluation.result.federated_accuracy = evaluation.weighted_accuracy / static_cast<double>(evaluation.accuracy_example_count);
  }
  Feed(evaluation.result);
}

void Coordinator::FillRecord(RoundRecord& record) {
  if (const int64_t bytes = other_downloaded_bytes_->exchange(0); bytes > 0) {
    ledger_.AddDownload(bytes, std::exchange(other_dense_bytes_, 0));
  }
  ledger_.Fill(record);
  record.select_seconds = select_seconds_;
  if (wire_counter_.has_value()) {
    if (std::optional<WireBytes> total = wire_counter_->Read(); total.has_value()) {
      record.uplink_wire_bytes = total->received - wire_at_round_start_.received;
      record.downlink_wire_bytes = total->sent - wire_at_round_start_.sent;
      record.uplink_header_bytes = total->received_headers - wire_at_round_start_.received_headers;
      record.downlink_header_bytes = total->sent_headers - wire_at_round_start_.sent_headers;
      wire_at_round_start_ = *total;
    }
  }
  record.server_phases = tracker_->Cut(Phase::kCheckpoint);
  record.server_energy = SumOfSpans(record.server_phases);
  const absl::Time from = std::exchange(server_energy_from_, clock_->Now());
  if (options_->engine.carbon != nullptr) {
    record.client_carbon.kind = options_->engine.carbon->kind();
    if (options_->carbon_site) {
      const size_t site = *options_->engine.carbon->FindSite(*options_->carbon_site);
      const CarbonReading carbon = options_->engine.carbon->Account(site, record.server_energy.energy, from, server_energy_from_);
      record.server_operational = carbon.operational;
      record.server_embodied = carbon.embodied;
    }
  }
  if (!options_->background) {
    const absl::Duration cpu = ProcessCpuTime();
    record.server_cpu_seconds = absl::ToDoubleSeconds(cpu - cpu_at_round_start_);
    cpu_at_round_start_ = cpu;
    record.peak_rss_bytes = PeakResidentBytes();
  }
  record.model_digest = model_->published_digest().Hex();
  record.model_parameters = model_->layout().value_count();
}

absl::Status Coordinator::WriteRound(PendingRound& pending) {
  const RoundRecord& record = pending.record;
  const v1::RoundSummary summary = SummaryOf(record);
  if (FEDWATT_PLANTED(told_before_committed) && options_->on_round) options_->on_round(record);
  if (!pending.stored) {
    FEDWATT_RETURN_IF_ERROR(writer_->SyncAttempts());
    RoundEnd end;
    end.round.round = record.round;
    end.round.committed = record.committed;
    end.round.model_digest = record.model_digest;
    end.round.accuracy = AccuracyOf(record);
    end.round.summary = summary.SerializeAsString();
    end.line = RoundLine(record);
    end.model_state = pending.model_state ? &*pending.model_state : nullptr;
    end.memory = pending.memory;
    end.attempts_file_bytes = FileBytes(*options_->disk, AttemptsFile(*options_));
    for (auto id = ended_order_.rbegin(); id != ended_order_.rend() && ended_.at(*id).kept.round() == record.round; ++id) {
      end.attempts.emplace_back(*id, ended_.at(*id).kept.SerializeAsString());
    }
    FEDWATT_RETURN_IF_ERROR(store_->Finish(end));
    pending.stored = true;
    // What the journal had not flushed yet has become durable with the round.
    journal_.reset();
    for (const std::string& id : std::set<std::string>(not_durable_)) NoteDurable(id);
    store_->RemoveJournalsExcept(-1);
    RemoveUploads();
    Failpoint("round_cleared");
  }
  // After the commit, so that a round which a reader saw is never run again.
  FEDWATT_RETURN_IF_ERROR(writer_->WriteRound(record));
  if (record.committed) ++committed_rounds_;
  if (const std::optional<double> accuracy = AccuracyOf(record)) best_accuracy_ = std::max(best_accuracy_.value_or(0), *accuracy);
  if (options_->on_round && !FEDWATT_PLANTED(told_before_committed)) options_->on_round(record);
  TellRound(summary);
  return absl::OkStatus();
}

void Coordinator::EndRound(std::shared_ptr<PendingRound> pending) {
  const RoundRecord& record = pending->record;
  absl::Status status = pending->written ? absl::OkStatus() : WriteRound(*pending);
  pending->written = status.ok();
  // After the commit: it removes what is neither last nor best any more, which only a committed round may do.
  if (status.ok() && record.committed) status = archive_->Save(record.round, *model_->blob(), AccuracyOf(record));
  if (absl::IsResourceExhausted(status)) return Block(status, [this, pending] { EndRound(pending); });
  if (!status.ok() && !record.committed) FailRun(status);
  tracker_->Enter(Phase::kIdleWait);
  steady_.CatchUp();
  if (stop_after_round_.has_value()) Feed(StopRequested{*stop_after_round_});
  if (record.committed) Feed(PublishFinished{status});
}

void Coordinator::Execute(const Publish& effect) {
  Failpoint("round_publishing");
  auto pending = std::make_shared<PendingRound>(PendingRound{effect.record, model_->Save(), effect.memory});
  FillRecord(pending->record);
  EndRound(std::move(pending));
}

void Coordinator::Execute(const Abandon& effect) {
  if (!FEDWATT_PLANTED(abandoned_sum_kept)) pool_->Forget();
  model_->AbandonRound();
  auto pending = std::make_shared<PendingRound>(PendingRound{effect.record, std::nullopt, effect.memory});
  FillRecord(pending->record);
  EndRound(std::move(pending));
}

void Coordinator::Execute(const SetTimer& effect) {
  loop_->Cancel(round_timer_);
  round_timer_ = loop_->After(effect.at - clock_->Now(), [this] { Feed(Tick{}); });
}

void Coordinator::Execute(const Finish& effect) {
  if (finish_.has_value()) return;
  finish_ = effect;
  loop_->Cancel(round_timer_);
  for (auto& [id, session] : sessions_) AnswerWait(session);
  for (RoundWatcher* watcher : watchers_) watcher->OnEnd();
}

void Coordinator::FailRun(const absl::Status& status) {
  Log(options_->log, LogLevel::kError, status.ToString());
  Execute(Finish{std::string(status.message()), false, status});
}

void Coordinator::TellRound(const v1::RoundSummary& summary) {
  finished_rounds_.push_back(summary);
  if (watchers_.empty()) return;
  v1::WatchRoundsResponse response;
  *response.mutable_round() = summary;
  *response.mutable_status() = Status();
  for (RoundWatcher* watcher : watchers_) watcher->OnRound(response);
}

}  // namespace fedwatt::internal

// Sessions and the calls of clients.
#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator.h"
#include "fedwatt/base/failpoint.h"
#include "fedwatt/base/planted.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/base/text.h"
#include "fedwatt/rpc/chunks.h"
#include "fedwatt/rpc/conversion.h"
#include "fedwatt/rpc/held_plan.h"
#include "fedwatt/rpc/ledger_conversion.h"
#include "fedwatt/rpc/status_conversion.h"

namespace fedwatt::internal {
namespace {

constexpr int32_t kProtocolVersion = 1;
constexpr size_t kMaxIdBytes = 128;
constexpr int kMaxOtherModels = 16;
constexpr int64_t kMaxDamage = 4;  // a first upload and three more
// Beyond these a client's own figures are nonsense and would spoil the sums: 10^9 joules in one phase, 1000 days, a petabyte.
constexpr int64_t kMaxPhaseMicrojoules = 1'000'000'000'000'000;
constexpr absl::Duration kMaxPhase = absl::Hours(24000);
constexpr int64_t kMaxWireBytes = 1'000'000'000'000'000;

v1::CheckInResponse::Refused Refuse(v1::RefusalReason reason, std::string message) {
  v1::CheckInResponse::Refused refused;
  refused.set_reason(reason);
  refused.set_message(std::move(message));
  return refused;
}

absl::Status CheckId(std::string_view field, const std::string& id) {
  if (!id.empty() && id.size() <= kMaxIdBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(std::string(field), ": expected 1 to ", kMaxIdBytes, " bytes, got ", id.size()));
}

// Names of the stages that both ends of both directions need. The pipelines were valid when the model was made.
std::vector<std::string> NeededStages(const GlobalModel& model) {
  std::vector<std::string> names, specs = model.downlinks();
  specs.push_back(model.plan().uplink_codec);
  for (const std::string& spec : specs) {
    if (IsChain(spec)) names.push_back(std::string(kChainStage));
    if (absl::StatusOr<Pipeline> pipeline = Pipeline::Create(spec); pipeline.ok()) {
      names.insert(names.end(), pipeline->stage_names().begin(), pipeline->stage_names().end());
    }
  }
  return names;
}

// What is no fraction is not known.
MemberSupply SupplyOf(int64_t partition, const v1::EnergyState& state) {
  MemberSupply supply{partition, std::nullopt, state.charging()};
  if (state.has_battery_fraction() && state.battery_fraction() >= 0 && state.battery_fraction() <= 1) supply.battery_fraction = state.battery_fraction();
  return supply;
}

template <typename List>
bool Lacks(const List& names, const std::string& name) {
  return !names.empty() && std::find(names.begin(), names.end(), name) == names.end();
}

}  // namespace

absl::StatusOr<Coordinator::Session*> Coordinator::FindSession(const std::string& id) {
  auto it = sessions_.find(id);
  if (it == sessions_.end()) return absl::NotFoundError("session: not known here; check in again");
  Session& session = it->second;
  session.last_seen = clock_->Monotonic();
  loop_->Cancel(std::exchange(session.grace, 0));
  // A client of an earlier start: a member again, once this call has been served.
  if (std::exchange(session.dormant, false)) {
    loop_->Post([this, id] {
      if (auto found = sessions_.find(id); found != sessions_.end()) Welcome(found->second);
    });
  }
  return &session;
}

void Coordinator::Welcome(const Session& session) {
  Feed(MemberJoined{session.partition, session.pseudonym, session.site, std::nullopt, session.supply.battery_fraction, session.supply.charging, session.device});
}

Coordinator::Session Coordinator::MakeSession(const std::string& id, const v1::CheckInRequest& request) const {
  Session session;
  session.id = id;
  session.client_id = request.client_id();
  session.pseudonym = absl::StrCat("c-", Sha256(absl::StrCat(run_id(), "/", request.client_id())).Hex().substr(0, 12));
  session.partition = request.partition_index();
  session.last_seen = clock_->Monotonic();
  session.meter_name = TruncateUtf8(request.capabilities().meter_name(), kMaxIdBytes);
  session.meter_tier = FromProto(request.capabilities().meter_tier()).value_or(EnergyTier::kMissing);
  session.evaluation_example_count = request.capabilities().evaluation_example_count();
  if (request.capabilities().has_memory_bytes()) session.device.memory_bytes = request.capabilities().memory_bytes();
  if (const std::string& site = request.capabilities().site(); options_->engine.carbon != nullptr) {
    session.site = options_->engine.carbon->FindSite(site);
    if (!session.site && !site.empty()) {
      Log(options_->log, LogLevel::kWarning, absl::StrCat("partition ", session.partition, " stands at '", TruncateUtf8(site, kMaxIdBytes), "', which is not one of carbon.sites; its grams are not known"));
    }
  }
  session.device_kind = TruncateUtf8(absl::StrCat(request.capabilities().core_count(), " cores ", request.capabilities().instruction_sets()), kMaxIdBytes);
  session.check_in_request = request.request_id();
  session.max_inline_model_bytes = std::min(request.capabilities().max_inline_model_bytes(), kMaxInlineBytes);
  session.supply = SupplyOf(session.partition, request.energy_state());
  return session;
}

bool Coordinator::Busy(const Session& session) const {
  if (session.wait.has_value() || session.stream_count > 0) return true;
  auto attempt = open_.find(session.attempt);
  return attempt != open_.end() && attempt->second.session == session.id && attempt->second.held.has_value();
}

bool Coordinator::Live(const Session& session) const {
  return Busy(session) || session.grace != 0 || clock_->Monotonic() - session.last_seen < WatchGrace(session);
}

bool Coordinator::AtWork(const Session& session) const {
  const auto attempt = open_.find(session.attempt);
  return (attempt != open_.end() && attempt->second.told) || (evaluation_.has_value() && evaluation_->told.contains(session.evaluation));
}

absl::Duration Coordinator::WatchGrace(const Session& session) const {
  return options_->disconnect_grace + (AtWork(session) ? options_->watch_after : absl::ZeroDuration());
}

std::optional<v1::CheckInResponse::Refused> Coordinator::CheckInRefusal(const v1::CheckInRequest& request) const {
  if (request.protocol().min_version() > kProtocolVersion || request.protocol().max_version() < kProtocolVersion) {
    return Refuse(v1::REFUSAL_REASON_VERSION, absl::StrCat("the coordinator speaks protocol version ", kProtocolVersion, ", the client ",
                                                           request.protocol().min_version(), " to ", request.protocol().max_version()));
  }
  if (finish_.has_value()) return Refuse(v1::REFUSAL_REASON_FINISHED, finish_->reason);
  const int64_t count = request.partition_count();
  if (count < 1 || request.partition_index() < 0 || request.partition_index() >= count ||
      (options_->partition_count > 0 && count != options_->partition_count)) {
    return Refuse(v1::REFUSAL_REASON_PARTITION,
                  absl::StrCat("partition ", request.partition_index(), "/", count,
                               options_->partition_count > 0 ? absl::StrCat("; this run has ", options_->partition_count, " partitions") : ""));
  }
  const Plan& plan = model_->plan();
  for (const std::string& codec : NeededStages(*model_)) {
    if (Lacks(request.capabilities().codecs(), codec)) {
      return Refuse(v1::REFUSAL_REASON_INCAPABLE, absl::StrCat("the run needs codec stage '", codec, "'"));
    }
  }
  if (Lacks(request.capabilities().architectures(), plan.architecture.name)) {
    return Refuse(v1::REFUSAL_REASON_INCAPABLE, absl::StrCat("the run needs architecture '", plan.architecture.name, "'"));
  }
  if (auto holder = session_of_partition_.find(request.partition_index()); holder != session_of_partition_.end()) {
    const Session& session = sessions_.at(holder->second);
    if (session.client_id != request.client_id() && Live(session)) {
      return Refuse(v1::REFUSAL_REASON_PARTITION_TAKEN,
                    absl::StrCat("another client trains on partition ", request.partition_index(), "/", count));
    }
  } else if (static_cast<int64_t>(sessions_.size()) >= options_->max_clients) {
    return Refuse(v1::REFUSAL_REASON_BUSY, absl::StrCat("the coordinator serves ", options_->max_clients, " clients already"));
  }
  return std::nullopt;
}

void Coordinator::CheckIn(const Peer& peer, const v1::CheckInRequest& request, v1::CheckInResponse* response, const Done& done) {
  const absl::Status valid = [&]() -> absl::Status {
    FEDWATT_RETURN_IF_ERROR(CheckId("request_id", request.request_id()));
    FEDWATT_RETURN_IF_ERROR(CheckId("client_id", request.client_id()));
    if (request.client_name().size() > kMaxIdBytes) return absl::InvalidArgumentError("client_name: longer than 128 bytes");
    if (!request.has_protocol()) return absl::InvalidArgumentError("protocol: missing");
    if (peer.role == Peer::Role::kDevice && peer.name != request.client_id()) {
      return RefusalStatus(absl::StatusCode::kPermissionDenied, "wrong_client_id", absl::StrCat("client_id: the certificate is for '", peer.name, "'"));
    }
    return absl::OkStatus();
  }();
  if (!valid.ok()) {
    done(valid);
    return;
  }
  *response->mutable_retry() = retry_;
  if (std::optional<v1::CheckInResponse::Refused> refused = CheckInRefusal(request); refused.has_value()) {
    *response->mutable_refused() = *std::move(refused);
    done(absl::OkStatus());
    return;
  }
  const int64_t partition = request.partition_index();
  auto holder = session_of_partition_.find(partition);
  const bool repeated = holder != session_of_partition_.end() && sessions_.at(holder->second).client_id == request.client_id() &&
                        sessions_.at(holder->second).check_in_request == request.request_id();
  std::string id;
  if (repeated) {
    id = holder->second;
  } else {
    if (holder != session_of_partition_.end()) EndSession(std::string(holder->second), "the client checked in anew");
    id = options_->new_session_id ? options_->new_session_id() : RandomId();
    sessions_.emplace(id, MakeSession(id, request));
    if (options_->durability == "update") store_->PutSession(id, request.SerializeAsString());
    session_of_partition_[partition] = id;
  }
  Session& session = sessions_.at(id);
  session.last_seen = clock_->Monotonic();
  loop_->Cancel(std::exchange(session.grace, 0));
  v1::CheckInResponse::Accepted* accepted = response->mutable_accepted();
  accepted->set_session_id(id);
  accepted->set_pseudonym(session.pseudonym);
  accepted->set_protocol_version(kProtocolVersion);
  accepted->set_run_id(run_id());
  *accepted->mutable_server_time() = ToProto(clock_->Now());
  *accepted->mutable_hold_duration() = ToProto(options_->hold_duration);
  *accepted->mutable_session_duration() = ToProto(options_->session_duration);
  *accepted->mutable_watch_after_duration() = ToProto(options_->watch_after);
  accepted->set_max_inline_update_bytes(kMaxInlineBytes);
  const bool dormant = std::exchange(session.dormant, false);
  done(absl::OkStatus());
  if (!repeated || dormant) Welcome(session);
}

void Coordinator::EndSession(const std::string& id, std::string_view why) {
  auto node = sessions_.extract(id);
  if (node.empty()) return;
  Session& session = node.mapped();
  store_->DropSession(id);
  Log(options_->log, LogLevel::kInfo, absl::StrCat("partition ", session.partition, " left: ", std::string(why)));
  loop_->Cancel(session.grace);
  EndWait(session, absl::AbortedError(std::string(why)));
  session_of_partition_.erase(session.partition);
  if (auto open = open_.find(session.attempt); open != open_.end()) open->second.message = std::string(why);
  if (evaluation_.has_value() && evaluation_->pending.erase(session.evaluation) > 0) FinishEvaluationIfComplete();
  Feed(MemberLeft{session.partition});
}

void Coordinator::NoteSupply(Session& session, const v1::EnergyState& state) {
  const MemberSupply supply = SupplyOf(session.partition, state);
  if (supply.battery_fraction == session.supply.battery_fraction && supply.charging == session.supply.charging) return;
  session.supply = supply;
  Feed(supply);
}

void Coordinator::StartGrace(Session& session) {
  if (Busy(session) || session.grace != 0) return;
  session.grace = loop_->After(options_->disconnect_grace, [this, id = session.id] {
    auto it = sessions_.find(id);
    if (it == sessions_.end()) return;
    it->second.grace = 0;
    EndSession(id, "the connection was cut");
  });
}

void Coordinator::Cancelled(CallId call) {
  if (auto it = session_of_wait_.find(call); it != session_of_wait_.end()) {
    Session& session = sessions_.at(it->second);
    EndWait(session, absl::CancelledError("the client hung up"));
    StartGrace(session);
    return;
  }
  for (auto& [id, attempt] : open_) {  // a cohort at most
    if (!attempt.held.has_value() || attempt.held->call != call) continue;
    attempt.held->done(absl::CancelledError("the client hung up"));
    attempt.held.reset();
    Interrupted(attempt.session);
    return;
  }
  for (const std::string& id : not_durable_) {
    std::optional<HeldReport>& held = ended_.at(id).held;
    if (!held.has_value() || held->call != call) continue;
    held->done(absl::CancelledError("the client hung up"));
    held.reset();
    return;
  }
}

void Coordinator::Interrupted(const std::string& session_id) {
  if (auto it = sessions_.find(session_id); it != sessions_.end()) StartGrace(it->second);
}

// ---- Waiting for work.

void Coordinator::EndWait(Session& session, const absl::Status& status) {
  if (!session.wait.has_value()) return;
  HeldWait wait = *std::exchange(session.wait, std::nullopt);
  session_of_wait_.erase(wait.call);
  loop_->Cancel(wait.timer);
  session.last_seen = clock_->Monotonic();
  wait.done(status);
}

void Coordinator::AnswerWait(Session& session) {
  if (session.wait.has_value() && FillWork(session, session.wait->current_attempt, session.wait->response)) EndWait(session, absl::OkStatus());
}

template <typename Assignment>
Coordinator::Offered Coordinator::OfferModel(const Session& session, const KeptChannels& kept, const Digest& model_digest, Assignment* assignment) {
  const ModelOffer offer = model_->OfferFor(kept, session.held_models, session.whole_model);
  assignment->set_model_digest(model_digest.Raw());
  if (offer.base.has_value()) assignment->set_base_model_digest(offer.base->Raw());
  if (offer.blob == nullptr) return {};
  const int64_t bytes = static_cast<int64_t>(offer.blob->size());
  if (bytes <= session.max_inline_model_bytes) {
    assignment->set_inline_model(*offer.blob);
    return {bytes, bytes};
  }
  assignment->mutable_model()->set_digest(offer.blob_digest.Raw());
  assignment->mutable_model()->set_total_bytes(bytes);
  return {bytes, 0};
}

bool Coordinator::FillWork(Session& session, const std::string& current_attempt, v1::WaitForWorkResponse* response) {
  if (finish_.has_value()) {
    response->mutable_finished()->set_reason(finish_->reason);
    response->mutable_finished()->set_succeeded(finish_->status.ok() && !stop_asked_);
    session.told_finished = true;
    return true;
  }
  const bool evaluating = !session.evaluation.empty() && evaluation_.has_value() && evaluation_->pending.contains(session.evaluation);
  if (!current_attempt.empty()) {
    if (AcceptedInMemory(current_attempt)) return false;
    if (FindOpen(session, current_attempt) != nullptr || (evaluating && session.evaluation == current_attempt)) return false;
    response->mutable_cancel()->set_attempt_id(current_attempt);
    response->mutable_cancel()->set_reason(ToProto(UnwantedReason(session, current_attempt)));
    return true;
  }
  if (OpenAttempt* attempt = FindOpen(session, session.attempt); attempt != nullptr && !attempt->over()) {
    v1::TrainAssignment* train = response->mutable_train();
    train->set_attempt_id(session.attempt);
    train->set_round(attempt->round);
    train->set_cohort_count(static_cast<int32_t>(engine_->state().attempts.size()));
    const FittedPlan& fitted = *attempt->fitted;
    if (said_.first != attempt->fitted) said_ = {attempt->fitted, ToProto(fitted.plan)};
    SayPlan(said_.second, session.held_plan_id, train);
    const int64_t kept_bytes = PackedBytes(train->plan().architecture());
    const Offered offered = OfferModel(session, fitted.plan.architecture.kept, fitted.model_digest, train);
    Vouch(said_.second, train);
    attempt->offered_bytes = offered.bytes + kept_bytes;
    attempt->downloaded_bytes->fetch_add(offered.inline_bytes + kept_bytes);
    attempt->told = true;
    *train->mutable_deadline_duration() = ToProto(std::max(attempt->deadline - clock_->Now(), absl::ZeroDuration()));
    return true;
  }
  if (evaluating) {
    v1::EvaluateAssignment* evaluate = response->mutable_evaluate();
    evaluate->set_attempt_id(session.evaluation);
    evaluate->set_round(evaluation_->round);
    SayPlan(plan_, session.held_plan_id, evaluate);
    other_downloaded_bytes_->fetch_add(PackedBytes(evaluate->plan().architecture()));
    if (const Offered offered = OfferModel(session, model_->plan().architecture.kept, model_->published_digest(), evaluate); offered.inline_bytes > 0) {
      other_downloaded_bytes_->fetch_add(offered.inline_bytes);
      other_dense_bytes_ += DenseBytes(model_->layout().value_count());
    }
    Vouch(plan_, evaluate);
    evaluation_->told.insert(session.evaluation);
    *evaluate->mutable_deadline_duration() = ToProto(options_->federated_evaluation_timeout);
    return true;
  }
  return false;
}

void Coordinator::WaitForWork(CallId call, const v1::WaitForWorkRequest& request, v1::WaitForWorkResponse* response, Done done) {
  absl::StatusOr<Session*> found = FindSession(request.session_id());
  if (!found.ok()) {
    done(found.status());
    return;
  }
  Session& session = **found;
  if (request.current_attempt_id().empty()) {
    // What is not a digest names no version, and the whole model answers that.
    session.held_models.clear();
    const auto add = [&session](const std::string& raw) {
      if (absl::StatusOr<Digest> held = Digest::FromRaw(raw); held.ok()) session.held_models.push_back(*held);
    };
    add(request.held_model_digest());
    for (int i = 0; i < std::min(request.other_model_digests_size(), kMaxOtherModels); ++i) add(request.other_model_digests(i));
    session.whole_model = request.whole_model();
    session.held_plan_id = request.held_plan_id().size() <= kMaxIdBytes ? request.held_plan_id() : "";
  }
  EndWait(session, absl::AbortedError("a newer WaitForWork of this session took the place of this one"));
  if (FillWork(session, request.current_attempt_id(), response)) {
    done(absl::OkStatus());
    return;
  }
  session.wait.emplace(HeldWait{call, request.current_attempt_id(), response, std::move(done), 0});
  session_of_wait_.emplace(call, session.id);
  session.wait->timer = loop_->After(options_->hold_duration, [this, id = session.id, call] {
    auto it = sessions_.find(id);
    if (it == sessions_.end() || !it->second.wait.has_value() || it->second.wait->call != call) return;
    it->second.wait->response->mutable_wait();
    EndWait(it->second, absl::OkStatus());
  });
  NoteSupply(session, request.energy_state());
}

// ---- Attempts.

Coordinator::OpenAttempt* Coordinator::FindOpen(const Session& session, const std::string& attempt) {
  auto it = open_.find(attempt);
  return it != open_.end() && it->second.session == session.id ? &it->second : nullptr;
}

Coordinator::EndedAttempt* Coordinator::FindEnded(const Session& session, const std::string& attempt) {
  auto it = ended_.find(attempt);
  if (FEDWATT_PLANTED(ended_attempts_unknown)) return nullptr;
  const bool own = it != ended_.end() && it->second.kept.partition_index() == session.partition && it->second.kept.pseudonym() == session.pseudonym;
  return own ? &it->second : nullptr;
}

bool Coordinator::AcceptedInMemory(const std::string& attempt) const { return not_durable_.contains(attempt) && ended_.at(attempt).kept.outcome() == "accepted"; }

Rejection Coordinator::UnwantedReason(const Session& session, const std::string& attempt) {
  const EndedAttempt* ended = FindEnded(session, attempt);
  if (ended == nullptr) return Rejection::kUnknownAttempt;
  if (ended->kept.outcome() == "accepted") return Rejection::kDuplicate;
  return fedwatt::FromProto(ended->kept.reason()).value_or(Rejection::kNotNeeded);
}

void Coordinator::NoteDuplicate(const Session& session, const std::string& id, int64_t round, const FittedPlan* fitted, bool& noted) {
  if (std::exchange(noted, true)) return;
  AttemptRecord record;
  record.round = round;
  record.client = session.pseudonym;
  record.partition = session.partition;
  record.attempt = id;
  record.outcome = "rejected";
  record.reason = std::string(RejectionName(Rejection::kDuplicate));
  if (fitted != nullptr) DescribeFit(*fitted, record);
  if (absl::Status written = writer_->WriteAttempt(record); !written.ok()) {
    Log(options_->log, LogLevel::kError, absl::StrCat("clients.jsonl: ", written.ToString()));
  }
}

absl::StatusOr<Coordinator::Download> Coordinator::OpenDownload(const v1::DownloadBlobRequest& request) {
  FEDWATT_ASSIGN_OR_RETURN(Session* session, FindSession(request.session_id()));
  FEDWATT_ASSIGN_OR_RETURN(Digest digest, Digest::FromRaw(request.digest()));
  Download download;
  bool is_model = true;
  if (std::shared_ptr<const std::string> blob = model_->FindBlob(digest); blob != nullptr) {
    download.blob = std::move(blob);
  } else if (archive_digest_.has_value() && digest == *archive_digest_) {
    download.blob = options_->archive;
    is_model = false;
  } else {
    return absl::NotFoundError(absl::StrCat("blob ", digest.Hex().substr(0, 12), ": not here; wait for work again"));
  }
  if (request.offset_bytes() < 0 || request.offset_bytes() > static_cast<int64_t>(download.blob->size())) {
    return absl::OutOfRangeError(absl::StrCat("offset_bytes: expected 0 to ", download.blob->size(), ", got ", request.offset_bytes()));
  }
  const OpenAttempt* attempt = FindOpen(*session, session->attempt);
  download.sent_bytes = attempt != nullptr ? attempt->downloaded_bytes : other_downloaded_bytes_;
  // Counted once it starts; a resumed one counts the rest.
  if (attempt == nullptr && is_model) {
    const double share = 1 - static_cast<double>(request.offset_bytes()) / static_cast<double>(download.blob->size());
    other_dense_bytes_ += std::llround(share * static_cast<double>(DenseBytes(model_->layout().value_count())));
  }
  return download;
}

void Coordinator::StillWanted(const v1::StillWantedRequest& request, v1::StillWantedResponse* response, const Done& done) {
  absl::StatusOr<Session*> session = FindSession(request.session_id());
  if (session.ok() && AcceptedInMemory(request.attempt_id())) return done(absl::UnavailableError("the attempt's verdict is not on disk yet"));
  if (session.ok()) {
    const OpenAttempt* attempt = FindOpen(**session, request.attempt_id());
    if (attempt != nullptr && !attempt->over()) {
      *response->mutable_wanted()->mutable_deadline_duration() = ToProto(std::max(attempt->deadline - clock_->Now(), absl::ZeroDuration()));
    } else {
      response->mutable_unwanted()->set_reason(
          ToProto(attempt != nullptr ? Rejection::kDuplicate : UnwantedReason(**session, request.attempt_id())));
    }
  }
  done(session.status());
}

void Coordinator::QueryUpload(const v1::QueryUploadRequest& request, v1::QueryUploadResponse* response, const Done& done) {
  done([&]() -> absl::Status {
    FEDWATT_ASSIGN_OR_RETURN(Session* session, FindSession(request.session_id()));
    const OpenAttempt* attempt = FindOpen(*session, request.attempt_id());
    if (attempt == nullptr) {
      return WithRejection(absl::AbortedError("upload: the attempt is not wanted"), UnwantedReason(*session, request.attempt_id()));
    }
    response->set_received_bytes(attempt->upload->received_bytes());
    return absl::OkStatus();
  }());
}

absl::StatusOr<Coordinator::UploadStream> Coordinator::OpenUpload(const v1::UploadHeader& header) {
  FEDWATT_ASSIGN_OR_RETURN(Session* session, FindSession(header.session_id()));
  if (AcceptedInMemory(header.attempt_id())) return absl::UnavailableError("the attempt's verdict is not on disk yet");
  const auto other_bytes = [&header](const std::string& known) { return !known.empty() && header.sha256() != known; };
  OpenAttempt* attempt = FindOpen(*session, header.attempt_id());
  if (attempt == nullptr) {
    if (EndedAttempt* ended = FindEnded(*session, header.attempt_id()); ended != nullptr && !ended->kept.report_request_id().empty() && other_bytes(ended->kept.update_sha256())) {
      NoteDuplicate(*session, header.attempt_id(), ended->kept.round(), ended->fitted.get(), ended->duplicate_noted);
    }
    return WithRejection(absl::AbortedError("upload: the attempt is not wanted"), UnwantedReason(*session, header.attempt_id()));
  }
  if (attempt->over()) {
    const std::optional<Digest> announced = attempt->upload->announced_digest();
    if (other_bytes(announced ? announced->Raw() : "")) {
      NoteDuplicate(*session, header.attempt_id(), attempt->round, attempt->fitted.get(), attempt->duplicate_noted);
    }
    return WithRejection(absl::AbortedError("upload: the attempt was reported already"), Rejection::kDuplicate);
  }
  UploadStream stream{attempt->upload, 0, header.attempt_id(), session->id};
  absl::StatusOr<int64_t> opened = attempt->upload->Open(header.total_bytes(), header.sha256(), header.offset_bytes());
  if (!opened.ok()) {
    if (RejectionOf(opened.status()) == Rejection::kOversize) {
      attempt->message = std::string(opened.status().message());
      Feed(AttemptFailed{header.attempt_id(), Rejection::kOversize});
    }
    return opened.status();
  }
  stream.stream = *opened;
  ++session->stream_count;
  return stream;
}

void Coordinator::CloseUpload(const UploadStream& stream, const absl::Status& status) {
  auto it = sessions_.find(stream.session);
  if (it != sessions_.end()) {
    --it->second.stream_count;
    it->second.last_seen = clock_->Monotonic();
    // A cut connection may end the stream as if the client had finished it.
    if (status.code() == absl::StatusCode::kCancelled || !stream.upload->whole()) StartGrace(it->second);
  }
  auto open = open_.find(stream.attempt);
  if (open == open_.end()) return;
  const std::optional<Rejection> reason = RejectionOf(status);
  if (reason == Rejection::kOversize || (reason == Rejection::kDigestMismatch && stream.upload->damage_count() >= kMaxDamage)) {
    open->second.message = std::string(status.message());
    Feed(AttemptFailed{stream.attempt, *reason});
  }
}

absl::Status Coordinator::TakeReport(const v1::ReportRequest& request, OpenAttempt& attempt) const {
  AttemptRecord& record = attempt.record;
  FEDWATT_ASSIGN_OR_RETURN(record.phases, FromProto(request.phases()));
  FEDWATT_ASSIGN_OR_RETURN(record.between, FromProto(request.between()));
  for (const std::vector<PhaseSpan>* spans : {&record.phases, &record.between}) {
    for (const PhaseSpan& span : *spans) {
      const EnergyReading& energy = span.energy;
      const Energy most = std::max({energy.energy.value_or(Energy()), energy.high.value_or(Energy()), energy.gross.value_or(Energy())});
      if (span.wall <= kMaxPhase && span.cpu <= kMaxPhase && most <= Microjoules(kMaxPhaseMicrojoules)) continue;
      const Phase phase = span.phase;
      record.phases.clear();
      record.between.clear();
      return absl::InvalidArgumentError(absl::StrCat("phases: ", std::string(PhaseName(phase)), " is beyond all measure"));
    }
  }
  const v1::TransferBytes& transfer = request.transfer();
  for (const auto& [name, bytes] : {std::pair("uplink_wire_bytes", transfer.uplink_wire_bytes()), {"downlink_wire_bytes", transfer.downlink_wire_bytes()},
                                    {"uplink_header_bytes", transfer.uplink_header_bytes()}, {"downlink_header_bytes", transfer.downlink_header_bytes()}}) {
    if (bytes < 0 || bytes > kMaxWireBytes) return absl::InvalidArgumentError(absl::StrCat("transfer.", name, ": ", bytes, ", expected [0, ", kMaxWireBytes, "]"));
  }
  if (transfer.has_uplink_wire_bytes()) record.uplink_wire_bytes = transfer.uplink_wire_bytes();
  if (transfer.has_downlink_wire_bytes()) record.downlink_wire_bytes = transfer.downlink_wire_bytes();
  if (transfer.has_uplink_header_bytes()) record.uplink_header_bytes = transfer.uplink_header_bytes();
  if (transfer.has_downlink_header_bytes()) record.downlink_header_bytes = transfer.downlink_header_bytes();
  if (request.has_completed()) {
    record.train_examples = request.completed().example_count();
    record.train_loss = RecordableLoss(request.completed().mean_loss());
    record.completed_work = !request.completed().partial();
    const std::string& format = request.completed().number_format();
    const std::string& reason = request.completed().number_format_reason();
    if (!format.empty() && !IsNumberFormat(format)) {
      return absl::InvalidArgumentError(absl::StrCat("completed.number_format: expected float32 or bfloat16, got '", TruncateUtf8(format, 64), "'"));
    }
    if (reason.size() > 256) return absl::InvalidArgumentError(absl::StrCat("completed.number_format_reason: ", reason.size(), " bytes, expected at most 256"));
    record.fit.number_format = format.empty() ? "float32" : format;
    if (!reason.empty()) record.fit_format_reason = reason;
  }
  return absl::OkStatus();
}

std::string Coordinator::CheckLedger(const v1::ReportRequest& request, OpenAttempt& attempt) {
  if (!request.has_ledger()) return "";  // a client that keeps none
  absl::StatusOr<LedgerHead> position = PositionOf(request.ledger());
  absl::StatusOr<LedgerRecord> record = LedgerRecordOf(request, run_id(), attempt.pseudonym, attempt.round);
  if (!position.ok() || !record.ok()) return "ledger_malformed";
  const LedgerHead expected = NextHead(LedgerHead{position->sequence - 1, {}, position->previous}, LedgerPayload(*record));
  if (expected.head != position->head) return "ledger_head";
  attempt.record.ledger_sequence = position->sequence;
  attempt.record.ledger_head = position->head.Hex();
  const LedgerHead last = std::exchange(ledger_heads_[HistoryKey(attempt.pseudonym, attempt.partition)], *position);
  // Records of attempts that were cancelled lie between reports; what was anchored may not be rewritten or go back.
  if (position->sequence <= last.sequence || (position->sequence == last.sequence + 1 && position->previous != last.head)) return "ledger_rewritten";
  return "";
}

absl::Status Coordinator::TakeInlineUpdate(const std::string& update, Upload& upload) {
  const Digest digest = Sha256(update);
  if (upload.whole() && upload.digest() == digest) return absl::OkStatus();
  FEDWATT_ASSIGN_OR_RETURN(const int64_t stream, upload.Open(static_cast<int64_t>(update.size()), digest.Raw(), 0));
  return upload.Append(stream, 0, update, Crc32c(update));
}

void Coordinator::Report(CallId call, const v1::ReportRequest& request, v1::ReportResponse* response, Done done) {
  absl::StatusOr<Session*> session = FindSession(request.session_id());
  if (!session.ok()) return done(session.status());
  if (absl::Status valid = CheckId("request_id", request.request_id()); !valid.ok()) return done(valid);
  if (request.outcome_case() == v1::ReportRequest::OUTCOME_NOT_SET) return done(absl::InvalidArgumentError("outcome: missing"));
  const std::string& update = request.completed().inline_update();
  if (!update.empty() && !request.completed().payload_sha256().empty()) {
    return done(absl::InvalidArgumentError("completed: inline_update and payload_sha256 exclude each other; the update is here or was uploaded"));
  }
  if (static_cast<int64_t>(update.size()) > kMaxInlineBytes) {
    return done(absl::InvalidArgumentError(absl::StrCat("inline_update: ", update.size(), " bytes, expected at most ", kMaxInlineBytes, "; upload it")));
  }

  const std::string id = request.attempt_id();
  // Of what the report brings or names; "" where it is no update.
  const std::string sha256 = !update.empty() ? Sha256(update).Raw() : request.completed().payload_sha256();
  // The same report, or one of other bytes under its name?
  const auto repeats = [&](const std::string& first_request, const std::string& first_sha256) {
    return first_request == request.request_id() && (sha256.empty() || first_sha256.empty() || sha256 == first_sha256);
  };
  OpenAttempt* attempt = FindOpen(**session, id);
  if (attempt == nullptr) {
    EndedAttempt* ended = FindEnded(**session, id);
    if (ended == nullptr) {
      response->mutable_rejected()->set_reason(ToProto(Rejection::kUnknownAttempt));
      response->mutable_rejected()->set_message("the attempt was never issued to this client, or long ago");
      return done(absl::OkStatus());
    }
    if (FEDWATT_PLANTED(answered_before_durable) && !ended->durable) {
      *response = ended->kept.verdict();
      return done(absl::OkStatus());
    }
    if (ended->kept.report_request_id().empty() || repeats(ended->kept.report_request_id(), ended->kept.update_sha256())) {
      ended->kept.set_report_request_id(request.request_id());
      if (ended->durable) {
        *response = ended->kept.verdict();
        return done(absl::OkStatus());
      }
      if (FullDisk()) return done(FullDiskError());
      if (ended->held.has_value()) ended->held->done(absl::AbortedError("the report was sent again"));
      ended->held.emplace(HeldReport{call, response, std::move(done)});
      return;
    }
    if (AcceptedInMemory(id)) return done(absl::UnavailableError("the attempt's verdict is not on disk yet"));
    const bool accepted = ended->kept.outcome() == "accepted";
    response->mutable_duplicate()->set_accepted(accepted);
    if (accepted) response->mutable_duplicate()->set_round(FEDWATT_PLANTED(duplicate_told_a_later_round) ? ended->kept.round() + 1 : ended->kept.round());
    NoteDuplicate(**session, id, ended->kept.round(), ended->fitted.get(), ended->duplicate_noted);
    return done(absl::OkStatus());
  }
  // It had ended unreported before the restart, and hears so when its round closes.
  if (attempt->replayed && attempt->report_request.empty()) attempt->report_request = request.request_id();
  if (!attempt->report_request.empty()) {
    const std::optional<Digest> announced = attempt->upload->announced_digest();
    if (FEDWATT_PLANTED(open_duplicate_accepted)) {
      response->mutable_accepted()->set_round(attempt->round);
      return done(absl::OkStatus());
    }
    if (!repeats(attempt->report_request, announced ? announced->Raw() : "")) {
      response->mutable_duplicate()->set_accepted(false);
      NoteDuplicate(**session, id, attempt->round, attempt->fitted.get(), attempt->duplicate_noted);
      return done(absl::OkStatus());
    }
    if (attempt->held.has_value()) attempt->held->done(absl::AbortedError("the report was sent again"));
    attempt->held.emplace(HeldReport{call, response, std::move(done)});
    return;
  }
  if (FullDisk()) return done(FullDiskError());
  if (!update.empty()) {
    absl::Status taken = TakeInlineUpdate(update, *attempt->upload);
    if (RejectionOf(taken) == Rejection::kOversize) {
      attempt->report_request = request.request_id();
      attempt->held.emplace(HeldReport{call, response, std::move(done)});
      attempt->message = std::string(taken.message());
      return Feed(AttemptFailed{id, Rejection::kOversize});
    }
    if (!taken.ok()) return done(taken);
  }
  if (request.has_completed() && !attempt->upload->whole()) {
    return done(absl::FailedPreconditionError(
        absl::StrCat("report: completed, but only ", attempt->upload->received_bytes(), " bytes of the update have arrived")));
  }
  if (absl::Status taken = TakeReport(request, *attempt); !taken.ok()) return done(taken);
  attempt->report_request = request.request_id();
  attempt->reported = clock_->Monotonic();
  if (request.has_transfer()) {
    attempt->claimed_uplink_bytes = request.transfer().uplink_payload_bytes();
    attempt->claimed_downlink_bytes = request.transfer().downlink_payload_bytes();
  }
  attempt->record.quarantine = CheckLedger(request, *attempt);
  attempt->held.emplace(HeldReport{call, response, std::move(done)});
  // From here on only Execute(EndAttempt) ends the call.
  if (request.has_completed()) {
    if (update.empty() && request.completed().payload_sha256() != attempt->upload->digest().Raw()) {
      attempt->message = "the bytes received are not those that the report names";
      return Feed(AttemptFailed{id, Rejection::kDigestMismatch, AttemptEnergy(attempt->record).energy});
    }
    Failpoint("report_taken");
    return Feed(UpdateArrived{id, AttemptEnergy(attempt->record).energy, TrainingOf(attempt->record), attempt->record.completed_work});
  }
  if (request.has_failed()) {
    attempt->message = TruncateUtf8(request.failed().message(), 1024);
    const bool too_much = request.failed().code() == static_cast<int32_t>(absl::StatusCode::kResourceExhausted);
    attempt->too_much = too_much;
    if (too_much) attempt->record.fit_declined_reason = TruncateUtf8(request.failed().message(), 256);
    Log(options_->log, LogLevel::kWarning, absl::StrCat("partition ", attempt->partition, " failed: ", attempt->message));
    return Feed(AttemptFailed{id, Rejection::kClientError, AttemptEnergy(attempt->record).energy, too_much});
  }
  attempt->message = TruncateUtf8(request.withdrawn().condition(), 1024);
  Feed(AttemptFailed{id, Rejection::kWithdrawn, AttemptEnergy(attempt->record).energy});
}

void Coordinator::ReportEvaluation(const v1::ReportEvaluationRequest& request, v1::ReportEvaluationResponse* response, const Done& done) {
  absl::StatusOr<Session*> session = FindSession(request.session_id());
  if (!session.ok()) return done(session.status());
  const bool wanted = evaluation_.has_value() && !request.attempt_id().empty() && (*session)->evaluation == request.attempt_id() &&
                      evaluation_->pending.contains(request.attempt_id());
  if (!wanted) {
    // A repeat of a report that counted is told so as long as the attempt is the session's last.
    const bool repeat = (*session)->last_evaluation == request.attempt_id() && (*session)->last_evaluation_request == request.request_id();
    response->set_accepted(repeat);
    if (!repeat) response->set_reason(v1::REJECTION_REASON_LATE);
    return done(absl::OkStatus());
  }
  const v1::CompletedEvaluation& completed = request.completed();
  const int64_t count = completed.example_count();
  // A score's weight is bounded like an update's, and by what the client said it has: one client must not outweigh all others.
  const int64_t most = std::min(model_->plan().limits.max_example_count, std::max<int64_t>((*session)->evaluation_example_count, 1));
  const bool sound = request.has_completed() && count >= 1 && count <= most && RecordableLoss(completed.mean_loss()) &&
                     (!completed.has_accuracy() || (completed.accuracy() >= 0 && completed.accuracy() <= 1));
  if (sound) {
    evaluation_->example_count += count;
    evaluation_->weighted_loss += completed.mean_loss() * static_cast<double>(count);
    if (completed.has_accuracy()) {
      evaluation_->accuracy_example_count += count;
      evaluation_->weighted_accuracy += completed.accuracy() * static_cast<double>(count);
    }
  }
  response->set_accepted(sound);
  if (!sound) response->set_reason(ToProto(request.has_withdrawn() ? Rejection::kWithdrawn : Rejection::kClientError));
  if (sound) {
    (*session)->last_evaluation = request.attempt_id();
    (*session)->last_evaluation_request = request.request_id();
  }
  (*session)->evaluation.clear();
  evaluation_->pending.erase(request.attempt_id());
  done(absl::OkStatus());
  FinishEvaluationIfComplete();
}

// ---- Operators.

v1::RunStatus Coordinator::Status() const {
  const RoundSnapshot round = engine_->Snapshot();
  v1::RunStatus status;
  status.set_run_id(run_id());
  if (finish_.has_value()) {
    status.set_state(!finish_->status.ok() ? v1::RUN_STATE_FAILED : stop_asked_ ? v1::RUN_STATE_STOPPED : v1::RUN_STATE_FINISHED);
    status.set_reason(finish_->reason);
  } else {
    status.set_state(round.phase == RoundPhase::kIdle ? v1::RUN_STATE_WAITING_FOR_CLIENTS : v1::RUN_STATE_RUNNING);
  }
  status.set_round(round.phase == RoundPhase::kIdle || finish_.has_value() ? round.round - 1 : round.round);
  status.set_round_count(round.rounds);
  status.set_committed_round_count(committed_rounds_);
  status.set_client_count(static_cast<int32_t>(sessions_.size()));
  status.set_wait_for_client_count(static_cast<int32_t>(round.wait_for_clients));
  status.set_accepted_count(static_cast<int32_t>(round.accepted));
  status.set_selected_count(static_cast<int32_t>(round.selected));
  if (round.phase == RoundPhase::kCollect) {
    *status.mutable_deadline_duration() = ToProto(std::max(round.deadline - clock_->Now(), absl::ZeroDuration()));
  }
  if (best_accuracy_.has_value()) status.set_best_accuracy(*best_accuracy_);
  if (options_->engine.target_accuracy.has_value()) status.set_target_accuracy(*options_->engine.target_accuracy);
  *status.mutable_start_time() = ToProto(start_time_);
  *status.mutable_server_time() = ToProto(clock_->Now());
  status.set_server_version(options_->summary.version);
  return status;
}

void Coordinator::ListClients(v1::ListClientsResponse* response) const {
  const absl::Duration now = clock_->Monotonic();
  for (const auto& [partition, id] : session_of_partition_) {
    const Session& session = sessions_.at(id);
    v1::ClientStatus* client = response->add_clients();
    client->set_pseudonym(session.pseudonym);
    client->set_partition_index(partition);
    client->set_connected(session.grace == 0);
    client->set_attempt_id(session.attempt);
    client->set_accepted_count(session.accepted_count);
    client->set_rejected_count(session.rejected_count);
    *client->mutable_silent_duration() = ToProto(session.wait.has_value() ? absl::ZeroDuration() : now - session.last_seen);
    client->set_meter_name(session.meter_name);
    client->set_meter_tier(ToProto(session.meter_tier));
  }
}

void Coordinator::StopRun(const v1::StopRunRequest& request, v1::StopRunResponse* response) {
  if (!finish_.has_value() && !stop_asked_) {
    const std::string reason = request.reason().empty() ? "stopped by the operator" : TruncateUtf8(request.reason(), 1024);
    stop_asked_ = true;
    if (request.abandon_round() || engine_->state().phase == RoundPhase::kIdle) {
      Feed(StopRequested{reason});
    } else {
      stop_after_round_ = reason;
    }
  } else if (request.abandon_round() && stop_after_round_.has_value() && !finish_.has_value()) {
    Feed(StopRequested{*stop_after_round_});
  }
  *response->mutable_status() = Status();
}

void Coordinator::AddWatcher(RoundWatcher* watcher, int64_t from_round) {
  if (from_round >= 1) {
    v1::WatchRoundsResponse response;
    *response.mutable_status() = Status();
    for (const v1::RoundSummary& round : finished_rounds_) {
      if (round.round() < from_round) continue;
      *response.mutable_round() = round;
      watcher->OnRound(response);
    }
  }
  watchers_.push_back(watcher);
  if (finish_.has_value()) watcher->OnEnd();
}

void Coordinator::RemoveWatcher(RoundWatcher* watcher) { std::erase(watchers_, watcher); }

}  // namespace fedwatt::internal

// A scripted coordinator in this process: hands out assignments, cuts streams where told, loses answers, forgets sessions.
#ifndef FEDWATT_TESTS_CLIENT_FAKE_COORDINATOR_H_
#define FEDWATT_TESTS_CLIENT_FAKE_COORDINATOR_H_

#include <chrono>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "fedwatt/base/digest.h"
#include "fedwatt/model/container.h"
#include "fedwatt/model/plan.h"
#include "fedwatt/model/rejection.h"
#include "fedwatt/rpc/channel.h"
#include "fedwatt/rpc/chunks.h"
#include "fedwatt/rpc/conversion.h"
#include "fedwatt/rpc/held_plan.h"
#include "fedwatt/rpc/security.h"
#include "fedwatt/rpc/status_conversion.h"
#include "fedwatt/v1/coordinator.grpc.pb.h"
#include "grpcpp/server.h"

namespace fedwatt::testing {

class FakeCoordinator : public v1::Coordinator::Service {
 public:
  // ---- The script. Set before the client runs.
  std::string model;              // container bytes
  std::string model_digest;       // of the model that they lead to
  std::string delta, base_digest;  // when set: what a client gets that does not insist on the whole model
  Plan plan;
  int64_t rounds = 1;             // reports with an update or a failure until FINISHED
  bool evaluate_first = false;
  int busy_check_ins = 0;         // refused with BUSY
  std::optional<v1::RefusalReason> refusal;
  int cut_downloads_after = -1;   // chunks; once
  bool corrupt_download = false;  // once
  int cut_uploads_after = -1;     // chunks; once
  int lost_reports = 0;           // reports that count but whose answer is lost
  std::optional<Rejection> cancel_working;  // answer to WaitForWork(current_attempt_id)
  bool unwanted = false;
  int32_t cohort_count = 0;
  std::optional<v1::RejectionReason> past_attempts;  // answer to StillWanted of attempts that are not open
  absl::Duration deadline = absl::InfiniteDuration();
  absl::Duration watch_after = absl::ZeroDuration();
  int64_t max_inline_update_bytes = 0;
  bool inline_models = false;     // of any length
  bool name_models_too = false;   // although they are inside
  bool plan_ids = false;          // the plan is sent once

  // ---- What happened.
  struct Seen {
    std::vector<v1::CheckInRequest> check_ins;
    std::vector<int64_t> download_offsets;
    std::vector<int64_t> upload_offsets;
    std::vector<v1::ReportRequest> reports;             // every one that arrived
    std::map<std::string, std::string> uploads;         // whole, by attempt
    std::vector<v1::ReportEvaluationRequest> evaluations;
    int watches = 0;                                    // waits with a current attempt
    std::vector<v1::WaitForWorkRequest> idle_waits;     // those that ask for work
    int still_wanted = 0;
    std::vector<std::string> asked_about;               // attempts of before
  };
  Seen seen() const {
    absl::MutexLock lock(&mutex_);
    return seen_;
  }

  // Binds port 0 the first time and the same port afterwards. Sessions of before are unknown.
  bool Start(const std::shared_ptr<grpc::ServerCredentials>& credentials) {
    {
      absl::MutexLock lock(&mutex_);
      sessions_.clear();
      open_.clear();
    }
    for (int i = 0; i < 50; ++i) {
      grpc::ServerBuilder builder;
      ApplyServerLimits(builder);
      int bound = 0;
      builder.AddListeningPort(absl::StrCat("127.0.0.1:", port_), credentials, &bound);
      builder.RegisterService(this);
      server_ = builder.BuildAndStart();
      if (server_ != nullptr && bound > 0) {
        port_ = bound;
        return true;
      }
      absl::SleepFor(absl::Milliseconds(100));
    }
    return false;
  }
  void Stop() {
    if (server_) server_->Shutdown(std::chrono::system_clock::now());
    server_.reset();
  }
  ~FakeCoordinator() override { Stop(); }
  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }
  int port() const { return port_; }
  SecurityDirectory* security = nullptr;

  grpc::Status Enrol(grpc::ServerContext*, const v1::EnrolRequest* request, v1::EnrolResponse* response) override {
    absl::StatusOr<EnrolledCertificate> enrolled = security->Enrol(request->token(), request->request_id(), request->csr_pem());
    if (!enrolled.ok()) return ToGrpcStatus(enrolled.status());
    response->set_client_id(enrolled->client_id);
    response->set_certificate_chain_pem(enrolled->certificate_pem);
    response->set_ca_pem(enrolled->ca_pem);
    return grpc::Status::OK;
  }

  grpc::Status CheckIn(grpc::ServerContext*, const v1::CheckInRequest* request, v1::CheckInResponse* response) override {
    absl::MutexLock lock(&mutex_);
    seen_.check_ins.push_back(*request);
    *response->mutable_retry()->mutable_not_now()->mutable_max_duration() = ToProto(absl::Milliseconds(20));
    if (refusal || busy_check_ins > 0) {
      --busy_check_ins;
      response->mutable_refused()->set_reason(refusal.value_or(v1::REFUSAL_REASON_BUSY));
      response->mutable_refused()->set_message("not you");
      return grpc::Status::OK;
    }
    const std::string id = RandomId();
    sessions_[id] = request->partition_index();
    response->mutable_accepted()->set_session_id(id);
    response->mutable_accepted()->set_pseudonym(absl::StrCat("c", request->partition_index()));
    response->mutable_accepted()->set_run_id(plan.run_id);
    response->mutable_accepted()->set_protocol_version(1);
    *response->mutable_accepted()->mutable_hold_duration() = ToProto(absl::Seconds(2));
    *response->mutable_accepted()->mutable_watch_after_duration() = ToProto(watch_after);
    response->mutable_accepted()->set_max_inline_update_bytes(max_inline_update_bytes);
    return grpc::Status::OK;
  }

  grpc::Status WaitForWork(grpc::ServerContext* context, const v1::WaitForWorkRequest* request, v1::WaitForWorkResponse* response) override {
    {
      absl::MutexLock lock(&mutex_);
      if (!sessions_.contains(request->session_id())) return Unknown();
      if (request->current_attempt_id().empty()) {
        seen_.idle_waits.push_back(*request);
        Answer(*request, response);
        return grpc::Status::OK;
      }
      ++seen_.watches;
    }
    // Held a little; a cancel comes in the middle of the work.
    absl::SleepFor(absl::Milliseconds(100));
    if (cancel_working && !context->IsCancelled()) {
      absl::MutexLock lock(&mutex_);
      response->mutable_cancel()->set_attempt_id(request->current_attempt_id());
      response->mutable_cancel()->set_reason(ToProto(*cancel_working));
      ++reports_done_;
      return grpc::Status::OK;
    }
    response->mutable_wait();
    return grpc::Status::OK;
  }

  grpc::Status DownloadBlob(grpc::ServerContext*, const v1::DownloadBlobRequest* request,
                            grpc::ServerWriter<v1::DownloadBlobResponse>* writer) override {
    int cut = -1;
    bool corrupt = false;
    {
      absl::MutexLock lock(&mutex_);
      if (!sessions_.contains(request->session_id())) return Unknown();
      seen_.download_offsets.push_back(request->offset_bytes());
      std::swap(cut, cut_downloads_after);
      std::swap(corrupt, corrupt_download);
    }
    const std::string& blob = request->digest() == Sha256(model).Raw() ? model : delta;
    for (int64_t at = request->offset_bytes(); at < static_cast<int64_t>(blob.size());) {
      if (cut-- == 0) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "cut");
      v1::DownloadBlobResponse response;
      FillChunk(blob, at, response.mutable_chunk());
      if (corrupt && at > 0) response.mutable_chunk()->set_crc32c(0);
      at += static_cast<int64_t>(response.chunk().data().size());
      if (!writer->Write(response)) break;
    }
    return grpc::Status::OK;
  }

  grpc::Status StillWanted(grpc::ServerContext*, const v1::StillWantedRequest* request, v1::StillWantedResponse* response) override {
    absl::MutexLock lock(&mutex_);
    if (!sessions_.contains(request->session_id())) return Unknown();
    ++seen_.still_wanted;
    if (past_attempts && open_[request->session_id()] != request->attempt_id()) {
      seen_.asked_about.push_back(request->attempt_id());
      response->mutable_unwanted()->set_reason(*past_attempts);
    } else if (unwanted) {
      ++reports_done_;
      open_.erase(request->session_id());
      response->mutable_unwanted()->set_reason(v1::REJECTION_REASON_NOT_NEEDED);
    } else {
      response->mutable_wanted();
    }
    return grpc::Status::OK;
  }

  grpc::Status QueryUpload(grpc::ServerContext*, const v1::QueryUploadRequest* request, v1::QueryUploadResponse* response) override {
    absl::MutexLock lock(&mutex_);
    if (!sessions_.contains(request->session_id())) return Unknown();
    response->set_received_bytes(static_cast<int64_t>(seen_.uploads[request->attempt_id()].size()));
    return grpc::Status::OK;
  }

  grpc::Status Upload(grpc::ServerContext*, grpc::ServerReader<v1::UploadRequest>* reader, v1::UploadResponse* response) override {
    v1::UploadRequest message;
    if (!reader->Read(&message) || !message.has_header()) return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "no header");
    const v1::UploadHeader header = message.header();
    int cut = -1;
    {
      absl::MutexLock lock(&mutex_);
      if (!sessions_.contains(header.session_id())) return Unknown();
      seen_.upload_offsets.push_back(header.offset_bytes());
      std::swap(cut, cut_uploads_after);
    }
    while (cut != 0 && reader->Read(&message)) {
      absl::MutexLock lock(&mutex_);
      std::string& data = seen_.uploads[header.attempt_id()];
      absl::Status status = CheckChunk(message.chunk(), static_cast<int64_t>(data.size()), header.total_bytes());
      if (!status.ok()) return ToGrpcStatus(status);
      data.append(message.chunk().data());
      --cut;
    }
    if (cut == 0) return grpc::Status(grpc::StatusCode::UNAVAILABLE, "cut");
    absl::MutexLock lock(&mutex_);
    const std::string& data = seen_.uploads[header.attempt_id()];
    if (Sha256(data).Raw() != header.sha256()) return grpc::Status(grpc::StatusCode::DATA_LOSS, "digest");
    response->set_received_bytes(static_cast<int64_t>(data.size()));
    return grpc::Status::OK;
  }

  grpc::Status Report(grpc::ServerContext*, const v1::ReportRequest* request, v1::ReportResponse* response) override {
    absl::MutexLock lock(&mutex_);
    if (!sessions_.contains(request->session_id())) return Unknown();
    seen_.reports.push_back(*request);
    if (!request->completed().inline_update().empty()) seen_.uploads[request->attempt_id()] = request->completed().inline_update();
    if (verdicts_.insert(request->request_id()).second) {
      ++reports_done_;
      open_.erase(request->session_id());
    }
    if (lost_reports > 0) {
      --lost_reports;
      return grpc::Status(grpc::StatusCode::UNAVAILABLE, "the answer is lost");
    }
    if (request->has_completed()) {
      response->mutable_accepted()->set_round(1);
    } else {
      response->mutable_rejected()->set_reason(request->has_failed() ? v1::REJECTION_REASON_CLIENT_ERROR : v1::REJECTION_REASON_WITHDRAWN);
    }
    return grpc::Status::OK;
  }

  grpc::Status ReportEvaluation(grpc::ServerContext*, const v1::ReportEvaluationRequest* request, v1::ReportEvaluationResponse* response) override {
    absl::MutexLock lock(&mutex_);
    seen_.evaluations.push_back(*request);
    evaluate_first = false;
    response->set_accepted(request->has_completed());
    return grpc::Status::OK;
  }

 private:
  static grpc::Status Unknown() { return grpc::Status(grpc::StatusCode::NOT_FOUND, "session unknown"); }

  void Answer(const v1::WaitForWorkRequest& request, v1::WaitForWorkResponse* response) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const std::string& session = request.session_id();
    if (evaluate_first) {
      v1::EvaluateAssignment& work = *response->mutable_evaluate();
      work.set_attempt_id("evaluation-1");
      work.set_round(1);
      SayPlan(ToProto(plan), plan_ids ? request.held_plan_id() : "", &work);
      FillModel(request, &work);
    } else if (reports_done_ >= rounds) {
      response->mutable_finished()->set_reason("all rounds done");
      response->mutable_finished()->set_succeeded(true);
    } else {
      // Level-triggered: the same attempt until it is reported.
      std::string& attempt = open_[session];
      if (attempt.empty()) attempt = absl::StrCat("attempt-", ++attempts_);
      v1::TrainAssignment& work = *response->mutable_train();
      work.set_attempt_id(attempt);
      work.set_round(attempts_);
      work.set_cohort_count(cohort_count);
      SayPlan(ToProto(plan), plan_ids ? request.held_plan_id() : "", &work);
      FillModel(request, &work);
      if (deadline < absl::InfiniteDuration()) *work.mutable_deadline_duration() = ToProto(deadline);
    }
  }
  template <typename Assignment>
  void FillModel(const v1::WaitForWorkRequest& request, Assignment* assignment) const {
    assignment->set_model_digest(model_digest);
    const bool is_delta = !base_digest.empty() && !request.whole_model();
    if (is_delta) assignment->set_base_model_digest(base_digest);
    const std::string& blob = is_delta ? delta : model;
    if (inline_models) assignment->set_inline_model(blob);
    if (inline_models && !name_models_too) return;
    assignment->mutable_model()->set_digest(Sha256(blob).Raw());
    assignment->mutable_model()->set_total_bytes(static_cast<int64_t>(blob.size()));
  }

  mutable absl::Mutex mutex_;
  Seen seen_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, int64_t> sessions_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::string> open_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> verdicts_ ABSL_GUARDED_BY(mutex_);
  int64_t attempts_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t reports_done_ ABSL_GUARDED_BY(mutex_) = 0;
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
};

}  // namespace fedwatt::testing

#endif  // FEDWATT_TESTS_CLIENT_FAKE_COORDINATOR_H_

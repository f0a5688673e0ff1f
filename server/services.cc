#include "services.h"

#include <atomic>
#include <deque>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fedwatt/rpc/chunks.h"
#include "fedwatt/rpc/status_conversion.h"

namespace fedwatt::internal {
namespace {

CallId NextCallId() {
  static std::atomic<CallId> next{1};
  return next++;
}

// With the windows to wait in, where trying again makes sense.
grpc::Status Answer(const absl::Status& status, const Coordinator* coordinator) {
  const bool transient = status.code() == absl::StatusCode::kUnavailable || status.code() == absl::StatusCode::kResourceExhausted;
  return ToGrpcStatus(transient ? WithRetry(status, coordinator->retry()) : status);
}

// A call that may be held for long without a thread; the coordinator ends it by Done.
class Call : public grpc::ServerUnaryReactor {
 public:
  Call(Loop* loop, Coordinator* coordinator, Gate* gate, Caller caller)
      : loop_(loop), coordinator_(coordinator), gate_(gate), caller_(std::move(caller)) {}
  const Caller& caller() const { return caller_; }
  CallId id() const { return id_; }
  Done done() {
    return [this](const absl::Status& status) {
      gate_->Answered(caller_, status);
      Finish(Answer(status, coordinator_));
    };
  }
  void OnCancel() override {
    // Only numbers travel: by the time the task runs, this object may be gone.
    loop_->Post([coordinator = coordinator_, id = id_] { coordinator->Cancelled(id); });
  }
  void OnDone() override { delete this; }

 private:
  Loop* const loop_;
  Coordinator* const coordinator_;
  Gate* const gate_;
  const Caller caller_;
  const CallId id_ = NextCallId();
};

// Runs `handle(call)` on the loop's thread, unless the gate refuses the caller.
template <typename Handle>
grpc::ServerUnaryReactor* Dispatch(const ServiceContext& with, Caller caller, Handle handle) {
  Call* call = new Call(with.loop, with.coordinator, with.gate, std::move(caller));
  if (!call->caller().verdict.ok()) {
    call->done()(call->caller().verdict);
  } else {
    with.loop->Post([call, handle = std::move(handle)] { handle(call); });
  }
  return call;
}

// A stream's place in the watch, from its call to its end.
class WatchedTransfer {
 public:
  WatchedTransfer(const ServiceContext& with, const Caller& caller, grpc::CallbackServerContext* context) : watch_(with.transfers) {
    if (!caller.verdict.ok()) {
      verdict_ = caller.verdict;
      return;
    }
    absl::StatusOr<TransferWatch::Id> id = watch_->Begin(caller.peer.name.empty() ? caller.address : caller.peer.name, [context] { context->TryCancel(); });
    verdict_ = id.status();
    if (id.ok()) id_ = *id;
  }
  // The context outlives the reactor's OnDone(), in which this goes.
  ~WatchedTransfer() { watch_->End(id_); }
  // Whether the stream may go on at all.
  const absl::Status& verdict() const { return verdict_; }
  void Moved(size_t bytes) { watch_->Moved(id_, static_cast<int64_t>(bytes)); }

 private:
  TransferWatch* const watch_;
  TransferWatch::Id id_ = 0;
  absl::Status verdict_;
};

class DownloadReactor : public grpc::ServerWriteReactor<v1::DownloadBlobResponse> {
 public:
  DownloadReactor(const ServiceContext& with, Caller caller, grpc::CallbackServerContext* context, v1::DownloadBlobRequest request)
      : loop_(with.loop), coordinator_(with.coordinator), gate_(with.gate), caller_(std::move(caller)), session_(request.session_id()),
        offset_(request.offset_bytes()), watched_(with, caller_, context) {
    if (!watched_.verdict().ok()) {
      Refuse(watched_.verdict());
      return;
    }
    loop_->Post([this, request = std::move(request)] {
      absl::StatusOr<Coordinator::Download> download = coordinator_->OpenDownload(request);
      if (!download.ok()) {
        Finish(ToGrpcStatus(download.status()));
        return;
      }
      download_ = *std::move(download);
      Next();
    });
  }
  void OnWriteDone(bool ok) override {
    if (!ok) {
      loop_->Post([coordinator = coordinator_, session = session_] { coordinator->Interrupted(session); });
      Finish(grpc::Status(grpc::StatusCode::CANCELLED, "the client hung up"));
      return;
    }
    const int64_t sent = static_cast<int64_t>(response_.chunk().data().size());
    download_.sent_bytes->fetch_add(sent);
    offset_ += sent;
    watched_.Moved(static_cast<size_t>(sent));
    if (absl::Status admitted = gate_->StillAdmitted(caller_); !admitted.ok()) {
      Refuse(admitted);
    } else {
      Next();
    }
  }
  void OnDone() override { delete this; }

 private:
  void Refuse(const absl::Status& status) {
    gate_->Answered(caller_, status);
    Finish(Answer(status, coordinator_));
  }
  void Next() {
    if (offset_ >= static_cast<int64_t>(download_.blob->size())) {
      Finish(grpc::Status::OK);
      return;
    }
    FillChunk(*download_.blob, offset_, response_.mutable_chunk());
    StartWrite(&response_);
  }

  Loop* const loop_;
  Coordinator* const coordinator_;
  Gate* const gate_;
  const Caller caller_;
  const std::string session_;
  int64_t offset_;
  WatchedTransfer watched_;
  Coordinator::Download download_;
  v1::DownloadBlobResponse response_;  // one chunk, reused
};

class UploadReactor : public grpc::ServerReadReactor<v1::UploadRequest> {
 public:
  UploadReactor(const ServiceContext& with, Caller caller, grpc::CallbackServerContext* context, v1::UploadResponse* response)
      : loop_(with.loop), coordinator_(with.coordinator), gate_(with.gate), caller_(std::move(caller)), watched_(with, caller_, context), response_(response) {
    if (!watched_.verdict().ok()) {
      End(watched_.verdict());
    } else {
      StartRead(&request_);
    }
  }
  void OnReadDone(bool ok) override {
    if (!stream_.has_value()) {
      Open(ok);
    } else if (!ok) {
      // Either the client has said everything or its connection is gone; what has arrived stays in both cases.
      End(cancelled_ ? absl::CancelledError("the client hung up") : absl::OkStatus());
    } else if (absl::Status admitted = gate_->StillAdmitted(caller_); !admitted.ok()) {
      End(admitted);
    } else if (!request_.has_chunk()) {
      End(absl::InvalidArgumentError("upload: expected a chunk"));
    } else {
      const v1::Chunk& chunk = request_.chunk();
      watched_.Moved(chunk.data().size());
      const absl::Status added = stream_->upload->Append(stream_->stream, chunk.offset_bytes(), chunk.data(), chunk.crc32c());
      if (added.ok()) {
        // Clear() would keep the piece's memory while the next one is awaited, times the number of clients.
        v1::UploadRequest().Swap(&request_);
        StartRead(&request_);
      } else {
        End(added);
      }
    }
  }
  void OnCancel() override { cancelled_ = true; }
  void OnDone() override { delete this; }

 private:
  void Open(bool ok) {
    if (!ok || !request_.has_header()) {
      End(absl::InvalidArgumentError("upload: the first message must be a header"));
      return;
    }
    loop_->Post([this] {
      absl::StatusOr<Coordinator::UploadStream> stream = coordinator_->OpenUpload(request_.header());
      if (!stream.ok()) {
        End(stream.status());
        return;
      }
      stream_ = *std::move(stream);
      v1::UploadRequest().Swap(&request_);
      StartRead(&request_);
    });
  }
  void End(const absl::Status& status) {
    if (stream_.has_value()) {
      response_->set_received_bytes(stream_->upload->received_bytes());
      loop_->Post([coordinator = coordinator_, stream = *stream_, status] { coordinator->CloseUpload(stream, status); });
    }
    gate_->Answered(caller_, status);
    Finish(Answer(status, coordinator_));
  }

  Loop* const loop_;
  Coordinator* const coordinator_;
  Gate* const gate_;
  const Caller caller_;
  WatchedTransfer watched_;
  v1::UploadResponse* const response_;
  v1::UploadRequest request_;  // one chunk at a time
  std::optional<Coordinator::UploadStream> stream_;
  std::atomic<bool> cancelled_ = false;
};

class WatchReactor : public grpc::ServerWriteReactor<v1::WatchRoundsResponse>, public RoundWatcher {
 public:
  WatchReactor(const ServiceContext& with, Caller caller, int64_t from_round)
      : loop_(with.loop), coordinator_(with.coordinator), gate_(with.gate), caller_(std::move(caller)) {
    if (!caller_.verdict.ok()) {
      {
        // A cancellation may come at once, and must not finish it again.
        absl::MutexLock lock(&mutex_);
        finished_ = true;
      }
      gate_->Answered(caller_, caller_.verdict);
      Finish(ToGrpcStatus(caller_.verdict));
      return;
    }
    loop_->Post([this, from_round] { coordinator_->AddWatcher(this, from_round); });
  }
  void OnRound(const v1::WatchRoundsResponse& response) override {
    absl::Status admitted = gate_->StillAdmitted(caller_);
    absl::MutexLock lock(&mutex_);
    if (admitted.ok()) {
      waiting_.push_back(response);
    } else if (verdict_.ok()) {
      gate_->Answered(caller_, admitted);
      verdict_ = admitted;
      waiting_.clear();
      ending_ = true;
    }
    Next();
  }
  void OnEnd() override { EndAfterWrites(); }
  void OnWriteDone(bool ok) override {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok) {
      waiting_.clear();
      ending_ = true;
    }
    Next();
  }
  void OnCancel() override {
    absl::MutexLock lock(&mutex_);
    waiting_.clear();
    ending_ = true;
    Next();
  }
  void OnDone() override {
    loop_->Post([this] {
      coordinator_->RemoveWatcher(this);
      delete this;
    });
  }

 private:
  void EndAfterWrites() {
    absl::MutexLock lock(&mutex_);
    ending_ = true;
    Next();
  }
  void Next() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (writing_ || finished_) return;
    if (!waiting_.empty()) {
      writing_ = true;
      current_ = std::move(waiting_.front());
      waiting_.pop_front();
      StartWrite(&current_);
    } else if (ending_) {
      finished_ = true;
      Finish(ToGrpcStatus(verdict_));
    }
  }

  Loop* const loop_;
  Coordinator* const coordinator_;
  Gate* const gate_;
  const Caller caller_;
  absl::Mutex mutex_;
  absl::Status verdict_ ABSL_GUARDED_BY(mutex_);
  std::deque<v1::WatchRoundsResponse> waiting_ ABSL_GUARDED_BY(mutex_);
  v1::WatchRoundsResponse current_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

grpc::ServerUnaryReactor* CoordinatorService::Enrol(grpc::CallbackServerContext* context, const v1::EnrolRequest* request,
                                                    v1::EnrolResponse* response) {
  return Dispatch(with_, with_.gate->Admit(*context, "Enrol", Access::kAnybody),
                  [=, this](Call* call) { call->done()(with_.desk->Enrol(call->caller(), *request, response)); });
}

grpc::ServerUnaryReactor* CoordinatorService::Renew(grpc::CallbackServerContext* context, const v1::RenewRequest* request,
                                                    v1::RenewResponse* response) {
  return Dispatch(with_, with_.gate->Admit(*context, "Renew", Access::kEnrolled),
                  [=, this](Call* call) { call->done()(with_.desk->Renew(call->caller(), *request, response)); });
}

grpc::ServerUnaryReactor* CoordinatorService::CheckIn(grpc::CallbackServerContext* context, const v1::CheckInRequest* request,
                                                      v1::CheckInResponse* response) {
  return Dispatch(with_, with_.gate->Admit(*context, "CheckIn", Access::kClient),
                  [=, this](Call* call) { with_.coordinator->CheckIn(call->caller().peer, *request, response, call->done()); });
}

grpc::ServerUnaryReactor* CoordinatorService::WaitForWork(grpc::CallbackServerContext* context, const v1::WaitForWorkRequest* request,
                                                          v1::WaitForWorkResponse* response) {
  return Dispatch(with_, with_.gate->Admit(*context, "WaitForWork", Access::kClient),
                  [=, this](Call* call) { with_.coordinator->WaitForWork(call->id(), *request, response, call->done()); });
}

grpc::ServerWriteReactor<v1::DownloadBlobResponse>* CoordinatorService::DownloadBlob(grpc::CallbackServerContext* context,
                                                                                     const v1::DownloadBlobRequest* request) {
  return new DownloadReactor(with_, with_.gate->Admit(*context, "DownloadBlob", Access::kClient), context, *request);
}

grpc::ServerUnaryReactor* CoordinatorService::StillWanted(grpc::CallbackServerContext* context, const v1::StillWantedRequest* request,
                                                          v1::StillWantedResponse* response) {
  return Dispatch(with_, with_.gate->Admit(*context, "StillWanted", Access::kClient),
                  [=, this](Call* call) { with_.coordinator->StillWanted(*request, response, call->done()); });
}

grpc::ServerUnaryReactor* CoordinatorService::QueryUpload(grpc::CallbackServerContext* context, const v1::QueryUploadRequest* request,
                                                          v1::QueryUploadResponse* response) {
  return Dispatch(with_, with_.gate->Admit(*context, "QueryUpload", Access::kClient),
                  [=, this](Call* call) { with_.coordinator->QueryUpload(*request, response, call->done()); });
}

grpc::ServerReadReactor<v1::UploadRequest>* CoordinatorService::Upload(grpc::CallbackServerContext* context, v1::UploadResponse* response) {
  return new UploadReactor(with_, with_.gate->Admit(*context, "Upload", Access::kClient), context, response);
}

grpc::ServerUnaryReactor* CoordinatorService::Report(grpc::CallbackServerContext* context, const v1::ReportRequest* request,
                                                     v1::ReportResponse* response) {
  return Dispatch(with_, with_.gate->Admit(*context, "Report", Access::kClient),
                  [=, this](Call* call) { with_.coordinator->Report(call->id(), *request, response, call->done()); });
}

grpc::ServerUnaryReactor* CoordinatorService::ReportEvaluation(grpc::CallbackServerContext* context, const v1::ReportEvaluationRequest* request,
                                                               v1::ReportEvaluationResponse* response) {
  return Dispatch(with_, with_.gate->Admit(*context, "ReportEvaluation", Access::kClient),
                  [=, this](Call* call) { with_.coordinator->ReportEvaluation(*request, response, call->done()); });
}

grpc::ServerUnaryReactor* OperatorService::GetStatus(grpc::CallbackServerContext* context, const v1::GetStatusRequest*,
                                                     v1::GetStatusResponse* response) {
  return Dispatch(with_, with_.gate->Admit(*context, "GetStatus", Access::kLook), [=, this](Call* call) {
    *response->mutable_status() = with_.coordinator->Status();
    call->done()(absl::OkStatus());
  });
}

grpc::ServerUnaryReactor* OperatorService::ListClients(grpc::CallbackServerContext* context, const v1::ListClientsRequest*,
                                                       v1::ListClientsResponse* response) {
  return Dispatch(with_, with_.gate->Admit(*context, "ListClients", Access::kLook), [=, this](Call* call) {
    with_.coordinator->ListClients(response);
    call->done()(absl::OkStatus());
  });
}

grpc::ServerWriteReactor<v1::WatchRoundsResponse>* OperatorService::WatchRounds(grpc::CallbackServerContext* context,
                                                                                const v1::WatchRoundsRequest* request) {
  return new WatchReactor(with_, with_.gate->Admit(*context, "WatchRounds", Access::kLook), request->from_round());
}

grpc::ServerUnaryReactor* OperatorService::StopRun(grpc::CallbackServerContext* context, const v1::StopRunRequest* request,
                                                   v1::StopRunResponse* response) {
  return Dispatch(with_, with_.gate->Admit(*context, "StopRun", Access::kOperate), [=, this](Call* call) {
    with_.coordinator->StopRun(*request, response);
    with_.gate->Done(call->caller(), "stop_asked", request->reason());
    call->done()(absl::OkStatus());
  });
}

grpc::ServerUnaryReactor* OperatorService::IssueToken(grpc::CallbackServerContext* context, const v1::IssueTokenRequest* request,
                                                      v1::IssueTokenResponse* response) {
  return Dispatch(with_, with_.gate->Admit(*context, "IssueToken", Access::kOperate),
                  [=, this](Call* call) { call->done()(with_.desk->IssueToken(call->caller(), *request, response)); });
}

grpc::ServerUnaryReactor* OperatorService::Revoke(grpc::CallbackServerContext* context, const v1::RevokeRequest* request, v1::RevokeResponse*) {
  return Dispatch(with_, with_.gate->Admit(*context, "Revoke", Access::kOperate),
                  [=, this](Call* call) { call->done()(with_.desk->Revoke(call->caller(), *request)); });
}

}  // namespace fedwatt::internal

// The gRPC services: they carry calls to the coordinator's thread and bytes between streams and files.
#ifndef FEDWATT_SERVER_SERVICES_H_
#define FEDWATT_SERVER_SERVICES_H_

#include "coordinator.h"
#include "fedwatt/v1/coordinator.grpc.pb.h"
#include "fedwatt/v1/operator.grpc.pb.h"
#include "loop.h"

namespace fedwatt::internal {

// Thread-safe. `loop` and `coordinator` must outlive every call.
class CoordinatorService : public v1::Coordinator::CallbackService {
 public:
  CoordinatorService(Loop* loop, Coordinator* coordinator) : loop_(loop), coordinator_(coordinator) {}

  grpc::ServerUnaryReactor* Enrol(grpc::CallbackServerContext* context, const v1::EnrolRequest* request, v1::EnrolResponse* response) override;
  grpc::ServerUnaryReactor* CheckIn(grpc::CallbackServerContext* context, const v1::CheckInRequest* request, v1::CheckInResponse* response) override;
  grpc::ServerUnaryReactor* WaitForWork(grpc::CallbackServerContext* context, const v1::WaitForWorkRequest* request,
                                        v1::WaitForWorkResponse* response) override;
  grpc::ServerWriteReactor<v1::DownloadBlobResponse>* DownloadBlob(grpc::CallbackServerContext* context,
                                                                   const v1::DownloadBlobRequest* request) override;
  grpc::ServerUnaryReactor* StillWanted(grpc::CallbackServerContext* context, const v1::StillWantedRequest* request,
                                        v1::StillWantedResponse* response) override;
  grpc::ServerUnaryReactor* QueryUpload(grpc::CallbackServerContext* context, const v1::QueryUploadRequest* request,
                                        v1::QueryUploadResponse* response) override;
  grpc::ServerReadReactor<v1::UploadRequest>* Upload(grpc::CallbackServerContext* context, v1::UploadResponse* response) override;
  grpc::ServerUnaryReactor* Report(grpc::CallbackServerContext* context, const v1::ReportRequest* request, v1::ReportResponse* response) override;
  grpc::ServerUnaryReactor* ReportEvaluation(grpc::CallbackServerContext* context, const v1::ReportEvaluationRequest* request,
                                             v1::ReportEvaluationResponse* response) override;

 private:
  Loop* const loop_;
  Coordinator* const coordinator_;
};

// Thread-safe; as above.
class OperatorService : public v1::Operator::CallbackService {
 public:
  OperatorService(Loop* loop, Coordinator* coordinator) : loop_(loop), coordinator_(coordinator) {}

  grpc::ServerUnaryReactor* GetStatus(grpc::CallbackServerContext* context, const v1::GetStatusRequest* request,
                                      v1::GetStatusResponse* response) override;
  grpc::ServerUnaryReactor* ListClients(grpc::CallbackServerContext* context, const v1::ListClientsRequest* request,
                                        v1::ListClientsResponse* response) override;
  grpc::ServerWriteReactor<v1::WatchRoundsResponse>* WatchRounds(grpc::CallbackServerContext* context,
                                                                 const v1::WatchRoundsRequest* request) override;
  grpc::ServerUnaryReactor* StopRun(grpc::CallbackServerContext* context, const v1::StopRunRequest* request, v1::StopRunResponse* response) override;
  grpc::ServerUnaryReactor* IssueToken(grpc::CallbackServerContext* context, const v1::IssueTokenRequest* request,
                                       v1::IssueTokenResponse* response) override;

 private:
  Loop* const loop_;
  Coordinator* const coordinator_;
};

}  // namespace fedwatt::internal

#endif  // FEDWATT_SERVER_SERVICES_H_

// The gRPC services: they carry calls to the coordinator's thread and bytes between streams and files.
#ifndef FEDWATT_SERVER_SERVICES_H_
#define FEDWATT_SERVER_SERVICES_H_

#include "coordinator.h"
#include "fedwatt/v1/coordinator.grpc.pb.h"
#include "fedwatt/v1/operator.grpc.pb.h"
#include "fedwatt/rpc/gate.h"
#include "identity_desk.h"
#include "loop.h"
#include "transfer_watch.h"

namespace fedwatt::internal {

// What every service works with; borrowed, and must outlive every call.
struct ServiceContext {
  Loop* loop;
  Coordinator* coordinator;
  IdentityDesk* desk;
  Gate* gate;
  TransferWatch* transfers;
};

// Thread-safe.
class CoordinatorService : public v1::Coordinator::CallbackService {
 public:
  explicit CoordinatorService(const ServiceContext& with) : with_(with) {}

  grpc::ServerUnaryReactor* Enrol(grpc::CallbackServerContext* context, const v1::EnrolRequest* request, v1::EnrolResponse* response) override;
  grpc::ServerUnaryReactor* Renew(grpc::CallbackServerContext* context, const v1::RenewRequest* request, v1::RenewResponse* response) override;
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
  const ServiceContext with_;
};

// Thread-safe.
class OperatorService : public v1::Operator::CallbackService {
 public:
  explicit OperatorService(const ServiceContext& with) : with_(with) {}

  grpc::ServerUnaryReactor* GetStatus(grpc::CallbackServerContext* context, const v1::GetStatusRequest* request,
                                      v1::GetStatusResponse* response) override;
  grpc::ServerUnaryReactor* ListClients(grpc::CallbackServerContext* context, const v1::ListClientsRequest* request,
                                        v1::ListClientsResponse* response) override;
  grpc::ServerWriteReactor<v1::WatchRoundsResponse>* WatchRounds(grpc::CallbackServerContext* context,
                                                                 const v1::WatchRoundsRequest* request) override;
  grpc::ServerUnaryReactor* StopRun(grpc::CallbackServerContext* context, const v1::StopRunRequest* request, v1::StopRunResponse* response) override;
  grpc::ServerUnaryReactor* IssueToken(grpc::CallbackServerContext* context, const v1::IssueTokenRequest* request,
                                       v1::IssueTokenResponse* response) override;
  grpc::ServerUnaryReactor* Revoke(grpc::CallbackServerContext* context, const v1::RevokeRequest* request, v1::RevokeResponse* response) override;

 private:
  const ServiceContext with_;
};

}  // namespace fedwatt::internal

#endif  // FEDWATT_SERVER_SERVICES_H_

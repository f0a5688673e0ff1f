#include "fedwatt/client/operator_client.h"

#include "fedwatt/base/digest.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/rpc/chunks.h"
#include "fedwatt/rpc/conversion.h"
#include "fedwatt/v1/operator.grpc.pb.h"
#include "link.h"

namespace fedwatt {
namespace {

absl::StatusOr<RunStatus> FromMessage(const v1::RunStatus& proto) {
  RunStatus status;
  status.run_id = proto.run_id();
  if (proto.state() == v1::RUN_STATE_UNSPECIFIED || !v1::RunState_IsValid(proto.state())) return absl::InvalidArgumentError("run state: unknown");
  status.state = static_cast<RunStatus::State>(proto.state() - 1);
  status.reason = proto.reason();
  status.round = proto.round();
  status.round_count = proto.round_count();
  status.committed_round_count = proto.committed_round_count();
  status.client_count = proto.client_count();
  status.wait_for_client_count = proto.wait_for_client_count();
  status.accepted_count = proto.accepted_count();
  status.selected_count = proto.selected_count();
  if (proto.has_deadline_duration()) {
    FEDWATT_ASSIGN_OR_RETURN(status.deadline, FromProto(proto.deadline_duration()));
  }
  if (proto.has_best_accuracy()) status.best_accuracy = proto.best_accuracy();
  if (proto.has_target_accuracy()) status.target_accuracy = proto.target_accuracy();
  FEDWATT_ASSIGN_OR_RETURN(status.start_time, FromProto(proto.start_time()));
  FEDWATT_ASSIGN_OR_RETURN(status.server_time, FromProto(proto.server_time()));
  status.server_version = proto.server_version();
  return status;
}

// An absent tier is a round or client without a meter.
absl::StatusOr<EnergyTier> TierOrMissing(v1::EnergyTier tier) {
  return tier == v1::ENERGY_TIER_UNSPECIFIED ? EnergyTier::kMissing : FromProto(tier);
}

absl::StatusOr<RoundSummary> FromMessage(const v1::RoundSummary& proto) {
  RoundSummary round;
  round.round = proto.round();
  round.committed = proto.committed();
  round.reason = proto.reason();
  FEDWATT_ASSIGN_OR_RETURN(round.start_time, FromProto(proto.start_time()));
  FEDWATT_ASSIGN_OR_RETURN(round.wall, FromProto(proto.wall_duration()));
  round.selected_count = proto.selected_count();
  round.completed_count = proto.completed_count();
  round.rejected_count = proto.rejected_count();
  round.late_count = proto.late_count();
  round.dropped_count = proto.dropped_count();
  if (proto.has_train_loss()) round.train_loss = proto.train_loss();
  if (proto.has_eval_loss()) round.eval_loss = proto.eval_loss();
  if (proto.has_eval_accuracy()) round.eval_accuracy = proto.eval_accuracy();
  round.uplink_payload_bytes = proto.uplink_payload_bytes();
  round.downlink_payload_bytes = proto.downlink_payload_bytes();
  if (proto.has_uplink_wire_bytes()) round.uplink_wire_bytes = proto.uplink_wire_bytes();
  if (proto.has_downlink_wire_bytes()) round.downlink_wire_bytes = proto.downlink_wire_bytes();
  round.uplink_dense_bytes = proto.uplink_dense_bytes();
  round.downlink_dense_bytes = proto.downlink_dense_bytes();
  if (proto.has_client_energy_uj()) round.client_energy = Microjoules(proto.client_energy_uj());
  FEDWATT_ASSIGN_OR_RETURN(round.client_energy_tier, TierOrMissing(proto.client_energy_tier()));
  if (!proto.model_digest().empty()) {
    FEDWATT_ASSIGN_OR_RETURN(Digest digest, Digest::FromRaw(proto.model_digest()));
    round.model_digest = digest.Hex();
  }
  return round;
}

class OperatorClientImpl : public OperatorClient {
 public:
  explicit OperatorClientImpl(std::unique_ptr<internal::Link> link) : link_(std::move(link)), stub_(v1::Operator::NewStub(link_->channel())) {}

  absl::StatusOr<RunStatus> GetStatus() override {
    v1::GetStatusResponse response;
    FEDWATT_RETURN_IF_ERROR(Call(&v1::Operator::Stub::GetStatus, v1::GetStatusRequest(), &response));
    return FromMessage(response.status());
  }

  absl::StatusOr<std::vector<ClientStatus>> ListClients() override {
    v1::ListClientsResponse response;
    FEDWATT_RETURN_IF_ERROR(Call(&v1::Operator::Stub::ListClients, v1::ListClientsRequest(), &response));
    std::vector<ClientStatus> clients;
    for (const v1::ClientStatus& proto : response.clients()) {
      ClientStatus& client = clients.emplace_back();
      client.pseudonym = proto.pseudonym();
      client.partition = proto.partition_index();
      client.connected = proto.connected();
      client.attempt = proto.attempt_id();
      client.accepted_count = proto.accepted_count();
      client.rejected_count = proto.rejected_count();
      FEDWATT_ASSIGN_OR_RETURN(client.silent, FromProto(proto.silent_duration()));
      client.meter_name = proto.meter_name();
      FEDWATT_ASSIGN_OR_RETURN(client.meter_tier, TierOrMissing(proto.meter_tier()));
    }
    return clients;
  }

  absl::Status WatchRounds(int64_t from_round, std::stop_token stop,
                           const std::function<bool(const std::optional<RoundSummary>&, const RunStatus&)>& on_round) override {
    grpc::ClientContext context;
    std::stop_callback canceller(stop, [&context] { context.TryCancel(); });
    v1::WatchRoundsRequest request;
    request.set_from_round(from_round);
    auto reader = stub_->WatchRounds(&context, request);
    v1::WatchRoundsResponse response;
    while (reader->Read(&response)) {
      FEDWATT_ASSIGN_OR_RETURN(RunStatus status, FromMessage(response.status()));
      std::optional<RoundSummary> round;
      if (response.has_round()) {
        FEDWATT_ASSIGN_OR_RETURN(round, FromMessage(response.round()));
      }
      if (!on_round(round, status)) {
        context.TryCancel();
        reader->Finish();
        return absl::OkStatus();
      }
    }
    absl::Status status = FromGrpcStatus(reader->Finish());
    return stop.stop_requested() ? absl::OkStatus() : InWords(status);
  }

  absl::StatusOr<RunStatus> StopRun(const std::string& reason, bool abandon_round) override {
    v1::StopRunRequest request;
    request.set_request_id(RandomId());
    request.set_reason(reason);
    request.set_abandon_round(abandon_round);
    v1::StopRunResponse response;
    FEDWATT_RETURN_IF_ERROR(Call(&v1::Operator::Stub::StopRun, request, &response));
    return FromMessage(response.status());
  }

  absl::StatusOr<IssuedToken> IssueToken(absl::Duration lifetime, std::string_view role) override {
    FEDWATT_ASSIGN_OR_RETURN(Peer::Role parsed, ParseRole(role));
    v1::IssueTokenRequest request;
    request.set_role(ToProto(parsed));
    request.set_request_id(RandomId());
    *request.mutable_lifetime_duration() = ToProto(lifetime);
    v1::IssueTokenResponse response;
    FEDWATT_RETURN_IF_ERROR(Call(&v1::Operator::Stub::IssueToken, request, &response));
    IssuedToken token;
    token.token = response.token();
    FEDWATT_ASSIGN_OR_RETURN(token.expiry_time, FromProto(response.expiry_time()));
    return token;
  }

  absl::Status Revoke(const std::string& name) override {
    v1::RevokeRequest request;
    request.set_name(name);
    v1::RevokeResponse response;
    return Call(&v1::Operator::Stub::Revoke, request, &response);
  }

 private:
  absl::Status InWords(const absl::Status& status) {
    return status.code() == absl::StatusCode::kUnavailable ? link_->Explain(status, absl::ZeroDuration()) : status;
  }

  template <typename Request, typename Response>
  absl::Status Call(grpc::Status (v1::Operator::Stub::*method)(grpc::ClientContext*, const Request&, Response*), const Request& request,
                    Response* response) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(internal::kCallTimeout));
    return InWords(FromGrpcStatus((stub_.get()->*method)(&context, request, response)));
  }

  std::unique_ptr<internal::Link> link_;
  std::unique_ptr<v1::Operator::Stub> stub_;
};

}  // namespace

std::string_view RunStateName(RunStatus::State state) {
  switch (state) {
    case RunStatus::State::kWaitingForClients: return "waiting_for_clients";
    case RunStatus::State::kRunning: return "running";
    case RunStatus::State::kFinished: return "finished";
    case RunStatus::State::kStopped: return "stopped";
    case RunStatus::State::kFailed: break;
  }
  return "failed";
}

absl::StatusOr<std::unique_ptr<OperatorClient>> OperatorClient::Create(const ConnectionOptions& options) {
  FEDWATT_ASSIGN_OR_RETURN(std::unique_ptr<internal::Link> link, internal::Link::Create(options, nullptr));
  link->KeepIdentity();
  return std::make_unique<OperatorClientImpl>(std::move(link));
}

}  // namespace fedwatt

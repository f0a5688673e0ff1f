#include "fedwatt/client/enrol.h"

#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/rpc/channel.h"
#include "fedwatt/rpc/chunks.h"
#include "fedwatt/rpc/security.h"
#include "fedwatt/rpc/status_conversion.h"
#include "fedwatt/v1/coordinator.grpc.pb.h"
#include "grpcpp/client_context.h"

namespace fedwatt {
namespace {

constexpr int kTries = 3;
constexpr absl::Duration kConnectTimeout = absl::Seconds(10);

}  // namespace

absl::StatusOr<std::string> EnrolIdentity(const EnrolOptions& options) {
  FEDWATT_ASSIGN_OR_RETURN(TokenParts token, ParseToken(options.token));
  if (token.ca_fingerprint.empty()) return absl::InvalidArgumentError("enrolment token: the part after the dot is missing");
  if (::access(absl::StrCat(options.directory, "/client.pem").c_str(), F_OK) == 0) {
    return absl::AlreadyExistsError(absl::StrCat(options.directory, " holds an identity already; remove it to enrol anew"));
  }
  FEDWATT_ASSIGN_OR_RETURN(std::string ca_pem, FetchCa(options.server, token.ca_fingerprint, kConnectTimeout));
  const TlsIdentity anonymous{ca_pem, "", ""};
  FEDWATT_RETURN_IF_ERROR(DiagnoseConnection(options.server, &anonymous, kConnectTimeout));
  FEDWATT_ASSIGN_OR_RETURN(SigningRequest request, MakeSigningRequest());
  FEDWATT_ASSIGN_OR_RETURN(std::shared_ptr<grpc::Channel> channel, MakeChannel(options.server, ClientCredentials(anonymous)));

  v1::EnrolRequest message;
  message.set_request_id(RandomId());
  message.set_token(token.secret);
  message.set_csr_pem(request.csr_pem);
  message.set_client_name(options.name);
  v1::EnrolResponse response;
  absl::Status status;
  for (int i = 0; i < kTries; ++i) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(kConnectTimeout));
    context.set_wait_for_ready(true);
    status = FromGrpcStatus(v1::Coordinator::NewStub(channel)->Enrol(&context, message, &response));
    if (!IsTransient(status)) break;
    Log(options.log, LogLevel::kWarning, absl::StrCat("enrolling at ", options.server, ": ", std::string(status.message())));
  }
  if (!status.ok()) return Annotate(status, absl::StrCat("enrolling at ", options.server));
  FEDWATT_RETURN_IF_ERROR(WriteIdentity(options.directory, {ca_pem, response.certificate_chain_pem(), request.key_pem, response.signing_key_pem()}));
  Log(options.log, LogLevel::kInfo, absl::StrCat("enrolled at ", options.server, " as ", response.client_id(), "; identity in ", options.directory));
  return response.client_id();
}

}  // namespace fedwatt

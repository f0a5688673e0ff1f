#include <memory>

#include "absl/strings/str_cat.h"
#include "doctor/check.h"
#include "fedwatt/client/operator_client.h"
#include "fedwatt/rpc/channel.h"
#include "fedwatt/rpc/security.h"

namespace fedwatt::tool {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(5);
// Certificates begin a day before they are made, so that a clock may be off by that much.
constexpr absl::Duration kOffset = absl::Seconds(5), kTooMuchOffset = absl::Hours(24);

}  // namespace

void CheckServer(const Settings& settings, Checks& checks) {
  const std::string& address = settings.client.server;
  const bool insecure = settings.security.insecure;
  TlsIdentity identity;
  if (!insecure) {
    absl::StatusOr<TlsIdentity> read = ReadClientIdentity(settings.security.directory, absl::ZeroDuration());
    if (!read.ok()) {
      checks.push_back(
          {"server", Verdict::kFail, std::string(read.status().message()), "set security.directory, or run fedwatt enrol"});
      return;
    }
    identity = *std::move(read);
  }
  if (absl::Status reached = DiagnoseConnection(address, insecure ? nullptr : &identity, kPatience); !reached.ok()) {
    checks.push_back({"server", Verdict::kFail, std::string(reached.message()),
                      absl::IsUnauthenticated(reached) ? "use the security directory of that coordinator"
                                                       : "correct --server, or start the coordinator"});
    return;
  }
  checks.push_back({"server", Verdict::kOk,
                    absl::StrCat(address, " answers", insecure ? " without TLS" : " and shows the right certificate")});

  ConnectionOptions connection{.server = address,
                               .server_origin = "flag --server",
                               .security_directory = settings.security.directory,
                               .insecure = insecure,
                               .security_wait = absl::ZeroDuration()};
  absl::StatusOr<std::unique_ptr<OperatorClient>> client = OperatorClient::Create(connection);
  const absl::Time before = absl::Now();
  absl::StatusOr<RunStatus> status = client.ok() ? (*client)->GetStatus() : client.status();
  if (!status.ok()) {
    // A device may not ask; that is no fault of the machine.
    checks.push_back({"server run", Verdict::kWarn, std::string(status.status().message()),
                      "ask with the coordinator's own security directory"});
    return;
  }
  checks.push_back(
      {"server run", Verdict::kOk,
       absl::StrCat(status->run_id, ": ", std::string(RunStateName(status->state)), ", version ", status->server_version)});
  const absl::Duration offset = status->server_time - (before + (absl::Now() - before) / 2);
  const absl::Duration size = absl::AbsDuration(offset);
  const std::string detail = absl::StrCat("the server's is ", absl::FormatDuration(absl::Trunc(size, absl::Milliseconds(1))),
                                          offset < absl::ZeroDuration() ? " behind" : " ahead");
  if (size <= kOffset)
    checks.push_back({"server clock", Verdict::kOk, detail});
  else
    checks.push_back({"server clock", size > kTooMuchOffset ? Verdict::kFail : Verdict::kWarn, detail,
                      "enable time synchronisation on both machines"});
}

}  // namespace fedwatt::tool

// fedwatt stop: ends a run.
#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/client/operator_client.h"
#include "verb.h"

namespace fedwatt::tool {
namespace {

struct Options {
  ConnectionFlags connection;
  std::string reason = "stopped by an operator";
  bool now = false;
};

absl::StatusOr<ExitCode> Run(const Options& options) {
  FEDWATT_ASSIGN_OR_RETURN(ConnectionOptions connection, Resolve(options.connection));
  FEDWATT_ASSIGN_OR_RETURN(std::unique_ptr<OperatorClient> client, OperatorClient::Create(connection));
  FEDWATT_ASSIGN_OR_RETURN(RunStatus run, client->StopRun(options.reason, options.now));
  Print(absl::StrCat(std::string(RunStateName(run.state)), "\n"));
  if (run.state == RunStatus::State::kRunning) Say(absl::StrCat("run ", run.run_id, " ends with round ", run.round));
  return ExitCode::kDone;
}

}  // namespace

void AddStop(CLI::App& app, Action& chosen) {
  auto [verb, options] = Declare<Options>(app, chosen, "stop", "ends a run after the round under way", Run);
  AddConnection(verb, options->connection);
  verb->add_option("--reason", options->reason, "written to the record")->type_name("TEXT");
  verb->add_flag("--now", options->now, "abandon the round under way");
}

}  // namespace fedwatt::tool

// fedwatt status: a run and its clients at this instant.
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/client/operator_client.h"
#include "verb.h"

namespace fedwatt::tool {
namespace {

using nlohmann::ordered_json;

struct Options {
  ConnectionFlags connection;
  Format format = Format::kText;
};

template <typename T>
ordered_json OrNull(const std::optional<T>& value) {
  return value ? ordered_json(*value) : ordered_json();
}

ordered_json ToJson(const RunStatus& run) {
  return {{"run_id", run.run_id},
          {"state", std::string(RunStateName(run.state))},
          {"reason", run.reason},
          {"round", run.round},
          {"rounds", run.round_count},
          {"rounds_committed", run.committed_round_count},
          {"clients", run.client_count},
          {"wait_for_clients", run.wait_for_client_count},
          {"accepted", run.accepted_count},
          {"selected", run.selected_count},
          {"deadline_seconds", run.deadline ? ordered_json(absl::ToDoubleSeconds(*run.deadline)) : ordered_json()},
          {"best_accuracy", OrNull(run.best_accuracy)},
          {"target_accuracy", OrNull(run.target_accuracy)},
          {"started_at", absl::FormatTime(absl::RFC3339_full, run.start_time, absl::UTCTimeZone())},
          {"server_time", absl::FormatTime(absl::RFC3339_full, run.server_time, absl::UTCTimeZone())},
          {"server_version", run.server_version}};
}

ordered_json ToJson(const ClientStatus& client) {
  return {{"client", client.pseudonym},
          {"partition", client.partition},
          {"connected", client.connected},
          {"attempt", client.attempt},
          {"accepted", client.accepted_count},
          {"rejected", client.rejected_count},
          {"silent_seconds", absl::ToDoubleSeconds(client.silent)},
          {"meter", client.meter_name},
          {"tier", std::string(EnergyTierName(client.meter_tier))}};
}

std::string ToText(const RunStatus& run) {
  const auto percent = [](const std::optional<double>& value) {
    return value ? absl::StrFormat("%.4f", *value) : std::string("-");
  };
  const absl::Duration age = absl::Trunc(run.server_time - run.start_time, absl::Seconds(1));
  return Columns(
      {{"run", run.run_id},
       {"state", absl::StrCat(std::string(RunStateName(run.state)), run.reason.empty() ? "" : ": ", run.reason)},
       {"round", absl::StrFormat("%d of %d, %d committed", run.round, run.round_count, run.committed_round_count)},
       {"clients", absl::StrFormat("%d here, %d wanted before the start", run.client_count, run.wait_for_client_count)},
       {"updates",
        absl::StrFormat("%d accepted of %d selected%s", run.accepted_count, run.selected_count,
                        run.deadline ? ", deadline in " + absl::FormatDuration(absl::Trunc(*run.deadline, absl::Seconds(1)))
                                     : std::string())},
       {"accuracy", absl::StrCat("best ", percent(run.best_accuracy), ", target ", percent(run.target_accuracy))},
       {"started", absl::StrCat(absl::FormatTime("%Y-%m-%d %H:%M:%S UTC", run.start_time, absl::UTCTimeZone()), ", ",
                                absl::FormatDuration(age), " ago")},
       {"server", run.server_version}});
}

std::string ToText(const std::vector<ClientStatus>& clients) {
  std::vector<std::vector<std::string>> rows = {{"client", "partition", "state", "accepted", "rejected", "silent", "meter"}};
  for (const ClientStatus& client : clients) {
    rows.push_back({client.pseudonym, absl::StrCat(client.partition),
                    !client.connected        ? "gone"
                    : client.attempt.empty() ? "waits"
                                             : "trains",
                    absl::StrCat(client.accepted_count), absl::StrCat(client.rejected_count),
                    absl::FormatDuration(absl::Trunc(client.silent, absl::Milliseconds(100))),
                    client.meter_name.empty()
                        ? "-"
                        : absl::StrCat(client.meter_name, " (", std::string(EnergyTierName(client.meter_tier)), ")")});
  }
  return Columns(rows);
}

absl::StatusOr<ExitCode> Run(const Options& options) {
  FEDWATT_ASSIGN_OR_RETURN(ConnectionOptions connection, Resolve(options.connection));
  FEDWATT_ASSIGN_OR_RETURN(std::unique_ptr<OperatorClient> client, OperatorClient::Create(connection));
  FEDWATT_ASSIGN_OR_RETURN(RunStatus run, client->GetStatus());
  FEDWATT_ASSIGN_OR_RETURN(std::vector<ClientStatus> clients, client->ListClients());
  if (options.format == Format::kText) {
    Print(ToText(run));
    if (!clients.empty()) Print("\n" + ToText(clients));
    return ExitCode::kDone;
  }
  ordered_json list = ordered_json::array();
  for (const ClientStatus& one : clients) list.push_back(ToJson(one));
  Print(ordered_json{{"schema", "fedwatt.status.v1"}, {"run", ToJson(run)}, {"clients", list}}.dump(2) + "\n");
  return ExitCode::kDone;
}

}  // namespace

void AddStatus(CLI::App& app, Action& chosen) {
  auto [verb, options] = Declare<Options>(app, chosen, "status", "a run and its clients at this instant", Run);
  AddConnection(verb, options->connection);
  AddFormat(verb, options->format);
}

}  // namespace fedwatt::tool

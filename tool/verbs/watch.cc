// fedwatt watch: the coordinator's table, live, from anywhere.
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <stop_token>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/client/operator_client.h"
#include "fedwatt/report/table.h"
#include "verb.h"

namespace fedwatt::tool {
namespace {

struct Options {
  ConnectionFlags connection;
  int64_t from = 1;
  Format format = Format::kText;
};

// As the table wants it. The summary does not say how many clients metered, so none is marked as missing.
RoundRecord ToRecord(const RoundSummary& round) {
  RoundRecord record;
  record.round = round.round;
  record.committed = round.committed;
  record.reason = round.reason;
  record.started_at = round.start_time;
  record.finished_at = round.start_time + round.wall;
  record.wall_seconds = absl::ToDoubleSeconds(round.wall);
  record.clients_selected = round.selected_count;
  record.clients_completed = round.completed_count;
  record.clients_rejected = round.rejected_count;
  record.clients_late = round.late_count;
  record.clients_dropped = round.dropped_count;
  record.train_loss = round.train_loss;
  record.eval_loss = round.eval_loss;
  record.eval_accuracy = round.eval_accuracy;
  record.uplink_payload_bytes = round.uplink_payload_bytes;
  record.downlink_payload_bytes = round.downlink_payload_bytes;
  record.uplink_wire_bytes = round.uplink_wire_bytes;
  record.downlink_wire_bytes = round.downlink_wire_bytes;
  record.uplink_dense_bytes = round.uplink_dense_bytes;
  record.downlink_dense_bytes = round.downlink_dense_bytes;
  record.client_energy = round.client_energy;
  record.client_energy_clients = round.client_energy ? round.completed_count : 0;
  record.client_energy_tier = round.client_energy_tier;
  record.model_digest = round.model_digest;
  return record;
}

// The run record's names for what there is.
std::string ToJsonLine(const RoundRecord& record) {
  const auto or_null = [](const auto& value) { return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json(); };
  const nlohmann::ordered_json line = {
      {"round", record.round},
      {"outcome", record.committed ? "committed" : "abandoned"},
      {"reason", record.reason},
      {"started_at", absl::FormatTime(absl::RFC3339_full, record.started_at, absl::UTCTimeZone())},
      {"wall_seconds", record.wall_seconds},
      {"clients_selected", record.clients_selected},
      {"clients_completed", record.clients_completed},
      {"clients_rejected", record.clients_rejected},
      {"clients_late", record.clients_late},
      {"clients_dropped", record.clients_dropped},
      {"train_loss", or_null(record.train_loss)},
      {"eval_loss", or_null(record.eval_loss)},
      {"eval_accuracy", or_null(record.eval_accuracy)},
      {"uplink_payload_bytes", record.uplink_payload_bytes},
      {"downlink_payload_bytes", record.downlink_payload_bytes},
      {"uplink_wire_bytes", or_null(record.uplink_wire_bytes)},
      {"downlink_wire_bytes", or_null(record.downlink_wire_bytes)},
      {"client_energy_uj",
       record.client_energy ? nlohmann::ordered_json(record.client_energy->microjoules()) : nlohmann::ordered_json()},
      {"client_energy_tier", std::string(EnergyTierName(record.client_energy_tier))},
      {"model_digest", record.model_digest}};
  return line.dump() + "\n";
}

absl::StatusOr<ExitCode> Run(const Options& options) {
  // Every row is flushed whole and nothing else is held, so an interrupt may end the process on the spot.
  for (const int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { ::_exit(static_cast<int>(ExitCode::kDone)); });
  FEDWATT_ASSIGN_OR_RETURN(ConnectionOptions connection, Resolve(options.connection));
  FEDWATT_ASSIGN_OR_RETURN(std::unique_ptr<OperatorClient> client, OperatorClient::Create(connection));
  const bool json = options.format == Format::kJson;
  const RoundTable table(RoundTableOptionsFor(STDOUT_FILENO));
  bool header = false;
  std::optional<RunStatus> last;
  const absl::Status watched =
      client->WatchRounds(options.from, std::stop_token(), [&](const std::optional<RoundSummary>& round, const RunStatus& run) {
        last = run;
        if (round && json) Print(ToJsonLine(ToRecord(*round)));
        if (round && !json) {
          if (!std::exchange(header, true)) Print(table.Legend() + table.Header());
          Print(table.Row(ToRecord(*round)));
        }
        return std::fflush(stdout) == 0;
      });
  FEDWATT_RETURN_IF_ERROR(watched);
  // The stream may end with the last round, whose status is of a run still going.
  if (absl::StatusOr<RunStatus> end = client->GetStatus(); end.ok()) last = *end;
  if (last && last->state != RunStatus::State::kRunning && last->state != RunStatus::State::kWaitingForClients) {
    Say(absl::StrCat("run ", last->run_id, " ", std::string(RunStateName(last->state)), last->reason.empty() ? "" : ": ", last->reason));
  } else {
    Say("the run is over");
  }
  return ExitCode::kDone;
}

}  // namespace

void AddWatch(CLI::App& app, Action& chosen) {
  auto [verb, options] =
      Declare<Options>(app, chosen, "watch", "one row a round until the run ends; Ctrl-C leaves the run alone", Run);
  AddConnection(verb, options->connection);
  verb->add_option("--from", options->from, "first round to show; 0 = only new ones; default 1")
      ->type_name("ROUND")
      ->check(CLI::NonNegativeNumber);
  AddFormat(verb, options->format);
}

}  // namespace fedwatt::tool

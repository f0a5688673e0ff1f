// fedwatt report: a run record as tables, one page or JSON.
#include "fedwatt/report/report.h"

#include <unistd.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"
#include "verb.h"

namespace fedwatt::tool {
namespace {

using nlohmann::ordered_json;

struct Options {
  std::string directory, html;
  Format format = Format::kText;
};

template <typename T>
ordered_json OrNull(const std::optional<T>& value) {
  if (!value) return nullptr;
  if constexpr (std::is_same_v<T, Energy>)
    return value->microjoules();
  else if constexpr (std::is_same_v<T, CarbonMass>)
    return value->micrograms();
  else
    return *value;
}

ordered_json ToJson(const RunTotals& totals) {
  return {{"rounds", totals.rounds},
          {"rounds_committed", totals.rounds_committed},
          {"wall_seconds", totals.wall_seconds},
          {"clients_selected", totals.clients_selected},
          {"clients_completed", totals.clients_completed},
          {"clients_rejected", totals.clients_rejected},
          {"clients_late", totals.clients_late},
          {"clients_dropped", totals.clients_dropped},
          {"train_examples", totals.train_examples},
          {"uplink_payload_bytes", totals.uplink_payload_bytes},
          {"downlink_payload_bytes", totals.downlink_payload_bytes},
          {"uplink_wire_bytes", OrNull(totals.uplink_wire_bytes)},
          {"downlink_wire_bytes", OrNull(totals.downlink_wire_bytes)},
          {"uplink_dense_bytes", totals.uplink_dense_bytes},
          {"downlink_dense_bytes", totals.downlink_dense_bytes},
          {"client_energy_uj", OrNull(totals.client_energy)},
          {"client_energy_clients", totals.client_energy_clients},
          {"client_energy_wasted_uj", OrNull(totals.client_energy_wasted)},
          {"client_energy_tier", std::string(EnergyTierName(totals.client_energy_tier))},
          {"client_operational_ug", OrNull(totals.client_carbon.operational)},
          {"client_embodied_ug", OrNull(totals.client_carbon.embodied)},
          {"client_wasted_ug", OrNull(totals.client_carbon.wasted)},
          {"client_water_l", OrNull(totals.client_carbon.water_l)},
          {"client_carbon_clients", totals.client_carbon.clients},
          {"carbon_kind", totals.client_carbon.kind ? ordered_json(std::string(IntensityKindName(*totals.client_carbon.kind))) : ordered_json()},
          {"carbon_basis", std::string(IntensityBasisName(totals.client_carbon.basis))},
          {"server_operational_ug", OrNull(totals.server_operational)},
          {"server_embodied_ug", OrNull(totals.server_embodied)},
          {"sci_g_per_round", OrNull(RunSci(totals, static_cast<double>(totals.rounds_committed)))},
          {"sci_g_per_update", OrNull(RunSci(totals, static_cast<double>(totals.clients_completed)))},
          {"server_energy_uj", OrNull(totals.server_energy)},
          {"server_energy_tier", std::string(EnergyTierName(totals.server_energy_tier))},
          {"final_accuracy", OrNull(totals.final_accuracy)},
          {"best_accuracy", OrNull(totals.best_accuracy)}};
}

ordered_json ToJson(const std::vector<WidthTotals>& widths) {
  ordered_json json = ordered_json::array();
  for (const WidthTotals& width : widths) {
    json.push_back({{"width_fraction", width.width_fraction},
                    {"kept_parameters", width.parameter_count},
                    {"accepted", width.accepted},
                    {"train_examples", width.train_examples},
                    {"train_loss", OrNull(width.train_loss)},
                    {"train_cpu_seconds", width.train_cpu_seconds},
                    {"energy_uj", OrNull(width.energy)},
                    {"energy_tier", std::string(EnergyTierName(width.energy ? width.energy_tier : EnergyTier::kMissing))},
                    {"uplink_payload_bytes", width.uplink_payload_bytes},
                    {"downlink_payload_bytes", width.downlink_payload_bytes}});
  }
  return json;
}

// Rounds and summary as they lie on disk, so that no field is lost, and totals, which a killed run's summary does not give.
absl::StatusOr<std::string> ToJson(const std::string& directory, const RunRecord& run) {
  FEDWATT_ASSIGN_OR_RETURN(std::string lines, ReadFile(directory + "/rounds.jsonl"));
  ordered_json rounds = ordered_json::array();
  for (absl::string_view line : absl::StrSplit(lines, '\n', absl::SkipEmpty())) {
    ordered_json round = ordered_json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false);
    if (!round.is_discarded()) rounds.push_back(std::move(round));  // else: the torn last line, which the reader allows
  }
  ordered_json summary;
  if (run.summary) {
    FEDWATT_ASSIGN_OR_RETURN(std::string text, ReadFile(directory + "/summary.json"));
    summary = ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  }
  return ordered_json{
             {"schema", "fedwatt.report.v1"}, {"totals", ToJson(SumRounds(run.rounds))}, {"by_width", ToJson(SumByWidth(run.attempts))}, {"summary", summary}, {"rounds", rounds}}
             .dump(2, ' ', false, ordered_json::error_handler_t::replace) +
         "\n";
}

absl::StatusOr<ExitCode> Run(const Options& options) {
  FEDWATT_ASSIGN_OR_RETURN(RunRecord run, ReadRunRecord(options.directory));
  if (options.format == Format::kJson) {
    FEDWATT_ASSIGN_OR_RETURN(std::string json, ToJson(options.directory, run));
    Print(json);
  } else {
    // Columns for people also in a file or a pager; who wants to parse asks for JSON.
    RoundTableOptions table = RoundTableOptionsFor(STDOUT_FILENO);
    table.terminal = true;
    Print(RenderTextReport(run, table));
  }
  const std::string html = options.html.empty() ? options.directory + "/report.html" : options.html;
  const absl::Status written = WriteFileAtomically(html, RenderHtmlReport(run));
  // A record on a read-only medium can still be read in the terminal; a page that was asked for must exist.
  if (!written.ok() && !options.html.empty()) return Annotate(written, "--html");
  Say(written.ok() ? absl::StrCat("page: ", html)
                   : absl::StrCat("no page (", std::string(written.message()), "); --html FILE puts it elsewhere"));
  return ExitCode::kDone;
}

}  // namespace

void AddReport(CLI::App& app, Action& chosen) {
  auto [verb, options] =
      Declare<Options>(app, chosen, "report", "a run record as tables and as one self-contained HTML page", Run);
  verb->add_option("DIR", options->directory, "the folder that a run wrote (its --out)")->required();
  verb->add_option("--html", options->html, "where the page goes; default: DIR/report.html")->type_name("FILE");
  AddFormat(verb, options->format);
}

}  // namespace fedwatt::tool

#include <cmath>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "fedwatt/base/text.h"
#include "fedwatt/report/report.h"
#include "carbon_lines.h"
#include "format.h"
#include "network_lines.h"
#include "provenance.h"
#include "width_table.h"

namespace fedwatt {
namespace {

using internal::Fixed;
using internal::FixedOrDash;
using internal::Megabytes;

std::string Percent(int64_t part, int64_t whole) {
  return whole == 0 ? "-" : absl::StrCat(Fixed(100 * static_cast<double>(part) / static_cast<double>(whole), 1), "%");
}

}  // namespace

std::string RenderTextReport(const RunRecord& run, const EnergyReport& report, RoundTableOptions options) {
  const RunTotals& totals = report.totals;
  std::string out;
  const auto line = [&out](std::string_view name, const std::string& value) {
    absl::StrAppendFormat(&out, "%-18s %s\n", OneLine(name), OneLine(value));
  };
  if (run.summary) {
    line("run", run.summary->run_id);
    line("version", run.summary->version);
    line("command", run.summary->command);
    line("seed", absl::StrCat(run.summary->seed, run.summary->simulated ? "  (simulated fleet)" : ""));
  } else {
    line("run", absl::StrCat(run.rounds.empty() ? "-" : run.rounds.front().run_id, "  (no summary: still running, or killed)"));
  }

  for (const auto& [name, text] : internal::ProvenanceLines(report)) line(name, text);

  const RoundTable table(options);
  absl::StrAppend(&out, "\n", table.Header());
  for (const RoundRecord& round : run.rounds) absl::StrAppend(&out, table.Row(round));
  absl::StrAppend(&out, table.Legend(), "\n");

  line("rounds", absl::StrCat(totals.rounds_committed, " committed, ", totals.rounds, " finished in ",
                              Fixed(totals.wall_seconds, 1), " s"));
  line("accuracy",
       absl::StrCat("final ", FixedOrDash(totals.final_accuracy, 4), ", best ", FixedOrDash(totals.best_accuracy, 4)));
  const int64_t failed = totals.clients_rejected + totals.clients_dropped;
  line("client attempts", absl::StrCat(totals.clients_completed, " ok, ", totals.clients_late, " late, ", failed, " failed"));
  for (const auto& [reason, count] : totals.rejections) line("", absl::StrCat(reason, ": ", count));
  for (const auto& [reason, count] : totals.refusals) line("", absl::StrCat("not asked, ", reason, ": ", count));
  if (totals.deferred_seconds > 0) line("waited", absl::StrCat(absl::FormatDuration(absl::Seconds(std::round(totals.deferred_seconds))), " for budgets, batteries or cleaner hours"));
  if (totals.budget_left) line("budget left", absl::StrCat(internal::Significant(totals.budget_left->joules()), " J"));
  if (totals.budget_carbon_left) line("budget left", absl::StrCat(internal::Significant(totals.budget_carbon_left->grams()), " g"));
  line("bytes up",
       absl::StrCat(Megabytes(totals.uplink_payload_bytes), " MB, ",
                    SavingPhrase(totals.uplink_dense_bytes, totals.uplink_payload_bytes),
                    totals.uplink_wire_bytes ? absl::StrCat("; ", Megabytes(*totals.uplink_wire_bytes), " MB on the wire") : ""));
  line("bytes down",
       absl::StrCat(
           Megabytes(totals.downlink_payload_bytes), " MB, ",
           SavingPhrase(totals.downlink_dense_bytes, totals.downlink_payload_bytes),
           totals.downlink_wire_bytes ? absl::StrCat("; ", Megabytes(*totals.downlink_wire_bytes), " MB on the wire") : ""));
  if (totals.uplink_header_bytes && totals.downlink_header_bytes) {
    line("headers", absl::StrCat("IP and TCP: ", Megabytes(*totals.uplink_header_bytes), " MB up, ", Megabytes(*totals.downlink_header_bytes), " MB down; in no other line"));
  }
  if (totals.client_energy) {
    line("clients' joules",
         absl::StrCat(
             EnergyText(totals.client_energy, totals.client_energy_tier, totals.client_energy_clients, totals.clients_completed),
             " J",
             totals.client_energy_low && totals.client_energy_high
                 ? absl::StrCat(", between ", internal::Significant(totals.client_energy_low->joules()), " and ",
                                internal::Significant(totals.client_energy_high->joules()))
                 : "",
             totals.client_energy_wasted ? absl::StrCat("; ", internal::Significant(totals.client_energy_wasted->joules()),
                                                        " J wasted on attempts that did not count")
                                         : ""));
    for (const auto& [tier, energy] : totals.client_energy_by_tier) {
      line("",
           absl::StrCat(internal::Significant(energy.joules()), " J (",
                        Percent(energy.microjoules(), totals.client_energy->microjoules()), ") ", internal::TierMeaning(tier)));
    }
  } else {
    line("clients' joules", "not measured");
  }
  if (report.idle) {
    line("", absl::StrCat(internal::Significant(report.idle->joules()), " J idle, ", internal::Significant(report.dynamic->joules()), " J dynamic, of all attempts"));
  }
  if (report.gross) line("", absl::StrCat(internal::Significant(report.gross->joules()), " J of the whole machines meanwhile, other processes included"));
  if (report.between_seconds > 0 && !report.simulated) {
    line("between attempts", absl::StrCat(internal::SumText(report.between), " in ", internal::Significant(report.between_seconds), " s of the clients"));
  }
  line("server's joules", totals.server_energy ? absl::StrCat(IsEstimate(totals.server_energy_tier) ? "~" : "",
                                                              internal::Significant(totals.server_energy->joules()), " J, ",
                                                              internal::TierMeaning(totals.server_energy_tier))
                                               : "not measured");
  for (const auto& [reason, count] : totals.quarantines) line("", absl::StrCat("joules of ", count, " reports not believed: ", reason));
  if (totals.client_energy_quarantined) line("", absl::StrCat(internal::Significant(totals.client_energy_quarantined->joules()), " J were claimed in them, and are in no sum"));
  if (totals.clients_suspect > 0) line("", absl::StrCat("of the joules above, ", totals.client_energy_suspect ? internal::Significant(totals.client_energy_suspect->joules()) : "0", " J in ", totals.clients_suspect, " updates are of clients whose joules are unlike their class's"));
  for (const auto& [name, value] : internal::CarbonLines(totals)) line(name, value);
  line("all joules", report.total.energy ? absl::StrCat(internal::SumText(report.total), report.total.complete ? "" : "; the rest was not metered")
                                         : "not measured");
  if (report.carbon.operational_grams) line("carbon", internal::CarbonText(report));
  if (const auto network = internal::MakeNetworkReport(run.attempts, report.simulated, report.started_at)) {
    for (const auto& [name, value] : internal::NetworkLines(*network)) line(name, value);
  }
  std::string title = "by width";
  for (const std::vector<std::string>& row : internal::WidthTable(run)) {
    std::string cells;
    for (const std::string& cell : row) absl::StrAppendFormat(&cells, "%-15s", cell);
    absl::StripTrailingAsciiWhitespace(&cells);
    line(std::exchange(title, ""), cells);
  }
  title = "number formats";
  for (const std::string& reason : internal::FormatReasons(run.attempts)) line(std::exchange(title, ""), reason);
  if (run.summary && run.summary->target_accuracy) {
    const double target = *run.summary->target_accuracy;
    const TargetFigures figures = FiguresToTarget(run.rounds, target);
    std::string text = "not reached";
    if (figures.rounds) {
      text = absl::StrCat("reached in round ", *figures.rounds, ", after ", Megabytes(*figures.uplink_bytes), " MB up, ",
                          Megabytes(*figures.downlink_bytes), " MB down, ",
                          figures.client_energy
                              ? absl::StrCat(EnergyText(figures.client_energy, totals.client_energy_tier, 0, 0), " J")
                              : "joules not all known");
    }
    line(absl::StrCat("target ", FixedOrDash(target, 4)), text);
  }
  if (run.summary) {
    for (const auto& [name, value] : run.summary->machine_facts) line(name, value);
    for (const auto& [name, reason] : run.summary->meters_refused) line("no meter", absl::StrCat(name, ": ", reason));
    if (!run.summary->model_path.empty()) line("model", run.summary->model_path);
    if (run.summary->model_channels) line("channels", *run.summary->model_channels);
    const Int8Delivery& int8 = run.summary->int8;
    if (int8.path) {
      line("int8 model", absl::StrCat(*int8.path, int8.bytes ? absl::StrCat(", ", Megabytes(*int8.bytes), " MB") : "",
                                      int8.accuracy ? absl::StrCat(", accuracy ", FixedOrDash(int8.accuracy, 4)) : ""));
    }
    if (int8.missing_reason) line("int8 model", *int8.missing_reason);
  }
  return out;
}

}  // namespace fedwatt

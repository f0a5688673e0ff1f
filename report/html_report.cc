#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "carbon_lines.h"
#include "chart.h"
#include "fedwatt/report/report.h"
#include "format.h"
#include "provenance.h"
#include "width_table.h"

namespace fedwatt {
namespace {

using internal::Bar;
using internal::Chart;
using internal::ChartPoint;
using internal::ChartSeries;
using internal::EscapeHtml;
using internal::Fixed;
using internal::FixedOrDash;
using internal::Megabytes;
using internal::RenderBars;
using internal::Significant;

constexpr std::string_view kStyle = R"(
:root{color-scheme:light dark;--bg:#fff;--fg:#1c2430;--soft:#5b6675;--line:#dfe4ea;--card:#f6f8fa;--s0:#0b62c4;--s1:#b4530a;--s2:#0f7a4f;--s3:#8a3fb0}
@media (prefers-color-scheme:dark){:root{--bg:#12161c;--fg:#e4e9f0;--soft:#9aa6b5;--line:#2b333e;--card:#1a2029;--s0:#6cb0ff;--s1:#f2a057;--s2:#5fd3a0;--s3:#d19bf0}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1240px;padding:24px 20px 60px;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif}
h1{font-size:24px;margin:0 0 4px}h2{font-size:17px;margin:34px 0 10px}p{margin:6px 0}
.soft{color:var(--soft)}code{font:13px ui-monospace,monospace;overflow-wrap:anywhere}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(180px,1fr));gap:12px;margin-top:18px}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px 14px}
.card b{display:block;font-size:22px;font-variant-numeric:tabular-nums}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr));gap:16px}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px}
figcaption{font-weight:600;padding:0 4px 4px}svg{display:block;width:100%;height:auto}
.axis{fill:var(--soft);font:11px system-ui,sans-serif}.name{font-size:12px}.grid{stroke:var(--line)}
.target{stroke:var(--soft);stroke-dasharray:5 4}
path.s0,path.s1,path.s2,path.s3{fill:none;stroke-width:2;stroke-linejoin:round}
path.s0{stroke:var(--s0)}path.s1{stroke:var(--s1)}path.s2{stroke:var(--s2)}path.s3{stroke:var(--s3)}
rect.b0{fill:var(--s0)}rect.b1{fill:var(--s1)}table.known{width:auto;margin-top:12px}table.known th{text-align:left;vertical-align:top}
circle.s0{fill:var(--s0)}circle.s1{fill:var(--s1)}circle.s2{fill:var(--s2)}circle.s3{fill:var(--s3)}circle.hidden{opacity:0}circle.hidden:hover{opacity:1}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:4px 10px;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th{color:var(--soft);font-weight:600}td.text,th.text{text-align:left;white-space:normal}tr.abandoned td{color:var(--s1)}
summary{cursor:pointer;font-weight:600;margin-top:30px}
)";

std::string Card(std::string_view name, const std::string& value, const std::string& note) {
  return absl::StrCat("<div class=\"card\"><span class=\"soft\">", std::string(name), "</span><b>", EscapeHtml(value),
                      "</b><span class=\"soft\">", EscapeHtml(note), "</span></div>");
}

std::string Row(const std::string& name, const std::string& value, const std::string& origin = "") {
  return absl::StrCat("<tr><td class=\"text\"><code>", EscapeHtml(name), "</code></td><td class=\"text\">", EscapeHtml(value),
                      "</td>", origin.empty() ? "" : absl::StrCat("<td class=\"text soft\">", EscapeHtml(origin), "</td>"),
                      "</tr>");
}

// Blue where metered, brown where estimated.
Bar EnergyBar(std::string label, const EnergySum& spent, const std::string& note) {
  Bar bar{.label = std::move(label), .note = note, .colour = IsEstimate(spent.tier) ? 1 : 0};
  if (!spent.energy) return bar;
  bar.value = spent.energy->joules();
  bar.note = absl::StrCat(internal::SumText(spent), ", ", note);
  return bar;
}

// The series of one accuracy over something that grows from round to round; ends where `x` is no longer known.
template <typename Accuracy, typename X>
ChartSeries MakeSeries(const std::string& name, const std::vector<RoundRecord>& rounds, Accuracy accuracy, X x,
                       const char* x_name) {
  ChartSeries series{.name = name};
  for (size_t i = 0; i < rounds.size(); ++i) {
    const std::optional<double> at = x(i);
    if (!at) break;
    const std::optional<double> value = rounds[i].committed ? accuracy(rounds[i]) : std::nullopt;
    if (!value) continue;
    series.points.push_back(
        {*at, *value, absl::StrCat("round ", rounds[i].round, ": ", Fixed(*value, 4), " at ", Significant(*at), x_name)});
  }
  return series;
}

}  // namespace

std::string RenderHtmlReport(const RunRecord& run, const EnergyReport& report) {
  const std::vector<RoundRecord>& rounds = run.rounds;
  const RunTotals& totals = report.totals;
  const std::string& run_id = report.run_id;
  const std::optional<double> target = run.summary ? run.summary->target_accuracy : std::nullopt;

  // What had been spent when round i was done.
  std::vector<double> megabytes;
  std::vector<std::optional<double>> joules;
  double bytes = 0;
  std::optional<double> spent = 0.0;
  std::set<EnergyTier> tiers;
  for (const RoundRecord& r : rounds) {
    bytes += static_cast<double>(r.uplink_payload_bytes + r.downlink_payload_bytes);
    megabytes.push_back(bytes / 1e6);
    const std::optional<Energy> energy = ClientEnergySpent(r);
    spent = spent && energy ? std::optional<double>(*spent + energy->joules()) : std::nullopt;
    joules.push_back(spent);
    for (const auto& [tier, part] : r.client_energy_by_tier) tiers.insert(tier);
    if (r.client_energy) tiers.insert(r.client_energy_tier);
  }
  const bool estimated = totals.client_energy && IsEstimate(totals.client_energy_tier);
  const std::string joules_axis =
      absl::StrCat("clients' joules, cumulative, wasted ones included", estimated ? " (estimated)" : "");

  const auto central = [](const RoundRecord& r) { return r.eval_accuracy; };
  const auto federated = [](const RoundRecord& r) { return r.federated_eval_accuracy; };
  const auto chart = [&](const std::string& title, const std::string& x_label, auto x, const char* x_unit) {
    Chart made{.title = title, .x_label = x_label, .y_label = "accuracy", .y_line = target};
    made.series = {MakeSeries("coordinator's test data", rounds, central, x, x_unit),
                   MakeSeries("clients' held-out parts", rounds, federated, x, x_unit)};
    if (target) made.y_line_label = absl::StrCat("target ", Significant(*target));
    return absl::StrCat("<figure><figcaption>", EscapeHtml(title), "</figcaption>", RenderChart(made), "</figure>");
  };
  const auto round_of = [&](size_t i) { return std::optional<double>(static_cast<double>(rounds[i].round)); };

  std::string out = absl::StrCat(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width,initial-scale=1\">"
      "<title>Fedwatt run ",
      EscapeHtml(run_id), "</title><style>", std::string(kStyle), "</style></head><body>\n<h1>Run ", EscapeHtml(run_id),
      "</h1>\n");
  if (run.summary) {
    absl::StrAppend(&out, "<p class=\"soft\">Fedwatt ", EscapeHtml(run.summary->version), ", seed ", run.summary->seed,
                    run.summary->simulated ? ", simulated fleet" : "", "</p><p><code>", EscapeHtml(run.summary->command),
                    "</code></p>\n");
  } else {
    out += "<p class=\"soft\">No summary: the run still goes on, or was killed.</p>\n";
  }

  out += "<table class=\"known\">\n";
  for (const auto& [name, text] : internal::ProvenanceLines(report)) {
    absl::StrAppend(&out, "<tr><th>", name, "</th><td class=\"text\">", EscapeHtml(text), "</td></tr>\n");
  }
  out += "</table>\n";

  const int64_t failed = totals.clients_rejected + totals.clients_dropped;
  absl::StrAppend(
      &out, "<div class=\"cards\">",
      Card("accuracy", FixedOrDash(totals.final_accuracy, 4), absl::StrCat("best ", FixedOrDash(totals.best_accuracy, 4))),
      Card("rounds committed", absl::StrCat(totals.rounds_committed),
           absl::StrCat("of ", totals.rounds, " finished, ", Fixed(totals.wall_seconds, 1), " s")),
      Card("client attempts", absl::StrCat(totals.clients_completed),
           absl::StrCat("accepted; ", totals.clients_late, " late, ", failed, " failed")),
      Card("MB up", Megabytes(totals.uplink_payload_bytes),
           SavingPhrase(totals.uplink_dense_bytes, totals.uplink_payload_bytes)),
      Card("MB down", Megabytes(totals.downlink_payload_bytes),
           SavingPhrase(totals.downlink_dense_bytes, totals.downlink_payload_bytes)),
      Card("clients' joules",
           EnergyText(totals.client_energy, totals.client_energy_tier, totals.client_energy_clients, totals.clients_completed),
           absl::StrCat(!totals.client_energy ? "not measured"
                        : estimated           ? "estimated"
                                              : "measured",
                        totals.client_energy_wasted
                            ? absl::StrCat("; ", Significant(totals.client_energy_wasted->joules()), " J wasted")
                            : "")),
      Card("server's joules", EnergyText(totals.server_energy, totals.server_energy_tier, 0, 0),
           internal::TierMeaning(totals.server_energy_tier)),
      Card("all joules", internal::SumText(report.total), internal::SumBasis(report.total)));
  if (report.carbon.operational_grams) {
    out += Card("grams CO2e", absl::StrCat(report.carbon.complete ? "" : "at least ", report.carbon.estimate ? "~" : "", Significant(*report.carbon.operational_grams)),
                internal::CarbonBasis(report));
  }
  if (target) {
    const TargetFigures figures = FiguresToTarget(rounds, *target);
    out += Card(absl::StrCat("rounds to ", Significant(*target)), figures.rounds ? absl::StrCat(*figures.rounds) : "not reached",
                figures.client_energy ? absl::StrCat(EnergyText(figures.client_energy, totals.client_energy_tier, 0, 0), " J, ",
                                                     Megabytes(*figures.uplink_bytes + *figures.downlink_bytes), " MB")
                : figures.rounds
                    ? absl::StrCat(Megabytes(*figures.uplink_bytes + *figures.downlink_bytes), " MB; joules not all known")
                    : "");
  }
  absl::StrAppend(&out, "</div>\n<h2>Accuracy and what it cost</h2>\n<div class=\"charts\">",
                  chart("Accuracy against rounds", "round", round_of, ""),
                  chart(
                      "Accuracy against bytes", "MB sent both ways, cumulative (encoded payload)",
                      [&](size_t i) { return std::optional<double>(megabytes[i]); }, " MB"),
                  chart(
                      "Accuracy against joules", joules_axis, [&](size_t i) { return joules[i]; }, " J"));
  Chart loss{.title = "Loss against rounds", .x_label = "round", .y_label = "loss", .legend_on_top = true};
  loss.series = {MakeSeries(
                     "training, clients", rounds, [](const RoundRecord& r) { return r.train_loss; }, round_of, ""),
                 MakeSeries(
                     "coordinator's test data", rounds, [](const RoundRecord& r) { return r.eval_loss; }, round_of, "")};
  absl::StrAppend(&out, "<figure><figcaption>Loss against rounds</figcaption>", RenderChart(loss), "</figure></div>\n");

  const auto bars = [](const std::string& title, const std::vector<Bar>& made) {
    return absl::StrCat("<figure><figcaption>", EscapeHtml(title), "</figcaption>", RenderBars(title, made), "</figure>");
  };
  std::vector<Bar> by_phase, by_tier, by_client;
  for (const PhaseTotals& phase : report.phases) {
    by_phase.push_back(EnergyBar(std::string(PhaseName(phase.phase)), phase.spent, absl::StrCat(Significant(phase.seconds), " s")));
  }
  for (const auto& [tier, energy] : report.tiers) {
    by_tier.push_back(EnergyBar(std::string(EnergyTierName(tier)), {energy, tier, true}, IsEstimate(tier) ? "estimate" : "metered"));
  }
  for (const ClientTotals& client : report.clients_by_joules) {
    by_client.push_back(EnergyBar(client.client, client.spent, absl::StrCat(client.accepted, "/", client.attempts)));
  }
  absl::StrAppend(&out, "<h2>Where the joules went</h2>\n<div class=\"charts\">", bars("Clients' joules by phase", by_phase),
                  bars("Accepted updates' joules by tier", by_tier), bars("Fleet: joules by client (accepted/attempts)", by_client), "</div>\n");

  out += "<h2>Where the joules come from</h2>\n";
  if (tiers.empty()) out += "<p>No client's joules were measured or estimated.</p>\n";
  for (EnergyTier tier : tiers) {
    const auto part = totals.client_energy_by_tier.find(tier);
    absl::StrAppend(
        &out, "<p><b>", std::string(EnergyTierName(tier)), "</b>: ", internal::TierMeaning(tier),
        part != totals.client_energy_by_tier.end() ? absl::StrCat(", ", Significant(part->second.joules()), " J") : "",
        IsEstimate(tier) ? " <span class=\"soft\">(an estimate, marked ~)</span>" : "", "</p>\n");
  }
  if (totals.client_energy_clients < totals.clients_completed) {
    absl::StrAppend(&out, "<p>", totals.client_energy_clients, " of ", totals.clients_completed,
                    " accepted updates came with joules; the sum is of those alone.</p>\n");
  }
  if (totals.client_energy_low && totals.client_energy_high) {
    absl::StrAppend(&out, "<p>The true sum lies between ", Significant(totals.client_energy_low->joules()), " J and ",
                    Significant(totals.client_energy_high->joules()), " J by the methods' own error bounds.</p>\n");
  }

  if (const auto lines = internal::CarbonLines(totals); !lines.empty()) {
    out += "<h2>Grams of CO2-equivalent</h2>\n<div class=\"wide\"><table>\n";
    for (const auto& [name, value] : lines) absl::StrAppend(&out, Row(name, value), "\n");
    out += "</table></div>\n";
  }

  if (const auto widths = internal::WidthTable(run); !widths.empty()) {
    out += "<h2>By width</h2>\n";
    Chart at_widths{.title = "Accuracy against joules by width", .x_label = absl::StrCat("mean joules of an update of that width", estimated ? " (estimated)" : ""), .y_label = "accuracy at the width", .y_line_label = ""};
    std::map<std::string, ChartSeries> by_format;
    for (const WidthTotals& width : SumByWidth(run.attempts, rounds)) {
      const std::optional<Energy> joules_an_update = internal::JoulesAnUpdate(width);
      if (!width.accuracy || !joules_an_update) continue;
      by_format[width.number_format].points.push_back({joules_an_update->joules(), *width.accuracy,
                                                       absl::StrCat("width ", WidthKey(width.width_fraction), ", ", width.number_format, ": ", Fixed(*width.accuracy, 4), " at ",
                                                                    Significant(joules_an_update->joules()), " J an update")});
    }
    constexpr size_t kMostSeries = 4;
    for (auto& [format, series] : by_format) {
      series.name = format;
      std::sort(series.points.begin(), series.points.end(), [](const ChartPoint& a, const ChartPoint& b) { return a.x < b.x; });
      if (at_widths.series.size() < kMostSeries) at_widths.series.push_back(std::move(series));
    }
    absl::StrAppend(&out, "<div class=\"charts\"><figure><figcaption>", at_widths.title, "</figcaption>", RenderChart(at_widths), "</figure></div>\n<div class=\"wide\"><table>");
    const char* tag = "th";
    for (const std::vector<std::string>& row : widths) {
      out += "<tr>";
      for (const std::string& cell : row) absl::StrAppend(&out, "<", tag, ">", EscapeHtml(cell), "</", tag, ">");
      out += "</tr>\n";
      tag = "td";
    }
    out += "</table></div>\n";
  }
  if (const std::vector<std::string> reasons = internal::FormatReasons(run.attempts); !reasons.empty()) {
    out += "<h2>Number formats</h2>\n<ul>";
    for (const std::string& reason : reasons) absl::StrAppend(&out, "<li>", EscapeHtml(reason), "</li>\n");
    out += "</ul>\n";
  }

  out +=
      "<h2>Rounds</h2>\n<div "
      "class=\"wide\"><table><tr><th>round</th><th>ok</th><th>late</th><th>failed</th><th>loss</th><th>accuracy</th>"
      "<th>MB up</th><th>MB down</th><th>saving</th><th>joules</th><th>seconds</th><th class=\"text\"></th></tr>\n";
  for (const RoundRecord& r : rounds) {
    absl::StrAppend(&out, r.committed ? "<tr>" : "<tr class=\"abandoned\">");
    for (const std::string& cell :
         {absl::StrCat(r.round), absl::StrCat(r.clients_completed), absl::StrCat(r.clients_late),
          absl::StrCat(r.clients_rejected + r.clients_dropped), FixedOrDash(r.train_loss, 4), FixedOrDash(AccuracyOf(r), 4),
          Megabytes(r.uplink_payload_bytes), Megabytes(r.downlink_payload_bytes),
          SavingText(r.uplink_dense_bytes + r.downlink_dense_bytes, r.uplink_payload_bytes + r.downlink_payload_bytes),
          EnergyText(r.client_energy, r.client_energy_tier, r.client_energy_clients, r.clients_completed),
          Fixed(r.wall_seconds, 2)}) {
      absl::StrAppend(&out, "<td>", cell, "</td>");
    }
    absl::StrAppend(&out, "<td class=\"text\">", r.committed ? "" : absl::StrCat("abandoned: ", EscapeHtml(r.reason)),
                    "</td></tr>\n");
  }
  out += "</table></div>\n";
  if (!totals.rejections.empty()) {
    out += "<h2>Attempts that did not count</h2>\n<div class=\"wide\"><table>\n";
    for (const auto& [reason, count] : totals.rejections) absl::StrAppend(&out, Row(reason, absl::StrCat(count)), "\n");
    out += "</table></div>\n";
  }
  if (!totals.refusals.empty()) {
    out += "<h2>Members that were not asked</h2>\n<div class=\"wide\"><table>\n";
    for (const auto& [reason, count] : totals.refusals) absl::StrAppend(&out, Row(reason, absl::StrCat(count)), "\n");
    out += "</table></div>\n";
  }
  if (!totals.quarantines.empty()) {
    out += "<h2>Reports whose joules are not believed, and in no sum</h2>\n<div class=\"wide\"><table>\n";
    for (const auto& [reason, count] : totals.quarantines) absl::StrAppend(&out, Row(reason, absl::StrCat(count)), "\n");
    out += "</table></div>\n";
  }
  if (run.summary) {
    out += "<details><summary>Machine</summary><div class=\"wide\"><table>\n";
    for (const auto& [name, value] : run.summary->machine_facts) absl::StrAppend(&out, Row(name, value), "\n");
    for (const std::string& name : run.summary->meters_found) absl::StrAppend(&out, Row(name, "meter found"), "\n");
    for (const auto& [name, reason] : run.summary->meters_refused)
      absl::StrAppend(&out, Row(name, "meter refused: " + reason), "\n");
    out += "</table></div></details>\n<details><summary>Settings</summary><div class=\"wide\"><table>\n";
    for (const SettingWithOrigin& setting : run.summary->config)
      absl::StrAppend(&out, Row(setting.key, setting.value, setting.origin), "\n");
    out += "</table></div></details>\n";
  }
  out += "</body></html>\n";
  return out;
}

}  // namespace fedwatt

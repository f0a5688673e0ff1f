// A sheet in the order of Annex XI, section 1, of Regulation (EU) 2024/1689 (AI Act): every point that a run record can fill, each with its
// provenance; points that it cannot are left open and say so.
#include "absl/strings/str_join.h"
#include "export.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/report/report_format.h"
#include "format.h"
#include "provenance.h"
#include "settings.h"

namespace fedwatt::internal {
namespace {

constexpr char kOpen[] = "*to be filled in by the provider*";

absl::StatusOr<std::vector<ReportFile>> Render(const RunRecord& run, const EnergyReport& report) {
  std::string out = "# Annex XI, section 1: technical documentation of a model\n\n";
  absl::StrAppend(&out, "Made by Fedwatt ", MarkdownCell(report.version), " from the record of run ", MarkdownCell(report.run_id),
                  report.finished ? "" : " (no summary: the run still went on, or was killed)",
                  ". Regulation (EU) 2024/1689. Points that a run record cannot know are left open.\n\n## How well the energy is known\n\n");
  for (const auto& [name, text] : ProvenanceLines(report)) absl::StrAppend(&out, "- **", name, "**: ", MarkdownCell(text), "\n");

  const auto row = [&out](std::string_view point, std::string_view what, const std::string& value, std::string_view provenance) {
    absl::StrAppend(&out, "| ", std::string(point), " | ", std::string(what), " | ", value, " | ", std::string(provenance), " |\n");
  };
  const auto known = [](const std::string& value) { return value.empty() ? std::string("not recorded") : MarkdownCell(value); };
  int64_t parameters = 0;
  for (const AttemptRecord& attempt : run.attempts) parameters = std::max(parameters, attempt.fit_parameter_count);
  const RunTotals& totals = report.totals;

  out += "\n## 1. General description\n\n| Point | Asked for | Value | Provenance |\n|---|---|---|---|\n";
  row("1(a)", "tasks, systems it can be part of", kOpen, "");
  row("1(b)", "acceptable use policies", kOpen, "");
  row("1(c)", "date of release, distribution", kOpen,
      report.finished_at ? absl::StrCat("training ended ", UtcTime(*report.finished_at, "%Y-%m-%d %H:%M:%SZ")) : "");
  row("1(d)", "architecture, number of parameters",
      absl::StrCat(MarkdownCell(ModelName(run)), ", ", parameters > 0 ? absl::StrCat(parameters, " parameters") : "parameters not recorded"),
      "settings; largest model that a client trained");
  row("1(e)", "modality, format of inputs and outputs",
      absl::StrCat(DataTypeOf(run), ", input shape ", known(SettingOf(run, "model.input_shape"))), "settings");
  row("1(f)", "licence", kOpen, "");

  out += "\n## 2. Elements of the model and process of development\n\n| Point | Asked for | Value | Provenance |\n|---|---|---|---|\n";
  row("2(a)", "technical means to integrate it", run.summary && !run.summary->model_path.empty() ? MarkdownCell(run.summary->model_path) : kOpen,
      "TorchScript archive in the run record");
  row("2(b)", "design and training process",
      absl::StrCat("federated learning, strategy ", known(SettingOf(run, "aggregation.strategy")), ", loss ", known(SettingOf(run, "training.loss")), "; ",
                   totals.rounds_committed, " rounds, ", totals.clients_completed, " client updates"),
      "settings; counted");
  row("2(c)", "data",
      absl::StrCat(totals.train_examples, " examples trained on, repeats over rounds included; partition ", known(SettingOf(run, "partition.kind")),
                   "; type and provenance: ", kOpen),
      "counted by clients");
  row("2(d)", "computational resources",
      report.train_flops ? absl::StrCat(Number(report.train_flops), " floating-point operations") : "operations not derivable from this record",
      "derived: 2 a multiply-add, 3 forward passes' worth a training pass");
  row("2(d)", "training time",
      absl::StrCat(Significant(totals.client_train_seconds), " s on clients, ", Significant(totals.wall_seconds), " s of rounds"),
      report.simulated ? "measured on the machine that simulated" : "measured");
  row("2(e)", "energy consumption",
      report.total.energy ? absl::StrCat(SumText(report.total), " = ", Number(KilowattHours(*report.total.energy)), " kWh")
                          : "unknown; the regulation then allows a derivation from 2(d)",
      SumBasis(report.total));
  row("2(e)", "of it clients, accepted updates", SumText(report.clients),
      absl::StrCat(SumBasis(report.clients),
                   totals.client_energy_low && totals.client_energy_high
                       ? absl::StrCat(", between ", Significant(totals.client_energy_low->joules()), " and ", Significant(totals.client_energy_high->joules()), " J")
                       : ""));
  row("2(e)", "of it attempts that did not count", SumText(report.wasted), SumBasis(report.wasted));
  row("2(e)", "of it coordinator", SumText(report.server), SumBasis(report.server));
  if (report.carbon.operational_grams) {
    row("", "emissions, not asked for", absl::StrCat(Number(report.carbon.operational_grams), " g CO2e"),
        MarkdownCell(CarbonBasis(report)));
  }
  return std::vector<ReportFile>{{"annex_xi.md", out}};
}

}  // namespace

void InstallReportFormat_annex_xi(ReportFormatRegistry& registry) {
  FEDWATT_CHECK(registry.Register("annex_xi", {"sheet in the order of the EU AI Act's Annex XI, Markdown", Render}).ok());
}

}  // namespace fedwatt::internal

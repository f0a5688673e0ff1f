// The terminal's report as a file.
#include "fedwatt/base/status_macros.h"
#include "fedwatt/report/report.h"
#include "fedwatt/report/report_format.h"

namespace fedwatt::internal {

void InstallReportFormat_text(ReportFormatRegistry& registry) {
  const auto render = [](const RunRecord& run, const EnergyReport& report) -> absl::StatusOr<std::vector<ReportFile>> {
    return std::vector<ReportFile>{{"report.txt", RenderTextReport(run, report, RoundTableOptions{.terminal = true})}};
  };
  FEDWATT_CHECK(registry.Register("text", {"tables for people", render}).ok());
}

}  // namespace fedwatt::internal

// The page with plots.
#include "fedwatt/base/status_macros.h"
#include "fedwatt/report/report.h"
#include "fedwatt/report/report_format.h"

namespace fedwatt::internal {

void InstallReportFormat_html(ReportFormatRegistry& registry) {
  const auto render = [](const RunRecord& run, const EnergyReport& report) -> absl::StatusOr<std::vector<ReportFile>> {
    return std::vector<ReportFile>{{"report.html", RenderHtmlReport(run, report)}};
  };
  FEDWATT_CHECK(registry.Register("html", {"one page with plots, for a browser", render}).ok());
}

}  // namespace fedwatt::internal

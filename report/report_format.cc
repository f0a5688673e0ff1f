#include "fedwatt/report/report_format.h"

namespace fedwatt {

namespace internal {
void InstallReportFormats(ReportFormatRegistry& registry);
}  // namespace internal

ReportFormatRegistry& ReportFormats() {
  static auto* registry = [] {
    auto* made = new ReportFormatRegistry("report format");
    internal::InstallReportFormats(*made);
    return made;
  }();
  return *registry;
}

}  // namespace fedwatt

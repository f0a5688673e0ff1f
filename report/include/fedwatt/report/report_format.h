// Forms in which a run can be told. One file each under report/formats/.
#ifndef FEDWATT_REPORT_REPORT_FORMAT_H_
#define FEDWATT_REPORT_REPORT_FORMAT_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "fedwatt/base/registry.h"
#include "fedwatt/report/energy_report.h"
#include "fedwatt/report/run_record.h"

namespace fedwatt {

struct ReportFile {
  std::string name;  // without a folder
  std::string content;
};

struct ReportFormat {
  std::string summary;  // one line for lists: what it is and who reads it
  // `report` was made from `run`. Boundary, coverage and tiers come before the headline. What is not known is left out, empty or null, as the
  // format has it, and never 0. The same arguments give the same bytes.
  // Errors: FAILED_PRECONDITION  the format demands a number that this run does not have (named)
  std::function<absl::StatusOr<std::vector<ReportFile>>(const RunRecord& run, const EnergyReport& report)> render;
};

using ReportFormatRegistry = Registry<ReportFormat>;
ReportFormatRegistry& ReportFormats();

}  // namespace fedwatt

#endif  // FEDWATT_REPORT_REPORT_FORMAT_H_

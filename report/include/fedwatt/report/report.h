// A finished (or running) run for people.
#ifndef FEDWATT_REPORT_REPORT_H_
#define FEDWATT_REPORT_REPORT_H_

#include <string>

#include "fedwatt/report/run_record.h"
#include "fedwatt/report/table.h"

namespace fedwatt {

// All rounds as a table, then totals, how the joules were come by, and the machine.
std::string RenderTextReport(const RunRecord& run, RoundTableOptions options);

// One page without scripts or outside files: accuracy against rounds, bytes and joules as SVG, totals, rounds, settings.
// Everything from the record is escaped. The bytes axis counts payload both ways; the joules axis counts all that clients spent,
// wasted joules too, and ends where they are no longer all known.
std::string RenderHtmlReport(const RunRecord& run);

}  // namespace fedwatt

#endif  // FEDWATT_REPORT_REPORT_H_

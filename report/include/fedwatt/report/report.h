// A finished (or running) run for people.
#ifndef FEDWATT_REPORT_REPORT_H_
#define FEDWATT_REPORT_REPORT_H_

#include <string>

#include "fedwatt/report/energy_report.h"
#include "fedwatt/report/run_record.h"
#include "fedwatt/report/table.h"

namespace fedwatt {

// How well the joules are known, all rounds as a table, then totals, how the joules were come by, and the machine. `report` was made from `run`.
std::string RenderTextReport(const RunRecord& run, const EnergyReport& report, RoundTableOptions options);

// One page without scripts or outside files: how well the joules are known, then totals, accuracy against rounds, bytes and joules as SVG, joules by
// phase, tier and client, rounds, settings. Everything from the record is escaped. The bytes axis counts payload both ways; the joules axis counts all
// that clients spent, wasted joules too, and ends where they are no longer all known.
std::string RenderHtmlReport(const RunRecord& run, const EnergyReport& report);

}  // namespace fedwatt

#endif  // FEDWATT_REPORT_REPORT_H_

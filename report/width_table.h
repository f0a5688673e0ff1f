// What clients of each width and number format learned and cost, as cells; private to the room.
#ifndef FEDWATT_REPORT_WIDTH_TABLE_H_
#define FEDWATT_REPORT_WIDTH_TABLE_H_

#include <optional>
#include <string>
#include <vector>

#include "fedwatt/report/run_record.h"

namespace fedwatt::internal {

// Mean over the accepted attempts; nullopt where one of them was not metered.
std::optional<Energy> JoulesAnUpdate(const WidthTotals& width);

// A header and a row for each width and number format, all of the same length. Empty when everybody trained the whole model in float32.
std::vector<std::vector<std::string>> WidthTable(const RunRecord& run);

// Why accepted attempts trained in their number formats: "float32, 12 attempts: this processor has no bfloat16 instructions", the most frequent first, at most
// five. Empty where nobody gave a reason. What clients said is stripped of control characters.
std::vector<std::string> FormatReasons(const std::vector<AttemptRecord>& attempts);

}  // namespace fedwatt::internal

#endif  // FEDWATT_REPORT_WIDTH_TABLE_H_

// What a report says of grams; private to the room.
#ifndef FEDWATT_REPORT_CARBON_LINES_H_
#define FEDWATT_REPORT_CARBON_LINES_H_

#include <string>
#include <utility>
#include <vector>

#include "fedwatt/report/run_record.h"

namespace fedwatt::internal {

// Name and value, in order; nothing where no site was configured. A number that rests on an estimate bears "~".
std::vector<std::pair<std::string, std::string>> CarbonLines(const RunTotals& totals);

}  // namespace fedwatt::internal

#endif  // FEDWATT_REPORT_CARBON_LINES_H_

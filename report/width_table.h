// What clients of each width learned and cost, as cells; private to the room.
#ifndef FEDWATT_REPORT_WIDTH_TABLE_H_
#define FEDWATT_REPORT_WIDTH_TABLE_H_

#include <string>
#include <vector>

#include "fedwatt/report/run_record.h"

namespace fedwatt::internal {

// A header and a row a width, all of the same length. Empty when everybody trained the whole model.
std::vector<std::vector<std::string>> WidthTable(const std::vector<AttemptRecord>& attempts);

}  // namespace fedwatt::internal

#endif  // FEDWATT_REPORT_WIDTH_TABLE_H_

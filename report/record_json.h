// The records as JSON, both ways; private to the room.
#ifndef FEDWATT_REPORT_RECORD_JSON_H_
#define FEDWATT_REPORT_RECORD_JSON_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "fedwatt/report/run_record.h"

namespace fedwatt::internal {

// One line each, without its line end. Bytes that are not UTF-8 are replaced.
std::string RoundToJson(const RoundRecord& record);
std::string AttemptToJson(const AttemptRecord& record);
// Indented, for people too.
std::string SummaryToJson(const RunSummary& summary, const std::vector<RoundRecord>& rounds);
std::string TotalsToJson(const RunTotals& totals);

// `where` names the line in errors. Errors: DATA_LOSS
absl::StatusOr<RoundRecord> RoundFromJson(std::string_view text, const std::string& where);
absl::StatusOr<AttemptRecord> AttemptFromJson(std::string_view text, const std::string& where);
absl::StatusOr<RunSummary> SummaryFromJson(std::string_view text, const std::string& where);

// DATA_LOSS unless counts, bytes, joules and seconds are >= 0, fractions in [0, 1], times of this era, and sums over all records fit their types.
absl::Status CheckRanges(const RunRecord& run, const std::string& where);

// The rounds in a file. A last line without its line end is skipped. Errors: NOT_FOUND; DATA_LOSS
absl::StatusOr<std::vector<RoundRecord>> ReadRounds(const std::string& path, Disk& disk);

}  // namespace fedwatt::internal

#endif  // FEDWATT_REPORT_RECORD_JSON_H_

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/report/run_record.h"
#include "record_json.h"

namespace fedwatt {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{1} << 32;

// Calls `take(line, where)` for each whole line.
template <typename Take>
absl::Status ForEachLine(const std::string& path, Disk& disk, Take take) {
  FEDWATT_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxFileBytes, disk));
  int64_t number = 0;
  for (size_t at = 0, end; (end = text.find('\n', at)) != std::string::npos; at = end + 1) {
    ++number;
    FEDWATT_RETURN_IF_ERROR(take(std::string_view(text).substr(at, end - at), absl::StrCat(path, ":", number)));
  }
  return absl::OkStatus();
}

}  // namespace

namespace internal {

absl::StatusOr<std::vector<RoundRecord>> ReadRounds(const std::string& path, Disk& disk) {
  std::vector<RoundRecord> rounds;
  FEDWATT_RETURN_IF_ERROR(ForEachLine(path, disk, [&](std::string_view line, const std::string& where) -> absl::Status {
    FEDWATT_ASSIGN_OR_RETURN(RoundRecord record, RoundFromJson(line, where));
    rounds.push_back(std::move(record));
    return absl::OkStatus();
  }));
  return rounds;
}

}  // namespace internal

absl::StatusOr<std::vector<AttemptRecord>> ReadAttempts(const std::string& directory, Disk& disk) {
  std::vector<AttemptRecord> attempts;
  const std::string path = directory + "/clients.jsonl";
  if (disk.FileSize(path) == -ENOENT) return attempts;
  FEDWATT_RETURN_IF_ERROR(ForEachLine(path, disk, [&](std::string_view line, const std::string& where) -> absl::Status {
    FEDWATT_ASSIGN_OR_RETURN(AttemptRecord record, internal::AttemptFromJson(line, where));
    attempts.push_back(std::move(record));
    return absl::OkStatus();
  }));
  return attempts;
}

absl::StatusOr<RunRecord> ReadRunRecord(const std::string& directory, Disk& disk) {
  RunRecord run;
  FEDWATT_RETURN_IF_ERROR(ForEachLine(directory + "/rounds.jsonl", disk, [&](std::string_view line, const std::string& where) -> absl::Status {
    FEDWATT_ASSIGN_OR_RETURN(RoundRecord record, internal::RoundFromJson(line, where));
    run.rounds.push_back(std::move(record));
    run.round_lines.emplace_back(line);
    return absl::OkStatus();
  }));
  FEDWATT_ASSIGN_OR_RETURN(run.attempts, ReadAttempts(directory, disk));
  if (const std::string path = directory + "/summary.json"; disk.FileSize(path) >= 0) {
    FEDWATT_ASSIGN_OR_RETURN(run.summary_text, ReadFile(path, kMaxFileBytes, disk));
    FEDWATT_ASSIGN_OR_RETURN(run.summary, internal::SummaryFromJson(run.summary_text, path));
  }
  FEDWATT_RETURN_IF_ERROR(internal::CheckRanges(run, directory));
  return run;
}

}  // namespace fedwatt

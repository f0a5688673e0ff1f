#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <utility>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/planted.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/report/run_record.h"
#include "record_json.h"

namespace fedwatt {
namespace {

// A file that grows by whole lines.
class LineFile {
 public:
  // Creates the file where needed and cuts off a last line without its end, as a killed process leaves it.
  static absl::StatusOr<LineFile> Open(Disk& disk, const std::string& path) {
    const int handle = disk.Open(path, O_RDWR | O_CREAT, 0644);
    if (handle < 0) return ErrnoStatus(-handle, path);
    LineFile file(disk, path, handle);
    const int64_t size = disk.Size(handle);
    if (size < 0) return ErrnoStatus(static_cast<int>(-size), path);
    char chunk[1 << 14];
    for (file.end_ = size; file.end_ > 0;) {
      const int64_t begin = std::max<int64_t>(0, file.end_ - static_cast<int64_t>(sizeof(chunk)));
      const int64_t got = disk.Read(handle, chunk, file.end_ - begin, begin);
      if (got != file.end_ - begin) return ErrnoStatus(got < 0 ? static_cast<int>(-got) : EIO, path);
      const size_t last = std::string_view(chunk, static_cast<size_t>(got)).rfind('\n');
      file.end_ = last == std::string_view::npos ? begin : begin + static_cast<int64_t>(last) + 1;
      if (last != std::string_view::npos) break;
    }
    if (file.end_ != size) {
      if (const int cut = disk.Truncate(handle, file.end_); cut < 0) return ErrnoStatus(-cut, path);
    }
    return file;
  }
  LineFile(LineFile&& other) noexcept : disk_(other.disk_), path_(std::move(other.path_)), file_(std::exchange(other.file_, -1)), end_(other.end_) {}
  ~LineFile() {
    if (file_ >= 0) disk_.Close(file_);
  }

  absl::Status Append(std::string line) {
    line += '\n';
    if (absl::Status written = WriteAll(disk_, file_, line, end_, path_); !written.ok()) {
      disk_.Truncate(file_, end_);  // half a line would be glued to the next one
      return written;
    }
    end_ += static_cast<int64_t>(line.size());
    return absl::OkStatus();
  }
  absl::Status Sync() {
    if (const int synced = disk_.Sync(file_); synced < 0) return ErrnoStatus(-synced, path_);
    return SyncFolderOf(path_, disk_);
  }

 private:
  LineFile(Disk& disk, std::string path, int file) : disk_(disk), path_(std::move(path)), file_(file) {}
  Disk& disk_;
  std::string path_;
  int file_;
  int64_t end_ = 0;
};

class FileRunRecordWriter : public RunRecordWriter {
 public:
  FileRunRecordWriter(Disk& disk, std::string directory, LineFile rounds_file, LineFile attempts_file, std::vector<RoundRecord> rounds)
      : disk_(disk),
        directory_(std::move(directory)),
        rounds_file_(std::move(rounds_file)),
        attempts_file_(std::move(attempts_file)),
        rounds_(std::move(rounds)) {}

  absl::Status WriteRound(const RoundRecord& record) override {
    FEDWATT_RETURN_IF_ERROR(rounds_file_.Append(RoundLine(record)));
    rounds_.push_back(record);
    return absl::OkStatus();
  }
  absl::Status WriteAttempt(const AttemptRecord& record) override {
    if (FEDWATT_PLANTED(lines_lost_on_a_full_disk)) return attempts_file_.Append(internal::AttemptToJson(record));
    attempts_waiting_.push_back(internal::AttemptToJson(record));
    return WriteWaiting();
  }
  absl::Status SyncAttempts() override {
    FEDWATT_RETURN_IF_ERROR(WriteWaiting());
    return FEDWATT_PLANTED(lines_not_flushed) ? absl::OkStatus() : attempts_file_.Sync();
  }
  absl::Status WriteSummary(const RunSummary& summary) override {
    return WriteFileAtomically(directory_ + "/summary.json", internal::SummaryToJson(summary, rounds_), 0644, disk_);
  }
  std::optional<double> best_accuracy() const override { return SumRounds(rounds_).best_accuracy; }
  const std::string& directory() const override { return directory_; }

 private:
  absl::Status WriteWaiting() {
    for (; !attempts_waiting_.empty(); attempts_waiting_.pop_front()) FEDWATT_RETURN_IF_ERROR(attempts_file_.Append(attempts_waiting_.front()));
    return absl::OkStatus();
  }

  Disk& disk_;
  const std::string directory_;
  LineFile rounds_file_;
  LineFile attempts_file_;
  std::deque<std::string> attempts_waiting_;  // that found no space yet
  std::vector<RoundRecord> rounds_;  // of this and earlier starts
};

}  // namespace

std::string AttemptLine(const AttemptRecord& record) { return internal::AttemptToJson(record); }

absl::StatusOr<AttemptRecord> ParseAttemptLine(std::string_view line, const std::string& where) { return internal::AttemptFromJson(line, where); }

std::string RoundLine(const RoundRecord& record) { return internal::RoundToJson(record); }

absl::StatusOr<std::unique_ptr<RunRecordWriter>> RunRecordWriter::Open(const std::string& directory, Disk& disk) {
  FEDWATT_RETURN_IF_ERROR(MakeDirectories(directory, 0755, disk));
  const std::string rounds_path = directory + "/rounds.jsonl";
  FEDWATT_ASSIGN_OR_RETURN(LineFile rounds_file, LineFile::Open(disk, rounds_path));
  FEDWATT_ASSIGN_OR_RETURN(LineFile attempts_file, LineFile::Open(disk, directory + "/clients.jsonl"));
  FEDWATT_ASSIGN_OR_RETURN(std::vector<RoundRecord> rounds, internal::ReadRounds(rounds_path, disk));
  return std::make_unique<FileRunRecordWriter>(disk, directory, std::move(rounds_file), std::move(attempts_file), std::move(rounds));
}

}  // namespace fedwatt

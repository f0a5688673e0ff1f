#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/report/run_record.h"
#include "record_json.h"

namespace fedwatt {
namespace {

// A file that grows by whole lines.
class LineFile {
 public:
  // Creates the file where needed and cuts off a last line without its end, as a killed process leaves it.
  static absl::StatusOr<LineFile> Open(const std::string& path) {
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0) return ErrnoStatus(errno, path);
    LineFile file(path, fd);
    struct stat info;
    if (fstat(fd, &info) != 0) return ErrnoStatus(errno, path);
    char chunk[1 << 14];
    for (off_t end = info.st_size; end > 0;) {
      const off_t begin = std::max<off_t>(0, end - static_cast<off_t>(sizeof(chunk)));
      const ssize_t got = pread(fd, chunk, end - begin, begin);
      if (got != end - begin) return ErrnoStatus(got < 0 ? errno : EIO, path);
      const std::string_view view(chunk, got);
      const size_t last = view.rfind('\n');
      end = last == std::string_view::npos ? begin : begin + static_cast<off_t>(last) + 1;
      if (last == std::string_view::npos && begin > 0) continue;
      if (end != info.st_size && ftruncate(fd, end) != 0) return ErrnoStatus(errno, path);
      break;
    }
    return file;
  }
  LineFile(LineFile&& other) noexcept : path_(std::move(other.path_)), fd_(other.fd_) { other.fd_ = -1; }
  ~LineFile() {
    if (fd_ >= 0) close(fd_);
  }

  absl::Status Append(std::string line) {
    line += '\n';
    size_t done = 0;
    for (std::string_view rest = line; !rest.empty();) {
      const ssize_t written = write(fd_, rest.data(), rest.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) {
        const absl::Status status = ErrnoStatus(errno, path_);
        // Half a line would be glued to the next one.
        if (struct stat now; done > 0 && fstat(fd_, &now) == 0) (void)!ftruncate(fd_, now.st_size - static_cast<off_t>(done));
        return status;
      }
      done += static_cast<size_t>(written);
      rest.remove_prefix(static_cast<size_t>(written));
    }
    return absl::OkStatus();
  }
  absl::Status Sync() { return fdatasync(fd_) == 0 ? absl::OkStatus() : ErrnoStatus(errno, path_); }

 private:
  LineFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  std::string path_;
  int fd_;
};

class FileRunRecordWriter : public RunRecordWriter {
 public:
  FileRunRecordWriter(std::string directory, LineFile rounds_file, LineFile attempts_file, std::vector<RoundRecord> rounds)
      : directory_(std::move(directory)),
        rounds_file_(std::move(rounds_file)),
        attempts_file_(std::move(attempts_file)),
        rounds_(std::move(rounds)) {}

  absl::Status WriteRound(const RoundRecord& record) override {
    FEDWATT_RETURN_IF_ERROR(rounds_file_.Append(RoundLine(record)));
    rounds_.push_back(record);
    return absl::OkStatus();
  }
  absl::Status WriteAttempt(const AttemptRecord& record) override {
    return attempts_file_.Append(internal::AttemptToJson(record));
  }
  absl::Status SyncAttempts() override { return attempts_file_.Sync(); }
  absl::Status WriteSummary(const RunSummary& summary) override {
    return WriteFileAtomically(directory_ + "/summary.json", internal::SummaryToJson(summary, rounds_));
  }
  std::optional<double> best_accuracy() const override { return SumRounds(rounds_).best_accuracy; }
  const std::string& directory() const override { return directory_; }

 private:
  const std::string directory_;
  LineFile rounds_file_;
  LineFile attempts_file_;
  std::vector<RoundRecord> rounds_;  // of this and earlier starts
};

}  // namespace

std::string AttemptLine(const AttemptRecord& record) { return internal::AttemptToJson(record); }

absl::StatusOr<AttemptRecord> ParseAttemptLine(std::string_view line, const std::string& where) { return internal::AttemptFromJson(line, where); }

std::string RoundLine(const RoundRecord& record) { return internal::RoundToJson(record); }

absl::StatusOr<std::unique_ptr<RunRecordWriter>> RunRecordWriter::Open(const std::string& directory) {
  FEDWATT_RETURN_IF_ERROR(MakeDirectories(directory));
  const std::string rounds_path = directory + "/rounds.jsonl";
  FEDWATT_ASSIGN_OR_RETURN(LineFile rounds_file, LineFile::Open(rounds_path));
  FEDWATT_ASSIGN_OR_RETURN(LineFile attempts_file, LineFile::Open(directory + "/clients.jsonl"));
  FEDWATT_ASSIGN_OR_RETURN(std::vector<RoundRecord> rounds, internal::ReadRounds(rounds_path));
  return std::make_unique<FileRunRecordWriter>(directory, std::move(rounds_file), std::move(attempts_file), std::move(rounds));
}

}  // namespace fedwatt

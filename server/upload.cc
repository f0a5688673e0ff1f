#include "upload.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "fedwatt/base/failpoint.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/planted.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt::internal {

Upload::~Upload() {
  absl::MutexLock lock(&mutex_);
  if (file_ < 0) return;
  disk_.Close(file_);
  if (!keep_) disk_.Remove(path_);
}

std::string Upload::NameIn(std::string_view file_name) {
  const std::vector<std::string> parts = absl::StrSplit(absl::string_view(file_name.data(), file_name.size()), '.');
  return parts.size() == 4 && parts[3] == "part" ? parts[0] : "";
}

void Upload::Resume(const std::string& file_name) {
  absl::MutexLock lock(&mutex_);
  const std::string path = absl::StrCat(std::filesystem::path(stem_).parent_path().string(), "/", file_name);
  const std::vector<std::string> parts = absl::StrSplit(file_name, '.');
  int64_t total = 0;
  if (parts.size() != 4 || !absl::SimpleAtoi(parts[1], &total) || total < 1 || total > max_bytes_) return;
  absl::StatusOr<Digest> announced = Digest::FromHex(parts[2]);
  if (!announced.ok()) return;
  if (!FEDWATT_PLANTED(upload_not_flushed_anew) && !FlushAnew(path, disk_).ok()) return;
  const int file = disk_.Open(path, O_RDWR);
  if (file < 0) return;
  path_ = path;
  file_ = file;
  announced_ = *announced;
  total_bytes_ = total;
  char buffer[1 << 16];
  while (received_bytes_ < total_bytes_) {
    const int64_t got = disk_.Read(file_, buffer, std::min<int64_t>(sizeof(buffer), total_bytes_ - received_bytes_), received_bytes_);
    if (got <= 0) break;  // what cannot be read is sent again
    sha256_.Update({buffer, static_cast<size_t>(got)});
    received_bytes_ += got;
  }
  if (received_bytes_ == total_bytes_) CheckWhole().IgnoreError();
}

void Upload::Keep() {
  absl::MutexLock lock(&mutex_);
  keep_ = true;
}

absl::Status Upload::CheckWhole() {
  if (sha256_.Finish() != *announced_ && !FEDWATT_PLANTED(upload_not_compared)) {
    ++damage_count_;
    Forget();
    return WithRejection(absl::DataLossError("upload: the SHA-256 of the whole is not the one announced; send it again"),
                         Rejection::kDigestMismatch);
  }
  whole_ = true;
  return absl::OkStatus();
}

absl::Status Upload::ClosedStatus() const {
  return WithRejection(absl::AbortedError(absl::StrCat("upload: the attempt is closed: ", std::string(RejectionName(*closed_)))), *closed_);
}

void Upload::Forget() {
  received_bytes_ = 0;
  whole_ = false;
  sha256_ = Sha256Stream();
}

absl::StatusOr<int64_t> Upload::Open(int64_t total_bytes, std::string_view sha256, int64_t offset) {
  absl::MutexLock lock(&mutex_);
  if (closed_.has_value()) return ClosedStatus();
  FEDWATT_ASSIGN_OR_RETURN(Digest digest, Digest::FromRaw(sha256));
  if (total_bytes < 1) return absl::InvalidArgumentError(absl::StrCat("upload: total_bytes: expected at least 1, got ", total_bytes));
  if (total_bytes > max_bytes_) {
    return WithRejection(absl::ResourceExhaustedError(absl::StrCat("upload: ", total_bytes, " bytes announced, the plan allows ", max_bytes_)),
                         Rejection::kOversize);
  }
  if (announced_.has_value() && (*announced_ != digest || total_bytes_ != total_bytes)) {
    return absl::FailedPreconditionError(
        absl::StrCat("upload: this attempt announced ", total_bytes_, " bytes of another digest before, now ", total_bytes));
  }
  if (offset != received_bytes_) {
    return absl::FailedPreconditionError(absl::StrCat("upload: starts at ", offset, ", expected ", received_bytes_));
  }
  if (file_ < 0) {
    path_ = absl::StrCat(stem_, ".", total_bytes, ".", digest.Hex(), ".part");
    file_ = disk_.Open(path_, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (file_ < 0) return ErrnoStatus(-file_, absl::StrCat("creating ", path_));
  }
  announced_ = digest;
  total_bytes_ = total_bytes;
  Failpoint("upload_opened");
  return ++stream_;
}

absl::Status Upload::Append(int64_t stream, int64_t offset, std::string_view data, int64_t crc32c) {
  absl::MutexLock lock(&mutex_);
  if (closed_.has_value()) return ClosedStatus();
  if (stream != stream_) return absl::AbortedError("upload: a newer stream of this attempt took the place of this one");
  if (data.empty() || static_cast<int64_t>(data.size()) > kMaxChunkBytes) {
    return absl::InvalidArgumentError(absl::StrCat("upload: a chunk of ", data.size(), " bytes, expected 1 to ", kMaxChunkBytes));
  }
  if (offset != received_bytes_) {
    return absl::FailedPreconditionError(absl::StrCat("upload: chunk at ", offset, ", expected ", received_bytes_));
  }
  if (static_cast<int64_t>(data.size()) > total_bytes_ - received_bytes_) {
    return WithRejection(absl::ResourceExhaustedError(absl::StrCat("upload: more than the ", total_bytes_, " bytes announced")),
                         Rejection::kOversize);
  }
  if (static_cast<int64_t>(Crc32c(data)) != crc32c) {
    ++damage_count_;
    return WithRejection(absl::DataLossError(absl::StrCat("upload: wrong CRC32C of the chunk at ", offset)), Rejection::kDigestMismatch);
  }
  if (int error = Failpoint("upload_write")) return ErrnoStatus(error, absl::StrCat("writing ", path_));
  FEDWATT_RETURN_IF_ERROR(WriteAll(disk_, file_, data, offset, path_));
  Failpoint("upload_chunk_written");
  sha256_.Update(data);
  received_bytes_ += static_cast<int64_t>(data.size());
  if (received_bytes_ < total_bytes_) return absl::OkStatus();
  Failpoint("upload_hashing");
  return CheckWhole();
}

void Upload::Close(Rejection reason) {
  absl::MutexLock lock(&mutex_);
  if (!closed_.has_value()) closed_ = reason;
  // A stream that is still open, and perhaps silent, must not hold the disk and the descriptor until it ends.
  if (file_ >= 0) {
    disk_.Close(file_);
    file_ = -1;
    if (!keep_) disk_.Remove(path_);
  }
}

int64_t Upload::received_bytes() const {
  absl::MutexLock lock(&mutex_);
  return received_bytes_;
}

bool Upload::whole() const {
  absl::MutexLock lock(&mutex_);
  return whole_;
}

int64_t Upload::damage_count() const {
  absl::MutexLock lock(&mutex_);
  return damage_count_;
}

Digest Upload::digest() const {
  absl::MutexLock lock(&mutex_);
  FEDWATT_CHECK(whole_);
  return *announced_;
}

std::optional<Digest> Upload::announced_digest() const {
  absl::MutexLock lock(&mutex_);
  return announced_;
}

std::string Upload::path() const {
  absl::MutexLock lock(&mutex_);
  return path_;
}

int64_t Upload::total_bytes() const {
  absl::MutexLock lock(&mutex_);
  return total_bytes_;
}

}  // namespace fedwatt::internal

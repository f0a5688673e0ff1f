#include "fedwatt/base/hash_chain.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt {
namespace {

constexpr size_t kHexDigits = 64;
constexpr int64_t kMostBytes = int64_t{1} << 32;

}  // namespace

ChainHead NextHead(const ChainHead& last, std::string_view payload) {
  return {last.sequence + 1, last.head, Sha256(absl::StrCat(last.head.Hex(), std::string(payload)))};
}

absl::StatusOr<std::vector<ChainEntry>> ReadHashChain(std::string_view text, const std::string& where) {
  std::vector<ChainEntry> entries;
  ChainHead head;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const auto damaged = [&](std::string_view what) {
      return absl::DataLossError(absl::StrCat(where, ": record ", head.sequence + 1, ": ", std::string(what)));
    };
    if (end == std::string_view::npos) return damaged("no end of line");
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    if (line.size() < kHexDigits + 2 || line[kHexDigits] != ' ') return damaged("expected a hash of 64 digits, a space and a record");
    const std::string_view payload = line.substr(kHexDigits + 1);
    const ChainHead next = NextHead(head, payload);
    if (next.head.Hex() != line.substr(0, kHexDigits)) return damaged("its hash does not fit it and what stands before it");
    entries.push_back({next, std::string(payload)});
    head = next;
  }
  return entries;
}

absl::StatusOr<std::unique_ptr<HashChainFile>> HashChainFile::Open(const std::string& path) {
  std::string text;
  if (absl::StatusOr<std::string> read = ReadFile(path, kMostBytes); read.ok()) {
    text = *std::move(read);
  } else if (!absl::IsNotFound(read.status())) {
    return read.status();
  }
  const size_t whole = text.rfind('\n') == std::string::npos ? 0 : text.rfind('\n') + 1;
  FEDWATT_ASSIGN_OR_RETURN(const std::vector<ChainEntry> entries, ReadHashChain(std::string_view(text).substr(0, whole), path));
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) return ErrnoStatus(errno, path);
  std::unique_ptr<HashChainFile> file(
      new HashChainFile(path, fd, static_cast<int64_t>(whole), entries.empty() ? ChainHead{} : entries.back().position));
  if (whole != text.size() && ftruncate(fd, static_cast<off_t>(whole)) != 0) return ErrnoStatus(errno, path);
  return file;
}

HashChainFile::~HashChainFile() { close(fd_); }

absl::StatusOr<ChainHead> HashChainFile::Append(std::string_view payload, bool durable) {
  const ChainHead next = NextHead(head_, payload);
  const std::string line = absl::StrCat(next.head.Hex(), " ", std::string(payload), "\n");
  absl::Status written = WriteAll(RealDisk(), fd_, line, size_, path_);
  if (written.ok() && durable && fdatasync(fd_) != 0) written = ErrnoStatus(errno, path_);
  if (!written.ok()) {
    // Half a line must not stand before the next one.
    (void)!ftruncate(fd_, static_cast<off_t>(size_));
    return written;
  }
  size_ += static_cast<int64_t>(line.size());
  head_ = next;
  return next;
}

}  // namespace fedwatt

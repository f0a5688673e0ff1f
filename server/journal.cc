#include "journal.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "fedwatt/base/digest.h"
#include "fedwatt/base/failpoint.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/planted.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt::internal {
namespace {

constexpr uint32_t kMagic = 0x324a5746;  // "FWJ2"
constexpr int64_t kAlign = 8;
constexpr int64_t kSectorBytes = 512;

struct Head {
  uint32_t magic = kMagic;
  uint32_t message_bytes = 0, body_bytes = 0;
  uint32_t crc32c = 0;  // of message and body
  int64_t sequence = 0, round = 0;
  uint32_t place = 0;        // among the records of its flush, from 0
  uint32_t head_crc32c = 0;  // of all before
};
static_assert(sizeof(Head) == 40);

uint32_t HeadCrc(const Head& head) { return Crc32c({reinterpret_cast<const char*>(&head), offsetof(Head, head_crc32c)}); }

int64_t Padded(int64_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }
int64_t RecordBytes(const Head& head) { return Padded(static_cast<int64_t>(sizeof(Head)) + head.message_bytes + head.body_bytes); }

void AppendRecord(int64_t sequence, int64_t round, uint32_t place, std::string_view message, std::string_view body, std::string& out) {
  Head head;
  head.message_bytes = static_cast<uint32_t>(message.size());
  head.body_bytes = static_cast<uint32_t>(body.size());
  head.sequence = sequence;
  head.round = round;
  head.place = place;
  head.crc32c = Crc32c(body, Crc32c(message));
  head.head_crc32c = HeadCrc(head);
  const size_t begin = out.size();
  out.append(reinterpret_cast<const char*>(&head), sizeof(head));
  out.append(message);
  out.append(body);
  out.append(static_cast<size_t>(RecordBytes(head)) - (out.size() - begin), '\0');
}

// Reads a head; false where none is there.
bool ReadHead(std::string_view file, int64_t offset, int64_t round, Head& head) {
  if (static_cast<int64_t>(file.size()) - offset < static_cast<int64_t>(sizeof(Head))) return false;
  std::memcpy(&head, file.data() + offset, sizeof(Head));
  return head.magic == kMagic && head.round == round && head.message_bytes <= Journal::kMaxMessageBytes && head.body_bytes <= Journal::kMaxBodyBytes &&
         head.head_crc32c == HeadCrc(head);
}

// Reads the head of a record that is there in whole and verifies.
bool ReadRecord(std::string_view file, int64_t offset, int64_t round, Head& head) {
  if (!ReadHead(file, offset, round, head) || RecordBytes(head) > static_cast<int64_t>(file.size()) - offset) return false;
  return Crc32c(file.substr(static_cast<size_t>(offset) + sizeof(Head), size_t{head.message_bytes} + head.body_bytes)) == head.crc32c;
}

// Whether some sector of [from, end) is empty: what was never written reads as zeros. Of the first sector only what begins at `from` counts, since a record begins there.
bool HasEmptySector(std::string_view file, int64_t from, int64_t end) {
  for (int64_t at = from, next; at < end; at = next) {
    next = std::min(at / kSectorBytes * kSectorBytes + kSectorBytes, end);
    const std::string_view sector = file.substr(static_cast<size_t>(at), static_cast<size_t>(next - at));
    if (std::all_of(sector.begin(), sector.end(), [](char c) { return c == 0; })) return true;
  }
  return false;
}

absl::Status WritePiece(Disk& disk, int file, std::string_view data, int64_t offset, const std::string& path) {
  if (int error = Failpoint("journal_write")) return ErrnoStatus(error, absl::StrCat("writing ", path));
  return WriteAll(disk, file, data, offset, path);
}

// After a failed flush nobody knows what is on disk: trying again may succeed because the kernel has dropped the bytes.
absl::Status Fatal(int error, const std::string& path) { return absl::DataLossError(absl::StrCat("flushing ", path, ": ", std::strerror(error))); }

absl::Status SyncFile(Disk& disk, const std::string& path) {
  const int file = disk.Open(path, O_RDWR);
  if (file < 0) return ErrnoStatus(-file, absl::StrCat("opening ", path));
  int error = Failpoint("update_sync");
  if (error == 0 && !FEDWATT_PLANTED(update_not_flushed)) error = -disk.Sync(file);
  disk.Close(file);
  return error == 0 ? absl::OkStatus() : Fatal(error, path);
}

}  // namespace

absl::StatusOr<Journal::Opened> Journal::Open(Options options) {
  Opened opened;
  opened.journal.reset(new Journal(std::move(options)));
  Journal& journal = *opened.journal;
  FEDWATT_ASSIGN_OR_RETURN(opened.records, journal.ReadBack(&opened.torn_bytes));
  if (!journal.options_.background) journal.thread_ = std::jthread([&journal] { journal.Work(); });
  return opened;
}

Journal::~Journal() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_ = std::jthread();
  if (file_ >= 0) disk_.Close(file_);
}

absl::StatusOr<std::vector<Journal::Record>> Journal::ReadBack(int64_t* torn_bytes) {
  std::vector<Record> records;
  const std::string& path = options_.path;
  file_ = disk_.Open(path, O_RDWR);
  if (file_ == -ENOENT) return records;
  if (file_ < 0) return ErrnoStatus(-file_, absl::StrCat("opening ", path));
  const int64_t size = disk_.Size(file_);
  if (size < 0) return ErrnoStatus(static_cast<int>(-size), absl::StrCat("reading ", path));
  if (size == 0) return records;
  const char* mapped = disk_.Map(file_, size);
  if (mapped == nullptr) return absl::UnavailableError(absl::StrCat("mapping ", path));
  absl::Cleanup unmap = [&] { disk_.Unmap(mapped, size); };
  const std::string_view file(mapped, static_cast<size_t>(size));
  const auto damaged = [&](int64_t offset) {
    return absl::DataLossError(absl::StrCat(path, " is damaged at offset ", offset, ": restore it, or remove it and round ", options_.round, " begins anew with the same model"));
  };
  Head head;
  while (end_ < static_cast<int64_t>(file.size())) {
    if (ReadRecord(file, end_, options_.round, head) && head.sequence == next_sequence_) {
      const int64_t message = end_ + static_cast<int64_t>(sizeof(Head)), body = message + head.message_bytes;
      records.push_back({std::string(file.substr(static_cast<size_t>(message), head.message_bytes)), {path, body, head.body_bytes}});
      end_ += RecordBytes(head);
      ++next_sequence_;
      continue;
    }
    // A good record behind it says that this one was flushed, unless both were to be flushed together: their sectors reach the disk in any order.
    int64_t good = end_ + kAlign;
    while (good < static_cast<int64_t>(file.size()) && !ReadRecord(file, good, options_.round, head)) good += kAlign;
    const int64_t until = std::min(good, static_cast<int64_t>(file.size()));
    if (good < static_cast<int64_t>(file.size()) && head.sequence - head.place > next_sequence_ && !FEDWATT_PLANTED(damage_taken_for_torn)) return damaged(end_);
    const int64_t left = static_cast<int64_t>(file.size()) - end_;
    const bool cut_short = left < static_cast<int64_t>(sizeof(Head)) || (ReadHead(file, end_, options_.round, head) && RecordBytes(head) > left);
    if (!cut_short && !HasEmptySector(file, end_, until) && !FEDWATT_PLANTED(damage_taken_for_torn)) return damaged(end_);
    *torn_bytes = left;
    int cut = disk_.Truncate(file_, end_);
    if (cut == 0) cut = disk_.Sync(file_);
    if (cut < 0) return ErrnoStatus(-cut, absl::StrCat("cutting the torn end of ", path));
    break;
  }
  if (FEDWATT_PLANTED(last_record_skipped) && !records.empty()) records.pop_back();
  if (FEDWATT_PLANTED(sequence_starts_again)) next_sequence_ = 1;
  if (!FEDWATT_PLANTED(failed_flush_forgotten)) FEDWATT_RETURN_IF_ERROR(FlushAnew(path, disk_));
  return records;
}

void Journal::Append(Entry entry) {
  FEDWATT_CHECK(static_cast<int64_t>(entry.message.size()) <= kMaxMessageBytes && static_cast<int64_t>(entry.body.size()) <= kMaxBodyBytes);
  {
    absl::MutexLock lock(&mutex_);
    waiting_.push_back(std::move(entry));
  }
  if (options_.background && !std::exchange(pass_due_, true)) PassSoon(absl::ZeroDuration());
}

void Journal::PassSoon(absl::Duration after) {
  options_.background(after, [this, alive = std::weak_ptr<const bool>(alive_)] {
    if (alive.expired() || failed_) return;
    if (under_way_.empty()) {
      absl::MutexLock lock(&mutex_);
      TakeWaiting(under_way_);
    }
    const Pass pass = WriteOnce(under_way_);
    if (alive.expired()) return;
    failed_ = pass == Pass::kFailed;
    if (pass == Pass::kFull) return PassSoon(options_.retry_after);
    under_way_.clear();
    absl::MutexLock lock(&mutex_);
    pass_due_ = !waiting_.empty();
    if (pass_due_) PassSoon(absl::ZeroDuration());
  });
}

void Journal::TakeWaiting(std::vector<Entry>& entries) {
  if (options_.group) {
    entries.swap(waiting_);
  } else {
    entries.push_back(std::move(waiting_.front()));
    waiting_.erase(waiting_.begin());
  }
}

void Journal::Work() {
  auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_ || !waiting_.empty(); };
  auto stopping = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_; };
  for (;;) {
    std::vector<Entry> entries;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&ready));
      if (stopping_) return;
      TakeWaiting(entries);
    }
    Pass pass;
    while ((pass = WriteOnce(entries)) == Pass::kFull) {
      absl::MutexLock lock(&mutex_);
      if (mutex_.AwaitWithTimeout(absl::Condition(&stopping), options_.retry_after)) return;
    }
    if (pass == Pass::kFailed) return;
  }
}

Journal::Pass Journal::WriteOnce(std::vector<Entry>& entries) {
  if (FEDWATT_PLANTED(acknowledged_before_written)) {
    for (Entry& entry : entries) {
      if (auto durable = std::exchange(entry.durable, nullptr)) durable();
    }
  }
  if (const absl::Status written = Write(entries); absl::IsResourceExhausted(written)) {
    if (!full_.exchange(true) && options_.on_full) options_.on_full(true);
    return Pass::kFull;
  } else if (!written.ok()) {
    if (options_.on_failure) options_.on_failure(written);
    return Pass::kFailed;
  }
  if (full_.exchange(false) && options_.on_full) options_.on_full(false);
  Failpoint("journal_synced");
  for (Entry& entry : entries) {
    if (entry.durable) entry.durable();
  }
  return Pass::kDone;
}

absl::Status Journal::Write(const std::vector<Entry>& entries) {
  const std::string& path = options_.path;
  std::string folder_of;
  for (const Entry& entry : entries) {
    if (entry.file.empty()) continue;
    FEDWATT_RETURN_IF_ERROR(SyncFile(disk_, entry.file));
    Failpoint("update_synced");
    folder_of = entry.file;
  }
  if (!folder_of.empty()) {
    if (absl::Status synced = FEDWATT_PLANTED(update_folder_not_flushed) ? absl::OkStatus() : SyncFolderOf(folder_of, disk_); !synced.ok()) return absl::DataLossError(synced.message());
    Failpoint("update_folder_synced");
  }
  if (file_ < 0) {
    file_ = disk_.Open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file_ < 0) return ErrnoStatus(-file_, absl::StrCat("creating ", path));
  }
  std::string bytes;
  int64_t sequence = next_sequence_;
  for (const Entry& entry : entries) {
    AppendRecord(sequence, options_.round, FEDWATT_PLANTED(flush_not_marked) ? 0 : static_cast<uint32_t>(sequence - next_sequence_), entry.message, entry.body, bytes);
    ++sequence;
  }
  const std::string_view half = std::string_view(bytes).substr(0, bytes.size() / 2);
  absl::Status written = WritePiece(disk_, file_, half, end_, path);
  if (written.ok()) {
    Failpoint("journal_half_written");
    written = WritePiece(disk_, file_, std::string_view(bytes).substr(half.size()), end_ + static_cast<int64_t>(half.size()), path);
  }
  if (!written.ok()) {
    disk_.Truncate(file_, end_);  // what it leaves is a torn tail
    return written;
  }
  Failpoint("journal_appended");
  int error = Failpoint("journal_sync");
  if (error == 0 && !FEDWATT_PLANTED(journal_not_flushed)) error = -disk_.Sync(file_);
  if (FEDWATT_PLANTED(failed_flush_ignored)) error = 0;
  if (error != 0) return Fatal(error, path);
  if (end_ == 0 && !FEDWATT_PLANTED(journal_folder_not_flushed)) {
    if (absl::Status synced = SyncFolderOf(path, disk_); !synced.ok()) return absl::DataLossError(synced.message());
  }
  if (!FEDWATT_PLANTED(journal_overwritten)) end_ += static_cast<int64_t>(bytes.size());
  next_sequence_ = sequence;
  return absl::OkStatus();
}

}  // namespace fedwatt::internal

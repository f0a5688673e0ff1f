#include "fedwatt/rpc/audit_log.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/base/text.h"

namespace fedwatt {
namespace {

constexpr size_t kMaxKinds = 256;
constexpr double kBurstLines = 256;
constexpr double kLinesAnHour = 240;
constexpr size_t kMaxTextBytes = 256;
constexpr absl::Duration kWindow = absl::Minutes(1);

std::string Time(absl::Time time) { return absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", time, absl::UTCTimeZone()); }

std::string Clean(std::string_view text) { return OneLine(TruncateUtf8(text, kMaxTextBytes)); }

}  // namespace

absl::StatusOr<std::unique_ptr<AuditLog>> AuditLog::Open(const std::string& path, const Clock* clock, LogSink log, int64_t full_bytes) {
  FEDWATT_ASSIGN_OR_RETURN(std::unique_ptr<HashChainFile> file, HashChainFile::Open(path));
  if (file->size_bytes() >= full_bytes) {
    Log(log, LogLevel::kWarning, absl::StrCat(path, " is full: refusals are counted once an hour; move it away before the next start to have them listed again"));
  }
  return std::unique_ptr<AuditLog>(new AuditLog(std::move(file), clock, std::move(log), full_bytes));
}

AuditLog::~AuditLog() {
  absl::MutexLock lock(&mutex_);
  WriteCounts(clock_->Now(), /*all=*/true);
}

void AuditLog::Action(const AuditEvent& event) {
  absl::MutexLock lock(&mutex_);
  Write(clock_->Now(), event, nullptr, /*durable=*/true);
}

void AuditLog::Refusal(const AuditEvent& event) {
  absl::MutexLock lock(&mutex_);
  const absl::Time now = clock_->Now();
  WriteCounts(now, /*all=*/false);
  const Kind kind{Clean(event.reason), Clean(event.method), Clean(event.role), Clean(event.name), Clean(event.address)};
  if (auto known = kinds_.find(kind); known != kinds_.end()) {
    Count& count = known->second;
    if (count.repeats++ == 0) count.first = now;
    count.last = now;
  } else if (kinds_.size() < kMaxKinds && TakeLine(now)) {
    kinds_[kind].opened = now;
    Write(now, event, nullptr, /*durable=*/false);
  } else {
    CountOther(now, now, 1);
  }
}

void AuditLog::Tick() {
  absl::MutexLock lock(&mutex_);
  WriteCounts(clock_->Now(), /*all=*/false);
}

ChainHead AuditLog::head() const {
  absl::MutexLock lock(&mutex_);
  return file_->head();
}

bool AuditLog::TakeLine(absl::Time now) {
  if (file_->size_bytes() >= full_bytes_) return false;
  if (now > lines_at_ && lines_at_ != absl::InfinitePast()) {
    lines_ = std::min(kBurstLines, lines_ + kLinesAnHour * absl::FDivDuration(now - lines_at_, absl::Hours(1)));
  }
  lines_at_ = now;
  if (lines_ < 1) return false;
  --lines_;
  return true;
}

void AuditLog::CountOther(absl::Time first, absl::Time last, int64_t refusals) {
  if (others_.repeats == 0) {
    others_.first = first;
    if (others_.opened == absl::Time()) others_.opened = first;
  }
  others_.first = std::min(others_.first, first);
  others_.last = std::max(others_.last, last);
  others_.repeats += refusals;
}

void AuditLog::WriteCounts(absl::Time now, bool all) {
  for (auto kind = kinds_.begin(); kind != kinds_.end();) {
    const Count& count = kind->second;
    // A clock that was set back must not keep a window open.
    if (!all && now - count.opened < kWindow && now >= count.opened) {
      ++kind;
      continue;
    }
    if (count.repeats > 0) {
      if (TakeLine(now)) {
        const auto& [reason, method, role, name, address] = kind->first;
        Write(now, {"refused", reason, method, role, name, address, ""}, &count, /*durable=*/false);
      } else {
        CountOther(count.first, count.last, count.repeats);
      }
    }
    kind = kinds_.erase(kind);
  }
  const absl::Duration pause = file_->size_bytes() >= full_bytes_ ? absl::Hours(1) : kWindow;
  if (others_.repeats > 0 && (all || now - others_.opened >= pause || now < others_.opened)) {
    Write(now, {"refused", "various", "", "", "", "", ""}, &others_, /*durable=*/false);
    others_ = Count{.opened = now};
  }
}

void AuditLog::Write(absl::Time now, const AuditEvent& event, const Count* count, bool durable) {
  nlohmann::ordered_json line = {{"time", Time(now)}, {"event", event.event}};
  const auto add = [&line](const char* key, const std::string& text) {
    if (!text.empty()) line[key] = Clean(text);
  };
  add("reason", event.reason);
  add("method", event.method);
  add("role", event.role);
  add("name", event.name);
  add("address", event.address);
  add("detail", event.detail);
  if (count != nullptr) {
    line["repeats"] = count->repeats;
    line["since"] = Time(count->first);
    line["until"] = Time(count->last);
  }
  if (lost_ > 0) line["lost"] = lost_;
  const std::string payload = line.dump(-1, ' ', /*ensure_ascii=*/true, nlohmann::ordered_json::error_handler_t::replace);
  if (absl::StatusOr<ChainHead> head = file_->Append(payload, durable); head.ok()) {
    lost_ = 0;
  } else {
    if (lost_ == 0) Log(log_, LogLevel::kError, absl::StrCat("audit log: ", std::string(head.status().message()), "; decisions stand, lines are lost until it takes them again"));
    lost_ += count == nullptr ? 1 : count->repeats;
  }
}

}  // namespace fedwatt

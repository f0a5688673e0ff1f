#include "fedwatt/energy/ledger.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kHexDigits = 64;
constexpr int64_t kMostBytes = int64_t{1} << 32;

template <typename T>
Json OrNull(const std::optional<T>& value) {
  if (!value) return nullptr;
  if constexpr (std::is_same_v<T, Energy>)
    return value->microjoules();
  else if constexpr (std::is_same_v<T, CarbonMass>)
    return value->micrograms();
  else
    return *value;
}

Json SpansToJson(const std::vector<PhaseSpan>& spans) {
  Json array = Json::array();
  for (const PhaseSpan& span : spans) {
    Json json = {{"phase", std::string(PhaseName(span.phase))},
                 {"wall_us", absl::ToInt64Microseconds(span.wall)},
                 {"cpu_us", absl::ToInt64Microseconds(span.cpu)},
                 {"energy_uj", OrNull(span.energy.energy)},
                 {"low_uj", OrNull(span.energy.low)},
                 {"high_uj", OrNull(span.energy.high)},
                 {"tier", std::string(EnergyTierName(span.energy.tier))},
                 {"source", span.energy.source},
                 {"domain", span.energy.domain}};
    // Not there in ledgers of before, whose hashes must stay what they are.
    if (span.energy.gross) json["gross_uj"] = OrNull(span.energy.gross);
    if (span.energy.idle) json["idle_uj"] = OrNull(span.energy.idle);
    array.push_back(std::move(json));
  }
  return array;
}

absl::Status WriteWhole(int fd, std::string_view data, const std::string& path) {
  while (!data.empty()) {
    const ssize_t written = write(fd, data.data(), data.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return ErrnoStatus(errno, path);
    data.remove_prefix(static_cast<size_t>(written));
  }
  return fdatasync(fd) == 0 ? absl::OkStatus() : ErrnoStatus(errno, path);
}

}  // namespace

std::string LedgerPayload(const LedgerRecord& record) {
  const Json phases = SpansToJson(record.phases);
  Json json = {{"run", record.run_id},
                     {"round", record.round},
                     {"client", record.client},
                     {"attempt", record.attempt},
                     {"outcome", record.outcome},
                     {"finished_us", absl::ToUnixMicros(record.finished)},
                     {"examples", OrNull(record.example_count)},
                     {"uplink_payload_bytes", record.uplink_payload_bytes},
                     {"downlink_payload_bytes", record.downlink_payload_bytes},
                     {"uplink_wire_bytes", OrNull(record.uplink_wire_bytes)},
                     {"downlink_wire_bytes", OrNull(record.downlink_wire_bytes)},
                     {"operational_ug", OrNull(record.operational)},
                     {"embodied_ug", OrNull(record.embodied)},
                     {"phases", phases}};
  if (!record.between.empty()) json["between"] = SpansToJson(record.between);
  return json.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
}

LedgerHead NextHead(const LedgerHead& last, std::string_view payload) {
  return {last.sequence + 1, last.head, Sha256(absl::StrCat(last.head.Hex(), std::string(payload)))};
}

absl::StatusOr<std::vector<LedgerEntry>> ReadLedger(std::string_view text, const std::string& where) {
  std::vector<LedgerEntry> entries;
  LedgerHead head;
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
    const LedgerHead next = NextHead(head, payload);
    if (next.head.Hex() != line.substr(0, kHexDigits)) return damaged("its hash does not fit it and what stands before it");
    const Json json = Json::parse(payload.begin(), payload.end(), nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || !json.contains("attempt") || !json["attempt"].is_string()) return damaged("no record");
    entries.push_back({next, std::string(payload), json["attempt"].get<std::string>()});
    head = next;
  }
  return entries;
}

absl::StatusOr<std::unique_ptr<Ledger>> Ledger::Open(const std::string& path) {
  std::string text;
  if (absl::StatusOr<std::string> read = ReadFile(path, kMostBytes); read.ok()) {
    text = *std::move(read);
  } else if (!absl::IsNotFound(read.status())) {
    return read.status();
  }
  const size_t whole = text.rfind('\n') == std::string::npos ? 0 : text.rfind('\n') + 1;
  FEDWATT_ASSIGN_OR_RETURN(const std::vector<LedgerEntry> entries, ReadLedger(std::string_view(text).substr(0, whole), path));
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) return ErrnoStatus(errno, path);
  std::unique_ptr<Ledger> ledger(new Ledger(path, fd, static_cast<int64_t>(whole), entries.empty() ? LedgerHead{} : entries.back().position));
  if (whole != text.size() && ftruncate(fd, static_cast<off_t>(whole)) != 0) return ErrnoStatus(errno, path);
  return ledger;
}

Ledger::~Ledger() { close(fd_); }

absl::StatusOr<LedgerHead> Ledger::Append(const LedgerRecord& record) {
  const std::string payload = LedgerPayload(record);
  const LedgerHead next = NextHead(head_, payload);
  const std::string line = absl::StrCat(next.head.Hex(), " ", payload, "\n");
  if (absl::Status written = WriteWhole(fd_, line, path_); !written.ok()) {
    // Half a line must not stand before the next one.
    (void)!ftruncate(fd_, static_cast<off_t>(size_));
    return written;
  }
  size_ += static_cast<int64_t>(line.size());
  head_ = next;
  return next;
}

}  // namespace fedwatt

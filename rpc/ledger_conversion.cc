#include "fedwatt/rpc/ledger_conversion.h"

#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/rpc/conversion.h"

namespace fedwatt {

absl::StatusOr<LedgerRecord> LedgerRecordOf(const v1::ReportRequest& report, const std::string& run_id, const std::string& pseudonym, int64_t round) {
  LedgerRecord record;
  record.run_id = run_id;
  record.attempt = report.attempt_id();
  record.client = pseudonym;
  record.round = round;
  record.outcome = report.has_completed() ? "completed" : report.has_failed() ? "failed" : report.has_withdrawn() ? "withdrawn" : "cancelled";
  record.finished = absl::FromUnixMicros(report.ledger().finished_us());
  FEDWATT_ASSIGN_OR_RETURN(record.phases, FromProto(report.phases()));
  FEDWATT_ASSIGN_OR_RETURN(record.between, FromProto(report.between()));
  if (report.has_completed()) record.example_count = report.completed().example_count();
  record.uplink_payload_bytes = report.transfer().uplink_payload_bytes();
  record.downlink_payload_bytes = report.transfer().downlink_payload_bytes();
  if (report.transfer().has_uplink_wire_bytes()) record.uplink_wire_bytes = report.transfer().uplink_wire_bytes();
  if (report.transfer().has_downlink_wire_bytes()) record.downlink_wire_bytes = report.transfer().downlink_wire_bytes();
  const v1::LedgerAnchor& anchor = report.ledger();
  if (anchor.operational_ug() < 0 || anchor.embodied_ug() < 0) return absl::InvalidArgumentError("ledger: grams: expected at least 0");
  if (anchor.has_operational_ug()) record.operational = Micrograms(anchor.operational_ug());
  if (anchor.has_embodied_ug()) record.embodied = Micrograms(anchor.embodied_ug());
  return record;
}

void SetPosition(const LedgerHead& position, v1::LedgerAnchor* anchor) {
  anchor->set_sequence(position.sequence);
  anchor->set_previous_head(position.previous.Raw());
  anchor->set_head(position.head.Raw());
}

absl::StatusOr<LedgerHead> PositionOf(const v1::LedgerAnchor& anchor) {
  LedgerHead position;
  position.sequence = anchor.sequence();
  if (position.sequence < 1) return absl::InvalidArgumentError(absl::StrCat("ledger.sequence: expected at least 1, got ", position.sequence));
  absl::StatusOr<Digest> previous = Digest::FromRaw(anchor.previous_head()), head = Digest::FromRaw(anchor.head());
  if (!previous.ok() || !head.ok()) return absl::InvalidArgumentError("ledger: heads: expected 32 bytes");
  position.previous = *previous;
  position.head = *head;
  return position;
}

}  // namespace fedwatt

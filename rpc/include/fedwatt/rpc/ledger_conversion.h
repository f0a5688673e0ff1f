// The record of a ledger from the report that speaks of the same attempt: client and coordinator make it by this one function, so that both have the same
// payload.
#ifndef FEDWATT_RPC_LEDGER_CONVERSION_H_
#define FEDWATT_RPC_LEDGER_CONVERSION_H_

#include <string>

#include "absl/status/statusor.h"
#include "fedwatt/energy/ledger.h"
#include "fedwatt/v1/coordinator.pb.h"

namespace fedwatt {

// Uses report.ledger for finish and grams only. Errors: as FromProto(phases); INVALID_ARGUMENT  grams below zero
absl::StatusOr<LedgerRecord> LedgerRecordOf(const v1::ReportRequest& report, const std::string& run_id, const std::string& pseudonym, int64_t round);

void SetPosition(const LedgerHead& position, v1::LedgerAnchor* anchor);
// Errors: INVALID_ARGUMENT  no head of 32 bytes, or a sequence below 1
absl::StatusOr<LedgerHead> PositionOf(const v1::LedgerAnchor& anchor);

}  // namespace fedwatt

#endif  // FEDWATT_RPC_LEDGER_CONVERSION_H_

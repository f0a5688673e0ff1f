// The client's own books: what each attempt took, append-only and hash-chained, so that nothing in them can be changed afterwards unnoticed.
#ifndef FEDWATT_ENERGY_LEDGER_H_
#define FEDWATT_ENERGY_LEDGER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "fedwatt/base/hash_chain.h"
#include "fedwatt/energy/carbon.h"
#include "fedwatt/energy/phase_tracker.h"

namespace fedwatt {

// One attempt as its client saw it. All of it is in the client's report too, so that the coordinator can make the same payload.
struct LedgerRecord {
  std::string run_id, attempt;
  std::string client;   // pseudonym
  int64_t round = 0;
  std::string outcome;  // completed, failed, withdrawn, cancelled; "ended" for the client's last time, after its last attempt
  absl::Time finished;  // by the device's clock, whole microseconds
  std::vector<PhaseSpan> phases;   // whole microseconds
  std::vector<PhaseSpan> between;  // of the time since the attempt reported before, or the client's start, outside this one; whole microseconds
  std::optional<int64_t> example_count;
  int64_t uplink_payload_bytes = 0, downlink_payload_bytes = 0;
  std::optional<int64_t> uplink_wire_bytes, downlink_wire_bytes;
  std::optional<CarbonMass> operational, embodied;  // where the client knows its grid
};
// One line of JSON without its end, the same for equal records on every machine.
std::string LedgerPayload(const LedgerRecord& record);

using LedgerHead = ChainHead;

struct LedgerEntry {
  LedgerHead position;
  std::string payload;
  std::string attempt;
};
// Errors: as ReadHashChain; DATA_LOSS  a line that is no record
absl::StatusOr<std::vector<LedgerEntry>> ReadLedger(std::string_view text, const std::string& where);

// Appends to a file. Owned by one thread.
class Ledger {
 public:
  // Errors: as HashChainFile::Open
  static absl::StatusOr<std::unique_ptr<Ledger>> Open(const std::string& path);

  // On disk when it returns. Errors: the file's; the chain is then as before.
  absl::StatusOr<LedgerHead> Append(const LedgerRecord& record) { return file_->Append(LedgerPayload(record), /*durable=*/true); }

  const LedgerHead& head() const { return file_->head(); }

 private:
  explicit Ledger(std::unique_ptr<HashChainFile> file) : file_(std::move(file)) {}
  std::unique_ptr<HashChainFile> file_;
};

}  // namespace fedwatt

#endif  // FEDWATT_ENERGY_LEDGER_H_

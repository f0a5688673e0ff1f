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
#include "fedwatt/base/digest.h"
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

// Where a record stands in its chain: head = SHA-256(previous in hexadecimal, payload).
struct LedgerHead {
  int64_t sequence = 0;  // from 1; 0: the chain is empty
  Digest previous, head; // all zero where there is none
};
LedgerHead NextHead(const LedgerHead& last, std::string_view payload);

struct LedgerEntry {
  LedgerHead position;
  std::string payload;
  std::string attempt;
};
// Reads a ledger: lines "HEAD PAYLOAD". Any byte that was changed, added or taken away inside it shows; what was cut off at its end shows only against a
// head that somebody else has kept, such as the coordinator's.
// Errors: DATA_LOSS  the line, and what does not fit
absl::StatusOr<std::vector<LedgerEntry>> ReadLedger(std::string_view text, const std::string& where);

// Appends to a file. Owned by one thread.
class Ledger {
 public:
  // Opens, or creates, and verifies what is there. A last line without its end, as a crash leaves it, is cut off: it was never told to anyone.
  // Errors: as ReadLedger; PERMISSION_DENIED, RESOURCE_EXHAUSTED, NOT_FOUND  the file's
  static absl::StatusOr<std::unique_ptr<Ledger>> Open(const std::string& path);
  ~Ledger();

  // On disk when it returns (fdatasync). Errors: the file's; the chain is then as before.
  absl::StatusOr<LedgerHead> Append(const LedgerRecord& record);

  const LedgerHead& head() const { return head_; }

 private:
  Ledger(std::string path, int fd, int64_t size, LedgerHead head) : path_(std::move(path)), fd_(fd), size_(size), head_(head) {}
  std::string path_;
  int fd_;
  int64_t size_;
  LedgerHead head_;
};

}  // namespace fedwatt

#endif  // FEDWATT_ENERGY_LEDGER_H_

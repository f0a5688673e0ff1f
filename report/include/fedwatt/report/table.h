// The live table of a run: one row a round.
#ifndef FEDWATT_REPORT_TABLE_H_
#define FEDWATT_REPORT_TABLE_H_

#include <string>

#include "fedwatt/report/run_record.h"

namespace fedwatt {

struct RoundTableOptions {
  bool terminal = false;  // columns under a header, for people; otherwise key=value lines, for logs
  bool colour = false;    // escape codes
};

// For a stream: columns where `fd` is a terminal; coloured there too, unless NO_COLOR (https://no-color.org) is set or TERM is
// "dumb".
RoundTableOptions RoundTableOptionsFor(int fd);

// Renders; prints nothing. Thread-safe.
class RoundTable {
 public:
  explicit RoundTable(RoundTableOptions options) : options_(options) {}

  // The column names, with a line end; "" when rows name their values themselves.
  std::string Header() const;
  // One line: round, clients accepted/late/failed (rejected or dropped), training loss, accuracy, megabytes (1e6) of payload up
  // and down, how many times smaller both are than float32, clients' joules, seconds. A dash is "not measured"; joules carry "~"
  // where any part is an estimate, and "(2/3)" where only 2 of 3 accepted clients metered.
  std::string Row(const RoundRecord& record) const;
  // What the marks mean, with a line end; "" for key=value lines.
  std::string Legend() const;

 private:
  RoundTableOptions options_;
};

// "12.3", "~12.3", "~12.3 (2/3)" or "-": the joules of `energy` with their mark.
std::string EnergyText(const std::optional<Energy>& energy, EnergyTier tier, int64_t metered_clients, int64_t clients);
// float32 bytes over encoded bytes, both directions, "3.98x"; "-" when nothing was sent.
std::string SavingText(int64_t dense_bytes, int64_t payload_bytes);
// "3.98x smaller than float32", "1.02x larger than float32" (headers), "nothing sent".
std::string SavingPhrase(int64_t dense_bytes, int64_t payload_bytes);

}  // namespace fedwatt

#endif  // FEDWATT_REPORT_TABLE_H_

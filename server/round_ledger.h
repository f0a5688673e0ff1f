// Adds up what the attempts of a round cost.
#ifndef FEDWATT_SERVER_ROUND_LEDGER_H_
#define FEDWATT_SERVER_ROUND_LEDGER_H_

#include <cstdint>
#include <optional>

#include "absl/time/time.h"
#include "fedwatt/report/run_record.h"

namespace fedwatt::internal {

// The sum over an attempt's phases; missing when any phase that took time is.
EnergyReading AttemptEnergy(const AttemptRecord& attempt);

// How long it trained, as its client said.
std::optional<absl::Duration> TrainingOf(const AttemptRecord& attempt);

// Owned by one thread.
class RoundLedger {
 public:
  // `elapsed` is the time from the assignment to the attempt's end, as the coordinator saw it. Dense bytes are what the same transfers would
  // have cost in float32.
  void Add(const AttemptRecord& attempt, absl::Duration elapsed, int64_t uplink_dense_bytes, int64_t downlink_dense_bytes);
  // Model bytes sent for federated evaluation.
  void AddDownload(int64_t payload_bytes, int64_t dense_bytes);

  // Fills train_loss, bytes, client energy and client seconds, and starts anew.
  void Fill(RoundRecord& record);

 private:
  int64_t uplink_payload_bytes_ = 0, downlink_payload_bytes_ = 0, uplink_dense_bytes_ = 0, downlink_dense_bytes_ = 0;
  double weighted_loss_ = 0;
  int64_t loss_weight_ = 0;
  Energy energy_, low_, high_;
  absl::Duration metered_wall_;
  int64_t metered_count_ = 0;
  EnergyTier tier_ = EnergyTier::kWall;
  std::map<EnergyTier, Energy> by_tier_;
  Energy wasted_;
  bool any_wasted_ = false;
  absl::Duration unmetered_waste_;
  absl::Duration train_, cpu_;
  CarbonTotals carbon_;
  std::optional<Energy> quarantined_;
  std::map<std::string, int64_t> quarantines_;
  std::optional<Energy> suspect_;
  int64_t suspects_ = 0;
  std::vector<AttemptRecord> heads_;  // only what LedgerRoot() looks at
};

}  // namespace fedwatt::internal

#endif  // FEDWATT_SERVER_ROUND_LEDGER_H_

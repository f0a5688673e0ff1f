#include "round_ledger.h"

namespace fedwatt::internal {

EnergyReading AttemptEnergy(const AttemptRecord& attempt) { return SumOfSpans(attempt.phases); }

std::optional<absl::Duration> TrainingOf(const AttemptRecord& record) {
  std::optional<absl::Duration> training;
  for (const PhaseSpan& span : record.phases) {
    if (span.phase == Phase::kTrain) training = span.wall;
  }
  return training;
}

void RoundLedger::Add(const AttemptRecord& attempt, absl::Duration elapsed, int64_t uplink_dense_bytes, int64_t downlink_dense_bytes) {
  uplink_payload_bytes_ += attempt.uplink_payload_bytes.value_or(0);
  downlink_payload_bytes_ += attempt.downlink_payload_bytes.value_or(0);
  uplink_dense_bytes_ += uplink_dense_bytes;
  downlink_dense_bytes_ += downlink_dense_bytes;
  EnergyReading energy = AttemptEnergy(attempt);
  if (attempt.ledger_sequence) heads_.push_back({.client = attempt.client, .attempt = attempt.attempt, .ledger_sequence = attempt.ledger_sequence, .ledger_head = attempt.ledger_head});
  if (!attempt.quarantine.empty()) {
    // Neither its joules nor a guess in their place: the attempt is then one that did not meter.
    ++quarantines_[attempt.quarantine];
    if (energy.energy) quarantined_ = quarantined_.value_or(Energy()) + *energy.energy;
    energy = EnergyReading{};
  }
  if (!attempt.suspicion.empty() && attempt.outcome == "accepted" && energy.energy) {
    suspect_ = suspect_.value_or(Energy()) + *energy.energy;
    ++suspects_;
  }
  carbon_.Add(attempt.carbon, attempt.outcome == "accepted");
  if (attempt.outcome != "accepted") {
    if (!energy.missing()) {
      wasted_ += *energy.energy;
      any_wasted_ = true;
    } else {
      unmetered_waste_ += elapsed;
    }
    return;
  }
  if (attempt.train_loss.has_value() && attempt.train_examples.has_value()) {
    weighted_loss_ += *attempt.train_loss * static_cast<double>(*attempt.train_examples);
    loss_weight_ += *attempt.train_examples;
  }
  for (const PhaseSpan& span : attempt.phases) {
    if (span.phase == Phase::kTrain) train_ += span.wall;
    cpu_ += span.cpu;
    if (!energy.missing()) metered_wall_ += span.wall;
  }
  if (energy.missing()) return;
  energy_ += *energy.energy;
  low_ += energy.low.value_or(*energy.energy);
  high_ += energy.high.value_or(*energy.energy);
  by_tier_[energy.tier] += *energy.energy;
  tier_ = WorseTier(tier_, energy.tier);
  ++metered_count_;
}

void RoundLedger::AddDownload(int64_t payload_bytes, int64_t dense_bytes) {
  downlink_payload_bytes_ += payload_bytes;
  downlink_dense_bytes_ += dense_bytes;
}

void RoundLedger::Fill(RoundRecord& record) {
  record.uplink_payload_bytes = uplink_payload_bytes_;
  record.downlink_payload_bytes = downlink_payload_bytes_;
  record.uplink_dense_bytes = uplink_dense_bytes_;
  record.downlink_dense_bytes = downlink_dense_bytes_;
  if (loss_weight_ > 0) record.train_loss = weighted_loss_ / static_cast<double>(loss_weight_);
  record.client_train_seconds = absl::ToDoubleSeconds(train_);
  record.client_cpu_seconds = absl::ToDoubleSeconds(cpu_);
  record.client_energy_clients = metered_count_;
  if (metered_count_ > 0) {
    record.client_energy = energy_;
    record.client_energy_low = low_;
    record.client_energy_high = high_;
    record.client_energy_tier = tier_;
    record.client_energy_by_tier = by_tier_;
    // A client that fell silent cannot tell its joules; it is taken to have drawn what the others drew on average.
    if (unmetered_waste_ > absl::ZeroDuration() && metered_wall_ > absl::ZeroDuration()) {
      wasted_ += (energy_ / metered_wall_) * unmetered_waste_;
      any_wasted_ = true;
      // The same holds for its grams, where all the others' are known.
      if (carbon_.operational && carbon_.clients == metered_count_) {
        carbon_.wasted = carbon_.wasted.value_or(CarbonMass()) + GramsOfCarbon(carbon_.operational->grams() * absl::FDivDuration(unmetered_waste_, metered_wall_));
      }
    }
  }
  if (any_wasted_) record.client_energy_wasted = wasted_;
  record.client_carbon = carbon_;
  record.client_energy_quarantined = quarantined_;
  record.quarantines = quarantines_;
  record.client_energy_suspect = suspect_;
  record.clients_suspect = suspects_;
  record.ledger_root = LedgerRoot(heads_);
  *this = RoundLedger();
}

}  // namespace fedwatt::internal

#include "round_ledger.h"

#include "gtest/gtest.h"

namespace fedwatt::internal {
namespace {

PhaseSpan Span(Phase phase, double seconds, double cpu, std::optional<double> joules, EnergyTier tier) {
  PhaseSpan span;
  span.phase = phase;
  span.wall = absl::Seconds(seconds);
  span.cpu = absl::Seconds(cpu);
  if (joules.has_value()) {
    span.energy.energy = Joules(*joules);
    span.energy.low = Joules(*joules * 0.5);
    span.energy.high = Joules(*joules * 2);
    span.energy.tier = tier;
    span.energy.source = "test";
  }
  return span;
}

AttemptRecord Accepted(int64_t examples, double loss, std::vector<PhaseSpan> phases) {
  AttemptRecord record;
  record.outcome = "accepted";
  record.train_examples = examples;
  record.train_loss = loss;
  record.phases = std::move(phases);
  record.uplink_payload_bytes = 100;
  record.downlink_payload_bytes = 200;
  return record;
}

TEST(RoundLedgerTest, AddsUpAcceptedAttempts) {
  RoundLedger ledger;
  ledger.Add(Accepted(10, 1.0, {Span(Phase::kTrain, 2, 1.5, 20.0, EnergyTier::kComponent), Span(Phase::kUpload, 1, 0.5, 4.0, EnergyTier::kComponent)}),
             absl::Seconds(3), 400, 800);
  ledger.Add(Accepted(30, 2.0, {Span(Phase::kTrain, 3, 3, 10.0, EnergyTier::kGeneric)}), absl::Seconds(3), 400, 800);
  ledger.Add(Accepted(40, 3.0, {Span(Phase::kTrain, 4, 4, std::nullopt, EnergyTier::kMissing)}), absl::Seconds(4), 400, 800);
  RoundRecord record;
  ledger.Fill(record);
  EXPECT_DOUBLE_EQ(*record.train_loss, (10 * 1.0 + 30 * 2.0 + 40 * 3.0) / 80);
  EXPECT_EQ(*record.client_energy, Joules(34));
  EXPECT_EQ(*record.client_energy_low, Joules(17));
  EXPECT_EQ(*record.client_energy_high, Joules(68));
  EXPECT_EQ(record.client_energy_clients, 2);
  EXPECT_EQ(record.client_energy_tier, EnergyTier::kGeneric);
  EXPECT_EQ(record.client_energy_by_tier.at(EnergyTier::kComponent), Joules(24));
  EXPECT_EQ(record.client_energy_by_tier.at(EnergyTier::kGeneric), Joules(10));
  EXPECT_DOUBLE_EQ(record.client_train_seconds, 9);
  EXPECT_DOUBLE_EQ(record.client_cpu_seconds, 9);
  EXPECT_EQ(record.uplink_payload_bytes, 300);
  EXPECT_EQ(record.uplink_dense_bytes, 1200);
  EXPECT_EQ(record.downlink_dense_bytes, 2400);
  EXPECT_FALSE(record.client_energy_wasted.has_value());
}

TEST(RoundLedgerTest, WasteIsWhatWasReportedOrWhatOthersDrewMeanwhile) {
  RoundLedger ledger;
  AttemptRecord silent;
  silent.outcome = "dropped";
  ledger.Add(silent, absl::Seconds(5), 0, 0);
  AttemptRecord rejected;
  rejected.outcome = "rejected";
  rejected.phases = {Span(Phase::kTrain, 2, 2, 7.0, EnergyTier::kComponent)};
  ledger.Add(rejected, absl::Seconds(2), 0, 0);
  ledger.Add(Accepted(10, 1, {Span(Phase::kTrain, 2, 2, 20.0, EnergyTier::kComponent)}), absl::Seconds(2), 0, 0);  // 10 W
  RoundRecord record;
  ledger.Fill(record);
  EXPECT_EQ(*record.client_energy_wasted, Joules(7 + 50));
  EXPECT_EQ(*record.client_energy, Joules(20));
}

TEST(RoundLedgerTest, NothingMeteredIsMissingAndFillStartsAnew) {
  RoundLedger ledger;
  ledger.Add(Accepted(10, 1, {Span(Phase::kTrain, 2, 2, std::nullopt, EnergyTier::kMissing)}), absl::Seconds(2), 0, 0);
  AttemptRecord silent;
  silent.outcome = "dropped";
  ledger.Add(silent, absl::Seconds(5), 0, 0);
  RoundRecord record;
  ledger.Fill(record);
  EXPECT_FALSE(record.client_energy.has_value());
  EXPECT_FALSE(record.client_energy_wasted.has_value());
  EXPECT_EQ(record.client_energy_tier, EnergyTier::kMissing);
  RoundRecord empty;
  ledger.Fill(empty);
  EXPECT_FALSE(empty.train_loss.has_value());
  EXPECT_EQ(empty.uplink_payload_bytes, 0);
}

}  // namespace
}  // namespace fedwatt::internal

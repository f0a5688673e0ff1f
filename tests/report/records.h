// A small run that the report tests share.
#ifndef FEDWATT_TESTS_REPORT_RECORDS_H_
#define FEDWATT_TESTS_REPORT_RECORDS_H_

#include "fedwatt/report/run_record.h"

namespace fedwatt::testing {

// Round `round` of 3 clients, 2 accepted and 1 late, everything measured or estimated: 2 J useful and 0.5 J wasted.
inline RoundRecord MakeRound(int64_t round, double accuracy) {
  RoundRecord r;
  r.run_id = "run-1";
  r.round = round;
  r.committed = true;
  r.started_at = absl::FromUnixSeconds(1700000000 + 10 * round);
  r.finished_at = r.started_at + absl::Milliseconds(2500);
  r.wall_seconds = 2.5;
  r.select_seconds = 0.1;
  r.collect_seconds = 2;
  r.aggregate_seconds = 0.25;
  r.evaluate_seconds = 0.125;
  r.clients_selected = 3;
  r.clients_completed = 2;
  r.clients_late = 1;
  r.rejections = {{"late", 1}};
  r.train_examples = 600;
  r.train_loss = 0.75;
  r.eval_accuracy = accuracy;
  r.eval_loss = 0.5;
  r.eval_examples = 10000;
  r.uplink_payload_bytes = 1000000;
  r.downlink_payload_bytes = 3000000;
  r.uplink_wire_bytes = 1100000;
  r.downlink_wire_bytes = 3300000;
  r.uplink_header_bytes = 40000;
  r.downlink_header_bytes = 120000;
  r.uplink_dense_bytes = 4000000;
  r.downlink_dense_bytes = 6000000;
  r.client_energy = Microjoules(2000000);
  r.client_energy_low = Microjoules(1000000);
  r.client_energy_high = Microjoules(4000000);
  r.client_energy_clients = 2;
  r.client_energy_wasted = Microjoules(500000);
  r.client_energy_tier = EnergyTier::kGeneric;
  r.client_energy_by_tier = {{EnergyTier::kGeneric, Microjoules(1500000)}, {EnergyTier::kComponent, Microjoules(500000)}};
  r.client_train_seconds = 3;
  r.client_cpu_seconds = 2.75;
  r.server_energy.energy = Microjoules(700000);
  r.server_energy.tier = EnergyTier::kComponent;
  r.server_energy.source = "rapl";
  r.server_cpu_seconds = 0.5;
  r.peak_rss_bytes = 200000000 + round;
  r.model_parameters = 199210;
  r.model_digest = std::string(64, 'a');
  return r;
}

inline AttemptRecord MakeAttempt(int64_t round) {
  AttemptRecord a;
  a.round = round;
  a.client = "client-3";
  a.partition = 3;
  a.attempt = "run-1/1/3";
  a.outcome = "accepted";
  a.fit_parameter_count = 199210;
  a.fit_macs = 199210;
  a.train_examples = 300;
  a.train_loss = 0.75;
  PhaseSpan train;
  train.phase = Phase::kTrain;
  train.wall = absl::Milliseconds(1500);
  train.cpu = absl::Milliseconds(1250);
  train.energy.energy = Microjoules(1000000);
  train.energy.tier = EnergyTier::kGeneric;
  train.energy.source = "cpu_time";
  PhaseSpan upload;
  upload.phase = Phase::kUpload;
  upload.wall = absl::Milliseconds(500);
  a.phases = {train, upload};
  a.uplink_payload_bytes = 500000;
  a.downlink_payload_bytes = 1000000;
  a.codec_uplink = "int8";
  a.codec_downlink = "bfloat16";
  return a;
}

inline RunSummary MakeSummary() {
  RunSummary s;
  s.run_id = "run-1";
  s.version = "0.1.0";
  s.command = "fedwatt-fleet --config a.toml";
  s.config = {{"federation.rounds", "3", "flag --set"}, {"seed", "7", "file a.toml:1"}};
  s.seed = 7;
  s.machine_facts = {{"cpu", "Some CPU"}, {"cores", "2"}};
  s.meters_found = {"cpu_time"};
  s.meters_refused = {{"rapl", "no powercap folder"}};
  s.model_path = "model/final.pt";
  s.int8 = {.path = "model/final-int8.pt", .bytes = 1'670'000, .calibration_examples = 512, .accuracy = 0.9};
  s.simulated = true;
  return s;
}

}  // namespace fedwatt::testing

#endif  // FEDWATT_TESTS_REPORT_RECORDS_H_

// The files a run leaves behind: rounds.jsonl, clients.jsonl, summary.json. Fields may be added, never renamed or repurposed.
#ifndef FEDWATT_REPORT_RUN_RECORD_H_
#define FEDWATT_REPORT_RUN_RECORD_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "fedwatt/base/disk.h"
#include "fedwatt/energy/carbon.h"
#include "fedwatt/energy/phase_tracker.h"
#include "fedwatt/energy/quantities.h"
#include "fedwatt/model/int8_delivery.h"
#include "fedwatt/model/plan.h"

namespace fedwatt {

// Grams of several attempts. What is not known is left out of the sums and not counted, never zero.
struct CarbonTotals {
  std::optional<CarbonMass> operational, embodied;  // of accepted attempts
  std::optional<CarbonMass> wasted;                 // operational, of attempts that did not count
  std::optional<double> water_l;                    // of accepted attempts
  int64_t clients = 0;                              // accepted attempts whose operational grams are in the sum
  std::optional<IntensityKind> kind;
  IntensityBasis basis = IntensityBasis::kMissing;  // the worst of those summed
  std::string source;                               // names joined by '+'
  std::optional<absl::Duration> age;                // of the oldest intensity used
  void Add(const CarbonReading& reading, bool accepted);
  void Add(const CarbonTotals& other);
};

// A width as a name: "0.25".
std::string WidthKey(double width_fraction);

// One line of rounds.jsonl. A nullopt is written as null, which means "not measured"; it is never 0.
struct RoundRecord {
  std::string run_id;
  int64_t round = 0;
  bool committed = false;
  std::string reason;  // when abandoned
  absl::Time started_at, finished_at;
  double wall_seconds = 0, select_seconds = 0, collect_seconds = 0, aggregate_seconds = 0, evaluate_seconds = 0;
  std::optional<double> virtual_seconds;  // simulation: what the round would have taken on the simulated devices
  int64_t clients_selected = 0, clients_completed = 0, clients_rejected = 0, clients_late = 0, clients_dropped = 0;
  std::map<std::string, int64_t> rejections;
  std::map<std::string, int64_t> refusals;  // members not asked, by what kept them out: battery_floor, client_budget, round_budget, ...
  std::optional<double> deferred_seconds;   // that the round waited although enough members were there
  std::string deferral_reason;
  std::optional<Energy> budget_left;             // of budget.federation_joules, negative when it is overspent; null without one
  std::optional<CarbonMass> budget_carbon_left;  // of budget.federation_grams, likewise
  int64_t train_examples = 0;
  std::optional<double> train_loss;
  std::optional<double> eval_accuracy, eval_loss;
  std::optional<int64_t> eval_examples;
  std::optional<double> federated_eval_accuracy, federated_eval_loss;
  std::optional<int64_t> federated_eval_examples;
  std::map<std::string, double> eval_accuracy_by_width;  // of the model cut to widths below 1, by WidthKey(); on the coordinator's test data, where that was asked for
  int64_t uplink_payload_bytes = 0, downlink_payload_bytes = 0;
  std::optional<int64_t> uplink_wire_bytes, downlink_wire_bytes;
  std::optional<int64_t> uplink_header_bytes, downlink_header_bytes;  // of IP and TCP, beside the wire bytes
  int64_t uplink_dense_bytes = 0, downlink_dense_bytes = 0;
  std::optional<Energy> client_energy, client_energy_low, client_energy_high;
  int64_t client_energy_clients = 0;
  std::optional<Energy> client_energy_wasted;
  EnergyTier client_energy_tier = EnergyTier::kMissing;
  std::map<EnergyTier, Energy> client_energy_by_tier;
  double client_train_seconds = 0, client_cpu_seconds = 0;
  std::optional<Energy> client_energy_quarantined;  // that clients said and that is not believed; in no other sum
  std::map<std::string, int64_t> quarantines;       // attempts by reason
  std::optional<Energy> client_energy_suspect;      // the part of client_energy whose clients are unlike their class
  int64_t clients_suspect = 0;                      // accepted attempts of theirs
  std::string ledger_root;  // SHA-256 over the heads of the clients' ledgers that this round's reports anchored; "" without any
  CarbonTotals client_carbon;
  EnergyReading server_energy;
  std::vector<PhaseSpan> server_phases;  // since the round before was recorded; CPU time of the whole process
  std::optional<CarbonMass> server_operational, server_embodied;
  double server_cpu_seconds = 0;
  std::optional<int64_t> peak_rss_bytes;
  std::string model_digest;  // hexadecimal
  std::optional<int64_t> model_parameters;  // values of that model
};

// One line of clients.jsonl.
struct AttemptRecord {
  int64_t round = 0;
  std::string client;  // pseudonym
  int64_t partition = 0;
  std::string attempt;
  std::string outcome;  // accepted, rejected, late, dropped, cancelled
  std::string reason;   // RejectionName(), "" when accepted
  FitSpec fit;  // number_format: in which it trained; what was asked for where the attempt never said
  std::optional<std::string> fit_format_reason;  // why the number format asked for was declined, or what was measured
  std::optional<std::string> fit_declined_reason;  // why the client would not train so much
  int64_t fit_parameter_count = 0;
  std::optional<double> fit_expected_seconds;  // from assignment to report, by the client's earlier attempts, where the fit policy measures
  std::optional<Energy> fit_expected_energy;   // likewise
  std::optional<double> fit_macs;  // multiply-adds of one example's forward pass; null in records of earlier versions
  std::optional<int64_t> train_examples;
  std::optional<double> train_loss;
  bool completed_work = true;  // false: partial work within the deadline
  std::vector<PhaseSpan> phases;
  // The client's time since the attempt that it reported before, or its start, outside this one; empty where it did not tell.
  std::vector<PhaseSpan> between;
  std::optional<int64_t> uplink_payload_bytes, downlink_payload_bytes, uplink_wire_bytes, downlink_wire_bytes, uplink_header_bytes, downlink_header_bytes;
  std::string codec_uplink, codec_downlink;
  std::optional<std::string> site;  // where the device stands
  std::string energy_class;         // reports that may be compared; "" where nothing is compared
  std::string quarantine;           // why the joules are not believed, and in no sum; "" = they are
  std::string suspicion;            // why they look odd, though they are possible and in the sums; "" = they don't
  std::optional<int64_t> ledger_sequence;  // of the client's ledger
  std::string ledger_head;                 // hexadecimal
  CarbonReading carbon;
};

struct SettingWithOrigin {
  std::string key, value, origin;  // origin: "default", "file PATH:LINE", "environment NAME", "flag --set", ...
};

struct RunSummary {
  std::string run_id, version, command;
  std::vector<SettingWithOrigin> config;
  uint64_t seed = 0;
  // Machine: cpu, cores, memory, instruction sets and kernel thread settings, meters found and refused.
  std::map<std::string, std::string> machine_facts;
  std::vector<std::string> meters_found;
  std::map<std::string, std::string> meters_refused;  // name to reason
  std::optional<double> target_accuracy;
  std::string model_path;  // of final.pt, or of the last container where the run had no LibTorch
  Int8Delivery int8;       // final-int8.pt
  std::optional<std::string> model_channels;  // of an archive of which some clients train a part: what can be dropped, what stays whole and why
  bool simulated = false;
};

// Sums over rounds. Missing is not zero: a nullable sum is null when no round measured it; the wire and server sums are null as
// soon as one round lacks them, because nothing else would say that they are partial. client_energy counts what was metered, and
// client_energy_clients against clients_completed says how much that is.
struct RunTotals {
  int64_t rounds = 0;            // finished, abandoned ones too
  int64_t rounds_committed = 0;  // distinct: a round repeated after a crash counts once
  double wall_seconds = 0, select_seconds = 0, collect_seconds = 0, aggregate_seconds = 0, evaluate_seconds = 0;
  int64_t clients_selected = 0, clients_completed = 0, clients_rejected = 0, clients_late = 0, clients_dropped = 0;
  std::map<std::string, int64_t> rejections, refusals;
  double deferred_seconds = 0;
  std::optional<Energy> budget_left;             // after the last round
  std::optional<CarbonMass> budget_carbon_left;
  int64_t train_examples = 0;
  int64_t uplink_payload_bytes = 0, downlink_payload_bytes = 0;
  std::optional<int64_t> uplink_wire_bytes, downlink_wire_bytes;
  std::optional<int64_t> uplink_header_bytes, downlink_header_bytes;  // of IP and TCP, beside the wire bytes
  int64_t uplink_dense_bytes = 0, downlink_dense_bytes = 0;
  std::optional<Energy> client_energy, client_energy_low, client_energy_high;
  int64_t client_energy_clients = 0;
  std::optional<Energy> client_energy_wasted;
  EnergyTier client_energy_tier = EnergyTier::kMissing;
  std::map<EnergyTier, Energy> client_energy_by_tier;
  double client_train_seconds = 0, client_cpu_seconds = 0;
  std::optional<Energy> client_energy_quarantined, client_energy_suspect;
  std::map<std::string, int64_t> quarantines;
  int64_t clients_suspect = 0;
  CarbonTotals client_carbon;
  std::optional<Energy> server_energy;
  std::optional<CarbonMass> server_operational, server_embodied;  // null as soon as one round lacks them
  EnergyTier server_energy_tier = EnergyTier::kMissing;
  double server_cpu_seconds = 0;
  std::optional<int64_t> peak_rss_bytes;  // the highest
  std::optional<double> final_accuracy, best_accuracy;
};
RunTotals SumRounds(const std::vector<RoundRecord>& rounds);

// What RoundRecord::ledger_root is of these attempts of one round; "" where none has a head.
std::string LedgerRoot(const std::vector<AttemptRecord>& attempts);

// Software Carbon Intensity (v1.1, location-based) of what clients did, wasted attempts included; nullopt unless every accepted attempt's grams, and
// those of failed ones, are known. `units`: how much was done.
std::optional<double> RunSci(const RunTotals& totals, double units);

// What the accepted attempts of one width and number format cost and learned.
struct WidthTotals {
  double width_fraction = 1;
  std::string number_format;
  int64_t parameter_count = 0;  // the most that one of them trained
  int64_t accepted = 0;
  int64_t train_examples = 0;
  std::optional<double> train_loss;  // example-weighted mean
  double train_cpu_seconds = 0;      // of the phase train
  std::optional<Energy> energy;      // all phases; null as soon as one attempt's is not known
  EnergyTier energy_tier = EnergyTier::kWall;
  int64_t uplink_payload_bytes = 0, downlink_payload_bytes = 0;
  std::optional<double> accuracy;    // of the model cut to this width, when it was scored last; see AccuracyAtWidths()
};
// By width, widest first, then by number format. `rounds`: where accuracies are looked up.
std::vector<WidthTotals> SumByWidth(const std::vector<AttemptRecord>& attempts, const std::vector<RoundRecord>& rounds = {});

// The accuracies of the last committed round that scored narrower widths, by WidthKey(); with the whole model's of that same round as "1". Of a run without such a round, that of the last
// one that was evaluated.
std::map<std::string, double> AccuracyAtWidths(const std::vector<RoundRecord>& rounds);

// The coordinator's accuracy, else the clients' own, of a committed round that was evaluated.
std::optional<double> AccuracyOf(const RoundRecord& record);

// All joules that clients spent in one round, wasted ones included: nullopt unless every accepted client metered and, where
// attempts failed, their joules are known.
std::optional<Energy> ClientEnergySpent(const RoundRecord& record);

// What the first committed round that reached `target` had cost, all rounds before it included. Unset: not reached.
struct TargetFigures {
  std::optional<int64_t> rounds;
  std::optional<Energy> client_energy;                  // nullopt also when a round's ClientEnergySpent is
  std::optional<int64_t> uplink_bytes, downlink_bytes;  // payload
};
TargetFigures FiguresToTarget(const std::vector<RoundRecord>& rounds, double target);

// A whole run as it lies on disk.
struct RunRecord {
  std::vector<RoundRecord> rounds;
  std::vector<AttemptRecord> attempts;
  std::optional<RunSummary> summary;  // a run that was killed has none
  // What `rounds` and `summary` were read from, fields that this version does not know included; empty for a record made in memory.
  std::vector<std::string> round_lines;
  std::string summary_text;
};

// Reads rounds.jsonl (required), clients.jsonl and summary.json (where they exist). Fields it does not know are skipped, a last
// line without its line end (a run still being written) too. Errors: NOT_FOUND  no rounds.jsonl; DATA_LOSS  a line is not what
// this version writes, or has numbers that no run can have, such as negative joules (file, line, field)
absl::StatusOr<RunRecord> ReadRunRecord(const std::string& directory, Disk& disk = RealDisk());
// clients.jsonl alone, for a run that goes on: whatever its numbers are, and empty where there is none. Errors: DATA_LOSS  a line is not what this
// version writes (file, line, field)
absl::StatusOr<std::vector<AttemptRecord>> ReadAttempts(const std::string& directory, Disk& disk = RealDisk());

// One line of clients.jsonl, without its line end, and back. `where` names the line in errors: DATA_LOSS
std::string AttemptLine(const AttemptRecord& record);
absl::StatusOr<AttemptRecord> ParseAttemptLine(std::string_view line, const std::string& where);
// The line of rounds.jsonl that WriteRound appends, without its end.
std::string RoundLine(const RoundRecord& record);

// Appends rounds and attempts, flushed per line, and keeps the totals that the summary needs. A folder that holds records already
// (a restarted coordinator) is continued: its whole lines are read back into the totals, a torn last line is cut off. Owned by
// one thread.
class RunRecordWriter {
 public:
  // Creates `directory` if needed. `disk` must outlive the writer. Errors: PERMISSION_DENIED, RESOURCE_EXHAUSTED, DATA_LOSS  an earlier line does not parse
  // (named)
  static absl::StatusOr<std::unique_ptr<RunRecordWriter>> Open(const std::string& directory, Disk& disk = RealDisk());
  virtual ~RunRecordWriter() = default;

  virtual absl::Status WriteRound(const RoundRecord& record) = 0;
  // A line that could not be written is tried again with the next one.
  virtual absl::Status WriteAttempt(const AttemptRecord& record) = 0;
  // Makes the attempts so far durable.
  virtual absl::Status SyncAttempts() = 0;
  // Writes summary.json atomically, with totals and to-target figures over all rounds written; may be called again.
  virtual absl::Status WriteSummary(const RunSummary& summary) = 0;

  virtual std::optional<double> best_accuracy() const = 0;
  virtual const std::string& directory() const = 0;
};

}  // namespace fedwatt

#endif  // FEDWATT_REPORT_RUN_RECORD_H_

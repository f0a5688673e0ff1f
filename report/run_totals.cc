#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "fedwatt/base/digest.h"
#include "fedwatt/report/run_record.h"

namespace fedwatt {
namespace {

template <typename T>
void AddIfKnown(std::optional<T>& sum, const std::optional<T>& value) {
  if (value) sum = sum ? *sum + *value : *value;
}

// Null as soon as one is.
template <typename T>
void AddAll(bool first, std::optional<T>& sum, const std::optional<T>& value) {
  if (first)
    sum = value;
  else
    sum = sum && value ? std::optional<T>(*sum + *value) : std::nullopt;
}

std::string JoinNames(const std::string& a, const std::string& b) {
  std::set<std::string> names;
  for (const std::string& list : {a, b}) {
    for (absl::string_view name : absl::StrSplit(list, '+', absl::SkipEmpty())) names.insert(std::string(name));
  }
  return absl::StrJoin(names, "+");
}

}  // namespace

void CarbonTotals::Add(const CarbonReading& reading, bool accepted) {
  if (accepted) AddIfKnown(embodied, reading.embodied);
  if (!reading.operational) return;
  const bool first = !operational && !wasted;
  AddIfKnown(accepted ? operational : wasted, reading.operational);
  if (accepted) AddIfKnown(water_l, reading.water_l);
  clients += accepted;
  basis = first ? reading.basis : std::max(basis, reading.basis);
  source = JoinNames(source, reading.source);
  if (reading.age) age = std::max(age.value_or(absl::ZeroDuration()), *reading.age);
}

void CarbonTotals::Add(const CarbonTotals& other) {
  if (other.operational || other.wasted) {
    basis = operational || wasted ? std::max(basis, other.basis) : other.basis;
    source = JoinNames(source, other.source);
    if (other.age) age = std::max(age.value_or(absl::ZeroDuration()), *other.age);
  }
  AddIfKnown(operational, other.operational);
  AddIfKnown(embodied, other.embodied);
  AddIfKnown(wasted, other.wasted);
  AddIfKnown(water_l, other.water_l);
  clients += other.clients;
  if (other.kind) kind = other.kind;
}

std::string LedgerRoot(const std::vector<AttemptRecord>& attempts) {
  std::vector<std::string> heads;
  for (const AttemptRecord& attempt : attempts) {
    if (attempt.ledger_sequence) heads.push_back(absl::StrCat(attempt.client, " ", attempt.attempt, " ", *attempt.ledger_sequence, " ", attempt.ledger_head, "\n"));
  }
  if (heads.empty()) return "";
  std::sort(heads.begin(), heads.end());  // reports come in any order
  return Sha256(absl::StrJoin(heads, "")).Hex();
}

std::optional<double> RunSci(const RunTotals& totals, double units) {
  const CarbonTotals& carbon = totals.client_carbon;
  const bool failures = totals.clients_rejected + totals.clients_late + totals.clients_dropped > 0;
  if (carbon.clients < totals.clients_completed || (failures && !carbon.wasted)) return std::nullopt;
  if (!carbon.operational) return std::nullopt;
  return SciScore(*carbon.operational + carbon.wasted.value_or(CarbonMass()), carbon.embodied, units);
}

std::string WidthKey(double width_fraction) { return absl::StrCat(width_fraction); }

std::map<std::string, double> AccuracyAtWidths(const std::vector<RoundRecord>& rounds) {
  std::optional<double> last;
  for (auto round = rounds.rbegin(); round != rounds.rend(); ++round) {
    if (!round->committed) continue;
    if (!last) last = round->eval_accuracy;
    if (round->eval_accuracy_by_width.empty()) continue;
    std::map<std::string, double> accuracies = round->eval_accuracy_by_width;
    if (round->eval_accuracy) accuracies[WidthKey(1)] = *round->eval_accuracy;
    return accuracies;
  }
  if (!last) return {};
  return {{WidthKey(1), *last}};
}

std::vector<WidthTotals> SumByWidth(const std::vector<AttemptRecord>& attempts, const std::vector<RoundRecord>& rounds) {
  using Kind = std::pair<double, std::string>;  // minus the width, number format
  std::map<Kind, WidthTotals> widths;
  std::map<Kind, double> loss_sums;
  for (const AttemptRecord& attempt : attempts) {
    if (attempt.outcome != "accepted") continue;
    const Kind kind{-attempt.fit.width_fraction, attempt.fit.number_format};
    WidthTotals& sum = widths[kind];
    if (sum.accepted++ == 0) sum.energy = Energy();
    sum.width_fraction = attempt.fit.width_fraction;
    sum.number_format = attempt.fit.number_format;
    sum.parameter_count = std::max(sum.parameter_count, attempt.fit_parameter_count);
    if (attempt.train_examples && attempt.train_loss) {
      sum.train_examples += *attempt.train_examples;
      double& loss_sum = loss_sums[kind];
      loss_sum += *attempt.train_loss * static_cast<double>(*attempt.train_examples);
      sum.train_loss = loss_sum / static_cast<double>(sum.train_examples);
    }
    for (const PhaseSpan& span : attempt.phases) {
      if (span.phase == Phase::kTrain) sum.train_cpu_seconds += absl::ToDoubleSeconds(span.cpu);
      if (span.energy.missing()) {
        if (span.wall > absl::ZeroDuration()) sum.energy.reset();
        continue;
      }
      if (sum.energy) *sum.energy += *span.energy.energy;
      sum.energy_tier = WorseTier(sum.energy_tier, span.energy.tier);
    }
    sum.uplink_payload_bytes += attempt.uplink_payload_bytes.value_or(0);
    sum.downlink_payload_bytes += attempt.downlink_payload_bytes.value_or(0);
  }
  const std::map<std::string, double> accuracies = AccuracyAtWidths(rounds);
  std::vector<WidthTotals> totals;
  for (auto& [kind, sum] : widths) {
    if (const auto accuracy = accuracies.find(WidthKey(sum.width_fraction)); accuracy != accuracies.end()) sum.accuracy = accuracy->second;
    totals.push_back(sum);
  }
  return totals;
}

std::optional<double> AccuracyOf(const RoundRecord& record) {
  if (!record.committed) return std::nullopt;
  return record.eval_accuracy ? record.eval_accuracy : record.federated_eval_accuracy;
}

std::optional<Energy> ClientEnergySpent(const RoundRecord& record) {
  if (record.client_energy_clients < record.clients_completed) return std::nullopt;
  const bool failures = record.clients_rejected + record.clients_late + record.clients_dropped > 0;
  if (failures && !record.client_energy_wasted) return std::nullopt;
  if (record.clients_completed > 0 && !record.client_energy) return std::nullopt;
  return record.client_energy.value_or(Energy()) + record.client_energy_wasted.value_or(Energy());
}

RunTotals SumRounds(const std::vector<RoundRecord>& rounds) {
  RunTotals t;
  std::set<int64_t> committed;
  bool interval = true;  // every round with joules states their interval
  for (const RoundRecord& r : rounds) {
    const bool first = t.rounds++ == 0;
    if (r.committed) committed.insert(r.round);
    t.wall_seconds += r.wall_seconds;
    t.select_seconds += r.select_seconds;
    t.collect_seconds += r.collect_seconds;
    t.aggregate_seconds += r.aggregate_seconds;
    t.evaluate_seconds += r.evaluate_seconds;
    t.clients_selected += r.clients_selected;
    t.clients_completed += r.clients_completed;
    t.clients_rejected += r.clients_rejected;
    t.clients_late += r.clients_late;
    t.clients_dropped += r.clients_dropped;
    for (const auto& [reason, count] : r.rejections) t.rejections[reason] += count;
    for (const auto& [reason, count] : r.refusals) t.refusals[reason] += count;
    t.deferred_seconds += r.deferred_seconds.value_or(0);
    t.budget_left = r.budget_left;
    t.budget_carbon_left = r.budget_carbon_left;
    t.train_examples += r.train_examples;
    t.uplink_payload_bytes += r.uplink_payload_bytes;
    t.downlink_payload_bytes += r.downlink_payload_bytes;
    AddAll(first, t.uplink_wire_bytes, r.uplink_wire_bytes);
    AddAll(first, t.downlink_wire_bytes, r.downlink_wire_bytes);
    AddAll(first, t.uplink_header_bytes, r.uplink_header_bytes);
    AddAll(first, t.downlink_header_bytes, r.downlink_header_bytes);
    t.uplink_dense_bytes += r.uplink_dense_bytes;
    t.downlink_dense_bytes += r.downlink_dense_bytes;
    if (r.client_energy) {
      interval = interval && r.client_energy_low && r.client_energy_high;
      t.client_energy_tier = t.client_energy ? WorseTier(t.client_energy_tier, r.client_energy_tier) : r.client_energy_tier;
    }
    AddIfKnown(t.client_energy, r.client_energy);
    AddIfKnown(t.client_energy_low, r.client_energy_low);
    AddIfKnown(t.client_energy_high, r.client_energy_high);
    t.client_energy_clients += r.client_energy_clients;
    AddIfKnown(t.client_energy_wasted, r.client_energy_wasted);
    for (const auto& [tier, energy] : r.client_energy_by_tier) t.client_energy_by_tier[tier] += energy;
    t.client_train_seconds += r.client_train_seconds;
    t.client_cpu_seconds += r.client_cpu_seconds;
    AddIfKnown(t.client_energy_quarantined, r.client_energy_quarantined);
    for (const auto& [reason, count] : r.quarantines) t.quarantines[reason] += count;
    AddIfKnown(t.client_energy_suspect, r.client_energy_suspect);
    t.clients_suspect += r.clients_suspect;
    t.client_carbon.Add(r.client_carbon);
    AddAll(first, t.server_operational, r.server_operational);
    AddAll(first, t.server_embodied, r.server_embodied);
    AddAll(first, t.server_energy, r.server_energy.energy);
    t.server_energy_tier = first ? r.server_energy.tier : WorseTier(t.server_energy_tier, r.server_energy.tier);
    t.server_cpu_seconds += r.server_cpu_seconds;
    if (r.peak_rss_bytes) t.peak_rss_bytes = std::max(t.peak_rss_bytes.value_or(0), *r.peak_rss_bytes);
    if (const std::optional<double> accuracy = AccuracyOf(r)) {
      t.final_accuracy = accuracy;
      t.best_accuracy = std::max(t.best_accuracy.value_or(0), *accuracy);
    }
  }
  if (!interval) t.client_energy_low = t.client_energy_high = std::nullopt;
  t.rounds_committed = static_cast<int64_t>(committed.size());
  return t;
}

TargetFigures FiguresToTarget(const std::vector<RoundRecord>& rounds, double target) {
  TargetFigures figures;
  std::optional<Energy> energy = Energy();
  int64_t uplink = 0, downlink = 0;
  for (const RoundRecord& r : rounds) {
    AddAll(false, energy, ClientEnergySpent(r));
    uplink += r.uplink_payload_bytes;
    downlink += r.downlink_payload_bytes;
    const std::optional<double> accuracy = AccuracyOf(r);
    if (!accuracy || *accuracy < target) continue;
    figures.rounds = r.round;
    figures.client_energy = energy;
    figures.uplink_bytes = uplink;
    figures.downlink_bytes = downlink;
    break;
  }
  return figures;
}

}  // namespace fedwatt

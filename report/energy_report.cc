#include "fedwatt/report/energy_report.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "settings.h"

namespace fedwatt {
namespace {

// Sums known joules; what is not known makes the sum incomplete.
class Adder {
 public:
  void Add(const std::optional<Energy>& energy, EnergyTier tier) {
    if (!energy) {
      complete_ = false;
      return;
    }
    sum_.energy = sum_.energy.value_or(Energy()) + *energy;
    sum_.tier = any_ ? WorseTier(sum_.tier, tier) : tier;
    any_ = true;
  }
  EnergySum Get() const {
    EnergySum sum = sum_;
    sum.complete = complete_;
    return sum;
  }

 private:
  EnergySum sum_;
  bool any_ = false, complete_ = true;
};

void AddSpan(const PhaseSpan& span, Adder& adder, double& seconds, double& metered_seconds) {
  const double wall = absl::ToDoubleSeconds(span.wall);
  seconds += wall;
  if (!span.energy.missing()) metered_seconds += wall;
  // A phase that took no time and was not metered hides nothing.
  if (wall > 0 || !span.energy.missing()) adder.Add(span.energy.energy, span.energy.tier);
}

using PhaseAdders = std::map<Phase, std::pair<PhaseTotals, Adder>>;

void AddToPhase(const PhaseSpan& span, PhaseAdders& phases) {
  auto& [phase, adder] = phases[span.phase];
  phase.phase = span.phase;
  phase.cpu_seconds += absl::ToDoubleSeconds(span.cpu);
  AddSpan(span, adder, phase.seconds, phase.metered_seconds);
}

std::vector<PhaseTotals> TotalsOf(const PhaseAdders& phases) {
  std::vector<PhaseTotals> totals;
  for (const auto& [key, value] : phases) {
    totals.push_back(value.first);
    totals.back().spent = value.second.Get();
  }
  return totals;
}

// `shared`: of a machine's joules, processes got their parts.
std::string Covers(EnergyTier tier, bool shared) {
  if (shared && tier == EnergyTier::kComponent) return "processor packages or other parts with a counter, of which each process's part by CPU time; not the rest of the device";
  if (shared && tier < EnergyTier::kGeneric) return absl::StrCat(Covers(tier, false), ", of which each process's part by CPU time");
  switch (tier) {
    case EnergyTier::kWall:
      return "whole devices at the wall plug, losses of power supplies included";
    case EnergyTier::kDevice:
      return "whole devices";
    case EnergyTier::kComponent:
      return "processor packages or other parts with a counter, all processes and idle power included; not the rest of the device";
    case EnergyTier::kCalibratedHere:
    case EnergyTier::kCalibratedClass:
      return "what the model was calibrated against";
    case EnergyTier::kGeneric:
      return "processor time of the training process only; no idle power, memory, storage, GPU or network";
    case EnergyTier::kMissing:
      return "nothing";
  }
  return "";
}

std::vector<std::string> Boundary(const EnergyReport& report, const std::set<EnergyTier>& tiers, bool clients_shared, bool server_shared) {
  std::vector<std::string> lines;
  if (report.simulated) lines.push_back("simulated devices: joules follow from a model of each device class and were not metered");
  for (EnergyTier tier : tiers) {
    if (report.simulated) break;  // the model's own boundary is stated below
    lines.push_back(absl::StrCat("clients, tier ", std::string(EnergyTierName(tier)), ": ", Covers(tier, clients_shared)));
  }
  if (report.simulated) lines.push_back("clients: active power while training, idle power while sending and receiving; no waiting between attempts");
  if (!report.server.energy) {
    lines.push_back("coordinator: not metered");
  } else {
    lines.push_back(absl::StrCat("coordinator, tier ", std::string(EnergyTierName(report.server.tier)), ": ", Covers(report.server.tier, server_shared)));
  }
  if (!report.simulated && report.between_seconds == 0) lines.push_back("clients between attempts: not told, not counted");
  lines.push_back("network equipment between clients and coordinator: not counted");
  return lines;
}

// 2 operations a multiply-add; a training pass is a forward pass and a backward pass of twice its work. Unset as soon as one update does not say.
std::optional<double> TrainFlops(const RunRecord& run, int64_t accepted) {
  int64_t epochs = 0, steps = 0;
  // Steps are not epochs, and a record does not tell how many examples they saw.
  if (!absl::SimpleAtoi(internal::SettingOf(run, "training.local_epochs"), &epochs) || !absl::SimpleAtoi(internal::SettingOf(run, "training.local_steps"), &steps) ||
      steps != 0) {
    return std::nullopt;
  }
  double macs = 0;
  int64_t counted = 0;
  for (const AttemptRecord& attempt : run.attempts) {
    if (attempt.outcome != "accepted") continue;
    if (!attempt.fit_macs || !attempt.train_examples || !attempt.completed_work) return std::nullopt;
    macs += *attempt.fit_macs * static_cast<double>(*attempt.train_examples) * static_cast<double>(epochs);
    ++counted;
  }
  const double flops = 2 * 3 * macs;
  if (counted == 0 || counted < accepted || !std::isfinite(flops)) return std::nullopt;
  return flops;
}

// `report.total` and `report.totals` are complete.
ReportCarbon Carbon(const EnergyReport& report, const ReportContext& context) {
  ReportCarbon carbon;
  if (context.g_per_kwh) {
    carbon.g_per_kwh = context.g_per_kwh;
    carbon.source = context.intensity_source.empty() ? "given on the command line" : context.intensity_source;
    if (report.total.energy) carbon.operational_grams = KilowattHours(*report.total.energy) * *context.g_per_kwh;
    carbon.complete = report.total.complete;
    carbon.estimate = IsEstimate(report.total.tier);
    return carbon;
  }
  const RunTotals& totals = report.totals;
  const CarbonTotals& clients = totals.client_carbon;
  if (!clients.operational && !clients.wasted && !totals.server_operational) return carbon;
  carbon.operational_grams =
      (clients.operational.value_or(CarbonMass()) + clients.wasted.value_or(CarbonMass()) + totals.server_operational.value_or(CarbonMass())).grams();
  const bool failures = totals.clients_rejected + totals.clients_late + totals.clients_dropped > 0;
  carbon.complete = report.total.complete && clients.clients >= totals.clients_completed && (clients.wasted || !failures) && totals.server_operational;
  carbon.estimate = IsEstimate(report.total.tier) || clients.basis != IntensityBasis::kObserved;
  if (clients.embodied && totals.server_embodied) carbon.embodied_grams = (*clients.embodied + *totals.server_embodied).grams();
  carbon.source = clients.source;
  return carbon;
}

}  // namespace

std::optional<double> EnergyReport::client_coverage() const {
  if (!(client_seconds > 0)) return std::nullopt;
  return metered_client_seconds / client_seconds;
}

std::optional<double> EnergyReport::server_coverage() const {
  if (!(totals.wall_seconds > 0)) return std::nullopt;
  return metered_server_seconds / totals.wall_seconds;
}

EnergyReport MakeEnergyReport(const RunRecord& run, const ReportContext& context) {
  EnergyReport report;
  report.location = context.location;
  report.finished = run.summary.has_value();
  if (run.summary) {
    report.run_id = run.summary->run_id;
    report.version = run.summary->version;
    report.command = run.summary->command;
    report.simulated = run.summary->simulated;
  } else if (!run.rounds.empty()) {
    report.run_id = run.rounds.front().run_id;
    report.simulated = run.rounds.front().virtual_seconds.has_value();
  }
  report.totals = SumRounds(run.rounds);

  Adder server;
  bool spent_known = true;
  std::set<EnergyTier> client_tiers;
  for (const RoundRecord& round : run.rounds) {
    report.started_at = report.started_at ? std::min(*report.started_at, round.started_at) : round.started_at;
    report.finished_at = report.finished_at ? std::max(*report.finished_at, round.finished_at) : round.finished_at;
    server.Add(round.server_energy.energy, round.server_energy.tier);
    if (!round.server_energy.missing()) report.metered_server_seconds += round.wall_seconds;
    spent_known = spent_known && ClientEnergySpent(round).has_value();
    if (round.client_energy) client_tiers.insert(round.client_energy_tier);
    for (const auto& [tier, energy] : round.client_energy_by_tier) client_tiers.insert(tier);
  }
  report.server = server.Get();
  report.tiers = report.totals.client_energy_by_tier;

  PhaseAdders phases, between_phases, server_phases;
  Adder between;
  bool idle_known = true, gross_known = true, clients_shared = false, server_shared = false;
  Energy idle, gross, spent;
  std::map<std::string, std::pair<ClientTotals, Adder>> clients;
  EnergyTier wasted_tier = EnergyTier::kMissing;
  for (const AttemptRecord& attempt : run.attempts) {
    auto& [client, client_adder] = clients[attempt.client];
    client.client = attempt.client;
    ++client.attempts;
    if (attempt.outcome == "accepted") ++client.accepted;
    for (const PhaseSpan& span : attempt.phases) {
      AddSpan(span, client_adder, client.seconds, client.metered_seconds);
      AddToPhase(span, phases);
      if (span.energy.missing()) continue;
      spent += *span.energy.energy;
      idle += span.energy.idle.value_or(Energy());
      gross += span.energy.gross.value_or(Energy());
      idle_known = idle_known && span.energy.idle.has_value();
      clients_shared = clients_shared || span.energy.gross.has_value();
      gross_known = gross_known && span.energy.gross.has_value();
      if (!span.energy.source.empty()) report.sources.insert(span.energy.source);
      if (attempt.outcome != "accepted") {
        wasted_tier = wasted_tier == EnergyTier::kMissing ? span.energy.tier : WorseTier(wasted_tier, span.energy.tier);
      }
    }
    if (attempt.quarantine.empty()) {
      for (const PhaseSpan& span : attempt.between) {
        AddToPhase(span, between_phases);
        AddSpan(span, between, report.between_seconds, report.metered_between_seconds);
      }
    }
    // An attempt that never told its time leaves a hole of unknown length.
    if (attempt.phases.empty()) client_adder.Add(std::nullopt, EnergyTier::kMissing);
  }
  report.phases = TotalsOf(phases);
  for (const PhaseTotals& phase : report.phases) {
    report.client_seconds += phase.seconds;
    report.metered_client_seconds += phase.metered_seconds;
  }
  report.between_phases = TotalsOf(between_phases);
  report.between = between.Get();
  if (report.between_seconds == 0) report.between.complete = false;  // nobody told
  for (const RoundRecord& round : run.rounds) {
    for (const PhaseSpan& span : round.server_phases) {
      AddToPhase(span, server_phases);
      server_shared = server_shared || span.energy.gross.has_value();
    }
  }
  report.server_phases = TotalsOf(server_phases);
  if (idle_known && spent > Energy()) {
    report.idle = idle;
    report.dynamic = spent - idle;
  }
  if (gross_known && spent > Energy()) report.gross = gross;
  for (auto& [key, value] : clients) {
    value.first.spent = value.second.Get();
    report.clients_by_joules.push_back(std::move(value.first));
  }
  std::stable_sort(report.clients_by_joules.begin(), report.clients_by_joules.end(),
                   [](const ClientTotals& a, const ClientTotals& b) { return a.spent.energy > b.spent.energy; });

  const RunTotals& totals = report.totals;
  report.clients = {totals.client_energy, totals.client_energy_tier, totals.client_energy_clients >= totals.clients_completed};
  // Where no failed attempt is in the record, its joules were estimated, or metered by who knows what.
  report.wasted = {totals.client_energy_wasted,
                   !totals.client_energy_wasted                ? EnergyTier::kMissing
                   : wasted_tier != EnergyTier::kMissing       ? wasted_tier
                   : totals.client_energy                      ? totals.client_energy_tier
                                                               : EnergyTier::kGeneric,
                   spent_known};
  Adder total;
  for (const EnergySum* part : {&report.clients, &report.wasted, &report.between, &report.server}) {
    if (part->energy) total.Add(part->energy, part->tier);
  }
  report.total = total.Get();
  // A span without joules inside an attempt that came with some is a hole too.
  // What a simulated device draws between attempts is outside of the boundary, as that says.
  const bool no_holes = report.metered_client_seconds >= report.client_seconds && (report.simulated || report.metered_between_seconds >= report.between_seconds);
  report.total.complete = spent_known && no_holes && report.server.complete && report.total.energy.has_value();
  report.boundary = Boundary(report, client_tiers, clients_shared, server_shared);
  report.train_flops = TrainFlops(run, totals.clients_completed);

  report.carbon = Carbon(report, context);
  return report;
}

}  // namespace fedwatt

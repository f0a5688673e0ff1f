// What a run spent, how well that is known, and where the numbers come from: the one source of every report format.
#ifndef FEDWATT_REPORT_ENERGY_REPORT_H_
#define FEDWATT_REPORT_ENERGY_REPORT_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "fedwatt/energy/phase_tracker.h"
#include "fedwatt/energy/quantities.h"
#include "fedwatt/report/run_record.h"

namespace fedwatt {

// What a record may not say and a person may know. Empty means unknown; what is given goes before what was recorded.
struct ReportContext {
  std::optional<double> g_per_kwh;  // >= 0, finite: grams of CO2-equivalent a kWh of electricity, location-based
  std::string intensity_source;     // where that number is from, with its year
  std::string location;             // "Brittany, France"; as granular as wished
};

// Joules of some windows. `energy` sums those whose joules are known and is unset when there are none; it is the whole only where `complete`.
struct EnergySum {
  std::optional<Energy> energy;
  EnergyTier tier = EnergyTier::kMissing;  // the worst of the parts
  bool complete = false;
};

struct PhaseTotals {
  Phase phase = Phase::kInit;
  double seconds = 0, cpu_seconds = 0;
  double metered_seconds = 0;  // of `seconds`, with known joules
  EnergySum spent;
};

struct ClientTotals {
  std::string client;  // pseudonym
  int64_t attempts = 0, accepted = 0;
  double seconds = 0, metered_seconds = 0;
  EnergySum spent;
};

// Grams of CO2-equivalent: of EnergyReport::total at the intensity that a person gave, else what the run recorded at its configured sites.
// Unset is unknown, never 0.
struct ReportCarbon {
  std::optional<double> operational_grams;  // wasted attempts and the coordinator included
  bool complete = false;                    // operational_grams is the whole
  bool estimate = false;                    // the joules or the intensity are estimates
  std::optional<double> embodied_grams;     // share of the devices' manufacture; unset unless all of it is known
  std::optional<double> g_per_kwh;          // set where one intensity holds for all
  std::string source;                       // of the intensity
};

// All that formats print. Sums of attempts count every attempt in clients.jsonl, accepted or not.
struct EnergyReport {
  std::string run_id, version, command, location;
  bool finished = false;   // the run left a summary
  bool simulated = false;  // joules are those of modelled devices
  std::optional<absl::Time> started_at, finished_at;
  RunTotals totals;

  // How well the numbers are known; every format shows these before its headline.
  std::vector<std::string> boundary;                    // sentences: what is counted and what is not
  double client_seconds = 0, metered_client_seconds = 0;  // wall time of attempts, and the part with known joules
  double metered_server_seconds = 0;                    // of totals.wall_seconds
  std::map<EnergyTier, Energy> tiers;                   // of the accepted updates' joules
  std::set<std::string> sources;                        // meters that clients named

  EnergySum clients;  // accepted updates
  EnergySum wasted;   // attempts that did not count
  EnergySum between;  // the clients' time outside attempts, as far as they told it: waiting, evaluations, reporting
  EnergySum server;
  EnergySum total;    // the four together
  double between_seconds = 0, metered_between_seconds = 0;
  // Of all attempts' spans, where every metered one says: the machines' idle power and what was drawn above it, together what the clients drew; and what the
  // machines drew meanwhile, other processes included.
  std::optional<Energy> idle, dynamic, gross;
  ReportCarbon carbon;

  std::vector<PhaseTotals> phases;   // of attempts, in order of Phase; only those that occurred
  std::vector<PhaseTotals> between_phases, server_phases;  // likewise; of the coordinator, from the start of the run to its last record
  std::vector<ClientTotals> clients_by_joules;  // greatest first, unknown last

  std::optional<double> train_flops;  // derived from multiply-adds; unset unless known of every accepted update

  // Part of the attempts' wall time whose joules are known, [0, 1]; unset when the record has no attempts with time.
  std::optional<double> client_coverage() const;
  std::optional<double> server_coverage() const;
};

EnergyReport MakeEnergyReport(const RunRecord& run, const ReportContext& context = {});

// Kilowatt-hours; exact to the last of a double's digits.
inline double KilowattHours(Energy energy) { return static_cast<double>(energy.microjoules()) / 3.6e12; }

}  // namespace fedwatt

#endif  // FEDWATT_REPORT_ENERGY_REPORT_H_

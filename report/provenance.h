// How well a report's joules are known, in words that several formats share; private to the room.
#ifndef FEDWATT_REPORT_PROVENANCE_H_
#define FEDWATT_REPORT_PROVENANCE_H_

#include <string>
#include <utility>
#include <vector>

#include "fedwatt/report/energy_report.h"

namespace fedwatt::internal {

// Named lines, in the order to print them: "boundary" (one or more), "coverage", "tiers".
std::vector<std::pair<std::string, std::string>> ProvenanceLines(const EnergyReport& report);
// The same as one line: "boundary: ...; coverage: ...; tiers: ...".
std::string ProvenanceText(const EnergyReport& report);

// "~12.3 J", "at least ~12.3 J" where parts are not known, "not measured".
std::string SumText(const EnergySum& sum);
// "estimated" or "measured", with the tier; "not measured".
std::string SumBasis(const EnergySum& sum);

// "at least ~0.5 g CO2e (475 g/kWh, world mean 2019; manufacture not included)"; "" when unknown.
std::string CarbonText(const EnergyReport& report);
// What those grams rest on: "475 g/kWh, world mean 2019; manufacture not included".
std::string CarbonBasis(const EnergyReport& report);

}  // namespace fedwatt::internal

#endif  // FEDWATT_REPORT_PROVENANCE_H_

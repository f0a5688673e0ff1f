#include "carbon_lines.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "format.h"

namespace fedwatt::internal {
namespace {

std::string BasisMeaning(IntensityBasis basis) {
  switch (basis) {
    case IntensityBasis::kObserved: return "as observed";
    case IntensityBasis::kEstimated: return "partly the provider's estimate";
    case IntensityBasis::kForecast: return "partly forecast";
    case IntensityBasis::kPersistence: return "partly of earlier days";
    case IntensityBasis::kStatic: return "partly a table's value";
    case IntensityBasis::kMissing: break;
  }
  return "not known";
}

std::string Grams(const CarbonMass& mass, bool estimate) { return absl::StrCat(estimate ? "~" : "", Significant(mass.grams()), " g"); }

}  // namespace

std::vector<std::pair<std::string, std::string>> CarbonLines(const RunTotals& totals) {
  const CarbonTotals& carbon = totals.client_carbon;
  std::vector<std::pair<std::string, std::string>> lines;
  if (!carbon.kind) return lines;
  const bool estimate = IsEstimate(totals.client_energy_tier) || carbon.basis != IntensityBasis::kObserved;
  if (carbon.operational || carbon.wasted) {
    lines.emplace_back("clients' grams",
                       absl::StrCat(Grams(carbon.operational.value_or(CarbonMass()), estimate), " operational",
                                    carbon.clients < totals.clients_completed ? absl::StrCat(" (", carbon.clients, "/", totals.clients_completed, ")") : "",
                                    carbon.wasted ? absl::StrCat("; ", Grams(*carbon.wasted, true), " wasted on attempts that did not count") : ""));
    lines.emplace_back("", absl::StrCat(std::string(IntensityKindName(*carbon.kind)), " intensity, ", BasisMeaning(carbon.basis), ", from ", carbon.source,
                                        carbon.age && *carbon.age > absl::ZeroDuration() ? absl::StrCat(", up to ", absl::FormatDuration(*carbon.age), " old") : ""));
  } else {
    lines.emplace_back("clients' grams", "not known");
  }
  if (carbon.embodied) lines.emplace_back("", absl::StrCat(Grams(*carbon.embodied, true), " embodied in the devices over that time"));
  if (carbon.water_l) lines.emplace_back("clients' water", absl::StrCat(estimate ? "~" : "", Significant(*carbon.water_l), " l"));
  if (totals.server_operational) {
    lines.emplace_back("server's grams", absl::StrCat(Grams(*totals.server_operational, IsEstimate(totals.server_energy_tier) || estimate), " operational",
                                                      totals.server_embodied ? absl::StrCat(", ", Grams(*totals.server_embodied, true), " embodied") : ""));
  }
  std::vector<std::string> scores;
  const auto score = [&](double units, const char* what) {
    if (const std::optional<double> sci = RunSci(totals, units)) scores.push_back(absl::StrCat("~", Significant(*sci), " g ", what));
  };
  score(static_cast<double>(totals.rounds_committed), "a round");
  score(static_cast<double>(totals.clients_completed), "an update");
  score(static_cast<double>(totals.train_examples) / 1000, "per 1000 examples trained");
  if (totals.best_accuracy) score(100 * *totals.best_accuracy, "per point of accuracy");
  lines.emplace_back("SCI v1.1", scores.empty() ? "not known: it needs all grams, embodied ones too" : absl::StrCat(absl::StrJoin(scores, ", "), "; clients, location-based"));
  return lines;
}

}  // namespace fedwatt::internal

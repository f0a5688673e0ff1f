// Grams of CO2-equivalent: intensity of the grid over time, sites, embodied shares and the SCI score. docs/energy.md tells what the numbers mean.
#ifndef FEDWATT_ENERGY_CARBON_H_
#define FEDWATT_ENERGY_CARBON_H_

#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "fedwatt/base/registry.h"
#include "fedwatt/energy/quantities.h"

namespace fedwatt {

// A mass of CO2-equivalent in integer micrograms: a joule on an average grid is about 130 of them.
class CarbonMass {
 public:
  constexpr CarbonMass() = default;
  constexpr int64_t micrograms() const { return micrograms_; }
  constexpr double grams() const { return static_cast<double>(micrograms_) / 1e6; }
  friend constexpr auto operator<=>(CarbonMass, CarbonMass) = default;
  friend constexpr CarbonMass operator+(CarbonMass a, CarbonMass b) { return CarbonMass(a.micrograms_ + b.micrograms_); }
  friend constexpr CarbonMass operator-(CarbonMass a, CarbonMass b) { return CarbonMass(a.micrograms_ - b.micrograms_); }
  CarbonMass& operator+=(CarbonMass other) { return *this = *this + other; }

 private:
  constexpr explicit CarbonMass(int64_t micrograms) : micrograms_(micrograms) {}
  friend constexpr CarbonMass Micrograms(int64_t value);
  int64_t micrograms_ = 0;
};
constexpr CarbonMass Micrograms(int64_t value) { return CarbonMass(value); }
// Rounds to the nearest microgram. `value` is finite and within (-9e12, 9e12): aborts otherwise.
CarbonMass GramsOfCarbon(double value);
// What `energy` emits at `g_per_kwh` >= 0.
CarbonMass OperationalCarbon(Energy energy, double g_per_kwh);

// An average grid mix and the marginal plant answer different questions; they are never mixed or compared.
enum class IntensityKind : uint8_t { kAverage, kMarginal };
std::string_view IntensityKindName(IntensityKind kind);  // "average", "marginal"
// Whether fuel supply and construction count (lifecycle) or only the chimney (direct).
enum class EmissionFactor : uint8_t { kLifecycle, kDirect, kUnknown };
std::string_view EmissionFactorName(EmissionFactor factor);  // "lifecycle", "direct", "unknown"
// How an intensity was come by, best first; a sum carries the worst of its parts.
enum class IntensityBasis : uint8_t { kObserved, kEstimated, kForecast, kPersistence, kStatic, kMissing };
std::string_view IntensityBasisName(IntensityBasis basis);  // "observed", "estimated", "forecast", "persistence", "static", "missing"

// One line of a series: the half-open interval [start, end).
struct IntensityRow {
  absl::Time start, end;
  std::string zone;  // with its provider, e.g. "UK:13", "EM:FR", "WT:CAISO_NORTH"
  double g_per_kwh = 0;
  IntensityKind kind = IntensityKind::kAverage;
  EmissionFactor factor = EmissionFactor::kUnknown;
  std::optional<absl::Time> issued;  // a forecast, made then; unset: observed
  bool estimated = false;            // the provider filled a gap by a model
  std::string source, licence;
  friend bool operator==(const IntensityRow&, const IntensityRow&) = default;
};

// The CSV form of a series (docs/energy.md): header, one row a line, times in RFC 3339 with Z. ReadIntensityCsv(WriteIntensityCsv(rows)) is `rows`.
// Errors: DATA_LOSS  line and column, expected and got; nothing is skipped
absl::StatusOr<std::vector<IntensityRow>> ReadIntensityCsv(std::string_view text, const std::string& where);
std::string WriteIntensityCsv(absl::Span<const IntensityRow> rows);

// What an importer needs beside the bytes.
struct ImportOptions {
  std::string zone;                  // where the response does not say; "" = as the response says
  std::optional<absl::Time> issued;  // of a forecast whose response does not say when it was made
  std::optional<IntensityKind> kind; // where the response does not say
  std::string licence;               // "" = the provider's own, where one holds for all its data
};
// Reads one recorded JSON response. Values that are null are left out, not taken for zero.
// Errors: UNAUTHENTICATED, RESOURCE_EXHAUSTED, UNAVAILABLE, INVALID_ARGUMENT  the response is the provider's error of that kind
//         DATA_LOSS  not what this provider sends (field named)
using IntensityImporter = absl::StatusOr<std::vector<IntensityRow>> (*)(std::string_view json, const ImportOptions& options);
using IntensityImporterRegistry = Registry<IntensityImporter>;
// "carbon_aware_sdk", "electricity_maps", "uk_carbon_intensity", "watttime".
IntensityImporterRegistry& IntensityImporters();

struct Intensity {
  double g_per_kwh = 0;
  IntensityBasis basis = IntensityBasis::kMissing;
  std::string source;
  absl::Duration age;  // of the newest fact behind it: since a forecast was issued, or since an older value was observed
};

// One zone's intensities of one kind and factor. Immutable; thread-compatible.
class IntensitySeries {
 public:
  // Rows of `zone`, `kind` and, unless it is unset, `factor`.
  // Errors: NOT_FOUND  no such row; INVALID_ARGUMENT  rows of one issue overlap, or the zone has several factors and none was named
  static absl::StatusOr<IntensitySeries> Create(absl::Span<const IntensityRow> rows, std::string_view zone, IntensityKind kind,
                                                std::optional<EmissionFactor> factor);

  // What could be known of `at` at the time `as_of`: the value observed, if its interval had ended by then; else the newest forecast issued by
  // then; else what was observed a whole number of days, at most seven, before. Never looks past `as_of`. nullopt: none of these.
  std::optional<Intensity> At(absl::Time at, absl::Time as_of) const;
  // What is known today of `at`: observed, else the newest forecast.
  std::optional<Intensity> Settled(absl::Time at) const;
  // The end of the interval behind Settled(at), or the next start after `at` where there is none; InfiniteFuture past the last one.
  absl::Time NextChange(absl::Time at) const;

  absl::Time first() const { return first_; }
  absl::Time last() const { return last_; }

 private:
  struct Span {
    absl::Time start, end;
    double g_per_kwh;
    bool estimated;
  };
  static const Span* Covering(const std::vector<Span>& spans, absl::Time at);
  std::vector<Span> observed_;
  std::map<absl::Time, std::vector<Span>> forecasts_;  // by issue
  absl::Duration horizon_;                             // the farthest that any forecast looks
  std::string source_;
  absl::Time first_, last_;
};

// Manufacture, spread over the device's life.
struct Embodied {
  double kilograms = 0;       // >= 0
  double lifetime_years = 0;  // > 0
  std::string source;
};
// What `share` in [0, 1] of the device carries for `span`.
CarbonMass EmbodiedCarbon(const Embodied& embodied, absl::Duration span, double share);
// For a device class of a simulated fleet. Errors: NOT_FOUND
absl::StatusOr<Embodied> FindEmbodied(std::string_view device_class);

// Where devices stand: what their electricity emits and what the building adds.
struct CarbonSite {
  std::string name;
  std::string zone;                       // "" = no series, only the static factor
  std::optional<double> static_g_per_kwh; // the last resort where the series has nothing
  double pue = 1;                         // >= 1: facility energy over IT energy; 1 for phones and boards
  std::optional<double> wue_l_per_kwh;    // litres of water per kWh of IT energy
  std::optional<Embodied> embodied;       // of one device
  double share = 1;                       // > 0: of a simulated fleet's members, relative to the other sites
};
// "NAME key=value ...": zone=UK:13, g_per_kwh=NUMBER or a fuel's or the world's name (coal, gas, ..., world), pue=, wue=, embodied_kg=,
// lifetime_years=, share=. Errors: INVALID_ARGUMENT
absl::StatusOr<CarbonSite> ParseCarbonSite(std::string_view text);

// Grams of one attempt, or of one span of the coordinator. Missing is never zero.
struct CarbonReading {
  std::optional<CarbonMass> operational;
  std::optional<CarbonMass> embodied;
  std::optional<double> water_l;
  IntensityBasis basis = IntensityBasis::kMissing;
  std::optional<double> g_per_kwh;      // mean over the span
  std::string source;                   // of the intensity
  std::optional<absl::Duration> age;    // of the oldest intensity used
};

// The sites of a federation. Immutable; thread-compatible.
class CarbonModel {
 public:
  // Errors: as IntensitySeries::Create, naming the site; INVALID_ARGUMENT  two sites of one name, or a site with neither zone nor g_per_kwh
  static absl::StatusOr<CarbonModel> Create(std::vector<CarbonSite> sites, absl::Span<const IntensityRow> rows, IntensityKind kind,
                                            std::optional<EmissionFactor> factor);

  const std::vector<CarbonSite>& sites() const { return sites_; }
  IntensityKind kind() const { return kind_; }
  // Index, or nullopt.
  std::optional<size_t> FindSite(std::string_view name) const;
  // What could be known of the electricity at `site` at the time `as_of`, PUE included; the static factor where the series has nothing.
  std::optional<Intensity> IntensityAt(size_t site, absl::Time at, absl::Time as_of) const;
  // The grams of `energy`, taken to be spent evenly over [from, to), cut at the borders of the intensities. `embodied` overrides the site's.
  CarbonReading Account(size_t site, const std::optional<Energy>& energy, absl::Time from, absl::Time to,
                        const std::optional<Embodied>& embodied = std::nullopt) const;

 private:
  std::vector<CarbonSite> sites_;
  std::vector<std::optional<IntensitySeries>> series_;  // by site
  IntensityKind kind_ = IntensityKind::kAverage;
};

// Software Carbon Intensity, SCI specification v1.1 (ISO/IEC 21031:2024): (E * I + M) per R, in grams. Location-based only. nullopt when a part is
// missing or `units` is not > 0.
std::optional<double> SciScore(const std::optional<CarbonMass>& operational, const std::optional<CarbonMass>& embodied, double units);

}  // namespace fedwatt

#endif  // FEDWATT_ENERGY_CARBON_H_

// Sites, embodied shares and the grams of a span.
#include <algorithm>
#include <cmath>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/energy/carbon.h"

namespace fedwatt {
namespace internal {
void InstallIntensityImporters(IntensityImporterRegistry& registry);
}  // namespace internal

namespace {

constexpr double kMicrojoulesPerKwh = 3.6e12;

// Grams a kWh by source of electricity and for the world's mix, as CodeCarbon (MIT licence) ships them, snapshot of 2025: last resorts.
const std::map<std::string, double>& StaticFactors() {
  static const auto* factors = new std::map<std::string, double>{{"coal", 995},   {"petroleum", 816}, {"gas", 743},  {"solar", 48}, {"geothermal", 38},
                                                                 {"nuclear", 29}, {"hydro", 26},      {"wind", 26}, {"world", 475}};
  return *factors;
}

bool ParseNonNegative(const std::string& text, double& out) { return absl::SimpleAtod(text, &out) && std::isfinite(out) && out >= 0; }

}  // namespace

IntensityImporterRegistry& IntensityImporters() {
  static IntensityImporterRegistry* registry = [] {
    auto* made = new IntensityImporterRegistry("intensity importer");
    internal::InstallIntensityImporters(*made);
    return made;
  }();
  return *registry;
}

CarbonMass GramsOfCarbon(double value) {
  FEDWATT_CHECK(std::isfinite(value) && std::abs(value) < 9e12);
  return Micrograms(std::llround(value * 1e6));
}

CarbonMass OperationalCarbon(Energy energy, double g_per_kwh) {
  return GramsOfCarbon(static_cast<double>(energy.microjoules()) * g_per_kwh / kMicrojoulesPerKwh);
}

CarbonMass EmbodiedCarbon(const Embodied& embodied, absl::Duration span, double share) {
  const double years = absl::ToDoubleHours(span) / (24 * 365.25);
  return GramsOfCarbon(embodied.kilograms * 1000 * share * years / embodied.lifetime_years);
}

absl::StatusOr<Embodied> FindEmbodied(std::string_view device_class) {
  // Medians over products of the Boavizta environmental footprint file (2023, ODbL; orders of magnitude, by its owner's own warning): smartphone 53 kg
  // (n=50), laptop 236 (n=226), IoT device 24.5 (n=30), server 1215 (n=48). Lifetimes: the file's for phone and laptop, assumed for boards and servers.
  static const auto* table = new std::map<std::string, Embodied>{{"phone", {53, 3, "boavizta-2023"}},
                                                                 {"laptop", {236, 4, "boavizta-2023"}},
                                                                 {"raspberry_pi_4", {24.5, 5, "boavizta-2023"}},
                                                                 {"jetson_nano", {24.5, 5, "boavizta-2023"}},
                                                                 {"server_core", {1215.0 / 96, 5, "boavizta-2023"}}};  // one core of 96
  auto it = table->find(std::string(device_class));
  if (it == table->end()) return absl::NotFoundError(absl::StrCat("no embodied carbon of device class '", std::string(device_class), "'"));
  return it->second;
}

absl::StatusOr<CarbonSite> ParseCarbonSite(std::string_view text) {
  const std::vector<std::string> words = absl::StrSplit(std::string(text), ' ', absl::SkipEmpty());
  const auto refuse = [&](const std::string& problem) {
    return absl::InvalidArgumentError(absl::StrCat("carbon.sites: '", std::string(text), "': ", problem));
  };
  if (words.empty() || absl::StrContains(words[0], "=")) return refuse("expected \"NAME key=value ...\"");
  CarbonSite site;
  site.name = words[0];
  double kilograms = -1, years = 4;
  for (size_t i = 1; i < words.size(); ++i) {
    const std::pair<std::string, std::string> pair = absl::StrSplit(words[i], absl::MaxSplits('=', 1));
    const auto& [key, value] = pair;
    double number = 0;
    const bool is_number = ParseNonNegative(value, number);
    if (key == "zone" && !value.empty()) {
      site.zone = value;
    } else if (key == "g_per_kwh" && (is_number || StaticFactors().contains(value))) {
      site.static_g_per_kwh = is_number ? number : StaticFactors().at(value);
    } else if (key == "pue" && is_number && number >= 1 && number <= 10) {
      site.pue = number;
    } else if (key == "wue" && is_number) {
      site.wue_l_per_kwh = number;
    } else if (key == "embodied_kg" && is_number) {
      kilograms = number;
    } else if (key == "lifetime_years" && is_number && number > 0) {
      years = number;
    } else if (key == "share" && is_number && number > 0) {
      site.share = number;
    } else {
      std::vector<std::string> names;
      for (const auto& [name, unused] : StaticFactors()) names.push_back(name);
      return refuse(absl::StrCat("'", words[i], "': expected zone=NAME, g_per_kwh=NUMBER (or ", absl::StrJoin(names, ", "),
                                 "), pue=[1, 10], wue=, embodied_kg=, lifetime_years=, share="));
    }
  }
  if (kilograms >= 0) site.embodied = Embodied{kilograms, years, "configured"};
  return site;
}

absl::StatusOr<CarbonModel> CarbonModel::Create(std::vector<CarbonSite> sites, absl::Span<const IntensityRow> rows, IntensityKind kind,
                                                std::optional<EmissionFactor> factor) {
  CarbonModel model;
  model.kind_ = kind;
  std::set<std::string> names;
  for (const CarbonSite& site : sites) {
    if (!names.insert(site.name).second) return absl::InvalidArgumentError(absl::StrCat("carbon.sites: two sites are called '", site.name, "'"));
    if (site.zone.empty() && !site.static_g_per_kwh) {
      return absl::InvalidArgumentError(absl::StrCat("carbon.sites: '", site.name, "' has neither zone nor g_per_kwh"));
    }
    std::optional<IntensitySeries>& series = model.series_.emplace_back();
    if (site.zone.empty()) continue;
    absl::StatusOr<IntensitySeries> made = IntensitySeries::Create(rows, site.zone, kind, factor);
    if (!made.ok()) return Annotate(made.status(), absl::StrCat("carbon.sites: '", site.name, "'"));
    series = *std::move(made);
  }
  model.sites_ = std::move(sites);
  return model;
}

std::optional<size_t> CarbonModel::FindSite(std::string_view name) const {
  for (size_t i = 0; i < sites_.size(); ++i) {
    if (sites_[i].name == name) return i;
  }
  return std::nullopt;
}

std::optional<Intensity> CarbonModel::IntensityAt(size_t site, absl::Time at, absl::Time as_of) const {
  std::optional<Intensity> intensity;
  if (series_[site].has_value()) intensity = series_[site]->At(at, as_of);
  if (!intensity.has_value() && sites_[site].static_g_per_kwh) {
    intensity = Intensity{*sites_[site].static_g_per_kwh, IntensityBasis::kStatic, "static", absl::ZeroDuration()};
  }
  if (intensity.has_value()) intensity->g_per_kwh *= sites_[site].pue;
  return intensity;
}

CarbonReading CarbonModel::Account(size_t site, const std::optional<Energy>& energy, absl::Time from, absl::Time to,
                                   const std::optional<Embodied>& embodied) const {
  const CarbonSite& at = sites_[site];
  CarbonReading reading;
  const std::optional<Embodied>& made = embodied.has_value() ? embodied : at.embodied;
  const absl::Duration span = std::max(to - from, absl::ZeroDuration());
  if (made.has_value()) reading.embodied = EmbodiedCarbon(*made, span, 1);
  if (!energy.has_value()) return reading;
  if (at.wue_l_per_kwh) reading.water_l = static_cast<double>(energy->microjoules()) / kMicrojoulesPerKwh * *at.wue_l_per_kwh;

  // Intensity times seconds, over the pieces between the intensities' borders.
  double sum = 0;
  IntensityBasis worst = IntensityBasis::kObserved;
  absl::Duration age;
  std::set<std::string> sources;
  absl::Time begin = from;
  do {
    const std::optional<IntensitySeries>& series = series_[site];
    const absl::Time border = series.has_value() ? series->NextChange(begin) : absl::InfiniteFuture();
    const absl::Time end = std::min(to, border);
    std::optional<Intensity> intensity;
    if (series.has_value()) intensity = series->Settled(begin);
    if (!intensity.has_value() && at.static_g_per_kwh) intensity = Intensity{*at.static_g_per_kwh, IntensityBasis::kStatic, "static", {}};
    if (!intensity.has_value()) return reading;  // a part is missing, so the sum is
    sum += intensity->g_per_kwh * (span > absl::ZeroDuration() ? absl::FDivDuration(end - begin, span) : 1);
    worst = std::max(worst, intensity->basis);
    age = std::max(age, intensity->age);
    sources.insert(intensity->source);
    begin = end;
  } while (begin < to);
  reading.g_per_kwh = sum;
  reading.operational = OperationalCarbon(*energy, sum * at.pue);
  reading.basis = worst;
  reading.source = absl::StrJoin(sources, "+");
  reading.age = age;
  return reading;
}

std::optional<double> SciScore(const std::optional<CarbonMass>& operational, const std::optional<CarbonMass>& embodied, double units) {
  if (!operational || !embodied || !(units > 0)) return std::nullopt;
  return (operational->grams() + embodied->grams()) / units;
}

}  // namespace fedwatt

#include "fedwatt/energy/plausibility.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace fedwatt {
namespace {

constexpr double kTolerance = 0.1;                       // of clocks that differ
constexpr absl::Duration kSlack = absl::Seconds(5);      // what a coordinator sees late
constexpr int64_t kLeastReports = 5, kLeastClients = 8;
constexpr double kNinetyNine = 2.75;                     // 2.576 of a normal whose spread is known; it is estimated from some 100 clients
constexpr double kToDeviation = 1.4826;                  // from the median absolute deviation of a normal

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

}  // namespace

std::string PlausibilityChecker::Impossible(const ReportClaim& claim) {
  if (claim.wall > claim.elapsed * (1 + kTolerance) + kSlack) return "wall_beyond_elapsed";
  // By what has passed, not by the wall time claimed: meters resolve short phases badly.
  const absl::Duration longest = claim.elapsed * (1 + kTolerance) + kSlack;
  if (claim.energy && claim.max_power.watts() > 0 && *claim.energy > claim.max_power * longest) return "power_beyond_device";
  if (claim.between_energy && claim.max_power.watts() > 0 && *claim.between_energy > claim.max_power * (claim.between_wall * (1 + kTolerance) + kSlack)) {
    return "power_beyond_device";
  }
  if (claim.uplink_payload_bytes != claim.received_bytes || claim.downlink_payload_bytes > claim.sent_bytes) return "bytes_differ";
  return "";
}

void PlausibilityChecker::Learn(const ReportClaim& claim) {
  if (!claim.train_energy || claim.train_energy->microjoules() <= 0 || !(claim.macs > 0)) return;
  Figures& figures = clients_[claim.client];
  if (figures.energy_class != claim.energy_class) figures = Figures{.energy_class = claim.energy_class};  // another meter: another story
  const double value = std::log(static_cast<double>(claim.train_energy->microjoules()) / claim.macs);
  ++figures.count;
  const double step = value - figures.mean;
  figures.mean += step / static_cast<double>(figures.count);
  figures.squares += step * (value - figures.mean);
  classes_.erase(claim.energy_class);
}

const PlausibilityChecker::ClassFigures& PlausibilityChecker::Of(const std::string& energy_class) const {
  auto [found, fresh] = classes_.try_emplace(energy_class);
  ClassFigures& figures = found->second;
  if (!fresh) return figures;
  std::vector<double> means, deviations, counts;
  for (const auto& [client, one] : clients_) {
    if (one.energy_class != energy_class || one.count < kLeastReports) continue;
    means.push_back(one.mean);
    deviations.push_back(std::sqrt(one.squares / static_cast<double>(one.count - 1)));
    counts.push_back(static_cast<double>(one.count));
  }
  figures.clients = static_cast<int64_t>(means.size());
  if (figures.clients < kLeastClients) return figures;
  figures.median = Median(means);
  figures.within = Median(deviations);
  const double noise = figures.within * figures.within / Median(counts);
  // Liars widen the spread that hides them: once it is known roughly, those beyond it are left out of it.
  double most = std::numeric_limits<double>::infinity();
  for (int pass = 0; pass < 3; ++pass) {
    std::vector<double> kept, distances;
    for (double mean : means) {
      if (std::abs(mean - figures.median) <= most) kept.push_back(mean);
    }
    figures.median = Median(kept);
    for (double mean : kept) distances.push_back(std::abs(mean - figures.median));
    const double seen = kToDeviation * Median(distances);
    figures.between = std::sqrt(std::max(seen * seen - noise, 0.0));
    most = kNinetyNine * std::max(seen, std::sqrt(noise));
  }
  return figures;
}

std::string PlausibilityChecker::Conspicuous(const std::string& client) const {
  const auto found = clients_.find(client);
  if (found == clients_.end() || found->second.count < kLeastReports) return "";
  const ClassFigures& others = Of(found->second.energy_class);
  if (others.clients < kLeastClients) return "";
  const double deviation = std::sqrt(others.between * others.between + others.within * others.within / static_cast<double>(found->second.count));
  return std::abs(found->second.mean - others.median) > kNinetyNine * deviation ? "unlike_its_class" : "";
}

}  // namespace fedwatt

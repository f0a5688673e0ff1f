// When and where the grid is clean: rounds wait for cleaner hours while there is slack, and members at clean sites come first, within bounds that keep
// participation fair. Two decisions, both from what is known now (CarbonModel::IntensityAt as of now); no forecast beyond the one issued is used.
//
// When. The rest of the run needs rounds_left * round_length out of a window that is slack_left longer. The window is cut into slots of a round's length
// (longer ones where there would be more than 1000) and each slot priced: price(u) = sum over sites of share_s(u) * intensity_s(u), where share_s(u) is
// what fairness lets site s take at u: (1 - b) w_s for each, w_s its part of the members and b = 1 - fairness, and the rest, b, to the cleanest sites, at
// most 2 b w_s each. The round opens now unless as many slots as the rest of the run needs are cheaper than now by more than 2 %, the margin for
// forecasts that flatter; then it opens at the first of those. Taking the cheapest slots is optimal for one uninterrupted forecast; decided anew
// for each round, it follows forecasts as they change. Hours of which nothing is known are never waited for.
//
// Who. First those asked less often than fairness * mean; never, while others are left, those asked more often than (2 - fairness) * mean. Then by
// grams: joules * intensity, a member's joules being the mean of the others' where they are not known; at one price the least asked, then by lot.
// Guarantee: counts in [f m, (2 - f) m] bound the Gini coefficient of participation by (1 - f) / 2, plus what whole numbers add.
//
// Deferral in the manner of GreenFL (arXiv 2509.08980) and Wiesner et al. 2021 (arXiv 2110.13234, threshold over a forecast); fairness is ours.
// Cost: O(slots * sites + members log members).
#include <map>

#include "fedwatt/base/status_macros.h"
#include "fedwatt/round/selection.h"
#include "selection_draws.h"

namespace fedwatt::internal {
namespace {

constexpr double kMargin = 0.02;
constexpr int64_t kMostSlots = 1000;

class Prices {
 public:
  Prices(const SelectionRequest& request) : request_(request) {
    double count = 0;
    for (const Member& member : request.members) {
      if (!member.site) continue;
      ++weights_[*member.site];
      ++count;
    }
    for (auto& [site, weight] : weights_) weight /= count;
  }

  // Of a round at `at`; nullopt where a site's intensity is not known.
  std::optional<double> At(absl::Time at) const {
    if (request_.carbon == nullptr || weights_.empty()) return std::nullopt;
    std::vector<std::pair<double, double>> sites;  // intensity, weight
    for (const auto& [site, weight] : weights_) {
      const std::optional<Intensity> intensity = request_.carbon->IntensityAt(site, at, request_.now);
      if (!intensity) return std::nullopt;
      sites.emplace_back(intensity->g_per_kwh, weight);
    }
    std::sort(sites.begin(), sites.end());
    const double spread = 1 - request_.fairness;
    double price = 0, rest = spread;
    for (const auto& [intensity, weight] : sites) {
      const double more = std::min(rest, 2 * spread * weight);
      price += intensity * ((1 - spread) * weight + more);
      rest -= more;
    }
    return price;
  }

 private:
  const SelectionRequest& request_;
  std::map<size_t, double> weights_;
};

std::optional<absl::Time> BetterTime(const SelectionRequest& request) {
  if (request.slack_left <= absl::ZeroDuration()) return std::nullopt;
  const Prices prices(request);
  const std::optional<double> now = prices.At(request.now);
  if (!now) return std::nullopt;
  const absl::Duration needed = request.rounds_left * request.round_length;
  const absl::Duration window = needed + request.slack_left;
  const absl::Duration slot = std::max(request.round_length, window / kMostSlots);
  const int64_t slots = static_cast<int64_t>(std::ceil(absl::FDivDuration(window, slot) - 1e-9));
  const int64_t wanted = static_cast<int64_t>(std::ceil(absl::FDivDuration(needed, slot) - 1e-9));
  std::vector<std::pair<double, int64_t>> cheaper;
  for (int64_t i = 1; i < slots; ++i) {
    const std::optional<double> then = prices.At(request.now + i * slot);
    if (then && *then * (1 + kMargin) < *now) cheaper.emplace_back(*then, i);
  }
  if (static_cast<int64_t>(cheaper.size()) < wanted) return std::nullopt;
  std::sort(cheaper.begin(), cheaper.end());
  int64_t first = cheaper[0].second;
  for (int64_t i = 1; i < wanted; ++i) first = std::min(first, cheaper[static_cast<size_t>(i)].second);
  // What is put off past the slack would be cut short by it, in an hour that nobody chose.
  if (first * slot > request.slack_left) return std::nullopt;
  return request.now + first * slot;
}

Selection Select(const SelectionRequest& request, Random& random) {
  Selection selection;
  selection.not_before = BetterTime(request);
  std::vector<int64_t>& out = selection.partitions;
  const size_t wanted = WantedOf(request);
  const double mean = MeanSelectedAfter(request);
  MemberRefs pool = AllOf(request);
  TakeOwed(pool, wanted, std::floor(request.fairness * mean), random, out);

  double joules = 0, known = 0;
  for (const Member& member : request.members) {
    if (!member.joules) continue;
    joules += *member.joules;
    ++known;
  }
  const double mean_joules = known > 0 ? joules / known : 1;
  std::map<std::optional<size_t>, double> intensities;
  for (const Member& member : request.members) intensities[member.site] = 0;
  double highest = 1;
  for (auto& [site, intensity] : intensities) {
    std::optional<Intensity> found;
    if (site && request.carbon != nullptr) found = request.carbon->IntensityAt(*site, request.now, request.now);
    intensity = found ? found->g_per_kwh : -1;
    highest = std::max(highest, intensity);
  }
  const double most = std::ceil((2 - request.fairness) * mean);
  // A tuple as one number would mix units; the order is: within the bound, grams, how often asked. The last is small beside the smallest gram.
  MemberRefs within, beyond;
  for (const Member* member : pool) (static_cast<double>(member->selected_count + 1) <= most ? within : beyond).push_back(member);
  const auto take = [&](MemberRefs& from) {
    random.Shuffle(from);
    std::stable_sort(from.begin(), from.end(), [&](const Member* a, const Member* b) {
      const auto grams = [&](const Member& member) {
        const double intensity = intensities.at(member.site);
        return member.joules.value_or(mean_joules) * (intensity < 0 ? highest : intensity);  // an unknown grid is taken to be the worst known one
      };
      const double ga = grams(*a), gb = grams(*b);
      return ga != gb ? ga < gb : a->selected_count < b->selected_count;
    });
    for (size_t i = 0; i < from.size() && out.size() < wanted; ++i) out.push_back(from[i]->partition);
  };
  take(within);
  take(beyond);
  return selection;
}

}  // namespace

void InstallSelectionPolicy_carbon_aware(SelectionPolicyRegistry& registry) { FEDWATT_CHECK(registry.Register("carbon_aware", Select).ok()); }

}  // namespace fedwatt::internal

// When and where the grid is clean: rounds wait for cleaner hours while there is slack, and members at clean sites come first, within bounds that keep
// participation fair. Decided anew for each round from what is known now (CarbonModel::IntensityAt as of now): no forecast issued later is used.
//
// The plan. The next H rounds, those left but at most a day of them, need H * round_length out of a window that is slack_left longer. The window is cut
// into slots of a round's length (longer ones where there would be more than 400), each with an intensity g[t][s] a site. Which slots and sites give the
// fewest grams is a linear program:
//   minimize  sum over slots t, sites s of g[t][s] x[t][s]
//   where     each slot that is used holds one round's members, at most a site's members from each site, as many slots are used as H rounds need,
//             and low[s] <= sum over t of x[t][s] <= high[s], what brings each member's count into [f m, (2 - f) m]:
//             f = fairness, m the mean count after H rounds.
// Its dual in low and high gives a price a site, u[s], positive for a site that would be asked too often, negative for one owed its share (projected
// subgradient, 150 steps, the mean over the second half). Then
//   when  the round opens now, unless as many known slots as the plan would use are cheaper, at g + u, by more than 2 % of the mean intensity, the margin
//         for forecasts that flatter; if so, it opens at the first of those. Hours of which nothing is known are never waited for.
//   who   the members with the smallest joules * (g + u), none beyond (2 - f) m while others are left, at one price the least asked, then by lot; before
//         them those whom the remaining rounds could not otherwise bring up to f m, or whom the plan has put off for more than a day.
//
// Guarantee: counts in [f m, (2 - f) m] at the end of the run bound the Gini coefficient of participation by (1 - f) / 2, plus what whole numbers add.
// Members' joules, where not known, are the mean of the others'; a site whose intensity is not known is taken for the worst known one.
//
// Waiting by a threshold over a forecast: Wiesner et al. 2021 (arXiv 2110.13234); rounds within a slack: GreenFL (arXiv 2509.08980); the joint plan under
// bounds of fairness is ours. Cost: O(150 * slots * sites + members log members).
#include <map>

#include "fedwatt/base/status_macros.h"
#include "fedwatt/round/selection.h"
#include "selection_draws.h"

namespace fedwatt::internal {
namespace {

constexpr double kMargin = 0.02;
constexpr int64_t kMostSlots = 400;
constexpr int kSteps = 150;
constexpr absl::Duration kAhead = absl::Hours(24);

struct Site {
  std::optional<size_t> index;  // unset: members whose site is not known
  double members = 0;
  double low = 0, high = 0;     // how often its members may be asked in the rounds planned
  double price = 0;             // u
  double now = 0;               // g at present
};

struct Bounds {
  int64_t rounds = 1;           // planned, H
  int64_t floor = 0, ceiling = 0;  // of a member's count after them
};

Bounds BoundsOf(const SelectionRequest& request) {
  Bounds bounds;
  const int64_t day = static_cast<int64_t>(std::ceil(absl::FDivDuration(kAhead, request.round_length)));
  bounds.rounds = std::clamp<int64_t>(request.rounds_left, 1, std::max<int64_t>(day, 1));
  double sum = static_cast<double>(bounds.rounds) * static_cast<double>(WantedOf(request));
  for (const Member& member : request.members) sum += static_cast<double>(member.selected_count);
  const double mean = sum / static_cast<double>(std::max<size_t>(request.members.size(), 1));
  bounds.floor = static_cast<int64_t>(std::floor(request.fairness * mean));
  bounds.ceiling = static_cast<int64_t>(std::ceil((2 - request.fairness) * mean));
  return bounds;
}

class Plan {
 public:
  Plan(const SelectionRequest& request, const Bounds& bounds) : request_(request) {
    std::map<std::optional<size_t>, Site> sites;
    for (const Member& member : request.members) {
      Site& site = sites[member.site];
      site.index = member.site;
      ++site.members;
      site.low += static_cast<double>(std::clamp<int64_t>(bounds.floor - member.selected_count, 0, bounds.rounds));
      site.high += static_cast<double>(std::clamp<int64_t>(bounds.ceiling - member.selected_count, 0, bounds.rounds));
    }
    double worst = 0;
    std::vector<bool> known;
    for (auto& [index, site] : sites) {
      const std::optional<double> intensity = IntensityAt(site, request.now);
      known.push_back(intensity.has_value());
      site.now = intensity.value_or(0);
      worst = std::max(worst, site.now);
    }
    size_t i = 0;
    for (auto& [index, site] : sites) {
      if (!known[i++]) site.now = std::max(worst, 1.0);
      sites_.push_back(site);
    }
    any_known_ = worst > 0;
    if (any_known_) Solve(bounds);
  }

  // Of one joule of a member there, in grams a kWh.
  double PriceOf(const std::optional<size_t>& index) const {
    for (const Site& site : sites_) {
      if (site.index == index) return site.now + site.price;
    }
    return 0;
  }
  std::optional<absl::Time> not_before() const { return not_before_; }

 private:
  std::optional<double> IntensityAt(const Site& site, absl::Time at) const {
    if (!site.index || request_.carbon == nullptr) return std::nullopt;
    const std::optional<Intensity> intensity = request_.carbon->IntensityAt(*site.index, at, request_.now);
    if (!intensity) return std::nullopt;
    return intensity->g_per_kwh;
  }

  // What a slot's round costs at the present prices, and, added to `taken`, how many members of each site it takes.
  double CostOf(const std::vector<double>& slot, double picks, std::vector<double>* taken) {
    order_.clear();
    for (size_t s = 0; s < sites_.size(); ++s) order_.emplace_back(slot[s] + sites_[s].price, s);
    std::sort(order_.begin(), order_.end());
    double cost = 0, left = picks;
    for (const auto& [price, s] : order_) {
      const double take = std::min(left, sites_[s].members * picks_per_member_);
      cost += take * price;
      if (taken != nullptr) (*taken)[s] += take;
      left -= take;
    }
    return cost;
  }

  void Solve(const Bounds& bounds) {
    const absl::Duration needed = bounds.rounds * request_.round_length, window = needed + request_.slack_left;
    const absl::Duration length = std::max(request_.round_length, window / kMostSlots);
    const int64_t count = std::max<int64_t>(static_cast<int64_t>(std::ceil(absl::FDivDuration(window, length) - 1e-9)), 1);
    const double used = absl::FDivDuration(needed, window);  // of the slots
    slots_.push_back({});
    for (const Site& site : sites_) slots_[0].push_back(site.now);
    std::vector<int64_t> place = {0};
    double mean = 0;
    for (int64_t i = 1; i < count; ++i) {
      std::vector<double> slot;
      for (const Site& site : sites_) {
        const std::optional<double> intensity = IntensityAt(site, request_.now + i * length);
        if (intensity) {
          slot.push_back(*intensity);
        } else if (!site.index) {
          slot.push_back(site.now);  // an unknown site is as unknown at any time
        } else {
          break;
        }
      }
      if (slot.size() < sites_.size()) continue;
      slots_.push_back(std::move(slot));
      place.push_back(i);
    }
    for (const std::vector<double>& slot : slots_) {
      for (double value : slot) mean += value / static_cast<double>(slots_.size() * sites_.size());
    }
    const size_t wanted = std::clamp<size_t>(static_cast<size_t>(std::ceil(used * static_cast<double>(slots_.size()) - 1e-9)), 1, slots_.size());
    // Slots that are longer than a round, or stand for some of which nothing is known, take several rounds.
    const double rounds = static_cast<double>(bounds.rounds) / static_cast<double>(wanted);
    picks_per_member_ = rounds;
    const double picks = rounds * static_cast<double>(WantedOf(request_)), all = picks * static_cast<double>(wanted);
    if (all <= 0) return;

    std::vector<double> upper(sites_.size(), 0), lower(sites_.size(), 0), sum(sites_.size(), 0), total(sites_.size());
    std::vector<std::pair<double, size_t>> cost(slots_.size());
    const auto rank = [&] {
      for (size_t t = 0; t < slots_.size(); ++t) cost[t] = {CostOf(slots_[t], picks, nullptr), t};
      std::nth_element(cost.begin(), cost.begin() + static_cast<int64_t>(wanted - 1), cost.end());
    };
    for (int step = 1; step <= kSteps; ++step) {
      rank();
      std::fill(total.begin(), total.end(), 0);
      for (size_t i = 0; i < wanted; ++i) CostOf(slots_[cost[i].second], picks, &total);
      const double scale = 0.5 * mean / std::sqrt(static_cast<double>(step)) / all;
      for (size_t s = 0; s < sites_.size(); ++s) {
        upper[s] = std::max(0.0, upper[s] + scale * (total[s] - sites_[s].high));
        lower[s] = std::max(0.0, lower[s] + scale * (sites_[s].low - total[s]));
        sites_[s].price = upper[s] - lower[s];
        if (step > kSteps / 2) sum[s] += sites_[s].price;
      }
    }
    for (size_t s = 0; s < sites_.size(); ++s) sites_[s].price = sum[s] / (kSteps - kSteps / 2);
    if (request_.slack_left <= absl::ZeroDuration()) return;
    rank();
    const double now = CostOf(slots_[0], picks, nullptr) - kMargin * mean * picks;
    int64_t first = count;
    for (size_t i = 0; i < wanted; ++i) {
      if (cost[i].second == 0 || cost[i].first >= now) return;
      first = std::min(first, place[cost[i].second]);
    }
    const absl::Time then = request_.now + first * length;
    if (then - request_.now <= request_.slack_left) not_before_ = then;
  }

  const SelectionRequest& request_;
  std::vector<Site> sites_;
  std::vector<std::vector<double>> slots_;  // g by slot and site
  std::vector<std::pair<double, size_t>> order_;
  double picks_per_member_ = 1;
  bool any_known_ = false;
  std::optional<absl::Time> not_before_;
};

Selection Select(const SelectionRequest& request, Random& random) {
  Selection selection;
  const size_t wanted = WantedOf(request);
  if (wanted == 0) return selection;
  const Bounds bounds = BoundsOf(request);
  const Plan plan(request, bounds);
  selection.not_before = plan.not_before();
  std::vector<int64_t>& out = selection.partitions;

  MemberRefs pool = AllOf(request);
  // Whom the plan has put off for more than a day.
  const double mean = MeanSelectedAfter(request);
  const double day = std::ceil(absl::FDivDuration(kAhead, request.round_length)) * static_cast<double>(wanted) / static_cast<double>(request.members.size());
  TakeOwed(pool, wanted, std::floor(request.fairness * (mean - day)), random, out);
  // Whom the rounds planned could not bring up to the floor if this one passed them by: those owed as often as there are rounds, and of all that
  // is owed what the later rounds have no room for.
  int64_t owed = 0;
  for (const Member* member : pool) owed += std::max<int64_t>(bounds.floor - member->selected_count, 0);
  const int64_t later = (bounds.rounds - 1) * static_cast<int64_t>(wanted);
  TakeOwed(pool, wanted - out.size(), static_cast<double>(bounds.floor - bounds.rounds + 1), random, out);
  if (owed > later) TakeOwed(pool, std::min(wanted - out.size(), static_cast<size_t>(owed - later)), static_cast<double>(bounds.floor), random, out);

  double joules = 0, known = 0;
  for (const Member& member : request.members) {
    if (!member.joules) continue;
    joules += *member.joules;
    ++known;
  }
  const double mean_joules = known > 0 ? joules / known : 1;
  std::map<std::optional<size_t>, double> prices;
  for (const Member* member : pool) prices.emplace(member->site, 0);
  for (auto& [site, price] : prices) price = plan.PriceOf(site);
  // A price below zero belongs to a site that is owed its share: what it costs there then counts the less.
  const auto grams = [&](const Member& member) {
    const double price = prices.at(member.site), relative = std::max(member.joules.value_or(mean_joules), 1e-9) / std::max(mean_joules, 1e-9);
    return price > 0 ? price * relative : price / relative;
  };
  MemberRefs within, beyond;
  for (const Member* member : pool) (member->selected_count < bounds.ceiling ? within : beyond).push_back(member);
  for (MemberRefs* from : {&within, &beyond}) {
    random.Shuffle(*from);
    std::stable_sort(from->begin(), from->end(), [&](const Member* a, const Member* b) {
      const double ga = grams(*a), gb = grams(*b);
      return ga != gb ? ga < gb : a->selected_count < b->selected_count;
    });
    for (size_t i = 0; i < from->size() && out.size() < wanted; ++i) out.push_back((*from)[i]->partition);
  }
  return selection;
}

}  // namespace

void InstallSelectionPolicy_carbon_aware(SelectionPolicyRegistry& registry) { FEDWATT_CHECK(registry.Register("carbon_aware", Select).ok()); }

}  // namespace fedwatt::internal

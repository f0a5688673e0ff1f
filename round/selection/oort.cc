// Oort-like (Lai, Zhu, Madhyastha, Chowdhury 2021, OSDI, arXiv 2010.06081, algorithm 1): members with much to learn from, that are quick.
//   utility = examples * loss * (preferred / seconds)^2 where seconds > preferred, plus sqrt(0.1 * ln(round) / last_selected_round) of the mean utility
// A share of the cohort, 0.9 falling by 2 % a round to 0.2, goes to members that were never tried; the others are drawn in proportion to their utility
// among those with at least 0.95 of the utility of the last one that would fit. `preferred` is the median of the members' seconds.
// Differs from the paper: clients report their mean loss, not the root of the mean square; the preferred length is not paced; no blacklist.
// Cost: O(members log members).
#include "fedwatt/base/status_macros.h"
#include "fedwatt/round/selection.h"
#include "selection_draws.h"

namespace fedwatt::internal {
namespace {

constexpr double kFirstExploration = 0.9, kExplorationDecay = 0.98, kLeastExploration = 0.2, kCutoff = 0.95;

Selection Select(const SelectionRequest& request, Random& random) {
  Selection selection;
  std::vector<int64_t>& out = selection.partitions;
  const size_t wanted = WantedOf(request);
  MemberRefs known, unknown;
  std::vector<double> lengths;
  double mean = 0;
  for (const Member& member : request.members) {
    (StatisticalUtility(member) ? known : unknown).push_back(&member);
    if (member.seconds) lengths.push_back(*member.seconds);
    mean += StatisticalUtility(member).value_or(0);
  }
  if (!known.empty()) mean /= static_cast<double>(known.size());
  double preferred = 0;
  if (!lengths.empty()) {
    std::nth_element(lengths.begin(), lengths.begin() + static_cast<int64_t>(lengths.size() / 2), lengths.end());
    preferred = lengths[lengths.size() / 2];
  }
  const auto utility = [&](const Member& member) {
    double value = *StatisticalUtility(member);
    if (member.last_selected_round > 0) {
      value += mean * std::sqrt(0.1 * std::log(std::max<double>(static_cast<double>(request.round), 1)) / static_cast<double>(member.last_selected_round));
    }
    if (member.seconds && *member.seconds > preferred) value *= (preferred / *member.seconds) * (preferred / *member.seconds);
    return std::max(value, 1e-12);
  };
  const double share = std::max(kLeastExploration, kFirstExploration * std::pow(kExplorationDecay, static_cast<double>(request.round - 1)));
  const size_t explored = std::min(unknown.size(), static_cast<size_t>(std::ceil(share * static_cast<double>(wanted))));
  const size_t exploited = std::min(known.size(), wanted - explored);
  if (exploited > 0) {
    std::vector<double> utilities;
    for (const Member* member : known) utilities.push_back(utility(*member));
    std::nth_element(utilities.begin(), utilities.begin() + static_cast<int64_t>(exploited - 1), utilities.end(), std::greater<>());
    const double least = kCutoff * utilities[exploited - 1];
    std::erase_if(known, [&](const Member* member) { return utility(*member) < least; });
    DrawWeighted(known, exploited, utility, random, out);
  }
  DrawWeighted(unknown, wanted - out.size(), [](const Member&) { return 1.0; }, random, out);
  return selection;
}

}  // namespace

void InstallSelectionPolicy_oort(SelectionPolicyRegistry& registry) { FEDWATT_CHECK(registry.Register("oort", Select).ok()); }

}  // namespace fedwatt::internal

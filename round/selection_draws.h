// Draws that several policies share; private to the room.
#ifndef FEDWATT_ROUND_SELECTION_DRAWS_H_
#define FEDWATT_ROUND_SELECTION_DRAWS_H_

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>
#include <vector>

#include "fedwatt/round/selection.h"

namespace fedwatt::internal {

using MemberRefs = std::vector<const Member*>;

inline MemberRefs AllOf(const SelectionRequest& request) {
  MemberRefs all;
  all.reserve(request.members.size());
  for (const Member& member : request.members) all.push_back(&member);
  return all;
}

inline size_t WantedOf(const SelectionRequest& request) {
  return std::min(request.members.size(), static_cast<size_t>(std::max<int64_t>(request.count, 0)));
}

// Takes the `count` with the greatest keys, of equals those first in `keyed`. Appends partitions to `out` and leaves the others in `pool`, greatest first.
inline void TakeGreatest(std::vector<std::pair<double, const Member*>> keyed, size_t count, MemberRefs& pool, std::vector<int64_t>& out) {
  std::stable_sort(keyed.begin(), keyed.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  pool.clear();
  for (size_t i = 0; i < keyed.size(); ++i) {
    if (i < count) {
      out.push_back(keyed[i].second->partition);
    } else {
      pool.push_back(keyed[i].second);
    }
  }
}

// Takes `count` of `pool` without replacement, each draw proportional to `weight` > 0 (Efraimidis, Spirakis 2006, "Weighted random sampling with a
// reservoir": the greatest u^(1/w) win). Appends partitions to `out` and leaves the others in `pool`.
inline void DrawWeighted(MemberRefs& pool, size_t count, const std::function<double(const Member&)>& weight, Random& random, std::vector<int64_t>& out) {
  std::vector<std::pair<double, const Member*>> keyed;
  keyed.reserve(pool.size());
  for (const Member* member : pool) keyed.emplace_back(std::log(1 - random.Uniform()) / weight(*member), member);  // in (-infinity, 0]
  TakeGreatest(std::move(keyed), count, pool, out);
}

// Takes the `count` with the greatest `score`, ties drawn. Appends partitions to `out` and leaves the others in `pool`.
inline void TakeBest(MemberRefs& pool, size_t count, const std::function<double(const Member&)>& score, Random& random, std::vector<int64_t>& out) {
  std::vector<std::pair<double, const Member*>> scored;
  scored.reserve(pool.size());
  random.Shuffle(pool);
  for (const Member* member : pool) scored.emplace_back(score(*member), member);
  TakeGreatest(std::move(scored), count, pool, out);
}

// How often a member has been asked on average once this round has been.
inline double MeanSelectedAfter(const SelectionRequest& request) {
  double sum = static_cast<double>(WantedOf(request));
  for (const Member& member : request.members) sum += static_cast<double>(member.selected_count);
  return sum / static_cast<double>(std::max<size_t>(request.members.size(), 1));
}

// Takes those who have been asked less often than `floor`, the least asked first, at most `count`.
inline void TakeOwed(MemberRefs& pool, size_t count, double floor, Random& random, std::vector<int64_t>& out) {
  MemberRefs owed, rest;
  for (const Member* member : pool) (static_cast<double>(member->selected_count) < floor ? owed : rest).push_back(member);
  TakeBest(owed, count, [](const Member& member) { return -static_cast<double>(member.selected_count); }, random, out);
  rest.insert(rest.end(), owed.begin(), owed.end());
  // In the order of partitions again, so that later draws do not depend on this one's order.
  std::sort(rest.begin(), rest.end(), [](const Member* a, const Member* b) { return a->partition < b->partition; });
  pool = std::move(rest);
}

// Oort's statistical utility with the mean loss for the root mean square (round/selection/oort.cc); unset: not known.
inline std::optional<double> StatisticalUtility(const Member& member) {
  if (!member.train_loss || member.example_count < 1) return std::nullopt;
  return static_cast<double>(member.example_count) * std::max(*member.train_loss, 1e-9);
}

}  // namespace fedwatt::internal

#endif  // FEDWATT_ROUND_SELECTION_DRAWS_H_

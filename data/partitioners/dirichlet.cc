// Label skew by a Dirichlet distribution (Hsu, Qi, Brown 2019, arXiv 1909.06335; per class as in Yurochkin et al. 2019, arXiv
// 1905.12022): the examples of each class are shuffled and dealt out in shares drawn from Dirichlet(alpha, ..., alpha) over the
// clients. Small alpha: a class lies with few clients; large alpha: nearly iid. Part sizes vary.
//
// No part stays empty: shares are drawn anew up to kMaxDraws times; if parts are empty even then (many clients, small alpha),
// each takes, in order of number, the last example of what is then the largest part (ties: the lowest number). Cost: O(examples +
// draws * classes * clients).
#include <algorithm>
#include <cmath>

#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/data/partitioner.h"
#include "partitioners/partitioning.h"

namespace fedwatt {
namespace {

constexpr uint64_t kMaxDraws = 10;

Parts Draw(const Dataset& data, const PartitionOptions& options, uint64_t attempt) {
  Random random(DeriveSeed("partition_dirichlet", {options.seed, attempt}));
  std::vector<std::vector<int32_t>> by_class(data.store().output_count);
  for (int64_t i = 0; i < data.size(); ++i) by_class[data.label(i)].push_back(static_cast<int32_t>(i));
  Parts parts(options.clients);
  std::vector<double> shares(options.clients);
  for (std::vector<int32_t>& members : by_class) {
    random.Shuffle(members);
    double sum = 0;
    for (double& share : shares) sum += share = random.Gamma(options.alpha);
    if (!(sum > 0)) {  // a tiny alpha underflows; its limit is one client that takes all
      shares[random.Below(shares.size())] = 1;
      sum = 1;
    }
    double running = 0;
    size_t begin = 0;
    for (size_t client = 0; client < shares.size(); ++client) {
      running += shares[client];
      const size_t end = client + 1 == shares.size()
                             ? members.size()
                             : std::min(members.size(), static_cast<size_t>(running / sum * static_cast<double>(members.size())));
      for (; begin < end; ++begin) parts[client].push_back(members[begin]);
    }
  }
  return parts;
}

bool AnyEmpty(const Parts& parts) {
  return std::any_of(parts.begin(), parts.end(), [](const std::vector<int32_t>& part) { return part.empty(); });
}

absl::StatusOr<Parts> PartitionDirichlet(const Dataset& data, const PartitionOptions& options) {
  FEDWATT_RETURN_IF_ERROR(internal::NeedLabels(data, "dirichlet"));
  if (!(options.alpha > 0) || !std::isfinite(options.alpha)) {
    return absl::InvalidArgumentError(absl::StrCat("partition.alpha: expected a finite number > 0, got ", options.alpha));
  }
  Parts parts;
  for (uint64_t attempt = 0; attempt < kMaxDraws; ++attempt) {
    parts = Draw(data, options, attempt);
    if (!AnyEmpty(parts)) return parts;
  }
  // A heap of (size, -number) finds the largest part with the lowest number.
  std::vector<std::pair<int64_t, int64_t>> heap;
  for (size_t i = 0; i < parts.size(); ++i) heap.emplace_back(parts[i].size(), -static_cast<int64_t>(i));
  std::make_heap(heap.begin(), heap.end());
  for (std::vector<int32_t>& part : parts) {
    if (!part.empty()) continue;
    std::pop_heap(heap.begin(), heap.end());
    auto& [size, number] = heap.back();
    std::vector<int32_t>& largest = parts[-number];
    part.push_back(largest.back());
    largest.pop_back();
    --size;
    std::push_heap(heap.begin(), heap.end());
  }
  return parts;
}

}  // namespace

namespace internal {
void InstallPartitioner_dirichlet(PartitionerRegistry& registry) {
  FEDWATT_CHECK(registry.Register("dirichlet", PartitionDirichlet).ok());
}
}  // namespace internal
}  // namespace fedwatt

// A mix of widths in which clients take turns (Diao et al. 2021, HeteroFL, arXiv 2010.01264, section 4, dynamic assignment): for fleets whose devices could all
// train the whole model and are to spend less. All channels see everybody's data in time, which fixed widths deny to the outer ones.
//
// Partition p in round r takes the place frac(u0 + p * phi + r * sqrt(2)), u0 from the seed, phi the golden ratio's fraction: each round has the widths in
// about their shares, and so has each client over its rounds.
#include "dealing.h"
#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt::internal {
namespace {

absl::Status Check(const FitOptions& options) {
  if (!options.memory_mb.empty()) return absl::InvalidArgumentError("fit.memory_mb belongs to fit.policy = 'by_capability'; 'by_turns' deals every client every width");
  return CheckShares(options);
}

std::optional<double> Width(const FitOptions& options, const FitRequest& request) {
  return WidthAt(options, DeriveSeed("fit", {request.seed}) + kGoldenRatio * static_cast<uint64_t>(request.partition) +
                              kRootOfTwo * static_cast<uint64_t>(request.round));
}

}  // namespace

void InstallFitPolicy_by_turns(FitPolicyRegistry& registry) { FEDWATT_CHECK(registry.Register("by_turns", {Check, Width}).ok()); }

}  // namespace fedwatt::internal

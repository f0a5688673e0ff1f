// A mix of widths in which a client keeps its own for the whole run (Diao et al. 2021, HeteroFL, arXiv 2010.01264, section 4, fixed assignment).
//
// With memory_mb, a client gets the first width whose megabytes it reported to have; one that has less than all, or says nothing, gets the last.
// Without, widths are dealt over partitions by their shares: partition p takes the place frac(u0 + p * phi), u0 from the seed, phi the golden ratio's
// fraction, so that among any n neighbouring partitions each width's count is within a few of its share, whatever n.
#include "dealing.h"
#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"

namespace fedwatt::internal {
namespace {

absl::Status Check(const FitOptions& options) {
  FEDWATT_RETURN_IF_ERROR(CheckShares(options));
  if (options.memory_mb.empty()) return absl::OkStatus();
  if (options.memory_mb.size() != options.widths.size()) {
    return absl::InvalidArgumentError(absl::StrCat("fit.memory_mb: expected one for each of ", options.widths.size(), " widths, got ", options.memory_mb.size()));
  }
  if (!options.shares.empty()) {
    return absl::InvalidArgumentError("fit.shares and fit.memory_mb exclude each other: widths are dealt, or follow what devices report");
  }
  for (int64_t megabytes : options.memory_mb) {
    if (megabytes < 0 || megabytes > int64_t{1} << 40) return absl::InvalidArgumentError(absl::StrCat("fit.memory_mb: expected [0, 2^40], got ", megabytes));
  }
  return absl::OkStatus();
}

std::optional<double> Width(const FitOptions& options, const FitRequest& request) {
  if (options.memory_mb.empty()) return WidthAt(options, DeriveSeed("fit", {request.seed}) + kGoldenRatio * static_cast<uint64_t>(request.partition));
  for (size_t i = 0; request.device.memory_bytes.has_value() && i < options.widths.size(); ++i) {
    if (*request.device.memory_bytes / 1'000'000 >= options.memory_mb[i]) return options.widths[i];
  }
  return options.widths.back();
}

}  // namespace

void InstallFitPolicy_by_capability(FitPolicyRegistry& registry) { FEDWATT_CHECK(registry.Register("by_capability", {Check, Width}).ok()); }

}  // namespace fedwatt::internal

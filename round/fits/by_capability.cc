// A mix of widths (Diao et al. 2021, HeteroFL, arXiv 2010.01264, section 4, fixed assignment): a client keeps its width for the whole run.
//
// With memory_mb, a client gets the first width whose megabytes it reported to have; one that has less than all, or says nothing, gets the last.
// Without, widths are dealt over partitions by their shares: partition p draws u = frac(u0 + p * phi), u0 from the seed, phi the golden ratio's
// fraction, so that among any n neighbouring partitions each width's count is within a few of its share, whatever n.
#include <cmath>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/round/fitting.h"

namespace fedwatt::internal {
namespace {

absl::Status Check(const FitOptions& options) {
  if (options.widths.empty()) return absl::InvalidArgumentError("fit.widths: fit.policy = 'by_capability' expects at least one width, got none");
  for (const auto& [key, count] : {std::pair{"fit.shares", options.shares.size()}, std::pair{"fit.memory_mb", options.memory_mb.size()}}) {
    if (count != 0 && count != options.widths.size()) {
      return absl::InvalidArgumentError(absl::StrCat(key, ": expected one for each of ", options.widths.size(), " widths, got ", count));
    }
  }
  if (!options.shares.empty() && !options.memory_mb.empty()) {
    return absl::InvalidArgumentError("fit.shares and fit.memory_mb exclude each other: widths are dealt, or follow what devices report");
  }
  for (double share : options.shares) {
    if (!(share > 0 && std::isfinite(share))) return absl::InvalidArgumentError(absl::StrCat("fit.shares: expected numbers > 0, got ", share));
  }
  for (int64_t megabytes : options.memory_mb) {
    if (megabytes < 0 || megabytes > int64_t{1} << 40) return absl::InvalidArgumentError(absl::StrCat("fit.memory_mb: expected [0, 2^40], got ", megabytes));
  }
  return absl::OkStatus();
}

double Width(const FitOptions& options, const FitRequest& request) {
  if (!options.memory_mb.empty()) {
    for (size_t i = 0; request.device.memory_bytes.has_value() && i < options.widths.size(); ++i) {
      if (*request.device.memory_bytes / 1'000'000 >= options.memory_mb[i]) return options.widths[i];
    }
    return options.widths.back();
  }
  constexpr uint64_t kGolden = 0x9e3779b97f4a7c15;  // 2^64 times the golden ratio's fraction
  const uint64_t place = DeriveSeed("fit", {request.seed}) + kGolden * static_cast<uint64_t>(request.partition);
  double total = 0, until = 0;
  for (size_t i = 0; i < options.widths.size(); ++i) total += options.shares.empty() ? 1 : options.shares[i];
  const double u = std::ldexp(static_cast<double>(place >> 11), -53) * total;
  for (size_t i = 0; i + 1 < options.widths.size(); ++i) {
    until += options.shares.empty() ? 1 : options.shares[i];
    if (u < until) return options.widths[i];
  }
  return options.widths.back();
}

}  // namespace

void InstallFitPolicy_by_capability(FitPolicyRegistry& registry) { FEDWATT_CHECK(registry.Register("by_capability", {Check, Width}).ok()); }

}  // namespace fedwatt::internal

// Widths in given shares, dealt without drawing lots; private to the policies.
#ifndef FEDWATT_ROUND_FITS_DEALING_H_
#define FEDWATT_ROUND_FITS_DEALING_H_

#include <cmath>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "fedwatt/round/fitting.h"

namespace fedwatt::internal {

// Multiples of them, modulo 2^64, fall into any interval about as often as it is long, however few they are.
inline constexpr uint64_t kGoldenRatio = 0x9e3779b97f4a7c15;  // 2^64 times its fraction
inline constexpr uint64_t kRootOfTwo = 0x6a09e667f3bcc908;    // likewise of the square root of 2

// Errors: INVALID_ARGUMENT  no widths, or shares that do not suit them
inline absl::Status CheckShares(const FitOptions& options) {
  if (options.widths.empty()) return absl::InvalidArgumentError(absl::StrCat("fit.widths: fit.policy = '", options.policy, "' expects at least one width, got none"));
  if (!options.shares.empty() && options.shares.size() != options.widths.size()) {
    return absl::InvalidArgumentError(absl::StrCat("fit.shares: expected one for each of ", options.widths.size(), " widths, got ", options.shares.size()));
  }
  for (double share : options.shares) {
    if (!(share > 0 && std::isfinite(share))) return absl::InvalidArgumentError(absl::StrCat("fit.shares: expected numbers > 0, got ", share));
  }
  return absl::OkStatus();
}

// The width in whose share `place` / 2^64 lies.
inline double WidthAt(const FitOptions& options, uint64_t place) {
  const auto share = [&options](size_t i) { return options.shares.empty() ? 1 : options.shares[i]; };
  double total = 0, until = 0;
  for (size_t i = 0; i < options.widths.size(); ++i) total += share(i);
  const double u = std::ldexp(static_cast<double>(place >> 11), -53) * total;
  for (size_t i = 0; i + 1 < options.widths.size(); ++i) {
    until += share(i);
    if (u < until) return options.widths[i];
  }
  return options.widths.back();
}

}  // namespace fedwatt::internal

#endif  // FEDWATT_ROUND_FITS_DEALING_H_

#include "fedwatt/energy/cpu_model.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"

namespace fedwatt {
namespace {

constexpr size_t kTerms = 3;
using Terms = std::array<double, kTerms>;

Terms TermsOf(const CpuActivity& activity) { return {1, activity.apart_ghz, activity.together_ghz}; }

double Dot(const Terms& a, const Terms& b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

// The normal equations over the terms of `mask` by Gaussian elimination; false where they are singular or a coefficient is negative.
bool SolveSubset(const std::array<Terms, kTerms>& gram, const Terms& right, unsigned mask, Terms& solution) {
  std::array<std::array<double, kTerms + 1>, kTerms> rows = {};
  for (size_t i = 0; i < kTerms; ++i) {
    rows[i][i] = 1;  // a term outside the mask is zero
    if (!(mask >> i & 1)) continue;
    for (size_t j = 0; j < kTerms; ++j) rows[i][j] = mask >> j & 1 ? gram[i][j] : 0;
    rows[i][kTerms] = right[i];
  }
  for (size_t i = 0; i < kTerms; ++i) {
    size_t pivot = i;
    for (size_t k = i + 1; k < kTerms; ++k) {
      if (std::abs(rows[k][i]) > std::abs(rows[pivot][i])) pivot = k;
    }
    if (std::abs(rows[pivot][i]) < 1e-12) return false;
    std::swap(rows[i], rows[pivot]);
    for (size_t k = 0; k < kTerms; ++k) {
      if (k == i) continue;
      const double factor = rows[k][i] / rows[i][i];
      for (size_t j = i; j <= kTerms; ++j) rows[k][j] -= factor * rows[i][j];
    }
  }
  for (size_t i = 0; i < kTerms; ++i) {
    solution[i] = rows[i][kTerms] / rows[i][i];
    if (!(solution[i] >= 0)) return false;
  }
  return true;
}

// Non-negative least squares of coefficients . terms / watts against 1, leaving out `skip`. Three terms have seven sets that may be positive, and the best
// feasible one is the optimum: no iteration.
Terms Solve(const std::vector<CpuModel::Sample>& samples, size_t skip) {
  std::array<Terms, kTerms> gram = {};
  Terms right = {};
  double count = 0;
  for (size_t s = 0; s < samples.size(); ++s) {
    if (s == skip) continue;
    const Terms terms = TermsOf(samples[s].activity);
    const double watts = samples[s].power.watts();
    for (size_t i = 0; i < kTerms; ++i) {
      for (size_t j = 0; j < kTerms; ++j) gram[i][j] += terms[i] * terms[j] / (watts * watts);
      right[i] += terms[i] / watts;
    }
    ++count;
  }
  Terms best = {};
  double least = std::numeric_limits<double>::infinity();
  for (unsigned mask = 1; mask < 1U << kTerms; ++mask) {
    Terms solution = {};
    if (!SolveSubset(gram, right, mask, solution)) continue;
    double error = count - 2 * Dot(right, solution);
    for (size_t i = 0; i < kTerms; ++i) error += solution[i] * Dot(gram[i], solution);
    if (error >= least) continue;
    least = error;
    best = solution;
  }
  return best;
}

}  // namespace

absl::StatusOr<CpuModel> CpuModel::Fit(const std::vector<Sample>& samples, double confidence) {
  if (samples.size() < kTerms + 1) {
    return absl::InvalidArgumentError(absl::StrCat("CPU model: expected at least ", kTerms + 1, " samples, got ", samples.size()));
  }
  if (!(confidence > 0 && confidence < 1)) {
    return absl::InvalidArgumentError(absl::StrCat("CPU model: confidence: expected within (0, 1), got ", confidence));
  }
  for (const Sample& sample : samples) {
    const CpuActivity& activity = sample.activity;
    if (!(sample.power.watts() > 0) || !std::isfinite(sample.power.watts()) || !(activity.apart_ghz >= 0) ||
        !std::isfinite(activity.apart_ghz) || !(activity.together_ghz >= 0) || !std::isfinite(activity.together_ghz)) {
      return absl::InvalidArgumentError(absl::StrCat("CPU model: sample of ", sample.power.watts(), " W at ", activity.apart_ghz, " and ",
                                                     activity.together_ghz, " GHz: expected finite watts above 0, GHz of 0 or more"));
    }
  }
  CpuModel model;
  model.coefficients_ = Solve(samples, samples.size());
  std::vector<double> scores, errors;
  for (size_t i = 0; i < samples.size(); ++i) {
    const double watts = samples[i].power.watts();
    const double predicted = Dot(Solve(samples, i), TermsOf(samples[i].activity));
    errors.push_back(std::abs(predicted - watts) / watts);
    scores.push_back(std::abs(predicted - watts) / std::max(predicted, 1e-9));
  }
  for (double error : errors) model.left_out_error_fraction_ += error / static_cast<double>(errors.size());
  std::sort(scores.begin(), scores.end());
  const double rank = std::ceil(confidence * static_cast<double>(scores.size() + 1));
  model.half_width_fraction_ = scores[std::min(scores.size(), static_cast<size_t>(rank)) - 1];
  return model;
}

CpuModel::Prediction CpuModel::Predict(const CpuActivity& activity) const {
  const double watts = Dot(coefficients_, TermsOf(activity));
  return {Watts(watts * std::max(0.0, 1 - half_width_fraction_)), Watts(watts), Watts(watts * (1 + half_width_fraction_))};
}

}  // namespace fedwatt

// Watts of a CPU from how busy its cores are, with coefficients fitted on that very machine.
#ifndef FEDWATT_ENERGY_CPU_MODEL_H_
#define FEDWATT_ENERGY_CPU_MODEL_H_

#include <array>
#include <vector>

#include "absl/status/statusor.h"
#include "fedwatt/energy/quantities.h"

namespace fedwatt {

// How busy the CPU was over a window: for each physical core the fraction of time in which any of its hardware threads ran, times its
// clock in GHz, averaged over the cores. What the kernel says of each thread leaves open how its siblings' times overlap, so both ends are kept.
struct CpuActivity {
  double apart_ghz = 0;     // siblings independent of each other: 1 - product(1 - busy)
  double together_ghz = 0;  // siblings at the same time: max(busy)
};

// watts = c0 + c1 apart_ghz + c2 together_ghz, every c >= 0: idle power, and a part that grows with busy cores and their clock. Least squares on the
// relative error. The interval is conformal (jackknife: Barber et al., Annals of Statistics 2021, arXiv 1905.02928, section 1.2, on relative
// residuals): each sample is predicted from the others, and the quantile of those errors is the half-width. Immutable, thread-safe.
class CpuModel {
 public:
  struct Sample {
    CpuActivity activity;
    Power power;
  };
  struct Prediction {
    Power low, power, high;
  };
  // `samples`: at least 4; powers > 0, activities finite and >= 0. `confidence` in (0, 1); with fewer than confidence / (1 - confidence) samples
  // the largest error stands for the quantile.
  // Errors: INVALID_ARGUMENT
  static absl::StatusOr<CpuModel> Fit(const std::vector<Sample>& samples, double confidence = 0.9);

  Prediction Predict(const CpuActivity& activity) const;
  const std::array<double, 3>& coefficients() const { return coefficients_; }  // W, W/GHz, W/GHz
  // Mean relative error of samples predicted from the others.
  double left_out_error_fraction() const { return left_out_error_fraction_; }

 private:
  std::array<double, 3> coefficients_ = {};
  double left_out_error_fraction_ = 0;
  double half_width_fraction_ = 0;
};

}  // namespace fedwatt

#endif  // FEDWATT_ENERGY_CPU_MODEL_H_

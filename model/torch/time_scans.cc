#include "time_scans.h"

#include <algorithm>
#include <cmath>

namespace fedwatt::internal {
namespace {

constexpr float kThreshold = 1.0f;
constexpr float kSlope = 5.0f;  // of the fast sigmoid

}  // namespace

void MinGruScan(int64_t length, int64_t width, const float* gates, const float* sigmoids, float* states) {
  for (int64_t t = 0; t < length; ++t) {
    const float* z = sigmoids + 2 * t * width;
    const float* g = gates + (2 * t + 1) * width;
    const float* sigmoid_g = sigmoids + (2 * t + 1) * width;
    float* h = states + t * width;
    if (t == 0) {
      for (int64_t i = 0; i < width; ++i) h[i] = z[i] * (g[i] >= 0 ? g[i] + 0.5f : sigmoid_g[i]);
    } else {
      const float* before = h - width;
      for (int64_t i = 0; i < width; ++i) h[i] = before[i] + z[i] * ((g[i] >= 0 ? g[i] + 0.5f : sigmoid_g[i]) - before[i]);
    }
  }
}

void MinGruScanGradient(int64_t length, int64_t width, const float* gates, const float* sigmoids, const float* states, const float* state_gradients, float* carry,
                        float* gate_gradients) {
  std::fill_n(carry, width, 0.0f);
  for (int64_t t = length - 1; t >= 0; --t) {
    const float* z = sigmoids + 2 * t * width;
    const float* g = gates + (2 * t + 1) * width;
    const float* sigmoid_g = sigmoids + (2 * t + 1) * width;
    const float* before = t == 0 ? nullptr : states + (t - 1) * width;
    const float* own = state_gradients + t * width;
    float* to_z = gate_gradients + 2 * t * width;
    float* to_g = gate_gradients + (2 * t + 1) * width;
    for (int64_t i = 0; i < width; ++i) {
      const float from = own[i] + carry[i];
      const float candidate = g[i] >= 0 ? g[i] + 0.5f : sigmoid_g[i];
      const float earlier = before == nullptr ? 0.0f : before[i];
      to_z[i] = from * (candidate - earlier) * z[i] * (1 - z[i]);
      to_g[i] = from * z[i] * (g[i] >= 0 ? 1.0f : sigmoid_g[i] * (1 - sigmoid_g[i]));
      carry[i] = from * (1 - z[i]);
    }
  }
}

void IntegrateAndFire(SpikeFunction function, int64_t steps, int64_t width, float leak, const float* currents, float* potentials, float* spikes) {
  for (int64_t t = 0; t < steps; ++t) {
    const float* x = currents + t * width;
    float* u = potentials + t * width;
    float* s = spikes + t * width;
    if (t == 0) {
      std::copy_n(x, width, u);
    } else {
      for (int64_t i = 0; i < width; ++i) u[i] = leak * (u - width)[i] + x[i] - (s - width)[i];
    }
    if (function == SpikeFunction::kStep) {
      for (int64_t i = 0; i < width; ++i) s[i] = u[i] >= kThreshold ? 1.0f : 0.0f;
    } else {
      for (int64_t i = 0; i < width; ++i) s[i] = 0.5f + (u[i] - kThreshold) / (1 + kSlope * std::fabs(u[i] - kThreshold));
    }
  }
}

void IntegrateAndFireGradient(int64_t steps, int64_t width, float leak, const float* potentials, const float* spike_gradients, float* carry, float* current_gradients) {
  std::fill_n(carry, width, 0.0f);
  for (int64_t t = steps - 1; t >= 0; --t) {
    const float* u = potentials + t * width;
    const float* own = spike_gradients + t * width;
    float* to_x = current_gradients + t * width;
    for (int64_t i = 0; i < width; ++i) {
      // carry is the gradient of the next potential, to which this one leaks and this spike resets.
      const float root = 1 / (1 + kSlope * std::fabs(u[i] - kThreshold));
      carry[i] = leak * carry[i] + (own[i] - carry[i]) * root * root;
      to_x[i] = carry[i];
    }
  }
}

}  // namespace fedwatt::internal

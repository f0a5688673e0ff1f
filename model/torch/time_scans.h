// Recurrences over positions and over time, forward and backward, on plain arrays. Free of LibTorch, so that they can be compiled for speed alone.
// Rows of `width` values are independent of each other: bits do not depend on vector width.
#ifndef FEDWATT_MODEL_TORCH_TIME_SCANS_H_
#define FEDWATT_MODEL_TORCH_TIME_SCANS_H_

#include <cstdint>

namespace fedwatt::internal {

// minGRU (Feng et al. 2024, arXiv 2410.01201, appendix B.3). `gates` are the linear outputs, [length, 2 width] (z, g), `sigmoids` their sigmoids, `states` [length,
// width]. h_t = h_(t-1) + z_t (G(g_t) - h_(t-1)), h_0 = 0, z_t = sigmoid(z); G(v) = v + 0.5 from 0 on, sigmoid(v) below.
void MinGruScan(int64_t length, int64_t width, const float* gates, const float* sigmoids, float* states);
// Gradients of the gates from those of the states; `carry` is room for `width` values.
void MinGruScanGradient(int64_t length, int64_t width, const float* gates, const float* sigmoids, const float* states, const float* state_gradients, float* carry,
                        float* gate_gradients);

// What stands for the derivative of the step from no spike to spike, and the smooth function of which it is the derivative: a network of these has gradients
// that numerical differences confirm.
enum class SpikeFunction { kStep, kFastSigmoid };
// u_t = leak u_(t-1) + x_t - s_(t-1), s_t = 1 where u_t >= 1 else 0 (kStep), or 0.5 + v / (1 + 5 |v|), v = u_t - 1 (kFastSigmoid). All [steps, width].
void IntegrateAndFire(SpikeFunction function, int64_t steps, int64_t width, float leak, const float* currents, float* potentials, float* spikes);
// Gradients of the currents from those of the spikes, through time and reset, ds/du = 1 / (1 + 5 |v|)^2 for both functions. `carry` is room for `width` values.
void IntegrateAndFireGradient(int64_t steps, int64_t width, float leak, const float* potentials, const float* spike_gradients, float* carry, float* current_gradients);

}  // namespace fedwatt::internal

#endif  // FEDWATT_MODEL_TORCH_TIME_SCANS_H_

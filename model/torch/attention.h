// Causal attention: four ways to mix positions. Queries, keys and values are float32 [n, L, s], n = batch x heads; so is what comes out. Position i sees
// positions j <= i only. Differentiable. See AttentionKernel in architecture.h for formulas, papers and costs.
#ifndef FEDWATT_MODEL_TORCH_ATTENTION_H_
#define FEDWATT_MODEL_TORCH_ATTENTION_H_

#include <cstdint>

#include "fedwatt/model/torch/architecture.h"
#include "pch.h"

namespace fedwatt::internal {

// Exact; memory quadratic in L while gradients are wanted, else L x kSoftmaxChunk.
at::Tensor AttendSoftmax(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);

// Memory linear in L. Queries go by blocks of `window`; each reads its own block, the one before and the global tokens.
at::Tensor AttendLocal(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const LocalAttention& kernel);

// Memory linear in L: within chunks of LinearChunk(L) positions by their products, before them by one running sum of phi(k) (v, 1).
at::Tensor AttendLinear(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v);

// As AttendLinear. `features` is [m, s]. Differs from the paper in what keeps exponentials from overflowing: queries by their own greatest exponent, which cancels;
// keys need nothing, since w x - |x|^2 / 2 <= |w|^2 / 2. So nothing of a later position reaches an earlier one, not even by rounding.
at::Tensor AttendRandomFeatures(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& features);

// Projects x [batch, L, in] to queries, keys and values and mixes them: [batch, L, heads * head_size] in the type of x. `features` is used by
// RandomFeatureAttention alone.
at::Tensor Attend(const Attention& layer, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& features);

// [L, width] of sines and cosines.
at::Tensor PositionTable(int64_t length, int64_t width);

}  // namespace fedwatt::internal

#endif  // FEDWATT_MODEL_TORCH_ATTENTION_H_

#include "attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "network.h"

namespace fedwatt::internal {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();
constexpr double kLeastSum = 1e-6;  // of a normaliser

double Scale(const at::Tensor& q) { return 1 / std::sqrt(static_cast<double>(q.size(2))); }

// [n, L, s] with zeros after position L, as [n * blocks, size, s].
at::Tensor Blocks(const at::Tensor& x, int64_t blocks, int64_t size) {
  const int64_t missing = blocks * size - x.size(1);
  const at::Tensor whole = missing == 0 ? x : at::constant_pad_nd(x, {0, 0, 0, missing}, 0);
  return whole.reshape({x.size(0) * blocks, size, x.size(2)});
}

// phi(q) [n, L, f], phi(k) likewise.
at::Tensor AttendByFeatures(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const int64_t n = q.size(0), length = q.size(1), f = q.size(2), s = v.size(2);
  const int64_t chunk = LinearChunk(length), chunks = (length + chunk - 1) / chunk;
  // The column of ones sums phi(k) itself, for the normaliser.
  const at::Tensor with_ones = Blocks(at::cat({v, at::ones({n, length, 1}, v.options())}, 2), chunks, chunk);
  const at::Tensor queries = Blocks(q, chunks, chunk), keys = Blocks(k, chunks, chunk);
  at::Tensor sums = at::bmm(at::bmm(queries, keys.transpose(1, 2)).tril(), with_ones);
  if (chunks > 1) {
    const at::Tensor totals = at::bmm(keys.transpose(1, 2), with_ones).view({n, chunks, f, s + 1});
    const at::Tensor before = at::constant_pad_nd(totals.narrow(1, 0, chunks - 1).cumsum(1), {0, 0, 0, 0, 1, 0}, 0);
    sums = sums + at::bmm(queries, before.reshape({n * chunks, f, s + 1}));
  }
  sums = sums.view({n, chunks * chunk, s + 1}).narrow(1, 0, length);
  return sums.narrow(2, 0, s) / (sums.narrow(2, s, 1) + kLeastSum);
}

}  // namespace

at::Tensor AttendSoftmax(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const int64_t length = q.size(1);
  const at::Tensor scaled = q * Scale(q);
  std::vector<at::Tensor> parts;
  for (int64_t begin = 0; begin < length; begin += kSoftmaxChunk) {
    const int64_t size = std::min(kSoftmaxChunk, length - begin), end = begin + size;
    const at::Tensor mask = at::full({size, end}, kNothing).triu(begin + 1);
    const at::Tensor scores = at::baddbmm(mask.unsqueeze(0), scaled.narrow(1, begin, size), k.narrow(1, 0, end).transpose(1, 2));
    parts.push_back(at::bmm(scores.softmax(2), v.narrow(1, 0, end)));
  }
  return parts.size() == 1 ? parts[0] : at::cat(parts, 1);
}

at::Tensor AttendLocal(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const LocalAttention& kernel) {
  const int64_t n = q.size(0), length = q.size(1), s = q.size(2);
  const int64_t window = std::min(kernel.window, length), global = std::min(kernel.global_tokens, length);
  if (length <= 2 * window + global) {  // blocks would read more than there is
    const at::Tensor i = at::arange(length).view({length, 1}), j = at::arange(length);
    const at::Tensor seen = j.le(i).logical_and(j.gt(i - window).logical_or(j.lt(global)));
    return at::bmm(at::baddbmm(at::zeros({1, length, length}).masked_fill(seen.logical_not(), kNothing), q * Scale(q), k.transpose(1, 2)).softmax(2), v);
  }
  const int64_t blocks = (length + window - 1) / window;
  // For each block of queries: the global tokens, the block before, its own.
  const auto seen = [&](const at::Tensor& x) {
    const at::Tensor own = Blocks(x, blocks, window).view({n, blocks, window, s});
    std::vector<at::Tensor> parts;
    if (global > 0) parts.push_back(x.narrow(1, 0, global).unsqueeze(1).expand({n, blocks, global, s}));
    parts.push_back(at::constant_pad_nd(own.narrow(1, 0, blocks - 1), {0, 0, 0, 0, 1, 0}, 0));
    parts.push_back(own);
    return at::cat(parts, 2).view({n * blocks, global + 2 * window, s});
  };
  // From the third block on all look alike, unless global tokens reach so far.
  const int64_t kinds = global <= window ? std::min<int64_t>(blocks, 3) : blocks;
  const at::Tensor query = at::arange(kinds * window).view({kinds, window, 1});
  const at::Tensor key = at::arange(-window, window) + at::arange(kinds).view({kinds, 1, 1}) * window;  // [kinds, 1, 2 window]
  // Each key once: global tokens are not seen through the window as well.
  const at::Tensor near = key.ge(global).logical_and(key.le(query)).logical_and(key.gt(query - window));
  const at::Tensor first = at::arange(global).view({1, 1, global}).le(query);
  at::Tensor mask = at::zeros({kinds, window, global + 2 * window}).masked_fill(at::cat({first, near}, 2).logical_not(), kNothing);
  if (kinds < blocks) mask = at::cat({mask, mask.narrow(0, 2, 1).expand({blocks - kinds, window, global + 2 * window})}, 0);
  const at::Tensor products = at::bmm(Blocks(q * Scale(q), blocks, window), seen(k).transpose(1, 2));
  const at::Tensor weights = (products.view({n, blocks, window, -1}) + mask).softmax(3).view({n * blocks, window, -1});
  return at::bmm(weights, seen(v)).view({n, blocks * window, s}).narrow(1, 0, length);
}

at::Tensor AttendLinear(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) { return AttendByFeatures(at::elu(q) + 1, at::elu(k) + 1, v); }

at::Tensor AttendRandomFeatures(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& features) {
  const double scale = std::sqrt(Scale(q));
  const at::Tensor projection = features.t() * scale;
  const double norm = 1 / std::sqrt(static_cast<double>(features.size(0)));
  const at::Tensor queries = at::matmul(q, projection), keys = at::matmul(k, projection);
  const at::Tensor half_square = k.square().sum(2, /*keepdim=*/true) * (0.5 * scale * scale);
  return AttendByFeatures((queries - queries.detach().amax({2}, true)).exp() * norm, (keys - half_square).exp() * norm, v);
}

at::Tensor Attend(const Attention& layer, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& features) {
  const int64_t batch = x.size(0), length = x.size(1), heads = layer.heads, size = layer.head_size;
  const at::Tensor parts = at::linear(x, weight, bias).to(at::kFloat).view({batch, length, 3, heads, size}).permute({2, 0, 3, 1, 4}).contiguous().view(
      {3, batch * heads, length, size});
  const at::Tensor q = parts[0], k = parts[1], v = parts[2];
  at::Tensor mixed;
  if (std::holds_alternative<SoftmaxAttention>(layer.kernel)) mixed = AttendSoftmax(q, k, v);
  if (std::holds_alternative<LinearAttention>(layer.kernel)) mixed = AttendLinear(q, k, v);
  if (const auto* local = std::get_if<LocalAttention>(&layer.kernel)) mixed = AttendLocal(q, k, v, *local);
  if (std::holds_alternative<RandomFeatureAttention>(layer.kernel)) mixed = AttendRandomFeatures(q, k, v, features);
  return mixed.view({batch, heads, length, size}).transpose(1, 2).reshape({batch, length, heads * size}).to(x.scalar_type());
}

at::Tensor PositionTable(int64_t length, int64_t width) {
  const at::Tensor rates = at::exp(at::arange((width + 1) / 2).to(at::kFloat) * (-2 * std::log(10000.0) / static_cast<double>(width)));
  const at::Tensor angles = at::arange(length).to(at::kFloat).unsqueeze(1) * rates;
  return at::stack({angles.sin(), angles.cos()}, 2).flatten(1).narrow(1, 0, width);
}

}  // namespace fedwatt::internal

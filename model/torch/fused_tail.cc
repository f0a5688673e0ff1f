#include "fused_tail.h"

#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "fedwatt/base/status_macros.h"

namespace fedwatt::internal {
namespace {

// Column-major, as ever.
using Sgemm = void(const char* transa, const char* transb, const int* m, const int* n, const int* k, const float* alpha, const float* a, const int* lda, const float* b, const int* ldb,
                   const float* beta, float* c, const int* ldc);

Sgemm* FindSgemm() {
  static Sgemm* const found = reinterpret_cast<Sgemm*>(dlsym(RTLD_DEFAULT, "sgemm_"));
  return found;
}

// Row-major: c [rows, columns] = alpha * op(a) * op(b) + beta * c, `inner` being what is summed over.
void Multiply(bool transpose_a, bool transpose_b, int64_t rows, int64_t columns, int64_t inner, float alpha, const float* a, const float* b, float beta, float* c) {
  const int m = static_cast<int>(columns), n = static_cast<int>(rows), k = static_cast<int>(inner);
  const int lda = transpose_b ? k : m, ldb = transpose_a ? n : k;
  FindSgemm()(transpose_b ? "T" : "N", transpose_a ? "T" : "N", &m, &n, &k, &alpha, b, &lda, a, &ldb, &beta, c, &m);
}

// `scores` [batch, classes] becomes the gradient of the mean cross-entropy by them; returns that mean.
float CrossEntropy(int64_t batch, int64_t classes, const int64_t* labels, const std::vector<int64_t>& absent, float* scores) {
  double sum = 0;
  const float share = 1 / static_cast<float>(batch);
  for (int64_t i = 0; i < batch; ++i) {
    float* row = scores + i * classes;
    for (int64_t c : absent) row[c] = -std::numeric_limits<float>::infinity();
    const float greatest = *std::max_element(row, row + classes);
    float total = 0;
    const float of_label = row[labels[i]];
    for (int64_t c = 0; c < classes; ++c) total += row[c] = std::exp(row[c] - greatest);
    sum += std::log(total) + greatest - of_label;
    const float scale = share / total;
    for (int64_t c = 0; c < classes; ++c) row[c] *= scale;
    row[labels[i]] -= share;
  }
  return static_cast<float>(sum / static_cast<double>(batch));
}

void SumRows(int64_t rows, int64_t columns, const float* values, float* sums) {
  std::fill_n(sums, columns, 0.0f);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) sums[j] += values[i * columns + j];
  }
}

}  // namespace

bool FusedTail::Works() { return FindSgemm() != nullptr; }

FusedTail::FusedTail(std::vector<Linear> layers) : layers_(std::move(layers)), activations_(layers_.size()) {
  FEDWATT_CHECK(Works() && !layers_.empty() && !layers_.back().relu);
  for (size_t l = 1; l < layers_.size(); ++l) FEDWATT_CHECK(layers_[l].inputs == layers_[l - 1].outputs);
}

float FusedTail::Step(int64_t batch, const float* features, const int64_t* labels, const std::vector<int64_t>& absent, const SgdConstants& constants, const float* global, float* velocity, float* to_features) {
  for (size_t l = 0; l < layers_.size(); ++l) {
    const Linear& layer = layers_[l];
    std::vector<float>& out = activations_[l];
    out.resize(static_cast<size_t>(batch * layer.outputs));
    for (int64_t i = 0; i < batch; ++i) std::copy_n(layer.bias, layer.outputs, out.data() + i * layer.outputs);
    Multiply(false, true, batch, layer.outputs, layer.inputs, 1, l == 0 ? features : activations_[l - 1].data(), layer.weight, 1, out.data());
    if (layer.relu) {
      for (float& value : out) value = std::max(value, 0.0f);
    }
  }
  to_output_ = activations_.back();
  const float loss = CrossEntropy(batch, layers_.back().outputs, labels, absent, to_output_.data());
  if (!std::isfinite(loss)) return loss;

  const bool regularised = constants.weight_decay != 0 || constants.proximal_mu != 0;
  for (size_t l = layers_.size(); l-- > 0;) {
    const Linear& layer = layers_[l];
    const float* input = l == 0 ? features : activations_[l - 1].data();
    const int64_t count = layer.outputs * layer.inputs;
    // By the inputs first: the weights are about to change.
    if (l > 0) {
      to_input_.resize(static_cast<size_t>(batch * layer.inputs));
      Multiply(false, false, batch, layer.inputs, layer.outputs, 1, to_output_.data(), layer.weight, 0, to_input_.data());
      if (layers_[l - 1].relu) {
        for (size_t i = 0; i < to_input_.size(); ++i) to_input_[i] = input[i] > 0 ? to_input_[i] : 0;
      }
    } else if (to_features != nullptr) {
      Multiply(false, false, batch, layer.inputs, layer.outputs, 1, to_output_.data(), layer.weight, 0, to_features);
    }
    if (regularised) {
      gradient_.resize(static_cast<size_t>(count));
      Multiply(true, false, layer.outputs, layer.inputs, batch, 1, to_output_.data(), input, 0, gradient_.data());
      SgdUpdate(constants, count, gradient_.data(), global + layer.weight_offset, velocity == nullptr ? nullptr : velocity + layer.weight_offset, layer.weight);
    } else if (constants.momentum != 0) {
      Multiply(true, false, layer.outputs, layer.inputs, batch, 1, to_output_.data(), input, constants.momentum, velocity + layer.weight_offset);
      Descend(constants.learning_rate, count, velocity + layer.weight_offset, layer.weight);
    } else {
      Multiply(true, false, layer.outputs, layer.inputs, batch, -constants.learning_rate, to_output_.data(), input, 1, layer.weight);
    }
    gradient_.resize(std::max(gradient_.size(), static_cast<size_t>(layer.outputs)));
    SumRows(batch, layer.outputs, to_output_.data(), gradient_.data());
    SgdUpdate(constants, layer.outputs, gradient_.data(), global + layer.bias_offset, velocity == nullptr ? nullptr : velocity + layer.bias_offset, layer.bias);
    std::swap(to_output_, to_input_);
  }
  return loss;
}

}  // namespace fedwatt::internal

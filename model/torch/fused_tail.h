// The last layers of a network, where they are linear ones and ReLU under softmax cross-entropy, trained without automatic differentiation. Free of LibTorch.
#ifndef FEDWATT_MODEL_TORCH_FUSED_TAIL_H_
#define FEDWATT_MODEL_TORCH_FUSED_TAIL_H_

#include <cstdint>
#include <vector>

#include "sgd_update.h"

namespace fedwatt::internal {

// A step is two or three matrix products a layer and little else: no gradient is stored, it is added to the weights (or to their velocities) by the product that makes it. Nothing is allocated after
// the first step of a batch size. Owned by one thread.
class FusedTail {
 public:
  struct Linear {
    int64_t inputs = 0;
    int64_t outputs = 0;
    bool relu = false;    // after it
    float* weight;        // [outputs, inputs], row-major; trained in place
    float* bias;          // [outputs]
    int64_t weight_offset;  // in the flat vectors of Step
    int64_t bias_offset;
  };

  // Whether this process has the matrix product that it takes (sgemm of the BLAS that LibTorch brought).
  static bool Works();

  // At least one layer, the outputs of each the inputs of the next; no ReLU after the last. Works() must hold.
  explicit FusedTail(std::vector<Linear> layers);

  int64_t classes() const { return layers_.back().outputs; }

  // One step of SGD on the mean loss of `batch` examples, which it returns. `features` [batch, inputs]; `labels` [batch], each in [0, outputs of the last layer) and not
  // among `absent`, the classes that leave the softmax. `global` and `velocity` are of the whole model; velocity may
  // be null where there is no momentum. `to_features` [batch, inputs], unless null, becomes the gradient of the mean loss by the features. A loss that is not finite changes nothing.
  float Step(int64_t batch, const float* features, const int64_t* labels, const std::vector<int64_t>& absent, const SgdConstants& constants, const float* global, float* velocity, float* to_features);

 private:
  std::vector<Linear> layers_;
  std::vector<std::vector<float>> activations_;  // after each layer
  std::vector<float> to_output_, to_input_;      // gradients by a layer's outputs and inputs
  std::vector<float> gradient_;                  // of one tensor, where the update needs it by itself
};

}  // namespace fedwatt::internal

#endif  // FEDWATT_MODEL_TORCH_FUSED_TAIL_H_

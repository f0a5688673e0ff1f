// What one forward pass consists of.
#ifndef FEDWATT_MODEL_PROFILE_H_
#define FEDWATT_MODEL_PROFILE_H_

#include <cstdint>
#include <string>
#include <vector>

namespace fedwatt {

// One run of one operator, in evaluation mode, for one example.
struct OperatorProfile {
  std::string name;                   // "conv2d", without its namespace
  std::vector<std::string> entries;   // of the layout, that it reads
  std::vector<int64_t> output_shape;  // of its first tensor, without the batch; empty where it gives none
  double macs = 0;                    // multiply-adds: of weights, and of products of two activations
  int64_t activation_bytes = 0;       // that it allocates: 0 for views and for what is done in place
};

struct ModelProfile {
  std::vector<OperatorProfile> operators;  // in the order in which they ran; those that neither compute nor allocate are left out
  int64_t output_count = 0;                // values of the output for one example
};

}  // namespace fedwatt

#endif  // FEDWATT_MODEL_PROFILE_H_

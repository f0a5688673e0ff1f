// A scripted module's tensors as one flat vector, by dotted names.
#ifndef FEDWATT_MODEL_TORCH_SCRIPT_TENSORS_H_
#define FEDWATT_MODEL_TORCH_SCRIPT_TENSORS_H_

#include <string>

#include "absl/types/span.h"
#include "fedwatt/model/layout.h"
#include "pch.h"

namespace fedwatt::internal {

// Throws what LibTorch throws when there is none.
at::Tensor FindTensor(const torch::jit::Module& module, const std::string& name);
// Puts another in its place, of any shape. Throws likewise.
void SetTensor(const torch::jit::Module& module, const std::string& name, at::Tensor value);

// A copy whose tensors are new ones of the layout's shapes, with these values in precision `type`; kLocal entries keep their own. Which tensors require gradients stays.
torch::jit::Module WithValues(const torch::jit::Module& module, const ParameterLayout& layout, absl::Span<const float> values,
                              at::ScalarType type = at::kFloat);

// Throws std::invalid_argument when a tensor has another type or shape than the layout says.
void ReadValues(const torch::jit::Module& module, const ParameterLayout& layout, absl::Span<float> values);

}  // namespace fedwatt::internal

#endif  // FEDWATT_MODEL_TORCH_SCRIPT_TENSORS_H_

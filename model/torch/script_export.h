// Scripted models whose forward is another one than they came with, as modules that can be saved.
#ifndef FEDWATT_MODEL_TORCH_SCRIPT_EXPORT_H_
#define FEDWATT_MODEL_TORCH_SCRIPT_EXPORT_H_

#include <memory>

#include "pch.h"

namespace fedwatt::internal {

// A copy of `module`, classes and all, with its tensors under their names and `graph`, in which no call is left, for its forward; the schema stays. Other methods are
// left out: they may count channels that are gone. Takes the graph over. Throws std::invalid_argument where it still calls something.
torch::jit::Module WithForward(const torch::jit::Module& module, std::shared_ptr<torch::jit::Graph> graph);

}  // namespace fedwatt::internal

#endif  // FEDWATT_MODEL_TORCH_SCRIPT_EXPORT_H_

// A placed network as a trainable model.
#ifndef FEDWATT_MODEL_TORCH_LAYER_MODEL_H_
#define FEDWATT_MODEL_TORCH_LAYER_MODEL_H_

#include <memory>

#include "network.h"
#include "trainable_model.h"

namespace fedwatt::internal {

std::unique_ptr<TrainableModel> MakeLayerModel(const ArchitectureSpec& spec, PlacedNetwork network);

}  // namespace fedwatt::internal

#endif  // FEDWATT_MODEL_TORCH_LAYER_MODEL_H_

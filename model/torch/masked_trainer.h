// Training of a model of which only some weights are left: as wide as the whole, with zeros elsewhere.
#ifndef FEDWATT_MODEL_TORCH_MASKED_TRAINER_H_
#define FEDWATT_MODEL_TORCH_MASKED_TRAINER_H_

#include <memory>

#include "fedwatt/model/submodel.h"
#include "trainable_model.h"

namespace fedwatt::internal {

// `mask` keeps single weights (WeightGroups) of the model's layout. The trainer's layout is that of what is left, so nothing else is taken in or given out. Masked
// weights are zero in every forward pass; kernels multiply them like any other value, so this is no faster, but for the mask itself slower.
std::unique_ptr<LocalTrainer> MakeMaskedTrainer(std::unique_ptr<TrainableModel> model, Submodel mask);

}  // namespace fedwatt::internal

#endif  // FEDWATT_MODEL_TORCH_MASKED_TRAINER_H_

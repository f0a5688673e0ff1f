// The one place that names LibTorch's headers; precompiled, because they cost ten seconds a file.
#ifndef FEDWATT_MODEL_TORCH_PCH_H_
#define FEDWATT_MODEL_TORCH_PCH_H_

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/script.h>

#endif  // FEDWATT_MODEL_TORCH_PCH_H_

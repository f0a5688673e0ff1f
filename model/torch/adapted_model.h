// Low-rank adapters over a frozen archive: LoRA (Hu et al. 2022, arXiv 2106.09685) with one factor fixed, as in FFA-LoRA (Sun et al. 2024, arXiv 2403.12313).
#ifndef FEDWATT_MODEL_TORCH_ADAPTED_MODEL_H_
#define FEDWATT_MODEL_TORCH_ADAPTED_MODEL_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "script_model.h"

namespace fedwatt::internal {

// A weight W of shape [m, ...], n values a row, n > rank, becomes W8 + B A and is no entry of the layout any more: W8, frozen, is W in 8-bit integers, one scale a row;
// A, [rank, n], is drawn from `seed` and its rows are orthonormal; B, [m, rank], zero at first, is the entry "NAME.adapter". So averaging B averages what it makes of W, without an error,
// and a step of SGD on B is that step on W, projected: learning rates mean what they meant. Smaller tensors, such as biases, are trained whole; what
// the author froze stays frozen.
// `model` is whole; rank >= 1. Errors: INVALID_ARGUMENT  a tensor of the archive already has an adapter's name; no weight has more than `rank` values a row
absl::StatusOr<std::unique_ptr<ArchivedModel>> MakeAdaptedModel(std::unique_ptr<ScriptModel> model, int64_t rank, uint64_t seed);

// `rank` orthonormal rows of n values, row-major, drawn from `seed`: the same on every machine. 1 <= rank < n.
std::vector<float> OrthonormalRows(int64_t rank, int64_t n, uint64_t seed);

}  // namespace fedwatt::internal

#endif  // FEDWATT_MODEL_TORCH_ADAPTED_MODEL_H_

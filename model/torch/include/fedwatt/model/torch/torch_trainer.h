// Training and scoring with LibTorch, behind types that are free of it.
#ifndef FEDWATT_MODEL_TORCH_TORCH_TRAINER_H_
#define FEDWATT_MODEL_TORCH_TORCH_TRAINER_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "fedwatt/model/local_trainer.h"
#include "fedwatt/model/plan.h"
#include "fedwatt/model/profile.h"

namespace fedwatt {

// Sets the threads of both kernel libraries: ATen's and, where it is the BLAS in use, OpenBLAS's (which ATen's own setting does not
// reach). Call once, at the start of the process, before any trainer exists. A trainer adjusts them again when its recipe
// asks for another number. Also makes an OpenBLAS that does not know this processor choose its kernels anew (sets OPENBLAS_CORETYPE
// unless it is set). Errors: INVALID_ARGUMENT  threads outside [1, 1024].
absl::Status ConfigureKernels(int threads);

// What decides the bits of a trained model, for the run summary: "libtorch", "cpu_capability", "aten_threads", "blas", "blas_core",
// "blas_threads". A key is absent when the library does not say.
std::map<std::string, std::string> KernelFacts();

// Whether this processor has instructions for bfloat16 arithmetic that LibTorch uses (avx512_bf16). UNIMPLEMENTED when not, in words.
absl::Status CheckBfloat16Instructions();

// False when matrix products run on the reference BLAS, about 20 times slower.
bool BlasIsOptimised();

// A trainer for a registered architecture. SGD as in PyTorch: g = gradient + weight_decay * w + proximal_mu * (w - w_global);
// v = momentum * v + g, from v = 0 in every call; w -= client_learning_rate * v. Each epoch visits the examples in a fresh seeded order.
// In number format "bfloat16" forward and backward pass compute with rounded copies of the parameters (round half to even), convolutions with the channels last;
// gradients are widened before the update, which is that of float32.
// Where the spec says quantization "int8", training passes compute with weights rounded as int8 would hold them (symmetric, a scale for each output channel) and
// activations rounded to 256 values of a running range; gradients pass as if nothing was rounded (Jacob et al. 2018, arXiv 1712.05877). Scoring is float32 always.
// Examples are kept as float tensors between calls in a cache of at most 1 GiB that all trainers of the process share.
// Trainers in different threads may run at once, and give the bits they would give alone.
// Errors: NOT_FOUND  unknown architecture; INVALID_ARGUMENT  shape, counts or options do not suit it.
absl::StatusOr<std::unique_ptr<LocalTrainer>> MakeTorchTrainer(const ArchitectureSpec& spec);

// The names that TrainingRecipe::loss may have. Next-character prediction is "cross_entropy" over the last position.
std::vector<std::string> LossNames();

// Writes `model` as a TorchScript archive (atomically): parameters under their layout names ("fc1.weight" is `weight` of submodule
// `fc1`), and `forward` in evaluation mode: [batch, input_shape...] float32 as the dataset normalises them, or int64 tokens
// [batch, length], to [batch, output_count] logits. Python's torch.jit.load reads it.
// Errors: INVALID_ARGUMENT  `model` has another length than the layout; otherwise as MakeTorchTrainer and WriteFileAtomically
absl::Status WriteTorchScript(const ArchitectureSpec& spec, absl::Span<const float> model, const std::string& path);

// The operators of one example's forward pass, as the archive that WriteTorchScript writes runs them.
// Errors: as MakeTorchTrainer
absl::StatusOr<ModelProfile> ProfileArchitecture(const ArchitectureSpec& spec);

// What spikes cause, measured on examples.
struct SpikeProfile {
  struct Layer {
    std::string name;
    double rate = 0;  // share of its inputs that is not zero, of all steps
  };
  int64_t steps = 0;
  double analogue_macs = 0;     // multiply-adds of one example with inputs that are no spikes
  double macs_per_step = 0;     // of the other layers with weights, at one instant, if every input spiked
  double spike_operations = 0;  // additions of a weight that spikes ask for, one example, over all steps; at borders of convolutions a little more than there are
  double neuron_updates = 0;    // of one example, over all steps
  std::vector<Layer> layers;    // those that read spikes
};
// Errors: UNIMPLEMENTED  the architecture has no spiking neurons; INVALID_ARGUMENT  `model` has another length than the layout, or the data does not suit; otherwise as
// MakeTorchTrainer
absl::StatusOr<SpikeProfile> ProfileSpikes(const ArchitectureSpec& spec, absl::Span<const float> model, const Dataset& data);

}  // namespace fedwatt

#endif  // FEDWATT_MODEL_TORCH_TORCH_TRAINER_H_

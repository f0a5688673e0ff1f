// Delivering a trained model as 8-bit integers.
#ifndef FEDWATT_MODEL_TORCH_QUANTIZATION_H_
#define FEDWATT_MODEL_TORCH_QUANTIZATION_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "fedwatt/model/dataset.h"
#include "fedwatt/model/int8_delivery.h"
#include "fedwatt/model/local_trainer.h"
#include "fedwatt/model/plan.h"

namespace fedwatt {

// Writes `model` as a TorchScript archive that computes in 8-bit integers (atomically): float32 in, float32 logits out, as WriteTorchScript's. Weights are
// symmetric for each output channel, activations affine for each tensor, biases float32 (Jacob et al. 2018, arXiv 1712.05877). Activation ranges are the least and
// the greatest values that at most 512 evenly spaced examples of `calibration` (inputs only) give, or those that clients found where the spec says quantization "int8"; `calibration` may then be empty. Runs on LibTorch's oneDNN engine, here and in Python.
// Returns path, bytes and calibration examples.
// Errors: UNIMPLEMENTED  a layer of this architecture has no int8 form, or this LibTorch no oneDNN engine; the message is for people
//         INVALID_ARGUMENT  `model` has another length than the layout, or the examples do not suit; otherwise as MakeTorchTrainer and WriteFileAtomically
absl::StatusOr<Int8Delivery> WriteQuantizedTorchScript(const ArchitectureSpec& spec, absl::Span<const float> model, const Dataset& calibration,
                                                       const std::string& path);

// Scores examples with an archive as LocalTrainer::Evaluate does with a model. Owned by one thread at a time.
using ArchiveScorer = std::function<absl::StatusOr<EvaluationResult>(const Dataset& data, const std::string& loss)>;
// Loads an archive that WriteTorchScript or WriteQuantizedTorchScript wrote. It runs in this process: never for archives of others.
// Errors: INVALID_ARGUMENT  not an archive; from the scorer: loss or data do not suit
absl::StatusOr<ArchiveScorer> LoadArchive(const ArchitectureSpec& spec, const std::string& path);
// Scores an archive that WriteTorchScript or WriteQuantizedTorchScript wrote, as LocalTrainer::Evaluate does. It runs in this process: never for archives of others.
// Errors: INVALID_ARGUMENT  not an archive; loss or data do not suit
absl::StatusOr<EvaluationResult> EvaluateArchive(const ArchitectureSpec& spec, const std::string& path, const Dataset& data, const std::string& loss);

// What a run does at its end: WriteQuantizedTorchScript, scored on all of `test` when `score` says so. That there is no int8 form is no error but told in the result.
// Errors: the others of both
absl::StatusOr<Int8Delivery> DeliverInt8(const ArchitectureSpec& spec, absl::Span<const float> model, const Dataset& test, bool score, const std::string& loss,
                                         const std::string& path);

}  // namespace fedwatt

#endif  // FEDWATT_MODEL_TORCH_QUANTIZATION_H_

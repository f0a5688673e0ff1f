// What a client is asked to do: the model's architecture, the training recipe, and the limits its update must keep.
#ifndef FEDWATT_MODEL_PLAN_H_
#define FEDWATT_MODEL_PLAN_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "fedwatt/base/digest.h"
#include "fedwatt/model/channels.h"

namespace fedwatt {

// Names a built-in (or registered) architecture, or a TorchScript archive by digest.
struct ArchitectureSpec {
  std::string name;                            // "mlp_2nn"; "torchscript" for an archive; not empty
  std::vector<int64_t> input_shape;            // of one example, e.g. {1, 28, 28}; {80} for 80 tokens; [1, 8] dimensions >= 1
  int64_t output_count = 0;                    // classes, vocabulary size, or regression outputs; >= 1
  std::map<std::string, std::string> options;  // architecture's own, e.g. {"dropout", "0.5"}; unknown ones are refused
  Digest archive_digest;                       // TorchScript only
  // "int8": the model is trained to be delivered as 8-bit integers. Weights and activations are rounded in training, and the layout ends in the activations' ranges
  // (averaged buffers of shape {2}: least and greatest value), which clients follow and the coordinator averages. "": it is not.
  std::string quantization;
  // The channels that are left where the model is a narrower one; options and counts above describe the whole. Or the single weights that are
  // left (KeepsWeights() in model/submodel.h): the others are zero in a model that is as wide as ever, and its layout lists those that are left.
  KeptChannels kept;
};

struct TrainingRecipe {
  int32_t local_epochs = 1;          // [1, 10000]; ignored when local_steps > 0
  int32_t local_steps = 0;           // 0 = whole epochs
  int32_t batch_size = 32;           // [1, 1e6]; the last batch of an epoch may be smaller
  double client_learning_rate = 0.05;  // > 0; the coordinator has applied the schedule already
  double momentum = 0;               // [0, 1)
  double weight_decay = 0;           // >= 0, L2
  double proximal_mu = 0;            // FedProx (Li et al. 2020, arXiv 1812.06127): adds mu/2 |w - w_global|^2
  int32_t threads = 1;               // kernel threads, [1, 1024]; anything but 1 makes bits depend on the machine
  std::string loss = "cross_entropy";  // see LossNames() in model/torch: cross_entropy, masked_cross_entropy, mean_squared_error
  // In which forward and backward passes compute, "float32" or "bfloat16"; parameters, gradients once computed, and updates are float32 always. The device decides
  // (round/number_format.h), so it is not sent.
  std::string number_format = "float32";
};

// How the model was fitted to this client.
struct FitSpec {
  double width_fraction = 1;            // (0, 1]
  std::string number_format = "float32";  // asked for: float32, bfloat16 or auto; see round/number_format.h
};
// Whether it names a format that a trainer computes in: "float32" or "bfloat16".
bool IsNumberFormat(std::string_view name);
// INVALID_ARGUMENT unless it is what a plan may ask for: one of these, or "auto".
absl::Status CheckAskedNumberFormat(std::string_view name);
// All that it takes, sorted.
std::vector<std::string> AskedNumberFormats();

// Beyond any of these an update is refused, never clamped.
struct UpdateLimits {
  double max_abs = 64;                   // of any one value of a delta; > 0
  double max_norm = 0;                   // L2 of the delta; 0 = no bound
  int64_t max_example_count = 1 << 20;   // per update; >= 1
  int64_t max_update_bytes = 1 << 30;    // of an encoded update container; >= 1
};

struct Plan {
  std::string run_id;
  ArchitectureSpec architecture;
  Digest layout_digest;
  TrainingRecipe recipe;
  FitSpec fit;
  std::string uplink_codec = "float32";    // pipeline spelling, see compression
  std::string downlink_codec = "float32";
  UpdateLimits limits;
  double clip_norm = 0;                    // client clips its delta to this L2 norm before encoding; 0 = no clipping
  uint64_t seed = 0;                       // of the run
};

// Errors: INVALID_ARGUMENT  a field is outside the range written beside it; the message names it, its range and its value
absl::Status ValidatePlan(const Plan& plan);

// The seeds by which a simulated and a networked run do the same: hashes of (run seed, round, partition).
uint64_t TrainingSeed(uint64_t run_seed, int64_t round, int64_t partition);
uint64_t EncodingSeed(uint64_t run_seed, int64_t round, int64_t partition);
// The seed of the very first global model.
uint64_t InitialModelSeed(uint64_t run_seed);

}  // namespace fedwatt

#endif  // FEDWATT_MODEL_PLAN_H_

// A network with its shapes worked out: layout, initial values, channel groups. Free of LibTorch.
#ifndef FEDWATT_MODEL_TORCH_NETWORK_H_
#define FEDWATT_MODEL_TORCH_NETWORK_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "fedwatt/model/layout.h"
#include "fedwatt/model/submodel.h"
#include "fedwatt/model/torch/architecture.h"

namespace fedwatt::internal {

struct PlacedLayer {
  Layer layer;
  std::vector<int64_t> input_shape;   // of one example
  std::vector<int64_t> output_shape;
  size_t first_entry = 0;             // of its layout entries, for layers that own some
  int64_t input_steps = 1;            // instants of time that it sees as batches of their own
};

struct PlacedNetwork {
  std::vector<PlacedLayer> layers;
  ParameterLayout layout;
  // Per entry: values are uniform in +-bound, or standard normal where bound is 0. Of the whole model where this is a narrower one.
  std::vector<float> initial_bounds;
  // Per entry: multiply-adds of one example in which each value takes part.
  std::vector<double> uses;
  std::vector<ChannelGroup> groups;
  // Index of the entry that counts the rounds a model with random features was trained in. Unset: it has none.
  std::optional<size_t> draws_entry;
  // Index of the first activation range (ArchitectureSpec::quantization): of the input; those of layers with weights follow. Unset: there are none.
  std::optional<size_t> first_range;
  std::optional<Submodel> submodel;  // where this network lies in the whole one, unless it is the whole
  std::optional<Submodel> mask;      // of the weights that the spec keeps, where it names single ones; all else here is then of the whole model
  bool takes_tokens = false;
  int64_t peak_values = 0;  // most values one example's activation has between two layers
};

// Whether forward() has a twin step() that takes one position at a time (ForwardSource()).
bool HasStep(const PlacedNetwork& network);

// Queries of softmax attention that are scored at once, against the keys up to the last of them.
inline constexpr int64_t kSoftmaxChunk = 256;
// Positions of linear attention that are scored against each other; what came before is a sum. Of equal length, and few for short sequences.
int64_t LinearChunk(int64_t length);
// The random features of layer `layer` after so many rounds of training: [features, head_size], row by row.
std::vector<float> DrawFeatures(const RandomFeatureAttention& kernel, int64_t head_size, size_t layer, float rounds);

// Finds the architecture, reads its options, drops the channels that the spec does not keep, and places the layers. Errors: as MakeTorchTrainer.
absl::StatusOr<PlacedNetwork> PlaceNetwork(const ArchitectureSpec& spec);

// `model`, which is of layout `mask->layout()` or `layout`, as one of `layout`, with zeros where weights are masked. INVALID_ARGUMENT  another length
absl::StatusOr<std::vector<float>> WholeValues(const PlacedNetwork& network, absl::Span<const float> model);

// Drawn from `seed` alone, on any machine. A narrower network gets its slice of what the whole one draws.
std::vector<float> InitialValues(const PlacedNetwork& network, uint64_t seed);

// The source of `def forward(self, x)` in evaluation mode. Random features are `self.<layer>.features`. Where HasStep(), of `start(self, batch: int)` as
// well, which gives the state before the first position, and `step(self, x, state)`: one position of each example ([batch] tokens or [batch, in]) and a
// state to (outputs of the sequence so far, next state), in time and memory that do not depend on the position.
std::string ForwardSource(const PlacedNetwork& network);

}  // namespace fedwatt::internal

#endif  // FEDWATT_MODEL_TORCH_NETWORK_H_

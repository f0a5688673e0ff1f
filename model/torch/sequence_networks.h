// What the architectures for sequences share.
#ifndef FEDWATT_MODEL_TORCH_SEQUENCE_NETWORKS_H_
#define FEDWATT_MODEL_TORCH_SEQUENCE_NETWORKS_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "fedwatt/model/torch/architecture.h"

namespace fedwatt::internal {

// What brings the input to {L, width}: an embedding of tokens, input_shape {L}; or of real vectors, {L, in}, or an image's rows, {C, H, W}, a linear layer.
// Its name is "embedding". INVALID_ARGUMENT  another shape
absl::StatusOr<std::vector<Layer>> EmbedSequence(const ArchitectureSpec& spec, int64_t width);

// x + W mixing(norm(x)), `out` being W. Behind the `last` mixing of positions only the last one is looked at: what follows it is computed there alone.
void AppendMixing(Layer mixing, Linear out, bool last, std::vector<Layer>& layers);
// x + W2 relu(W1 norm(x)), layers "<name>_in" of `hidden` units and "<name>_out".
void AppendFeedForward(const std::string& name, int64_t width, int64_t hidden, std::vector<Layer>& layers);

// A causal transformer with normalisation before each half of a block (Xiong et al. 2020, arXiv 2002.04745), sinusoidal positions, and a linear layer on the
// last position. Channel groups: the heads and the hidden units of each block; what flows from block to block is whole.
//
// Options: width        of what flows from block to block, [2, 65536], 64
//          heads        of each block, [1, 1024], 4; width must be a multiple
//          blocks       [1, 256], 2
//          hidden_size  of the feed-forward half of a block, [1, 262144], 4 width
absl::StatusOr<Network> Transformer(const ArchitectureSpec& spec, OptionReader& options, const AttentionKernel& kernel);

}  // namespace fedwatt::internal

#endif  // FEDWATT_MODEL_TORCH_SEQUENCE_NETWORKS_H_

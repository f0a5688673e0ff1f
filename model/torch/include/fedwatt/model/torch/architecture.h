// Built-in architectures as data: a list of layers, from which the layout, the forward pass, the exported TorchScript and the
// channel groups all follow.
#ifndef FEDWATT_MODEL_TORCH_ARCHITECTURE_H_
#define FEDWATT_MODEL_TORCH_ARCHITECTURE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "fedwatt/base/registry.h"
#include "fedwatt/model/channels.h"
#include "fedwatt/model/layout.h"
#include "fedwatt/model/plan.h"

namespace fedwatt {

// Layers work on one example's shape; the batch is the dimension before it. {L, in} is a sequence of L positions. A layer with a `name`
// owns the entries "<name>.weight" and "<name>.bias" unless said otherwise.
struct Flatten {};                                       // any -> {product}
struct Linear { std::string name; int64_t outputs = 0; };  // {in} -> {outputs} or, position by position, {L, in} -> {L, outputs}; weight {outputs, in}
// {C, H, W} -> {channels, H', W'}, stride 1, zero padding on each side; weight {channels, C, kernel, kernel}
struct Conv2d { std::string name; int64_t channels = 0; int64_t kernel = 1; int64_t padding = 0; };
// {C, H, W} -> {C, H', W'}: each channel by a kernel of its own; weight {C, 1, kernel, kernel}
struct DepthwiseConv2d { std::string name; int64_t kernel = 3; int64_t padding = 1; int64_t stride = 1; };
struct Relu {};
struct MaxPool2d { int64_t size = 2; };                  // {C, H, W} -> {C, H / size, W / size}, rounded down
struct GlobalAveragePool {};                             // {C, H, W} -> {C}
struct Dropout { double rate = 0.5; };                   // in training: zeroes with probability `rate`, scales by 1 / (1 - rate)

struct Embedding { std::string name; int64_t width = 0; };  // {L} tokens -> {L, width}; weight {vocabulary, width}, no bias
struct Rows {};                                          // {H, W} as it is, {C, H, W} -> {H, C * W}: an image's rows as a sequence, the top one first
// {L, width}: adds to each position sines and cosines of wavelengths 2 pi to 20000 pi (Vaswani et al. 2017, arXiv 1706.03762, section 3.5).
struct SinusoidalPositions {};
struct LayerNorm {};                                     // {L, in} or {in}: each position to mean 0, variance 1. No entries: the linear layer that follows can scale and shift
// x + f(x), f being the layers in between; they may nest. The shape within must come back to that of x, or, where f ends at the last position, to that of x
// there: then x is taken there, too. Channels of x belong to no group.
struct ResidualBegin {};
struct ResidualEnd {};
struct LastPosition {};                                  // {L, in} -> {in}

// {L, in}, one layer from zero state; entries "<name>.weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0" as in PyTorch
// (gates input, forget, cell, output, of a GRU reset, update, new, stacked on axis 0). -> {L, hidden}
struct Lstm { std::string name; int64_t hidden = 0; };
struct Gru { std::string name; int64_t hidden = 0; };
// minGRU of Feng et al. 2024, arXiv 2410.01201, section 3.1 and appendix B.3: h_t = (1 - z_t) h_(t-1) + z_t g_t with h_0 = 0, z = sigmoid(W_z x),
// g = G(W_g x) where G(v) is v + 0.5 from 0 on and sigmoid(v) below. Gates read the input only, so one matrix product serves all positions and a scan is
// left, linear in L. weight {2 hidden, in}: z, g. -> {L, hidden}
struct MinGru { std::string name; int64_t hidden = 0; };

// How causal attention mixes positions: position i reads positions j <= i. Costs are multiply-adds a head, L positions of head_size s.
struct SoftmaxAttention {};                              // softmax(q k / sqrt(s)) v; about L^2 s
// phi(q) . (sum phi(k) v) / phi(q) . sum phi(k), phi(x) = elu(x) + 1 (Katharopoulos et al. 2020, arXiv 2006.16236, eq. 7); 2 L s^2 + 2 L s chunk
struct LinearAttention {};
// Softmax over the `window` last positions, own one included, and the first `global_tokens` of the sequence (as Beltagy et al. 2020, arXiv 2004.05150,
// but causal); queries go by blocks of `window`, which read two blocks and the global tokens: 2 L s (2 window + global_tokens), at most 2 L^2 s.
struct LocalAttention { int64_t window = 64; int64_t global_tokens = 1; };
// FAVOR+ (Choromanski et al. 2021, arXiv 2009.14794, lemma 1): as LinearAttention, phi(x) = exp(w x' - |x'|^2 / 2) / sqrt(features), x' = x / s^(1/4), for
// `features` orthogonal random w, the same for all heads. They are drawn from (seed, layer, draw): nobody sends them. Entry "draws.count" (averaged
// buffer of shape {1}) counts the rounds that the model was trained in; draw = count / redraw_rounds, 0 = always the first one. So whoever holds the
// model knows its features, and all redraw in step. 4 L s features + L chunk (s + features)
struct RandomFeatureAttention { int64_t features = 64; int64_t redraw_rounds = 0; int64_t seed = 0; };
using AttentionKernel = std::variant<SoftmaxAttention, LinearAttention, LocalAttention, RandomFeatureAttention>;
// {L, in} -> {L, heads * head_size}, weight {3 heads head_size, in}: queries, keys, values, each head by head. Channels are the heads.
struct Attention { std::string name; int64_t heads = 1; int64_t head_size = 16; AttentionKernel kernel; };

// Spiking layers see `steps` instants of time as batches of their own, the earliest first: every other layer works on all of them at once.
struct RepeatInTime { int64_t steps = 4; };              // the same input at each instant (direct coding)
// Leaky integrate-and-fire neurons, any shape: u_t = leak u_(t-1) + x_t - s_(t-1), s_t = 1 where u_t >= 1, else 0; from rest, of as many steps as
// time has. Backward: ds/du = 1 / (1 + 5 |u - 1|)^2 (fast sigmoid, Zenke, Ganguli 2018), through time and reset.
struct LeakyIntegrateAndFire { double leak = 0.9; };
struct MeanOverTime {};                                  // ends time

using Layer = std::variant<Flatten, Linear, Conv2d, DepthwiseConv2d, Relu, MaxPool2d, GlobalAveragePool, Dropout, Embedding, Rows, SinusoidalPositions, LayerNorm,
                           ResidualBegin, ResidualEnd, LastPosition, Lstm, Gru, MinGru, Attention, RepeatInTime, LeakyIntegrateAndFire, MeanOverTime>;

enum class Initialisation {
  kPytorchDefault,        // weights and biases uniform in +-1/sqrt(fan_in); LSTM and GRU in +-1/sqrt(hidden); embeddings standard normal
  kXavierUniformWeights,  // the same, but linear and convolution weights uniform in +-sqrt(6 / (fan_in + fan_out))
  kHeUniformWeights,      // the same, but linear and convolution weights uniform in +-sqrt(6 / fan_in)
};

struct Network {
  std::vector<Layer> layers;  // ends in shape {output_count}
  Initialisation initialisation = Initialisation::kPytorchDefault;
};

// Reads ArchitectureSpec::options; what was not asked for is unknown. The first error sticks. Owned by one thread.
class OptionReader {
 public:
  explicit OptionReader(const std::map<std::string, std::string>& options) : options_(options) {}
  // The option as a number in [low, high], or `otherwise` when absent.
  int64_t Integer(const std::string& name, int64_t otherwise, int64_t low, int64_t high);
  // In [low, high).
  double Fraction(const std::string& name, double otherwise, double low = 0, double high = 1);
  // One of `names`, as its index; `names[0]` when absent.
  size_t Choice(const std::string& name, const std::vector<std::string>& names);
  // Errors: INVALID_ARGUMENT  not a number, out of range, or a name never asked for (with the nearest one)
  absl::Status Finish() const;

 private:
  const std::map<std::string, std::string>& options_;
  std::vector<std::string> asked_;
  absl::Status status_;
};

// Describes the network for a spec whose shape and counts are positive and bounded already. Must ask `options` for every option it
// has before it returns. Errors: INVALID_ARGUMENT  the input shape does not suit.
using Architecture = std::function<absl::StatusOr<Network>(const ArchitectureSpec& spec, OptionReader& options)>;
using ArchitectureRegistry = Registry<Architecture>;

// The built-in ones and what the application registered before it made its first trainer. Lives for the whole process.
ArchitectureRegistry& Architectures();
std::vector<std::string> ArchitectureNames();

// Errors: NOT_FOUND  unknown architecture; INVALID_ARGUMENT  shape, counts or options do not suit it.
absl::StatusOr<std::vector<ChannelGroup>> ChannelGroups(const ArchitectureSpec& spec);
absl::StatusOr<ParameterLayout> ArchitectureLayout(const ArchitectureSpec& spec);

}  // namespace fedwatt

#endif  // FEDWATT_MODEL_TORCH_ARCHITECTURE_H_

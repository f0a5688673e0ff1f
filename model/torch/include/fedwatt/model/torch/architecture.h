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

// Layers work on one example's shape; the batch is the dimension before it. A layer with a `name` owns the entries
// "<name>.weight" and "<name>.bias" unless said otherwise.
struct Flatten {};                                       // any -> {product}
struct Linear { std::string name; int64_t outputs = 0; };  // {in} -> {outputs}; weight {outputs, in}
// {C, H, W} -> {channels, H', W'}, stride 1, zero padding on each side; weight {channels, C, kernel, kernel}
struct Conv2d { std::string name; int64_t channels = 0; int64_t kernel = 1; int64_t padding = 0; };
struct Relu {};
struct MaxPool2d { int64_t size = 2; };                  // {C, H, W} -> {C, H / size, W / size}, rounded down
struct Dropout { double rate = 0.5; };                   // in training: zeroes with probability `rate`, scales by 1 / (1 - rate)
struct Embedding { std::string name; int64_t width = 0; };  // {L} tokens -> {L, width}; weight {vocabulary, width}, no bias
// {L, in} -> {L, hidden}, one layer from zero state; entries "<name>.weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"
// as in PyTorch (gates input, forget, cell, output stacked on axis 0).
struct Lstm { std::string name; int64_t hidden = 0; };
struct LastPosition {};                                  // {L, in} -> {in}

using Layer = std::variant<Flatten, Linear, Conv2d, Relu, MaxPool2d, Dropout, Embedding, Lstm, LastPosition>;

enum class Initialisation {
  kPytorchDefault,        // weights and biases uniform in +-1/sqrt(fan_in); LSTM in +-1/sqrt(hidden); embeddings standard normal
  kXavierUniformWeights,  // the same, but linear and convolution weights uniform in +-sqrt(6 / (fan_in + fan_out))
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

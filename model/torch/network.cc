#include "network.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "fedwatt/base/nearest.h"
#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "quantized_network.h"

namespace fedwatt {
namespace internal {

void InstallArchitectures(ArchitectureRegistry& registry);

namespace {

constexpr int64_t kMaxDimension = int64_t{1} << 24;

template <typename... Fs>
struct Overloaded : Fs... {
  using Fs::operator()...;
};
template <typename... Fs>
Overloaded(Fs...) -> Overloaded<Fs...>;

std::string ShapeText(const std::vector<int64_t>& shape) { return absl::StrCat("{", absl::StrJoin(shape, ", "), "}"); }

int64_t Product(const std::vector<int64_t>& shape, size_t from = 0) {
  int64_t product = 1;
  for (size_t i = from; i < shape.size(); ++i) product *= shape[i];
  return product;
}

absl::Status ValidateSpec(const ArchitectureSpec& spec) {
  if (spec.input_shape.empty() || spec.input_shape.size() > 7) {
    return absl::InvalidArgumentError(absl::StrCat("model.input_shape needs 1 to 7 dimensions, got ", spec.input_shape.size()));
  }
  int64_t product = 1;
  for (int64_t dimension : spec.input_shape) {
    if (dimension < 1 || dimension > kMaxDimension || product > kMaxDimension / dimension) {
      return absl::InvalidArgumentError(absl::StrCat("model.input_shape ", ShapeText(spec.input_shape),
                                                     ": dimensions must be positive and their product at most ", kMaxDimension));
    }
    product *= dimension;
  }
  if (spec.output_count < 1 || spec.output_count > kMaxDimension) {
    return absl::InvalidArgumentError(absl::StrCat("output_count must be in [1, ", kMaxDimension, "], got ", spec.output_count));
  }
  return absl::OkStatus();
}

// Follows one example through the layers, collecting what each adds.
class Placer {
 public:
  Placer(const ArchitectureSpec& spec, const Network& network) : spec_(spec), initialisation_(network.initialisation), shape_(spec.input_shape) {}

  absl::Status Add(const Layer& layer) {
    PlacedLayer placed{layer, shape_, {}, entries_.size(), time_};
    FEDWATT_RETURN_IF_ERROR(std::visit([this](const auto& l) { return Place(l); }, layer));
    placed.output_shape = shape_;
    network_.peak_values = std::max(network_.peak_values, time_ * std::max(Product(shape_), widest_));
    widest_ = 0;
    network_.layers.push_back(std::move(placed));
    return absl::OkStatus();
  }

  absl::StatusOr<PlacedNetwork> Finish() && {
    if (shape_ != std::vector<int64_t>{spec_.output_count}) {
      return absl::InvalidArgumentError(absl::StrCat("architecture '", spec_.name, "' ends in shape ", ShapeText(shape_),
                                                     ", expected {", spec_.output_count, "}"));
    }
    if (!residuals_.empty() || time_ != 1) {
      return absl::InvalidArgumentError(absl::StrCat("architecture '", spec_.name, "': a residual or time that begins must end"));
    }
    if (has_draws_) {
      network_.draws_entry = entries_.size();
      AddEntry("draws.count", {1}, 0, 0);
      entries_.back().kind = EntryKind::kAveragedBuffer;
    }
    if (spec_.quantization == "int8") {
      FEDWATT_RETURN_IF_ERROR(CheckQuantizable(network_));
      network_.first_range = entries_.size();
      AddRange("input");
      for (const PlacedLayer* layer : WeightedLayers(network_)) AddRange(NameOf(*layer));
    }
    FEDWATT_ASSIGN_OR_RETURN(network_.layout, ParameterLayout::Create(std::move(entries_)));
    return std::move(network_);
  }

 private:
  absl::Status Place(const Flatten&) {
    repeat_ *= Product(shape_, 1);
    shape_ = {Product(shape_)};
    return absl::OkStatus();
  }

  absl::Status Place(const Linear& layer) {
    if (shape_.size() != 2) FEDWATT_RETURN_IF_ERROR(NeedRank(1, layer.name));
    const int64_t inputs = shape_.back();
    const double positions = static_cast<double>(shape_.size() == 2 ? shape_[0] : 1);
    Consume(layer.name + ".weight");
    AddEntry(layer.name + ".weight", {layer.outputs, inputs}, WeightBound(inputs, layer.outputs), positions);
    AddEntry(layer.name + ".bias", {layer.outputs}, BiasBound(inputs), positions);
    Produce(layer.name, layer.outputs, {{layer.name + ".weight", 0}, {layer.name + ".bias", 0}});
    shape_.back() = layer.outputs;
    return absl::OkStatus();
  }

  absl::Status Place(const Conv2d& layer) {
    FEDWATT_RETURN_IF_ERROR(NeedRank(3, layer.name));
    const int64_t channels = shape_[0], area = layer.kernel * layer.kernel, fan_in = channels * area;
    FEDWATT_ASSIGN_OR_RETURN(const double positions, Slide(layer.name, layer.kernel, layer.padding, 1));
    Consume(layer.name + ".weight");
    AddEntry(layer.name + ".weight", {layer.channels, channels, layer.kernel, layer.kernel}, WeightBound(fan_in, layer.channels * area), positions);
    AddEntry(layer.name + ".bias", {layer.channels}, BiasBound(fan_in), positions);
    Produce(layer.name, layer.channels, {{layer.name + ".weight", 0}, {layer.name + ".bias", 0}});
    shape_[0] = layer.channels;
    return absl::OkStatus();
  }

  absl::Status Place(const DepthwiseConv2d& layer) {
    FEDWATT_RETURN_IF_ERROR(NeedRank(3, layer.name));
    const int64_t area = layer.kernel * layer.kernel;
    FEDWATT_ASSIGN_OR_RETURN(const double positions, Slide(layer.name, layer.kernel, layer.padding, layer.stride));
    AddEntry(layer.name + ".weight", {shape_[0], 1, layer.kernel, layer.kernel}, WeightBound(area, area), positions);
    AddEntry(layer.name + ".bias", {shape_[0]}, BiasBound(area), positions);
    // Channels stay what they were.
    if (open_) open_->axes.insert(open_->axes.end(), {{layer.name + ".weight", 0}, {layer.name + ".bias", 0}});
    return absl::OkStatus();
  }

  absl::Status Place(const Relu&) { return absl::OkStatus(); }

  absl::Status Place(const MaxPool2d& layer) {
    FEDWATT_RETURN_IF_ERROR(NeedRank(3, "max pooling"));
    if (shape_[1] < layer.size || shape_[2] < layer.size) return TooSmall("max pooling");
    shape_ = {shape_[0], shape_[1] / layer.size, shape_[2] / layer.size};
    return absl::OkStatus();
  }

  absl::Status Place(const GlobalAveragePool&) {
    FEDWATT_RETURN_IF_ERROR(NeedRank(3, "average pooling"));
    shape_ = {shape_[0]};
    return absl::OkStatus();
  }

  absl::Status Place(const Dropout&) { return absl::OkStatus(); }

  absl::Status Place(const Rows&) {
    if (shape_.size() != 2) FEDWATT_RETURN_IF_ERROR(NeedRank(3, "rows"));
    if (shape_.size() == 3) shape_ = {shape_[1], shape_[0] * shape_[2]};
    open_.reset();
    return absl::OkStatus();
  }

  absl::Status Place(const SinusoidalPositions&) {
    open_.reset();
    return NeedRank(2, "positions");
  }

  absl::Status Place(const LayerNorm&) {
    open_.reset();
    return shape_.size() == 1 ? absl::OkStatus() : NeedRank(2, "layer normalisation");
  }

  absl::Status Place(const ResidualBegin&) {
    open_.reset();
    residuals_.push_back(shape_);
    return absl::OkStatus();
  }

  absl::Status Place(const ResidualEnd&) {
    open_.reset();
    const bool last = !residuals_.empty() && residuals_.back().size() == 2 && shape_ == std::vector<int64_t>{residuals_.back()[1]};
    if (residuals_.empty() || (residuals_.back() != shape_ && !last)) {
      return absl::InvalidArgumentError(absl::StrCat("architecture '", spec_.name, "': a residual ends in shape ", ShapeText(shape_), ", expected ",
                                                     residuals_.empty() ? "one that has begun" : ShapeText(residuals_.back())));
    }
    residuals_.pop_back();
    return absl::OkStatus();
  }

  absl::Status Place(const Embedding& layer) {
    FEDWATT_RETURN_IF_ERROR(NeedRank(1, layer.name));
    network_.takes_tokens = true;
    AddEntry(layer.name + ".weight", {spec_.output_count, layer.width}, 0, 0);
    Produce(layer.name, layer.width, {{layer.name + ".weight", 1}});
    shape_ = {shape_[0], layer.width};
    return absl::OkStatus();
  }

  absl::Status Place(const Lstm& layer) { return PlaceRecurrent(layer.name, layer.hidden, 4); }
  absl::Status Place(const Gru& layer) { return PlaceRecurrent(layer.name, layer.hidden, 3); }

  absl::Status PlaceRecurrent(const std::string& name, int64_t hidden, int64_t stacked) {
    FEDWATT_RETURN_IF_ERROR(NeedRank(2, name));
    const int64_t gates = stacked * hidden;
    const float bound = BiasBound(hidden);
    const std::string prefix = name + ".";
    const double positions = static_cast<double>(shape_[0]);
    Consume(prefix + "weight_ih_l0");
    AddEntry(prefix + "weight_ih_l0", {gates, shape_[1]}, bound, positions);
    AddEntry(prefix + "weight_hh_l0", {gates, hidden}, bound, positions);
    AddEntry(prefix + "bias_ih_l0", {gates}, bound, positions);
    AddEntry(prefix + "bias_hh_l0", {gates}, bound, positions);
    Produce(name, hidden,
            {{prefix + "weight_ih_l0", 0, 1, stacked}, {prefix + "weight_hh_l0", 0, 1, stacked}, {prefix + "weight_hh_l0", 1, 1, 1, 0, true},
             {prefix + "bias_ih_l0", 0, 1, stacked}, {prefix + "bias_hh_l0", 0, 1, stacked}});
    shape_ = {shape_[0], hidden};
    return absl::OkStatus();
  }

  absl::Status Place(const MinGru& layer) {
    FEDWATT_RETURN_IF_ERROR(NeedRank(2, layer.name));
    const std::string weight = layer.name + ".weight", bias = layer.name + ".bias";
    const double positions = static_cast<double>(shape_[0]);
    Consume(weight);
    AddEntry(weight, {2 * layer.hidden, shape_[1]}, WeightBound(shape_[1], layer.hidden), positions);
    AddEntry(bias, {2 * layer.hidden}, BiasBound(shape_[1]), positions);
    Produce(layer.name, layer.hidden, {{weight, 0, 1, 2}, {bias, 0, 1, 2}});
    shape_ = {shape_[0], layer.hidden};
    return absl::OkStatus();
  }

  absl::Status Place(const Attention& layer) {
    FEDWATT_RETURN_IF_ERROR(NeedRank(2, layer.name));
    const int64_t length = shape_[0], inputs = shape_[1], outputs = layer.heads * layer.head_size;
    const std::string weight = layer.name + ".weight", bias = layer.name + ".bias";
    // Products of two activations are booked on the weights that made them, so that they shrink with the heads.
    const double products = AttentionProducts(layer.kernel, length, layer.head_size) / static_cast<double>(3 * layer.head_size * inputs);
    Consume(weight);
    AddEntry(weight, {3 * outputs, inputs}, WeightBound(inputs, outputs), static_cast<double>(length) + products);
    AddEntry(bias, {3 * outputs}, BiasBound(inputs), static_cast<double>(length));
    Produce(layer.name, layer.heads, {{weight, 0, layer.head_size, 3}, {bias, 0, layer.head_size, 3}});
    repeat_ = layer.head_size;
    has_draws_ = has_draws_ || std::holds_alternative<RandomFeatureAttention>(layer.kernel);
    // Scores are what attention holds most of.
    const int64_t keys = std::visit(Overloaded{[&](const SoftmaxAttention&) { return length; },
                                               [&](const LocalAttention& k) { return std::min(length, 2 * k.window + k.global_tokens); },
                                               [&](const LinearAttention&) { return LinearChunk(length) + layer.head_size; },
                                               [&](const RandomFeatureAttention& k) { return LinearChunk(length) + 2 * k.features; }},
                                    layer.kernel);
    widest_ = layer.heads * length * keys;
    shape_ = {length, outputs};
    return absl::OkStatus();
  }

  // Of one head.
  static double AttentionProducts(const AttentionKernel& kernel, int64_t length, int64_t size) {
    const double l = static_cast<double>(length), s = static_cast<double>(size), chunk = static_cast<double>(LinearChunk(length));
    return std::visit(Overloaded{[&](const SoftmaxAttention&) {
                                   double scores = 0;
                                   for (int64_t begin = 0; begin < length; begin += kSoftmaxChunk) {
                                     const int64_t end = std::min(length, begin + kSoftmaxChunk);
                                     scores += static_cast<double>(end - begin) * static_cast<double>(end);
                                   }
                                   return 2 * s * scores;
                                 },
                                 [&](const LinearAttention&) { return 2 * l * s * s + 2 * l * s * chunk; },
                                 [&](const LocalAttention& k) { return 2 * l * s * static_cast<double>(std::min(length, 2 * k.window + k.global_tokens)); },
                                 [&](const RandomFeatureAttention& k) {
                                   const double f = static_cast<double>(k.features);
                                   return 2 * l * s * f + 2 * l * s * f + l * chunk * (s + f);
                                 }},
                      kernel);
  }

  absl::Status Place(const RepeatInTime& layer) {
    if (time_ != 1) return absl::InvalidArgumentError(absl::StrCat("architecture '", spec_.name, "': time within time"));
    time_ = layer.steps;
    return absl::OkStatus();
  }

  absl::Status Place(const LeakyIntegrateAndFire&) { return absl::OkStatus(); }

  absl::Status Place(const MeanOverTime&) {
    time_ = 1;
    return absl::OkStatus();
  }

  absl::Status Place(const LastPosition&) {
    FEDWATT_RETURN_IF_ERROR(NeedRank(2, "last position"));
    shape_ = {shape_[1]};
    return absl::OkStatus();
  }

  absl::Status NeedRank(size_t rank, std::string_view layer) const {
    if (shape_.size() == rank) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("architecture '", spec_.name, "': ", std::string(layer), " needs an input of ", rank,
                                                   " dimensions, got ", ShapeText(shape_), " from model.input_shape ",
                                                   ShapeText(spec_.input_shape)));
  }

  absl::Status TooSmall(std::string_view layer) const {
    return absl::InvalidArgumentError(absl::StrCat("architecture '", spec_.name, "': ", std::string(layer), " got ", ShapeText(shape_),
                                                   "; model.input_shape ", ShapeText(spec_.input_shape), " is too small"));
  }

  // Moves a kernel over an image; gives the number of places.
  absl::StatusOr<double> Slide(std::string_view layer, int64_t kernel, int64_t padding, int64_t stride) {
    for (size_t d : {1, 2}) {
      if (shape_[d] + 2 * padding < kernel) return TooSmall(layer);
    }
    for (size_t d : {1, 2}) shape_[d] = (shape_[d] + 2 * padding - kernel) / stride + 1;
    return static_cast<double>(shape_[1] * shape_[2]);
  }

  static float BiasBound(int64_t fan_in) { return 1 / std::sqrt(static_cast<float>(fan_in)); }
  float WeightBound(int64_t fan_in, int64_t fan_out) const {
    switch (initialisation_) {
      case Initialisation::kXavierUniformWeights: return std::sqrt(6.0f / static_cast<float>(fan_in + fan_out));
      case Initialisation::kHeUniformWeights: return std::sqrt(6.0f / static_cast<float>(fan_in));
      case Initialisation::kPytorchDefault: break;
    }
    return BiasBound(fan_in);
  }

  // `uses`: multiply-adds of one example, at one instant of time, in which each value takes part.
  void AddEntry(std::string name, std::vector<int64_t> shape, float bound, double uses) {
    entries_.push_back({std::move(name), std::move(shape)});
    network_.initial_bounds.push_back(bound);
    network_.uses.push_back(uses * static_cast<double>(time_));
  }

  void AddRange(const std::string& name) {
    AddEntry(name + ".range", {2}, 0, 0);
    entries_.back().kind = EntryKind::kAveragedBuffer;
  }

  // The group that the last producing layer opened ends at axis 1 of the next weight; the network's own output never gets there.
  void Consume(const std::string& weight) {
    if (!open_) return;
    open_->axes.push_back({weight, 1, repeat_, 1, 0, true});
    network_.groups.push_back(*std::move(open_));
    open_.reset();
  }

  void Produce(const std::string& name, int64_t size, std::vector<ChannelAxis> axes) {
    open_ = ChannelGroup{name, size, std::move(axes)};
    repeat_ = 1;
  }

  const ArchitectureSpec& spec_;
  const Initialisation initialisation_;
  std::vector<int64_t> shape_;
  std::vector<std::vector<int64_t>> residuals_;  // shapes of those that have begun
  int64_t time_ = 1;                             // instants
  int64_t widest_ = 0;                           // values of what the layer being placed holds in between
  bool has_draws_ = false;
  std::vector<LayoutEntry> entries_;
  std::optional<ChannelGroup> open_;
  int64_t repeat_ = 1;
  PlacedNetwork network_;
};

absl::StatusOr<PlacedNetwork> PlaceLayers(const ArchitectureSpec& spec, const Network& network) {
  Placer placer(spec, network);
  for (const Layer& layer : network.layers) FEDWATT_RETURN_IF_ERROR(placer.Add(layer));
  return std::move(placer).Finish();
}

// The width of a layer that opens a channel group; null for the others.
int64_t* WidthOf(Layer& layer, std::string_view name) {
  return std::visit(Overloaded{[&](Linear& l) { return l.name == name ? &l.outputs : nullptr; }, [&](Conv2d& l) { return l.name == name ? &l.channels : nullptr; },
                               [&](Embedding& l) { return l.name == name ? &l.width : nullptr; }, [&](Lstm& l) { return l.name == name ? &l.hidden : nullptr; },
                               [&](Gru& l) { return l.name == name ? &l.hidden : nullptr; }, [&](MinGru& l) { return l.name == name ? &l.hidden : nullptr; },
                               [&](Attention& l) { return l.name == name ? &l.heads : nullptr; },
                               [](auto&) -> int64_t* { return nullptr; }},
                    layer);
}

}  // namespace

absl::StatusOr<PlacedNetwork> PlaceNetwork(const ArchitectureSpec& spec) {
  FEDWATT_ASSIGN_OR_RETURN(Architecture describe, Architectures().Find(spec.name));
  FEDWATT_RETURN_IF_ERROR(ValidateSpec(spec));
  OptionReader options(spec.options);
  FEDWATT_ASSIGN_OR_RETURN(Network network, describe(spec, options));
  if (absl::Status status = options.Finish(); !status.ok()) {
    return Annotate(status, absl::StrCat("architecture '", spec.name, "'"));
  }
  FEDWATT_ASSIGN_OR_RETURN(PlacedNetwork whole, PlaceLayers(spec, network));
  if (spec.kept.empty()) return whole;
  const bool weights = KeepsWeights(spec.kept);
  absl::StatusOr<Submodel> submodel = Submodel::Create(whole.layout, weights ? WeightGroups(whole.layout) : whole.groups, spec.kept);
  if (!submodel.ok()) return Annotate(submodel.status(), absl::StrCat("architecture '", spec.name, "'"));
  if (weights) {
    whole.mask = *std::move(submodel);
    return whole;
  }
  for (const auto& [group, ranges] : spec.kept) {
    for (Layer& layer : network.layers) {
      int64_t* width = WidthOf(layer, group);
      if (width == nullptr) continue;
      *width = 0;
      for (const ChannelRange& range : ranges) *width += range.end - range.begin;
    }
  }
  FEDWATT_ASSIGN_OR_RETURN(PlacedNetwork narrow, PlaceLayers(spec, network));
  FEDWATT_CHECK(narrow.layout == submodel->layout());
  narrow.submodel = *std::move(submodel);
  narrow.initial_bounds = std::move(whole.initial_bounds);
  return narrow;
}

absl::StatusOr<std::vector<float>> WholeValues(const PlacedNetwork& network, absl::Span<const float> model) {
  const ParameterLayout& layout = network.mask.has_value() ? network.mask->layout() : network.layout;
  FEDWATT_RETURN_IF_ERROR(layout.CheckLength(model.size()));
  return network.mask.has_value() ? network.mask->Scatter(model) : std::vector<float>(model.begin(), model.end());
}

int64_t LinearChunk(int64_t length) {
  constexpr int64_t kMost = 64;
  const int64_t chunks = (length + kMost - 1) / kMost;
  return (length + chunks - 1) / chunks;
}

// Rows of blocks of `head_size` are orthogonal (Gram-Schmidt of normal vectors); each has the length of a normal vector of its own.
std::vector<float> DrawFeatures(const RandomFeatureAttention& kernel, int64_t head_size, size_t layer, float rounds) {
  const uint64_t draw = kernel.redraw_rounds == 0 || !(rounds > 0) ? 0 : static_cast<uint64_t>((static_cast<double>(rounds) + 0.5) / static_cast<double>(kernel.redraw_rounds));
  Random random(DeriveSeed("random features", {static_cast<uint64_t>(kernel.seed), layer, draw}));
  std::vector<float> features;
  std::vector<std::vector<double>> block;
  const auto normal = [&] {
    std::vector<double> vector(static_cast<size_t>(head_size));
    for (double& value : vector) value = random.Normal();
    return vector;
  };
  const auto dot = [](const std::vector<double>& a, const std::vector<double>& b) { return std::inner_product(a.begin(), a.end(), b.begin(), 0.0); };
  for (int64_t row = 0; row < kernel.features; ++row) {
    if (row % head_size == 0) block.clear();
    std::vector<double> direction = normal();
    for (const std::vector<double>& other : block) {
      const double along = dot(direction, other);
      for (size_t i = 0; i < direction.size(); ++i) direction[i] -= along * other[i];
    }
    const double length = std::sqrt(dot(direction, direction));
    for (double& value : direction) value /= length;
    const std::vector<double> own = normal();
    const double scale = std::sqrt(dot(own, own));
    for (double value : direction) features.push_back(static_cast<float>(scale * value));
    block.push_back(std::move(direction));
  }
  return features;
}

std::vector<float> InitialValues(const PlacedNetwork& network, uint64_t seed) {
  const ParameterLayout& layout = network.submodel.has_value() ? network.submodel->whole() : network.layout;
  std::vector<float> values;
  values.reserve(layout.value_count());
  Random random(DeriveSeed("initial values", {seed}));
  for (size_t i = 0; i < layout.entries().size(); ++i) {
    if (layout.entries()[i].kind != EntryKind::kParameter) {
      values.insert(values.end(), static_cast<size_t>(layout.entries()[i].element_count()), 0.0f);
      continue;
    }
    const float bound = network.initial_bounds[i];
    for (int64_t n = layout.entries()[i].element_count(); n > 0; --n) {
      values.push_back(bound == 0 ? static_cast<float>(random.Normal()) : static_cast<float>((2 * random.Uniform() - 1) * bound));
    }
  }
  return network.submodel.has_value() ? network.submodel->Gather(values) : values;
}

}  // namespace internal

ArchitectureRegistry& Architectures() {
  static auto* registry = [] {
    auto* r = new ArchitectureRegistry("architecture");
    internal::InstallArchitectures(*r);
    return r;
  }();
  return *registry;
}

std::vector<std::string> ArchitectureNames() { return Architectures().Names(); }

absl::StatusOr<std::vector<ChannelGroup>> ChannelGroups(const ArchitectureSpec& spec) {
  FEDWATT_ASSIGN_OR_RETURN(internal::PlacedNetwork network, internal::PlaceNetwork(spec));
  return std::move(network.groups);
}

absl::StatusOr<ParameterLayout> ArchitectureLayout(const ArchitectureSpec& spec) {
  FEDWATT_ASSIGN_OR_RETURN(internal::PlacedNetwork network, internal::PlaceNetwork(spec));
  return network.mask.has_value() ? network.mask->layout() : std::move(network.layout);
}

int64_t OptionReader::Integer(const std::string& name, int64_t otherwise, int64_t low, int64_t high) {
  asked_.push_back(name);
  auto it = options_.find(name);
  if (it == options_.end()) return otherwise;
  int64_t value = 0;
  if (absl::SimpleAtoi(it->second, &value) && value >= low && value <= high) return value;
  status_.Update(absl::InvalidArgumentError(
      absl::StrCat("option ", name, ": expected a whole number in [", low, ", ", high, "], got '", it->second, "'")));
  return otherwise;
}

double OptionReader::Fraction(const std::string& name, double otherwise, double low, double high) {
  asked_.push_back(name);
  auto it = options_.find(name);
  if (it == options_.end()) return otherwise;
  double value = 0;
  if (absl::SimpleAtod(it->second, &value) && value >= low && value < high) return value;
  status_.Update(absl::InvalidArgumentError(
      absl::StrCat("option ", name, ": expected a number in [", low, ", ", high, "), got '", it->second, "'")));
  return otherwise;
}

size_t OptionReader::Choice(const std::string& name, const std::vector<std::string>& names) {
  asked_.push_back(name);
  auto it = options_.find(name);
  if (it == options_.end()) return 0;
  const auto found = std::find(names.begin(), names.end(), it->second);
  if (found != names.end()) return static_cast<size_t>(found - names.begin());
  status_.Update(absl::InvalidArgumentError(absl::StrCat("option ", name, ": expected one of ", absl::StrJoin(names, ", "), ", got '", it->second, "'")));
  return 0;
}

absl::Status OptionReader::Finish() const {
  FEDWATT_RETURN_IF_ERROR(status_);
  for (const auto& [name, value] : options_) {
    if (std::find(asked_.begin(), asked_.end(), name) != asked_.end()) continue;
    const std::string nearest = NearestName(name, asked_);
    return absl::InvalidArgumentError(absl::StrCat("unknown option '", name, "'",
                                                   nearest.empty() ? "" : absl::StrCat("; did you mean '", nearest, "'?"),
                                                   asked_.empty() ? "; it has none" : absl::StrCat("; known: ", absl::StrJoin(asked_, ", "))));
  }
  return absl::OkStatus();
}

}  // namespace fedwatt

#include "network.h"

#include <algorithm>
#include <cmath>
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
  Placer(const ArchitectureSpec& spec, const Network& network)
      : spec_(spec), xavier_(network.initialisation == Initialisation::kXavierUniformWeights), shape_(spec.input_shape) {}

  absl::Status Add(const Layer& layer) {
    PlacedLayer placed{layer, shape_, {}, entries_.size()};
    FEDWATT_RETURN_IF_ERROR(std::visit([this](const auto& l) { return Place(l); }, layer));
    placed.output_shape = shape_;
    network_.peak_values = std::max(network_.peak_values, Product(shape_));
    network_.layers.push_back(std::move(placed));
    return absl::OkStatus();
  }

  absl::StatusOr<PlacedNetwork> Finish() && {
    if (shape_ != std::vector<int64_t>{spec_.output_count}) {
      return absl::InvalidArgumentError(absl::StrCat("architecture '", spec_.name, "' ends in shape ", ShapeText(shape_),
                                                     ", expected {", spec_.output_count, "}"));
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
    FEDWATT_RETURN_IF_ERROR(NeedRank(1, layer.name));
    const int64_t inputs = shape_[0];
    const float bound = 1 / std::sqrt(static_cast<float>(inputs));
    Consume(layer.name + ".weight");
    AddEntry(layer.name + ".weight", {layer.outputs, inputs}, xavier_ ? Xavier(inputs, layer.outputs) : bound, 1);
    AddEntry(layer.name + ".bias", {layer.outputs}, bound, 1);
    Produce(layer.name, layer.outputs, {{layer.name + ".weight", 0}, {layer.name + ".bias", 0}});
    shape_ = {layer.outputs};
    return absl::OkStatus();
  }

  absl::Status Place(const Conv2d& layer) {
    FEDWATT_RETURN_IF_ERROR(NeedRank(3, layer.name));
    const int64_t grow = 2 * layer.padding - layer.kernel + 1;
    if (shape_[1] + grow < 1 || shape_[2] + grow < 1) return TooSmall(layer.name);
    const int64_t area = layer.kernel * layer.kernel;
    const int64_t fan_in = shape_[0] * area;
    const float bound = 1 / std::sqrt(static_cast<float>(fan_in));
    const double positions = static_cast<double>((shape_[1] + grow) * (shape_[2] + grow));
    Consume(layer.name + ".weight");
    AddEntry(layer.name + ".weight", {layer.channels, shape_[0], layer.kernel, layer.kernel},
             xavier_ ? Xavier(fan_in, layer.channels * area) : bound, positions);
    AddEntry(layer.name + ".bias", {layer.channels}, bound, positions);
    Produce(layer.name, layer.channels, {{layer.name + ".weight", 0}, {layer.name + ".bias", 0}});
    shape_ = {layer.channels, shape_[1] + grow, shape_[2] + grow};
    return absl::OkStatus();
  }

  absl::Status Place(const Relu&) { return absl::OkStatus(); }

  absl::Status Place(const MaxPool2d& layer) {
    FEDWATT_RETURN_IF_ERROR(NeedRank(3, "max pooling"));
    if (shape_[1] < layer.size || shape_[2] < layer.size) return TooSmall("max pooling");
    shape_ = {shape_[0], shape_[1] / layer.size, shape_[2] / layer.size};
    return absl::OkStatus();
  }

  absl::Status Place(const Dropout&) { return absl::OkStatus(); }

  absl::Status Place(const Embedding& layer) {
    FEDWATT_RETURN_IF_ERROR(NeedRank(1, layer.name));
    network_.takes_tokens = true;
    AddEntry(layer.name + ".weight", {spec_.output_count, layer.width}, 0, 0);
    Produce(layer.name, layer.width, {{layer.name + ".weight", 1}});
    shape_ = {shape_[0], layer.width};
    return absl::OkStatus();
  }

  absl::Status Place(const Lstm& layer) {
    FEDWATT_RETURN_IF_ERROR(NeedRank(2, layer.name));
    const int64_t gates = 4 * layer.hidden;
    const float bound = 1 / std::sqrt(static_cast<float>(layer.hidden));
    const std::string prefix = layer.name + ".";
    const double positions = static_cast<double>(shape_[0]);
    Consume(prefix + "weight_ih_l0");
    AddEntry(prefix + "weight_ih_l0", {gates, shape_[1]}, bound, positions);
    AddEntry(prefix + "weight_hh_l0", {gates, layer.hidden}, bound, positions);
    AddEntry(prefix + "bias_ih_l0", {gates}, bound, positions);
    AddEntry(prefix + "bias_hh_l0", {gates}, bound, positions);
    Produce(layer.name, layer.hidden,
            {{prefix + "weight_ih_l0", 0, 1, 4}, {prefix + "weight_hh_l0", 0, 1, 4}, {prefix + "weight_hh_l0", 1, 1, 1, 0, true},
             {prefix + "bias_ih_l0", 0, 1, 4}, {prefix + "bias_hh_l0", 0, 1, 4}});
    shape_ = {shape_[0], layer.hidden};
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

  static float Xavier(int64_t fan_in, int64_t fan_out) { return std::sqrt(6.0f / static_cast<float>(fan_in + fan_out)); }

  // `uses`: multiply-adds of one example in which each value takes part.
  void AddEntry(std::string name, std::vector<int64_t> shape, float bound, double uses) {
    entries_.push_back({std::move(name), std::move(shape)});
    network_.initial_bounds.push_back(bound);
    network_.uses.push_back(uses);
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
  const bool xavier_;
  std::vector<int64_t> shape_;
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

std::string ForwardSource(const PlacedNetwork& network) {
  std::string source = "def forward(self, x):\n";
  for (const PlacedLayer& placed : network.layers) {
    const std::string line = std::visit(
        Overloaded{
            [](const Flatten&) -> std::string { return "torch.flatten(x, 1)"; },
            [](const Linear& l) { return absl::StrCat("torch.linear(x, self.", l.name, ".weight, self.", l.name, ".bias)"); },
            [](const Conv2d& l) {
              return absl::StrCat("torch.conv2d(x, self.", l.name, ".weight, self.", l.name, ".bias, [1, 1], [", l.padding, ", ",
                                  l.padding, "], [1, 1], 1)");
            },
            [](const Relu&) -> std::string { return "torch.relu(x)"; },
            [](const MaxPool2d& l) {
              const std::string size = absl::StrCat("[", l.size, ", ", l.size, "]");
              return absl::StrCat("torch.max_pool2d(x, ", size, ", ", size, ", [0, 0], [1, 1], False)");
            },
            [](const Dropout&) -> std::string { return ""; },
            [](const Embedding& l) { return absl::StrCat("torch.embedding(self.", l.name, ".weight, x)"); },
            [](const Lstm& l) {
              const std::string state = absl::StrCat("torch.zeros([1, x.size(0), ", l.hidden, "])");
              const std::string self = absl::StrCat("self.", l.name, ".");
              return absl::StrCat("torch.lstm(x, [", state, ", ", state, "], [", self, "weight_ih_l0, ", self, "weight_hh_l0, ", self,
                                  "bias_ih_l0, ", self, "bias_hh_l0], True, 1, 0.0, False, False, True)[0]");
            },
            [](const LastPosition&) -> std::string { return "x[:, -1]"; },
        },
        placed.layer);
    if (!line.empty()) absl::StrAppend(&source, "    x = ", line, "\n");
  }
  return source + "    return x\n";
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

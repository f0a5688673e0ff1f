#include "fedwatt/model/torch/quantization.h"

#include <algorithm>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

#include <torch/csrc/jit/frontend/resolver.h>
#include <torch/csrc/jit/frontend/sugared_value.h>
#include <torch/csrc/jit/runtime/operator.h>

#include "absl/strings/str_cat.h"
#include "dataset_cache.h"
#include "fedwatt/base/file.h"
#include "fedwatt/base/status_macros.h"
#include "layer_ops.h"
#include "quantized_network.h"
#include "trainable_model.h"

namespace fedwatt {
namespace internal {
namespace {

constexpr int64_t kCalibrationExamples = 512;
constexpr int64_t kCalibrationBatch = 64;
constexpr int64_t kEvaluationBatch = 250;

absl::Status UseQuantizedEngine() {
  const std::vector<at::QEngine>& engines = at::globalContext().supportedQEngines();
  if (std::find(engines.begin(), engines.end(), at::QEngine::ONEDNN) == engines.end()) {
    return absl::UnimplementedError("no int8 form: this LibTorch was built without the oneDNN engine");
  }
  at::globalContext().setQEngine(at::QEngine::ONEDNN);
  return absl::OkStatus();
}

c10::IValue CallOperator(const char* name, std::vector<c10::IValue> arguments) {
  torch::jit::Stack stack(std::make_move_iterator(arguments.begin()), std::make_move_iterator(arguments.end()));
  const std::shared_ptr<torch::jit::Operator> found = torch::jit::findOperatorFor(c10::OperatorName(name, ""));
  TORCH_CHECK(found != nullptr, "this LibTorch has no operator ", name);
  found->getOperation()(stack);
  return stack.at(0);
}

// TorchScript's own resolver does not know the namespace of quantized operators.
struct QuantizedResolver : torch::jit::NativeResolver {
  std::shared_ptr<torch::jit::SugaredValue> resolveValue(const std::string& name, torch::jit::GraphFunction& function, const torch::jit::SourceRange& range) override {
    if (name == "quantized") return std::make_shared<torch::jit::BuiltinModule>("quantized");
    return NativeResolver::resolveValue(name, function, range);
  }
};

std::vector<at::Tensor> Tensors(const ParameterLayout& layout, absl::Span<const float> model) {
  std::vector<at::Tensor> tensors;
  for (size_t i = 0; i < layout.entries().size(); ++i) {
    tensors.push_back(at::from_blob(const_cast<float*>(model.data()) + layout.offset(i), layout.entries()[i].shape, at::kFloat).clone());
  }
  return tensors;
}

// Least and greatest values at each rounding site.
std::vector<ActivationRange> Calibrate(const PlacedNetwork& network, const std::vector<at::Tensor>& tensors, const at::Tensor& examples) {
  const std::vector<size_t> sites = RoundingSites(network);
  std::vector<ActivationRange> ranges(SiteCount(network));
  const auto see = [&ranges](size_t site, const at::Tensor& x) {
    ranges[site].low = std::min(ranges[site].low, x.min().item<float>());
    ranges[site].high = std::max(ranges[site].high, x.max().item<float>());
  };
  for (int64_t begin = 0; begin < examples.size(0); begin += kCalibrationBatch) {
    at::Tensor x = examples.narrow(0, begin, std::min(kCalibrationBatch, examples.size(0) - begin));
    see(0, x);
    RunLayers(network, std::move(x), tensors.data(), {}, [&](size_t layer, at::Tensor&& out) {
      if (sites[layer] > 0) see(sites[layer], out);
      return std::move(out);
    });
  }
  return ranges;
}

// What clients found in training; nothing where they did not look, or a range is still empty.
std::optional<std::vector<ActivationRange>> TrainedRanges(const PlacedNetwork& network, absl::Span<const float> model) {
  if (!network.first_range.has_value()) return std::nullopt;
  std::vector<ActivationRange> ranges;
  for (size_t i = *network.first_range; i < network.layout.entries().size(); ++i) {
    const float* range = model.data() + network.layout.offset(i);
    if (!(range[0] < range[1])) return std::nullopt;
    ranges.push_back({range[0], range[1]});
  }
  return ranges;
}

// Rows of `weight` (axis 0) in symmetric 8-bit codes.
at::Tensor QuantizeRows(const at::Tensor& weight) {
  at::Tensor scales = weight.flatten(1).abs().amax({1}).to(at::kDouble) / 127;
  scales.masked_fill_(scales.eq(0), 1);
  return at::quantize_per_channel(weight, scales, at::zeros_like(scales, at::kLong), 0, at::kQInt8);
}

c10::IValue Pack(const PlacedLayer& placed, const std::vector<at::Tensor>& tensors) {
  const at::Tensor weight = QuantizeRows(tensors[placed.first_entry]);
  const at::Tensor& bias = tensors[placed.first_entry + 1];
  if (const auto* conv = std::get_if<Conv2d>(&placed.layer)) {
    const c10::List<int64_t> one({1, 1}), padding({conv->padding, conv->padding});
    return CallOperator("quantized::conv2d_prepack", {weight, bias, one, padding, one, int64_t{1}});
  }
  return CallOperator("quantized::linear_prepack", {weight, bias});
}

std::string Archive(const PlacedNetwork& network, const std::string& name, const std::vector<at::Tensor>& tensors, const std::vector<ActivationRange>& ranges) {
  torch::jit::Module root(name);
  for (const PlacedLayer* placed : WeightedLayers(network)) {
    const c10::IValue packed = Pack(*placed, tensors);
    root.register_attribute(PackedName(*placed), packed.type(), packed);
  }
  root.register_attribute("training", c10::BoolType::get(), false);  // Python's Module.eval() and .training want it
  root.define(QuantizedForwardSource(network, ranges), std::make_shared<QuantizedResolver>());
  std::ostringstream out;
  root.save(out);
  return std::move(out).str();
}

// At most kCalibrationExamples, evenly spaced.
absl::StatusOr<Dataset> Sample(const Dataset& data) {
  const int64_t count = std::min(data.size(), kCalibrationExamples);
  std::vector<int32_t> indices;
  for (int64_t i = 0; i < count; ++i) indices.push_back(static_cast<int32_t>(i * data.size() / count));
  return data.Subset(std::move(indices));
}

}  // namespace
}  // namespace internal

absl::StatusOr<Int8Delivery> WriteQuantizedTorchScript(const ArchitectureSpec& spec, absl::Span<const float> model, const Dataset& calibration,
                                                       const std::string& path) {
  FEDWATT_ASSIGN_OR_RETURN(internal::PlacedNetwork network, internal::PlaceNetwork(spec));
  FEDWATT_RETURN_IF_ERROR(internal::CheckQuantizable(network));
  FEDWATT_ASSIGN_OR_RETURN(const std::vector<float> values, internal::WholeValues(network, model));
  const std::optional<std::vector<internal::ActivationRange>> trained = internal::TrainedRanges(network, values);
  Dataset sample;
  if (!trained.has_value()) {
    if (calibration.size() == 0) return absl::InvalidArgumentError("int8 calibration: the dataset has no examples");
    FEDWATT_RETURN_IF_ERROR(internal::CheckDataFits(spec, network.takes_tokens, calibration));
    FEDWATT_ASSIGN_OR_RETURN(sample, internal::Sample(calibration));
  }
  FEDWATT_ASSIGN_OR_RETURN(std::string bytes, internal::CatchTorch([&]() -> absl::StatusOr<std::string> {
    FEDWATT_RETURN_IF_ERROR(internal::UseQuantizedEngine());
    at::NoGradGuard no_grad;
    const std::vector<at::Tensor> tensors = internal::Tensors(network.layout, values);
    if (trained.has_value()) return internal::Archive(network, spec.name, tensors, *trained);
    const at::Tensor examples = internal::DatasetCache::Shared().Get(sample)->inputs;
    return internal::Archive(network, spec.name, tensors, internal::Calibrate(network, tensors, examples));
  }));
  FEDWATT_RETURN_IF_ERROR(WriteFileAtomically(path, bytes));
  Int8Delivery delivery{.path = path, .bytes = static_cast<int64_t>(bytes.size())};
  if (!trained.has_value()) delivery.calibration_examples = sample.size();
  return delivery;
}

absl::StatusOr<ArchiveScorer> LoadArchive(const ArchitectureSpec& spec, const std::string& path) {
  FEDWATT_ASSIGN_OR_RETURN(internal::PlacedNetwork network, internal::PlaceNetwork(spec));
  FEDWATT_ASSIGN_OR_RETURN(std::string bytes, ReadFile(path));
  auto archive = std::make_shared<torch::jit::Module>();
  FEDWATT_RETURN_IF_ERROR(internal::CatchTorch([&]() -> absl::Status {
    FEDWATT_RETURN_IF_ERROR(internal::UseQuantizedEngine());
    try {
      std::istringstream in(std::move(bytes));
      *archive = torch::jit::load(in, at::kCPU);
    } catch (const std::exception& error) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": not a loadable TorchScript archive: ", error.what()));
    }
    return absl::OkStatus();
  }));
  return [archive, spec, takes_tokens = network.takes_tokens](const Dataset& data, const std::string& loss) -> absl::StatusOr<EvaluationResult> {
    if (data.size() == 0) return absl::InvalidArgumentError("the dataset has no examples");
    FEDWATT_RETURN_IF_ERROR(internal::CheckDataFits(spec, takes_tokens, data));
    return internal::CatchTorch([&] {
      return internal::ScoreForward([&archive](const at::Tensor& x) { return archive->forward({x}).toTensor(); }, internal::kEvaluationBatch, data, loss);
    });
  };
}

absl::StatusOr<EvaluationResult> EvaluateArchive(const ArchitectureSpec& spec, const std::string& path, const Dataset& data, const std::string& loss) {
  FEDWATT_ASSIGN_OR_RETURN(const ArchiveScorer score, LoadArchive(spec, path));
  return score(data, loss);
}

absl::StatusOr<Int8Delivery> DeliverInt8(const ArchitectureSpec& spec, absl::Span<const float> model, const Dataset& test, bool score, const std::string& loss,
                                         const std::string& path) {
  if (!Architectures().Find(spec.name).ok()) return Int8Delivery{.missing_reason = absl::StrCat("no int8 form: architecture '", spec.name, "' is not a list of layers")};
  absl::StatusOr<Int8Delivery> written = WriteQuantizedTorchScript(spec, model, test, path);
  if (absl::IsUnimplemented(written.status())) return Int8Delivery{.missing_reason = std::string(written.status().message())};
  if (!written.ok() || !score) return written;
  FEDWATT_ASSIGN_OR_RETURN(const EvaluationResult result, EvaluateArchive(spec, path, test, loss));
  if (result.has_accuracy) written->accuracy = result.accuracy;
  return written;
}

}  // namespace fedwatt

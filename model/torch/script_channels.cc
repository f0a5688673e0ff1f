#include "script_channels.h"

#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/runtime/graph_executor.h>

#include <algorithm>
#include <map>
#include <sstream>
#include <stdexcept>
#include <tuple>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "channel_rules.h"
#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/submodel.h"
#include "script_tensors.h"
#include "script_walk.h"

namespace fedwatt::internal {
namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Value;

constexpr double kTolerance = 1e-5;  // of the largest value compared, or of 1
constexpr int kMostCallLevels = 64;
// Batch norm wants several examples; no shape should meet the batch size by chance.
constexpr int64_t kWalkBatch = 3;
constexpr int64_t kProofBatches[] = {5, 8};

at::Tensor RandomInput(const std::vector<int64_t>& shape, int64_t batch, bool tokens, at::Generator& generator) {
  std::vector<int64_t> sizes = {batch};
  sizes.insert(sizes.end(), shape.begin(), shape.end());
  // Every vocabulary has two words.
  if (tokens) return at::randint(2, sizes, generator, at::TensorOptions(at::kLong));
  return at::randn(sizes, generator);
}

int64_t KeptCount(const std::vector<ChannelRange>& ranges, int64_t channel) {
  return std::any_of(ranges.begin(), ranges.end(), [&](const ChannelRange& range) { return channel >= range.begin && channel < range.end; });
}

// Every value another, none zero by chance; what looks like a variance stays positive.
std::vector<float> RandomValues(const torch::jit::Module& module, const ParameterLayout& layout, uint64_t seed) {
  std::vector<float> values(static_cast<size_t>(layout.value_count()));
  ReadValues(module, layout, absl::MakeSpan(values));
  Random random(seed);
  for (size_t i = 0; i < layout.entries().size(); ++i) {
    const LayoutEntry& entry = layout.entries()[i];
    if (entry.kind == EntryKind::kLocal) continue;
    float* begin = values.data() + layout.offset(i);
    float* end = begin + entry.element_count();
    const bool constant = std::adjacent_find(begin, end, std::not_equal_to<float>()) == end;
    for (float* value = begin; value != end; ++value) {
      *value *= static_cast<float>(0.75 + 0.5 * random.Uniform());
      if (constant) *value += static_cast<float>(0.2 * random.Uniform());
    }
  }
  return values;
}

bool HasCalls(torch::jit::Block& block) {
  for (Node* node : block.nodes()) {
    if (node->kind() == c10::prim::CallMethod || node->kind() == c10::prim::CallFunction) return true;
    for (torch::jit::Block* inner : node->blocks()) {
      if (HasCalls(*inner)) return true;
    }
  }
  return false;
}

std::shared_ptr<Graph> InlinedForward(const torch::jit::Module& module) {
  std::shared_ptr<Graph> graph = torch::jit::toGraphFunction(module.get_method("forward").function()).graph()->copy();
  // One level a time: what it puts in place of a call is not inlined itself unless the executor optimises.
  for (int level = 0; level < kMostCallLevels && HasCalls(*graph->block()); ++level) torch::jit::Inline(*graph);
  return graph;
}

// The fault itself: LibTorch puts it after a trace of the code that met it.
std::string MessageOf(const std::exception& error) {
  constexpr size_t kMostBytes = 300;  // the archive may have put anything into it
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  std::string text = torch_error != nullptr ? torch_error->what_without_backtrace() : error.what();
  if (const size_t fault = text.rfind("Error: "); fault != std::string::npos) text.erase(0, fault + 7);
  while (text.ends_with('\n')) text.pop_back();
  return text.substr(0, kMostBytes);
}

// Dropout draws for each value that is there: a narrower copy would draw others.
void RemoveDropout(torch::jit::Block& block) {
  for (auto it = block.nodes().begin(); it != block.nodes().end();) {
    Node* node = *it++;
    for (torch::jit::Block* inner : node->blocks()) RemoveDropout(*inner);
    if (!IsDropout(*node)) continue;
    node->output()->replaceAllUsesWith(node->inputs()[0]);
    node->destroy();
  }
}

std::string Differ(const char* what, const at::Tensor& whole, const at::Tensor& narrow) {
  if (whole.sizes() != narrow.sizes()) {
    std::ostringstream text;
    text << what << " of shape " << narrow.sizes() << ", expected " << whole.sizes();
    return text.str();
  }
  if (whole.numel() == 0) return "";
  const double scale = std::max(1.0, whole.abs().max().item<double>());
  const double error = (whole - narrow).abs().max().item<double>();
  if (error <= kTolerance * scale) return "";  // NaN fails
  return absl::StrCat(what, " differ by ", error / scale);
}

}  // namespace

std::vector<c10::IValue> ScriptChannels::Inputs(const torch::jit::Module& module, const at::Tensor& input) {
  std::vector<c10::IValue> inputs = {module._ivalue(), input};
  module.get_method("forward").function().getSchema().checkAndNormalizeInputs(inputs);
  return inputs;
}

ScriptChannels ScriptChannels::Find(const torch::jit::Module& module, const ParameterLayout& layout, const std::vector<int64_t>& input_shape) {
  ScriptChannels made(module, layout);
  made.input_shape_ = input_shape;
  made.uses_.assign(layout.entries().size(), 1);
  for (size_t i = 0; i < layout.entries().size(); ++i) {
    if (layout.entries()[i].kind == EntryKind::kLocal) made.uses_[i] = 0;
  }
  at::NoGradGuard no_grad;
  std::string fault;
  for (const bool tokens : {false, true}) {
    try {
      made.graph_ = InlinedForward(module);
      ScriptWalk walk(layout);
      at::Generator generator = at::detail::createCPUGenerator(1);
      for (const bool training : {true, false}) {
        torch::jit::Module copy = module.deepcopy();
        copy.train(training);
        if (!walk.Run(*made.graph_, Inputs(copy, RandomInput(input_shape, kWalkBatch, tokens, generator))).isTensor()) {
          throw std::invalid_argument("it gives something else than one tensor");
        }
      }
      made.tokens_ = tokens;
      made.found_ = walk.channels().Groups(layout);
      made.followed_ = made.found_.groups;
      for (size_t i = 0; i < layout.entries().size(); ++i) {
        // Both walks counted.
        if (auto uses = walk.uses().find(layout.entries()[i].name); uses != walk.uses().end()) made.uses_[i] = uses->second / 2;
      }
      made.AddSites(walk.sizes(), walk.channels());
      return made;
    } catch (const std::exception& error) {
      // Tokens are the second guess: what numbers met tells more.
      if (fault.empty()) fault = MessageOf(error);
    }
  }
  made.found_ = {};
  made.sites_.clear();
  made.found_.whole.push_back({"the network", 0, absl::StrCat("its forward can't be followed: ", fault)});
  return made;
}

ModelProfile ScriptChannels::Profile(const torch::jit::Module& module, const ParameterLayout& layout, const std::vector<int64_t>& input_shape) {
  at::NoGradGuard no_grad;
  std::string fault;
  for (const bool tokens : {false, true}) {
    try {
      ModelProfile profile;
      ScriptWalk walk(layout, &profile);
      torch::jit::Module copy = module.deepcopy();
      copy.eval();
      at::Generator generator = at::detail::createCPUGenerator(1);
      const c10::IValue output = walk.Run(*InlinedForward(module), Inputs(copy, RandomInput(input_shape, kWalkBatch, tokens, generator)));
      if (!output.isTensor() || output.toTensor().dim() != 2 || output.toTensor().size(0) != kWalkBatch || output.toTensor().scalar_type() != at::kFloat) {
        throw std::invalid_argument("it gives something else than one row of float32 an example");
      }
      profile.output_count = output.toTensor().size(1);
      return profile;
    } catch (const std::exception& error) {
      if (fault.empty()) fault = MessageOf(error);
    }
  }
  throw std::invalid_argument(absl::StrCat("its forward can't be followed: ", fault));
}

void ScriptChannels::AddSites(const std::vector<SizeInGraph>& sizes, const ChannelUnion& channels) {
  std::map<std::tuple<Node*, size_t, int64_t>, size_t> known;
  std::map<std::pair<Node*, size_t>, Node*> lists;  // copies, since a list may serve several operators
  for (const SizeInGraph& size : sizes) {
    Site::Count count{{}, size.unit};
    bool shrinks = false;
    for (const Channel channel : size.axis) {
      const Channel found = channels.Find(channel);
      count.axis.push_back(found == kInert ? ChannelUnion::Found::Place() : found_.places[static_cast<size_t>(found)]);
      shrinks = shrinks || count.axis.back().group >= 0;
    }
    if (!shrinks) continue;
    auto [it, added] = known.emplace(std::tuple(size.node, size.input, size.element), sites_.size());
    if (!added) {
      sites_[it->second].counts.push_back(std::move(count));
      continue;
    }
    Node* user = size.node;
    size_t input = size.input;
    torch::jit::WithInsertPoint at_user(user);
    if (size.element >= 0) {
      Node*& list = lists[{size.node, size.input}];
      if (list == nullptr) {
        Value* given = user->inputs()[input];
        std::vector<Value*> items;
        if (given->node()->kind() == c10::prim::ListConstruct) {
          items = given->node()->inputs().vec();
        } else if (const auto constant = torch::jit::toIValue(given); constant.has_value() && constant->isIntList()) {
          for (const int64_t item : constant->toIntVector()) items.push_back(graph_->insertConstant(item));
        } else {
          throw std::invalid_argument("a shape is computed in a way that can't be followed");
        }
        list = graph_->insertNode(graph_->createList(c10::IntType::get(), items));
        user->replaceInput(input, list->output());
      }
      user = list;
      input = static_cast<size_t>(size.element);
    }
    const auto whole = torch::jit::toIValue(user->inputs()[input]);
    const int64_t number = whole.has_value() && whole->isInt() ? whole->toInt() : static_cast<int64_t>(size.axis.size()) / size.unit;
    torch::jit::WithInsertPoint before(user);
    Value* constant = graph_->insertConstant(number);
    user->replaceInput(input, constant);
    sites_.push_back({constant->node(), number, {std::move(count)}});
  }
}

std::shared_ptr<Graph> ScriptChannels::Narrow(const KeptChannels& kept) {
  absl::Cleanup restore = [this] {
    for (Site& site : sites_) site.constant->i_(c10::attr::value, site.whole);
  };
  for (Site& site : sites_) {
    int64_t number = -1;
    for (const Site::Count& count : site.counts) {
      int64_t left = 0;
      for (const ChannelUnion::Found::Place& place : count.axis) {
        auto ranges = place.group < 0 ? kept.end() : kept.find(followed_[static_cast<size_t>(place.group)].name);
        left += ranges == kept.end() || KeptCount(ranges->second, place.channel);
      }
      const int64_t wanted = left / count.unit;
      if (left % count.unit != 0 || (number >= 0 && number != wanted)) {
        throw std::invalid_argument("a number in the graph would have to count two things at once");
      }
      number = wanted;
    }
    site.constant->i_(c10::attr::value, number);
  }
  return graph_->copy();
}

std::string ScriptChannels::Compare(const KeptChannels& kept) {
  // What differs in double precision does so for another reason than rounding. A forward may insist on float32.
  try {
    return CompareIn(at::kDouble, kept);
  } catch (const std::exception&) {
  }
  try {
    return CompareIn(at::kFloat, kept);
  } catch (const std::exception& error) {
    return absl::StrCat("fails: ", MessageOf(error));
  }
}

std::string ScriptChannels::CompareIn(at::ScalarType type, const KeptChannels& kept) {
  absl::StatusOr<Submodel> part = Submodel::Create(layout_, followed_, kept);
  if (!part.ok()) return std::string(part.status().message());
  const std::vector<float> values = part->Gather(RandomValues(module_, layout_, 1));
  const std::vector<float> masked = part->Scatter(values);
  // One of the two that are compared.
  struct Side {
    const ParameterLayout& layout;
    const std::vector<float>& values;
    std::shared_ptr<Graph> graph;
    torch::jit::GraphExecutor executor;
    at::Tensor output;
    std::vector<float> after;  // gradients of parameters, buffers as they are left
  };
  Side sides[] = {{layout_, masked, Narrow({}), {}, {}, {}}, {part->layout(), values, Narrow(kept), {}, {}, {}}};
  auto& [whole, narrow] = sides;
  for (Side& side : sides) {
    RemoveDropout(*side.graph->block());
    side.executor = torch::jit::GraphExecutor(side.graph, "forward");
  }

  at::AutoGradMode with_gradients(true);
  at::Generator generator = at::detail::createCPUGenerator(2);
  for (const bool training : {true, false}) {
    for (const int64_t batch : kProofBatches) {
      at::Tensor input = RandomInput(input_shape_, batch, tokens_, generator), weights;
      if (!tokens_) input = input.to(type);
      for (Side& side : sides) {
        stopped_ = stopped_ || !go_on_();
        if (stopped_) return "stopped";
        torch::jit::Module module = WithValues(module_, side.layout, side.values, type);
        module.train(training);
        torch::manual_seed(3);
        torch::jit::Stack stack = Inputs(module, input.clone());
        side.executor.run(stack);
        const at::Tensor output = stack.back().toTensor();
        side.output = output.detach();
        if (!weights.defined()) weights = at::randn(output.sizes(), generator, output.options());
        if (output.sizes() != weights.sizes()) break;

        std::vector<at::Tensor> read(side.layout.entries().size()), parameters;
        std::vector<size_t> places;
        for (size_t i = 0; i < read.size(); ++i) {
          const LayoutEntry& entry = side.layout.entries()[i];
          if (entry.kind == EntryKind::kLocal) continue;
          read[i] = FindTensor(module, entry.name).detach();
          if (entry.kind != EntryKind::kParameter || !FindTensor(module, entry.name).requires_grad()) continue;
          places.push_back(i);
          parameters.push_back(FindTensor(module, entry.name));
        }
        if (output.requires_grad()) {
          const std::vector<at::Tensor> gradients =
              torch::autograd::grad({(output * weights).sum()}, parameters, {}, c10::nullopt, /*create_graph=*/false, /*allow_unused=*/true);
          for (size_t i = 0; i < places.size(); ++i) read[places[i]] = gradients[i].defined() ? gradients[i] : at::zeros_like(parameters[i]);
        }
        side.after.assign(side.values.size(), 0);
        for (size_t i = 0; i < read.size(); ++i) {
          if (!read[i].defined()) continue;
          const at::Tensor flat = read[i].to(at::kFloat).contiguous();
          if (flat.numel() != side.layout.entries()[i].element_count()) return absl::StrCat("'", side.layout.entries()[i].name, "' changes its shape");
          std::copy_n(flat.data_ptr<float>(), flat.numel(), side.after.begin() + side.layout.offset(i));
        }
      }
      if (std::string fault = Differ(training ? "outputs in training mode" : "outputs", whole.output, narrow.output); !fault.empty()) return fault;
      if (whole.output.dim() == 0 || whole.output.size(0) != batch) return "the output is not one row an example";
      const std::vector<float> expected = part->Gather(whole.after);
      for (size_t i = 0; i < narrow.layout.entries().size(); ++i) {
        const LayoutEntry& entry = narrow.layout.entries()[i];
        if (entry.kind == EntryKind::kLocal) continue;
        const auto of = [&](const std::vector<float>& all) {
          return at::from_blob(const_cast<float*>(all.data()) + narrow.layout.offset(i), {entry.element_count()}, at::kFloat);
        };
        const std::string what = absl::StrCat(entry.kind == EntryKind::kParameter ? "gradients of '" : "values of '", entry.name, "'");
        if (std::string fault = Differ(what.c_str(), of(expected), of(narrow.after)); !fault.empty()) return fault;
      }
    }
  }
  return "";
}

bool ScriptChannels::Prove(absl::Span<const size_t> candidates, KeptChannels& proven, std::vector<std::string>& faults) {
  if (candidates.empty()) return true;
  KeptChannels tried = proven;
  for (const size_t i : candidates) {
    // Both ends of the group, and another share of each.
    const ChannelGroup& group = followed_[i];
    Random random(DeriveSeed("proof", {i}));
    const auto below = [&random](int64_t bound) { return static_cast<int64_t>(random.Below(static_cast<uint64_t>(std::max<int64_t>(bound, 1)))); };
    const int64_t head = below((group.size + 1) / 2), tail = 1 + below(group.size / 2 - 1);
    std::vector<ChannelRange>& ranges = tried[group.name];
    if (head > 0) ranges.push_back({0, head});
    ranges.push_back({group.size - tail, group.size});
  }
  std::string fault = Compare(tried);
  if (stopped_) return false;
  if (fault.empty()) {
    proven = std::move(tried);
  } else if (candidates.size() == 1) {
    faults[candidates[0]] = std::move(fault);
  } else {
    return Prove(candidates.first(candidates.size() / 2), proven, faults) && Prove(candidates.subspan(candidates.size() / 2), proven, faults);
  }
  return true;
}

bool ScriptChannels::Prove(const std::function<bool()>& go_on) {
  go_on_ = go_on;
  stopped_ = false;
  std::vector<size_t> all(followed_.size());
  for (size_t i = 0; i < all.size(); ++i) all[i] = i;
  KeptChannels proven;
  std::vector<std::string> faults(all.size());
  if (!Prove(all, proven, faults)) return false;
  found_.groups.clear();
  for (const size_t i : all) {
    if (faults[i].empty()) {
      found_.groups.push_back(followed_[i]);
    } else {
      found_.whole.push_back({followed_[i].name, followed_[i].size, absl::StrCat("a narrower copy does not do what the masked whole model does: ", faults[i])});
    }
  }
  return true;
}

}  // namespace fedwatt::internal

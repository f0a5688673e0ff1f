#include "script_walk.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "absl/strings/str_cat.h"

namespace fedwatt::internal {
namespace {

using torch::jit::Block;
using torch::jit::Node;
using torch::jit::Value;

// Nothing that could be dropped.
FlowPtr Inert(const c10::IValue& value) {
  auto flow = std::make_shared<Flow>();
  if (value.isTensor() && value.toTensor().defined()) {
    flow->axes.resize(static_cast<size_t>(value.toTensor().dim()));
  } else if (value.isList()) {
    for (const c10::IValue& item : value.toListRef()) flow->items.push_back(Inert(item));
  } else if (value.isTuple()) {
    for (const c10::IValue& item : value.toTupleRef().elements()) flow->items.push_back(Inert(item));
  }
  return flow;
}

bool Fits(const Flow& flow, const c10::IValue& value) {
  if (!value.isTensor() || !value.toTensor().defined()) return flow.axes.empty();
  const at::Tensor& tensor = value.toTensor();
  if (flow.axes.size() != static_cast<size_t>(tensor.dim())) return false;
  for (size_t d = 0; d < flow.axes.size(); ++d) {
    if (!flow.axes[d].empty() && static_cast<int64_t>(flow.axes[d].size()) != tensor.size(static_cast<int64_t>(d))) return false;
  }
  return true;
}

void PinAll(ChannelUnion& channels, const Flow& flow, const std::string& why) {
  for (const ChannelsOfAxis& axis : flow.axes) channels.Pin(axis, why);
  for (const FlowPtr& item : flow.items) PinAll(channels, *item, why);
}

// What was resized in place, or changed behind a list's back, is no longer what its flow says.
FlowPtr Checked(ChannelUnion& channels, FlowPtr flow, const c10::IValue& value, const std::string& name) {
  if (Fits(*flow, value)) return flow;
  PinAll(channels, *flow, absl::StrCat(name, ": changes shapes in place"));
  return Inert(value);
}

}  // namespace

c10::IValue ScriptWalk::Run(torch::jit::Graph& graph, std::vector<c10::IValue> inputs) {
  values_.clear();
  if (graph.inputs().size() != inputs.size()) throw std::invalid_argument("forward takes another number of inputs");
  for (size_t i = 0; i < inputs.size(); ++i) values_[graph.inputs()[i]] = {inputs[i], Inert(inputs[i])};
  if (inputs.size() > 1 && inputs[1].isTensor()) batch_size_ = inputs[1].toTensor().size(0);
  RunBlock(*graph.block());
  for (Value* output : graph.outputs()) PinAll(channels_, *At(output).flow, "the network's output");
  c10::IValue result = At(graph.outputs()[0]).value;
  values_.clear();
  return result;
}

void ScriptWalk::RunBlock(Block& block) {
  for (Node* node : block.nodes()) RunNode(*node);
}

FlowPtr ScriptWalk::GetAttribute(const FlowPtr& object, const std::string& name, const c10::IValue& value) {
  const std::string path = object->path.empty() ? name : absl::StrCat(object->path, ".", name);
  if (auto known = entries_.find(path); known != entries_.end()) return known->second;
  FlowPtr flow = Inert(value);
  flow->path = path;
  auto entry = std::find_if(layout_.entries().begin(), layout_.entries().end(), [&](const LayoutEntry& one) { return one.name == path; });
  if (value.isTensor() && entry != layout_.entries().end() && entry->kind != EntryKind::kLocal) {
    for (size_t axis = 0; axis < entry->shape.size(); ++axis) flow->axes[axis] = channels_.Track(path, static_cast<int32_t>(axis), entry->shape[axis]);
    entries_[path] = flow;
  }
  return flow;
}

void ScriptWalk::RunLoop(Node& node) {
  Block& body = *node.blocks()[0];
  const int64_t most = At(node.inputs()[0]).value.toInt();
  bool more = At(node.inputs()[1]).value.toBool();
  std::vector<Slot> carried;
  for (size_t i = 2; i < node.inputs().size(); ++i) carried.push_back(At(node.inputs()[i]));
  for (int64_t turn = 0; turn < most && more; ++turn) {
    values_[body.inputs()[0]] = {turn, std::make_shared<Flow>()};
    for (size_t i = 0; i < carried.size(); ++i) values_[body.inputs()[i + 1]] = carried[i];
    RunBlock(body);
    more = At(body.outputs()[0]).value.toBool();
    for (size_t i = 0; i < carried.size(); ++i) carried[i] = At(body.outputs()[i + 1]);
  }
  for (size_t i = 0; i < carried.size(); ++i) values_[node.outputs()[i]] = carried[i];
}

void ScriptWalk::RunNode(Node& node) {
  const auto inputs = [&] {
    std::vector<c10::IValue> values;
    for (Value* input : node.inputs()) values.push_back(At(input).value);
    return values;
  };
  // Puts items together without looking into them.
  const auto set_with_items = [&](c10::IValue value) {
    auto flow = std::make_shared<Flow>();
    for (Value* input : node.inputs()) flow->items.push_back(At(input).flow);
    values_[node.output()] = {std::move(value), std::move(flow)};
  };
  const auto unpack = [&](const std::vector<c10::IValue>& items) {
    const Flow& flow = *At(node.input()).flow;
    if (items.size() != node.outputs().size()) throw std::invalid_argument("unpacks another number of items");
    for (size_t i = 0; i < items.size(); ++i) {
      values_[node.outputs()[i]] = {items[i], flow.items.size() == items.size() ? flow.items[i] : Inert(items[i])};
    }
  };
  switch (node.kind()) {
    case c10::prim::Constant: {
      // None, and functions that are called elsewhere, have no value.
      const c10::IValue value = torch::jit::toIValue(node.output()).value_or(c10::IValue());
      values_[node.output()] = {value, Inert(value)};
      return;
    }
    case c10::prim::GetAttr: {
      const Slot& object = At(node.input());
      c10::IValue value = object.value.toObject()->getAttr(node.s(c10::attr::name));
      FlowPtr flow = GetAttribute(object.flow, node.s(c10::attr::name), value);
      values_[node.output()] = {std::move(value), std::move(flow)};
      return;
    }
    case c10::prim::SetAttr: {
      const Slot &object = At(node.inputs()[0]), &value = At(node.inputs()[1]);
      const std::string& name = node.s(c10::attr::name);
      PinAll(channels_, *value.flow, "kept in the module between calls");
      PinAll(channels_, *GetAttribute(object.flow, name, value.value), "kept in the module between calls");
      object.value.toObject()->setAttr(name, value.value);
      return;
    }
    case c10::prim::If: {
      Block& block = *node.blocks()[At(node.input()).value.toBool() ? 0 : 1];
      RunBlock(block);
      for (size_t i = 0; i < node.outputs().size(); ++i) values_[node.outputs()[i]] = At(block.outputs()[i]);
      return;
    }
    case c10::prim::Loop: return RunLoop(node);
    case c10::prim::ListConstruct: {
      c10::impl::GenericList list(node.output()->type()->expectRef<c10::ListType>().getElementType());
      for (const c10::IValue& item : inputs()) list.push_back(item);
      return set_with_items(std::move(list));
    }
    case c10::prim::TupleConstruct: {
      const auto type = node.output()->type()->cast<c10::TupleType>();
      return set_with_items(type->name().has_value() ? c10::ivalue::Tuple::createNamed(inputs(), type) : c10::ivalue::Tuple::create(inputs()));
    }
    case c10::prim::ListUnpack: return unpack(At(node.input()).value.toListRef().vec());
    case c10::prim::TupleUnpack: return unpack(At(node.input()).value.toTupleRef().elements().asArrayRef().vec());
    case c10::prim::DictConstruct: {
      const auto& type = node.output()->type()->expectRef<c10::DictType>();
      c10::impl::GenericDict dict(type.getKeyType(), type.getValueType());
      const std::vector<c10::IValue> items = inputs();
      for (size_t i = 0; i + 1 < items.size(); i += 2) dict.insert_or_assign(items[i], items[i + 1]);
      for (Value* input : node.inputs()) PinAll(channels_, *At(input).flow, "kept in a dictionary");
      values_[node.output()] = {std::move(dict), std::make_shared<Flow>()};
      return;
    }
    case c10::prim::Uninitialized:
      values_[node.output()] = {c10::IValue::uninitialized(), std::make_shared<Flow>()};
      return;
    case c10::prim::unchecked_cast:
    case c10::prim::unchecked_unwrap_optional:
      values_[node.output()] = At(node.input());
      return;
    case c10::prim::isinstance: {
      const c10::TypePtr type = At(node.input()).value.type();
      const std::vector<c10::TypePtr>& wanted = node.tys(c10::attr::types);
      const bool is = std::any_of(wanted.begin(), wanted.end(), [&](const c10::TypePtr& one) { return type->isSubtypeOf(*one); });
      values_[node.output()] = {is, std::make_shared<Flow>()};
      return;
    }
    case c10::prim::Print:
    case c10::aten::warn: return;
    case c10::prim::CallFunction:
    case c10::prim::CallMethod:
    case c10::prim::CreateObject:
    case c10::prim::fork:
    case c10::prim::Enter:
    case c10::prim::Exit:
      throw std::invalid_argument(absl::StrCat("forward uses ", node.kind().toQualString(), ", which can't be followed"));
    default: return RunOperator(node);
  }
}

// Of the entries that it reads, as counted so far.
double ScriptWalk::MacsOf(const OperatorCall& call) const {
  double macs = 0;
  for (const LayoutEntry& entry : layout_.entries()) {
    const auto uses = uses_.find(entry.name);
    if (uses == uses_.end()) continue;
    const auto reads = [&](const FlowPtr& flow) {
      return flow->path == entry.name || std::any_of(flow->items.begin(), flow->items.end(), [&](const FlowPtr& item) { return item->path == entry.name; });
    };
    if (std::any_of(call.flows.begin(), call.flows.end(), reads)) macs += uses->second * static_cast<double>(entry.element_count());
  }
  return macs;
}

void ScriptWalk::Profile(const OperatorCall& call, double macs_before) {
  constexpr size_t kMostOperators = 100000;
  OperatorProfile run;
  run.name = call.name.substr(call.name.rfind(':') + 1);
  std::vector<const void*> known;  // memory that was there before
  const auto reads = [&](const Flow& flow, const c10::IValue& value) {
    if (!value.isTensor() || !value.toTensor().defined()) return;
    known.push_back(value.toTensor().storage().data());
    if (entries_.contains(flow.path)) run.entries.push_back(flow.path);
  };
  for (size_t i = 0; i < call.inputs.size(); ++i) {
    reads(*call.flows[i], call.inputs[i]);
    if (!call.inputs[i].isList()) continue;
    const auto items = call.inputs[i].toListRef();
    for (size_t k = 0; k < items.size(); ++k) {
      reads(k < call.flows[i]->items.size() ? *call.flows[i]->items[k] : Flow(), items[k]);
    }
  }
  double output_values = 0;
  for (const c10::IValue& output : call.outputs) {
    if (!output.isTensor() || !output.toTensor().defined()) continue;
    const at::Tensor& tensor = output.toTensor();
    if (run.output_shape.empty() && tensor.dim() > 1) run.output_shape.assign(tensor.sizes().begin() + 1, tensor.sizes().end());
    output_values += static_cast<double>(tensor.numel());
    if (std::find(known.begin(), known.end(), tensor.storage().data()) == known.end()) {
      run.activation_bytes += static_cast<int64_t>(tensor.nbytes()) / batch_size_;
    }
  }
  run.macs = MacsOf(call) - macs_before;
  const bool product = run.name == "matmul" || run.name == "bmm" || run.name == "mm" || run.name == "baddbmm";
  if (product && run.macs == 0) {
    const at::Tensor& first = call.inputs[run.name == "baddbmm" ? 1 : 0].toTensor();
    run.macs = output_values * static_cast<double>(first.size(-1)) / static_cast<double>(batch_size_);
  }
  const bool recurrent = run.name == "lstm" || run.name == "gru" || run.name == "rnn_tanh" || run.name == "rnn_relu";
  if (recurrent && run.macs == 0 && !call.outputs.empty() && call.outputs[0].isTensor()) {
    // Each matrix once a position.
    const at::Tensor& states = call.outputs[0].toTensor();
    double weights = 0;
    for (const LayoutEntry& entry : layout_.entries()) {
      const bool read = entry.shape.size() == 2 && std::find(run.entries.begin(), run.entries.end(), entry.name) != run.entries.end();
      weights += read ? static_cast<double>(entry.element_count()) : 0;
    }
    run.macs = weights * static_cast<double>(states.numel()) / static_cast<double>(states.size(-1) * batch_size_);
  }
  if (run.macs == 0 && run.activation_bytes == 0 && run.entries.empty()) return;
  if (profile_->operators.size() >= kMostOperators) throw std::invalid_argument("forward runs more than 100000 operators");
  profile_->operators.push_back(std::move(run));
}

void ScriptWalk::RunOperator(Node& node) {
  OperatorCall call{&node, node.kind().toQualString(), {}, {}, {}, {}, channels_, sizes_, uses_, batch_size_};
  for (Value* input : node.inputs()) {
    const Slot& slot = At(input);
    call.inputs.push_back(slot.value);
    call.flows.push_back(Checked(channels_, slot.flow, slot.value, "an earlier operator"));
  }
  torch::jit::Stack stack(call.inputs.begin(), call.inputs.end());
  if (node.schema().is_vararg()) stack.emplace_back(static_cast<int64_t>(call.inputs.size()));
  try {
    node.getOperation()(stack);
  } catch (const c10::Error& error) {
    throw std::invalid_argument(absl::StrCat(call.name, ": ", error.what_without_backtrace()));
  }
  if (stack.size() != node.outputs().size()) throw std::invalid_argument(absl::StrCat(call.name, " gave another number of results"));
  for (c10::IValue& result : stack) {
    call.out.push_back(Inert(result));
    call.outputs.push_back(std::move(result));
  }
  // Lists of tensors, item by item; all else is in the table.
  const bool on_list = !call.inputs.empty() && call.inputs[0].isList();
  if (on_list && call.name == "aten::append") {
    call.flows[0]->items.push_back(call.flows[1]);
    call.out[0] = call.flows[0];
  } else if (on_list && call.name == "aten::__getitem__" && call.flows[0]->items.size() == call.inputs[0].toListRef().size()) {
    const int64_t index = call.inputs[1].toInt(), size = static_cast<int64_t>(call.flows[0]->items.size());
    call.out[0] = call.flows[0]->items[static_cast<size_t>(index < 0 ? index + size : index)];
  } else if (on_list && call.name == "aten::list") {
    call.out[0]->items = call.flows[0]->items;
  } else if (on_list && call.name == "aten::add" && call.inputs[1].isList()) {
    call.out[0]->items = call.flows[0]->items;
    call.out[0]->items.insert(call.out[0]->items.end(), call.flows[1]->items.begin(), call.flows[1]->items.end());
  } else {
    for (size_t i = 0; i < call.inputs.size(); ++i) call.flows[i] = Checked(channels_, call.flows[i], call.inputs[i], call.name);
    const double macs_before = profile_ != nullptr ? MacsOf(call) : 0;
    ApplyChannelRule(call);
    if (profile_ != nullptr) Profile(call, macs_before);
  }
  for (size_t i = 0; i < call.out.size(); ++i) {
    values_[node.outputs()[i]] = {call.outputs[i], Checked(channels_, call.out[i], call.outputs[i], call.name)};
  }
}

}  // namespace fedwatt::internal

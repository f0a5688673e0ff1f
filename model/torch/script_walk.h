// Runs a TorchScript graph node by node and follows the channels through it.
#ifndef FEDWATT_MODEL_TORCH_SCRIPT_WALK_H_
#define FEDWATT_MODEL_TORCH_SCRIPT_WALK_H_

#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "channel_flow.h"
#include "channel_rules.h"
#include "fedwatt/model/layout.h"
#include "fedwatt/model/profile.h"
#include "pch.h"

namespace fedwatt::internal {

// An interpreter beside LibTorch's own: control flow is taken as the input takes it. Several walks (training, evaluation) add to the same channels.
class ScriptWalk {
 public:
  // With `profile`, every operator that runs is added to it.
  explicit ScriptWalk(const ParameterLayout& layout, ModelProfile* profile = nullptr) : layout_(layout), profile_(profile) {}

  // Runs an inlined graph; `inputs` as the graph's, the module first, whose state may change. What it returns is pinned.
  // Throws what LibTorch throws, std::invalid_argument for what only LibTorch's interpreter can run (calls through interfaces, threads).
  c10::IValue Run(torch::jit::Graph& graph, std::vector<c10::IValue> inputs);

  const ChannelUnion& channels() const { return channels_; }
  const std::vector<SizeInGraph>& sizes() const { return sizes_; }
  const std::map<std::string, double>& uses() const { return uses_; }

 private:
  struct Slot {
    c10::IValue value;
    FlowPtr flow;
  };
  void RunBlock(torch::jit::Block& block);
  void RunNode(torch::jit::Node& node);
  void RunLoop(torch::jit::Node& node);
  void RunOperator(torch::jit::Node& node);
  void Profile(const struct OperatorCall& call, double macs_before);
  double MacsOf(const struct OperatorCall& call) const;
  FlowPtr GetAttribute(const FlowPtr& object, const std::string& name, const c10::IValue& value);
  const Slot& At(torch::jit::Value* value) const { return values_.at(value); }

  const ParameterLayout& layout_;
  ModelProfile* const profile_;
  ChannelUnion channels_;
  std::vector<SizeInGraph> sizes_;
  std::map<std::string, double> uses_;
  std::map<std::string, FlowPtr> entries_;  // of the layout, as far as they were met
  std::unordered_map<const torch::jit::Value*, Slot> values_;
  int64_t batch_size_ = 1;
};

}  // namespace fedwatt::internal

#endif  // FEDWATT_MODEL_TORCH_SCRIPT_WALK_H_

// How channels pass through each operator of TorchScript: one table, one place.
#ifndef FEDWATT_MODEL_TORCH_CHANNEL_RULES_H_
#define FEDWATT_MODEL_TORCH_CHANNEL_RULES_H_

#include <string>
#include <vector>

#include "channel_flow.h"
#include "pch.h"

namespace fedwatt::internal {

// A number in the graph that counts channels, and so must shrink with them: an input of `node`, or element `element` of an input that is a list. In a
// narrower copy it is the number of indices of `axis` that are kept, divided by `unit`.
struct SizeInGraph {
  torch::jit::Node* node = nullptr;
  size_t input = 0;
  int64_t element = -1;
  ChannelsOfAxis axis;
  int64_t unit = 1;
};

// One run of one operator, after it ran.
struct OperatorCall {
  torch::jit::Node* node;
  std::string name;                         // "aten::conv2d"
  std::vector<c10::IValue> inputs;          // of tensors that were overwritten in place, only the shapes are to be trusted
  std::vector<FlowPtr> flows;               // of the inputs; never null
  std::vector<c10::IValue> outputs;
  std::vector<FlowPtr> out;                 // to be filled; inert when the rule starts, with an axis a dimension
  ChannelUnion& channels;
  std::vector<SizeInGraph>& sizes;
  std::map<std::string, double>& uses;      // multiply-adds of one example in which each value of an entry takes part
  int64_t batch_size;
};

// Applies the operator's rule. One that the table lacks pins all channels that reach it.
void ApplyChannelRule(OperatorCall& call);

// Whether the operator draws random numbers for each value by itself, so that a narrower copy draws others: dropout. Its first input is what it
// would give without.
bool IsDropout(const torch::jit::Node& node);

}  // namespace fedwatt::internal

#endif  // FEDWATT_MODEL_TORCH_CHANNEL_RULES_H_

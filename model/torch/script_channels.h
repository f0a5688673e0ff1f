// What can be dropped of a scripted model, found in its graph and proven on random values.
#ifndef FEDWATT_MODEL_TORCH_SCRIPT_CHANNELS_H_
#define FEDWATT_MODEL_TORCH_SCRIPT_CHANNELS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "channel_flow.h"
#include "fedwatt/model/channels.h"
#include "fedwatt/model/layout.h"
#include "fedwatt/model/profile.h"
#include "pch.h"

namespace fedwatt::internal {

// Owned by one thread.
class ScriptChannels {
 public:
  // Runs `module` on random inputs of `input_shape` (tokens where numbers fail), in training and in evaluation mode, and follows which channels reach
  // which values. `module` itself is not changed. A forward that can't be followed leaves no groups, and one line in whole() that says why.
  static ScriptChannels Find(const torch::jit::Module& module, const ParameterLayout& layout, const std::vector<int64_t>& input_shape);

  // Follows one batch in evaluation mode. Throws as ScriptWalk, std::invalid_argument where the output is not [batch, outputs] float32.
  static ModelProfile Profile(const torch::jit::Module& module, const ParameterLayout& layout, const std::vector<int64_t>& input_shape);

  // Keeps the groups for which narrower copies give what the masked whole model gives; the others join whole(). Some channels of every group are
  // dropped, other shares in each; then, where that fails, of half of the groups, and so on. Compared to a 1e-5 of the largest value, in
  // training and in evaluation mode at two batch sizes: outputs, their shapes, gradients of what is kept, and buffers after training.
  // `go_on` is asked between passes through the network. False when it said no: then groups() is what it was.
  bool Prove(const std::function<bool()>& go_on = [] { return true; });

  const std::vector<ChannelGroup>& groups() const { return found_.groups; }
  const std::vector<WholeChannels>& whole() const { return found_.whole; }
  // For each entry of the layout: multiply-adds of one example in which each of its values takes part; 0 for kLocal.
  const std::vector<double>& uses() const { return uses_; }

  // The graph of forward, its counts of channels those of a copy that keeps `kept`, which suits groups(). Inputs as Inputs() gives them.
  // Throws std::invalid_argument where one number would have to be two.
  std::shared_ptr<torch::jit::Graph> Narrow(const KeptChannels& kept);
  // What forward takes beside its defaults.
  static std::vector<c10::IValue> Inputs(const torch::jit::Module& module, const at::Tensor& input);

 private:
  // A constant of graph_ that counts channels.
  struct Site {
    torch::jit::Node* constant;
    int64_t whole;
    // Each must give the same number. By index of the axis: the group that decides whether it is kept, and the channel there; -1: always kept.
    struct Count {
      std::vector<ChannelUnion::Found::Place> axis;
      int64_t unit;
    };
    std::vector<Count> counts;
  };

  ScriptChannels(const torch::jit::Module& module, const ParameterLayout& layout) : module_(module), layout_(layout) {}
  void AddSites(const std::vector<struct SizeInGraph>& sizes, const ChannelUnion& channels);
  // "" when the narrower copy does what the masked whole does, else how it differs.
  std::string Compare(const KeptChannels& kept);
  std::string CompareIn(at::ScalarType type, const KeptChannels& kept);
  bool Prove(absl::Span<const size_t> candidates, KeptChannels& proven, std::vector<std::string>& faults);

  torch::jit::Module module_;
  ParameterLayout layout_;
  std::vector<int64_t> input_shape_;
  bool tokens_ = false;
  std::shared_ptr<torch::jit::Graph> graph_;
  ChannelUnion::Found found_;
  std::vector<ChannelGroup> followed_;  // all that places in sites_ name, proven or not
  std::vector<Site> sites_;
  std::vector<double> uses_;
  std::function<bool()> go_on_;  // while Prove() runs
  bool stopped_ = false;
};

}  // namespace fedwatt::internal

#endif  // FEDWATT_MODEL_TORCH_SCRIPT_CHANNELS_H_

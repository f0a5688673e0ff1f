#include "channel_rules.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace fedwatt::internal {
namespace {

// The call as the rules see it: arguments by the names of the operator's schema.
class Args {
 public:
  explicit Args(OperatorCall& call) : call_(call), schema_(call.node->schema()) {}

  std::optional<size_t> Index(const char* name) const {
    const c10::optional<int> index = schema_.argumentIndexWithName(name);
    if (!index.has_value()) return std::nullopt;
    return static_cast<size_t>(*index);
  }
  const c10::IValue* Value(const char* name) const {
    const std::optional<size_t> index = Index(name);
    return index.has_value() ? &call_.inputs[*index] : nullptr;
  }
  // A tensor that is given and defined.
  const at::Tensor* Tensor(const char* name) const {
    const c10::IValue* value = Value(name);
    return value != nullptr && value->isTensor() && value->toTensor().defined() ? &value->toTensor() : nullptr;
  }
  // A copy, since an in-place operator's output is its input.
  std::vector<ChannelsOfAxis> Axes(const char* name) const { return Tensor(name) == nullptr ? std::vector<ChannelsOfAxis>() : call_.flows[*Index(name)]->axes; }
  int64_t Int(const char* name, int64_t otherwise) const {
    const c10::IValue* value = Value(name);
    return value != nullptr && value->isInt() ? value->toInt() : otherwise;
  }

 private:
  const OperatorCall& call_;
  const c10::FunctionSchema& schema_;
};

size_t Wrap(int64_t dim, size_t rank) { return static_cast<size_t>(dim < 0 ? dim + static_cast<int64_t>(rank) : dim); }

std::string Why(const OperatorCall& call, const char* what) { return absl::StrCat(call.name, ": ", what); }

// `axis` counts channels in input `name` (or its element) of the call. Numbers that come from shapes follow by themselves.
void CountsChannels(OperatorCall& call, const char* name, int64_t element, const ChannelsOfAxis& axis, int64_t unit = 1) {
  if (axis.empty()) return;
  const size_t input = *Args(call).Index(name);
  const Flow& flow = *call.flows[input];
  const bool from_sizes = element >= 0 && static_cast<size_t>(element) < flow.items.size() ? flow.items[static_cast<size_t>(element)]->from_sizes : flow.from_sizes;
  if (!from_sizes) call.sizes.push_back({call.node, input, element, axis, unit});
}

void PinAxesFrom(OperatorCall& call, const std::vector<ChannelsOfAxis>& axes, size_t begin, size_t end, const char* what) {
  for (size_t d = begin; d < std::min(end, axes.size()); ++d) call.channels.Pin(axes[d], Why(call, what));
}

void PinFlow(OperatorCall& call, const Flow& flow, const std::string& why) {
  for (const ChannelsOfAxis& axis : flow.axes) call.channels.Pin(axis, why);
  for (const FlowPtr& item : flow.items) PinFlow(call, *item, why);
}

void SetFromSizes(Flow& flow) {
  flow.from_sizes = true;
  for (const FlowPtr& item : flow.items) SetFromSizes(*item);
}

// --- The rules. Each says what becomes of the axes of its inputs.

// Value by value, with broadcasting: equal places hold equal channels.
void Elementwise(OperatorCall& call) {
  if (!call.outputs[0].isTensor()) return;
  const at::Tensor& result = call.outputs[0].toTensor();
  std::vector<ChannelsOfAxis> axes(static_cast<size_t>(result.dim()));
  for (size_t back = 1; back <= axes.size(); ++back) {
    ChannelsOfAxis& axis = axes[axes.size() - back];
    const int64_t size = result.size(-static_cast<int64_t>(back));
    std::vector<const ChannelsOfAxis*> meet;
    for (size_t i = 0; i < call.inputs.size(); ++i) {
      if (!call.inputs[i].isTensor() || !call.inputs[i].toTensor().defined()) continue;
      const at::Tensor& input = call.inputs[i].toTensor();
      if (input.dim() < static_cast<int64_t>(back) || input.size(-static_cast<int64_t>(back)) != size) continue;
      meet.push_back(&call.flows[i]->axes[call.flows[i]->axes.size() - back]);
      if (axis.empty()) axis = *meet.back();
    }
    if (axis.empty()) continue;
    for (const ChannelsOfAxis* other : meet) call.channels.Join(axis, *other, Why(call, "meets values that can't shrink"));
  }
  for (FlowPtr& out : call.out) out->axes = axes;
}

// Only shapes are looked at: nothing flows.
void ShapeOnly(OperatorCall& call) {
  for (FlowPtr& out : call.out) SetFromSizes(*out);
}

// Sizes of windows are positions: the last `kPositions` dimensions.
template <size_t kPositions>
void OverPositions(OperatorCall& call) {
  const std::vector<ChannelsOfAxis>& in = call.flows[0]->axes;
  if (in.size() < kPositions) return;
  PinAxesFrom(call, in, in.size() - kPositions, in.size(), "a window over channels");
  for (FlowPtr& out : call.out) std::copy(in.begin(), in.end() - kPositions, out->axes.begin());
}

// Padding, cropping: dimensions that change hold no channels.
void Resize(OperatorCall& call) {
  const std::vector<ChannelsOfAxis> in = call.flows[0]->axes;
  const at::Tensor& from = call.inputs[0].toTensor();
  const at::Tensor& to = call.outputs[0].toTensor();
  for (size_t d = 0; d < in.size(); ++d) {
    if (from.size(static_cast<int64_t>(d)) == to.size(static_cast<int64_t>(d))) {
      call.out[0]->axes[d] = in[d];
    } else {
      call.channels.Pin(in[d], Why(call, "changes the number of channels"));
    }
  }
}

// A filter reads all channels of its input and writes one. In a grouped one (depthwise: a group a channel), whole groups of filters are dropped,
// together with what they read. `weight`: [out, in / groups, taps...]; transposed: [in, out / groups, taps...].
template <bool kTransposed>
void Convolution(OperatorCall& call) {
  const Args args(call);
  bool transposed = kTransposed;
  if (const c10::IValue* flag = args.Value("transposed"); flag != nullptr) transposed = flag->toBool();
  const at::Tensor& weight = *args.Tensor("weight");
  const std::vector<ChannelsOfAxis> x = args.Axes("input"), w = args.Axes("weight"), bias = args.Axes("bias");
  const int64_t groups = args.Int("groups", 1);
  const size_t positions = static_cast<size_t>(weight.dim()) - 2, at = x.size() - positions - 1;
  PinAxesFrom(call, x, at + 1, x.size(), "a window over channels");
  PinAxesFrom(call, w, 2, w.size(), "taps");
  ChannelsOfAxis out = w[transposed ? 1 : 0];
  const std::string why = Why(call, "reads values that can't shrink");
  if (groups == 1) {
    call.channels.Join(x[at], w[transposed ? 0 : 1], why);
  } else {
    PinAxesFrom(call, w, 1, 2, "filters of a group");
    const int64_t inputs = call.inputs[0].toTensor().size(static_cast<int64_t>(at));
    const int64_t in_unit = inputs / groups, out_unit = transposed ? weight.size(1) : weight.size(0) / groups;
    const std::string grouped = Why(call, "its groups are whole");
    call.channels.JoinRuns(x[at], in_unit, grouped);
    if (transposed) {
      call.channels.Join(x[at], w[0], why);
      out.assign(static_cast<size_t>(groups * out_unit), kInert);
    } else {
      call.channels.JoinRuns(out, out_unit, grouped);
    }
    for (int64_t g = 0; g < groups; ++g) {
      const Channel read = x[at].empty() ? kInert : x[at][static_cast<size_t>(g * in_unit)];
      for (int64_t i = 0; i < out_unit; ++i) {
        Channel& one = out[static_cast<size_t>(g * out_unit + i)];
        if (transposed) one = read;
        if (!out.empty()) call.channels.Join(read, one, why);
      }
    }
    CountsChannels(call, "groups", -1, x[at], in_unit);
  }
  if (!bias.empty()) call.channels.Join(out, bias[0], why);
  call.out[0]->axes = std::vector<ChannelsOfAxis>(x.begin(), x.begin() + static_cast<int64_t>(at));
  call.out[0]->axes.push_back(out);
  call.out[0]->axes.resize(x.size());

  const at::Tensor& result = call.outputs[0].toTensor();
  const double pixels = static_cast<double>((transposed ? call.inputs[0].toTensor() : result).numel()) /
                        static_cast<double>(call.batch_size * (transposed ? call.inputs[0].toTensor() : result).size(static_cast<int64_t>(at)));
  call.uses[call.flows[*args.Index("weight")]->path] += pixels;
}

// y = x W^T + b. `weight`: [out, in].
void Linear(OperatorCall& call) {
  const Args args(call);
  const std::vector<ChannelsOfAxis> x = args.Axes("input"), w = args.Axes("weight"), bias = args.Axes("bias");
  const std::string why = Why(call, "reads values that can't shrink");
  call.channels.Join(x.back(), w[1], why);
  if (!bias.empty()) call.channels.Join(w[0], bias[0], why);
  call.out[0]->axes = x;
  call.out[0]->axes.back() = w[0];
  const at::Tensor& input = call.inputs[0].toTensor();
  call.uses[call.flows[*args.Index("weight")]->path] += static_cast<double>(input.numel()) / static_cast<double>(call.batch_size * input.size(-1));
}

// Sums over the last dimension of the first factor and the last but one of the second.
std::vector<ChannelsOfAxis> ProductOf(OperatorCall& call, size_t first, size_t second) {
  const std::vector<ChannelsOfAxis>&a = call.flows[first]->axes, &b = call.flows[second]->axes;
  if (a.size() < 2 || b.size() < 2) {
    PinAxesFrom(call, a, 0, a.size(), "with a vector");
    PinAxesFrom(call, b, 0, b.size(), "with a vector");
    return {};
  }
  call.channels.Join(a.back(), b[b.size() - 2], Why(call, "sums over values that can't shrink"));
  std::vector<ChannelsOfAxis> axes(std::max(a.size(), b.size()));
  for (size_t back = 3; back <= axes.size(); ++back) {
    const ChannelsOfAxis none, &left = back <= a.size() ? a[a.size() - back] : none, &right = back <= b.size() ? b[b.size() - back] : none;
    ChannelsOfAxis& axis = axes[axes.size() - back];
    axis = left.size() > right.size() ? left : right;
    if (back <= a.size() && back <= b.size() && !axis.empty() && call.inputs[first].toTensor().size(-static_cast<int64_t>(back)) ==
                                                                     call.inputs[second].toTensor().size(-static_cast<int64_t>(back))) {
      call.channels.Join(left, right, Why(call, "meets values that can't shrink"));
    }
  }
  axes[axes.size() - 2] = a[a.size() - 2];
  axes.back() = b.back();
  return axes;
}
void MatrixProduct(OperatorCall& call) {
  std::vector<ChannelsOfAxis> axes = ProductOf(call, 0, 1);
  axes.resize(call.out[0]->axes.size());
  call.out[0]->axes = std::move(axes);
  for (const size_t factor : {size_t{0}, size_t{1}}) {
    if (!call.flows[factor]->path.empty()) {
      call.uses[call.flows[factor]->path] += static_cast<double>(call.inputs[1 - factor].toTensor().numel()) /
                                             static_cast<double>(call.batch_size * call.inputs[0].toTensor().size(-1));
    }
  }
}
// bias + a b
void AddedProduct(OperatorCall& call) {
  const std::vector<ChannelsOfAxis> product = ProductOf(call, 1, 2);
  const std::vector<ChannelsOfAxis>& bias = call.flows[0]->axes;
  const at::Tensor &result = call.outputs[0].toTensor(), &added = call.inputs[0].toTensor();
  for (size_t back = 1; back <= bias.size() && back <= product.size(); ++back) {
    if (added.size(-static_cast<int64_t>(back)) == result.size(-static_cast<int64_t>(back))) {
      if (bias[bias.size() - back].empty() && product[product.size() - back].empty()) continue;
      call.channels.Join(bias[bias.size() - back], product[product.size() - back], Why(call, "meets values that can't shrink"));
    }
  }
  call.out[0]->axes.assign(call.out[0]->axes.size(), {});
  std::copy(product.begin(), product.end(), call.out[0]->axes.begin());
  if (!call.flows[2]->path.empty()) {
    const at::Tensor& x = call.inputs[1].toTensor();
    call.uses[call.flows[2]->path] += static_cast<double>(x.numel()) / static_cast<double>(call.batch_size * x.size(-1));
  }
}

// Rows of a table: the vocabulary stays whole.
void Embedding(OperatorCall& call) {
  const std::vector<ChannelsOfAxis> w = call.flows[0]->axes;
  PinAxesFrom(call, w, 0, 1, "the vocabulary");
  PinAxesFrom(call, call.flows[1]->axes, 0, call.flows[1]->axes.size(), "indices");
  call.out[0]->axes.back() = w[1];
}

// Statistics of each channel by itself (dimension 1).
void ChannelNorm(OperatorCall& call) {
  const Args args(call);
  const std::vector<ChannelsOfAxis> x = args.Axes("input");
  const std::string why = Why(call, "normalises values that can't shrink");
  for (size_t d = 0; d < x.size(); ++d) {
    if (d != 1) call.channels.Pin(x[d], Why(call, "statistics over channels"));
  }
  for (const char* name : {"weight", "bias", "running_mean", "running_var"}) {
    if (args.Tensor(name) != nullptr) call.channels.Join(x[1], args.Axes(name)[0], why);
  }
  call.out[0]->axes = x;
}

// Statistics of each of `num_groups` runs of channels: whole runs are dropped.
void GroupNorm(OperatorCall& call) {
  const Args args(call);
  const std::vector<ChannelsOfAxis> x = args.Axes("input");
  const int64_t count = call.inputs[0].toTensor().size(1), groups = args.Int("num_groups", 1);
  for (size_t d = 0; d < x.size(); ++d) {
    if (d != 1) call.channels.Pin(x[d], Why(call, "statistics over channels"));
  }
  if (groups == 1) {
    call.channels.Pin(x[1], Why(call, "statistics over channels"));
  } else {
    call.channels.JoinRuns(x[1], count / groups, Why(call, "its groups are whole"));
    CountsChannels(call, "num_groups", -1, x[1], count / groups);
  }
  for (const char* name : {"weight", "bias"}) {
    if (args.Tensor(name) != nullptr) call.channels.Join(x[1], args.Axes(name)[0], Why(call, "normalises values that can't shrink"));
  }
  call.out[0]->axes = x;
}

// Statistics over the last dimensions: with fewer channels they would be others.
void LayerNorm(OperatorCall& call) {
  const Args args(call);
  const std::vector<ChannelsOfAxis> x = args.Axes("input");
  const size_t normalized = args.Value("normalized_shape")->toIntVector().size();
  PinAxesFrom(call, x, x.size() - normalized, x.size(), "statistics over channels");
  for (const char* name : {"weight", "bias"}) {
    const std::vector<ChannelsOfAxis> axes = args.Axes(name);
    for (size_t d = 0; d < axes.size(); ++d) call.channels.Join(x[x.size() - normalized + d], axes[d], Why(call, "statistics over channels"));
  }
  call.out[0]->axes = x;
}

// Sums, means, maxima over some dimensions ("dim"; all of them where it is absent), which must hold no channels.
void Reduction(OperatorCall& call) {
  const Args args(call);
  if (args.Tensor("other") != nullptr) return Elementwise(call);
  const std::vector<ChannelsOfAxis> x = call.flows[0]->axes;
  std::set<size_t> over;
  const c10::IValue* dim = args.Value("dim");
  if (dim != nullptr && dim->isInt()) over.insert(Wrap(dim->toInt(), x.size()));
  if (dim != nullptr && dim->isIntList()) {
    for (const int64_t one : dim->toIntVector()) over.insert(Wrap(one, x.size()));
  }
  if (over.empty()) {
    for (size_t d = 0; d < x.size(); ++d) over.insert(d);
  }
  const c10::IValue* keepdim = args.Value("keepdim");
  const bool keep = keepdim != nullptr && keepdim->isBool() && keepdim->toBool();
  std::vector<ChannelsOfAxis> axes;
  for (size_t d = 0; d < x.size(); ++d) {
    if (over.contains(d)) {
      call.channels.Pin(x[d], Why(call, "over channels"));
      if (keep) axes.emplace_back();
    } else {
      axes.push_back(x[d]);
    }
  }
  for (FlowPtr& out : call.out) {
    axes.resize(out->axes.size());
    out->axes = axes;
  }
}

// Along "dim" every value counts: it must hold no channels. All others pass.
void AlongDimension(OperatorCall& call) {
  const Args args(call);
  const std::vector<ChannelsOfAxis>& x = call.flows[0]->axes;
  size_t dim = Wrap(args.Int("dim", 0), x.size());
  if (call.name == "aten::slice" && call.outputs[0].toTensor().sizes() == call.inputs[0].toTensor().sizes()) dim = x.size();  // takes all
  PinAxesFrom(call, x, dim, dim + 1, "over channels");
  // A list of parts, or one tensor.
  const auto pass = [&](Flow& out) {
    for (size_t d = 0; d < out.axes.size() && d < x.size(); ++d) {
      if (d != dim) out.axes[d] = x[d];
    }
  };
  for (FlowPtr& out : call.out) {
    pass(*out);
    for (FlowPtr& item : out->items) pass(*item);
  }
}
// As above, and the dimension goes away.
void SelectOne(OperatorCall& call) {
  const Args args(call);
  const std::vector<ChannelsOfAxis>& x = call.flows[0]->axes;
  const size_t dim = Wrap(args.Int("dim", 0), x.size());
  PinAxesFrom(call, x, dim, dim + 1, "one channel of many");
  const auto pass = [&](Flow& out) {
    for (size_t d = 0; d < out.axes.size() && d + 1 < x.size(); ++d) out.axes[d] = x[d < dim ? d : d + 1];
  };
  for (FlowPtr& out : call.out) {
    pass(*out);
    for (FlowPtr& item : out->items) pass(*item);
  }
}

void Permute(OperatorCall& call) {
  const Args args(call);
  const std::vector<ChannelsOfAxis> x = call.flows[0]->axes;
  std::vector<ChannelsOfAxis>& axes = call.out[0]->axes;
  call.out[0]->path = call.flows[0]->path;
  if (const c10::IValue* dims = args.Value("dims"); dims != nullptr) {
    const std::vector<int64_t> order = dims->toIntVector();
    for (size_t d = 0; d < axes.size(); ++d) axes[d] = x[Wrap(order[d], x.size())];
    return;
  }
  axes = x;
  if (x.size() < 2) return;
  std::swap(axes[Wrap(args.Int("dim0", 0), x.size())], axes[Wrap(args.Int("dim1", 1), x.size())]);
}

// The same values in the same order under other dimensions. Dimensions that are merged repeat each channel; one that is split again gives
// the channels back to the part along which they lie; one that is split otherwise (heads of attention) is dropped by whole parts.
void Reshape(OperatorCall& call) {
  const std::vector<ChannelsOfAxis> x = call.flows[0]->axes;
  const std::vector<int64_t> from = call.inputs[0].toTensor().sizes().vec(), to = call.outputs[0].toTensor().sizes().vec();
  std::vector<ChannelsOfAxis>& axes = call.out[0]->axes;
  size_t i = 0, j = 0;
  while (i < from.size() && j < to.size()) {
    // The smallest runs of dimensions that hold equally many values.
    const size_t first_in = i, first_out = j;
    int64_t in = from[i++], out = to[j++];
    while (in != out) {
      if (in < out) {
        if (i == from.size()) break;
        in *= from[i++];
      } else {
        if (j == to.size()) break;
        out *= to[j++];
      }
    }
    if (in != out) break;
    if (i - first_in == 1 && j - first_out == 1) {
      axes[first_out] = x[first_in];
      continue;
    }
    std::optional<size_t> carries;
    bool several = false;
    for (size_t d = first_in; d < i; ++d) {
      if (x[d].empty() || from[d] == 1) continue;
      several = several || carries.has_value();
      carries = d;
    }
    if (!carries.has_value()) continue;
    if (several) {
      PinAxesFrom(call, x, first_in, i, "merges two dimensions that hold channels");
      continue;
    }
    int64_t inner = 1;
    for (size_t d = *carries + 1; d < i; ++d) inner *= from[d];
    const int64_t size = from[*carries];
    const auto channel_at = [&](int64_t index) { return call.channels.Find(x[*carries][static_cast<size_t>(index / inner % size)]); };
    // The one dimension along which the channel changes, if there is one.
    std::optional<size_t> along;
    for (size_t d = first_out; d < j && !along.has_value(); ++d) {
      int64_t stride = 1;
      for (size_t e = d + 1; e < j; ++e) stride *= to[e];
      bool alone = to[d] > 1;
      ChannelsOfAxis axis(static_cast<size_t>(to[d]));
      for (int64_t k = 0; k < to[d] && alone; ++k) axis[static_cast<size_t>(k)] = channel_at(k * stride);
      for (int64_t k = 0; k < in && alone; ++k) alone = channel_at(k) == axis[static_cast<size_t>(k / stride % to[d])];
      if (!alone) continue;
      along = d;
      axes[d] = std::move(axis);
    }
    if (along.has_value()) continue;
    size_t part = first_out;
    while (part + 1 < j && to[part] == 1) ++part;
    const int64_t length = in / to[part];
    if (first_in + 1 != i) {
      PinAxesFrom(call, x, first_in, i, "splits and merges dimensions that hold channels");
      continue;
    }
    call.channels.JoinRuns(x[*carries], length, Why(call, "its parts are whole"));
    for (int64_t k = 0; k < to[part]; ++k) axes[part].push_back(call.channels.Find(x[*carries][static_cast<size_t>(k * length)]));
  }
  for (const char* name : {"size", "shape", "sizes"}) {
    const c10::IValue* shape = Args(call).Value(name);
    if (shape == nullptr || !shape->isIntList()) continue;
    const std::vector<int64_t> sizes = shape->toIntVector();
    const size_t offset = call.name == "aten::unflatten" ? Wrap(Args(call).Int("dim", 0), x.size()) : 0;
    for (size_t d = 0; d < sizes.size(); ++d) {
      if (sizes[d] != -1 && offset + d < axes.size()) CountsChannels(call, name, static_cast<int64_t>(d), axes[offset + d]);
    }
  }
}

// Dimensions of one value are repeated, and new ones come in front.
void Expand(OperatorCall& call) {
  const std::vector<ChannelsOfAxis> x = call.flows[0]->axes;
  const at::Tensor &from = call.inputs[0].toTensor(), &to = call.outputs[0].toTensor();
  std::vector<ChannelsOfAxis>& axes = call.out[0]->axes;
  const c10::IValue* sizes = Args(call).Value("size");
  for (size_t back = 1; back <= x.size(); ++back) {
    if (from.size(-static_cast<int64_t>(back)) != to.size(-static_cast<int64_t>(back))) continue;
    const size_t d = axes.size() - back;
    axes[d] = x[x.size() - back];
    if (sizes != nullptr && sizes->isIntList() && sizes->toIntVector()[d] != -1) CountsChannels(call, "size", static_cast<int64_t>(d), axes[d]);
  }
}

// One after another along "dim"; all other dimensions meet.
void Concatenate(OperatorCall& call) {
  std::vector<ChannelsOfAxis>& axes = call.out[0]->axes;
  const size_t dim = Wrap(Args(call).Int("dim", 0), axes.size());
  const c10::List<at::Tensor> tensors = call.inputs[0].toTensorList();
  const std::vector<FlowPtr>& flows = call.flows[0]->items;
  bool carries = false;
  ChannelsOfAxis joined;
  for (size_t i = 0; i < flows.size(); ++i) {
    const at::Tensor& tensor = tensors[i];
    if (flows[i]->axes.size() != axes.size()) continue;  // an empty tensor adds nothing
    const ChannelsOfAxis& part = flows[i]->axes[dim];
    carries = carries || !part.empty();
    joined.insert(joined.end(), part.begin(), part.end());
    joined.resize(joined.size() + static_cast<size_t>(tensor.size(static_cast<int64_t>(dim))) - part.size(), kInert);
    for (size_t d = 0; d < axes.size(); ++d) {
      if (d == dim) continue;
      if (i == 0) axes[d] = flows[i]->axes[d];
      if (!axes[d].empty() || !flows[i]->axes[d].empty()) call.channels.Join(axes[d], flows[i]->axes[d], Why(call, "meets values that can't shrink"));
    }
  }
  axes[dim] = carries ? std::move(joined) : ChannelsOfAxis();
}

// A slope a channel, or one for all.
void Prelu(OperatorCall& call) {
  const std::vector<ChannelsOfAxis> x = call.flows[0]->axes;
  const at::Tensor& weight = call.inputs[1].toTensor();
  if (weight.numel() > 1) call.channels.Join(x[x.size() > 1 ? 1 : 0], call.flows[1]->axes[0], Why(call, "meets values that can't shrink"));
  call.out[0]->axes = x;
}

struct Row {
  void (*rule)(OperatorCall&);
  const char* operators;  // of namespace aten; those that end in _ work in place
};

// Which rule an operator follows. What is not named here pins all channels that reach it.
constexpr Row kTable[] = {
    {Elementwise,
     "relu relu_ relu6 relu6_ hardtanh hardtanh_ hardswish hardswish_ hardsigmoid hardsigmoid_ silu silu_ gelu mish mish_ sigmoid sigmoid_ tanh tanh_ "
     "leaky_relu leaky_relu_ elu elu_ selu selu_ celu celu_ softplus log_sigmoid threshold threshold_ clamp clamp_ clamp_min clamp_max exp log sqrt "
     "rsqrt square abs neg pow erf sin cos reciprocal round floor ceil sign "
     "add add_ sub sub_ rsub mul mul_ div div_ maximum minimum where addcmul addcdiv lerp masked_fill eq ne lt le gt ge logical_not logical_and "
     "dropout dropout_ feature_dropout feature_dropout_ alpha_dropout alpha_dropout_ feature_alpha_dropout "
     "contiguous clone detach to type_as float zeros_like ones_like alias"},
    {Convolution<false>, "conv1d conv2d conv3d _convolution convolution"},
    {Convolution<true>, "conv_transpose1d conv_transpose2d conv_transpose3d"},
    {Linear, "linear"},
    {MatrixProduct, "matmul mm bmm"},
    {AddedProduct, "addmm baddbmm"},
    {Embedding, "embedding"},
    {ChannelNorm, "batch_norm instance_norm"},
    {GroupNorm, "group_norm"},
    {LayerNorm, "layer_norm"},
    {Prelu, "prelu"},
    {OverPositions<1>, "max_pool1d avg_pool1d adaptive_avg_pool1d adaptive_max_pool1d upsample_nearest1d upsample_linear1d"},
    {OverPositions<2>,
     "max_pool2d max_pool2d_with_indices avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d"},
    {OverPositions<3>, "max_pool3d avg_pool3d adaptive_avg_pool3d adaptive_max_pool3d upsample_nearest3d upsample_trilinear3d"},
    {Resize, "constant_pad_nd pad reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d zero_pad2d"},
    {Reduction, "mean sum amax amin max min std var prod norm logsumexp argmax"},
    {AlongDimension, "softmax log_softmax cumsum slice narrow chunk split split_with_sizes"},
    {SelectOne, "select unbind"},
    {Permute, "permute transpose transpose_ t t_ swapaxes"},
    {Reshape, "view reshape flatten unflatten squeeze squeeze_ unsqueeze unsqueeze_ view_as reshape_as"},
    {Expand, "expand expand_as"},
    {Concatenate, "cat concat"},
    {ShapeOnly, "size dim len numel is_floating_point is_complex __is__ __isnot__ requires_grad"},
};

const std::map<std::string, void (*)(OperatorCall&)>& Rules() {
  static const auto* rules = [] {
    auto* made = new std::map<std::string, void (*)(OperatorCall&)>();
    for (const Row& row : kTable) {
      for (const absl::string_view name : absl::StrSplit(row.operators, ' ', absl::SkipEmpty())) made->emplace(absl::StrCat("aten::", name), row.rule);
    }
    return made;
  }();
  return *rules;
}

bool CarriesChannels(const Flow& flow) {
  return std::any_of(flow.axes.begin(), flow.axes.end(), [](const ChannelsOfAxis& axis) { return !axis.empty(); }) ||
         std::any_of(flow.items.begin(), flow.items.end(), [](const FlowPtr& item) { return CarriesChannels(*item); });
}

}  // namespace

void ApplyChannelRule(OperatorCall& call) {
  bool carries = false, from_sizes = false;
  for (const FlowPtr& flow : call.flows) {
    carries = carries || CarriesChannels(*flow);
    from_sizes = from_sizes || flow->from_sizes;
  }
  for (FlowPtr& out : call.out) {
    if (from_sizes) SetFromSizes(*out);
  }
  if (call.name.starts_with("prim::")) return ShapeOnly(call);  // dtype, device, layout
  auto rule = Rules().find(call.name);
  if (rule != Rules().end() && (carries || rule->second == ShapeOnly)) return rule->second(call);
  if (!carries) return;
  for (const FlowPtr& flow : call.flows) PinFlow(call, *flow, absl::StrCat(call.name, ": no rule for this operator"));
}

bool IsDropout(const torch::jit::Node& node) {
  static const auto* names = new std::set<std::string>{"aten::dropout", "aten::dropout_", "aten::feature_dropout", "aten::feature_dropout_", "aten::alpha_dropout",
                                                       "aten::alpha_dropout_", "aten::feature_alpha_dropout"};
  return names->contains(node.kind().toQualString());
}

}  // namespace fedwatt::internal

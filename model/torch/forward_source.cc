// What a network computes, as TorchScript source.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "network.h"

namespace fedwatt::internal {
namespace {

// Lines that turn `x` into what the layer gives; "" where it is left alone.
std::string Indent(const std::string& lines) { return absl::StrCat("    ", absl::StrReplaceAll(lines, {{"\n", "\n    "}}), "\n"); }

std::string Number(double value) { return absl::StrFormat("%.17e", value); }

// As AttendByFeatures: q, k are phi(q), phi(k), [n, L, f]; v is [n, L, s]. Chunks are worked out from the length at hand.
constexpr char kAttendByFeatures[] = R"(n, l, s = v.size(0), v.size(1), v.size(2)
f = q.size(2)
chunks = (l + 63) // 64
chunk = (l + chunks - 1) // chunks
u = torch.cat([v, torch.ones([n, l, 1])], 2)
rest = chunks * chunk - l
qc = torch.constant_pad_nd(q, [0, 0, 0, rest], 0).reshape([n * chunks, chunk, f])
kc = torch.constant_pad_nd(k, [0, 0, 0, rest], 0).reshape([n * chunks, chunk, f])
uc = torch.constant_pad_nd(u, [0, 0, 0, rest], 0).reshape([n * chunks, chunk, s + 1])
total = torch.matmul(kc.transpose(1, 2), uc).view([n, chunks, f, s + 1])
before = torch.constant_pad_nd(torch.cumsum(total[:, :chunks - 1], 1), [0, 0, 0, 0, 1, 0], 0).reshape([n * chunks, f, s + 1])
sums = torch.matmul(torch.tril(torch.matmul(qc, kc.transpose(1, 2))), uc) + torch.matmul(qc, before)
sums = sums.view([n, chunks * chunk, s + 1])[:, :l]
y = sums[:, :, :s] / (sums[:, :, s:] + 1e-06))";

constexpr char kAttendSoftmax[] = R"(l = q.size(1)
mask = torch.triu(torch.full([l, l], -1e30), 1)
y = torch.matmul(torch.softmax(torch.matmul(q * $scale, k.transpose(1, 2)) + mask, 2), v))";

// As AttendLocal.
constexpr char kAttendLocal[] = R"(n, l, s = v.size(0), v.size(1), v.size(2)
w = min($window, l)
g = min($global, l)
blocks = (l + w - 1) // w
rest = blocks * w - l
qb = torch.constant_pad_nd(q * $scale, [0, 0, 0, rest], 0).reshape([n, blocks, w, s])
kb = torch.constant_pad_nd(k, [0, 0, 0, rest], 0).reshape([n, blocks, w, s])
vb = torch.constant_pad_nd(v, [0, 0, 0, rest], 0).reshape([n, blocks, w, s])
ks = torch.cat([k[:, :g].unsqueeze(1).expand([n, blocks, g, s]), torch.constant_pad_nd(kb[:, :blocks - 1], [0, 0, 0, 0, 1, 0], 0), kb], 2)
vs = torch.cat([v[:, :g].unsqueeze(1).expand([n, blocks, g, s]), torch.constant_pad_nd(vb[:, :blocks - 1], [0, 0, 0, 0, 1, 0], 0), vb], 2)
i = torch.arange(blocks * w).view([blocks, w, 1])
j = torch.arange(2 * w) - w + torch.arange(blocks).view([blocks, 1, 1]) * w
near = (j >= g) & (j <= i) & (j > i - w)
first = torch.arange(g).view([1, 1, g]) <= i
mask = torch.where(torch.cat([first, near], 2), torch.zeros([1]), torch.full([1], -1e30))
y = torch.matmul(torch.softmax(torch.matmul(qb, ks.transpose(2, 3)) + mask, 3), vs).reshape([n, blocks * w, s])[:, :l])";

std::string RandomFeatureMap(const Attention& layer) {
  const auto& kernel = std::get<RandomFeatureAttention>(layer.kernel);
  const double scale = 1 / std::sqrt(static_cast<double>(layer.head_size));
  return absl::StrReplaceAll(R"(p = self.$name.features.t() * $root
q = torch.matmul(q, p)
q = torch.exp(q - torch.amax(q, [-1], True)) * $norm
k = torch.exp(torch.matmul(k, p) - torch.sum(k * k, [-1], True) * $half) * $norm)",
                             {{"$name", layer.name},
                              {"$root", Number(std::sqrt(scale))},
                              {"$half", Number(0.5 * scale)},
                              {"$norm", Number(1 / std::sqrt(static_cast<double>(kernel.features)))}});
}

std::string FeatureMap(const Attention& layer) {
  if (std::holds_alternative<RandomFeatureAttention>(layer.kernel)) return RandomFeatureMap(layer);
  return "q = torch.elu(q) + 1\nk = torch.elu(k) + 1";
}

bool ByFeatures(const Attention& layer) {
  return std::holds_alternative<LinearAttention>(layer.kernel) || std::holds_alternative<RandomFeatureAttention>(layer.kernel);
}

struct Line {
  const PlacedLayer& placed;
  std::vector<size_t>& residuals;  // ranks of those that have begun
  bool one_position = false;       // in step()

  std::string operator()(const Flatten&) const { return "x = torch.flatten(x, 1)"; }
  std::string operator()(const Linear& l) const { return absl::StrFormat("x = torch.linear(x, self.%1$s.weight, self.%1$s.bias)", l.name); }
  std::string operator()(const Conv2d& l) const {
    return absl::StrFormat("x = torch.conv2d(x, self.%1$s.weight, self.%1$s.bias, [1, 1], [%2$d, %2$d], [1, 1], 1)", l.name, l.padding);
  }
  std::string operator()(const DepthwiseConv2d& l) const {
    return absl::StrFormat("x = torch.conv2d(x, self.%1$s.weight, self.%1$s.bias, [%2$d, %2$d], [%3$d, %3$d], [1, 1], x.size(1))", l.name, l.stride, l.padding);
  }
  std::string operator()(const Relu&) const { return "x = torch.relu(x)"; }
  std::string operator()(const MaxPool2d& l) const {
    return absl::StrFormat("x = torch.max_pool2d(x, [%1$d, %1$d], [%1$d, %1$d], [0, 0], [1, 1], False)", l.size);
  }
  std::string operator()(const GlobalAveragePool&) const { return "x = torch.mean(x, [2, 3])"; }
  std::string operator()(const Dropout&) const { return ""; }
  std::string operator()(const Embedding& l) const { return absl::StrFormat("x = torch.embedding(self.%s.weight, x)", l.name); }
  std::string operator()(const Rows&) const { return placed.input_shape.size() == 2 ? "" : "x = torch.flatten(x.permute([0, 2, 1, 3]), 2)"; }
  std::string operator()(const SinusoidalPositions&) const { return Positions("torch.arange(x.size(1))"); }
  std::string operator()(const LayerNorm&) const { return "x = torch.layer_norm(x, [x.size(-1)])"; }
  std::string operator()(const ResidualBegin&) const {
    residuals.push_back(placed.input_shape.size());
    return absl::StrCat("r", residuals.size(), " = x");
  }
  std::string operator()(const ResidualEnd&) const {
    const bool last = !one_position && residuals.back() != placed.input_shape.size();
    const std::string line = absl::StrCat("x = x + r", residuals.size(), last ? "[:, -1]" : "");
    residuals.pop_back();
    return line;
  }
  std::string operator()(const LastPosition&) const { return "x = x[:, -1]"; }
  std::string operator()(const Lstm& l) const {
    const std::string state = absl::StrCat("torch.zeros([1, x.size(0), ", l.hidden, "])");
    return absl::StrCat("x = torch.lstm(x, [", state, ", ", state, "], ", RecurrentEntries(l.name), ", True, 1, 0.0, False, False, True)[0]");
  }
  std::string operator()(const Gru& l) const {
    return absl::StrCat("x = torch.gru(x, torch.zeros([1, x.size(0), ", l.hidden, "]), ", RecurrentEntries(l.name), ", True, 1, 0.0, False, False, True)[0]");
  }
  // The paper's own parallel form (appendix B.3), in double: sums of logarithms of whole sequences lose digits in float.
  std::string operator()(const MinGru& l) const {
    return absl::StrFormat(R"(z, g = torch.unbind(torch.linear(x, self.%1$s.weight, self.%1$s.bias).to(7).view([x.size(0), x.size(1), 2, -1]), 2)
a = torch.cumsum(-torch.softplus(z), 1)
b = torch.where(g >= 0, torch.log(torch.relu(g) + 0.5), -torch.softplus(-g)) - torch.softplus(-z)
x = torch.exp(a + torch.logcumsumexp(b - a, 1)).to(6))",
                           l.name);
  }
  std::string operator()(const Attention& l) const {
    std::string lines = absl::StrFormat(
        "q, k, v = torch.unbind(torch.flatten(torch.linear(x, self.%1$s.weight, self.%1$s.bias).view([x.size(0), x.size(1), 3, %2$d, %3$d])"
        ".permute([2, 0, 3, 1, 4]), 1, 2), 0)\n",
        l.name, l.heads, l.head_size);
    const std::string scale = Number(1 / std::sqrt(static_cast<double>(l.head_size)));
    if (ByFeatures(l)) absl::StrAppend(&lines, FeatureMap(l), "\n", kAttendByFeatures);
    if (std::holds_alternative<SoftmaxAttention>(l.kernel)) absl::StrAppend(&lines, absl::StrReplaceAll(kAttendSoftmax, {{"$scale", scale}}));
    if (const auto* local = std::get_if<LocalAttention>(&l.kernel)) {
      absl::StrAppend(&lines, absl::StrReplaceAll(kAttendLocal, {{"$scale", scale}, {"$window", absl::StrCat(local->window)}, {"$global", absl::StrCat(local->global_tokens)}}));
    }
    return absl::StrFormat("%s\nx = torch.flatten(y.view([x.size(0), %d, x.size(1), %d]).transpose(1, 2), 2)", lines, l.heads, l.head_size);
  }
  std::string operator()(const RepeatInTime& l) const {
    std::string ones;
    for (size_t i = 0; i < placed.input_shape.size(); ++i) absl::StrAppend(&ones, ", 1");
    return absl::StrCat("x = x.repeat([", l.steps, ones, "])");
  }
  std::string operator()(const LeakyIntegrateAndFire& l) const {
    std::string lines = absl::StrFormat("c = torch.chunk(x, %d, 0)\nu = c[0]\ns0 = (u >= 1).to(x.dtype)\n", placed.input_steps);
    std::string spikes = "s0";
    for (int64_t t = 1; t < placed.input_steps; ++t) {
      absl::StrAppendFormat(&lines, "u = u * %1$s + c[%2$d] - s%3$d\ns%2$d = (u >= 1).to(x.dtype)\n", Number(static_cast<float>(l.leak)), t, t - 1);
      absl::StrAppend(&spikes, ", s", t);
    }
    return absl::StrCat(lines, "x = torch.cat([", spikes, "], 0)");
  }
  std::string operator()(const MeanOverTime&) const { return absl::StrFormat("x = torch.mean(torch.stack(torch.chunk(x, %d, 0), 0), [0])", placed.input_steps); }

  std::string Positions(const std::string& positions) const {
    const int64_t width = placed.input_shape[1];
    return absl::StrFormat(
        "rate = torch.exp(torch.arange(%1$d).to(6) * %2$s)\nangle = %3$s.to(6).unsqueeze(1) * rate\n"
        "x = x + torch.flatten(torch.stack([torch.sin(angle), torch.cos(angle)], 2), 1)[:, :%4$d]",
        (width + 1) / 2, Number(-2 * std::log(10000.0) / static_cast<double>(width)), positions, width);
  }

 private:
  static std::string RecurrentEntries(const std::string& name) {
    return absl::StrFormat("[self.%1$s.weight_ih_l0, self.%1$s.weight_hh_l0, self.%1$s.bias_ih_l0, self.%1$s.bias_hh_l0]", name);
  }
};

// One position: x is [batch, in]. `state[i]` of the layer is `slot`, its first value `start`. Layers that see one position as they see many do as in forward().
struct StepLine {
  Line line;
  std::string slot;   // "state[3]"
  std::string start;  // out: set by layers that have state; `batch` examples

  std::string operator()(const Rows&) { return ""; }
  std::string operator()(const LastPosition&) { return ""; }
  std::string operator()(const SinusoidalPositions&) {
    start = "torch.zeros([1])";
    return absl::StrCat(line.Positions(slot), "\nlater.append(", slot, " + 1)");
  }
  std::string operator()(const Gru& l) {
    start = absl::StrFormat("torch.zeros([batch, %d])", l.hidden);
    return absl::StrFormat("x = torch.gru_cell(x, %2$s, self.%1$s.weight_ih_l0, self.%1$s.weight_hh_l0, self.%1$s.bias_ih_l0, self.%1$s.bias_hh_l0)\nlater.append(x)", l.name,
                           slot);
  }
  std::string operator()(const MinGru& l) {
    start = absl::StrFormat("torch.zeros([batch, %d])", l.hidden);
    return absl::StrFormat(R"(z, g = torch.unbind(torch.linear(x, self.%1$s.weight, self.%1$s.bias).view([x.size(0), 2, -1]), 1)
x = %2$s + torch.sigmoid(z) * (torch.where(g >= 0, g + 0.5, torch.sigmoid(g)) - %2$s)
later.append(x))",
                           l.name, slot);
  }
  std::string operator()(const Attention& l) {
    const int64_t features = std::holds_alternative<LinearAttention>(l.kernel) ? l.head_size : std::get<RandomFeatureAttention>(l.kernel).features;
    start = absl::StrFormat("torch.zeros([batch, %d, %d, %d])", l.heads, features, l.head_size + 1);
    return absl::StrFormat(R"(q, k, v = torch.unbind(torch.linear(x, self.%1$s.weight, self.%1$s.bias).view([x.size(0), 3, %2$d, %3$d]), 1)
%4$s
u = torch.cat([v, torch.ones([x.size(0), %2$d, 1])], 2)
m = %5$s + k.unsqueeze(3) * u.unsqueeze(2)
later.append(m)
t = torch.matmul(q.unsqueeze(2), m).squeeze(2)
x = torch.flatten(t[:, :, :%3$d] / (t[:, :, %3$d:] + 1e-06), 1))",
                           l.name, l.heads, l.head_size, FeatureMap(l), slot);
  }
  template <typename Other>
  std::string operator()(const Other& other) {
    return line(other);
  }
};

}  // namespace

bool HasStep(const PlacedNetwork& network) {
  bool remembers = false;
  for (const PlacedLayer& placed : network.layers) {
    const Layer& layer = placed.layer;
    const auto* attention = std::get_if<Attention>(&layer);
    if (attention != nullptr && !ByFeatures(*attention)) return false;
    remembers = remembers || attention != nullptr || std::holds_alternative<Gru>(layer) || std::holds_alternative<MinGru>(layer);
    const bool one_position = attention != nullptr || std::holds_alternative<Linear>(layer) || std::holds_alternative<Relu>(layer) ||
                              std::holds_alternative<Dropout>(layer) || std::holds_alternative<Embedding>(layer) || std::holds_alternative<Rows>(layer) ||
                              std::holds_alternative<SinusoidalPositions>(layer) || std::holds_alternative<LayerNorm>(layer) ||
                              std::holds_alternative<ResidualBegin>(layer) || std::holds_alternative<ResidualEnd>(layer) ||
                              std::holds_alternative<LastPosition>(layer) || std::holds_alternative<Gru>(layer) || std::holds_alternative<MinGru>(layer);
    if (!one_position) return false;
  }
  return remembers;
}

std::string ForwardSource(const PlacedNetwork& network) {
  std::vector<size_t> residuals;
  std::string source = "def forward(self, x):\n";
  for (const PlacedLayer& placed : network.layers) {
    if (const std::string lines = std::visit(Line{placed, residuals}, placed.layer); !lines.empty()) absl::StrAppend(&source, Indent(lines));
  }
  absl::StrAppend(&source, "    return x\n");
  if (!HasStep(network)) return source;
  std::string starts, step = "def step(self, x, state: List[Tensor]) -> Tuple[Tensor, List[Tensor]]:\n    later: List[Tensor] = []\n";
  int64_t slots = 0;
  for (const PlacedLayer& placed : network.layers) {
    StepLine line{{placed, residuals, /*one_position=*/true}, absl::StrCat("state[", slots, "]"), ""};
    if (const std::string lines = std::visit(line, placed.layer); !lines.empty()) absl::StrAppend(&step, Indent(lines));
    if (line.start.empty()) continue;
    absl::StrAppend(&starts, slots++ == 0 ? "" : ", ", line.start);
  }
  return absl::StrCat(source, step, "    return x, later\ndef start(self, batch: int) -> List[Tensor]:\n    return [", starts, "]\n");
}

}  // namespace fedwatt::internal

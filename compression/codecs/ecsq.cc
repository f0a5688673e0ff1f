// ecsq: an entropy-coded scalar quantizer with one step for all values.
//
//   symbol_i = sign(x_i) * floor(|x_i| / S + 1 - T)      T = 1/2: to the nearest, halves away from zero
//   decoded  = symbol_i * S
//
// One step for all layers is reverse water-filling: parallel sources share a distortion best when each has the same, as far as its variance
// reaches (Cover, Thomas, "Elements of Information Theory", 10.3.3), and layers with less spend next to no bits, since their symbols are zeros.
// A uniform quantizer with entropy coding is within 0.25 bit of the rate-distortion bound at high rates and closer at low ones; for a Laplacian a
// wider zero bin (T > 1/2) is better still (Sullivan 1996, IEEE Trans. Inf. Theory 42(5)).
//
// Options, one of the first four:
//   step=S        S itself, > 0
//   multiple=M    S = M * root of the mean square of all values; the default is 3
//   rate=R        S such that the symbols' zero-order entropy, segment by segment, is R bits a value, as near from below as 24 halvings find;
//                 R in [0.005, 16]
//   distortion=D  the widest S found by 24 halvings with sum (decoded - x)^2 <= D * sum x^2; D in (0, 1]
//   deadzone=T    T in [0.5, 1], default 0.5
//
// |error| <= T * S, and <= |x|. Bytes: S as float32, then EncodeSymbols by segment; all symbols zero: a step of 0 and nothing else.
// Cost: one vectorised pass to find what is not zero, then as the symbols; `rate` and `distortion` search in about 24 passes.
// Deterministic: quotients are computed in float64, which IEEE 754 fixes.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <map>
#include <vector>

#include "codec_support.h"
#include "fedwatt/base/status_macros.h"
#include "kernels.h"
#include "stage_support.h"
#include "step_support.h"

namespace fedwatt {
namespace {

constexpr size_t kChunk = 4096;

struct Options {
  enum class Kind { kStep, kMultiple, kRate, kDistortion } kind = Kind::kMultiple;
  double target = 3;
  double deadzone = 0.5;
};

std::vector<int64_t> RowLengths(absl::Span<const Segment> segments) {
  std::vector<int64_t> lengths;
  lengths.reserve(segments.size());
  for (const Segment& segment : segments) lengths.push_back(segment.columns);
  return lengths;
}

class Ecsq : public Codec {
 public:
  explicit Ecsq(const Options& options) : options_(options) {}
  std::string_view name() const override { return "ecsq"; }
  bool sparse() const override { return true; }

  absl::StatusOr<std::string> Encode(absl::Span<const float> values, const CodingContext& context) const override {
    FEDWATT_CHECK(internal::CountValues(context.segments) == static_cast<int64_t>(values.size()));
    if (values.empty()) return std::string();
    const float step = FindStep(values, context.segments);
    SparseSymbols symbols;
    FEDWATT_RETURN_IF_ERROR(Quantize(values, step, symbols));
    if (symbols.indices.empty()) return internal::PutStep(0);
    FEDWATT_ASSIGN_OR_RETURN(std::string coded, EncodeSymbols(internal::CountsOf(context.segments), symbols, 0, RowLengths(context.segments)));
    return internal::PutStep(step) + coded;
  }

  absl::Status Decode(std::string_view bytes, const CodingContext& context, absl::Span<float> out) const override {
    FEDWATT_CHECK(internal::CountValues(context.segments) == static_cast<int64_t>(out.size()));
    SparseSymbols symbols;
    float step = 0;
    FEDWATT_RETURN_IF_ERROR(DecodeSymbolsOf(bytes, context, step, symbols));
    std::fill(out.begin(), out.end(), 0.0f);
    for (size_t i = 0; i < symbols.indices.size(); ++i) out[symbols.indices[i]] = internal::DecodeSymbol(symbols.symbols[i], step);
    return absl::OkStatus();
  }

  absl::Status DecodeSparse(std::string_view bytes, const CodingContext& context, SparseValues& out) const override {
    SparseSymbols symbols;
    symbols.indices = std::move(out.indices);  // its memory
    float step = 0;
    FEDWATT_RETURN_IF_ERROR(DecodeSymbolsOf(bytes, context, step, symbols));
    out.values.resize(symbols.symbols.size());
    for (size_t i = 0; i < out.values.size(); ++i) out.values[i] = internal::DecodeSymbol(symbols.symbols[i], step);
    out.indices = std::move(symbols.indices);
    return absl::OkStatus();
  }

  double ErrorBound(double max_abs) const override {
    double step = DBL_MAX;
    if (options_.kind == Options::Kind::kStep) step = internal::StepOf(options_.target);
    if (options_.kind == Options::Kind::kMultiple) step = internal::StepOf(options_.target * max_abs);
    return std::min(max_abs, step * options_.deadzone) * (1 + 0x1p-20) + FLT_TRUE_MIN;
  }

 private:
  absl::Status DecodeSymbolsOf(std::string_view bytes, const CodingContext& context, float& step, SparseSymbols& symbols) const {
    const int64_t count = internal::CountValues(context.segments);
    FEDWATT_RETURN_IF_ERROR(internal::TakeStep(name(), bytes, count, step));
    return DecodeSymbols(bytes, internal::CountsOf(context.segments), count, symbols, 0, RowLengths(context.segments));
  }

  absl::Status Quantize(absl::Span<const float> values, float step, SparseSymbols& symbols) const {
    const float threshold = static_cast<float>(step * options_.deadzone * internal::kCandidateSlack);
    const double bias = 1 - options_.deadzone;
    std::vector<uint32_t> places(kChunk + internal::kPlacePadding);
    symbols.indices.clear();
    symbols.symbols.clear();
    for (size_t begin = 0; begin < values.size(); begin += kChunk) {
      const absl::Span<const float> chunk = values.subspan(begin, kChunk);
      const size_t found = internal::FindAtLeast(chunk, threshold, places.data());
      size_t kept = symbols.indices.size();
      symbols.indices.resize(kept + found);
      symbols.symbols.resize(kept + found);
      for (size_t i = 0; i < found; ++i) {
        const float value = chunk[places[i]];
        const double magnitude = std::fabs(value) / static_cast<double>(step) + bias;
        if (!(magnitude < kMaxSymbol + 1.0)) return internal::RefuseSymbol(name(), value, step);
        const int32_t symbol = static_cast<int32_t>(magnitude);
        symbols.indices[kept] = static_cast<uint32_t>(begin + places[i]);
        symbols.symbols[kept] = value < 0 ? -symbol : symbol;
        kept += symbol != 0;
      }
      symbols.indices.resize(kept);
      symbols.symbols.resize(kept);
    }
    return absl::OkStatus();
  }

  // Zero-order entropy in bits, segment by segment.
  static double Entropy(absl::Span<const Segment> segments, const SparseSymbols& symbols) {
    double bits = 0;
    int64_t end = 0;
    size_t next = 0;
    std::vector<int64_t> dense(511);
    std::map<int32_t, int64_t> rest;
    for (const Segment& segment : segments) {
      const int64_t count = segment.count();
      end += count;
      std::fill(dense.begin(), dense.end(), 0);
      rest.clear();
      const size_t first = next;
      for (; next < symbols.indices.size() && symbols.indices[next] < end; ++next) {
        const int32_t symbol = symbols.symbols[next];
        if (std::abs(symbol) < 256) {
          ++dense[static_cast<size_t>(symbol + 255)];
        } else {
          ++rest[symbol];
        }
      }
      dense[255] = count - static_cast<int64_t>(next - first);
      const auto add = [&](int64_t n) {
        if (n > 0) bits -= static_cast<double>(n) * std::log2(static_cast<double>(n) / static_cast<double>(count));
      };
      for (int64_t n : dense) add(n);
      for (const auto& [symbol, n] : rest) add(n);
    }
    return bits;
  }

  static double Distortion(absl::Span<const float> values, double squares, float step, const SparseSymbols& symbols) {
    double sum = squares;
    for (size_t i = 0; i < symbols.indices.size(); ++i) {
      const double value = values[symbols.indices[i]], error = value - internal::DecodeSymbol(symbols.symbols[i], step);
      sum += error * error - value * value;
    }
    return sum;
  }

  float FindStep(absl::Span<const float> values, absl::Span<const Segment> segments) const {
    if (options_.kind == Options::Kind::kStep) return internal::StepOf(options_.target);
    const double squares = internal::SumOfSquares(values);
    const double root = std::sqrt(squares / static_cast<double>(values.size()));
    if (options_.kind == Options::Kind::kMultiple) return internal::StepOf(options_.target * root);
    float most = 0;
    for (float value : values) most = std::max(most, std::fabs(value));
    if (!(squares > 0 && std::isfinite(most))) return 1;  // all zeros; what is not finite, Quantize refuses
    // At 2 * most all symbols are zeros, at most / 2^23 they still fit. Either property may waver on the way; what is returned satisfies it
    // unless not even the finest step does.
    double low = std::log2(most) - 23, high = std::log2(most) + 1;
    float best = internal::StepOf(std::exp2(low));
    SparseSymbols symbols;
    const bool by_rate = options_.kind == Options::Kind::kRate;
    for (int i = 0; i < 24; ++i) {
      const double middle = (low + high) / 2;
      const float step = internal::StepOf(std::exp2(middle));
      bool coarse_enough = true, fine_enough = true;
      if (!Quantize(values, step, symbols).ok()) {
        fine_enough = true, coarse_enough = false;
      } else if (by_rate) {
        coarse_enough = Entropy(segments, symbols) <= options_.target * static_cast<double>(values.size());
      } else {
        fine_enough = Distortion(values, squares, step, symbols) <= options_.target * squares;
      }
      if (by_rate ? coarse_enough : fine_enough) best = step;
      // By rate the finest step that is coarse enough, by distortion the coarsest that is fine enough.
      const bool go_down = by_rate ? coarse_enough : !fine_enough;
      (go_down ? high : low) = middle;
    }
    return best;
  }

  const Options options_;
};

absl::StatusOr<std::unique_ptr<Codec>> MakeEcsq(const CodecOptions& given) {
  FEDWATT_RETURN_IF_ERROR(internal::CheckOptionNames("ecsq", given, {"step", "multiple", "rate", "distortion", "deadzone"}));
  Options options;
  int targets = 0;
  const struct {
    const char* name;
    Options::Kind kind;
    double low, high;
  } kinds[] = {{"step", Options::Kind::kStep, FLT_TRUE_MIN, FLT_MAX},
               {"multiple", Options::Kind::kMultiple, 1e-6, 1e6},
               {"rate", Options::Kind::kRate, 0.005, 16},
               {"distortion", Options::Kind::kDistortion, 1e-12, 1}};
  for (const auto& kind : kinds) {
    const auto it = given.find(kind.name);
    if (it == given.end()) continue;
    FEDWATT_ASSIGN_OR_RETURN(options.target, internal::ParseOption("ecsq", kind.name, it->second, kind.low, kind.high));
    options.kind = kind.kind;
    ++targets;
  }
  if (targets > 1) return absl::InvalidArgumentError("codec 'ecsq': one of step, multiple, rate and distortion, not several");
  if (const auto it = given.find("deadzone"); it != given.end()) {
    FEDWATT_ASSIGN_OR_RETURN(options.deadzone, internal::ParseOption("ecsq", "deadzone", it->second, 0.5, 1));
  }
  return std::make_unique<Ecsq>(options);
}

}  // namespace

namespace internal {

void InstallCodec_ecsq(CodecRegistry& registry) { FEDWATT_CHECK(registry.Register("ecsq", MakeEcsq).ok()); }

}  // namespace internal
}  // namespace fedwatt

// ternary: -1, 0 or 1 times one scale for each segment, chosen at random so that the mean is right, and entropy-coded.
//
//   s       = max |x| over the segment; with clip=c: min(max |x|, c * root of the mean square)
//   symbol  = sign(x) * floor(min(|x| / s, 1) + u),  u uniform in (0, 1)
//   decoded = symbol * s
//
// TernGrad (Wen et al. 2017, arXiv 1705.07878). Unbiased without clip; clipping (the paper's 2.5) biases the tails and shrinks the
// variance |x| (s - |x|). The paper clips at standard deviations; the mean of an update's tensor is near 0, so that the root of the mean square is
// used. u = (k + 1/2) / 2^32, where k are the lower and then the upper halves of Random(context.seed).Next(), in coordinate order.
//
// Options: clip=C, C in [0.5, 100]; default none. |error| <= max |x|. Bytes: a float32 scale for each segment that has values, 0 where all its
// symbols are; then EncodeSymbols over the segments. Cost of decoding: as the symbols.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <vector>

#include "codec_support.h"
#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/compression/symbol_coder.h"
#include "fedwatt/model/rejection.h"
#include "kernels.h"
#include "stage_support.h"

namespace fedwatt {
namespace {

class Ternary : public Codec {
 public:
  // `clip` is infinite for none.
  explicit Ternary(double clip) : clip_(clip) {}
  std::string_view name() const override { return "ternary"; }
  bool sparse() const override { return true; }

  absl::StatusOr<std::string> Encode(absl::Span<const float> values, const CodingContext& context) const override {
    FEDWATT_CHECK(internal::CountValues(context.segments) == static_cast<int64_t>(values.size()));
    std::string bytes;
    SparseSymbols symbols;
    Random random(context.seed);
    uint64_t word = 0;
    size_t i = 0;
    for (const Segment& segment : context.segments) {
      if (segment.count() == 0) continue;
      const absl::Span<const float> part = values.subspan(i, static_cast<size_t>(segment.count()));
      FEDWATT_ASSIGN_OR_RETURN(float scale, ScaleOf(part));
      const size_t before = symbols.indices.size();
      const double inverse = scale == 0 ? 0 : 1.0 / scale;
      for (size_t end = i + part.size(); i < end; ++i) {
        word = i % 2 == 0 ? random.Next() : word >> 32;
        const double u = (static_cast<double>(static_cast<uint32_t>(word)) + 0.5) * 0x1p-32;
        if (std::min(std::fabs(values[i]) * inverse, 1.0) + u >= 1) {
          symbols.indices.push_back(static_cast<uint32_t>(i));
          symbols.symbols.push_back(values[i] < 0 ? -1 : 1);
        }
      }
      if (symbols.indices.size() == before) scale = 0;
      bytes.append(reinterpret_cast<const char*>(&scale), sizeof(scale));
    }
    FEDWATT_ASSIGN_OR_RETURN(std::string coded, EncodeSymbols(internal::CountsOf(context.segments), symbols));
    return bytes + coded;
  }

  absl::Status Decode(std::string_view bytes, const CodingContext& context, absl::Span<float> out) const override {
    return internal::DecodeBySparse(*this, bytes, context, out);
  }

  absl::Status DecodeSparse(std::string_view bytes, const CodingContext& context, SparseValues& out) const override {
    const int64_t count = internal::CountValues(context.segments);
    const auto with_values = std::count_if(context.segments.begin(), context.segments.end(), [](const Segment& s) { return s.count() > 0; });
    const size_t scale_bytes = static_cast<size_t>(with_values) * sizeof(float);
    if (bytes.size() < scale_bytes) return absl::DataLossError("ternary: the scales are truncated");
    SparseSymbols symbols;
    symbols.indices = std::move(out.indices);  // its memory
    FEDWATT_RETURN_IF_ERROR(DecodeSymbols(bytes.substr(scale_bytes), internal::CountsOf(context.segments), count, symbols));
    out.values.resize(symbols.symbols.size());
    int64_t end = 0;
    size_t i = 0;
    for (const Segment& segment : context.segments) {
      if (segment.count() == 0) continue;
      float scale;
      std::memcpy(&scale, bytes.data(), sizeof(scale));
      bytes.remove_prefix(sizeof(scale));
      end += segment.count();
      const size_t first = i;
      for (; i < symbols.indices.size() && symbols.indices[i] < end; ++i) {
        if (std::abs(symbols.symbols[i]) != 1) return absl::DataLossError(absl::StrCat("ternary: symbol ", symbols.symbols[i]));
        out.values[i] = static_cast<float>(symbols.symbols[i]) * scale;
      }
      if (!(scale >= 0 && scale <= FLT_MAX) || std::signbit(scale) || (scale == 0) != (i == first)) {
        return absl::DataLossError(absl::StrCat("ternary: a scale of ", scale, " for ", i - first, " symbols"));
      }
    }
    out.indices = std::move(symbols.indices);
    return absl::OkStatus();
  }

  double ErrorBound(double max_abs) const override { return max_abs * (1 + 0x1p-20); }

 private:
  absl::StatusOr<float> ScaleOf(absl::Span<const float> values) const {
    float most = 0;
    bool finite = true;
    for (float value : values) {
      most = std::max(most, std::fabs(value));
      finite &= std::fabs(value) <= FLT_MAX;
    }
    if (!finite) return WithRejection(absl::InvalidArgumentError("ternary: a value is not finite"), Rejection::kNotFinite);
    if (!std::isfinite(clip_)) return most;
    return static_cast<float>(std::min<double>(most, clip_ * std::sqrt(internal::SumOfSquares(values) / static_cast<double>(values.size()))));
  }

  const double clip_;
};

absl::StatusOr<std::unique_ptr<Codec>> MakeTernary(const CodecOptions& options) {
  FEDWATT_RETURN_IF_ERROR(internal::CheckOptionNames("ternary", options, {"clip"}));
  FEDWATT_ASSIGN_OR_RETURN(double clip, internal::NumberOption("ternary", options, "clip", INFINITY, 0.5, 100));
  return std::make_unique<Ternary>(clip);
}

}  // namespace

namespace internal {

void InstallCodec_ternary(CodecRegistry& registry) { FEDWATT_CHECK(registry.Register("ternary", MakeTernary).ok()); }

}  // namespace internal
}  // namespace fedwatt

#include "fedwatt/privacy/update_guard.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/model/rejection.h"

namespace fedwatt {
namespace {

// Small enough to stay in the first-level cache between its check and its sum.
constexpr size_t kChunk = 2048;

absl::Status Refuse(Rejection rejection, const absl::AlphaNum& what) {
  return WithRejection(absl::InvalidArgumentError(absl::StrCat("update: ", what)), rejection);
}

double AddSquares(absl::Span<const float> values, double sum) {
  for (float value : values) sum += static_cast<double>(value) * value;
  return sum;
}

// The bits of a float without its sign order as its magnitude does, with infinity and NaN on top, and integers have fast maxima.
absl::Status CheckValues(absl::Span<const float> values, double max_abs) {
  int32_t most = 0;
  for (float value : values) most = std::max(most, static_cast<int32_t>(std::bit_cast<uint32_t>(value) & 0x7fffffffu));
  const float magnitude = std::bit_cast<float>(most);
  if (!std::isfinite(magnitude)) return Refuse(Rejection::kNotFinite, "a value is not finite");
  if (!(magnitude <= max_abs)) {
    return Refuse(Rejection::kValueTooLarge, absl::StrCat("a value of magnitude ", magnitude, ", at most ", max_abs, " is allowed"));
  }
  return absl::OkStatus();
}

absl::Status CheckWeight(int64_t example_count, const UpdateLimits& limits) {
  if (example_count >= 1 && example_count <= limits.max_example_count) return absl::OkStatus();
  return Refuse(Rejection::kBadWeight, absl::StrCat("example_count = ", example_count, ", expected [1, ", limits.max_example_count, "]"));
}

absl::Status CheckNorm(double norm, const UpdateLimits& limits) {
  if (limits.max_norm <= 0 || norm <= limits.max_norm) return absl::OkStatus();
  return Refuse(Rejection::kNormTooLarge, absl::StrCat("L2 norm ", norm, ", at most ", limits.max_norm, " is allowed"));
}

template <typename Visit>
void ForEachParameter(const ParameterLayout& layout, Visit visit) {
  for (size_t i = 0; i < layout.entries().size(); ++i) {
    const LayoutEntry& entry = layout.entries()[i];
    if (entry.kind == EntryKind::kParameter) visit(static_cast<size_t>(layout.offset(i)), static_cast<size_t>(entry.element_count()));
  }
}

}  // namespace

absl::Status CheckUpdate(const ParameterLayout& layout, absl::Span<const float> delta, int64_t example_count, const UpdateLimits& limits) {
  if (static_cast<int64_t>(delta.size()) != layout.value_count()) {
    return Refuse(Rejection::kWrongLayout, absl::StrCat(delta.size(), " values, expected ", layout.value_count()));
  }
  FEDWATT_RETURN_IF_ERROR(CheckWeight(example_count, limits));
  double squares = 0;
  for (size_t i = 0; i < layout.entries().size(); ++i) {
    const LayoutEntry& entry = layout.entries()[i];
    if (entry.kind == EntryKind::kLocal) continue;
    const bool in_norm = limits.max_norm > 0 && entry.kind == EntryKind::kParameter;
    absl::Span<const float> rest = delta.subspan(layout.offset(i), entry.element_count());
    while (!rest.empty()) {
      absl::Span<const float> chunk = rest.subspan(0, kChunk);
      FEDWATT_RETURN_IF_ERROR(CheckValues(chunk, limits.max_abs));
      if (in_norm) squares = AddSquares(chunk, squares);
      rest.remove_prefix(chunk.size());
    }
  }
  return CheckNorm(std::sqrt(squares), limits);
}

absl::Status CheckSparseUpdate(const ParameterLayout& layout, absl::Span<const uint32_t> indices, absl::Span<const float> values, int64_t example_count,
                               const UpdateLimits& limits) {
  FEDWATT_CHECK(indices.size() == values.size());
  FEDWATT_RETURN_IF_ERROR(CheckWeight(example_count, limits));
  FEDWATT_RETURN_IF_ERROR(CheckValues(values, limits.max_abs));
  if (limits.max_norm <= 0) return absl::OkStatus();
  // Buffers do not count: where they are is looked up once, not for every value.
  std::vector<std::pair<uint32_t, uint32_t>> buffers;
  for (size_t i = 0; i < layout.entries().size(); ++i) {
    if (layout.entries()[i].kind != EntryKind::kAveragedBuffer) continue;
    buffers.push_back({static_cast<uint32_t>(layout.offset(i)), static_cast<uint32_t>(layout.offset(i) + layout.entries()[i].element_count())});
  }
  double squares = 0;
  for (size_t i = 0; i < indices.size(); ++i) {
    const bool buffer = std::any_of(buffers.begin(), buffers.end(), [&](const auto& range) { return indices[i] >= range.first && indices[i] < range.second; });
    if (!buffer) squares += static_cast<double>(values[i]) * values[i];
  }
  return CheckNorm(std::sqrt(squares), limits);
}

double ParameterNorm(const ParameterLayout& layout, absl::Span<const float> delta) {
  FEDWATT_CHECK(static_cast<int64_t>(delta.size()) == layout.value_count());
  double squares = 0;
  ForEachParameter(layout, [&](size_t begin, size_t count) { squares = AddSquares(delta.subspan(begin, count), squares); });
  return std::sqrt(squares);
}

double ClipToNorm(const ParameterLayout& layout, double clip_norm, absl::Span<float> delta) {
  FEDWATT_CHECK(clip_norm > 0);
  const double norm = ParameterNorm(layout, delta);
  // A norm that is not finite cannot be scaled away; the guard refuses such a delta.
  if (!(norm > clip_norm) || !std::isfinite(norm)) return norm;
  // 2^-20 pays for rounding each product to float32 and for the sum, so that a bound of clip_norm accepts the result.
  const double factor = clip_norm / norm * (1 - 0x1p-20);
  ForEachParameter(layout, [&](size_t begin, size_t count) {
    for (float& value : delta.subspan(begin, count)) value = static_cast<float>(value * factor);
  });
  return norm;
}

}  // namespace fedwatt

// What stages share: options, segments, vectors.
#ifndef FEDWATT_COMPRESSION_STAGE_SUPPORT_H_
#define FEDWATT_COMPRESSION_STAGE_SUPPORT_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/compression/transform.h"
#include "fedwatt/model/rejection.h"

namespace fedwatt::internal {

// The option's value, or `fallback`. Errors: INVALID_ARGUMENT  not a number in [low, high]
inline absl::StatusOr<double> NumberOption(std::string_view stage, const CodecOptions& options, const char* key, double fallback, double low,
                                           double high) {
  const auto it = options.find(key);
  if (it == options.end()) return fallback;
  double value = 0;
  if (!absl::SimpleAtod(it->second, &value) || !(value >= low && value <= high)) {
    return absl::InvalidArgumentError(
        absl::StrCat("stage '", std::string(stage), "': ", key, " = '", it->second, "', expected a number in [", low, ", ", high, "]"));
  }
  return value;
}

// Likewise, for whole numbers.
inline absl::StatusOr<int64_t> IntegerOption(std::string_view stage, const CodecOptions& options, const char* key, int64_t fallback, int64_t low,
                                             int64_t high) {
  const auto it = options.find(key);
  if (it == options.end()) return fallback;
  int64_t value = 0;
  if (!absl::SimpleAtoi(it->second, &value) || value < low || value > high) {
    return absl::InvalidArgumentError(
        absl::StrCat("stage '", std::string(stage), "': ", key, " = '", it->second, "', expected a whole number in [", low, ", ", high, "]"));
  }
  return value;
}

// Errors: INVALID_ARGUMENT  naming the first value that is not finite
inline absl::Status RefuseNotFinite(std::string_view what, absl::Span<const float> values) {
  const auto first = std::find_if(values.begin(), values.end(), [](float value) { return !std::isfinite(value); });
  return WithRejection(absl::InvalidArgumentError(absl::StrCat(std::string(what), what.empty() ? "" : ": ", "value ", first - values.begin(), " is not finite")),
                       Rejection::kNotFinite);
}

inline std::vector<int64_t> CountsOf(absl::Span<const Segment> segments) {
  std::vector<int64_t> counts;
  counts.reserve(segments.size());
  for (const Segment& segment : segments) counts.push_back(segment.count());
  return counts;
}

inline int64_t CountValues(absl::Span<const Segment> segments) {
  int64_t count = 0;
  for (const Segment& segment : segments) count += segment.count();
  return count;
}

// Codec::Decode of a codec that decodes sparsely.
inline absl::Status DecodeBySparse(const Codec& codec, std::string_view bytes, const CodingContext& context, absl::Span<float> out) {
  FEDWATT_CHECK(CountValues(context.segments) == static_cast<int64_t>(out.size()));
  SparseValues decoded;
  FEDWATT_RETURN_IF_ERROR(codec.DecodeSparse(bytes, context, decoded));
  std::fill(out.begin(), out.end(), 0.0f);
  for (size_t i = 0; i < decoded.indices.size(); ++i) out[decoded.indices[i]] = decoded.values[i];
  return absl::OkStatus();
}

// Turns sparse values into all `count` of them. Their indices are below `count`.
inline void MakeDense(int64_t count, DecodedValues& values) {
  values.dense.assign(static_cast<size_t>(count), 0);
  for (size_t i = 0; i < values.sparse.indices.size(); ++i) values.dense[values.sparse.indices[i]] = values.sparse.values[i];
  values.sparse = {};
  values.is_sparse = false;
}

}  // namespace fedwatt::internal

#endif  // FEDWATT_COMPRESSION_STAGE_SUPPORT_H_

// What keeps one client's update from spoiling the rest: checks before shared state is touched.
#ifndef FEDWATT_PRIVACY_UPDATE_GUARD_H_
#define FEDWATT_PRIVACY_UPDATE_GUARD_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "fedwatt/model/layout.h"
#include "fedwatt/model/plan.h"

namespace fedwatt {

// Refuses, with the payload of RejectionOf() set, a delta that is not finite, has a value beyond limits.max_abs, is longer (L2, parameters
// only) than limits.max_norm, or has a weight outside [1, limits.max_example_count]. One pass over the values. Thread-safe.
// Errors: INVALID_ARGUMENT
absl::Status CheckUpdate(const ParameterLayout& layout, absl::Span<const float> delta, int64_t example_count, const UpdateLimits& limits);
// The same of a sparse delta: values[i] at indices[i], which are below layout.value_count() and not repeated.
absl::Status CheckSparseUpdate(const ParameterLayout& layout, absl::Span<const uint32_t> indices, absl::Span<const float> values, int64_t example_count,
                               const UpdateLimits& limits);

// Scales the parameters of `delta` so that their L2 norm is at most `clip_norm` (McMahan et al. 2018, arXiv 1710.06963); buffers stay.
// Returns the norm before. `clip_norm` > 0. The norm is summed in double, in order.
double ClipToNorm(const ParameterLayout& layout, double clip_norm, absl::Span<float> delta);

// L2 norm of the entries of kind kParameter, summed in double, in order.
double ParameterNorm(const ParameterLayout& layout, absl::Span<const float> delta);

}  // namespace fedwatt

#endif  // FEDWATT_PRIVACY_UPDATE_GUARD_H_

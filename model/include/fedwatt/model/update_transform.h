// The steps between a trained delta and the bytes on the wire.
#ifndef FEDWATT_MODEL_UPDATE_TRANSFORM_H_
#define FEDWATT_MODEL_UPDATE_TRANSFORM_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "fedwatt/model/layout.h"

namespace fedwatt {

// Borrowed for one call.
struct TransformContext {
  const ParameterLayout& layout;
  uint64_t seed = 0;            // EncodingSeed(); equal on both ends
  int64_t round = 0;
};

// Changes values without changing their number: clip, error feedback, sparsify, mask, noise. It may act at three points; the client
// applies its list forwards, the server backwards. The default at each point is to do nothing. Owned by one thread at a time.
class UpdateTransform {
 public:
  virtual ~UpdateTransform() = default;
  virtual std::string_view name() const = 0;
  virtual absl::Status ApplyOnClient(absl::Span<float> delta, const TransformContext& context) { return absl::OkStatus(); }
  virtual absl::Status ApplyOnServer(absl::Span<float> delta, const TransformContext& context) { return absl::OkStatus(); }
  virtual absl::Status ApplyAfterAggregation(absl::Span<float> mean_delta, const TransformContext& context) { return absl::OkStatus(); }
};

}  // namespace fedwatt

#endif  // FEDWATT_MODEL_UPDATE_TRANSFORM_H_

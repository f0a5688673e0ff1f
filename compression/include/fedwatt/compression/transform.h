// What turns a vector into one that is shorter or easier to quantize: sparsifiers, rotation, low rank. One file each under
// compression/transforms/.
#ifndef FEDWATT_COMPRESSION_TRANSFORM_H_
#define FEDWATT_COMPRESSION_TRANSFORM_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "fedwatt/base/registry.h"
#include "fedwatt/compression/codec.h"

namespace fedwatt {

// Values as a decoder found them: all of them, or those that are not zero.
struct DecodedValues {
  bool is_sparse = false;
  std::vector<float> dense;  // empty when is_sparse
  SparseValues sparse;       // empty otherwise
};

// A vector and the segments it consists of.
struct SegmentedValues {
  std::vector<float> values;
  std::vector<Segment> segments;
};

// Decodes what a transform made, given the segments it consists of.
using InnerDecoder = absl::FunctionRef<absl::Status(absl::Span<const Segment> segments, std::vector<float>& values)>;

// Stateless, thread-compatible. The name travels on the wire: changed meaning means a new name.
class Transform {
 public:
  virtual ~Transform() = default;
  virtual std::string_view name() const = 0;
  // Whether Inverse gives sparse values.
  virtual bool sparse() const { return false; }

  // Replaces values and segments by what the rest of the pipeline is to encode; appends to `side` what the other end cannot derive.
  // context.segments are those of `data` before. Deterministic in (data, context).
  virtual absl::Status Forward(SegmentedValues& data, const CodingContext& context, std::string& side) const = 0;

  // The inverse, as far as there is one. `side` may be hostile: it is read to its last byte, and `inner` is asked for at most as many
  // values as context.segments hold. Errors: DATA_LOSS  side information that Forward does not write; what `inner` returns
  virtual absl::Status Inverse(std::string_view side, const CodingContext& context, InnerDecoder inner, DecodedValues& out) const = 0;
};

using TransformFactory = std::function<absl::StatusOr<std::unique_ptr<Transform>>(const CodecOptions&)>;
using TransformRegistry = Registry<TransformFactory>;
TransformRegistry& Transforms();

}  // namespace fedwatt

#endif  // FEDWATT_COMPRESSION_TRANSFORM_H_

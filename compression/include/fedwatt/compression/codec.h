// How flat float32 vectors become bytes and come back: the step of a pipeline where numbers turn into bytes. One file each under
// compression/codecs/.
#ifndef FEDWATT_COMPRESSION_CODEC_H_
#define FEDWATT_COMPRESSION_CODEC_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "fedwatt/base/registry.h"
#include "fedwatt/model/value_block.h"

namespace fedwatt {

// A run of values with statistics of its own: one tensor, seen as a matrix in row-major order. A tensor of rank 1 is one row.
struct Segment {
  int64_t rows = 1;
  int64_t columns = 0;
  int64_t count() const { return rows * columns; }
  friend bool operator==(const Segment&, const Segment&) = default;
};

// Borrowed for one call.
struct CodingContext {
  absl::Span<const Segment> segments;  // their counts add up to the number of values
  uint64_t seed = 0;                   // EncodingSeed(); equal on both ends
  int64_t round = 0;
};

// A vector most of whose values are zero. `indices` has no repetition and no particular order; indices[i] holds values[i].
struct SparseValues {
  std::vector<uint32_t> indices;
  std::vector<float> values;
};

// Thread-compatible. The name travels on the wire: changed bytes mean a new name.
class Codec {
 public:
  virtual ~Codec() = default;
  virtual std::string_view name() const = 0;

  // `values` are finite, unless refuses_not_finite(): then others make it fail with INVALID_ARGUMENT and Rejection::kNotFinite, and whoever calls it need
  // not look first. Deterministic in (values, context).
  virtual bool refuses_not_finite() const { return false; }
  virtual absl::StatusOr<std::string> Encode(absl::Span<const float> values, const CodingContext& context) const = 0;

  // Fills `out`, whose length the caller knows from the layout; `bytes` may be hostile. Never reads past them, never allocates more
  // than a small multiple of out's size. Values that come out are finite. Errors: DATA_LOSS  the bytes are not what Encode makes for this length
  virtual absl::Status Decode(std::string_view bytes, const CodingContext& context, absl::Span<float> out) const = 0;

  // Shows what Decode would give, as it lies in the bytes; `begin` counts from the first value. Returns false where Decode fails, and for codecs that
  // can't; whether values are finite is for the visitor to judge.
  virtual bool VisitBlocks(std::string_view bytes, const CodingContext& context, BlockVisitor visit) const { return false; }

  // Whether DecodeSparse exists: for codecs whose cost of decoding follows the values that are not zero. `context.segments` say how many
  // values there are. Errors: as Decode
  virtual bool sparse() const { return false; }
  virtual absl::Status DecodeSparse(std::string_view bytes, const CodingContext& context, SparseValues& out) const;

  // An upper bound of |decoded - value| for any value of a vector whose values are at most `max_abs`.
  virtual double ErrorBound(double max_abs) const = 0;
};

// What stands behind a stage's name, "name:key=value:key=value".
using CodecOptions = std::map<std::string, std::string>;
using CodecFactory = std::function<absl::StatusOr<std::unique_ptr<Codec>>(const CodecOptions&)>;
using CodecRegistry = Registry<CodecFactory>;
CodecRegistry& Codecs();

// A stage as it is spelled: its name and its options. Errors: INVALID_ARGUMENT  an option that is not key=value, or is given twice
struct StageSpec {
  std::string name;
  CodecOptions options;
};
absl::StatusOr<StageSpec> ParseStage(std::string_view spec);

// Errors: NOT_FOUND  unknown name; INVALID_ARGUMENT  unknown option or bad value
absl::StatusOr<std::unique_ptr<Codec>> MakeCodec(std::string_view spec);

}  // namespace fedwatt

#endif  // FEDWATT_COMPRESSION_CODEC_H_

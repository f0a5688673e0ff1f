// How flat float32 vectors become bytes and come back. One file each under compression/codecs/.
#ifndef FEDWATT_COMPRESSION_CODEC_H_
#define FEDWATT_COMPRESSION_CODEC_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "fedwatt/base/registry.h"
#include "fedwatt/model/update_transform.h"

namespace fedwatt {

// The last step of a pipeline. Thread-compatible. The name travels on the wire: changed bytes mean a new name.
class Codec {
 public:
  virtual ~Codec() = default;
  virtual std::string_view name() const = 0;

  // `values` has context.layout.value_count() elements, all finite. Deterministic in (values, context).
  virtual absl::StatusOr<std::string> Encode(absl::Span<const float> values, const TransformContext& context) const = 0;

  // Fills `out`, whose length the caller knows from the layout; `bytes` may be hostile. Never reads past them, never allocates more
  // than a small multiple of out's size. Errors: DATA_LOSS  the bytes are not what Encode makes for this length
  virtual absl::Status Decode(std::string_view bytes, const TransformContext& context, absl::Span<float> out) const = 0;

  // An upper bound of |decoded - value| for any value of a vector whose values are at most `max_abs`.
  virtual double ErrorBound(double max_abs) const = 0;
};

using CodecOptions = std::map<std::string, std::string>;
using CodecFactory = std::function<absl::StatusOr<std::unique_ptr<Codec>>(const CodecOptions&)>;
using CodecRegistry = Registry<CodecFactory>;
// "float32", "bfloat16", "int8".
CodecRegistry& Codecs();

// Makes the codec that `spec` spells: a name, optionally with options, "name" or "name:key=value:key=value".
// Errors: NOT_FOUND  unknown name; INVALID_ARGUMENT  unknown option or bad value
absl::StatusOr<std::unique_ptr<Codec>> MakeCodec(std::string_view spec);

}  // namespace fedwatt

#endif  // FEDWATT_COMPRESSION_CODEC_H_

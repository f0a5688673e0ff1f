// A chain of stages between a vector of a model's values and the bytes on the wire, as spelled in `compression.uplink`:
//
//   [ef,] transform* codec packer*          "ef,top_k:fraction=0.01,sign"     "dithered:step=0.02"     "int8,zstd"
//
// Values of averaged buffers pass by the stages as they are: running statistics bear no coarse step, and there are few of them.
#ifndef FEDWATT_COMPRESSION_PIPELINE_H_
#define FEDWATT_COMPRESSION_PIPELINE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "fedwatt/compression/codec.h"
#include "fedwatt/compression/packer.h"
#include "fedwatt/compression/transform.h"
#include "fedwatt/model/layout.h"

namespace fedwatt {

// The stage that asks the client to keep what an encoding lost and to add it to its next update (Seide et al. 2014; Karimireddy et al. 2019,
// arXiv 1901.09847). It has no bytes; round/participant.cc acts on it.
inline constexpr std::string_view kErrorFeedbackStage = "ef";

// Immutable; thread-safe.
class Pipeline {
 public:
  // Errors: NOT_FOUND  unknown stage; INVALID_ARGUMENT  stages out of order, no codec or two of them, bad options
  static absl::StatusOr<Pipeline> Create(std::string_view spec);

  const std::string& spec() const { return spec_; }
  bool error_feedback() const { return error_feedback_; }
  // Whether decoding gives sparse values, so that its cost follows what is not zero.
  bool sparse() const;
  // Names of the stages, for negotiation.
  const std::vector<std::string>& stage_names() const { return stage_names_; }

  // `values` has layout.value_count() elements. Errors: INVALID_ARGUMENT  a value is not finite, with RejectionOf(); what the stages say
  absl::StatusOr<std::string> Encode(const ParameterLayout& layout, absl::Span<const float> values, uint64_t seed, int64_t round) const;

  // `bytes` may be hostile. Values are finite, but for a float32 or bfloat16 without transforms: these give what the bytes hold, for a guard to judge
  // by the value. Errors: DATA_LOSS  not what Encode makes for this layout
  absl::Status Decode(std::string_view bytes, const ParameterLayout& layout, uint64_t seed, int64_t round, DecodedValues& out) const;
  // The same into a whole vector of layout.value_count() elements.
  absl::Status DecodeDense(std::string_view bytes, const ParameterLayout& layout, uint64_t seed, int64_t round, absl::Span<float> out) const;

  // Shows what Decode would give, block by block as it lies in the bytes, without writing it out. Returns false where Decode fails, and for pipelines
  // that can't: those with transforms, and codecs that have no such blocks. Values need not be finite.
  bool VisitBlocks(std::string_view bytes, const ParameterLayout& layout, uint64_t seed, int64_t round, BlockVisitor visit) const;

 private:
  Pipeline() = default;
  // Undoes the packers: `coded` becomes the codec's bytes, which lie in `unpacked` or where they lay before.
  absl::Status Unpack(size_t count, std::string& unpacked, std::string_view& coded) const;
  absl::Status DecodeFrom(size_t stage, std::string_view bytes, absl::Span<const Segment> segments, uint64_t seed, int64_t round,
                          DecodedValues& out) const;

  std::string spec_;
  std::vector<std::string> stage_names_;
  bool error_feedback_ = false;
  std::vector<std::shared_ptr<const Transform>> transforms_;
  std::shared_ptr<const Codec> codec_;
  std::vector<std::shared_ptr<const Packer>> packers_;
};

// Names of all stages that a pipeline can have, sorted: "ef", transforms, codecs, packers.
std::vector<std::string> StageNames();

}  // namespace fedwatt

#endif  // FEDWATT_COMPRESSION_PIPELINE_H_

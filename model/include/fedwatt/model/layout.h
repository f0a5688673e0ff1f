// The order, names and shapes of a model's tensors, and where each lies in the flat vector of values.
#ifndef FEDWATT_MODEL_LAYOUT_H_
#define FEDWATT_MODEL_LAYOUT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "fedwatt/base/digest.h"

namespace fedwatt {

// Numbers are on the wire and inside digests; never renumber.
enum class EntryKind : uint8_t {
  kParameter = 1,       // trained; clipped, compressed, covered by error feedback
  kAveragedBuffer = 2,  // running statistics; averaged as they are
  kLocal = 3,           // integer counters; stays on its device, takes no place in the flat vector
};

// Numbers are on the wire and inside digests; never renumber.
enum class Dtype : uint8_t { kFloat32 = 1, kInt64 = 2 };

struct LayoutEntry {
  std::string name;             // [1, 255] bytes, unique in the layout
  std::vector<int64_t> shape;   // at most 8 dimensions, each >= 1; empty for a scalar
  EntryKind kind = EntryKind::kParameter;
  Dtype dtype = Dtype::kFloat32;  // kInt64 only with kLocal

  int64_t element_count() const;
  friend bool operator==(const LayoutEntry&, const LayoutEntry&) = default;
};

// Immutable after Create. Thread-compatible.
class ParameterLayout {
 public:
  static constexpr int64_t kMaxEntryCount = 1 << 16;
  static constexpr int64_t kMaxValueCount = int64_t{1} << 31;

  // An empty layout, equal to no model's.
  ParameterLayout() = default;

  // Errors: INVALID_ARGUMENT  empty or repeated name, bad shape, integer outside kLocal, no values at all,
  //                           beyond a limit above
  static absl::StatusOr<ParameterLayout> Create(std::vector<LayoutEntry> entries);

  const std::vector<LayoutEntry>& entries() const { return entries_; }
  // Where entry `i` starts in the flat vector; a kLocal entry has no values there.
  int64_t offset(size_t i) const { return offsets_[i]; }
  // Values of all entries but kLocal ones: the length of every flat vector of this model.
  int64_t value_count() const { return value_count_; }
  // Of a vector of this model. Errors: INVALID_ARGUMENT
  absl::Status CheckLength(size_t length) const;
  // SHA-256 over, for each entry in order, name length (u32), name, dtype (u8), kind (u8), rank (u8), dimensions (u64 each);
  // little-endian. Equal digests mean interchangeable vectors.
  const Digest& digest() const { return digest_; }

  friend bool operator==(const ParameterLayout& a, const ParameterLayout& b) { return a.entries_ == b.entries_; }

 private:
  std::vector<LayoutEntry> entries_;
  std::vector<int64_t> offsets_;
  int64_t value_count_ = 0;
  Digest digest_;
};

// The run record's `model_digest`: SHA-256 over, for each entry but kLocal in order, name length (u32), name, dtype (u8),
// rank (u8), dimensions (u64 each), values; little-endian. `values` has layout.value_count() elements.
Digest ModelDigest(const ParameterLayout& layout, absl::Span<const float> values);

}  // namespace fedwatt

#endif  // FEDWATT_MODEL_LAYOUT_H_

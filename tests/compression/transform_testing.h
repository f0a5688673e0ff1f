// A transform between its two halves, with nothing lost in the middle.
#ifndef FEDWATT_TESTS_COMPRESSION_TRANSFORM_TESTING_H_
#define FEDWATT_TESTS_COMPRESSION_TRANSFORM_TESTING_H_

#include <memory>
#include <string>
#include <vector>

#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/compression/codec.h"
#include "fedwatt/compression/transform.h"

namespace fedwatt::testing {

inline absl::StatusOr<std::unique_ptr<Transform>> MakeTransform(std::string_view spec) {
  FEDWATT_ASSIGN_OR_RETURN(StageSpec stage, ParseStage(spec));
  FEDWATT_ASSIGN_OR_RETURN(TransformFactory make, Transforms().Find(stage.name));
  return make(stage.options);
}

struct Transformed {
  SegmentedValues inner;
  std::string side;
};

inline absl::StatusOr<Transformed> Forward(const Transform& transform, const std::vector<float>& values, const std::vector<Segment>& segments,
                                           uint64_t seed = 5) {
  Transformed made{{values, segments}, ""};
  FEDWATT_RETURN_IF_ERROR(transform.Forward(made.inner, {segments, seed, 1}, made.side));
  return made;
}

// All values, given the inner ones.
inline absl::StatusOr<std::vector<float>> Inverse(const Transform& transform, const Transformed& made, const std::vector<Segment>& segments,
                                                  uint64_t seed = 5) {
  DecodedValues out;
  FEDWATT_RETURN_IF_ERROR(transform.Inverse(
      made.side, {segments, seed, 1},
      [&](absl::Span<const Segment> asked, std::vector<float>& values) -> absl::Status {
        if (asked != absl::MakeConstSpan(made.inner.segments)) return absl::InternalError("asks for other segments than Forward left");
        values = made.inner.values;
        return absl::OkStatus();
      },
      out));
  if (!out.is_sparse) return out.dense;
  int64_t count = 0;
  for (const Segment& segment : segments) count += segment.count();
  std::vector<float> all(static_cast<size_t>(count));
  for (size_t i = 0; i < out.sparse.indices.size(); ++i) all.at(out.sparse.indices[i]) = out.sparse.values[i];
  return all;
}

inline std::vector<float> Noise(size_t count, double scale, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(random.Normal() * scale);
  return values;
}

inline double SquaredDistance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
  return sum;
}
inline double SquaredNorm(const std::vector<float>& a) { return SquaredDistance(a, std::vector<float>(a.size())); }

}  // namespace fedwatt::testing

#endif  // FEDWATT_TESTS_COMPRESSION_TRANSFORM_TESTING_H_

// low_rank: a matrix becomes the product of two thin ones (PowerSGD: Vogels et al. 2019, arXiv 1905.13727, algorithm 1).
//
//   M (rows x columns)  ~  P Q^T,   P: rows x R,  Q: columns x R
//   Q = seeded;  three times: P = orthonormal basis of M Q, Q = M^T P;  then each column of P is scaled by sqrt |q_r|, that of Q by 1 / sqrt |q_r|
//
// P P^T M is the best approximation of M with columns in span P, so |M - P Q^T| <= |M|; iterations bring it near the best one where singular values
// fall off. With the length of a pair shared evenly, one step suits both factors. Unlike the paper, Q starts anew each round, as stages have no
// state, and further iterations take the place of the warm start. Biased: use with `ef`.
//
// Applies to segments with rows >= 2, columns >= 2 and R * (rows + columns) < rows * columns; others pass unchanged. Such a segment passes on as two:
// {R, rows}, the columns of P as rows, and {R, columns}, those of Q. No side information.
// Option: rank=R, R in [1, 1024], default 4. Cost: 6 R multiplications a value, R when decoding.
// Numerics: float64 sums in one order, basis by Gram-Schmidt, applied twice; decoded values are sums over r in order, so all machines get equal bits.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <vector>

#include "codec_support.h"
#include "fedwatt/base/random.h"
#include "fedwatt/base/status_macros.h"
#include "fedwatt/compression/transform.h"
#include "kernels.h"
#include "stage_support.h"

namespace fedwatt {
namespace {

constexpr int kIterations = 3;

// R columns of `size` each, one after the other.
struct Factor {
  Factor(size_t rank, size_t size) : size(size), values(rank * size) {}
  absl::Span<double> column(size_t r) { return absl::MakeSpan(values).subspan(r * size, size); }
  absl::Span<const double> column(size_t r) const { return absl::MakeConstSpan(values).subspan(r * size, size); }
  size_t size;
  std::vector<double> values;
};

// As 8 sums of the places equal mod 8, which the compiler may keep in vectors without changing a bit.
template <typename A>
double Dot(absl::Span<const A> a, absl::Span<const double> b) {
  double sums[8] = {};
  size_t i = 0;
  for (; i + 8 <= a.size(); i += 8) {
    for (size_t j = 0; j < 8; ++j) sums[j] += a[i + j] * b[i + j];
  }
  for (size_t j = 0; i < a.size(); ++i, ++j) sums[j] += a[i] * b[i];
  double sum = 0;
  for (double part : sums) sum += part;
  return sum;
}

// to += factor * from
template <typename From>
void AddScaled(absl::Span<const From> from, double factor, absl::Span<double> to) {
  for (size_t i = 0; i < to.size(); ++i) to[i] += factor * from[i];
}

// Columns of unit length, orthogonal to each other; what has no length of its own becomes 0.
void Orthonormalize(size_t rank, Factor& factor) {
  for (size_t r = 0; r < rank; ++r) {
    const absl::Span<double> column = factor.column(r);
    const double before = Dot<double>(column, column);
    for (int pass = 0; pass < 2; ++pass) {
      for (size_t s = 0; s < r; ++s) AddScaled<double>(factor.column(s), -Dot<double>(column, factor.column(s)), column);
    }
    const double squares = Dot<double>(column, column);
    const double inverse = squares > before * 1e-20 ? 1 / std::sqrt(squares) : 0;
    for (double& value : column) value *= inverse;
  }
}

class LowRank : public Transform {
 public:
  explicit LowRank(int64_t rank) : rank_(rank) {}
  std::string_view name() const override { return "low_rank"; }

  absl::Status Forward(SegmentedValues& data, const CodingContext& context, std::string& side) const override {
    std::vector<float> factors;
    Random random(DeriveSeed("low_rank", {context.seed}));
    size_t offset = 0;
    for (const Segment& segment : context.segments) {
      const absl::Span<const float> values = absl::MakeConstSpan(data.values).subspan(offset, static_cast<size_t>(segment.count()));
      offset += values.size();
      if (Applies(segment)) {
        FEDWATT_RETURN_IF_ERROR(Factorize(segment, values, random, factors));
      } else {
        factors.insert(factors.end(), values.begin(), values.end());
      }
    }
    data.values = std::move(factors);
    data.segments = InnerSegments(context.segments);
    return absl::OkStatus();
  }

  absl::Status Inverse(std::string_view side, const CodingContext& context, InnerDecoder inner, DecodedValues& out) const override {
    if (!side.empty()) return absl::DataLossError(absl::StrCat("low_rank: ", side.size(), " bytes of side information, expected none"));
    std::vector<float> factors;
    FEDWATT_RETURN_IF_ERROR(inner(InnerSegments(context.segments), factors));
    out.is_sparse = false;
    out.dense.resize(static_cast<size_t>(internal::CountValues(context.segments)));
    const float* from = factors.data();
    float* to = out.dense.data();
    std::vector<double> row;
    for (const Segment& segment : context.segments) {
      if (!Applies(segment)) {
        to = std::copy(from, from + segment.count(), to);
        from += segment.count();
        continue;
      }
      const float* const p = from;
      const float* const q = from + rank_ * segment.rows;
      from = q + rank_ * segment.columns;
      for (int64_t i = 0; i < segment.rows; ++i) {
        row.assign(static_cast<size_t>(segment.columns), 0);
        for (int64_t r = 0; r < rank_; ++r) {
          AddScaled<float>(absl::MakeConstSpan(q + r * segment.columns, static_cast<size_t>(segment.columns)), p[r * segment.rows + i],
                           absl::MakeSpan(row));
        }
        // Products of finite factors may exceed float32; float64 holds them.
        for (double value : row) *to++ = static_cast<float>(std::clamp<double>(value, -FLT_MAX, FLT_MAX));
      }
    }
    return absl::OkStatus();
  }

 private:
  bool Applies(const Segment& segment) const {
    return segment.rows >= 2 && segment.columns >= 2 && rank_ * (segment.rows + segment.columns) < segment.count();
  }

  std::vector<Segment> InnerSegments(absl::Span<const Segment> segments) const {
    std::vector<Segment> inner;
    for (const Segment& segment : segments) {
      if (Applies(segment)) {
        inner.push_back({rank_, segment.rows});
        inner.push_back({rank_, segment.columns});
      } else {
        inner.push_back(segment);
      }
    }
    return inner;
  }

  absl::Status Factorize(const Segment& segment, absl::Span<const float> matrix, Random& random, std::vector<float>& out) const {
    const size_t rank = static_cast<size_t>(rank_), rows = static_cast<size_t>(segment.rows), columns = static_cast<size_t>(segment.columns);
    Factor p(rank, rows), q(rank, columns);
    // Uniform, not normal: no logarithm, whose last bit machines disagree about.
    for (double& value : q.values) value = 2 * random.Uniform() - 1;
    for (int iteration = 0; iteration < kIterations; ++iteration) {
      for (size_t i = 0; i < rows; ++i) {
        for (size_t r = 0; r < rank; ++r) p.values[r * rows + i] = Dot<float>(matrix.subspan(i * columns, columns), q.column(r));
      }
      Orthonormalize(rank, p);
      std::fill(q.values.begin(), q.values.end(), 0.0);
      for (size_t i = 0; i < rows; ++i) {
        for (size_t r = 0; r < rank; ++r) AddScaled<float>(matrix.subspan(i * columns, columns), p.values[r * rows + i], q.column(r));
      }
    }
    const size_t begin = out.size();
    out.resize(begin + rank * (rows + columns));
    float* to_p = out.data() + begin;
    float* to_q = to_p + rank * rows;
    for (size_t r = 0; r < rank; ++r) {
      const double length = std::sqrt(std::sqrt(Dot<double>(q.column(r), q.column(r))));
      const double inverse = length > 0 ? 1 / length : 0;
      for (double value : p.column(r)) *to_p++ = static_cast<float>(value * length);
      for (double value : q.column(r)) *to_q++ = static_cast<float>(value * inverse);
    }
    if (!internal::AllFinite(absl::MakeConstSpan(out).subspan(begin))) return absl::InvalidArgumentError("low_rank: a value is not finite");
    return absl::OkStatus();
  }

  const int64_t rank_;
};

absl::StatusOr<std::unique_ptr<Transform>> MakeLowRank(const CodecOptions& options) {
  FEDWATT_RETURN_IF_ERROR(internal::CheckOptionNames("low_rank", options, {"rank"}));
  FEDWATT_ASSIGN_OR_RETURN(int64_t rank, internal::IntegerOption("low_rank", options, "rank", 4, 1, 1024));
  return std::make_unique<LowRank>(rank);
}

}  // namespace

namespace internal {

void InstallTransform_low_rank(TransformRegistry& registry) { FEDWATT_CHECK(registry.Register("low_rank", MakeLowRank).ok()); }

}  // namespace internal
}  // namespace fedwatt

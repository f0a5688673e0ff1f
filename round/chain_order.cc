#include "chain_order.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "fedwatt/base/status_macros.h"

namespace fedwatt::internal {
namespace {

constexpr double kFloor = 0.2;  // of a row's or column's activity, in means of its tensor
constexpr int kLowestLevel = -40, kHighestLevel = 12;  // half octaves
constexpr int kLevels = kHighestLevel - kLowestLevel + 1;
constexpr int kDistances = 3;

// 4 * log2(x) rounded down, from comparisons alone; x > 0.
int QuarterOctave(double x) {
  constexpr double kQuarters[] = {0.59460355750136051, 0.70710678118654757, 0.84089641525371450};  // 2^(-3/4), 2^(-1/2), 2^(-1/4)
  int exponent;
  const double mantissa = std::frexp(x, &exponent);  // [1/2, 1)
  int quarter = 4 * (exponent - 1);
  for (double threshold : kQuarters) quarter += mantissa >= threshold;
  return quarter;
}

struct Matrix {
  size_t offset, rows, columns;
  std::vector<int> row_levels, column_levels;  // quarter octaves; the rows' include the tensor's mean
};

int LevelOf(int quarters) { return std::clamp((quarters + 1) >> 1, kLowestLevel, kHighestLevel) - kLowestLevel; }

}  // namespace

ChainOrder OrderByMovement(const ParameterLayout& layout, absl::Span<const float> moved, double step) {
  FEDWATT_CHECK(moved.empty() || static_cast<int64_t>(moved.size()) == layout.value_count());
  ChainOrder order;
  const bool still = std::all_of(moved.begin(), moved.end(), [](float value) { return value == 0; });
  std::vector<Matrix> matrices;
  size_t total = 0;
  for (size_t i = 0; i < layout.entries().size(); ++i) {
    const LayoutEntry& entry = layout.entries()[i];
    if (entry.kind != EntryKind::kParameter) continue;
    const size_t count = static_cast<size_t>(entry.element_count());
    const size_t rows = entry.shape.size() < 2 ? 1 : static_cast<size_t>(entry.shape[0]);
    matrices.push_back({static_cast<size_t>(layout.offset(i)), rows, count / rows, {}, {}});
    total += count;
    if (still) order.counts.push_back(static_cast<int64_t>(count));
  }
  order.values.resize(total);
  if (still) {
    auto next = order.values.begin();
    for (const Matrix& matrix : matrices) {
      const auto end = next + static_cast<ptrdiff_t>(matrix.rows * matrix.columns);
      std::iota(next, end, static_cast<uint32_t>(matrix.offset));
      next = end;
    }
    return order;
  }

  for (Matrix& matrix : matrices) {
    // Sums of multiples of one unit are exact in double, whatever their order.
    std::vector<double> row_sums(matrix.rows), column_sums(matrix.columns);
    double sum = 0;
    for (size_t r = 0; r < matrix.rows; ++r) {
      const float* row = moved.data() + matrix.offset + r * matrix.columns;
      for (size_t c = 0; c < matrix.columns; ++c) {
        const double magnitude = std::fabs(row[c]);
        row_sums[r] += magnitude;
        column_sums[c] += magnitude;
      }
      sum += row_sums[r];
    }
    const double count = static_cast<double>(matrix.rows * matrix.columns);
    const int mean = sum > 0 ? QuarterOctave(sum / count / step) : 2 * kLowestLevel;
    const auto relative = [&](double part, size_t parts) {
      return sum > 0 && matrix.rows > 1 ? QuarterOctave(part / sum * static_cast<double>(parts) + kFloor) : 0;
    };
    for (double part : row_sums) matrix.row_levels.push_back(relative(part, matrix.rows) + mean);
    for (double part : column_sums) matrix.column_levels.push_back(relative(part, matrix.columns));
  }

  std::array<uint32_t, kDistances * kLevels + 1> begins{};
  const float half = static_cast<float>(0.5 * step), three_halves = static_cast<float>(1.5 * step);
  const auto visit = [&](auto&& act) {
    for (const Matrix& matrix : matrices) {
      for (size_t r = 0; r < matrix.rows; ++r) {
        const size_t row = matrix.offset + r * matrix.columns;
        for (size_t c = 0; c < matrix.columns; ++c) {
          const float distance = std::fabs(moved[row + c]);
          const int far = (distance > half) + (distance > three_halves);
          act(static_cast<size_t>(far * kLevels + LevelOf(matrix.row_levels[r] + matrix.column_levels[c])), static_cast<uint32_t>(row + c));
        }
      }
    }
  };
  visit([&](size_t segment, uint32_t) { ++begins[segment + 1]; });
  for (size_t s = 0; s + 1 < begins.size(); ++s) {
    if (begins[s + 1] > 0) order.counts.push_back(begins[s + 1]);
    begins[s + 1] += begins[s];
  }
  visit([&](size_t segment, uint32_t value) { order.values[begins[segment]++] = value; });
  return order;
}

}  // namespace fedwatt::internal

#include "fedwatt/compression/block_dct.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include "fedwatt/base/status_macros.h"
#include "kernels.h"

namespace fedwatt {
namespace {

constexpr int kLog = 9;
constexpr size_t kMaxBlock = size_t{1} << kLog;
constexpr size_t kLanes = internal::kMatrixLanes;  // rows that go side by side
using Lane = std::array<double, kLanes>;

// factors[log][i] = 1 / (2 cos((i + 1/2) pi / 2^log)), i < 2^(log - 1). Cosines by half angles and angle sums, as a library's may differ in the last bit.
struct Tables {
  std::array<std::vector<double>, kLog + 1> factors;
  Tables() {
    double cos_step = -1, sin_step = 0;  // of the angle pi / 2^log, from pi on
    for (int log = 1; log <= kLog; ++log) {
      // Half angles: pi / 2^log.
      sin_step = std::sqrt((1 - cos_step) / 2);
      cos_step = std::sqrt((1 + cos_step) / 2);
      const double cos_half = std::sqrt((1 + cos_step) / 2), sin_half = std::sqrt((1 - cos_step) / 2);
      double c = cos_half, s = sin_half;  // of (i + 1/2) pi / 2^log
      for (size_t i = 0; i < (size_t{1} << (log - 1)); ++i) {
        factors[static_cast<size_t>(log)].push_back(0.5 / c);
        const double next = c * cos_step - s * sin_step;
        s = s * cos_step + c * sin_step;
        c = next;
      }
    }
  }
};
const Tables& TablesOnce() {
  static const auto* tables = new Tables();
  return *tables;
}

void Forward(Lane* x, Lane* scratch, int log) {
  if (log == 0) return;
  const size_t n = size_t{1} << log, half = n / 2;
  const std::vector<double>& factors = TablesOnce().factors[static_cast<size_t>(log)];
  for (size_t i = 0; i < half; ++i) {
    for (size_t l = 0; l < kLanes; ++l) {
      const double a = x[i][l], b = x[n - 1 - i][l];
      scratch[i][l] = a + b;
      scratch[i + half][l] = (a - b) * factors[i];
    }
  }
  Forward(scratch, x, log - 1);
  Forward(scratch + half, x, log - 1);
  for (size_t i = 0; i < half; ++i) {
    for (size_t l = 0; l < kLanes; ++l) {
      x[2 * i][l] = scratch[i][l];
      x[2 * i + 1][l] = i + 1 < half ? scratch[i + half][l] + scratch[i + half + 1][l] : scratch[i + half][l];
    }
  }
}

void Inverse(Lane* x, Lane* scratch, int log) {
  if (log == 0) return;
  const size_t n = size_t{1} << log, half = n / 2;
  const std::vector<double>& factors = TablesOnce().factors[static_cast<size_t>(log)];
  for (size_t i = 0; i < half; ++i) {
    for (size_t l = 0; l < kLanes; ++l) {
      scratch[i][l] = x[2 * i][l];
      scratch[i + half][l] = i == 0 ? x[1][l] : x[2 * i - 1][l] + x[2 * i + 1][l];
    }
  }
  Inverse(scratch, x, log - 1);
  Inverse(scratch + half, x, log - 1);
  for (size_t i = 0; i < half; ++i) {
    for (size_t l = 0; l < kLanes; ++l) {
      const double a = scratch[i][l], b = scratch[i + half][l] * factors[i];
      x[i][l] = a + b;
      x[n - 1 - i][l] = a - b;
    }
  }
}

template <bool kForward>
void RunLines(int64_t rows, int64_t columns, absl::Span<float> values) {
  std::vector<Lane> block(kMaxBlock), scratch(kMaxBlock);
  for (int64_t row = 0; row < rows; row += kLanes) {
    const size_t lanes = static_cast<size_t>(std::min<int64_t>(kLanes, rows - row));
    for (int64_t column = 0; column < columns;) {
      const size_t n = std::min(kMaxBlock, std::bit_floor(static_cast<size_t>(columns - column)));
      const int log = std::countr_zero(n);
      const double first = std::sqrt(1.0 / static_cast<double>(n)), rest = std::sqrt(2.0 / static_cast<double>(n));
      float* at = values.data() + row * columns + column;
      for (size_t i = 0; i < n; ++i) {
        const double scale = kForward ? 1 : (i == 0 ? first : rest);
        for (size_t l = 0; l < kLanes; ++l) {
          block[i][l] = l < lanes ? static_cast<double>(at[l * static_cast<size_t>(columns) + i]) * scale : 0;
        }
      }
      kForward ? Forward(block.data(), scratch.data(), log) : Inverse(block.data(), scratch.data(), log);
      for (size_t i = 0; i < n; ++i) {
        const double scale = !kForward ? 1 : (i == 0 ? first : rest);
        for (size_t l = 0; l < lanes; ++l) at[l * static_cast<size_t>(columns) + i] = static_cast<float>(block[i][l] * scale);
      }
      column += static_cast<int64_t>(n);
    }
  }
}

// basis[k * side + j] = s_k cos((2 j + 1) k pi / (2 side)), s_0 = sqrt(1 / side), s_k = sqrt(2 / side). The first angle by its series, the others by sums of angles.
std::vector<double> MakePictureBasis(size_t side) {
  const double angle = 3.14159265358979323846 / static_cast<double>(2 * side);  // at most pi / 8
  double cos_one = 1, sin_one = angle;
  double cos_term = 1, sin_term = angle;
  for (int i = 1; i <= 10; ++i) {
    cos_term *= -angle * angle / ((2 * i - 1) * (2 * i));
    sin_term *= -angle * angle / ((2 * i) * (2 * i + 1));
    cos_one += cos_term;
    sin_one += sin_term;
  }
  // A quarter turn; the rest of the circle mirrors it.
  std::vector<double> quarter(side + 1);
  double c = 1, s = 0;
  for (size_t i = 0; i < side; ++i) {
    quarter[i] = c;
    const double next = c * cos_one - s * sin_one;
    s = s * cos_one + c * sin_one;
    c = next;
  }
  quarter[side] = 0;
  const auto cosine = [&](size_t steps) {
    steps %= 4 * side;
    if (steps > 2 * side) steps = 4 * side - steps;
    return steps <= side ? quarter[steps] : -quarter[2 * side - steps];
  };
  std::vector<double> basis(side * side);
  for (size_t k = 0; k < side; ++k) {
    const double scale = std::sqrt((k == 0 ? 1.0 : 2.0) / static_cast<double>(side));
    for (size_t j = 0; j < side; ++j) basis[k * side + j] = scale * cosine((2 * j + 1) * k);
  }
  return basis;
}

template <bool kForward>
void RunPictures(size_t side, absl::Span<float> values) {
  static const auto* bases = [] {
    auto* made = new std::array<std::vector<double>, kGreatestSide + 1>;
    for (size_t n = kLeastSide; n <= kGreatestSide; ++n) {
      (*made)[n] = MakePictureBasis(n);
      if (kForward) continue;
      for (size_t row = 0; row < n; ++row) {
        for (size_t column = 0; column < row; ++column) std::swap((*made)[n][row * n + column], (*made)[n][column * n + row]);
      }
    }
    return made;
  }();
  const double* basis = (*bases)[side].data();
  const size_t area = side * side, count = values.size() / area;
  std::vector<Lane> picture(area), scratch(area);
  for (size_t first = 0; first < count; first += kLanes) {
    const size_t lanes = std::min(kLanes, count - first);
    for (size_t i = 0; i < area; ++i) {
      for (size_t l = 0; l < kLanes; ++l) picture[i][l] = l < lanes ? static_cast<double>(values[(first + l) * area + i]) : 0;
    }
    // Twice transposed lies as before.
    internal::MultiplyAndTranspose(basis, side, picture[0].data(), scratch[0].data());
    internal::MultiplyAndTranspose(basis, side, scratch[0].data(), picture[0].data());
    for (size_t i = 0; i < area; ++i) {
      for (size_t l = 0; l < lanes; ++l) values[(first + l) * area + i] = static_cast<float>(picture[i][l]);
    }
  }
}

template <bool kForward>
void Run(DctShape shape, int64_t rows, int64_t columns, absl::Span<float> values) {
  FEDWATT_CHECK(rows >= 0 && static_cast<int64_t>(values.size()) == rows * columns && IsDctShape(shape, columns));
  if (shape == kLineDct) RunLines<kForward>(rows, columns, values);
  if (shape > kLineDct) RunPictures<kForward>(shape, values);
}

double SumOfMagnitudes(absl::Span<const float> values) {
  double sum = 0;
  for (float value : values) sum += std::fabs(value);
  return sum;
}

}  // namespace

bool IsDctShape(DctShape shape, int64_t columns) {
  if (shape <= kLineDct) return columns >= 0;
  return shape >= kLeastSide && shape <= kGreatestSide && columns > 0 && columns % (int64_t{shape} * shape) == 0;
}

DctShape ChooseDct(int64_t rows, int64_t columns, absl::Span<const float> values, double least_gain) {
  constexpr int64_t kSampled = 8;  // one pass of the lanes
  FEDWATT_CHECK(rows >= 0 && columns >= 0 && static_cast<int64_t>(values.size()) == rows * columns);
  if (rows == 0 || columns < 2) return kNoDct;
  const int64_t sampled = std::min(rows, kSampled);
  std::vector<float> sample;
  sample.reserve(static_cast<size_t>(sampled * columns));
  for (int64_t i = 0; i < sampled; ++i) {
    const absl::Span<const float> row = values.subspan(static_cast<size_t>(i * rows / sampled * columns), static_cast<size_t>(columns));
    sample.insert(sample.end(), row.begin(), row.end());
  }
  DctShape best = kNoDct;
  double least = least_gain * SumOfMagnitudes(sample);
  for (DctShape shape = kLineDct; shape <= kGreatestSide; ++shape) {
    if (!IsDctShape(shape, columns)) continue;
    std::vector<float> moved = sample;
    ForwardDct(shape, sampled, columns, absl::MakeSpan(moved));
    if (const double sum = SumOfMagnitudes(moved); sum < least) {
      least = sum;
      best = shape;
    }
  }
  return best;
}

void ForwardDct(DctShape shape, int64_t rows, int64_t columns, absl::Span<float> values) { Run<true>(shape, rows, columns, values); }
void InverseDct(DctShape shape, int64_t rows, int64_t columns, absl::Span<float> values) { Run<false>(shape, rows, columns, values); }

}  // namespace fedwatt

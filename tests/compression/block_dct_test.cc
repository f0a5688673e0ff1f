#include "fedwatt/compression/block_dct.h"

#include <cmath>
#include <numbers>
#include <vector>

#include "fedwatt/base/digest.h"
#include "fedwatt/base/random.h"
#include "fedwatt/compression/pipeline.h"
#include "tests/testing/status_matchers.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::IsOk;
using ::fedwatt::testing::StatusIs;

std::vector<float> Noise(size_t size, uint64_t seed) {
  Random random(seed);
  std::vector<float> values(size);
  for (float& value : values) value = static_cast<float>(random.Normal());
  return values;
}

// The definition: X_k = s_k sum_j x_j cos(pi / n (j + 1/2) k), s_0 = sqrt(1/n), s_k = sqrt(2/n), within each power-of-two block.
std::vector<float> Direct(const std::vector<float>& row) {
  std::vector<float> out(row.size());
  for (size_t begin = 0; begin < row.size();) {
    size_t n = 512;
    while (n > row.size() - begin) n /= 2;
    for (size_t k = 0; k < n; ++k) {
      double sum = 0;
      for (size_t j = 0; j < n; ++j) {
        sum += row[begin + j] * std::cos(std::numbers::pi / static_cast<double>(n) * (static_cast<double>(j) + 0.5) * static_cast<double>(k));
      }
      out[begin + k] = static_cast<float>(sum * std::sqrt((k == 0 ? 1.0 : 2.0) / static_cast<double>(n)));
    }
    begin += n;
  }
  return out;
}

TEST(BlockDctTest, IsTheCosineTransformOfEachRow) {
  for (int64_t columns : {1, 2, 3, 7, 28, 64, 784, 1100}) {
    for (int64_t rows : {1, 5, 8, 13}) {
      const std::vector<float> values = Noise(static_cast<size_t>(rows * columns), static_cast<uint64_t>(columns));
      std::vector<float> moved = values;
      ForwardDct(kLineDct, rows, columns, absl::MakeSpan(moved));
      for (int64_t row = 0; row < rows; ++row) {
        const std::vector<float> expected = Direct({values.begin() + row * columns, values.begin() + (row + 1) * columns});
        for (int64_t i = 0; i < columns; ++i) ASSERT_NEAR(moved[static_cast<size_t>(row * columns + i)], expected[static_cast<size_t>(i)], 2e-5) << columns << " " << i;
      }
      InverseDct(kLineDct, rows, columns, absl::MakeSpan(moved));
      for (size_t i = 0; i < values.size(); ++i) ASSERT_NEAR(moved[i], values[i], 1e-5);
    }
  }
}

// The definition, along both sides of each picture.
TEST(BlockDctTest, TransformsPicturesAlongBothSides) {
  for (int64_t side : {4, 5, 7, 28, 63, 64}) {
    const int64_t pictures = 3, rows = 5, columns = pictures * side * side;
    const std::vector<float> values = Noise(static_cast<size_t>(rows * columns), static_cast<uint64_t>(side));
    std::vector<float> moved = values;
    ForwardDct(static_cast<DctShape>(side), rows, columns, absl::MakeSpan(moved));
    const auto wave = [&](int64_t k, int64_t j) {
      return std::sqrt((k == 0 ? 1.0 : 2.0) / static_cast<double>(side)) *
             std::cos(std::numbers::pi / static_cast<double>(side) * (static_cast<double>(j) + 0.5) * static_cast<double>(k));
    };
    const int64_t picture = 2 * pictures + 1;  // the second of the third row
    const auto at = [&](int64_t y, int64_t x) { return static_cast<size_t>((picture * side + y) * side + x); };
    for (const auto& [v, u] : {std::pair<int64_t, int64_t>{0, 0}, {0, side - 1}, {side - 1, 1}, {2, 3}}) {
      double sum = 0;
      for (int64_t y = 0; y < side; ++y) {
        for (int64_t x = 0; x < side; ++x) sum += values[at(y, x)] * wave(v, y) * wave(u, x);
      }
      EXPECT_NEAR(moved[at(v, u)], sum, 2e-5) << side << ": " << v << " " << u;
    }
    InverseDct(static_cast<DctShape>(side), rows, columns, absl::MakeSpan(moved));
    for (size_t i = 0; i < values.size(); ++i) ASSERT_NEAR(moved[i], values[i], 1e-5);
  }
}

TEST(BlockDctTest, KnowsWhichShapesFit) {
  EXPECT_TRUE(IsDctShape(kNoDct, 0) && IsDctShape(kLineDct, 7) && IsDctShape(28, 784) && IsDctShape(7, 784) && IsDctShape(7, 3136) && IsDctShape(5, 25) && IsDctShape(64, 4096));
  EXPECT_FALSE(IsDctShape(2, 784) || IsDctShape(3, 9) || IsDctShape(8, 784) || IsDctShape(28, 0) || IsDctShape(65, 65 * 65) || IsDctShape(255, 255 * 255));
}

// Waves along both sides of a picture are pictures, one long wave is a line, noise is neither.
TEST(BlockDctTest, ChoosesTheShapeThatSuits) {
  const int64_t rows = 100;
  std::vector<float> picture(100 * 784), line(100 * 512);
  const std::vector<float> noise = Noise(picture.size(), 1);
  for (size_t i = 0; i < picture.size(); ++i) {
    picture[i] = std::sin(static_cast<float>(i % 28) / 5) * std::cos(static_cast<float>(i % 784 / 28) / 6 + noise[i / 784]);
  }
  for (size_t i = 0; i < line.size(); ++i) line[i] = std::sin(static_cast<float>(i % 512) / 50 + noise[i / 512]);
  EXPECT_EQ(ChooseDct(rows, 784, picture, 0.9), 28);
  EXPECT_EQ(ChooseDct(rows, 512, line, 0.9), kLineDct);
  EXPECT_EQ(ChooseDct(rows, 784, noise, 0.9), kNoDct);
  EXPECT_EQ(ChooseDct(rows, 1, absl::MakeConstSpan(picture).first(100), 0.9), kNoDct);
  EXPECT_EQ(ChooseDct(0, 784, {}, 0.9), kNoDct);
}

// Both ends of a chain must come to the same bits on whatever machine.
TEST(BlockDctTest, BitsArePinned) {
  const auto digests = [](DctShape shape) {
    Random random(1);
    std::vector<float> values(20 * 784);
    for (float& value : values) value = static_cast<float>(random.Uniform()) - 0.5f;  // no library function of its own
    const auto digest = [&] { return Sha256({reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)}).Hex().substr(0, 16); };
    ForwardDct(shape, 20, 784, absl::MakeSpan(values));
    const std::string forward = digest();
    InverseDct(shape, 20, 784, absl::MakeSpan(values));
    return forward + " " + digest();
  };
  EXPECT_EQ(digests(kLineDct), "a9b16e58018ff97d 483b0ad2c96129b8");
  EXPECT_EQ(digests(28), "735cdba1a7c40272 73f05a5487441d10");
}

TEST(DctStageTest, TransformsWhatGainsAndLeavesTheRest) {
  const ParameterLayout layout = *ParameterLayout::Create({{"smooth", {30, 60}}, {"rough", {30, 60}}, {"bias", {30}}});
  std::vector<float> values(static_cast<size_t>(layout.value_count()));
  const std::vector<float> noise = Noise(values.size(), 4);
  for (size_t i = 0; i < values.size(); ++i) values[i] = i < 1800 ? noise[i / 60] + 0.3f * std::sin(static_cast<float>(i % 60) / 9) : noise[i];
  ASSERT_OK_AND_ASSIGN(Pipeline pipeline, Pipeline::Create("dct,float32"));
  ASSERT_OK_AND_ASSIGN(std::string bytes, pipeline.Encode(layout, values, 1, 1));
  EXPECT_EQ(bytes.substr(0, 4), std::string("\3\1\0\0", 4)) << "length of the side information; the first of three segments, as lines";
  std::vector<float> decoded(values.size());
  ASSERT_THAT(pipeline.DecodeDense(bytes, layout, 1, 1, absl::MakeSpan(decoded)), IsOk());
  for (size_t i = 0; i < values.size(); ++i) ASSERT_NEAR(decoded[i], values[i], 1e-5);

  // What it is for: fewer bits at the same step.
  ASSERT_OK_AND_ASSIGN(std::string plain, Pipeline::Create("ecsq:step=0.5")->Encode(layout, values, 1, 1));
  ASSERT_OK_AND_ASSIGN(std::string moved, Pipeline::Create("dct,ecsq:step=0.5")->Encode(layout, values, 1, 1));
  EXPECT_LT(moved.size(), plain.size() * 8 / 10);

  std::string hostile = bytes;
  hostile[1] = 7;  // no pictures of 7 x 7 in rows of 60
  EXPECT_THAT(pipeline.DecodeDense(hostile, layout, 1, 1, absl::MakeSpan(decoded)), StatusIs(absl::StatusCode::kDataLoss, ::testing::HasSubstr("no shape 7")));
  hostile = bytes;
  hostile[0] = 2;
  EXPECT_THAT(pipeline.DecodeDense(hostile, layout, 1, 1, absl::MakeSpan(decoded)), StatusIs(absl::StatusCode::kDataLoss, ::testing::_));
  EXPECT_THAT(pipeline.DecodeDense("", layout, 1, 1, absl::MakeSpan(decoded)), StatusIs(absl::StatusCode::kDataLoss, ::testing::_));
}

}  // namespace
}  // namespace fedwatt

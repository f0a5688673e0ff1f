// Each point of a round's way to disk at which the coordinator may die, with each kind of what is lost then, once and again while it recovers: 168 cells. The models that come out are
// those of a run that nobody disturbed, to the bit, and every acknowledged update is in one of them, once. tests/server/crash_matrix_test.cc does it to real processes.
#include "gmock/gmock.h"
#include "tests/fault/crash_points.h"

namespace fedwatt::testing {
namespace {

class CrashPointsTest : public ::testing::TestWithParam<CrashPoint> {};

TEST_P(CrashPointsTest, NothingIsLostOrDoubled) {
  for (const Loss loss : kLosses) {
    for (const bool nested : {false, true}) {
      const CrashCell cell{GetParam(), loss, nested};
      const CrashCellResult result = RunCrashCell(cell, /*first_seed=*/1, /*seeds=*/20);
      EXPECT_THAT(result.failures, ::testing::IsEmpty()) << cell.Name();
      // The point was reached, and so was the second one.
      EXPECT_EQ(result.crashed, 20) << cell.Name();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Points, CrashPointsTest, ::testing::ValuesIn(CrashPoints()), [](const auto& info) { return info.param.name; });

TEST(CrashPointListTest, AreAllWithoutMasksAndNoise) { EXPECT_EQ(CrashPoints().size() * std::size(kLosses) * 2, 168u); }

}  // namespace
}  // namespace fedwatt::testing

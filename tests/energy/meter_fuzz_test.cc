#include "tests/energy/meter_fuzz.h"

#include "gtest/gtest.h"
#include "tests/energy/fake_root.h"

namespace fedwatt::testing {
namespace {

// bench/energy/meter_fuzz runs a hundred times as many.
TEST(MeterFuzzTest, NeverInventsJoulesAndItsIntervalsHold) {
  FakeRoot root;
  const FuzzResult result = FuzzRapl(root.path(), 1, 100000);
  EXPECT_EQ(result.windows, 100000);
  EXPECT_GT(result.faulted, 1000);
  EXPECT_GT(result.wrapped, 10);
  EXPECT_EQ(result.missing_healthy, 0);
  EXPECT_EQ(result.negative, 0);
  EXPECT_EQ(result.phantom, 0) << result.phantom_joules << " J";
  EXPECT_EQ(result.outside_healthy, 0);
  EXPECT_LE(result.outside * 1000, result.stated);
}

}  // namespace
}  // namespace fedwatt::testing

#include "tests/energy/meter_fuzz.h"

#include <stdlib.h>

#include <filesystem>
#include <string>

#include "gtest/gtest.h"

namespace fedwatt::testing {
namespace {

// bench/energy/meter_fuzz runs a hundred times as many.
TEST(MeterFuzzTest, NeverInventsJoulesAndItsIntervalsHold) {
  // Half a million files are written: in memory where that is possible.
  std::string folder = (std::filesystem::is_directory("/dev/shm") ? std::string("/dev/shm") : ::testing::TempDir()) + "/fedwatt_fuzz_XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const FuzzResult result = FuzzRapl(folder, 1, 100000);
  std::filesystem::remove_all(folder);
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

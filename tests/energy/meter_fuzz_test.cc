#include "tests/energy/meter_fuzz.h"

#include <stdlib.h>

#include <filesystem>
#include <string>

#include "gtest/gtest.h"

namespace fedwatt::testing {
namespace {

class MeterFuzzTest : public ::testing::TestWithParam<std::string> {};

// 10^5 windows in all; bench/energy/meter_fuzz runs a hundred times as many.
TEST_P(MeterFuzzTest, NeverInventsJoulesAndItsIntervalsHold) {
  const int64_t windows = GetParam() == "rapl" ? 70000 : 10000;
  // Half a million files are written: in memory where that is possible.
  std::string folder = (std::filesystem::is_directory("/dev/shm") ? std::string("/dev/shm") : ::testing::TempDir()) + "/fedwatt_fuzz_XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const FuzzResult result = FuzzCounters(GetParam(), folder, 1, windows);
  std::filesystem::remove_all(folder);
  EXPECT_EQ(result.windows, windows);
  EXPECT_GT(result.faulted, windows / 50);
  EXPECT_GT(result.stated, windows / 10 * 9);
  if (GetParam() == "rapl") {
    EXPECT_GT(result.wrapped, 10);
  }
  // A GPU's counter is too slow to be waited for at every edge, and one that has stood still at the start says nothing until it goes on.
  EXPECT_LE(result.missing_healthy, GetParam() == "nvml" ? windows / 1000 : 0);
  EXPECT_EQ(result.negative, 0);
  EXPECT_EQ(result.phantom, 0) << result.phantom_joules << " J";
  EXPECT_EQ(result.outside_healthy, 0);
  EXPECT_LE(result.outside * 1000, result.stated);
}
INSTANTIATE_TEST_SUITE_P(All, MeterFuzzTest, ::testing::ValuesIn(FuzzedMeters()), [](const auto& info) { return info.param; });

}  // namespace
}  // namespace fedwatt::testing

// GPUs, through a library that the tests build (fake_nvml.cc).
#include <cstdlib>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "tests/energy/meter_fixture.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::MeterFixture;
using ::fedwatt::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

class NvmlTest : public MeterFixture {
 protected:
  NvmlTest() : MeterFixture("nvml") {
    std::filesystem::create_directories(root_.At("usr/lib64"));
    std::filesystem::create_symlink(FEDWATT_FAKE_NVML_LIBRARY, root_.At("usr/lib64/libnvidia-ml.so.1"));
    ::setenv("FEDWATT_FAKE_NVML", root_.At("gpus").c_str(), 1);
  }
  ~NvmlTest() override { ::unsetenv("FEDWATT_FAKE_NVML"); }
  void Gpu(int index, const std::map<std::string, int64_t>& files) {
    root_.Write(absl::StrCat("gpus/", index, "/name"), "gpu\n");
    for (const auto& [file, number] : files) root_.Write(absl::StrCat("gpus/", index, "/", file), absl::StrCat(number, "\n"));
  }
};

TEST_F(NvmlTest, CountsTheBoardsSinceTheirDriverWasLoaded) {
  Gpu(0, {{"energy", 900'000'000}, {"limit", 300'000}});
  Gpu(1, {{"energy", 500}, {"limit", 300'000}});
  auto meter = Started();
  EXPECT_EQ(meter->SamplePeriod(), absl::Milliseconds(100));
  Gpu(0, {{"energy", 900'150'000}});
  Gpu(1, {{"energy", 30'500}});
  clock_.Advance(absl::Milliseconds(900));
  meter->Sample();
  Gpu(0, {{"energy", 900'200'000}});
  Gpu(1, {{"energy", 40'500}});
  EnergyReading reading = ReadAfter(*meter, absl::Milliseconds(100));
  EXPECT_EQ(reading.energy, Joules(240));
  EXPECT_EQ(reading.low, Energy());  // nothing is known of how old the first numbers were
  EXPECT_EQ(reading.high, Joules(240 + 2 * 120));  // 600 W over 0.1 s between two looks and 0.1 s of refresh, each
  EXPECT_EQ(reading.domain, "gpu-0+gpu-1");
  EXPECT_EQ(reading.tier, EnergyTier::kComponent);
  Gpu(0, {{"energy", 901'200'000}});
  Gpu(1, {{"energy", 240'500}});
  reading = ReadAfter(*meter, absl::Seconds(4));
  EXPECT_EQ(reading.energy, Joules(1200));
  EXPECT_EQ(reading.low, Joules(1000 - 120 + 200 - 120));
}

TEST_F(NvmlTest, CallsAWindowWithoutANewNumberNothingKnownRatherThanZero) {
  Gpu(0, {{"energy", 500}});
  auto meter = Started();
  EXPECT_TRUE(ReadAfter(*meter, absl::Milliseconds(50)).missing());  // no number has changed yet
  Gpu(0, {{"energy", 10'500}});
  EXPECT_EQ(ReadAfter(*meter, absl::Milliseconds(50)).energy, Joules(10));
  const EnergyReading still = ReadAfter(*meter, absl::Milliseconds(50));
  EXPECT_EQ(still.low, Energy());
  EXPECT_GT(*still.high, Joules(100));
  EXPECT_TRUE(ReadAfter(*meter, absl::Seconds(3)).missing());  // frozen
}

// How busy the CPU was with this process says nothing of a GPU's joules.
TEST_F(NvmlTest, IsNotSharedOutByCpuTime) {
  Gpu(0, {{"energy", 500}});
  EXPECT_FALSE(Started()->CoversMachine());
  Gpu(1, {{"power", 500}});
  options_.source = "1";
  EXPECT_FALSE(Started()->CoversMachine());
}

TEST_F(NvmlTest, TakesAReloadedDriverForAReset) {
  Gpu(0, {{"energy", 900'000'000}});
  auto meter = Started();
  Gpu(0, {{"energy", 100}});
  EXPECT_TRUE(ReadAfter(*meter).missing());
  Gpu(0, {{"energy", 200'100}});
  EXPECT_EQ(ReadAfter(*meter).energy, Joules(200));
}

// A GPU's counter is too slow to be waited for at every edge, but once, at the start: a first window is not lost because it is short.
TEST_F(NvmlTest, WaitsAtTheStartUntilTheNumberHasChanged) {
  Gpu(0, {{"energy", 500}, {"limit", 300'000}});
  int64_t waited = 0;
  options_.pause = [&](absl::Duration span) {
    EXPECT_EQ(span, absl::Milliseconds(50));
    clock_.Advance(span);
    if (++waited == 2) Gpu(0, {{"energy", 10'500}});
  };
  auto meter = Started();
  EXPECT_EQ(waited, 2);
  const EnergyReading reading = ReadAfter(*meter, absl::Milliseconds(10));
  EXPECT_EQ(reading.window, absl::Milliseconds(10));
  EXPECT_EQ(reading.low, Energy());
  EXPECT_EQ(reading.high, Joules(600 * 0.16));  // the number is up to 50 ms old when it is first seen, and a refresh
  EXPECT_EQ(waited, 2);
}

// Once one number said too little, with success: what the next one has more was spent long ago.
TEST_F(NvmlTest, DoesNotCountTheWayBackFromAWrongNumber) {
  Gpu(0, {{"energy", 100'000}, {"limit", 300'000}});
  auto meter = Started();
  Gpu(0, {{"energy", 100'200}});
  EXPECT_EQ(ReadAfter(*meter).energy, Microjoules(200'000));
  Gpu(0, {{"energy", 12}});
  EXPECT_TRUE(ReadAfter(*meter).missing());
  Gpu(0, {{"energy", 100'600}});
  EXPECT_TRUE(ReadAfter(*meter, absl::Minutes(10)).missing());
  Gpu(0, {{"energy", 100'800}});
  EXPECT_EQ(ReadAfter(*meter).energy, Microjoules(200'000));
}

// A call that fails between two numbers costs its windows, and not the knowledge of how old a number is.
TEST_F(NvmlTest, KnowsHowOldANumberIsAfterAFailedCall) {
  Gpu(0, {{"energy", 500}, {"limit", 300'000}});
  auto meter = Started();
  Gpu(0, {{"energy", 10'500}});
  ReadAfter(*meter);
  Gpu(0, {{"energy", -15}});
  EXPECT_TRUE(ReadAfter(*meter).missing());
  Gpu(0, {{"energy", 30'500}});
  EXPECT_TRUE(ReadAfter(*meter).missing());
  const EnergyReading reading = ReadAfter(*meter, absl::Milliseconds(5));  // the number is the same, which is no reason to know nothing
  EXPECT_EQ(reading.energy, Energy());
  EXPECT_EQ(reading.high, Joules(600 * (2 + 0.005 + 0.1)));
}

TEST_F(NvmlTest, MissesAFailedCallAndNeverRepeatsTheLastNumber) {
  Gpu(0, {{"energy", 500}});
  auto meter = Started();
  Gpu(0, {{"energy", -15}});  // the GPU fell off the bus
  EXPECT_TRUE(ReadAfter(*meter).missing());
  Gpu(0, {{"energy", 9'000}});
  EXPECT_TRUE(ReadAfter(*meter).missing());
}

TEST_F(NvmlTest, SamplesThePowerOfOlderBoards) {
  Gpu(0, {{"power", 50'000}});
  auto meter = Started();
  const EnergyReading reading = ReadAfter(*meter, absl::Seconds(2));
  EXPECT_EQ(reading.energy, Joules(100));
  EXPECT_EQ(reading.low, Joules(90));
  EXPECT_EQ(reading.high, Joules(110));
  Gpu(1, {{"energy", 500}});
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("; remedy: name the numbers")));
  options_.source = "1";
  EXPECT_EQ(Started()->Describe().substr(0, 23), "nvml: counters of gpu-1");
  EXPECT_EQ(found_["gpu-0"], "not named in energy.source");
  options_.source = "2";
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kNotFound, AllOf(HasSubstr("no GPU '2'"), HasSubstr("there are 2"))));
}

TEST_F(NvmlTest, LeavesOutABoardThatIsSplitIntoInstances) {
  Gpu(0, {{"energy", 500}, {"mig", 1}});
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("MIG")));
  Gpu(1, {{"energy", 500}, {"mig", 0}});
  auto meter = Started();
  Gpu(1, {{"energy", 2'500}});
  EXPECT_EQ(ReadAfter(*meter).domain, "gpu-1");
}

TEST_F(NvmlTest, RefusesWithoutADriverOrWithOneThatFails) {
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("knows no GPU")));
  Gpu(0, {});
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("tells neither energy nor power")));
  root_.Write("gpus/init", "-9\n");
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("nvmlInit_v2: Fake Error")));
  const testing::FakeRoot other;
  options_.root = other.path();
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("no NVIDIA driver")));
  other.Write("usr/lib64/libnvidia-ml.so.1", "not a library");
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("no NVIDIA driver")));
}

}  // namespace
}  // namespace fedwatt

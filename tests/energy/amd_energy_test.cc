// The counters of AMD's hardware monitor, on folders that the test builds.
#include <sys/stat.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "tests/energy/meter_fixture.h"

namespace fedwatt {
namespace {

using ::fedwatt::testing::MeterFixture;
using ::fedwatt::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

class AmdEnergyTest : public MeterFixture {
 protected:
  AmdEnergyTest() : MeterFixture("amd_energy") { root_.Write(chip_ + "/name", "amd_energy\n"); }
  void Counter(int index, const std::string& label, int64_t microjoules) {
    root_.Write(absl::StrCat(chip_, "/energy", index, "_label"), label + "\n");
    Count(index, microjoules);
  }
  void Count(int index, int64_t microjoules) {
    shown_[index] = microjoules;
    root_.Write(absl::StrCat(chip_, "/energy", index, "_input"), absl::StrCat(microjoules, "\n"));
  }
  void Wait() override {
    for (const auto& [index, microjoules] : std::map<int, int64_t>(shown_)) Count(index, microjoules + 1);
  }

  std::string chip_ = "sys/class/hwmon/hwmon4";
  std::map<int, int64_t> shown_;
};

TEST_F(AmdEnergyTest, AddsSocketsAndNotTheCoresInThem) {
  Counter(1, "Ecore000", 500);
  Counter(2, "Ecore001", 700);
  Counter(3, "Esocket0", 1000000);
  Counter(4, "Esocket1", 2000000);
  auto meter = Started();
  EXPECT_THAT(found_, ElementsAre(Pair("2 cores", "lie inside their socket"), Pair("package-0", ""), Pair("package-1", "")));
  Count(1, 90000500);
  Count(3, 11000000);
  Count(4, 22000000);
  const EnergyReading reading = ReadAfter(*meter);
  EXPECT_EQ(reading.energy, Joules(30));
  EXPECT_EQ(reading.low, Joules(28));  // 1000 W over a refresh of 1 ms, each
  EXPECT_EQ(reading.high, Joules(32));
  EXPECT_EQ(reading.tier, EnergyTier::kComponent);
  EXPECT_EQ(reading.domain, "package-0+package-1");
  EXPECT_THAT(meter->Describe(), HasSubstr("2 cores (lie inside their socket)"));
}

TEST_F(AmdEnergyTest, TakesAStepBackForAReset) {
  Counter(1, "Esocket0", 90000000);
  auto meter = Started();
  Count(1, 50);
  EXPECT_TRUE(ReadAfter(*meter).missing());
  Count(1, 4000050);
  EXPECT_EQ(ReadAfter(*meter).energy, Joules(4));
}

TEST_F(AmdEnergyTest, RefusesWhatIsNoSocket) {
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("no socket")));
  Counter(1, "Ecore000", 500);
  Counter(2, "Emystery", 500);
  root_.Write("sys/class/hwmon/hwmon5/name", "k10temp\n");
  root_.Write("sys/class/hwmon/hwmon5/energy1_label", "Esocket0\n");
  root_.Write("sys/class/hwmon/hwmon5/energy1_input", "5\n");
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnimplemented, HasSubstr("no socket")));
  EXPECT_EQ(found_["Emystery"], "no name this version knows");
}

TEST_F(AmdEnergyTest, NeverStatesOneSocketForTwo) {
  Counter(1, "Esocket0", 500);
  Counter(2, "Esocket1", 500);
  root_.Write(chip_ + "/energy2_input", "many\n");
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("energy2_input")));
  Count(2, 500);
  auto meter = Started();
  root_.Write(chip_ + "/energy2_input", "");
  EXPECT_TRUE(ReadAfter(*meter).missing());
}

TEST_F(AmdEnergyTest, NamesAPermissionProblemAndItsRemedy) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may read everything";
  Counter(1, "Esocket0", 500);
  ASSERT_EQ(::chmod(root_.At(chip_ + "/energy1_input").c_str(), 0), 0);
  EXPECT_THAT(Create(), StatusIs(absl::StatusCode::kPermissionDenied, AllOf(HasSubstr("CVE-2020-12912"), HasSubstr("; remedy: sudo chmod a+r"))));
}

}  // namespace
}  // namespace fedwatt
